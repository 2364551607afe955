/* SPDX-License-Identifier: MIT */
/* The schedules of all ranks in one direction, for what is done on paper. */
#ifndef RINGX_ALL_RANKS_H
#define RINGX_ALL_RANKS_H

#include "api/choose.h"

typedef struct ringx_all_ranks {
    int ranks;
    ringx_schedule *schedule;
    const ringx_schedule **list; /* pointers to each of them, in rank order */
} ringx_all_ranks;

/* choice and shape must outlive the result. */
ringx_status ringx__all_ranks_build(ringx_all_ranks *all, const ringx_choice *choice, const ringx_shape *shape,
                                    int ranks, bool backward);
void ringx__all_ranks_free(ringx_all_ranks *all);

#endif
