/* SPDX-License-Identifier: MIT */
/* A forward whose tiles are one kernel's, which itself awaits each rank's keys (src/api/fusion.c): every rank sends its
 * K,V straight to all others, one after the other, each to and from another rank at a time.
 *
 *   comm      X(1) X(2) … X(N-1)  |  X(1) X(2) …       X exchange of K,V with ranks r±i; slices follow each other
 *   compute   A                   |  A                 A own keys and all that have come, in the order of arrival
 *
 * On paper each slice has an attend, behind its last exchange: what runs where the one kernel cannot.  Every block has
 * memory of its own, so no transfer waits for a tile.
 *
 * Wire     (N-1)·KV a rank.
 * Memory   (N-1)·KV of all slices. */
#include <stdlib.h>

#include "algo/algo.h"

/* The own K,V to rank r+i, and those of rank r-i. */
static ringx_span arrival(ringx_schedule *s, const ringx_geometry *g, ringx_span packed, int i)
{
    ringx_region region = ringx__slot(s, "kv", 0, g->cut.slices * (g->ranks - 1));
    ringx_span kv = ringx__carve(s, &region, RINGX_KV, ringx__around(g, -i), g->kv_head, g->kv_heads);
    ringx__sendrecv(s, g, packed, kv, i, -1);
    return kv;
}

void ringx__awaited_forward(ringx_schedule *s, const ringx_geometry *g)
{
    ringx_span *keys = ringx__spans(s, g->ranks);
    if (!keys)
        return;
    ringx__stage(s);
    ringx_span q = ringx__user(s, RINGX_Q), out = ringx__user(s, RINGX_OUT);
    ringx_span state = ringx__fresh(ringx__block(s, "state", 0, RINGX_STATE, g->rank));
    ringx_span packed = ringx__block(s, "kv own", 1, RINGX_KV, g->rank);
    ringx__pack_early(s, g, packed);
    keys[0] = ringx__user(s, RINGX_KV);
    for (int i = 1; i < g->ranks; i++)
        keys[i] = arrival(s, g, packed, i);
    ringx__attend(s, &state, &q, 1, keys, g->ranks);
    ringx__finish(s, &state, &out, 1, 0);
    free(keys);
}
