/* SPDX-License-Identifier: MIT */
/* The oracle: attention by its definition, in double, over whole tensors.  Masks are evaluated pair by pair from the
 * problem's own fields, not from intervals, so that it shares no mistake with the rest of the library. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "core/shape.h"
#include "core/status.h"
#include <ringx/ringx_study.h>

typedef struct ringx_oracle { /* one (batch, query head) at a time */
    const ringx_problem *p;
    const ringx_shape *shape;
    const ringx_reference_tensors *t;
    int64_t b, h, kvh;
    double *weight, *grad; /* tokens each */
    uint32_t threshold;
} oracle;

static int64_t document_of(const ringx_problem *p, int64_t token)
{
    for (size_t i = 0; i < p->documents; i++)
        if (token >= p->document_starts[i] && token < p->document_starts[i + 1])
            return (int64_t)i;
    return -1;
}

static bool sees(const ringx_problem *p, int64_t query, int64_t key)
{
    if (p->causal && key > query)
        return false;
    if (p->window_left >= 0 && query - key > p->window_left)
        return false;
    if (p->window_right >= 0 && key - query > p->window_right)
        return false;
    if (p->documents == 0)
        return true;
    int64_t d = document_of(p, query);
    return d >= 0 && d == document_of(p, key);
}

static int64_t row(const oracle *o, int64_t token, int64_t head, int64_t heads, int64_t dim)
{
    return ((o->b * o->shape->tokens + token) * heads + head) * dim;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* The score, and d(score)/d(q·k)/scale of the soft cap. */
static double score(const oracle *o, int64_t query, int64_t key, double *slope)
{
    const ringx_shape *s = o->shape;
    const double *q = o->t->q + row(o, query, o->h, s->q_heads, s->head_dim);
    const double *k = o->t->k + row(o, key, o->kvh, s->kv_heads, s->head_dim);
    double x = s->scale * dot(q, k, s->head_dim);
    *slope = 1;
    if (s->softcap > 0) {
        double y = tanh(x / s->softcap);
        *slope = 1 - y * y;
        x = s->softcap * y;
    }
    return x;
}

static double keep(const oracle *o, int64_t query, int64_t key)
{
    if (o->shape->dropout == 0)
        return 1;
    return ringx__dropout_keeps(o->shape->seed, o->threshold, o->b, o->h, query, key) ? 1 / (1 - o->shape->dropout) : 0;
}

/* Fills weight[] with the row's probabilities (NaN marks keys it does not see); returns lse. */
static double softmax(oracle *o, int64_t query)
{
    double top = -INFINITY, sum = 0, slope;
    for (int64_t key = 0; key < o->shape->tokens; key++) {
        o->weight[key] = NAN;
        if (!sees(o->p, query, key))
            continue;
        o->weight[key] = score(o, query, key, &slope);
        top = !(o->weight[key] <= top) ? o->weight[key] : top;
    }
    for (int64_t key = 0; key < o->shape->tokens; key++)
        if (sees(o->p, query, key))
            sum += exp(o->weight[key] - top);
    for (int64_t key = 0; key < o->shape->tokens; key++)
        if (sees(o->p, query, key))
            o->weight[key] = exp(o->weight[key] - top) / sum;
    return sum > 0 || isnan(sum) ? top + log(sum) : -INFINITY;
}

static void forward_row(oracle *o, int64_t query, double *out)
{
    const ringx_shape *s = o->shape;
    memset(out, 0, (size_t)s->value_dim * sizeof *out);
    for (int64_t key = 0; key < s->tokens; key++) {
        if (!sees(o->p, query, key))
            continue;
        const double *v = o->t->v + row(o, key, o->kvh, s->kv_heads, s->value_dim);
        double w = o->weight[key] * keep(o, query, key);
        for (int64_t i = 0; i < s->value_dim; i++)
            out[i] += w * v[i];
    }
}

static void backward_row(oracle *o, int64_t query, const double *out)
{
    const ringx_shape *s = o->shape;
    const ringx_reference_tensors *t = o->t;
    const double *dout = t->dout + row(o, query, o->h, s->q_heads, s->value_dim);
    const double *q = t->q + row(o, query, o->h, s->q_heads, s->head_dim);
    double delta = dot(dout, out, s->value_dim), slope;
    for (int64_t key = 0; key < s->tokens; key++) {
        if (!sees(o->p, query, key))
            continue;
        int64_t kv = row(o, key, o->kvh, s->kv_heads, s->value_dim), kk = row(o, key, o->kvh, s->kv_heads, s->head_dim);
        double kept = keep(o, query, key), dp = dot(dout, t->v + kv, s->value_dim) * kept;
        score(o, query, key, &slope);
        double ds = o->weight[key] * (dp - delta) * slope * s->scale;
        for (int64_t i = 0; t->dv && i < s->value_dim; i++)
            t->dv[kv + i] += o->weight[key] * kept * dout[i];
        for (int64_t i = 0; i < s->head_dim; i++) {
            if (t->dk)
                t->dk[kk + i] += ds * q[i];
            if (t->dq)
                t->dq[row(o, query, o->h, s->q_heads, s->head_dim) + i] += ds * t->k[kk + i];
        }
    }
}

static void one_head(oracle *o)
{
    const ringx_shape *s = o->shape;
    for (int64_t query = 0; query < s->tokens; query++) {
        double lse = softmax(o, query);
        forward_row(o, query, o->grad);
        if (o->t->out)
            memcpy(o->t->out + row(o, query, o->h, s->q_heads, s->value_dim), o->grad,
                   (size_t)s->value_dim * sizeof(double));
        if (o->t->lse)
            o->t->lse[(o->b * s->q_heads + o->h) * s->tokens + query] = lse;
        if (o->t->dout)
            backward_row(o, query, o->grad);
    }
}

static void clear(double *to, int64_t heads, int64_t dim, const ringx_shape *s)
{
    if (to)
        memset(to, 0, (size_t)(s->batch * s->tokens * heads * dim) * sizeof *to);
}

ringx_status ringx_reference(const ringx_problem *problem, const ringx_reference_tensors *t)
{
    ringx_shape s;
    RINGX_TRY(ringx__shape_create(&s, problem));
    oracle o = {.p = problem, .shape = &s, .t = t, .threshold = ringx__dropout_threshold(s.dropout)};
    o.weight = malloc(((size_t)s.tokens + 1) * sizeof *o.weight);
    o.grad = malloc((size_t)s.value_dim * sizeof *o.grad);
    clear(t->dq, s.q_heads, s.head_dim, &s);
    clear(t->dk, s.kv_heads, s.head_dim, &s);
    clear(t->dv, s.kv_heads, s.value_dim, &s);
    bool memory = o.weight && o.grad;
    for (o.b = 0; o.b < s.batch && memory; o.b++)
        for (o.h = 0; o.h < s.q_heads; o.h++) {
            o.kvh = o.h / s.group;
            one_head(&o);
        }
    free(o.weight);
    free(o.grad);
    int64_t tokens = s.tokens;
    ringx__shape_destroy(&s);
    if (!memory)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a row of %lld weights", (long long)tokens);
    return RINGX_OK;
}
