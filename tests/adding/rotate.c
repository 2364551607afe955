/* SPDX-License-Identifier: MIT */
/* rotate: every rank sends its K,V straight to everyone, to the neighbour at distance i in stage i, and gets the dK,dV
 * that were computed from it straight back.
 *
 *             stage 0    1        2                       X exchange, A attend, a own tile
 *   rank r    a          X A      X A          …          stage i works on the K,V of rank r-i
 *
 * Wire     (N-1)·KV a rank; backward again, plus (N-1)·dKV.
 * Memory   own K,V, lookahead+1 incoming; backward as many outgoing and incoming dK,dV, own dK,dV and dQ. */
#include "algo/algo.h"

static int at_distance(const ringx_geometry *g, int distance)
{
    return (g->rank + distance + g->ranks) % g->ranks;
}

/* Sends `mine` i ranks to the right, receives the K,V of the rank i to the left. */
static ringx_span swap_kv(ringx_schedule *s, const ringx_geometry *g, ringx_span mine, int i)
{
    ringx_span kv = ringx__block(s, "kv", 1, RINGX_KV, at_distance(g, -i));
    ringx__exchange_begin(s, -1);
    ringx__exchange_send(s, mine, at_distance(g, i));
    ringx__exchange_receive(s, kv, at_distance(g, -i));
    ringx__exchange_end(s);
    return kv;
}

void ringx__rotate_forward(ringx_schedule *s, const ringx_geometry *g)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), own = ringx__user(s, RINGX_KV), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));
    ringx_span mine = ringx__block(s, "kv own", 1, RINGX_KV, g->rank);
    ringx__pack(s, mine);
    ringx__attend(s, &state, &q, 1, &own, 1);

    for (int i = 1; i < g->ranks; i++) {
        ringx__stage(s);
        ringx_span kv = swap_kv(s, g, mine, i);
        ringx__attend(s, &state, &q, 1, &kv, 1);
    }
    ringx__finish(s, &state, &out, 1, 0);
}

void ringx__rotate_backward(ringx_schedule *s, const ringx_geometry *g)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), own = ringx__user(s, RINGX_KV);
    ringx_span dq = ringx__block(s, "dq", 0, RINGX_DQ, g->rank);
    ringx_span own_dkv = ringx__block(s, "dkv own", 1, RINGX_DKV, g->rank);
    ringx_span mine = ringx__block(s, "kv own", 1, RINGX_KV, g->rank);
    ringx__pack(s, mine);
    ringx__clear(s, dq);
    ringx__clear(s, own_dkv);
    ringx__grad(s, &q, &dq, 1, &own, &own_dkv, 1);

    for (int i = 1; i < g->ranks; i++) {
        ringx__stage(s);
        ringx_span kv = swap_kv(s, g, mine, i);
        ringx_span dkv = ringx__block(s, "dkv", 1, RINGX_DKV, at_distance(g, -i));
        ringx__clear(s, dkv);
        ringx__grad(s, &q, &dq, 1, &kv, &dkv, 1);

        ringx_span part = ringx__block(s, "dkv part", 1, RINGX_DKV, g->rank);
        ringx__exchange_begin(s, 0); /* a result of this stage's computation: after it */
        ringx__exchange_send(s, dkv, at_distance(g, -i));
        ringx__exchange_receive(s, part, at_distance(g, i));
        ringx__exchange_end(s);
        ringx__add(s, part, own_dkv, 1); /* a stage later: the transfer may take that long */
    }
    ringx__store(s, dq);
    ringx__unpack(s, own_dkv, 1);
}
