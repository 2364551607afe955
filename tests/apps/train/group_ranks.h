/* SPDX-License-Identifier: MIT */
/* Runs a function on the ranks of a group of threads, and joins them. */
#ifndef RINGX_TESTS_GROUP_RANKS_H
#define RINGX_TESTS_GROUP_RANKS_H

#include "train/group.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MOST_GROUP_RANKS = 16 };

typedef struct group_run {
    group *g;
    int (*body)(group *g, void *context);
    void *context;
    int code;
    char message[MESSAGE_BYTES];
    pthread_t thread;
} group_run;

static void *group_run_main(void *argument)
{
    group_run *run = argument;
    run->code = run->body(run->g, run->context);
    failure_copy(run->message);
    group_destroy(run->g);
    return NULL;
}

/* The bodies' codes and messages are left in runs[0 … ranks-1]; their groups are destroyed. */
static inline void run_group(group_run *runs, int ranks, int (*body)(group *, void *), void *context)
{
    group *gs[MOST_GROUP_RANKS];
    assert_int_equal(group_threads(ranks, gs), CODE_GOOD);
    for (int r = 0; r < ranks; r++) {
        runs[r] = (group_run){.g = gs[r], .body = body, .context = context};
        assert_int_equal(pthread_create(&runs[r].thread, NULL, group_run_main, &runs[r]), 0);
    }
    for (int r = 0; r < ranks; r++)
        pthread_join(runs[r].thread, NULL);
}

/* All bodies must end well. */
static inline void run_group_good(int ranks, int (*body)(group *, void *), void *context)
{
    group_run runs[MOST_GROUP_RANKS];
    run_group(runs, ranks, body, context);
    for (int r = 0; r < ranks; r++)
        if (runs[r].code)
            fail_msg("rank %d of %d: code %d: %s", r, ranks, runs[r].code, runs[r].message);
}

#endif
