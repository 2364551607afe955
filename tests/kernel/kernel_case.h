/* SPDX-License-Identifier: MIT */
/* Random kernel jobs: slices, strides, masks and dtypes of any kind, in memory whose every unused byte is poison; and
 * the definition of attention evaluated over them in double, independently of the kernels and of masks as intervals. */
#ifndef RINGX_TESTS_KERNEL_CASE_H
#define RINGX_TESTS_KERNEL_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "core/half.h"
#include "core/philox.h"
#include "kernel/cpu_rows.h"
#include "kernel/kernel.h"

#define POISON 0xff /* as a byte: NaN in every dtype */

/* ---- random numbers -------------------------------------------------------------------------------------------------
 */

typedef struct dice {
    uint64_t state;
} dice;

static inline uint64_t roll(dice *d)
{
    d->state += 0x9E3779B97F4A7C15u;
    uint64_t z = d->state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline int64_t pick(dice *d, int64_t low, int64_t high) /* both included */
{
    return low + (int64_t)(roll(d) % (uint64_t)(high - low + 1));
}

static inline double uniform(dice *d)
{
    return (double)(roll(d) >> 11) * 0x1p-53;
}

static inline double normal(dice *d)
{
    double u = 1 - uniform(d), v = uniform(d);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* ---- tensors
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct tensor { /* [batch][token][head][dim] with gaps of poison; dim == 0: rows [batch][head][token] */
    unsigned char *memory, *before;
    size_t bytes, element;
    int64_t batch, tokens, heads, dim;
    ringx_dtype dtype;
    ringx_view view;
} tensor;

static inline int64_t tensor_index(const tensor *t, int64_t b, int64_t token, int64_t head, int64_t e)
{
    return b * t->view.batch_stride + token * t->view.token_stride + head * t->view.head_stride + e;
}

static inline void *tensor_at(const tensor *t, int64_t b, int64_t token, int64_t head, int64_t e)
{
    return (char *)t->view.data + (size_t)tensor_index(t, b, token, head, e) * t->element;
}

static inline tensor tensor_create(dice *d, int64_t batch, int64_t tokens, int64_t heads, int64_t dim,
                                   ringx_dtype dtype)
{
    tensor t = {.batch = batch, .tokens = tokens, .heads = heads, .dim = dim, .dtype = dtype};
    t.element = ringx__dtype_bytes(dtype);
    int64_t gap = pick(d, 0, 1) ? pick(d, 0, 9) : 0, total;
    if (dim == 0) { /* rows: tokens contiguous */
        t.view = (ringx_view){.token_stride = 1, .head_stride = tokens + gap};
        t.view.batch_stride = heads * t.view.head_stride + gap;
    } else if (pick(d, 0, 1)) { /* heads inside tokens */
        t.view = (ringx_view){.head_stride = dim + gap, .token_stride = heads * (dim + gap) + gap};
        t.view.batch_stride = tokens * t.view.token_stride + gap;
    } else { /* tokens inside heads */
        t.view = (ringx_view){.token_stride = dim + gap, .head_stride = tokens * (dim + gap) + gap};
        t.view.batch_stride = heads * t.view.head_stride + gap;
    }
    total = batch * t.view.batch_stride + gap;
    size_t lead = 64 + (size_t)pick(d, 0, 3) * t.element;
    t.bytes = lead + (size_t)total * t.element + 64;
    t.memory = malloc(t.bytes);
    t.before = malloc(t.bytes);
    assert_non_null(t.memory);
    assert_non_null(t.before);
    memset(t.memory, POISON, t.bytes);
    t.view.data = t.memory + lead;
    return t;
}

static inline void tensor_destroy(tensor *t)
{
    free(t->memory);
    free(t->before);
}

static inline double tensor_get(const tensor *t, int64_t b, int64_t token, int64_t head, int64_t e)
{
    return (double)ringx__load(tensor_at(t, b, token, head, e), t->dtype, 0);
}

static inline void tensor_put(const tensor *t, int64_t b, int64_t token, int64_t head, int64_t e, double value)
{
    ringx__store(tensor_at(t, b, token, head, e), t->dtype, 0, (float)value);
}

#define FOR_EACH(t, b, i, h, e)                                                                                        \
    for (int64_t b = 0; b < (t)->batch; b++)                                                                           \
        for (int64_t i = 0; i < (t)->tokens; i++)                                                                      \
            for (int64_t h = 0; h < (t)->heads; h++)                                                                   \
                for (int64_t e = 0; e < ((t)->dim ? (t)->dim : 1); e++)

static inline void tensor_fill(dice *d, tensor *t)
{
    FOR_EACH(t, b, i, h, e)
    {
        tensor_put(t, b, i, h, e, normal(d));
    }
}

static inline ringx_rows tensor_rows(const tensor *t)
{
    return (ringx_rows){t->view.data, t->view.batch_stride, t->view.head_stride};
}

/* After a run: nothing but elements has changed. */
static inline void tensor_check_gaps(const tensor *t)
{
    unsigned char *mine = malloc(t->bytes);
    assert_non_null(mine);
    memcpy(mine, t->memory, t->bytes);
    FOR_EACH(t, b, i, h, e)
    {
        size_t at = (size_t)((char *)tensor_at(t, b, i, h, e) - (char *)t->memory);
        memcpy(mine + at, t->before + at, t->element);
    }
    assert_memory_equal(mine, t->before, t->bytes);
    free(mine);
}

/* ---- cases
 * ------------------------------------------------------------------------------------------------------------ */

enum { MAX_SLICES = 6, MAX_DOCUMENTS = 6 };

typedef struct query_part {
    ringx_run run;
    tensor q, acc, m, l, out, lse, dout, delta, dq;
} query_part;

typedef struct key_part {
    ringx_run run;
    tensor k, v, dk, dv;
} key_part;

typedef struct kernel_case {
    dice dice;
    ringx_problem problem;
    ringx_shape shape;
    int64_t starts[MAX_DOCUMENTS + 1];
    size_t queries, keys;
    query_part query[MAX_SLICES];
    key_part key[MAX_SLICES];
    uint8_t live[MAX_SLICES * MAX_SLICES];
} kernel_case;

typedef struct kernel_size { /* limits of a random case */
    int64_t tokens, dim, heads;
} kernel_size;

static inline ringx_run random_run(dice *d, int64_t tokens)
{
    ringx_run run = {.step = pick(d, 0, 2) ? 1 : pick(d, 1, 9)};
    run.first = pick(d, 0, tokens);
    int64_t most = run.first < tokens ? (tokens - run.first + run.step - 1) / run.step : 0;
    run.count = pick(d, 0, 3) ? pick(d, most / 2, most) : pick(d, 0, most < 20 ? most : 20);
    return run;
}

static inline void random_mask(dice *d, kernel_case *c)
{
    ringx_problem *p = &c->problem;
    int kind = (int)pick(d, 0, 4);
    p->causal = kind == 1 || (kind > 2 && pick(d, 0, 1));
    if (kind == 2 || kind == 3) {
        p->window_left = pick(d, 0, 3) ? pick(d, 0, p->tokens) : -1;
        p->window_right = pick(d, 0, 3) ? pick(d, 0, p->tokens) : -1;
    }
    if (kind == 4) {
        p->documents = (size_t)pick(d, 1, MAX_DOCUMENTS);
        for (size_t i = 0; i <= p->documents; i++)
            c->starts[i] = pick(d, 0, p->tokens);
        for (size_t i = 1; i <= p->documents; i++) /* sort */
            for (size_t j = i; j > 0 && c->starts[j - 1] > c->starts[j]; j--) {
                int64_t swap = c->starts[j];
                c->starts[j] = c->starts[j - 1];
                c->starts[j - 1] = swap;
            }
        p->document_starts = c->starts;
    }
}

static inline int64_t random_dim(dice *d, int64_t most)
{
    static const int64_t usual[] = {1, 3, 8, 16, 24, 48, 64, 80, 96, 128, 192, 256};
    int64_t dim = pick(d, 0, 1) ? usual[pick(d, 0, 11)] : pick(d, 1, most);
    return dim < most ? dim : most;
}

/* The definition: may query position q see key position k? */
static inline bool visible(const ringx_problem *p, int64_t q, int64_t k)
{
    if ((p->causal && k > q) || (p->window_left >= 0 && k < q - p->window_left) ||
        (p->window_right >= 0 && k > q + p->window_right))
        return false;
    if (!p->documents)
        return true;
    for (size_t i = 0; i < p->documents; i++)
        if (p->document_starts[i] <= q && q < p->document_starts[i + 1])
            return p->document_starts[i] <= k && k < p->document_starts[i + 1];
    return false;
}

static inline int64_t place(const ringx_run *run, int64_t i)
{
    return run->first + i * run->step;
}

static inline bool pair_visible(const kernel_case *c, size_t iq, int64_t i, size_t ik, int64_t j)
{
    return visible(&c->problem, place(&c->query[iq].run, i), place(&c->key[ik].run, j));
}

static inline bool query_sees(const kernel_case *c, size_t iq, int64_t i)
{
    for (size_t ik = 0; ik < c->keys; ik++)
        for (int64_t j = 0; j < c->key[ik].run.count; j++)
            if (pair_visible(c, iq, i, ik, j))
                return true;
    return false;
}

static inline bool key_seen(const kernel_case *c, size_t ik, int64_t j)
{
    for (size_t iq = 0; iq < c->queries; iq++)
        for (int64_t i = 0; i < c->query[iq].run.count; i++)
            if (pair_visible(c, iq, i, ik, j))
                return true;
    return false;
}

static inline void case_allocate(kernel_case *c)
{
    dice *d = &c->dice;
    const ringx_shape *s = &c->shape;
    for (size_t i = 0; i < c->queries; i++) {
        query_part *p = &c->query[i];
        int64_t n = p->run.count, h = s->q_heads;
        p->q = tensor_create(d, s->batch, n, h, s->head_dim, s->dtype);
        p->out = tensor_create(d, s->batch, n, h, s->value_dim, s->dtype);
        p->dout = tensor_create(d, s->batch, n, h, s->value_dim, s->dtype);
        p->acc = tensor_create(d, s->batch, n, h, s->value_dim, RINGX_F32);
        p->dq = tensor_create(d, s->batch, n, h, s->head_dim, RINGX_F32);
        p->m = tensor_create(d, s->batch, n, h, 0, RINGX_F32);
        p->l = tensor_create(d, s->batch, n, h, 0, RINGX_F32);
        p->lse = tensor_create(d, s->batch, n, h, 0, RINGX_F32);
        p->delta = tensor_create(d, s->batch, n, h, 0, RINGX_F32);
        tensor_fill(d, &p->q);
        tensor_fill(d, &p->dout);
    }
    for (size_t i = 0; i < c->keys; i++) {
        key_part *p = &c->key[i];
        int64_t n = p->run.count, h = s->kv_heads;
        p->k = tensor_create(d, s->batch, n, h, s->head_dim, s->dtype);
        p->v = tensor_create(d, s->batch, n, h, s->value_dim, s->dtype);
        p->dk = tensor_create(d, s->batch, n, h, s->head_dim, RINGX_F32);
        p->dv = tensor_create(d, s->batch, n, h, s->value_dim, RINGX_F32);
        tensor_fill(d, &p->k);
        tensor_fill(d, &p->v);
    }
    for (size_t iq = 0; iq < c->queries; iq++)
        for (size_t ik = 0; ik < c->keys; ik++)
            c->live[iq * c->keys + ik] = ringx__mask_live(&s->mask, &c->query[iq].run, &c->key[ik].run);
}

static inline void case_create(kernel_case *c, uint64_t seed, kernel_size size)
{
    memset(c, 0, sizeof *c);
    c->dice.state = seed * 0x2545F4914F6CDD1Du + 12345;
    dice *d = &c->dice;
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = pick(d, 1, 2);
    p.tokens = pick(d, 1, size.tokens);
    p.kv_heads = pick(d, 1, size.heads);
    p.q_heads = p.kv_heads * pick(d, 1, 3);
    p.head_dim = random_dim(d, size.dim);
    p.value_dim = pick(d, 0, 1) ? 0 : random_dim(d, size.dim);
    p.dtype = (ringx_dtype)pick(d, 0, 2);
    p.scale = pick(d, 0, 3) ? 0 : (uniform(d) - 0.5) / sqrt((double)p.head_dim);
    p.softcap = pick(d, 0, 3) ? 0 : 0.5 + 5 * uniform(d);
    p.dropout = pick(d, 0, 3) ? 0 : 0.9 * uniform(d);
    p.seed = roll(d);
    c->problem = p;
    random_mask(d, c);
    assert_int_equal(ringx__shape_create(&c->shape, &c->problem), RINGX_OK);
    c->queries = (size_t)pick(d, 1, MAX_SLICES);
    c->keys = (size_t)pick(d, 1, MAX_SLICES);
    for (size_t i = 0; i < c->queries; i++)
        c->query[i].run = random_run(d, p.tokens);
    for (size_t i = 0; i < c->keys; i++)
        c->key[i].run = random_run(d, p.tokens);
    case_allocate(c);
}

static inline void case_destroy(kernel_case *c)
{
    for (size_t i = 0; i < c->queries; i++) {
        query_part *p = &c->query[i];
        tensor *all[] = {&p->q, &p->acc, &p->m, &p->l, &p->out, &p->lse, &p->dout, &p->delta, &p->dq};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            tensor_destroy(all[j]);
    }
    for (size_t i = 0; i < c->keys; i++) {
        key_part *p = &c->key[i];
        tensor *all[] = {&p->k, &p->v, &p->dk, &p->dv};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            tensor_destroy(all[j]);
    }
    ringx__shape_destroy(&c->shape);
}

#endif
