/* SPDX-License-Identifier: MIT */
/* qbcast: each rank in turn broadcasts its Q; everyone folds its own K,V into a partial state, and the partial states
 * are combined at the owner: a small maximum round on m (1/d of the bytes), then one float sum of acc and l.
 *
 *             stage i              i+1                  i+2           B broadcast Q, A attend, M maximum round,
 *   comm      B(i+1)   |           M(i) B(i+2)   |      R(i) …        W rescale to the agreed maximum, R reduce,
 *   compute   A(i)     |           A(i+1)  W(i)  |      A(i+2) F(i)   F finish at the owner
 *
 * Wire     (N-1)·(Q + O4 + L), plus 2(N-1)·L for the maxima.  Backward is kvbcast's: no dQ travels.
 * Memory   O(local): lookahead+1 incoming Q, 2·lookahead+1 partial states and the own one. */
#include "algo/algo.h"

static void combine(ringx_schedule *s, const ringx_geometry *g, ringx_span state, int owner)
{
    ringx_span top = ringx__block(s, "maxima", 1, RINGX_TOP, owner);
    ringx__allreduce_max(s, state, top);
    ringx__rescale(s, state, top, 1);
    ringx__reduce(s, state, owner, 1);
    if (owner == g->rank) {
        ringx_span out = ringx__user(s, RINGX_OUT);
        ringx__finish(s, &state, &out, 1, 2);
    }
}

void ringx__qbcast_forward(ringx_schedule *s, const ringx_geometry *g)
{
    bool own_first = g->lookahead > 0; /* as in kvbcast.c */
    ringx__stage(s);
    ringx_span kv = ringx__user(s, RINGX_KV), own_q = ringx__user(s, RINGX_Q);
    ringx_span own = ringx__fresh(ringx__block(s, "own state", 2, RINGX_STATE, g->rank));
    if (own_first)
        ringx__attend(s, &own, &own_q, 1, &kv, 1);

    for (int owner = 0; owner < g->ranks; owner++) {
        ringx__stage(s);
        ringx_span q = ringx__block(s, "q", 1, RINGX_Q, owner);
        if (owner == g->rank) {
            ringx__pack(s, q);
            ringx__broadcast(s, q, owner);
            if (!own_first)
                ringx__attend(s, &own, &own_q, 1, &kv, 1);
            combine(s, g, own, owner);
            continue;
        }
        ringx_span state = ringx__fresh(ringx__block(s, "state", 2, RINGX_STATE, owner));
        ringx__broadcast(s, q, owner);
        ringx__attend(s, &state, &q, 1, &kv, 1);
        combine(s, g, state, owner);
    }
}
