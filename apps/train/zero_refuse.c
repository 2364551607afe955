/* SPDX-License-Identifier: MIT */
/* A step that is not finite: which weight or gradient is to blame. */
#include "train/rates.h"
#include "train/zero_parts.h"

#include <math.h>
#include <stdlib.h>

int zero_search(zero *z, size_t first)
{
    size_t end;
    const zero_unit *u = zero_unit_of(z, first, &end);
    for (size_t i = 0; i < z->model.n_tensors && !z->found; i++) {
        const zero_tensor *t = &z->model.tensors[i];
        if (t->offset < u->first || t->offset >= end)
            continue;
        named_values window = {t->name, z->model.gradients + u->place + (t->offset - u->first), t->count};
        int code = find_not_finite(zero_device(z), "gradient", &window, 1);
        if (code && code != CODE_NOT_FINITE)
            return code;
        z->found = code != CODE_GOOD;
        if (z->found)
            failure_copy(z->what_found);
    }
    return CODE_GOOD;
}

/* A tensor's part of states, which are those of elements first … first+count-1. */
static named_values own_part(const zero_tensor *t, const float *states, size_t first, size_t count)
{
    size_t begin = 0, some = 0;
    return zero_overlap(t, first, count, &begin, &some)
               ? (named_values){t->name, states + (t->offset + begin - first), some}
               : (named_values){t->name, NULL, 0};
}

/* Names rank, tensor (and with it the layer) and value; weights first, since what is wrong there spreads. */
static int name_culprit(const zero *z)
{
    group *world = z->ranks->world;
    ringx_device device = zero_device(z);
    size_t n = z->model.n_tensors;
    named_values *weights = allocate(2 * n * sizeof *weights), *gradients = weights + n;
    int code = group_agree(world, weights ? CODE_GOOD : CODE_NO_MEMORY);
    for (size_t i = 0; i < n && !code; i++) {
        const zero_tensor *t = &z->model.tensors[i];
        weights[i] = own_part(t, z->master, z->first, z->count);
        gradients[i] = z->split ? own_part(t, z->sum, zero_own_first(z), zero_own_count(z))
                                : (named_values){t->name, z->model.gradients + t->offset, t->count};
    }
    if (!code)
        code = check_finite(world, device, "weight", weights, n);
    if (!code)
        code = group_agree(world, z->found ? fail(CODE_NOT_FINITE, "%s", z->what_found) : CODE_GOOD);
    if (!code)
        code = check_finite(world, device, "gradient", gradients, n);
    free(weights);
    return code;
}

int zero_refuse(const zero *z, int64_t iteration, const char *what, double value)
{
    char why[MESSAGE_BYTES];
    int code = name_culprit(z);
    if (code && code != CODE_NOT_FINITE)
        return code;
    snprintf(why, sizeof why, "%.1000s", code ? failure() : "every weight and gradient is finite");
    return fail(CODE_NOT_FINITE, "iteration %lld: %s is %g; nothing was updated; %s", (long long)iteration, what,
                isnan(value) ? fabs(value) : value, why); /* a NaN's sign says nothing */
}
