/* SPDX-License-Identifier: MIT */
/* What the files of the optimizer share. */
#ifndef RINGX_TRAIN_ZERO_PARTS_H
#define RINGX_TRAIN_ZERO_PARTS_H

#include "train/zero.h"

static inline int zero_owner(const zero *z)
{
    return group_rank(z->ranks->gradient);
}

static inline size_t zero_own_first(const zero *z)
{
    return z->bounds[zero_owner(z)];
}

static inline size_t zero_own_count(const zero *z)
{
    return z->bounds[zero_owner(z) + 1] - z->bounds[zero_owner(z)];
}

static inline ringx_device zero_device(const zero *z)
{
    return z->model.on->ops->device;
}

/* zero_lane.c: a thread of this rank that sums gradients, bucket after bucket from the last elements to the first,
 * while the caller's thread computes more of them. */
int zero_lane_start(zero *z); /* collective over the gradient group; none where nothing is to be overlapped */
void zero_lane_end(zero *z);  /* collective, too: all ranks' lanes finish what they began */
void zero_lane_begin(zero *z);
void zero_lane_ready(zero *z, size_t first);
int zero_lane_wait(zero *z);

/* zero_sums.c: sums elements first … first+count-1 over g, a group like the gradient group: at their owners (stages 1
 * and 2) or everywhere.  bounds: room for the ranks + 1. */
int zero_sum_range(const zero *z, group *g, size_t first, size_t count, size_t *bounds);

#endif
