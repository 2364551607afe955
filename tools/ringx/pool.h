/* SPDX-License-Identifier: MIT */
/* Many small jobs, each on a crew of its own size: a team of threads for each core, or one crew of processes. */
#ifndef RINGX_COMMAND_POOL_H
#define RINGX_COMMAND_POOL_H

#include "launch.h"

typedef struct pool {
    uint64_t count;
    int64_t ranks[2]; /* crews of these sizes */
    int (*ranks_of)(void *context, uint64_t index);
    /* Collective over the job's crew; returns the crew's agreed code, at which no job stops the others. */
    int (*run)(crew *c, void *context, uint64_t index);
    void *context;
} pool;

/* Fails only if the ranks cannot be started. */
int pool_run(const settings *s, const pool *p);
/* The range of crew sizes that s and its launcher give. */
int pool_ranks(const settings *s, int64_t ranks[2]);

#endif
