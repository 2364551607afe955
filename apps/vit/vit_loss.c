/* SPDX-License-Identifier: MIT */
/* Sums in double, in blocks of tokens whose size is fixed: the same whatever the number of threads. */
#include "vit/vit_loss.h"

#include "shared/report.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 64 }; /* tokens */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* sums[2] of tokens first … end-1 of sample b. */
static void block_sums(const vit_view *v, int64_t b, int64_t first, int64_t end, double *sums)
{
    int64_t square = v->patch * v->patch, row = square * v->channels;
    sums[0] = sums[1] = 0;
    for (int64_t t = b * v->tokens + first; t < b * v->tokens + end; t++)
        for (int64_t c = 0; c < v->channels; c++)
            for (int64_t i = 0; i < square; i++) {
                double target = (double)v->target[t * row + c * square + i];
                double d = (double)v->prediction[t * row + i * v->channels + c] - target;
                sums[0] += d * d;
                sums[1] += target * target;
            }
}

int vit_loss_sums(const vit_view *v, double *sums)
{
    int64_t blocks = (v->tokens + BLOCK - 1) / BLOCK;
    double *part = allocate((size_t)(2 * v->batch * blocks) * sizeof *part);
    if (!part)
        return CODE_NO_MEMORY;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < v->batch * blocks; i++) {
        int64_t first = i % blocks * BLOCK;
        block_sums(v, i / blocks, first, least(first + BLOCK, v->tokens), part + 2 * i);
    }
    for (int64_t b = 0; b < v->batch; b++) {
        sums[2 * b] = sums[2 * b + 1] = 0;
        for (int64_t i = b * blocks; i < (b + 1) * blocks; i++)
            sums[2 * b] += part[2 * i], sums[2 * b + 1] += part[2 * i + 1];
    }
    free(part);
    return CODE_GOOD;
}

void vit_loss_gradient(const vit_view *v, const double *factors, float *gradient)
{
    int64_t square = v->patch * v->patch, row = square * v->channels;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < v->batch * v->tokens; t++)
        for (int64_t c = 0; c < v->channels; c++)
            for (int64_t i = 0; i < square; i++) {
                int64_t at = t * row + i * v->channels + c;
                double d = (double)v->prediction[at] - (double)v->target[t * row + c * square + i];
                gradient[at] = (float)(factors[t / v->tokens] * d);
            }
}

void vit_loss_of_sums(int64_t batch, const double *sums, double scale, double *losses, double *factors)
{
    for (int64_t b = 0; b < batch; b++) {
        double difference = sqrt(sums[2 * b]), size = sqrt(sums[2 * b + 1]);
        losses[b] = difference / size;
        factors[b] = difference == 0 ? 0 : scale / (difference * size);
    }
}
