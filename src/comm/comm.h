/* SPDX-License-Identifier: MIT */
/* Ranks talking; knows no attention.
 *
 * Every call returns when it is done on this rank (CPU transports) or enqueued on call->stream (device transports), or
 * fails; none waits longer than call->deadline_s.  A failure is told to the other ranks (abort), so that all of them
 * fail with a message that names the culprit.  After a failure the communicator is dead: every later call fails at once
 * with the same status and culprit.
 *
 * All members of a group issue the same group calls in the same order; exchanges are matched in order per pair of
 * ranks. Groups of one communicator are never used concurrently. */
#ifndef RINGX_COMM_H
#define RINGX_COMM_H

#include "core/status.h"
#include <ringx/ringx_study.h>

typedef struct ringx_group ringx_group; /* NULL: all ranks */

/* A block that was never gathered: rows of width bytes, pitch bytes apart, are the block's from offset on. */
typedef struct ringx_piece {
    const void *data;
    size_t offset, width, pitch, rows;
} ringx_piece;

typedef struct ringx_scattered {
    const void *block; /* what stands for it in the call */
    const ringx_piece *piece;
    size_t pieces;
} ringx_scattered;

typedef struct ringx_call {
    const char *what;                 /* "forward step 12: broadcast of K,V": for messages */
    double deadline_s;                /* longest wait for other ranks */
    void *stream;                     /* device transports */
    const ringx_scattered *scattered; /* a block to send that lies elsewhere, where ringx__peer_carries; else NULL */
} ringx_call;

typedef struct ringx_message {
    int peer; /* rank in the whole communicator; may be this rank */
    void *data;
    size_t bytes;
} ringx_message;

typedef struct ringx_comm_ops {
    const char *name, *text;
    bool device_memory; /* calls take device memory and enqueue on call->stream; else host memory, done on return */
    bool overlaps;      /* calls may be made from a lane thread of the library */
    /* root's buffer to all members; root is an index in the group.  On the root `to` may equal `from` or be NULL. */
    ringx_status (*broadcast)(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes, int root,
                              const ringx_call *call);
    /* All sends and receives together.  Zero-byte messages are not sent; both sides know the sizes. */
    ringx_status (*exchange)(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                             const ringx_message *receives, size_t n_receives, const ringx_call *call);
    /* member i's bytes[i] arrive at to + offsets[i] on all; from may be to + offsets[own] */
    ringx_status (*allgather)(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                              const size_t *offsets, const ringx_call *call);
    /* Σ over members in group order where the transport can; `to` is used on root only, may equal from there */
    ringx_status (*reduce)(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                           ringx_dtype dtype, int root, const ringx_call *call);
    /* the sum of everyone's from[offsets[i] … + counts[i]) (elements) arrives at member i's `to` */
    ringx_status (*reduce_scatter)(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                   const ringx_call *call);
    ringx_status (*allreduce_max)(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                  const ringx_call *call);
    /* Host data of equal size from every rank: agreement, unshard bookkeeping. all: ranks · bytes, in rank order. */
    ringx_status (*agree)(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call);
    /* Collective over the whole communicator: ranks of equal colour form a group, in rank order. */
    ringx_status (*split)(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call);
    void (*group_destroy)(ringx_comm *comm, ringx_group *group);
    /* Node number of every rank (ranks with equal numbers share memory); collective. */
    ringx_status (*nodes)(ringx_comm *comm, int *node_of_rank, const ringx_call *call);
    /* Tell the other ranks that `culprit` failed; message becomes part of theirs.  Never blocks. */
    void (*abort)(ringx_comm *comm, int culprit, ringx_status status, const char *message);
    /* RINGX_OK, or the failure (its message in this thread's last error) that every later call would return.  Never
     * blocks. */
    ringx_status (*poll)(ringx_comm *comm);
    /* The communicator of the same ranks for host memory, where calls take device memory; NULL: this one. */
    ringx_comm *(*host)(ringx_comm *comm);
    void (*destroy)(ringx_comm *comm);
} ringx_comm_ops;

struct ringx_comm { /* first member of every transport's own struct */
    const ringx_comm_ops *ops;
    int rank, ranks;
    void *kept; /* what plans leave for later ones; freed with the communicator */
    void (*forget)(void *kept);
};

static inline ringx_comm *ringx__comm_host(ringx_comm *comm)
{
    return comm->ops->host ? comm->ops->host(comm) : comm;
}

/* Collective in effect: every rank whose device does not finish calls it.  RINGX_OK, or the failure that names the
 * ranks that are not there within two seconds.  OK at once where calls are made by the host, which has then waited
 * itself. */
ringx_status ringx__comm_roll_call(ringx_comm *comm, const char *what);

/* A communicator for memory of a device that serves through a host transport: every call copies out, calls inner,
 * copies in.  bytes, messages: the most that one call sends and receives together, each piece padded to 128.  Does not
 * own inner; no row of the table. */
struct ringx_device_ops;
ringx_status ringx__comm_staged(ringx_comm *inner, const struct ringx_device_ops *device, size_t bytes, size_t messages,
                                ringx_comm **staged);

/* comms.def; NULL past the end. */
const ringx_comm_ops *ringx__comm_ops_at(size_t i);

#define RINGX_TRANSPORT(name) extern const ringx_comm_ops ringx__comm_##name;
#include "comm/comms.def"
#undef RINGX_TRANSPORT

#endif
