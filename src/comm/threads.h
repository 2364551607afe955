/* SPDX-License-Identifier: MIT */
/* Ranks as threads of one process: what all of them share.
 *
 * A call is posted in the rank's seat, where the others see it; data is copied or summed straight from and to the
 * memory of its owner, outside the lock, and the owner does not return while anyone uses it ("users").  Everything here
 * is under world->lock, except the memory that posts point to. */
#ifndef RINGX_COMM_THREADS_H
#define RINGX_COMM_THREADS_H

#include "comm/failure.h"
#include "comm/verbs.h"

#include <pthread.h>
#include <time.h>

struct ringx_group {
    int members, references;
    int *rank_of;      /* [members] */
    int *index_of;     /* [ranks of the world]; -1: not a member */
    uint64_t *entered; /* [members] calls that the member has come to, */
    uint64_t *done;    /*           and calls in which it has done its part */
};

typedef enum ringx_wait {                    /* what a rank is doing */
                          RINGX_AWAY,        /* not in a call */
                          RINGX_BUSY,        /* in a call, not waiting */
                          RINGX_FOR_ALL,     /* for all members to come */
                          RINGX_FOR_ROOT,    /* for the root to come */
                          RINGX_FOR_DONE,    /* for all members to have done their part */
                          RINGX_FOR_MESSAGES /* for messages to arrive, or to be taken */
} ringx_wait;

typedef struct ringx_post { /* a call, as others see it */
    ringx_verb verb;
    const char *what;
    ringx_group *group; /* NULL: exchange */
    int index;          /* of this rank in the group */
    uint64_t number;    /* of this call in the group */
    int root;
    ringx_dtype dtype;
    size_t size; /* bytes or elements */
    const size_t *sizes, *offsets;
    const void *from;
    void *to;
    const ringx_message *sends, *receives;
    size_t n_sends, n_receives;
    int colour;
} ringx_post;

typedef struct ringx_seat { /* one rank's place */
    pthread_cond_t wake;
    ringx_wait wait;
    ringx_post post; /* unless AWAY */
    bool gone;       /* its communicator is destroyed */
    bool leaving;    /* waits for users to be 0 */
    int users;       /* ranks that use this rank's memory now */
    struct timespec deadline;
    double seconds;          /* that it may wait */
    size_t unread, expected; /* exchange: messages not yet taken by others, not yet received */
    size_t *offer, *next;    /* [ranks] index of the next message to, from that rank; none: below */
    const void **sources;    /* [ranks] scratch of this rank */
    ringx_group *made;       /* by split */
} ringx_seat;

typedef struct ringx_world {
    pthread_mutex_t lock;
    int ranks, references;
    ringx_failure failure;
    ringx_seat *seats;
    ringx_group *all;
    bool *flags; /* [2·ranks] scratch of the one who looks for culprits */
    int *stack;  /* [ranks] */
} ringx_world;

typedef struct ringx_threads {
    ringx_comm base;
    ringx_world *world;
} ringx_threads;

#define RINGX_NO_MESSAGE SIZE_MAX

ringx_status ringx__group_create(ringx_world *world, int members, ringx_group **group);
void ringx__group_release(ringx_group *group);

/* ---- threads_wait.c: with the lock held ------------------------------------------------------------------------- */

bool ringx__seat_ripe(const ringx_world *world, int rank); /* what it waits for has come */

/* Waits until ripe.  Sets the world's failure if the deadline passes, if someone waited for has gone, or if ranks wait
 * for each other in a circle. */
ringx_status ringx__seat_wait(ringx_world *world, int rank, ringx_wait wait);

/* Starts the time that the rank's call may wait. */
void ringx__seat_deadline(ringx_seat *seat, double seconds);

void ringx__seat_signal(ringx_world *world, int rank);
void ringx__world_signal(ringx_world *world);
ringx_status ringx__world_fail(ringx_world *world, int culprit, ringx_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- threads_calls.c -------------------------------------------------------------------------------------------- */

ringx_world *ringx__threads_world(ringx_comm *comm);
int ringx__members_of(ringx_comm *comm, const ringx_group *group);
int ringx__index_in(ringx_comm *comm, const ringx_group *group); /* -1: not a member */

/* Tells all ranks of a wrong argument on this one. */
ringx_status ringx__threads_refuse(ringx_comm *comm, ringx_status status);
#define RINGX_TRY_OWN(comm, check)                                                                                     \
    do {                                                                                                               \
        ringx_status ringx__own_status = (check);                                                                      \
        if (ringx__own_status != RINGX_OK)                                                                             \
            return ringx__threads_refuse((comm), ringx__own_status);                                                   \
    } while (0)

/* Takes the lock and posts.  If false, the next thing to do is to leave. */
bool ringx__threads_enter(ringx_comm *comm, const ringx_post *post, const ringx_call *call);
/* Waits for those who use this rank's memory (they copy, they do not wait), and gives the lock back. */
ringx_status ringx__threads_leave(ringx_comm *comm);

void ringx__seat_hold(ringx_world *world, int rank); /* uses rank's memory until released */
void ringx__seat_release(ringx_world *world, int rank);
void ringx__group_signal(ringx_world *world, const ringx_group *group, int rank); /* all members but rank */
bool ringx__post_complete(const ringx_post *post, const uint64_t *count);         /* every member is past this call */
void ringx__copy(void *to, const void *from, size_t bytes);

/* ---- threads_pairs.c, threads_all.c ----------------------------------------------------------------------------- */

ringx_status ringx__threads_broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes,
                                      int root, const ringx_call *call);
ringx_status ringx__threads_exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                                     const ringx_message *receives, size_t n_receives, const ringx_call *call);
ringx_status ringx__threads_allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                      const size_t *bytes, const size_t *offsets, const ringx_call *call);
ringx_status ringx__threads_reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                                   ringx_dtype dtype, int root, const ringx_call *call);
ringx_status ringx__threads_reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                           const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                           const ringx_call *call);
ringx_status ringx__threads_allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to,
                                          size_t count, const ringx_call *call);
ringx_status ringx__threads_agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call);
ringx_status ringx__threads_split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call);
ringx_status ringx__threads_nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call);

#endif
