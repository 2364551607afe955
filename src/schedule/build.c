/* SPDX-License-Identifier: MIT */
/* Building a schedule: pools, groups, block sizes, and the loop over slices. */
#include <stdlib.h>
#include <string.h>

#include "schedule/emit.h"
#include "schedule/pools.h"

#define PAD 128

/* ---- block layouts ---- */

static size_t padded(size_t bytes)
{
    return (bytes + PAD - 1) / PAD * PAD;
}

/* Bytes of each part of a block; returns how many. */
static int part_bytes(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads, size_t part[4])
{
    size_t rows = (size_t)shape->batch * (size_t)tokens * (size_t)heads, e = ringx__dtype_bytes(shape->dtype);
    size_t d = (size_t)shape->head_dim, dv = (size_t)shape->value_dim, f = sizeof(float);
    switch (kind) {
    case RINGX_Q:
        return part[0] = rows * d * e, 1;
    case RINGX_KV:
        return part[0] = rows * d * e, part[1] = rows * dv * e, 2;
    case RINGX_QDO:
        return part[0] = rows * d * e, part[1] = rows * dv * e, part[2] = part[3] = rows * f, 4;
    case RINGX_STATE:
        return part[0] = rows * dv * f, part[1] = part[2] = rows * f, 3;
    case RINGX_OUT:
        return part[0] = rows * dv * e, part[1] = rows * f, 2;
    case RINGX_DQ:
        return part[0] = rows * d * f, 1;
    case RINGX_DKV:
        return part[0] = rows * d * f, part[1] = rows * dv * f, 2;
    default: /* TOP, DELTA */
        return part[0] = rows * f, 1;
    }
}

int ringx__block_parts(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads, size_t offsets[4])
{
    size_t part[4], at = 0;
    int n = part_bytes(shape, kind, tokens, heads, part);
    for (int i = 0; i < n; i++) {
        offsets[i] = at;
        at += padded(part[i]);
    }
    return n;
}

size_t ringx__block_bytes(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads)
{
    size_t part[4], bytes = 0;
    int n = part_bytes(shape, kind, tokens, heads, part);
    for (int i = 0; i < n; i++)
        bytes += padded(part[i]);
    return bytes;
}

size_t ringx__block_elements(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads)
{
    size_t at[4];
    if (kind != RINGX_STATE)
        return ringx__block_bytes(shape, kind, tokens, heads) / sizeof(float);
    ringx__block_parts(shape, kind, tokens, heads, at);
    return at[2] / sizeof(float);
}

size_t ringx__narrow_bytes(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads)
{
    return padded(2 * ringx__block_elements(shape, kind, tokens, heads));
}

/* ---- pools ---- */

#define MAX_POOLS 16
#define MAX_SLOTS 64

struct ringx_pools {
    struct {
        const char *name;
        int slots; /* made so far */
        int next;  /* in turn */
        int32_t buffer[MAX_SLOTS];
    } pool[MAX_POOLS];
    int count;
};

static ringx_status new_buffer(ringx_schedule *s, const char *pool, int32_t *buffer)
{
    if (s->n_buffers == s->buffers_cap) {
        size_t cap = s->buffers_cap ? s->buffers_cap * 2 : 16;
        ringx_buffer *bigger = realloc(s->buffers, cap * sizeof *bigger);
        if (!bigger)
            RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu buffers of a schedule", cap);
        s->buffers = bigger;
        s->buffers_cap = cap;
    }
    s->buffers[s->n_buffers] = (ringx_buffer){.pool = pool};
    *buffer = (int32_t)s->n_buffers++;
    return RINGX_OK;
}

ringx_status ringx__pools_next(ringx_schedule *s, const char *pool, int slots, int32_t *buffer)
{
    int p = 0;
    while (p < s->pools->count && strcmp(s->pools->pool[p].name, pool) != 0)
        p++;
    if (p == MAX_POOLS || slots > MAX_SLOTS)
        RINGX_FAIL(RINGX_UNSUPPORTED, "pool '%s' would need %d slots, at most %d are possible; use a smaller lookahead",
                   pool, slots, MAX_SLOTS);
    if (p == s->pools->count) {
        s->pools->pool[p].name = pool;
        s->pools->count++;
    }
    int turn = s->pools->pool[p].next;
    s->pools->pool[p].next = (turn + 1) % slots;
    if (turn >= s->pools->pool[p].slots) {
        RINGX_TRY(new_buffer(s, pool, &s->pools->pool[p].buffer[turn]));
        s->pools->pool[p].slots = turn + 1;
    }
    *buffer = s->pools->pool[p].buffer[turn];
    return RINGX_OK;
}

void ringx__pools_free(ringx_schedule *s)
{
    free(s->pools);
    free(s->pending);
    s->pools = NULL;
    s->pending = NULL;
}

/* ---- groups ---- */

static ringx_status add_group(ringx_schedule *s, int32_t colour, int32_t first, int32_t step, int32_t count)
{
    int32_t *ranks = malloc((size_t)count * sizeof *ranks);
    if (!ranks)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a group of %d ranks", count);
    for (int32_t i = 0; i < count; i++)
        ranks[i] = first + i * step;
    s->groups[s->n_groups++] = (ringx_members){.colour = colour, .count = count, .ranks = ranks};
    return RINGX_OK;
}

static ringx_status add_groups(ringx_schedule *s)
{
    const ringx_geometry *g = &s->geometry;
    if (!g->two_level)
        return RINGX_OK;
    int per = g->ranks_per_node, node = g->rank / per, position = g->rank % per;
    RINGX_TRY(add_group(s, node, node * per, 1, per));
    return add_group(s, position, position, per, g->ranks / per);
}

/* ---- build ---- */

/* A slice has half of the heads that are left, the last one all, none less than one. */
static int64_t tapered(int64_t heads, int slices, int i)
{
    int64_t first = 0;
    for (int s = 0; s < i; s++) {
        int64_t left = heads - first, most = left - (slices - s - 1), half = (left + 1) / 2;
        first += s + 1 == slices ? left : half < most ? half : most;
    }
    return first;
}

int64_t ringx__slice_begin(int64_t heads, const ringx_slicing *cut, int i, bool backward)
{
    if (cut->first > 0 && (i == 0 || i == cut->slices))
        return i == 0 ? 0 : heads;
    if (cut->first > 0) {
        const int ends = cut->slices > 2 ? 2 : 1;
        return cut->first + (i - 1) * (heads - ends * cut->first) / (cut->slices - ends);
    }
    if (!cut->taper || cut->slices > heads)
        return i * heads / cut->slices;
    return backward ? tapered(heads, cut->slices, i) : heads - tapered(heads, cut->slices, cut->slices - i);
}

static void set_slice(ringx_geometry *g, int slice, bool backward)
{
    int64_t heads = g->shape->kv_heads, first = ringx__slice_begin(heads, &g->cut, slice, backward);
    int64_t end = ringx__slice_begin(heads, &g->cut, slice + 1, backward);
    g->slice = slice;
    g->kv_head = (int32_t)first;
    g->kv_heads = (int32_t)(end - first);
    g->q_head = (int32_t)(first * g->shape->group);
    g->q_heads = (int32_t)((end - first) * g->shape->group);
}

ringx_status ringx__schedule_build(ringx_schedule *s, ringx_emit emit, const ringx_geometry *geometry, bool backward)
{
    *s = (ringx_schedule){.backward = backward, .geometry = *geometry, .stage = -1};
    s->pools = calloc(1, sizeof *s->pools);
    if (!s->pools)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the pools of a schedule");
    s->status = add_groups(s);
    if (backward) {
        s->stage = 0;
        ringx__emit_delta(s);
    }
    for (int slice = 0; slice < geometry->cut.slices && s->status == RINGX_OK; slice++) {
        set_slice(&s->geometry, slice, backward);
        emit(s, &s->geometry);
    }
    ringx__pools_free(s);
    if (s->status == RINGX_OK)
        s->status = ringx__schedule_close(s);
    if (s->status != RINGX_OK) {
        ringx_status status = s->status;
        ringx__schedule_free(s);
        return status;
    }
    return RINGX_OK;
}

void ringx__schedule_free(ringx_schedule *s)
{
    ringx__pools_free(s);
    free(s->steps);
    free(s->operands);
    free(s->buffers);
    for (int i = 0; i < s->n_groups; i++)
        free((void *)(uintptr_t)s->groups[i].ranks);
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        free(s->lane_step[lane]);
        free(s->lane_wait[lane]);
    }
    *s = (ringx_schedule){.status = RINGX_OK};
}
