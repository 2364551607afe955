/* SPDX-License-Identifier: MIT */
/* Layouts hold every token exactly once, in ascending order, in balance, for any length and any number of ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/layout.h"

static void check_runs(const ringx_layout *l, int rank, int n, const ringx_run *runs)
{
    if (n < 0 || n > RINGX_MAX_RUNS)
        fail_msg("%s, %lld tokens: rank %d of %d has %d runs", ringx__layout_name(l->id), (long long)l->tokens, rank,
                 l->ranks, n);
    int64_t last = -1, count = 0;
    for (int i = 0; i < n; i++) {
        assert_true(runs[i].count > 0);
        assert_true(runs[i].step >= 1);
        assert_true(runs[i].first > last);
        last = runs[i].first + (runs[i].count - 1) * runs[i].step;
        assert_true(last < l->tokens);
        count += runs[i].count;
    }
    assert_int_equal(count, ringx__layout_count(l, rank));
}

/* Parts of the sequence that a rank holds; each is the rounded share, so counts differ by at most one a part. */
static int parts_of(ringx_layout_id id)
{
    return id == RINGX_ZIGZAG ? 2 : 1;
}

static void check_layout(ringx_layout_id id, int64_t tokens, int ranks, unsigned char *held)
{
    ringx_layout l = {.id = id, .ranks = ranks, .tokens = tokens};
    int64_t least = INT64_MAX, most = 0;
    memset(held, 0, (size_t)tokens + 1);
    for (int r = 0; r < ranks; r++) {
        ringx_run runs[RINGX_MAX_RUNS];
        int n = ringx__layout_runs(&l, r, runs);
        check_runs(&l, r, n, runs);
        for (int i = 0; i < n; i++)
            for (int64_t t = 0; t < runs[i].count; t++)
                held[runs[i].first + t * runs[i].step]++;
        int64_t count = ringx__layout_count(&l, r);
        least = count < least ? count : least;
        most = count > most ? count : most;
    }
    for (int64_t t = 0; t < tokens; t++)
        if (held[t] != 1)
            fail_msg("%s, %lld tokens, %d ranks: token %lld is held %d times", ringx__layout_name(id),
                     (long long)tokens, ranks, (long long)t, held[t]);
    if (most - least > parts_of(id))
        fail_msg("%s, %lld tokens, %d ranks: counts from %lld to %lld", ringx__layout_name(id), (long long)tokens,
                 ranks, (long long)least, (long long)most);
}

static void every_token_is_held_once(void **state)
{
    (void)state;
    static const int64_t odd[] = {698, 2999, 4050, 4099};
    static unsigned char held[64801];
    for (ringx_layout_id id = 0; id < RINGX_LAYOUT_KINDS; id++) {
        for (int ranks = 1; ranks <= 20; ranks++)
            for (int64_t tokens = 0; tokens <= 90; tokens++)
                check_layout(id, tokens, ranks, held);
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
            for (int ranks = 1; ranks <= 97; ranks += 8)
                check_layout(id, odd[i], ranks, held);
        check_layout(id, 64800, 64, held);
        check_layout(id, 64800, 4096, held);
    }
}

/* The definition in layout.h, without its splitting of quotient and remainder. */
static int64_t part(int64_t tokens, int64_t c, int64_t n)
{
    return (int64_t)((__int128)c * tokens / n);
}

static void runs_are_as_defined(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 13; ranks++)
        for (int64_t tokens = 0; tokens <= 60; tokens++)
            for (int r = 0; r < ranks; r++) {
                ringx_run runs[RINGX_MAX_RUNS];
                ringx_layout l = {.id = RINGX_CONTIGUOUS, .ranks = ranks, .tokens = tokens};
                int n = ringx__layout_runs(&l, r, runs);
                int64_t a = part(tokens, r, ranks), b = part(tokens, r + 1, ranks);
                assert_int_equal(n, b > a);
                if (n) {
                    assert_int_equal(runs[0].first, a);
                    assert_int_equal(runs[0].count, b - a);
                    assert_int_equal(runs[0].step, 1);
                }
                l.id = RINGX_ZIGZAG;
                n = ringx__layout_runs(&l, r, runs);
                a = part(tokens, r, 2 * ranks), b = part(tokens, r + 1, 2 * ranks);
                int64_t c = part(tokens, 2 * ranks - 1 - r, 2 * ranks), d = part(tokens, 2 * ranks - r, 2 * ranks);
                int64_t i = 0;
                for (int k = 0; k < n; k++)
                    for (int64_t t = 0; t < runs[k].count; t++, i++)
                        assert_int_equal(runs[k].first + t * runs[k].step, i < b - a ? a + i : c + i - (b - a));
                assert_int_equal(i, b - a + d - c);
                l.id = RINGX_STRIPED;
                n = ringx__layout_runs(&l, r, runs);
                assert_int_equal(n, r < tokens);
                if (n) {
                    assert_int_equal(runs[0].first, r);
                    assert_int_equal(runs[0].step, ranks);
                }
            }
}

/* No product of positions and ranks fits a check token by token: sums, ends and neighbours tell. */
static void lengths_beyond_32_bits(void **state)
{
    (void)state;
    static const int ranks[] = {1, 3, 1000, 4096, 65537};
    static const int64_t lengths[] = {(INT64_C(1) << 32), (INT64_C(1) << 32) - 1, (INT64_C(1) << 40) + 12345,
                                      INT64_MAX / 3};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t j = 0; j < sizeof ranks / sizeof *ranks; j++)
            for (ringx_layout_id id = 0; id < RINGX_LAYOUT_KINDS; id++) {
                ringx_layout l = {.id = id, .ranks = ranks[j], .tokens = lengths[i]};
                int64_t sum = 0, low = 0, high = l.tokens; /* zigzag closes in from both ends */
                for (int r = 0; r < l.ranks; r++) {
                    ringx_run runs[RINGX_MAX_RUNS];
                    int n = ringx__layout_runs(&l, r, runs);
                    check_runs(&l, r, n, runs);
                    sum += ringx__layout_count(&l, r);
                    if (id == RINGX_STRIPED)
                        continue;
                    assert_int_equal(runs[0].first, low);
                    low += runs[0].count;
                    if (n == 2) {
                        high -= runs[1].count;
                        assert_int_equal(runs[1].first, high);
                    }
                }
                assert_int_equal(sum, l.tokens);
                if (id != RINGX_STRIPED)
                    assert_int_equal(low, high);
            }
}

static void names_are_found(void **state)
{
    (void)state;
    for (ringx_layout_id id = 0; id < RINGX_LAYOUT_KINDS; id++) {
        ringx_layout_id found = RINGX_LAYOUT_KINDS;
        assert_int_equal(ringx__layout_find(ringx__layout_name(id), &found), RINGX_OK);
        assert_int_equal(found, id);
        assert_true(strlen(ringx__layout_text(id)) > 10);
    }
    ringx_layout_id untouched = RINGX_ZIGZAG;
    assert_int_equal(ringx__layout_find("zickzack", &untouched), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "'zickzack'"));
    assert_non_null(strstr(ringx_last_error(), "'zigzag'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_token_is_held_once),
                                       cmocka_unit_test(runs_are_as_defined), cmocka_unit_test(lengths_beyond_32_bits),
                                       cmocka_unit_test(names_are_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
