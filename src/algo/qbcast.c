/* SPDX-License-Identifier: MIT */
/* qbcast: each owner's Q goes to everyone, who folds its own K,V into a partial state of it; the partial states are
 * combined at the owner.
 *
 * Many ranks: each in turn broadcasts its Q; a small maximum round on m (1/d of the bytes), then one float sum of acc
 * and l.
 *             stage i              i+1                  i+2           B broadcast Q, A attend, M maximum round,
 *   comm      B(i+1)   |           M(i) B(i+2)   |      R(i) …        W rescale to the agreed maximum, R reduce,
 *   compute   A(i)     |           A(i+1)  W(i)  |      A(i+2) F(i)   F finish at the owner
 * Wire     (N-1)·(Q + O4 + L), plus 2(N-1)·L for the maxima.
 * Memory   O(local): lookahead+1 incoming Q, 2·lookahead+1 partial states and the own one.
 *
 * A few ranks, with lookahead: Q and the states go straight to whom they are for, in stage i to and from rank r∓i, and
 * are folded together once.
 *             stage 0    1          2                                 X exchange Q, P exchange partial states,
 *   comm      X(1)       X(2)       P(1) X(3)  |  P(2) …              a own tile
 *   compute   a          A(1)       A(2)       |  A(3) …   F
 * Wire     (N-1)·(Q + O4 + 2L).
 * Memory   (lookahead+1)·(2Q + state) and N states.
 *
 * Between two GPUs, with lookahead, K,V are less than Q and its states: there the forward is the ring's one hop.
 *
 * Backward is kvbcast's. */
#include "algo/algo.h"

bool ringx__qbcast_direct(int ranks, int lookahead, ringx_dtype wire)
{
    return ranks <= RINGX_MOST_STATES && lookahead > 0 && wire == RINGX_F32; /* m does not travel narrow */
}

/* ---- a few ranks ---- */

/* The own Q to rank r+i, and that of rank r-i, whose partial state goes back; returns the own one's, from rank r+i. */
static ringx_span exchanged(ringx_schedule *s, const ringx_geometry *g, ringx_span packed, ringx_span kv, int i)
{
    ringx_span q = ringx__block(s, "q", 1, RINGX_Q, ringx__around(g, -i));
    ringx__sendrecv(s, g, packed, q, i, -1);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 1, RINGX_STATE, ringx__around(g, -i)));
    ringx__attend(s, &state, &q, 1, &kv, 1);
    ringx_region region = ringx__slot(s, "partial", g->ranks - 1, 2 * (g->ranks - 1));
    ringx_span partial = ringx__carve(s, &region, RINGX_STATE, g->rank, g->q_head, g->q_heads);
    ringx__sendrecv(s, g, state, partial, -i, 0);
    return partial;
}

static void forward_direct(ringx_schedule *s, const ringx_geometry *g)
{
    ringx__stage(s);
    ringx_span kv = ringx__user(s, RINGX_KV), own_q = ringx__user(s, RINGX_Q), out = ringx__user(s, RINGX_OUT);
    ringx_span states[RINGX_MOST_STATES], packed = ringx__block(s, "q own", 1, RINGX_Q, g->rank);
    ringx__pack_early(s, g, packed);
    states[0] = ringx__fresh(ringx__block(s, "own state", 1, RINGX_STATE, g->rank));
    ringx__attend(s, states, &own_q, 1, &kv, 1);
    for (int i = 1; i < g->ranks; i++) {
        ringx__stage(s);
        states[i] = exchanged(s, g, packed, kv, i);
    }
    ringx__finish_sum(s, states, g->ranks, out, 1);
}

/* ---- many ranks ---- */

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

static void forward_broadcast(ringx_schedule *s, const ringx_geometry *g)
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

void ringx__qbcast_forward(ringx_schedule *s, const ringx_geometry *g)
{
    if (ringx__qbcast_direct(g->ranks, g->lookahead, g->wire))
        forward_direct(s, g);
    else
        forward_broadcast(s, g);
}
