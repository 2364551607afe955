/* SPDX-License-Identifier: MIT */
/* Sums of gradients over the gradient group. */
#include "nn/operators.h"
#include "train/device_data.h"
#include "train/zero_parts.h"

#include <stdlib.h>

static size_t within(size_t value, size_t least, size_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* From a unit's window into the own share. */
static int sum_window(const zero *z, group *g, size_t first, size_t count, size_t *bounds)
{
    size_t end;
    const zero_unit *u = zero_unit_of(z, first, &end);
    for (int r = 0; r <= group_ranks(g); r++)
        bounds[r] = within(z->bounds[r], first, first + count) - first;
    size_t begin = bounds[group_rank(g)], some = bounds[group_rank(g) + 1] - begin;
    float *window = z->model.gradients + u->place + (first - u->first);
    return device_reduce_scatter(g, zero_device(z), window, bounds,
                                 some ? zero_gradient(z, first + begin) : window); /* no part of it is written to */
}

int zero_sum_range(const zero *z, group *g, size_t first, size_t count, size_t *bounds)
{
    float *all = z->model.gradients;
    if (z->split)
        return sum_window(z, g, first, count, bounds);
    if (z->set.stage == 0)
        return device_all_reduce(g, zero_device(z), GROUP_SUM, all + first, count);
    for (int r = 0; r <= group_ranks(g); r++)
        bounds[r] = within(z->bounds[r], first, first + count);
    return device_reduce_scatter(g, zero_device(z), all, bounds, all + bounds[group_rank(g)]);
}

/* Owners get their whole share at once: the ranks then are equally busy.  On a device nothing is gained by buckets, and
 * each would be waited for. */
static int sum_all(zero *z)
{
    group *g = z->ranks->gradient;
    bool cut = z->set.bucket && z->set.stage == 0 && zero_device(z) == RINGX_CPU;
    size_t all = z->model.elements, bucket = cut ? z->set.bucket : all;
    size_t *bounds = allocate(((size_t)group_ranks(g) + 1) * sizeof *bounds);
    int code = bounds ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t at = 0; at < all && !code; at += bucket)
        code = zero_sum_range(z, g, at, all - at < bucket ? all - at : bucket, bounds);
    free(bounds);
    return code;
}

/* Whether the gradients of a micro-batch are summed when it is done: they wait for the step's last, unless they have no
 * memory to wait in. */
static bool sums_after(const zero *z, bool last)
{
    return last || z->split;
}

void zero_begin(zero *z, bool last)
{
    z->found = false;
    if (z->lane && sums_after(z, last))
        zero_lane_begin(z);
}

/* What earlier micro-batches gave is where this one adds to: an own element's sum, and 0 on other ranks. */
static int bring_back(const zero *z, const zero_unit *u, size_t end)
{
    size_t own = zero_own_first(z), from = within(own, u->first, end);
    size_t count = within(own + zero_own_count(z), u->first, end) - from;
    if (!count)
        return CODE_GOOD;
    nn_array sum = {zero_gradient(z, from), RINGX_F32, 0};
    nn_array window = {z->model.gradients + u->place + (from - u->first), RINGX_F32, 0};
    return zero_convert(z, sum, window, count);
}

int zero_claim(zero *z, size_t first)
{
    if (!z->split)
        return CODE_GOOD;
    size_t end;
    const zero_unit *u = zero_unit_of(z, first, &end);
    int code = zero_lane_wait(z, u->after);
    if (!code)
        code = z->model.on->ops->zero(z->model.on, z->model.gradients + u->place, (end - u->first) * sizeof(float));
    return code || !z->summed ? code : bring_back(z, u, end);
}

int zero_ready(zero *z, size_t first)
{
    if (z->split && !zero_lane_runs(z))
        return zero_search(z, first);
    return z->lane ? zero_lane_ready(z, first) : CODE_GOOD;
}

int zero_end(zero *z)
{
    return z->lane && zero_lane_runs(z) ? zero_lane_finish(z) : CODE_GOOD;
}

int zero_give_up(zero *z, int code, bool agreed)
{
    char why[MESSAGE_BYTES];
    if (!code || !z->lane)
        return code;
    failure_copy(why);
    if (code == CODE_PEER_DIED || code == CODE_STALLED) {
        zero_lane_stop(z, code);
    } else {
        zero_lane_drain(z);
        if (agreed)
            zero_lane_settle(z);
    }
    failure_set(why);
    return code;
}

int zero_accumulate(zero *z, bool last)
{
    if (!sums_after(z, last))
        return CODE_GOOD;
    int code = z->lane ? zero_end(z) : sum_all(z);
    z->summed = z->split && !code;
    return code;
}
