/* SPDX-License-Identifier: MIT */
/* A backward in which queries travel: a rank's q, dout, lse and delta go to the K,V, whose owner keeps dK,dV and sends
 * dQ back.  In stage i rank r has the queries of rank r-i; all ranks send at once, each to and from rank r±i.
 *
 *             stage 0    1          2                                 X exchange queries, G gradients, a own tile,
 *   comm      X(1)       X(2)       D(1) X(3)  |  D(2) …              D exchange dQ: to the owner, who adds up
 *   compute   a          G(1)       G(2)       |  G(3) …
 *
 * dK,dV never travel and are never added up: where a kernel can, the last gradients leave them in the caller's tensors.
 * Tiles are as long as one rank's alone, however many ranks there are.
 *
 * Wire     (N-1)·(Q + O + 2L + dQ): less than (N-1)·(KV + dKV) where a key head has one query head.
 * Memory   O(local): the own queries and lookahead+1 others', 2·lookahead+1 dQ of both, and dK,dV.
 *          gathered: all N-1 parts of the own dQ, which are read once instead of with a sum that is read and written
 *          at each stage. */
#include "algo/algo.h"

bool ringx__queries_travel(const ringx_geometry *g)
{
    const ringx_shape *shape = g->shape;
    size_t there = ringx__block_bytes(shape, RINGX_QDO, shape->tokens, shape->q_heads);
    size_t back = ringx__block_bytes(shape, RINGX_DQ, shape->tokens, shape->q_heads);
    size_t keys = ringx__block_bytes(shape, RINGX_KV, shape->tokens, shape->kv_heads);
    size_t sums = ringx__block_bytes(shape, RINGX_DKV, shape->tokens, shape->kv_heads);
    return g->joined && there + back < keys + sums;
}

bool ringx__queries_gather(const ringx_geometry *g)
{
    return g->lookahead > 0 && g->ranks_per_node == g->ranks && g->ranks <= RINGX_MOST_SUMMED &&
           ringx__queries_travel(g);
}

/* The own queries to rank r+i, and those of rank r-i. */
static ringx_span exchanged(ringx_schedule *s, const ringx_geometry *g, ringx_span packed, int i)
{
    ringx_region region = ringx__slot(s, "qdo", 1, 2);
    ringx_span queries = ringx__carve(s, &region, RINGX_QDO, ringx__around(g, -i), g->q_head, g->q_heads);
    ringx__sendrecv(s, g, packed, queries, i, -1);
    return queries;
}

/* dQ back to its owner; returns what rank r+i has found of the own one. */
static ringx_span returned(ringx_schedule *s, const ringx_geometry *g, ringx_span dq, int i, bool gathered)
{
    bool home = i == g->ranks - 1; /* read a lookahead later than the others: not in their slot */
    const char *pool = gathered ? "parts" : home ? "home" : "partial";
    int slots = gathered ? (g->ranks - 1) * (1 + g->lookahead) : 1;
    ringx_region region = ringx__slot(s, pool, home && !gathered, slots);
    ringx_span own = ringx__carve(s, &region, RINGX_DQ, g->rank, g->q_head, g->q_heads);
    ringx__sendrecv(s, g, dq, own, -i, home); /* the next slice's queries first */
    return own;
}

static void backward(ringx_schedule *s, const ringx_geometry *g, bool gathered)
{
    bool joins = ringx__own_joins(g), last = ringx__own_last(g, joins);
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), kv = ringx__user(s, RINGX_KV);
    ringx_span own = ringx__block(s, "dq", 2, RINGX_DQ, g->rank);
    ringx_span dkv = ringx__block(s, "dkv", 1, RINGX_DKV, g->rank);
    ringx_span packed = ringx__block(s, "qdo own", 1, RINGX_QDO, g->rank);
    ringx_span parts[RINGX_MOST_SUMMED] = {own};
    int n = 1;
    ringx__wipe(s, own); /* the first slice's beside delta */
    ringx__pack_early(s, g, packed);
    ringx__clear(s, dkv);
    if (!joins)
        ringx__grad(s, &q, &own, 1, &kv, &dkv, 1);

    for (int i = 1; i < g->ranks; i++) {
        if (!(joins && i == 1))
            ringx__stage(s);
        ringx_span queries[2] = {q, exchanged(s, g, packed, i)};
        ringx_span dqs[2] = {own, ringx__block(s, "dq of others", 2, RINGX_DQ, ringx__around(g, -i))};
        int first = joins && !last && i == 1 ? 0 : 1;
        ringx__wipe(s, dqs[1]);
        ringx__grad(s, queries + first, dqs + first, 2 - first, &kv, &dkv, 1);
        if (!gathered && n > 1)
            ringx__add(s, parts[--n], own, 0);
        parts[n++] = returned(s, g, dqs[1], i, gathered);
    }
    if (last)
        ringx__grad(s, &q, &own, 1, &kv, &dkv, 1);
    ringx__store(s, dkv);
    ringx__unpack_sum(s, parts, n, 1);
}

void ringx__queries_backward(ringx_schedule *s, const ringx_geometry *g)
{
    backward(s, g, false);
}

void ringx__queries_gathered_backward(ringx_schedule *s, const ringx_geometry *g)
{
    backward(s, g, true);
}
