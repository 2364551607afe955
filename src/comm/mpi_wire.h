/* SPDX-License-Identifier: MIT */
/* The MPI transport, inside: every call is a set of streams to and from other ranks, moved by one loop that never
 * waits without a deadline; a second communicator carries notes about failures and about who is where.
 *
 * Only MPI_Isend, MPI_Irecv and MPI_Test carry data: requests that can be given up when a rank has failed, of which
 * one always knows whom they wait for, and sums that are made in group order. */
#ifndef RINGX_COMM_MPI_WIRE_H
#define RINGX_COMM_MPI_WIRE_H

#include "comm/failure.h"
#include "comm/verbs.h"

#include <pthread.h>
#include <ringx/ringx_mpi.h>

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

typedef struct ringx_note { /* what travels on the control communicator, followed by the bitmap of ranks waited for */
    int32_t kind, from;
    int32_t origin, culprit, status; /* of a failure */
    int32_t waits, verb;             /* a place: is the sender waiting in a call, and in which */
    uint64_t calls, round;
    char what[128];
    char message[RINGX_MESSAGE_BYTES];
} ringx_note;

typedef struct ringx_mail { /* a note being sent */
    struct ringx_mail *next;
    MPI_Request request;
    ringx_note note;
} ringx_mail;

typedef struct ringx_mpi {
    ringx_comm base;
    MPI_Comm data, control;
    pthread_mutex_t
        lock; /* around all use of MPI: a failing compute lane tells others while the other lane is in a call */
    ringx_failure failure;
    ringx_group *all;
    int splits;
    unsigned char *scratch;    /* of folds */
    uint32_t *sent, *received; /* [ranks] messages of exchanges so far */
    size_t *sizes, *offsets;   /* [ranks] pieces of the call */
    size_t *places;            /* [4·ranks] indices of streams of the call */
    const void **sources;      /* [ranks] */

    ringx_stream *streams; /* of the call under way */
    MPI_Request *requests; /* [streams · RINGX_STREAM_WIDTH] */
    size_t n_streams, unfinished, capacity;

    /* control */
    size_t note_bytes;
    ringx_note *inbox, *outbox;
    MPI_Request listen;
    ringx_mail *mail;
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
} ringx_mpi;

/* Tests make them small. */
extern size_t ringx__mpi_cut;   /* largest MPI message in bytes, at least 4 and below 2 GiB */
extern size_t ringx__mpi_small; /* up to so many bytes a whole is not cut into pieces */

/* ---- mpi_wire.c ------------------------------------------------------------------------------------------------- */

/* Starts a call: the communicator is alive, and there is room for so many streams. */
ringx_status ringx__wire_begin(ringx_mpi *mpi, ringx_verb verb, const ringx_call *call, size_t streams);

/* Adds a stream; nothing is added for 0 bytes or for this rank itself.  Segments of at most `segment` bytes (0: the
 * cut), at most `ready` of them for now.  Returns its index, or RINGX_NO_STREAM. */
#define RINGX_NO_STREAM SIZE_MAX
size_t ringx__wire_add(ringx_mpi *mpi, bool send, int peer, int tag, const void *data, size_t bytes, size_t segment,
                       size_t ready);

/* Moves all streams to their end.  moved, if not NULL, is called whenever some have moved on; it may raise `ready`. */
ringx_status ringx__wire_run(ringx_mpi *mpi, const ringx_call *call, void (*moved)(ringx_mpi *mpi, void *context),
                             void *context);

/* Ends a call that is not run (a wrong argument): the failure is told to all. */
ringx_status ringx__wire_refuse(ringx_mpi *mpi, ringx_status status);
#define RINGX_TRY_WIRE(mpi, check)                                                                                     \
    do {                                                                                                               \
        ringx_status ringx__wire_status = (check);                                                                     \
        if (ringx__wire_status != RINGX_OK)                                                                            \
            return ringx__wire_refuse((mpi), ringx__wire_status);                                                      \
    } while (0)

/* Of the group's current call, so that different calls never take each other's messages; kind: 0 or 1. */
int ringx__wire_tag(const ringx_mpi *mpi, const ringx_group *group, int kind);
double ringx__wire_pause(double waited_s); /* how long to sleep before the next look */

/* ---- mpi_errors.c: around every call of MPI that can fail, in pairs --------------------------------------------- */

void ringx__errors_return(void);
void ringx__errors_restore(void);

/* ---- mpi_control.c: with the lock held -------------------------------------------------------------------------- */

ringx_status ringx__control_open(ringx_mpi *mpi);   /* memory */
ringx_status ringx__control_listen(ringx_mpi *mpi); /* once there is a communicator */
/* In bounded time.  Frees everything; mpi_runs: MPI is not finalized. */
void ringx__control_close(ringx_mpi *mpi, bool mpi_runs);

/* Handles all notes that have arrived. */
void ringx__control_poll(ringx_mpi *mpi);

/* The first failure; tells all other ranks. */
void ringx__control_fail(ringx_mpi *mpi, int origin, int culprit, ringx_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void ringx__control_fail_mpi(ringx_mpi *mpi, int error, int peer, const char *doing);

/* A call has waited too long: asks all ranks where they are, and, at later visits, fails the communicator as soon as
 * the answers show who is to blame. */
void ringx__control_ask(ringx_mpi *mpi);
void ringx__control_judge(ringx_mpi *mpi, double waited_s);

/* ---- mpi_calls.c, mpi_fold.c ------------------------------------------------------------------------------------ */

size_t ringx__fold_scratch(int ranks); /* bytes */

ringx_status ringx__mpi_broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes,
                                  int root, const ringx_call *call);
ringx_status ringx__mpi_exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                                 const ringx_message *receives, size_t n_receives, const ringx_call *call);
ringx_status ringx__mpi_allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                                  const size_t *offsets, const ringx_call *call);
ringx_status ringx__mpi_agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call);
ringx_status ringx__mpi_split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call);
ringx_status ringx__mpi_nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call);
ringx_status ringx__mpi_reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                               ringx_dtype dtype, int root, const ringx_call *call);
ringx_status ringx__mpi_reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                       const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                       const ringx_call *call);
ringx_status ringx__mpi_allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                      const ringx_call *call);

#endif
