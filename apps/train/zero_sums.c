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

int zero_sum_range(const zero *z, group *g, size_t first, size_t count, size_t *bounds)
{
    float *all = z->model.gradients;
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

/* Whether the gradients of a micro-batch are summed when it is done: they wait for the step's last, but in stage 2. */
static bool sums_after(const zero *z, bool last)
{
    return last || z->set.stage == 2;
}

void zero_begin(zero *z, bool last)
{
    if (z->lane && sums_after(z, last))
        zero_lane_begin(z);
}

void zero_ready(zero *z, size_t first)
{
    if (z->lane)
        zero_lane_ready(z, first);
}

int zero_end(zero *z)
{
    if (!z->lane)
        return CODE_GOOD;
    zero_lane_ready(z, 0);
    return zero_lane_wait(z);
}

int zero_accumulate(zero *z, bool last)
{
    if (!sums_after(z, last))
        return CODE_GOOD;
    int code = z->lane ? zero_end(z) : sum_all(z);
    if (z->set.stage < 2)
        return code;
    size_t n = zero_own_count(z);
    nn_array own = {z->model.gradients + zero_own_first(z), RINGX_F32, 0}, sum = {z->sum, RINGX_F32, 0};
    nn_sum add = {1, (int64_t)n, sum, own, last ? own : sum};
    if (!code && n)
        code = z->model.on->ops->add(z->model.on, &add);
    if (!code && !last)
        code = z->model.on->ops->zero(z->model.on, z->model.gradients, z->model.elements * sizeof(float));
    return code;
}
