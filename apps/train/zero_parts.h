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

/* Gradients of an element: of an own one where gradients are split. */
static inline float *zero_gradient(const zero *z, size_t element)
{
    return z->split ? z->sum + (element - zero_own_first(z)) : z->model.gradients + element;
}

/* The unit that holds an element, and the one after it: where it ends. */
static inline const zero_unit *zero_unit_of(const zero *z, size_t element, size_t *end)
{
    size_t u = z->model.n_units - 1;
    *end = z->model.elements;
    while (z->model.units[u].first > element)
        *end = z->model.units[u--].first;
    return &z->model.units[u];
}

/* zero_lane.c: sums of gradients in the middle of backward, piece after piece from the last elements to the first. */
int zero_lane_start(zero *z); /* collective over the gradient group; none where nothing is to be summed early */
void zero_lane_end(zero *z);  /* collective, too: all ranks' lanes finish what they began */
void zero_lane_begin(zero *z);
bool zero_lane_runs(const zero *z); /* between zero_lane_begin and zero_lane_finish */
int zero_lane_ready(zero *z, size_t first);
int zero_lane_wait(zero *z, size_t first); /* until elements from there on are summed, or sums have failed */
int zero_lane_finish(zero *z);
/* A step is given up.  Drain: this rank takes part in all sums that others begin before they know of it; it waits for
 * them only where the caller's thread makes them.  Settle: until they are done.  Stop: no more of them, since a rank is
 * lost. */
void zero_lane_drain(zero *z);
void zero_lane_settle(zero *z);
void zero_lane_stop(zero *z, int code);

/* zero_sums.c: sums elements first … first+count-1 over g, a group like the gradient group: at their owners (stages 1
 * and 2) or everywhere.  bounds: room for the ranks + 1. */
int zero_sum_range(const zero *z, group *g, size_t first, size_t count, size_t *bounds);

/* zero_refuse.c: looks for what is not finite in the gradients of a unit's window. */
int zero_search(zero *z, size_t first);

/* Copies values, of any two dtypes. */
int zero_convert(const zero *z, nn_array from, nn_array to, size_t count);

#endif
