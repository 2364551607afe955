/* SPDX-License-Identifier: MIT */
/* Options resolved: which algorithm, layout, lookahead, slices and kernel. */
#ifndef RINGX_CHOOSE_H
#define RINGX_CHOOSE_H

#include <string.h>

#include "algo/algo.h"
#include "kernel/kernel.h"

typedef struct ringx_choice {
    const char *preset; /* a table's string, or "custom" */
    const ringx_algo *algo;
    ringx_layout layout;
    int lookahead, slices, head_ranks, ranks_per_node, threads; /* slices: of the pass with more */
    ringx_slicing forward, backward;
    bool two_level, joined, awaits; /* as in ringx_geometry; awaits: of a forward */
    bool early;                     /* the last grads of a backward in which keys travel may be one launch (early.c) */
    ringx_dtype wire;
    const ringx_kernel *kernel;
} ringx_choice;

/* Checks options without looking at other ranks.  paper: nothing will run, so this machine need not have the device. */
ringx_status ringx__options_check(const ringx_options *options, const ringx_shape *shape, int ranks, bool paper);

/* node_ranks: ranks per node if all nodes have equally many, consecutive ranks; else 1. */
ringx_status ringx__choose(ringx_choice *choice, const ringx_options *options, const ringx_shape *shape, int ranks,
                           int node_ranks, bool paper);

static inline bool ringx__choice_is(const ringx_choice *choice, const char *algorithm)
{
    return strcmp(choice->algo->name, algorithm) == 0;
}

/* The most slices of a forward whose one kernel awaits the keys of all other ranks, two or more in all. */
int ringx__most_awaited(int ranks);

/* Sets slices, forward and backward; all else has been chosen. */
void ringx__choose_slices(ringx_choice *choice, const ringx_options *options, const ringx_shape *shape, int ranks);

/* The geometry of one rank under a choice; shape and choice->layout must outlive it. */
ringx_geometry ringx__choice_geometry(const ringx_choice *choice, const ringx_shape *shape, int rank);

/* One rank's closed schedule of one direction. */
ringx_status ringx__choice_schedule(ringx_schedule *schedule, const ringx_choice *choice, const ringx_shape *shape,
                                    int rank, bool backward);

/* Bytes of the workspace that schedules and kernel scratch need together; *schedule_bytes: where scratch begins. */
size_t ringx__choice_workspace(const ringx_choice *choice, const ringx_shape *shape, const ringx_schedule *forward,
                               const ringx_schedule *backward, size_t *schedule_bytes);

/* Traffic of a schedule, for ringx_plan_info. */
ringx_traffic ringx__schedule_traffic(const ringx_schedule *schedule);

#endif
