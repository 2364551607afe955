/* SPDX-License-Identifier: MIT */
/* RMSNorm and LayerNorm on CPUs.  A row's statistics are computed again in backward: nothing is kept between the two.
 *
 * With c = x − mean (RMSNorm: c = x), r = 1/√(mean c² + eps) and x̂ = c·r:
 *     y = x̂·weight + bias
 *     dx = r·(g − x̂·mean(g·x̂) [− mean g])   where g = dy·weight, [ ]: LayerNorm only
 *     dweight += Σ dy·x̂, dbias += Σ dy */
#include "nn/nn_cpu.h"
#include "nn/rows.h"
#include "shared/report.h"

#include <math.h>
#include <stdlib.h>

typedef struct statistics {
    float mean, inverse;
} statistics;

static statistics statistics_of(const nn_norm *n, int64_t t, bool centred)
{
    double sum = 0, squares = 0, mean = 0, width = (double)n->width;
    float buffer[NN_BLOCK];
    for (int pass = centred ? 0 : 1; pass < 2; pass++) {
        for (int64_t j = 0; j < n->width; j += NN_BLOCK) {
            int64_t count = nn_least(NN_BLOCK, n->width - j);
            const float *x = nn_load(n->x.dtype, nn_at(&n->x, n->width, t, j), count, buffer);
            for (int64_t i = 0; i < count; i++) {
                double c = (double)x[i] - mean;
                sum += c;
                squares += c * c;
            }
        }
        if (pass == 0)
            mean = sum / width, squares = 0;
    }
    return (statistics){(float)mean, (float)(1 / sqrt(squares / width + n->eps))};
}

static void forward_row(const nn_norm *n, int64_t t, bool centred)
{
    statistics s = statistics_of(n, t, centred);
    float x_buffer[NN_BLOCK], y_buffer[NN_BLOCK], weight_buffer[NN_BLOCK], bias_buffer[NN_BLOCK];
    for (int64_t j = 0; j < n->width; j += NN_BLOCK) {
        int64_t count = nn_least(NN_BLOCK, n->width - j);
        const float *x = nn_load(n->x.dtype, nn_at(&n->x, n->width, t, j), count, x_buffer);
        const float *weight = nn_load(n->weight.dtype, nn_at(&n->weight, n->width, 0, j), count, weight_buffer);
        void *to = nn_at(&n->y, n->width, t, j);
        float *y = nn_place(n->y.dtype, to, y_buffer);
        for (int64_t i = 0; i < count; i++)
            y[i] = (x[i] - s.mean) * s.inverse * weight[i];
        if (centred) {
            const float *bias = nn_load(n->bias.dtype, nn_at(&n->bias, n->width, 0, j), count, bias_buffer);
            for (int64_t i = 0; i < count; i++)
                y[i] += bias[i];
        }
        nn_store(n->y.dtype, to, count, y);
    }
}

static int forward(const nn_norm *n, bool centred)
{
#pragma omp parallel for schedule(static) if (nn_worth(n->tokens * n->width))
    for (int64_t t = 0; t < n->tokens; t++)
        forward_row(n, t, centred);
    return CODE_GOOD;
}

static void backward_row(const nn_norm *n, int64_t t, statistics s, bool centred)
{
    float x_buffer[NN_BLOCK], dy_buffer[NN_BLOCK], weight_buffer[NN_BLOCK], dx_buffer[NN_BLOCK];
    double sum = 0, product = 0;
    for (int pass = 0; pass < 2; pass++) {
        float mean = centred ? (float)(sum / (double)n->width) : 0, along = (float)(product / (double)n->width);
        for (int64_t j = 0; j < n->width; j += NN_BLOCK) {
            int64_t count = nn_least(NN_BLOCK, n->width - j);
            const float *x = nn_load(n->x.dtype, nn_at(&n->x, n->width, t, j), count, x_buffer);
            const float *dy = nn_load(n->dy.dtype, nn_at(&n->dy, n->width, t, j), count, dy_buffer);
            const float *weight = nn_load(n->weight.dtype, nn_at(&n->weight, n->width, 0, j), count, weight_buffer);
            if (pass == 0) {
                for (int64_t i = 0; i < count; i++) {
                    double g = (double)dy[i] * (double)weight[i];
                    sum += g;
                    product += g * (double)((x[i] - s.mean) * s.inverse);
                }
                continue;
            }
            void *to = nn_at(&n->dx, n->width, t, j);
            const float *old = n->add ? nn_load(n->dx.dtype, to, count, dx_buffer) : NULL;
            float *dx = nn_place(n->dx.dtype, to, dx_buffer);
            for (int64_t i = 0; i < count; i++) {
                float normal = (x[i] - s.mean) * s.inverse;
                dx[i] = s.inverse * (dy[i] * weight[i] - normal * along - mean) + (old ? old[i] : 0);
            }
            nn_store(n->dx.dtype, to, count, dx);
        }
    }
}

/* Columns j … of dweight and dbias, in tiles of tokens. */
static void backward_columns(const nn_norm *n, int64_t j, const statistics *s, bool centred)
{
    int64_t count = nn_least(NN_BLOCK, n->width - j);
    float x_buffer[NN_BLOCK], dy_buffer[NN_BLOCK];
    for (int64_t first = 0; first < n->tokens; first += NN_TILE) {
        double weight[NN_BLOCK] = {0}, bias[NN_BLOCK] = {0};
        for (int64_t t = first; t < nn_least(first + NN_TILE, n->tokens); t++) {
            const float *x = nn_load(n->x.dtype, nn_at(&n->x, n->width, t, j), count, x_buffer);
            const float *dy = nn_load(n->dy.dtype, nn_at(&n->dy, n->width, t, j), count, dy_buffer);
            for (int64_t i = 0; i < count; i++) {
                weight[i] += (double)dy[i] * (double)((x[i] - s[t].mean) * s[t].inverse);
                bias[i] += (double)dy[i];
            }
        }
        for (int64_t i = 0; i < count; i++) {
            n->dweight[j + i] += (float)weight[i];
            if (centred)
                n->dbias[j + i] += (float)bias[i];
        }
    }
}

static int backward(const nn_norm *n, bool centred)
{
    statistics *s = allocate((size_t)n->tokens * sizeof *s);
    if (!s)
        return CODE_NO_MEMORY;
#pragma omp parallel if (nn_worth(4 * n->tokens * n->width))
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < n->tokens; t++)
            s[t] = statistics_of(n, t, centred);
#pragma omp for schedule(static)
        for (int64_t j = 0; j < n->width; j += NN_BLOCK)
            backward_columns(n, j, s, centred);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < n->tokens; t++) /* last: dx may be dy */
            backward_row(n, t, s[t], centred);
    }
    free(s);
    return CODE_GOOD;
}

int nn_cpu_rms_norm_forward(const nn_context *on, const nn_norm *n)
{
    (void)on;
    return forward(n, false);
}

int nn_cpu_rms_norm_backward(const nn_context *on, const nn_norm *n)
{
    (void)on;
    return backward(n, false);
}

int nn_cpu_layer_norm_forward(const nn_context *on, const nn_norm *n)
{
    (void)on;
    return forward(n, true);
}

int nn_cpu_layer_norm_backward(const nn_context *on, const nn_norm *n)
{
    (void)on;
    return backward(n, true);
}
