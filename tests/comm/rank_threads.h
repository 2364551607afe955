/* SPDX-License-Identifier: MIT */
/* Runs a function on the ranks of a threads communicator, one thread each, and joins them. */
#ifndef RINGX_TESTS_RANK_THREADS_H
#define RINGX_TESTS_RANK_THREADS_H

#include "comm/comm.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MOST_TEST_RANKS = 16 };

typedef struct rank_thread {
    ringx_comm *comm;
    void (*body)(struct rank_thread *self);
    void *context;
    ringx_status status; /* what the body found */
    double seconds;      /* how long it took */
    char message[RINGX_MESSAGE_BYTES + 128];
    pthread_t thread;
} rank_thread;

static void *rank_main(void *argument)
{
    rank_thread *self = argument;
    self->body(self);
    ringx_comm_destroy(self->comm);
    return NULL;
}

/* plan: NULL, or rules for the faulty transport around every rank.  The bodies' communicators are destroyed. */
static inline void start_ranks(rank_thread *threads, int ranks, const char *plan, void (*body)(rank_thread *),
                               void *context)
{
    ringx_comm *comms[MOST_TEST_RANKS];
    assert_int_equal(ringx_comm_threads(ranks, comms), RINGX_OK);
    for (int r = 0; r < ranks; r++) {
        threads[r] = (rank_thread){.comm = comms[r], .body = body, .context = context};
        if (plan)
            assert_int_equal(ringx_comm_faulty(comms[r], plan, &threads[r].comm), RINGX_OK);
    }
    for (int r = 0; r < ranks; r++)
        assert_int_equal(pthread_create(&threads[r].thread, NULL, rank_main, &threads[r]), 0);
}

static inline void join_ranks(rank_thread *threads, int ranks)
{
    for (int r = 0; r < ranks; r++)
        pthread_join(threads[r].thread, NULL);
}

static inline void run_ranks(rank_thread *threads, int ranks, const char *plan, void (*body)(rank_thread *),
                             void *context)
{
    start_ranks(threads, ranks, plan, body, context);
    join_ranks(threads, ranks);
}

/* Ends a body: keeps the status and its message. */
static inline void note(rank_thread *self, ringx_status status)
{
    self->status = status;
    if (status != RINGX_OK)
        snprintf(self->message, sizeof self->message, "%s", ringx_last_error());
}

static inline void expect(const rank_thread *t, int rank, ringx_status status, const char *part)
{
    if (t[rank].status != status || (part && !strstr(t[rank].message, part)))
        fail_msg("rank %d: status %d (%s), message \"%s\"; expected %d (%s) and \"%s\"", rank, (int)t[rank].status,
                 ringx_status_name(t[rank].status), t[rank].message, (int)status, ringx_status_name(status),
                 part ? part : "");
}

#endif
