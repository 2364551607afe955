/* SPDX-License-Identifier: MIT */
/* ring: K,V are passed on to the right neighbour, N-1 hops; in backward dK,dV follow them one hop late, so that they
 * too need N-1 hops: the sum for an owner starts at its right neighbour and ends at the owner, who adds its own last.
 *
 *             stage 0    1        2                       X hop of K,V, A attend, a own tile
 *   rank r    a          X A      X A          …          stage i works on the K,V of rank r-i
 *
 * rotated: the same stages where every rank reaches every other one alike: in stage i a rank's K,V go straight to rank
 * r+i, and the dK,dV of stage i straight back to their owner, who adds them up.
 *
 * Wire     (N-1)·KV a rank; backward again, plus (N-1)·dKV.
 * Memory   O(local): two K,V (one more for each lookahead beyond 1); backward as many dK,dV and one in flight. */
#include "algo/algo.h"

/* The own K,V as they are sent.  Where the own tile joins the first arrival, both are of one stage: the next slice's
 * must not wait for that arrival's slot. */
static ringx_span packed(ringx_schedule *s, const ringx_geometry *g)
{
    ringx_region region = ringx__slot(s, g->joined ? "kv own" : "kv", 1, g->joined ? 1 : 2);
    ringx_span kv = ringx__carve(s, &region, RINGX_KV, g->rank, g->kv_head, g->kv_heads);
    ringx__pack_early(s, g, kv);
    return kv;
}

/* Another stage begins with each arrival, but for the one that the own tile joins. */
static void next_stage(ringx_schedule *s, bool joins, int i)
{
    if (!(joins && i == 1))
        ringx__stage(s);
}

/* The slot into which the K,V of `owner` arrive. */
static ringx_span arrival(ringx_schedule *s, const ringx_geometry *g, int owner)
{
    ringx_region region = ringx__slot(s, "kv", 1, 2);
    return ringx__carve(s, &region, RINGX_KV, owner, g->kv_head, g->kv_heads);
}

/* The K,V of stage i: `held` goes on by `distance` ranks. */
static ringx_span hop(ringx_schedule *s, const ringx_geometry *g, ringx_span held, int i, int distance)
{
    ringx_span kv = arrival(s, g, ringx__around(g, -i));
    ringx__sendrecv(s, g, held, kv, distance, -1);
    return kv;
}

static void forward(ringx_schedule *s, const ringx_geometry *g, bool rotated)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), own = ringx__user(s, RINGX_KV), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));
    ringx_span first = packed(s, g), kv = first;
    if (!ringx__own_joins(g))
        ringx__attend(s, &state, &q, 1, &own, 1);

    for (int i = 1; i < g->ranks; i++) {
        next_stage(s, ringx__own_joins(g), i);
        kv = hop(s, g, rotated ? first : kv, i, rotated ? i : 1);
        ringx_span keys[2] = {own, kv}; /* in this order, as where a kernel awaits the second */
        bool both = ringx__own_joins(g) && i == 1;
        ringx__attend(s, &state, &q, 1, both ? keys : &kv, both ? 2 : 1);
    }
    ringx__finish(s, &state, &out, 1, 0);
}

static void backward(ringx_schedule *s, const ringx_geometry *g, bool rotated)
{
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_QDO), own = ringx__user(s, RINGX_KV);
    ringx_span dq = ringx__block(s, "dq", g->joined, RINGX_DQ, g->rank);
    ringx_span own_dkv = ringx__block(s, "own dkv", 1, RINGX_DKV, g->rank);
    bool joins = g->joined && g->lookahead > 0; /* delta hides the first slice's arrival */
    bool last = ringx__own_last(g, joins);
    if (g->joined) /* the first slice's beside delta, the others' beside the slice before */
        ringx__wipe(s, dq);
    else
        ringx__clear(s, dq);
    ringx_span first = packed(s, g), kv = first;
    ringx__clear(s, own_dkv);
    if (!joins)
        ringx__grad(s, &q, &dq, 1, &own, &own_dkv, 1);

    ringx_span travelling = {.fresh = true};
    for (int i = 1; i < g->ranks; i++) {
        next_stage(s, joins, i);
        kv = hop(s, g, rotated ? first : kv, i, rotated ? i : 1);
        ringx_span dkv = ringx__block(s, "dkv", 1, RINGX_DKV, ringx__around(g, -i));
        ringx__clear(s, dkv);
        ringx_span both[2] = {kv, own}, both_dkv[2] = {dkv, own_dkv};
        ringx__grad(s, &q, &dq, 1, both, both_dkv, joins && !last && i == 1 ? 2 : 1);
        if (!travelling.fresh)
            ringx__add(s, travelling, rotated ? own_dkv : dkv, 0);
        bool later = i == g->ranks - 1 && !g->joined; /* read a lookahead later than the others: not in their slot */
        travelling =
            ringx__block(s, later ? "home" : "travelling", later, RINGX_DKV, ringx__around(g, rotated ? 0 : -i - 1));
        ringx__sendrecv(s, g, dkv, travelling, rotated ? -i : 1, 0);
    }
    if (last)
        ringx__grad(s, &q, &dq, 1, &own, &own_dkv, 1);
    if (g->joined) { /* after what must still travel, and before the next but one slice's is wiped */
        ringx__unpack_sum(s, (ringx_span[]){own_dkv, travelling}, 2, 0);
        ringx__unpack(s, dq, 0);
    } else {
        ringx__store(s, dq);
        ringx__add(s, travelling, own_dkv, 1);
        ringx__unpack(s, own_dkv, 1);
    }
}

void ringx__ring_forward(ringx_schedule *s, const ringx_geometry *g)
{
    forward(s, g, false);
}

void ringx__ring_backward(ringx_schedule *s, const ringx_geometry *g)
{
    if (g->ranks == 2 && ringx__queries_travel(g)) /* one hop there and one back, whatever it is that hops */
        ringx__queries_backward(s, g);
    else
        backward(s, g, false);
}

void ringx__rotated_forward(ringx_schedule *s, const ringx_geometry *g)
{
    forward(s, g, true);
}

void ringx__rotated_backward(ringx_schedule *s, const ringx_geometry *g)
{
    backward(s, g, true);
}
