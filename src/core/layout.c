/* SPDX-License-Identifier: MIT */
/* Layouts: which global positions a rank holds. */
#include "core/layout.h"

#include "core/names.h"

static const struct {
    const char *name, *text;
} kinds[RINGX_LAYOUT_KINDS] = {
    [RINGX_CONTIGUOUS] = {"contiguous", "rank r holds the r-th of N equal parts"},
    [RINGX_ZIGZAG] = {"zigzag", "rank r holds parts r and 2N-1-r of 2N: balanced under a causal mask"},
    [RINGX_STRIPED] = {"striped", "rank r holds every N-th token from r: balanced under any mask"},
};

const char *ringx__layout_name(ringx_layout_id id)
{
    return kinds[id].name;
}

const char *ringx__layout_text(ringx_layout_id id)
{
    return kinds[id].text;
}

static const char *name_at(size_t i)
{
    return i < RINGX_LAYOUT_KINDS ? kinds[i].name : NULL;
}

ringx_status ringx__layout_find(const char *name, ringx_layout_id *id)
{
    size_t i;
    ringx_status status = ringx__name_find("layout", name, name_at, &i);
    if (status == RINGX_OK)
        *id = (ringx_layout_id)i;
    return status;
}

/* Start of part c of n; exact because the quotient and remainder are split (no product can overflow). */
static int64_t part_start(int64_t tokens, int64_t c, int64_t n)
{
    return c * (tokens / n) + c * (tokens % n) / n;
}

static int add_run(ringx_run *runs, int n, int64_t first, int64_t count, int64_t step)
{
    if (count <= 0)
        return n;
    runs[n] = (ringx_run){.count = count, .first = first, .step = step};
    return n + 1;
}

int ringx__layout_runs(const ringx_layout *layout, int rank, ringx_run runs[RINGX_MAX_RUNS])
{
    int64_t s = layout->tokens, n = layout->ranks, r = rank;
    switch (layout->id) {
    case RINGX_ZIGZAG: {
        int64_t a = part_start(s, r, 2 * n), b = part_start(s, r + 1, 2 * n);
        int64_t c = part_start(s, 2 * n - 1 - r, 2 * n), d = part_start(s, 2 * n - r, 2 * n);
        if (b == c) /* the two middle parts are neighbours */
            return add_run(runs, 0, a, d - a, 1);
        return add_run(runs, add_run(runs, 0, a, b - a, 1), c, d - c, 1);
    }
    case RINGX_STRIPED:
        return add_run(runs, 0, r, r < s ? (s - r - 1) / n + 1 : 0, n);
    default: {
        int64_t a = part_start(s, r, n), b = part_start(s, r + 1, n);
        return add_run(runs, 0, a, b - a, 1);
    }
    }
}

int64_t ringx__layout_count(const ringx_layout *layout, int rank)
{
    ringx_run runs[RINGX_MAX_RUNS];
    int n = ringx__layout_runs(layout, rank, runs);
    int64_t count = 0;
    for (int i = 0; i < n; i++)
        count += runs[i].count;
    return count;
}
