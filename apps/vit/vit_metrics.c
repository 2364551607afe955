/* SPDX-License-Identifier: MIT */
/* Sums in double, in blocks of tokens whose size is fixed: the same whatever the number of threads. */
#include "vit/vit_metrics.h"

#include "shared/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256 }; /* tokens */

/* Token t of sample b: adds to sums[channels]. */
static void add_token(const vit_view *v, int64_t b, int64_t t, const double *weights, vit_sums *sums)
{
    int64_t square = v->patch * v->patch, row = square * v->channels, at = (b * v->tokens + t) * row;
    const double *weight = weights + v->positions[t] / v->across * v->patch;
    for (int64_t c = 0; c < v->channels; c++)
        for (int64_t i = 0; i < square; i++) {
            double w = weight[i / v->patch];
            double target = (double)v->target[at + c * square + i];
            double prediction = (double)v->prediction[at + i * v->channels + c];
            sums[c].error += w * (prediction - target) * (prediction - target);
            sums[c].prediction += w * prediction * prediction;
            sums[c].target += w * target * target;
            sums[c].product += w * prediction * target;
        }
}

int vit_metric_sums(const vit_view *v, const double *weights, vit_sums *sums)
{
    int64_t blocks = (v->tokens + BLOCK - 1) / BLOCK;
    vit_sums *part = allocate((size_t)(v->batch * blocks * v->channels) * sizeof *part);
    if (!part)
        return CODE_NO_MEMORY;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < v->batch * blocks; i++)
        for (int64_t t = i % blocks * BLOCK; t < v->tokens && t < (i % blocks + 1) * BLOCK; t++)
            add_token(v, i / blocks, t, weights, part + i * v->channels);
    memset(sums, 0, (size_t)(v->batch * v->channels) * sizeof *sums);
    for (int64_t i = 0; i < v->batch * blocks; i++)
        for (int64_t c = 0; c < v->channels; c++) {
            vit_sums *to = &sums[i / blocks * v->channels + c];
            const vit_sums *from = &part[i * v->channels + c];
            to->error += from->error, to->prediction += from->prediction;
            to->target += from->target, to->product += from->product;
        }
    free(part);
    return CODE_GOOD;
}

double vit_rmse(const vit_sums *s, double pixels)
{
    return sqrt(s->error / pixels);
}

double vit_acc(const vit_sums *s)
{
    return s->product / sqrt(s->prediction * s->target);
}
