/* SPDX-License-Identifier: MIT */
/* kvgather: K,V are all-gathered, dK,dV reduce-scattered.
 *
 * One level: a slice is one stage, so the gather of slice i+1 runs beside the tiles of slice i; the own tile needs no
 * transfer and runs beside the first gather.
 * Between GPUs of one node both are other schedules: where a kernel can await keys each rank sends them straight to all
 * others (awaited.c), and backward queries travel if that is less (qback.c).
 * Two levels: first within the node; between nodes the ranks of equal position gather from each other, and each foreign
 * node's K,V are then gathered within the node, one stage a node.  Backward reduces the same way back.
 *
 * Wire     (N-1)·KV a rank; backward again, plus (N-1)·dKV.
 * Memory   N·KV and N·dKV of a slice, times lookahead+1 where there are several slices. */
#include <stdlib.h>

#include "algo/algo.h"

/* Blocks of owners first, first + step, … */
static void carve_owners(ringx_schedule *s, const ringx_geometry *g, ringx_region *region, ringx_kind kind, int first,
                         int step, int count, ringx_span *blocks)
{
    for (int i = 0; i < count; i++)
        blocks[i] = ringx__carve(s, region, kind, first + i * step, g->kv_head, g->kv_heads);
}

/* Takes the own block out of the list; the others keep their order. */
static int without(const ringx_span *blocks, int count, int own, ringx_span *others)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        if (i != own)
            others[n++] = blocks[i];
    return n;
}

/* ---- forward ---- */

static void forward_one_level(ringx_schedule *s, const ringx_geometry *g, ringx_span *blocks, ringx_span *others)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), own = ringx__user(s, RINGX_KV), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));
    ringx_region region = ringx__slot(s, "kv", 1, 1);
    carve_owners(s, g, &region, RINGX_KV, 0, 1, g->ranks, blocks);

    ringx__pack(s, blocks[g->rank]);
    ringx__allgather(s, -1, blocks[g->rank], blocks, g->ranks);
    int n = without(blocks, g->ranks, g->rank, others);
    if (ringx__own_joins(g)) {
        others[n++] = own;
    } else {
        ringx__attend(s, &state, &q, 1, &own, 1);
    }
    ringx__attend(s, &state, &q, 1, others, n);
    ringx__finish(s, &state, &out, 1, 0);
}

/* The owner's block of each node at this rank's position, gathered between nodes; returns this node's index. */
static int gather_across(ringx_schedule *s, const ringx_geometry *g, ringx_span own, ringx_span *across)
{
    int per = g->ranks_per_node;
    ringx_region region = ringx__slot(s, "kv across", 1, 1);
    carve_owners(s, g, &region, RINGX_KV, g->rank % per, per, g->ranks / per, across);
    ringx__allgather(s, 1, own, across, g->ranks / per);
    return g->rank / per;
}

static void gather_node(ringx_schedule *s, const ringx_geometry *g, int node, ringx_span own, ringx_span *blocks)
{
    ringx_region region = ringx__slot(s, "kv", 1, 1);
    carve_owners(s, g, &region, RINGX_KV, node * g->ranks_per_node, 1, g->ranks_per_node, blocks);
    ringx__allgather(s, 0, own, blocks, g->ranks_per_node);
}

static void forward_two_level(ringx_schedule *s, const ringx_geometry *g, ringx_span *blocks, ringx_span *others,
                              ringx_span *across)
{
    int per = g->ranks_per_node, nodes = g->ranks / per;
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), own = ringx__user(s, RINGX_KV), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));
    ringx_span packed = ringx__block(s, "kv own", 1, RINGX_KV, g->rank);
    ringx__pack(s, packed);
    ringx__attend(s, &state, &q, 1, &own, 1);
    gather_node(s, g, g->rank / per, packed, blocks);
    ringx__attend(s, &state, &q, 1, others, without(blocks, per, g->rank % per, others));
    int here = gather_across(s, g, packed, across);

    for (int i = 1; i < nodes; i++) {
        ringx__stage(s);
        int node = (here + i) % nodes;
        gather_node(s, g, node, across[node], blocks);
        ringx__attend(s, &state, &q, 1, blocks, per);
    }
    ringx__finish(s, &state, &out, 1, 0);
}

static bool two_level(const ringx_geometry *g)
{
    return g->two_level && g->ranks_per_node < g->ranks;
}

void ringx__kvgather_forward(ringx_schedule *s, const ringx_geometry *g)
{
    ringx_span *blocks = ringx__spans(s, g->ranks), *others = ringx__spans(s, g->ranks);
    ringx_span *across = ringx__spans(s, g->ranks);
    if (blocks && others && across) {
        if (two_level(g))
            forward_two_level(s, g, blocks, others, across);
        else
            forward_one_level(s, g, blocks, others);
    }
    free(blocks);
    free(others);
    free(across);
}

/* ---- backward ---- */

typedef struct ringx_gathered { /* lists of spans a backward works with, ranks long each */
    ringx_span *kv, *dkv, *others, *other_dkvs, *across, *across_dkv;
} gathered;

static void backward_one_level(ringx_schedule *s, const ringx_geometry *g, gathered *l)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), own = ringx__user(s, RINGX_KV);
    ringx_span dq = ringx__block(s, "dq", 0, RINGX_DQ, g->rank);
    ringx_region kv = ringx__slot(s, "kv", 1, 1), dkv = ringx__slot(s, "dkv", 1, 1);
    carve_owners(s, g, &kv, RINGX_KV, 0, 1, g->ranks, l->kv);
    carve_owners(s, g, &dkv, RINGX_DKV, 0, 1, g->ranks, l->dkv);
    int n = without(l->kv, g->ranks, g->rank, l->others);
    without(l->dkv, g->ranks, g->rank, l->other_dkvs);

    ringx__pack(s, l->kv[g->rank]);
    ringx__allgather(s, -1, l->kv[g->rank], l->kv, g->ranks);
    ringx__clear(s, dq);
    for (int i = 0; i < g->ranks; i++)
        ringx__clear(s, l->dkv[i]);
    if (ringx__own_joins(g)) {
        l->others[n] = own;
        l->other_dkvs[n++] = l->dkv[g->rank];
    } else {
        ringx__grad(s, &q, &dq, 1, &own, &l->dkv[g->rank], 1);
    }
    ringx__grad(s, &q, &dq, 1, l->others, l->other_dkvs, n);
    ringx__store(s, dq);
    ringx_span sum = ringx__block(s, "dkv sum", 0, RINGX_DKV, g->rank);
    ringx__reduce_scatter(s, -1, l->dkv, g->ranks, sum);
    ringx__unpack(s, sum, 0);
}

/* Clears and returns the dK,dV blocks of a node. */
static void node_dkv(ringx_schedule *s, const ringx_geometry *g, int node, ringx_span *dkv)
{
    ringx_region region = ringx__slot(s, "dkv", 1, 1);
    carve_owners(s, g, &region, RINGX_DKV, node * g->ranks_per_node, 1, g->ranks_per_node, dkv);
    for (int i = 0; i < g->ranks_per_node; i++)
        ringx__clear(s, dkv[i]);
}

static void backward_two_level(ringx_schedule *s, const ringx_geometry *g, gathered *l)
{
    int per = g->ranks_per_node, nodes = g->ranks / per, position = g->rank % per;
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), own = ringx__user(s, RINGX_KV);
    ringx_span dq = ringx__block(s, "dq", 0, RINGX_DQ, g->rank);
    ringx_span packed = ringx__block(s, "kv own", 1, RINGX_KV, g->rank);
    ringx_region sums = ringx__slot(s, "dkv across", 1, 1);
    carve_owners(s, g, &sums, RINGX_DKV, position, per, nodes, l->across_dkv);

    ringx__pack(s, packed);
    ringx__clear(s, dq);
    gather_node(s, g, g->rank / per, packed, l->kv);
    int here = gather_across(s, g, packed, l->across);
    node_dkv(s, g, here, l->dkv);
    ringx__grad(s, &q, &dq, 1, &own, &l->dkv[position], 1);
    int n = without(l->kv, per, position, l->others);
    without(l->dkv, per, position, l->other_dkvs);
    ringx__grad(s, &q, &dq, 1, l->others, l->other_dkvs, n);
    ringx__reduce_scatter(s, 0, l->dkv, per, l->across_dkv[here]);

    for (int i = 1; i < nodes; i++) {
        ringx__stage(s);
        int node = (here + i) % nodes;
        gather_node(s, g, node, l->across[node], l->kv);
        node_dkv(s, g, node, l->dkv);
        ringx__grad(s, &q, &dq, 1, l->kv, l->dkv, per);
        ringx__reduce_scatter(s, 0, l->dkv, per, l->across_dkv[node]);
    }
    ringx__store(s, dq);
    ringx_span sum = ringx__block(s, "dkv sum", 0, RINGX_DKV, g->rank);
    ringx__reduce_scatter(s, 1, l->across_dkv, nodes, sum);
    ringx__unpack(s, sum, 0);
}

void ringx__kvgather_backward(ringx_schedule *s, const ringx_geometry *g)
{
    if (ringx__queries_gather(g)) { /* in one node */
        ringx__queries_gathered_backward(s, g);
        return;
    }
    ringx_span *all = ringx__spans(s, 6 * (int64_t)g->ranks);
    if (!all)
        return;
    gathered l = {all,
                  all + g->ranks,
                  all + 2 * (int64_t)g->ranks,
                  all + 3 * (int64_t)g->ranks,
                  all + 4 * (int64_t)g->ranks,
                  all + 5 * (int64_t)g->ranks};
    if (two_level(g))
        backward_two_level(s, g, &l);
    else
        backward_one_level(s, g, &l);
    free(all);
}
