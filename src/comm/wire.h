/* SPDX-License-Identifier: MIT */
/* Ranks that send messages: what the transports of processes (MPI, TCP) have in common.  Every call is a set of streams
 * to and from other ranks, moved by one loop that never waits without a deadline; notes about failures and about who is
 * where travel beside them.  What moves the bytes is the transport's carrier.
 *
 * A carrier gives up a segment when a rank has failed, and it is always known whom one is waited for; sums are made in
 * group order. */
#ifndef RINGX_COMM_WIRE_H
#define RINGX_COMM_WIRE_H

#include "comm/failure.h"
#include "comm/verbs.h"

#include <pthread.h>

struct ringx_group {
    int members, id;
    uint64_t number; /* calls so far */
    int index_of_me;
    int rank_of[];
};

enum { RINGX_STREAM_WIDTH = 2 }; /* segments under way per stream */

typedef struct ringx_stream { /* bytes to or from one rank, in segments */
    int peer, tag;
    bool send;
    unsigned char *data; /* segment s is at data + (s % ring)·segment */
    size_t bytes, segment, ring;
    size_t segments;                   /* of which */
    size_t ready;                      /*   so many may be posted, */
    size_t posted;                     /*   so many are, */
    size_t done;                       /*   and so many are finished, in order */
    bool finished[RINGX_STREAM_WIDTH]; /* out of order, by s % RINGX_STREAM_WIDTH */
} ringx_stream;

typedef struct ringx_note { /* what ranks tell each other, followed by the bitmap of ranks waited for */
    int32_t kind, from;
    int32_t origin, culprit, status; /* of a failure */
    int32_t waits, verb;             /* a place: is the sender waiting in a call, and in which */
    uint64_t calls, round;
    char what[128];
    char message[RINGX_MESSAGE_BYTES];
} ringx_note;

typedef struct ringx_wire ringx_wire;

typedef struct ringx_carrier { /* everything but rest with the lock held */
    /* Around calls of the others, in pairs; NULL: nothing to do. */
    void (*enter)(void);
    void (*leave)(void);
    /* Room for so many streams of a call; NULL: the carrier keeps nothing of them. */
    bool (*grow)(ringx_wire *wire, size_t streams);
    /* Begins a segment of a stream.  False: it failed, and has told so. */
    bool (*post)(ringx_wire *wire, size_t stream, size_t segment);
    /* Moves on; calls ringx__wire_finish for segments that are done.  Returns whether anything moved. */
    bool (*test)(ringx_wire *wire);
    /* After a failure: returns when nothing is written to the streams any more, in bounded time; NULL: nothing is. */
    void (*abandon)(ringx_wire *wire);
    /* Waits until there may be something to do, at most so long.  The only one without the lock. */
    void (*rest)(ringx_wire *wire, double seconds);
    /* A copy of the note leaves as soon as it can.  Without memory for one, its receiver finds out by its own
     * deadline. */
    void (*send_note)(ringx_wire *wire, int rank, const ringx_note *note);
    /* ringx__control_handle for every note that has come. */
    void (*take_notes)(ringx_wire *wire);
} ringx_carrier;

struct ringx_wire { /* first member of the transport's own struct */
    ringx_comm base;
    const ringx_carrier *carrier;
    pthread_mutex_t lock; /* a failing compute lane tells others while the other lane is in a call */
    ringx_failure failure;
    ringx_group *all;
    int splits;
    unsigned char *scratch;    /* of folds */
    uint32_t *sent, *received; /* [ranks] messages of exchanges so far */
    size_t *sizes, *offsets;   /* [ranks] pieces of the call */
    size_t *places;            /* [4·ranks] indices of streams of the call */
    const void **sources;      /* [ranks] */

    ringx_stream *streams; /* of the call under way */
    size_t n_streams, unfinished, capacity;

    /* control */
    size_t note_bytes;
    ringx_note *outbox;
    bool in_call;
    ringx_verb verb;
    char what[128];
    uint64_t calls;
    uint64_t round;       /* of questions */
    double asked;         /* when */
    ringx_note **answers; /* [ranks] the latest; of this round or silent */
    uint64_t *before;     /* [ranks] calls in the round before, if that showed a circle */
    bool circle_before;
    int patience; /* rounds left of this call */
    bool *flags;  /* [2·ranks] */
    int *stack;   /* [ranks] */
};

/* Tests make them small. */
extern size_t ringx__wire_cut;   /* largest segment in bytes, at least 4 and below 2 GiB */
extern size_t ringx__wire_small; /* up to so many bytes a whole is not cut into pieces */

/* ---- wire.c ----------------------------------------------------------------------------------------------------- */

/* Everything of the wire that is memory, with base.rank and base.ranks set; what is missing after a failure is freed by
 * close as well. */
ringx_status ringx__wire_open(ringx_wire *wire, const ringx_carrier *carrier);
void ringx__wire_close(ringx_wire *wire);

/* Starts a call: the communicator is alive, and there is room for so many streams. */
ringx_status ringx__wire_begin(ringx_wire *wire, ringx_verb verb, const ringx_call *call, size_t streams);

/* Adds a stream; nothing is added for 0 bytes or for this rank itself.  Segments of at most `segment` bytes (0: the
 * cut), at most `ready` of them for now.  Returns its index, or RINGX_NO_STREAM. */
#define RINGX_NO_STREAM SIZE_MAX
size_t ringx__wire_add(ringx_wire *wire, bool send, int peer, int tag, const void *data, size_t bytes, size_t segment,
                       size_t ready);

/* Moves all streams to their end.  moved, if not NULL, is called whenever some have moved on; it may raise `ready`. */
ringx_status ringx__wire_run(ringx_wire *wire, const ringx_call *call, void (*moved)(ringx_wire *wire, void *context),
                             void *context);

/* Ends a call that is not run (a wrong argument): the failure is told to all. */
ringx_status ringx__wire_refuse(ringx_wire *wire, ringx_status status);
#define RINGX_TRY_WIRE(wire, check)                                                                                    \
    do {                                                                                                               \
        ringx_status ringx__wire_status = (check);                                                                     \
        if (ringx__wire_status != RINGX_OK)                                                                            \
            return ringx__wire_refuse((wire), ringx__wire_status);                                                     \
    } while (0)

/* Of the group's current call, so that different calls never take each other's messages; kind: 0 or 1. */
int ringx__wire_tag(const ringx_wire *wire, const ringx_group *group, int kind);
double ringx__wire_pause(double waited_s); /* how long to sleep before the next look */
void ringx__wire_rest(double seconds);     /* sleeps; 0: lets others run */

/* For carriers: where a segment of a stream is, how long it is, and that it is done (got: bytes that came). */
unsigned char *ringx__segment_data(const ringx_stream *stream, size_t segment);
size_t ringx__segment_bytes(const ringx_stream *stream, size_t segment);
void ringx__wire_finish(ringx_wire *wire, size_t stream, size_t segment, size_t got);

/* ---- wire_control.c: with the lock held ------------------------------------------------------------------------- */

ringx_status ringx__control_open(ringx_wire *wire); /* memory */
void ringx__control_close(ringx_wire *wire);

/* Handles all notes that have arrived. */
void ringx__control_poll(ringx_wire *wire);
void ringx__control_handle(ringx_wire *wire, const ringx_note *note);

/* The first failure; tells all other ranks. */
void ringx__control_fail(ringx_wire *wire, int origin, int culprit, ringx_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

void ringx__control_tell(ringx_wire *wire); /* the failure that there is, to all others */

/* A call has waited too long: asks all ranks where they are, and, at later visits, fails the communicator as soon as
 * the answers show who is to blame. */
void ringx__control_ask(ringx_wire *wire);
void ringx__control_judge(ringx_wire *wire, double waited_s);

/* ---- wire_calls.c, wire_fold.c: rows of a transport's table ----------------------------------------------------- */

size_t ringx__fold_scratch(int ranks); /* bytes */

ringx_status ringx__wire_broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes,
                                   int root, const ringx_call *call);
ringx_status ringx__wire_exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                                  const ringx_message *receives, size_t n_receives, const ringx_call *call);
ringx_status ringx__wire_allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *bytes, const size_t *offsets, const ringx_call *call);
ringx_status ringx__wire_agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call);
ringx_status ringx__wire_split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call);
void ringx__wire_group_destroy(ringx_comm *comm, ringx_group *group);
ringx_status ringx__wire_reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                                ringx_dtype dtype, int root, const ringx_call *call);
ringx_status ringx__wire_reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                        const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                        const ringx_call *call);
ringx_status ringx__wire_allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                       const ringx_call *call);
void ringx__wire_abort(ringx_comm *comm, int culprit, ringx_status status, const char *message);
ringx_status ringx__wire_poll(ringx_comm *comm);

/* Numbers nodes by their lowest ranks: lowest[r] is the lowest rank on r's node, and becomes the node's number. */
void ringx__number_nodes(int *lowest, int ranks);

#endif
