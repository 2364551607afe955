/* SPDX-License-Identifier: MIT */
/* Optimizer steps and sums of squares on CPUs.  Sums go over fixed blocks, so that threads do not change them. */
#include "nn/nn_cpu.h"
#include "nn/rows.h"
#include "shared/report.h"

#include <math.h>
#include <stdlib.h>

enum { SUM_BLOCK = 4096 };

static int64_t blocks_of(int64_t count)
{
    return (count + SUM_BLOCK - 1) / SUM_BLOCK;
}

int nn_cpu_sum_squares(const nn_context *on, const float *values, int64_t count, double *sum)
{
    (void)on;
    double *part = allocate((size_t)blocks_of(count) * sizeof *part);
    if (!part)
        return CODE_NO_MEMORY;
#pragma omp parallel for schedule(static) if (nn_worth(count))
    for (int64_t b = 0; b < blocks_of(count); b++)
        for (int64_t i = b * SUM_BLOCK; i < nn_least((b + 1) * SUM_BLOCK, count); i++)
            part[b] += (double)values[i] * (double)values[i];
    *sum = 0;
    for (int64_t b = 0; b < blocks_of(count); b++)
        *sum += part[b];
    free(part);
    return CODE_GOOD;
}

int nn_cpu_adam(const nn_context *on, const nn_update *u)
{
    (void)on;
    double correct1 = 1 - pow(u->beta1, (double)u->step), correct2 = sqrt(1 - pow(u->beta2, (double)u->step));
#pragma omp parallel for schedule(static) if (nn_worth(8 * u->count))
    for (int64_t i = 0; i < u->count; i++) {
        double g = (double)u->gradient[i] * u->gradient_scale, w = (double)u->weight[i];
        if (!u->decoupled)
            g += u->decay * w;
        double m = u->beta1 * (double)u->m[i] + (1 - u->beta1) * g;
        double v = u->beta2 * (double)u->v[i] + (1 - u->beta2) * g * g;
        double direction = m / correct1 / (sqrt(v) / correct2 + u->eps) + (u->decoupled ? u->decay * w : 0);
        u->m[i] = (float)m, u->v[i] = (float)v, u->weight[i] = (float)(w - u->lr * direction);
    }
    return CODE_GOOD;
}

/* What LAMB moves a weight by, before lr and trust: no bias correction in it. */
static double lamb_direction(const nn_update *u, int64_t i)
{
    return (double)u->m[i] / (sqrt((double)u->v[i]) + u->eps) + u->decay * (double)u->weight[i];
}

int nn_cpu_lamb_moments(const nn_context *on, const nn_update *u, double squares[2])
{
    (void)on;
    double(*part)[2] = allocate((size_t)blocks_of(u->count) * sizeof *part);
    if (!part)
        return CODE_NO_MEMORY;
#pragma omp parallel for schedule(static) if (nn_worth(8 * u->count))
    for (int64_t b = 0; b < blocks_of(u->count); b++)
        for (int64_t i = b * SUM_BLOCK; i < nn_least((b + 1) * SUM_BLOCK, u->count); i++) {
            double g = (double)u->gradient[i] * u->gradient_scale;
            u->m[i] = (float)(u->beta1 * (double)u->m[i] + (1 - u->beta1) * g);
            u->v[i] = (float)(u->beta2 * (double)u->v[i] + (1 - u->beta2) * g * g);
            double direction = lamb_direction(u, i);
            part[b][0] += (double)u->weight[i] * (double)u->weight[i];
            part[b][1] += direction * direction;
        }
    squares[0] = squares[1] = 0;
    for (int64_t b = 0; b < blocks_of(u->count); b++)
        squares[0] += part[b][0], squares[1] += part[b][1];
    free(part);
    return CODE_GOOD;
}

int nn_cpu_lamb_apply(const nn_context *on, const nn_update *u)
{
    (void)on;
    double lr = u->lr * sqrt(1 - pow(u->beta2, (double)u->step)) / (1 - pow(u->beta1, (double)u->step)) * u->trust;
#pragma omp parallel for schedule(static) if (nn_worth(8 * u->count))
    for (int64_t i = 0; i < u->count; i++)
        u->weight[i] = (float)((double)u->weight[i] - lr * lamb_direction(u, i));
    return CODE_GOOD;
}
