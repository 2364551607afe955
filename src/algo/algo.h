/* SPDX-License-Identifier: MIT */
/* An algorithm: one file that writes schedules, one row in algos.def.  A preset: one row in presets.def. */
#ifndef RINGX_ALGO_H
#define RINGX_ALGO_H

#include "schedule/emit.h"
#include <ringx/ringx_study.h>

typedef struct ringx_algo {
    const char *name, *text;
    ringx_emit forward, backward; /* one slice each; ranks >= 2 */
} ringx_algo;

const ringx_algo *ringx__algo_at(size_t i); /* algos.def; NULL past the end */
ringx_status ringx__algo_find(const char *name, const ringx_algo **algo);

/* One rank: one kernel, whatever the algorithm. */
void ringx__local_forward(ringx_schedule *s, const ringx_geometry *g);
void ringx__local_backward(ringx_schedule *s, const ringx_geometry *g);

/* Everyone's K,V straight to everyone, for a kernel that awaits them. */
void ringx__awaited_forward(ringx_schedule *s, const ringx_geometry *g);

/* Between two ranks a gather, two broadcasts and a ring's hop move the same; a hop both ways at once. */
void ringx__ring_forward(ringx_schedule *s, const ringx_geometry *g);
void ringx__ring_backward(ringx_schedule *s, const ringx_geometry *g);

/* Where every rank reaches every other one alike, broadcasts in turn are as many sends at a time as there are ranks. */
void ringx__rotated_forward(ringx_schedule *s, const ringx_geometry *g);
void ringx__rotated_backward(ringx_schedule *s, const ringx_geometry *g);

/* Few ranks: Q and partial states go straight to whom they are for. */
bool ringx__qbcast_direct(int ranks, int lookahead, ringx_dtype wire);

/* Backwards in which K,V go to the queries, and queries to K,V. */
void ringx__kvbcast_backward(ringx_schedule *s, const ringx_geometry *g);
void ringx__queries_backward(ringx_schedule *s, const ringx_geometry *g);
/* The same with memory for what all others have found of the own dQ, which is added up at once. */
void ringx__queries_gathered_backward(ringx_schedule *s, const ringx_geometry *g);

/* Between ranks that reach each other alike: is less sent where queries travel? */
bool ringx__queries_travel(const ringx_geometry *g);
/* And all of them in one node, beside computation? */
bool ringx__queries_gather(const ringx_geometry *g);

/* The own tile needs no transfer.  In the first slice it hides that of the others, in a launch of its own; where
 * transfers run ahead from slice to slice they have come before, and one kernel for both has no state in memory between
 * them. */
static inline bool ringx__own_joins(const ringx_geometry *g)
{
    return g->joined && g->lookahead > 0 && g->slice > 0;
}

/* The last slice's own gradients need no transfer either: where the own tile joins they hide that of the others'. */
static inline bool ringx__own_last(const ringx_geometry *g, bool joins)
{
    return joins && g->slice == g->cut.slices - 1;
}

/* The rank so many after this one. */
static inline int ringx__around(const ringx_geometry *g, int distance)
{
    return ((g->rank + distance) % g->ranks + g->ranks) % g->ranks;
}

/* One exchange: a block to the rank so many after this one, and another from the rank so many before it. */
static inline void ringx__sendrecv(ringx_schedule *s, const ringx_geometry *g, ringx_span sent, ringx_span received,
                                   int distance, int shift)
{
    ringx__exchange_begin(s, shift);
    ringx__exchange_send(s, sent, ringx__around(g, distance));
    ringx__exchange_receive(s, received, ringx__around(g, -distance));
    ringx__exchange_end(s);
}

/* Packs as soon as the slot is sure to be free: on a GPU, later it would wait for multiprocessors. */
static inline void ringx__pack_early(ringx_schedule *s, const ringx_geometry *g, ringx_span to)
{
    if (g->joined && !s->backward && g->slice <= g->lookahead)
        ringx__pack_first(s, to);
    else
        ringx__pack(s, to);
}

/* Pieces each kv head's query group is cut into so that head_ranks ranks have work; depends on no slicing, so that
 * slices change no bit. */
int32_t ringx__headswap_parts(const ringx_shape *shape, int head_ranks);

#endif
