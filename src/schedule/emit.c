/* SPDX-License-Identifier: MIT */
/* Emitters: append steps and operands to a schedule in program order. */
#include "schedule/emit.h"

#include <stdlib.h>
#include <string.h>

#include "schedule/pools.h"

/* Room for one more element; false (and a sticky status) if there is no memory. */
static bool grow(ringx_schedule *s, void **array, size_t count, size_t *cap, size_t element)
{
    if (s->status != RINGX_OK)
        return false;
    if (count < *cap)
        return true;
    size_t cap_new = *cap ? *cap * 2 : 64;
    void *bigger = realloc(*array, cap_new * element);
    if (!bigger) {
        s->status = ringx__fail(RINGX_NO_MEMORY, "no memory for %zu elements of a schedule", cap_new);
        return false;
    }
    *array = bigger;
    *cap = cap_new;
    return true;
}

static ringx_step *begin(ringx_schedule *s, ringx_op op, int shift)
{
    static _Thread_local ringx_step nowhere;
    if (!grow(s, (void **)&s->steps, s->n_steps, &s->steps_cap, sizeof *s->steps))
        return &nowhere;
    int lane = RINGX_COMPUTE_LANE;
    ringx__lane_of(op, &lane);
    ringx_step *step = &s->steps[s->n_steps++];
    *step = (ringx_step){.op = (uint8_t)op,
                         .lane = (uint8_t)lane,
                         .shift = (int8_t)shift,
                         .stage = s->stage,
                         .slice = s->geometry.slice,
                         .group = -1,
                         .root = -1,
                         .operand = (uint32_t)s->n_operands};
    return step;
}

static void operand(ringx_schedule *s, ringx_span span, int mode, int peer)
{
    if (s->n_operands >= UINT32_MAX)
        s->status = ringx__fail(RINGX_UNSUPPORTED, "a schedule has more than %u operands; use fewer slices or ranks",
                                UINT32_MAX);
    if (!grow(s, (void **)&s->operands, s->n_operands, &s->operands_cap, sizeof *s->operands))
        return;
    ringx_operand *o = &s->operands[s->n_operands++];
    *o = span.block;
    o->mode = (uint8_t)mode;
    o->peer = peer;
    s->steps[s->n_steps - 1].operands++;
}

void ringx__stage(ringx_schedule *s)
{
    s->stage++;
}

ringx_region ringx__slot(ringx_schedule *s, const char *pool, int depth, int least)
{
    int slots = 1 + s->geometry.lookahead * depth;
    ringx_region region = {.buffer = 0, .used = 0};
    if (s->status == RINGX_OK)
        s->status = ringx__pools_next(s, pool, slots > least ? slots : least, &region.buffer);
    return region;
}

ringx_span ringx__carve(ringx_schedule *s, ringx_region *region, ringx_kind kind, int owner, int32_t head,
                        int32_t heads)
{
    int64_t tokens = ringx__layout_count(s->geometry.layout, owner);
    int64_t bytes = (int64_t)ringx__block_bytes(s->geometry.shape, kind, tokens, heads);
    ringx_span span = {.block = {.buffer = region->buffer,
                                 .owner = owner,
                                 .offset = region->used,
                                 .bytes = bytes,
                                 .head = head,
                                 .heads = heads,
                                 .peer = -1,
                                 .kind = (uint8_t)kind}};
    region->used += bytes;
    return span;
}

static bool is_kv(ringx_kind kind)
{
    return kind == RINGX_KV || kind == RINGX_DKV;
}

ringx_span ringx__block(ringx_schedule *s, const char *pool, int depth, ringx_kind kind, int owner)
{
    const ringx_geometry *g = &s->geometry;
    ringx_region region = ringx__slot(s, pool, depth, 1);
    return ringx__carve(s, &region, kind, owner, is_kv(kind) ? g->kv_head : g->q_head,
                        is_kv(kind) ? g->kv_heads : g->q_heads);
}

ringx_span ringx__user_heads(ringx_schedule *s, ringx_kind kind, int32_t head, int32_t heads)
{
    return (ringx_span){.block = {.buffer = RINGX_USER,
                                  .owner = s->geometry.rank,
                                  .offset = head,
                                  .bytes = heads,
                                  .head = head,
                                  .heads = heads,
                                  .peer = -1,
                                  .kind = (uint8_t)kind}};
}

ringx_span ringx__user(ringx_schedule *s, ringx_kind kind)
{
    const ringx_geometry *g = &s->geometry;
    return is_kv(kind) ? ringx__user_heads(s, kind, g->kv_head, g->kv_heads)
                       : ringx__user_heads(s, kind, g->q_head, g->q_heads);
}

ringx_span ringx__delta(ringx_schedule *s)
{
    int32_t heads = (int32_t)s->geometry.shape->q_heads;
    ringx_region region = {.buffer = 0, .used = 0};
    if (s->status == RINGX_OK)
        s->status = ringx__pools_next(s, "delta", 1, &region.buffer);
    return ringx__carve(s, &region, RINGX_DELTA, s->geometry.rank, 0, heads);
}

ringx_span *ringx__spans(ringx_schedule *s, int64_t count)
{
    ringx_span *spans = calloc((size_t)count + 1, sizeof *spans);
    if (!spans && s->status == RINGX_OK)
        s->status = ringx__fail(RINGX_NO_MEMORY, "no memory for %lld blocks of a schedule", (long long)count);
    return spans;
}

/* ---- communication ---- */

void ringx__pack(ringx_schedule *s, ringx_span to)
{
    begin(s, RINGX_PACK, -1);
    operand(s, ringx__user_heads(s, (ringx_kind)to.block.kind, to.block.head, to.block.heads), RINGX_IN, -1);
    if (to.block.kind == RINGX_QDO)
        operand(s, ringx__delta(s), RINGX_IN, -1);
    operand(s, to, RINGX_OUT_, -1);
}

void ringx__pack_first(ringx_schedule *s, ringx_span to)
{
    ringx__pack(s, to);
    if (s->status == RINGX_OK)
        s->steps[s->n_steps - 1].shift = (int8_t)(-1 - s->stage);
}

void ringx__unpack(ringx_schedule *s, ringx_span from, int shift)
{
    begin(s, RINGX_UNPACK, shift);
    operand(s, from, RINGX_IN, -1);
    operand(s, ringx__user_heads(s, (ringx_kind)from.block.kind, from.block.head, from.block.heads), RINGX_OUT_, -1);
}

void ringx__unpack_sum(ringx_schedule *s, const ringx_span *blocks, int count, int shift)
{
    const ringx_operand *o = &blocks[0].block;
    begin(s, RINGX_UNPACK, shift);
    for (int i = 0; i < count; i++)
        operand(s, blocks[i], RINGX_IN, -1);
    operand(s, ringx__user_heads(s, (ringx_kind)o->kind, o->head, o->heads), RINGX_OUT_, -1);
}

void ringx__broadcast(ringx_schedule *s, ringx_span block, int root)
{
    begin(s, RINGX_BROADCAST, -1)->root = root;
    operand(s, block, root == s->geometry.rank ? RINGX_IN : RINGX_OUT_, -1);
}

void ringx__allgather(ringx_schedule *s, int group, ringx_span own, const ringx_span *blocks, int count)
{
    begin(s, RINGX_ALLGATHER, -1)->group = group;
    operand(s, own, RINGX_IN, -1);
    for (int i = 0; i < count; i++)
        operand(s, blocks[i], RINGX_OUT_, -1);
}

/* ---- narrow wires ---- */

static bool narrows(const ringx_schedule *s, const ringx_span *span)
{
    int kind = span->block.kind;
    return s->geometry.wire != RINGX_F32 && (kind == RINGX_STATE || kind == RINGX_DQ || kind == RINGX_DKV);
}

static ringx_span carve_narrow(ringx_schedule *s, ringx_region *region, const ringx_span *wide)
{
    ringx_span span = *wide;
    int64_t tokens = ringx__layout_count(s->geometry.layout, wide->block.owner);
    span.block.buffer = region->buffer;
    span.block.offset = region->used;
    span.block.bytes =
        (int64_t)ringx__narrow_bytes(s->geometry.shape, (ringx_kind)wide->block.kind, tokens, wide->block.heads);
    span.block.narrow = 1;
    region->used += span.block.bytes;
    return span;
}

/* Later shifts overtake the next stages' earlier ones in their lane, so each shift has its own slot. */
static ringx_region wire_slot(ringx_schedule *s, int shift)
{
    return ringx__slot(s, shift > 0 ? "late wire" : "wire", 0, 1);
}

/* m of a state is no part of what travels, so a state that comes back is updated, not replaced. */
static void convert(ringx_schedule *s, ringx_span from, ringx_span to, int shift)
{
    begin(s, RINGX_CONVERT, shift);
    operand(s, from, RINGX_IN, -1);
    operand(s, to, to.block.kind == RINGX_STATE && !to.block.narrow ? RINGX_INOUT : RINGX_OUT_, -1);
}

void ringx__reduce(ringx_schedule *s, ringx_span block, int root, int shift)
{
    ringx_span wire = block;
    if (narrows(s, &block)) {
        ringx_region region = wire_slot(s, shift);
        wire = carve_narrow(s, &region, &block);
        convert(s, block, wire, shift);
    }
    begin(s, RINGX_REDUCE, shift)->root = root;
    operand(s, wire, RINGX_IN, -1);
    if (root == s->geometry.rank)
        operand(s, wire, RINGX_OUT_, -1);
    if (root == s->geometry.rank && wire.block.narrow)
        convert(s, wire, block, shift);
}

void ringx__reduce_scatter(ringx_schedule *s, int group, const ringx_span *blocks, int count, ringx_span to)
{
    bool narrow = narrows(s, &to);
    ringx_region region = {.buffer = 0, .used = 0};
    ringx_span *wire = ringx__spans(s, count);
    ringx_span sum = to;
    if (!wire)
        return;
    if (narrow)
        region = wire_slot(s, 0);
    for (int i = 0; i < count; i++) {
        wire[i] = narrow ? carve_narrow(s, &region, &blocks[i]) : blocks[i];
        if (narrow)
            convert(s, blocks[i], wire[i], 0);
    }
    if (narrow)
        sum = carve_narrow(s, &region, &to);
    begin(s, RINGX_REDUCE_SCATTER, 0)->group = group;
    for (int i = 0; i < count; i++)
        operand(s, wire[i], RINGX_IN, -1);
    operand(s, sum, RINGX_OUT_, -1);
    if (narrow)
        convert(s, sum, to, 0);
    free(wire);
}

void ringx__allreduce_max(ringx_schedule *s, ringx_span state, ringx_span top)
{
    begin(s, RINGX_ALLREDUCE_MAX, 0);
    operand(s, state, RINGX_IN, -1);
    operand(s, top, RINGX_OUT_, -1);
}

struct ringx_pending { /* one send or receive */
    ringx_span span, wire;
    int mode, peer;
};

static void pend(ringx_schedule *s, ringx_span span, int mode, int peer)
{
    if (grow(s, (void **)&s->pending, s->n_pending, &s->pending_cap, sizeof *s->pending))
        s->pending[s->n_pending++] = (struct ringx_pending){.span = span, .wire = span, .mode = mode, .peer = peer};
}

void ringx__exchange_begin(ringx_schedule *s, int shift)
{
    s->n_pending = 0;
    s->pending_shift = shift;
}

void ringx__exchange_send(ringx_schedule *s, ringx_span block, int peer)
{
    pend(s, block, RINGX_IN, peer);
}

void ringx__exchange_receive(ringx_schedule *s, ringx_span block, int peer)
{
    pend(s, block, RINGX_OUT_, peer);
}

void ringx__exchange_end(ringx_schedule *s)
{
    ringx_region region = {.buffer = -1, .used = 0};
    for (size_t i = 0; i < s->n_pending; i++) {
        struct ringx_pending *p = &s->pending[i];
        if (!narrows(s, &p->span))
            continue;
        if (region.buffer < 0)
            region = wire_slot(s, s->pending_shift);
        p->wire = carve_narrow(s, &region, &p->span);
        if (p->mode == RINGX_IN)
            convert(s, p->span, p->wire, s->pending_shift);
    }
    if (s->n_pending)
        begin(s, RINGX_EXCHANGE, s->pending_shift);
    for (size_t i = 0; i < s->n_pending; i++)
        operand(s, s->pending[i].wire, s->pending[i].mode, s->pending[i].peer);
    for (size_t i = 0; i < s->n_pending; i++)
        if (s->pending[i].wire.block.narrow && s->pending[i].mode == RINGX_OUT_)
            convert(s, s->pending[i].wire, s->pending[i].span, s->pending_shift);
}

/* ---- computation ---- */

ringx_span ringx__fresh(ringx_span block)
{
    block.fresh = true;
    return block;
}

void ringx__attend(ringx_schedule *s, ringx_span *states, const ringx_span *queries, int n_queries,
                   const ringx_span *keys, int n_keys)
{
    if (n_queries == 0 || n_keys == 0)
        return;
    bool fresh = states[0].fresh;
    begin(s, RINGX_ATTEND, 0)->fresh = fresh;
    for (int i = 0; i < n_queries; i++)
        operand(s, queries[i], RINGX_IN, -1);
    for (int i = 0; i < n_keys; i++)
        operand(s, keys[i], RINGX_IN, -1);
    for (int i = 0; i < n_queries; i++) {
        operand(s, states[i], fresh ? RINGX_OUT_ : RINGX_INOUT, -1);
        states[i].fresh = false;
    }
}

/* If the last step is the attend that wrote exactly these states, it writes the results itself. */
static bool finish_in_place(ringx_schedule *s, const ringx_span *states, const ringx_span *outs, int count, int shift)
{
    if (shift != 0 || s->status != RINGX_OK || s->n_steps == 0)
        return false;
    ringx_step *last = &s->steps[s->n_steps - 1];
    if (last->op != RINGX_ATTEND || last->stage != s->stage || (int64_t)last->operands < count)
        return false;
    ringx_operand *written = &s->operands[s->n_operands - (size_t)count];
    for (int i = 0; i < count; i++)
        if (written[i].kind != RINGX_STATE || written[i].buffer != states[i].block.buffer ||
            written[i].offset != states[i].block.offset)
            return false;
    if (s->operands[s->n_operands - (size_t)count - 1].kind == RINGX_STATE)
        return false;
    last->final = true;
    if (last->fresh) {
        s->n_operands -= (size_t)count;
        last->operands -= (uint32_t)count;
    } else {
        for (int i = 0; i < count; i++)
            written[i].mode = RINGX_IN;
    }
    for (int i = 0; i < count; i++)
        operand(s, outs[i], RINGX_OUT_, -1);
    return true;
}

void ringx__finish(ringx_schedule *s, const ringx_span *states, const ringx_span *outs, int count, int shift)
{
    if (count == 0 || finish_in_place(s, states, outs, count, shift))
        return;
    for (int i = 0; i < count; i++) {
        begin(s, RINGX_FINISH, shift);
        operand(s, states[i], RINGX_IN, -1);
        operand(s, outs[i], RINGX_OUT_, -1);
    }
}

void ringx__finish_sum(ringx_schedule *s, const ringx_span *states, int count, ringx_span out, int shift)
{
    begin(s, RINGX_FINISH, shift);
    for (int i = 0; i < count; i++)
        operand(s, states[i], RINGX_IN, -1);
    operand(s, out, RINGX_OUT_, -1);
}

void ringx__rescale(ringx_schedule *s, ringx_span state, ringx_span top, int shift)
{
    begin(s, RINGX_RESCALE, shift);
    operand(s, top, RINGX_IN, -1);
    operand(s, state, RINGX_INOUT, -1);
}

void ringx__clear(ringx_schedule *s, ringx_span block)
{
    begin(s, RINGX_CLEAR, 0);
    operand(s, block, RINGX_OUT_, -1);
}

void ringx__wipe(ringx_schedule *s, ringx_span block)
{
    begin(s, RINGX_WIPE, -1);
    operand(s, block, RINGX_OUT_, -1);
}

void ringx__grad(ringx_schedule *s, const ringx_span *queries, const ringx_span *dqs, int n_queries,
                 const ringx_span *keys, const ringx_span *dkvs, int n_keys)
{
    if (n_queries == 0 || n_keys == 0)
        return;
    begin(s, RINGX_GRAD, 0);
    for (int i = 0; i < n_queries; i++)
        operand(s, queries[i], RINGX_IN, -1);
    if (queries[0].block.buffer == RINGX_USER)
        operand(s, ringx__delta(s), RINGX_IN, -1);
    for (int i = 0; i < n_keys; i++)
        operand(s, keys[i], RINGX_IN, -1);
    for (int i = 0; i < n_queries; i++)
        operand(s, dqs[i], RINGX_INOUT, -1);
    for (int i = 0; i < n_keys; i++)
        operand(s, dkvs[i], RINGX_INOUT, -1);
}

void ringx__add(ringx_schedule *s, ringx_span from, ringx_span to, int shift)
{
    begin(s, RINGX_ADD, shift);
    operand(s, from, RINGX_IN, -1);
    operand(s, to, RINGX_INOUT, -1);
}

void ringx__store(ringx_schedule *s, ringx_span from)
{
    begin(s, RINGX_STORE, 0);
    operand(s, from, RINGX_IN, -1);
    operand(s, ringx__user_heads(s, (ringx_kind)from.block.kind, from.block.head, from.block.heads), RINGX_OUT_, -1);
}

void ringx__emit_delta(ringx_schedule *s)
{
    int32_t heads = (int32_t)s->geometry.shape->q_heads;
    begin(s, RINGX_DELTA_, -1);
    operand(s, ringx__user_heads(s, RINGX_OUT, 0, heads), RINGX_IN, -1);
    operand(s, ringx__user_heads(s, RINGX_QDO, 0, heads), RINGX_IN, -1);
    operand(s, ringx__delta(s), RINGX_OUT_, -1);
}
