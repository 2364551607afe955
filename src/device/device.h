/* SPDX-License-Identifier: MIT */
/* Two lanes that run beside each other, memory, and time; knows no attention and no ranks.
 *
 * A track is what the lanes walk: for each lane its steps in order, and for each step how many steps of the other lane
 * must be done before it may start. */
#ifndef RINGX_DEVICE_H
#define RINGX_DEVICE_H

#include "core/status.h"

enum { RINGX_COMM_LANE = 0, RINGX_COMPUTE_LANE = 1, RINGX_LANES = 2 };

typedef struct ringx_track {
    const uint32_t *step[RINGX_LANES]; /* step numbers, in the order the lane runs them */
    const uint32_t *wait[RINGX_LANES]; /* steps of the other lane that must be done first */
    size_t count[RINGX_LANES];
    const uint8_t *awaited; /* by step number: does the other lane wait for it?  NULL: perhaps */
} ringx_track;

typedef struct ringx_stamp { /* seconds since the execute began */
    double begin, end;
} ringx_stamp;

typedef struct ringx_walk {
    const ringx_track *track;
    /* Runs one step.  lane tells which lane calls; stream is that lane's (CUDA), else NULL. */
    ringx_status (*run)(void *context, uint32_t step, int lane, void *stream);
    void *context;
    ringx_stamp *stamps; /* indexed by step; NULL: do not record */
    ringx_timing *timing;
    int pass;           /* 0 or 1: which of two kinds of walks; those of either may be under way */
    bool one_lane;      /* the transport cannot be driven from another thread: interleave on the caller's */
    bool compute_first; /* one lane: computation before transfers, as far as it can go, not after them */
    size_t ahead;       /* compute_first: but after so many steps of communication */
    bool waits_ahead;   /* and when these are done */
} ringx_walk;

typedef struct ringx_lanes ringx_lanes;

/* Memory of other ranks: how one reads another's where the hardware lets it, and how their streams wait for each other
 * without the host. */
enum { RINGX_HANDLE_BYTES = 64 };

typedef struct ringx_reach { /* of a piece of device memory, for the other ranks of the host; plain bytes */
    uint64_t process;        /* random; 0: nobody reaches it */
    int64_t offset;          /* within what the handle opens */
    unsigned char handle[RINGX_HANDLE_BYTES];
    char host[64];   /* only its own ranks can reach it */
    int32_t unit[3]; /* which device of the host has it */
} ringx_reach;

typedef enum ringx_word_use {
    RINGX_WORD_SET,  /* here or at another rank, when what the stream did before is visible there */
    RINGX_WORD_AWAIT /* until one of its own is set; clears it */
} ringx_word_use;

typedef struct ringx_word_op {
    uint32_t *word;
    ringx_word_use use;
} ringx_word_op;

enum { RINGX_MOST_WORD_OPS = 16 };

typedef struct ringx_peer_ops {
    ringx_status (*share)(const void *memory, ringx_reach *reach);
    /* *memory: where this rank sees it; NULL: it cannot (that is no failure).  *opened: for close, may be NULL. */
    ringx_status (*open)(const ringx_reach *reach, void **memory, void **opened);
    void (*close)(void *opened);
    /* Rows of width bytes, pitch bytes apart, to one block of another rank's. */
    ringx_status (*copy_rows)(void *to, const void *from, size_t width, size_t pitch, size_t rows, void *stream);
    /* What the stream does with words, in this order; at most RINGX_MOST_WORD_OPS. */
    ringx_status (*words)(const ringx_word_op *op, size_t count, void *stream);
    /* The stream clears words of this rank. */
    ringx_status (*clear)(uint32_t *words, size_t count, void *stream);
    /* Does a kernel that waits for a copy to another device keep it from being made?  In a graph, whose copies may be
     * kernels; where each kernel is waited for when it is launched (CUDA_LAUNCH_BLOCKING). */
    bool (*serial)(void *stream);
    /* Sets words of this rank, once at least, until its stream has nothing left to wait for, or seconds have passed. */
    void (*release)(uint32_t *words, size_t count, void *stream, double seconds);
} ringx_peer_ops;

typedef struct ringx_device_ops ringx_device_ops;
struct ringx_device_ops {
    const char *name;
    ringx_device device;
    ringx_status (*available)(void); /* why not, as a message */
    int (*count)(void);              /* 0: none */
    ringx_status (*use)(int index);  /* one of them becomes the calling thread's */
    /* stream: the caller's (CUDA).  one_lane as in ringx_walk, for all walks.  steps: the most a walk has.  timed:
     * stamps and timing are wanted (a CPU always measures). */
    ringx_status (*lanes_create)(ringx_lanes **lanes, void *stream, bool one_lane, size_t steps, bool timed);
    void (*lanes_destroy)(ringx_lanes *lanes);
    /* Returns the first failure of either lane (its message in this thread's last error); on failure the other lane
     * stops at its next step.  Allocates nothing.  CUDA: returns when everything is enqueued. */
    ringx_status (*walk)(ringx_lanes *lanes, const ringx_walk *walk);
    /* Waits until what was walked is done, and completes its stamps and timing.  Polls meanwhile, and fails with the
     * poll's failure, or with RINGX_STALLED after deadline_s; *stuck is then the first transfer that is not done, of
     * *pass, else -1. */
    ringx_status (*settle)(ringx_lanes *lanes, double deadline_s, ringx_status (*poll)(void *context), void *context,
                           int64_t *stuck, int *pass);
    ringx_status (*alloc)(size_t bytes, void **memory); /* aligned to 128 */
    void (*free)(void *memory);
    ringx_status (*copy)(void *to, const void *from, size_t bytes); /* between any two memories; done on return */
    /* Host memory that transfers fast; a copy enqueued on a lane's stream (NULL: the default one); waiting for them. */
    ringx_status (*host_alloc)(size_t bytes, void **memory);
    void (*host_free)(void *memory);
    ringx_status (*copy_on)(void *to, const void *from, size_t bytes, void *stream);
    ringx_status (*drain)(void *stream);
    /* Can the device's kernels use it?  Else why not, naming it as `name`. */
    ringx_status (*usable)(const char *name, const void *memory);
    const ringx_peer_ops *peer; /* NULL: ranks cannot reach each other's memory */
};

const ringx_device_ops *ringx__device(ringx_device device); /* NULL where this build has none */
double ringx__now(void);                                    /* monotonic seconds */

#endif
