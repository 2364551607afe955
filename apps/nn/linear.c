/* SPDX-License-Identifier: MIT */
/* Linear layers as products, and on CPUs. */
#include "nn/nn_cpu.h"
#include "nn/product.h"
#include "nn/rows.h"

static nn_array strided(nn_array a, int64_t width)
{
    a.stride = a.stride ? a.stride : width;
    return a;
}

static nn_product forward(const nn_linear *l)
{
    return (nn_product){.rows = l->tokens,
                        .columns = l->out,
                        .depth = l->in,
                        .a = strided(l->x, l->in),
                        .b = strided(l->w, l->in),
                        .b_transposed = true,
                        .c = strided(l->y, l->out),
                        .bias = l->bias,
                        .add = l->add};
}

static nn_product backward_input(const nn_linear *l)
{
    return (nn_product){.rows = l->tokens,
                        .columns = l->in,
                        .depth = l->out,
                        .a = strided(l->dy, l->out),
                        .b = strided(l->w, l->in),
                        .c = strided(l->dx, l->in),
                        .add = l->add};
}

static nn_product backward_weight(const nn_linear *l)
{
    return (nn_product){.rows = l->out,
                        .columns = l->in,
                        .depth = l->tokens,
                        .a = strided(l->dy, l->out),
                        .a_transposed = true,
                        .b = strided(l->x, l->in),
                        .c = {l->dw, RINGX_F32, l->in},
                        .add = true};
}

nn_product nn_linear_product(const nn_linear *l, nn_linear_step step)
{
    return step == NN_LINEAR_FORWARD          ? forward(l)
           : step == NN_LINEAR_BACKWARD_INPUT ? backward_input(l)
                                              : backward_weight(l);
}

int nn_cpu_linear_forward(const nn_context *on, const nn_linear *l)
{
    (void)on;
    nn_product p = forward(l);
    nn_multiply(&p);
    return 0;
}

int nn_cpu_linear_backward_input(const nn_context *on, const nn_linear *l)
{
    (void)on;
    nn_product p = backward_input(l);
    nn_multiply(&p);
    return 0;
}

/* dbias += Σ dy, in tiles of tokens. */
static void sum_bias(const nn_linear *l)
{
#pragma omp parallel for schedule(static) if (nn_worth(l->tokens * l->out))
    for (int64_t j = 0; j < l->out; j += NN_BLOCK) {
        int64_t n = nn_least(NN_BLOCK, l->out - j);
        for (int64_t first = 0; first < l->tokens; first += NN_TILE) {
            double sum[NN_BLOCK] = {0};
            for (int64_t t = first; t < nn_least(first + NN_TILE, l->tokens); t++) {
                float buffer[NN_BLOCK];
                const float *dy = nn_load(l->dy.dtype, nn_at(&l->dy, l->out, t, j), n, buffer);
                for (int64_t i = 0; i < n; i++)
                    sum[i] += (double)dy[i];
            }
            for (int64_t i = 0; i < n; i++)
                l->dbias[j + i] += (float)sum[i];
        }
    }
}

int nn_cpu_linear_backward_weight(const nn_context *on, const nn_linear *l)
{
    (void)on;
    nn_product p = backward_weight(l);
    nn_multiply(&p);
    if (l->dbias)
        sum_bias(l);
    return 0;
}
