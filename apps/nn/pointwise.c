/* SPDX-License-Identifier: MIT */
/* Operators on CPUs that take each element by itself: GELU, the SiLU gate, sums, scaled rows, dropout, casts. */
#include "nn/exponential.h"
#include "nn/nn_cpu.h"
#include "nn/rows.h"

#include <math.h>

/* One call on a block of a row; in and out are in the order of the operator's matrices. */
typedef void block_function(const void *args, const float *const in[3], float *const out[2], int64_t count,
                            const int64_t at[2]);

typedef struct pointwise {
    block_function *function;
    const void *args;
    int64_t tokens, width;
    const nn_array *in[3], *out[2]; /* NULL: fewer */
} pointwise;

static void one_block(const pointwise *p, int64_t t, int64_t j)
{
    float in_buffer[3][NN_BLOCK], out_buffer[2][NN_BLOCK], *out[2] = {0};
    const float *in[3] = {0};
    int64_t count = nn_least(NN_BLOCK, p->width - j), at[2] = {t, j};
    for (int i = 0; i < 3 && p->in[i]; i++)
        in[i] = nn_load(p->in[i]->dtype, nn_at(p->in[i], p->width, t, j), count, in_buffer[i]);
    for (int i = 0; i < 2 && p->out[i]; i++)
        out[i] = nn_place(p->out[i]->dtype, nn_at(p->out[i], p->width, t, j), out_buffer[i]);
    p->function(p->args, in, out, count, at);
    for (int i = 0; i < 2 && p->out[i]; i++)
        nn_store(p->out[i]->dtype, nn_at(p->out[i], p->width, t, j), count, out[i]);
}

static int run(const pointwise *p)
{
    int64_t across = (p->width + NN_BLOCK - 1) / NN_BLOCK;
#pragma omp parallel for schedule(static) if (nn_worth(4 * p->tokens * p->width))
    for (int64_t i = 0; i < p->tokens * across; i++)
        one_block(p, i / across, i % across * NN_BLOCK);
    return 0;
}

/* ---- GELU ---- */

static void gelu(const void *args, const float *const in[3], float *const out[2], int64_t count, const int64_t at[2])
{
    (void)args, (void)at;
    for (int64_t i = 0; i < count; i++)
        out[0][i] = 0.5f * in[0][i] * (1 + erff(in[0][i] * 0.70710678f));
}

static void gelu_gradient(const void *args, const float *const in[3], float *const out[2], int64_t count,
                          const int64_t at[2])
{
    (void)args, (void)at;
    for (int64_t i = 0; i < count; i++) {
        float x = in[0][i], below = 0.5f * (1 + erff(x * 0.70710678f)), density = 0.39894228f * expf(-0.5f * x * x);
        out[0][i] = in[1][i] * (below + x * density);
    }
}

int nn_cpu_gelu_forward(const nn_context *on, const nn_map *m)
{
    (void)on;
    return run(&(pointwise){gelu, m, m->tokens, m->width, {&m->x}, {&m->y}});
}

int nn_cpu_gelu_backward(const nn_context *on, const nn_map *m)
{
    (void)on;
    return run(&(pointwise){gelu_gradient, m, m->tokens, m->width, {&m->x, &m->dy}, {&m->dx}});
}

/* ---- silu(gate)·up, silu(x) = x·σ(x) ---- */

static float sigmoid(float x)
{
    return 1 / (1 + nn_exp(-x));
}

static void gate(const void *args, const float *const in[3], float *const out[2], int64_t count, const int64_t at[2])
{
    (void)args, (void)at;
    for (int64_t i = 0; i < count; i++)
        out[0][i] = in[0][i] * sigmoid(in[0][i]) * in[1][i];
}

static void gate_gradient(const void *args, const float *const in[3], float *const out[2], int64_t count,
                          const int64_t at[2])
{
    (void)args, (void)at;
    for (int64_t i = 0; i < count; i++) {
        float x = in[0][i], up = in[1][i], dy = in[2][i], s = sigmoid(x);
        out[0][i] = dy * up * s * (1 + x * (1 - s));
        out[1][i] = dy * x * s;
    }
}

int nn_cpu_silu_gate_forward(const nn_context *on, const nn_gate *g)
{
    (void)on;
    return run(&(pointwise){gate, g, g->tokens, g->width, {&g->gate, &g->up}, {&g->y}});
}

int nn_cpu_silu_gate_backward(const nn_context *on, const nn_gate *g)
{
    (void)on;
    return run(&(pointwise){gate_gradient, g, g->tokens, g->width, {&g->gate, &g->up, &g->dy}, {&g->dgate, &g->dup}});
}

/* ---- sums, scaled rows, casts, dropout ---- */

static void sum(const void *args, const float *const in[3], float *const out[2], int64_t count, const int64_t at[2])
{
    (void)args, (void)at;
    for (int64_t i = 0; i < count; i++)
        out[0][i] = in[0][i] + in[1][i];
}

static void grow(const void *args, const float *const in[3], float *const out[2], int64_t count, const int64_t at[2])
{
    const nn_scale *s = args;
    for (int64_t i = 0; i < count; i++)
        out[0][i] = s->factors[at[0]] * in[0][i];
}

static void copy(const void *args, const float *const in[3], float *const out[2], int64_t count, const int64_t at[2])
{
    (void)args, (void)at;
    memmove(out[0], in[0], (size_t)count * sizeof *out[0]);
}

static void drop(const void *args, const float *const in[3], float *const out[2], int64_t count, const int64_t at[2])
{
    const nn_dropout *d = args;
    int64_t row = d->rows ? d->rows[at[0]] : at[0];
    uint64_t first = (uint64_t)(row * d->row_width + d->first_column + at[1]);
    float grown = (float)(1 / (1 - d->p));
    for (int64_t i = 0; i < count; i++) {
        double uniform = (double)(random_word(d->seed, first + (uint64_t)i) >> 11) * 0x1p-53;
        out[0][i] = uniform < d->p ? 0 : in[0][i] * grown;
    }
}

int nn_cpu_add(const nn_context *on, const nn_sum *s)
{
    (void)on;
    return run(&(pointwise){sum, s, s->tokens, s->width, {&s->a, &s->b}, {&s->y}});
}

int nn_cpu_scale(const nn_context *on, const nn_scale *s)
{
    (void)on;
    return run(&(pointwise){grow, s, s->tokens, s->width, {&s->x}, {&s->y}});
}

int nn_cpu_cast(const nn_context *on, const nn_map *m)
{
    (void)on;
    return run(&(pointwise){copy, m, m->tokens, m->width, {&m->x}, {&m->y}});
}

int nn_cpu_dropout(const nn_context *on, const nn_dropout *d)
{
    (void)on;
    return run(&(pointwise){drop, d, d->tokens, d->width, {&d->x}, {&d->y}});
}
