/* SPDX-License-Identifier: MIT */
/* What an algorithm writes with.  Emitters never fail visibly: the first failure sticks in schedule->status.
 *
 * Regions come from pools of slots used in turn: 1 + lookahead·depth slots, at least `least`.  A slot may be used again
 * as soon as its last use is over; the waits follow from that, so too few slots cost time, never correctness. */
#ifndef RINGX_EMIT_H
#define RINGX_EMIT_H

#include "schedule/schedule.h"

typedef struct ringx_region { /* the next slot of a pool, to be carved into blocks */
    int32_t buffer;
    int64_t used;
} ringx_region;

/* Begins the next turn of the algorithm's loop. */
void ringx__stage(ringx_schedule *s);

ringx_region ringx__slot(ringx_schedule *s, const char *pool, int depth, int least);
ringx_span ringx__carve(ringx_schedule *s, ringx_region *region, ringx_kind kind, int owner, int32_t head,
                        int32_t heads);
/* The whole of a one-block slot, for the slice's heads. */
ringx_span ringx__block(ringx_schedule *s, const char *pool, int depth, ringx_kind kind, int owner);
/* This rank's own tokens in the caller's tensors, for the slice's heads, or a range of them. */
ringx_span ringx__user(ringx_schedule *s, ringx_kind kind);
ringx_span ringx__user_heads(ringx_schedule *s, ringx_kind kind, int32_t head, int32_t heads);
/* delta of all query heads of this rank: computed once per backward, before the first stage. */
ringx_span ringx__delta(ringx_schedule *s);

/* Room for count spans while an algorithm writes: free() it; NULL with a sticky status if there is no memory. */
ringx_span *ringx__spans(ringx_schedule *s, int64_t count);

/* ---- communication; group -1: all ranks, root is an index in the group ---- */
void ringx__pack(ringx_schedule *s, ringx_span to);
void ringx__pack_first(ringx_schedule *s, ringx_span to); /* before all other communication: to a slot never used */
void ringx__unpack(ringx_schedule *s, ringx_span from, int shift);
/* Of RINGX_MOST_SUMMED blocks at most, in their order; for devices that join. */
void ringx__unpack_sum(ringx_schedule *s, const ringx_span *blocks, int count, int shift);
void ringx__broadcast(ringx_schedule *s, ringx_span block, int root);
/* own: this rank's contribution; it may be its place among the blocks. */
void ringx__allgather(ringx_schedule *s, int group, ringx_span own, const ringx_span *blocks, int count);
void ringx__reduce(ringx_schedule *s, ringx_span block, int root, int shift);
void ringx__reduce_scatter(ringx_schedule *s, int group, const ringx_span *blocks, int count, ringx_span to);
void ringx__allreduce_max(ringx_schedule *s, ringx_span state, ringx_span top);
/* A step of sends and receives: begin, add, end. */
void ringx__exchange_begin(ringx_schedule *s, int shift);
void ringx__exchange_send(ringx_schedule *s, ringx_span block, int peer);
void ringx__exchange_receive(ringx_schedule *s, ringx_span block, int peer);
void ringx__exchange_end(ringx_schedule *s);

/* ---- computation: the full cross product of queries and keys; kernels skip what the mask makes dead ---- */
/* A state into which nothing has been folded yet. */
ringx_span ringx__fresh(ringx_span block);
/* states[i] belongs to queries[i]. */
void ringx__attend(ringx_schedule *s, ringx_span *states, const ringx_span *queries, int n_queries,
                   const ringx_span *keys, int n_keys);
void ringx__finish(ringx_schedule *s, const ringx_span *states, const ringx_span *outs, int count, int shift);
/* One result of all states together: at most RINGX_MOST_STATES. */
void ringx__finish_sum(ringx_schedule *s, const ringx_span *states, int count, ringx_span out, int shift);
void ringx__rescale(ringx_schedule *s, ringx_span state, ringx_span top, int shift);
void ringx__clear(ringx_schedule *s, ringx_span block);
/* The same beside the stage before: of two slots that take turns the last use would not be over then, of three it is.
 */
void ringx__wipe(ringx_schedule *s, ringx_span block);
/* queries: QDO, the caller's own first; dqs[i] belongs to queries[i], dkvs[i] to keys[i]. */
void ringx__grad(ringx_schedule *s, const ringx_span *queries, const ringx_span *dqs, int n_queries,
                 const ringx_span *keys, const ringx_span *dkvs, int n_keys);
void ringx__add(ringx_schedule *s, ringx_span from, ringx_span to, int shift);
void ringx__store(ringx_schedule *s, ringx_span from);

#endif
