/* SPDX-License-Identifier: MIT */
/* A step that is not finite: which weight or gradient is to blame. */
#include "train/rates.h"
#include "train/zero.h"

#include <math.h>
#include <stdlib.h>

/* Names rank, tensor (and with it the layer) and value; weights first, since what is wrong there spreads. */
static int name_culprit(const zero *z)
{
    group *world = z->ranks->world;
    ringx_device device = z->model.on->ops->device;
    size_t n = z->model.n_tensors;
    named_values *weights = allocate(2 * n * sizeof *weights), *gradients = weights + n;
    int code = group_agree(world, weights ? CODE_GOOD : CODE_NO_MEMORY);
    for (size_t i = 0; i < n && !code; i++) {
        const zero_tensor *tensor = &z->model.tensors[i];
        size_t begin = 0, some = 0;
        gradients[i] = (named_values){tensor->name, z->model.gradients + tensor->offset, tensor->count};
        weights[i] = (named_values){tensor->name, NULL, 0};
        if (zero_overlap(tensor, z->first, z->count, &begin, &some))
            weights[i] = (named_values){tensor->name, z->master + (tensor->offset + begin - z->first), some};
    }
    if (!code)
        code = check_finite(world, device, "weight", weights, n);
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
