/* SPDX-License-Identifier: MIT */
/* Attention of one query over cached keys, on CPUs.  Each rank has a part of the keys: its partial results are scaled
 * to the largest score of all ranks, and then just add. */
#include "nn/nn_cpu.h"
#include "nn/rows.h"
#include "shared/report.h"

#include <math.h>
#include <stdlib.h>

enum { KEYS = 256, MOST_DIM = 1024 };

size_t nn_decode_workspace(const nn_decode *d)
{
    return (size_t)(d->heads * (d->head_dim + 2)) * sizeof(float);
}

typedef struct head { /* float: m the largest score, sum Σ exp(score − m), acc [head_dim] Σ exp(score − m)·v */
    float *most, *sum, *acc;
} head;

/* workspace: maxima of all heads, their sums, their acc. */
static head head_of(const nn_decode *d, int64_t h)
{
    float *w = d->workspace;
    return (head){w + h, w + d->heads + h, w + 2 * d->heads + h * d->head_dim};
}

/* Adds keys first … first+count-1. */
static void add_keys(const nn_decode *d, int64_t h, const float *q, int64_t first, int64_t count)
{
    head s = head_of(d, h);
    int64_t width = d->kv_heads * d->head_dim, column = h / (d->heads / d->kv_heads) * d->head_dim;
    float scores[KEYS], buffer[MOST_DIM], most = *s.most;
    for (int64_t i = 0; i < count; i++) {
        const float *k = nn_load(d->k.dtype, nn_at(&d->k, width, first + i, column), d->head_dim, buffer);
        float score = 0;
        for (int64_t j = 0; j < d->head_dim; j++)
            score += q[j] * k[j];
        scores[i] = score * (float)d->scale;
        most = fmaxf(most, scores[i]);
    }
    float shrink = isinf(*s.most) ? 0 : expf(*s.most - most);
    *s.most = most, *s.sum *= shrink;
    for (int64_t j = 0; j < d->head_dim; j++)
        s.acc[j] *= shrink;
    for (int64_t i = 0; i < count; i++) {
        const float *v = nn_load(d->v.dtype, nn_at(&d->v, width, first + i, column), d->head_dim, buffer);
        float weight = expf(scores[i] - most);
        *s.sum += weight;
        for (int64_t j = 0; j < d->head_dim; j++)
            s.acc[j] += weight * v[j];
    }
}

static void attend(const nn_decode *d)
{
#pragma omp parallel for schedule(static) if (nn_worth(d->heads * d->keys * d->head_dim))
    for (int64_t h = 0; h < d->heads; h++) {
        head s = head_of(d, h);
        float buffer[MOST_DIM];
        const float *q = nn_load(d->q.dtype, nn_at(&d->q, 0, 0, h * d->head_dim), d->head_dim, buffer);
        *s.most = -INFINITY, *s.sum = 0;
        memset(s.acc, 0, (size_t)d->head_dim * sizeof *s.acc);
        for (int64_t i = 0; i < d->keys; i += KEYS)
            add_keys(d, h, q, i, nn_least(KEYS, d->keys - i));
    }
}

static void rescale(const nn_decode *d, const float *own)
{
    for (int64_t h = 0; h < d->heads; h++) {
        head s = head_of(d, h);
        float shrink = isinf(own[h]) ? 0 : expf(own[h] - *s.most); /* no keys here */
        *s.sum *= shrink;
        for (int64_t j = 0; j < d->head_dim; j++)
            s.acc[j] *= shrink;
    }
}

static int combine(const nn_decode *d)
{
    float *own = allocate((size_t)d->heads * sizeof *own), *maxima = head_of(d, 0).most;
    if (!own)
        return CODE_NO_MEMORY;
    memcpy(own, maxima, (size_t)d->heads * sizeof *own);
    int code = d->reduce->max(d->reduce->group, maxima, (size_t)d->heads);
    if (!code)
        rescale(d, own);
    free(own);
    return code ? code : d->reduce->sum(d->reduce->group, head_of(d, 0).sum, (size_t)(d->heads * (d->head_dim + 1)));
}

int nn_cpu_decode(const nn_context *on, const nn_decode *d)
{
    (void)on;
    if (d->head_dim > MOST_DIM)
        return fail(CODE_CONFIGURATION, "head_dim is %lld; it must be at most %d", (long long)d->head_dim, MOST_DIM);
    attend(d);
    if (d->reduce) {
        int code = combine(d);
        if (code)
            return code;
    }
    for (int64_t h = 0; h < d->heads; h++) {
        head s = head_of(d, h);
        float buffer[MOST_DIM];
        void *to = nn_at(&d->out, 0, 0, h * d->head_dim);
        float *out = nn_place(d->out.dtype, to, buffer);
        for (int64_t j = 0; j < d->head_dim; j++)
            out[j] = *s.sum > 0 || isnan(*s.sum) ? s.acc[j] / *s.sum : 0;
        nn_store(d->out.dtype, to, d->head_dim, out);
    }
    return CODE_GOOD;
}
