/* SPDX-License-Identifier: MIT */
/* kvbcast: each rank in turn broadcasts its K,V; everyone folds it into its own queries.
 *
 *   lookahead 0    stage 0    1          2          lookahead 1    stage 0    1          2          3
 *   rank 0         B* A       B  A       B  A       rank 0         a          B*         B  A       B  A
 *   rank 1         B  A       B* A       B  A       rank 1         a          B  A       B*         B  A
 *   rank 2         B  A       B  A       B* A       rank 2         a          B  A       B  A       B*
 *
 *   B* send, B receive, A attend, a attend own tile.  With lookahead 1, B of stage i+1 runs beside A of stage i, and
 * the own tile, which needs no transfer, hides the first one.  Where transfers do not run ahead it must have its turn:
 * a rank without a tile in its own turn would wait for the others.
 *
 * Between GPUs that join tiles each rank sends at the same time (rotated, ring.c): of a broadcast only one would. Their
 * backward sends queries instead where those are less (qback.c).
 *
 * Wire     (N-1)·KV received a rank in N broadcasts; backward again, plus (N-1)·dKV in N reductions.
 * Memory   O(local): lookahead+1 incoming K,V; backward as many dK,dV, and dQ. */
#include "algo/algo.h"

void ringx__kvbcast_forward(ringx_schedule *s, const ringx_geometry *g)
{
    bool own_first = g->lookahead > 0;
    if (g->joined) {
        ringx__rotated_forward(s, g);
        return;
    }
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), own = ringx__user(s, RINGX_KV), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));
    if (own_first)
        ringx__attend(s, &state, &q, 1, &own, 1);

    for (int owner = 0; owner < g->ranks; owner++) {
        ringx__stage(s);
        ringx_span kv = ringx__block(s, "kv", 1, RINGX_KV, owner);
        if (owner == g->rank)
            ringx__pack(s, kv);
        ringx__broadcast(s, kv, owner);
        if (owner != g->rank)
            ringx__attend(s, &state, &q, 1, &kv, 1);
        else if (!own_first)
            ringx__attend(s, &state, &q, 1, &own, 1);
    }
    ringx__finish(s, &state, &out, 1, 0);
}

void ringx__kvbcast_backward(ringx_schedule *s, const ringx_geometry *g)
{
    if (g->joined) {
        (ringx__queries_travel(g) ? ringx__queries_backward : ringx__rotated_backward)(s, g);
        return;
    }
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), own = ringx__user(s, RINGX_KV);
    ringx_span dq = ringx__block(s, "dq", 0, RINGX_DQ, g->rank);
    ringx__clear(s, dq);

    for (int owner = 0; owner < g->ranks; owner++) {
        ringx__stage(s);
        ringx_span kv = ringx__block(s, "kv", 1, RINGX_KV, owner);
        ringx_span dkv = ringx__block(s, "dkv", 1, RINGX_DKV, owner);
        if (owner == g->rank)
            ringx__pack(s, kv);
        ringx__broadcast(s, kv, owner);
        ringx__clear(s, dkv);
        ringx__grad(s, &q, &dq, 1, owner == g->rank ? &own : &kv, &dkv, 1);
        ringx__reduce(s, dkv, owner, 0);
        if (owner == g->rank)
            ringx__unpack(s, dkv, 0);
    }
    ringx__store(s, dq);
}
