/* SPDX-License-Identifier: MIT */
/* kvbcast: each rank in turn broadcasts its K,V; everyone folds it into its own queries.
 *
 *             stage 0    1          2          3          B* send, B receive, A attend, a attend own tile
 *   rank 0    a          B*         B  A       B  A
 *   rank 1    a          B  A       B*         B  A       with lookahead 1, B of stage i+1 runs beside A of stage i;
 *   rank 2    a          B  A       B  A       B*         the own tile needs no transfer and hides the first one
 *
 * Wire     (N-1)·KV received a rank in N broadcasts; backward again, plus (N-1)·dKV in N reductions.
 * Memory   O(local): lookahead+1 incoming K,V; backward as many outgoing dK,dV, own dK,dV and dQ. */
#include "algo/algo.h"

void ringx__kvbcast_forward(ringx_schedule *s, const ringx_geometry *g)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), own = ringx__user(s, RINGX_KV), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));
    ringx__attend(s, &state, &q, 1, &own, 1);

    for (int owner = 0; owner < g->ranks; owner++) {
        ringx__stage(s);
        ringx_span kv = ringx__block(s, "kv", 1, RINGX_KV, owner);
        if (owner == g->rank)
            ringx__pack(s, kv);
        ringx__broadcast(s, kv, owner);
        if (owner != g->rank)
            ringx__attend(s, &state, &q, 1, &kv, 1);
    }
    ringx__finish(s, &state, &out, 1, 0);
}

void ringx__kvbcast_backward(ringx_schedule *s, const ringx_geometry *g)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), own = ringx__user(s, RINGX_KV);
    ringx_span dq = ringx__block(s, "dq", 0, RINGX_DQ, g->rank);
    ringx_span own_dkv = ringx__block(s, "own dkv", 1, RINGX_DKV, g->rank);
    ringx__clear(s, dq);
    ringx__clear(s, own_dkv);
    ringx__grad(s, &q, &dq, 1, &own, &own_dkv, 1);

    for (int owner = 0; owner < g->ranks; owner++) {
        ringx__stage(s);
        ringx_span kv = ringx__block(s, "kv", 1, RINGX_KV, owner);
        if (owner == g->rank) {
            ringx__pack(s, kv);
            ringx__broadcast(s, kv, owner);
            ringx__reduce(s, own_dkv, owner, 0);
            ringx__unpack(s, own_dkv, 0);
            continue;
        }
        ringx_span dkv = ringx__block(s, "dkv", 1, RINGX_DKV, owner);
        ringx__broadcast(s, kv, owner);
        ringx__clear(s, dkv);
        ringx__grad(s, &q, &dq, 1, &kv, &dkv, 1);
        ringx__reduce(s, dkv, owner, 0);
    }
    ringx__store(s, dq);
}
