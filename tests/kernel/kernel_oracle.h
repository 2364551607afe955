/* SPDX-License-Identifier: MIT */
/* Attention of a kernel case by its definition, in double, and how large the terms of each sum are: errors are judged
 * against the latter, since sums may cancel. */
#ifndef RINGX_TESTS_KERNEL_ORACLE_H
#define RINGX_TESTS_KERNEL_ORACLE_H

#include "kernel/kernel_case.h"

typedef struct wanted { /* [batch][token][head][dim], packed */
    double *value, *size;
    size_t count;
} wanted;

typedef struct oracle {
    wanted out[MAX_SLICES], lse[MAX_SLICES], dq[MAX_SLICES], dk[MAX_SLICES], dv[MAX_SLICES];
} oracle;

static inline size_t packed_index(const tensor *t, int64_t b, int64_t i, int64_t h, int64_t e)
{
    return (size_t)(((b * t->tokens + i) * t->heads + h) * (t->dim ? t->dim : 1) + e);
}

static inline wanted wanted_create(const tensor *t, bool start_from_contents)
{
    wanted w = {.count = packed_index(t, t->batch, 0, 0, 0)};
    w.value = calloc(w.count + 1, sizeof(double));
    w.size = calloc(w.count + 1, sizeof(double));
    assert_non_null(w.value);
    assert_non_null(w.size);
    if (start_from_contents)
        FOR_EACH(t, b, i, h, e)
        {
            w.value[packed_index(t, b, i, h, e)] = tensor_get(t, b, i, h, e);
            w.size[packed_index(t, b, i, h, e)] = fabs(tensor_get(t, b, i, h, e));
        }
    return w;
}

static inline void wanted_add(wanted *w, const tensor *t, int64_t b, int64_t i, int64_t h, int64_t e, double term,
                              double size)
{
    size_t at = packed_index(t, b, i, h, e);
    w->value[at] += term;
    w->size[at] += size;
}

typedef struct oracle_pair { /* a key that the row sees */
    size_t ik;
    int64_t j;
    double score, slope, keep, dp;
} oracle_pair;

static inline double dot_of(const tensor *x, const tensor *y, int64_t b, int64_t i, int64_t hx, int64_t j, int64_t hy)
{
    double sum = 0;
    for (int64_t e = 0; e < x->dim; e++)
        sum += tensor_get(x, b, i, hx, e) * tensor_get(y, b, j, hy, e);
    return sum;
}

static inline oracle_pair pair_of(const kernel_case *c, size_t iq, int64_t i, size_t ik, int64_t j, int64_t b,
                                  int64_t h)
{
    const ringx_problem *p = &c->problem;
    const query_part *qp = &c->query[iq];
    const key_part *kp = &c->key[ik];
    int64_t kv = h / (p->q_heads / p->kv_heads);
    double scale = p->scale != 0 ? p->scale : 1 / sqrt((double)p->head_dim);
    oracle_pair pair = {.ik = ik, .j = j, .slope = 1, .keep = 1};
    pair.score = scale * dot_of(&qp->q, &kp->k, b, i, h, j, kv);
    if (p->softcap > 0) {
        double t = tanh(pair.score / p->softcap);
        pair.score = p->softcap * t;
        pair.slope = 1 - t * t;
    }
    if (p->dropout > 0) {
        uint32_t threshold = ringx__dropout_threshold(p->dropout);
        bool keeps = ringx__dropout_keeps(p->seed, threshold, b, h, place(&qp->run, i), place(&kp->run, j));
        pair.keep = keeps ? 1 / (1 - p->dropout) : 0;
    }
    pair.dp = pair.keep * dot_of(&qp->dout, &kp->v, b, i, h, j, kv);
    return pair;
}

static inline void oracle_gradients(const kernel_case *c, oracle *o, size_t iq, int64_t i, int64_t b, int64_t h,
                                    const oracle_pair *pair, double lse, double delta)
{
    const ringx_shape *s = &c->shape;
    const query_part *qp = &c->query[iq];
    const key_part *kp = &c->key[pair->ik];
    int64_t j = pair->j, kv = h / s->group;
    double p = exp(pair->score - lse), ds = s->scale * p * (pair->dp - delta) * pair->slope;
    double size = fabs(s->scale) * p * (1 + fabs(pair->dp) + fabs(delta));
    for (int64_t e = 0; e < s->head_dim; e++) {
        double q = tensor_get(&qp->q, b, i, h, e), k = tensor_get(&kp->k, b, j, kv, e);
        wanted_add(&o->dq[iq], &qp->dq, b, i, h, e, ds * k, size * fabs(k));
        wanted_add(&o->dk[pair->ik], &kp->dk, b, j, kv, e, ds * q, size * fabs(q));
    }
    for (int64_t e = 0; e < s->value_dim; e++) {
        double g = p * pair->keep * tensor_get(&qp->dout, b, i, h, e);
        wanted_add(&o->dv[pair->ik], &kp->dv, b, j, kv, e, g, fabs(g));
    }
}

static inline void oracle_row(const kernel_case *c, oracle *o, size_t iq, int64_t i, int64_t b, int64_t h,
                              oracle_pair *pairs)
{
    const ringx_shape *s = &c->shape;
    const query_part *qp = &c->query[iq];
    double top = -INFINITY, sum = 0, delta = 0;
    size_t n = 0;
    for (size_t ik = 0; ik < c->keys; ik++)
        for (int64_t j = 0; j < c->key[ik].run.count; j++)
            if (pair_visible(c, iq, i, ik, j)) {
                pairs[n] = pair_of(c, iq, i, ik, j, b, h);
                top = fmax(top, pairs[n++].score);
            }
    for (size_t k = 0; k < n; k++)
        sum += exp(pairs[k].score - top);
    double lse = n ? top + log(sum) : -INFINITY;
    wanted_add(&o->lse[iq], &qp->lse, b, i, h, 0, lse, 1 + (n ? fabs(lse) : 0));
    for (size_t k = 0; k < n; k++) {
        double weight = exp(pairs[k].score - lse);
        delta += weight * pairs[k].dp;
        for (int64_t e = 0; e < s->value_dim; e++) {
            double v = pairs[k].keep * tensor_get(&c->key[pairs[k].ik].v, b, pairs[k].j, h / s->group, e);
            wanted_add(&o->out[iq], &qp->out, b, i, h, e, weight * v, weight * fabs(v));
        }
    }
    for (size_t k = 0; k < n; k++)
        oracle_gradients(c, o, iq, i, b, h, &pairs[k], lse, delta);
    if (n)
        tensor_put(&qp->delta, b, i, h, 0, delta);
}

/* Evaluates everything, from the present contents of dq, dk and dv; fills in delta. */
static inline void oracle_create(oracle *o, const kernel_case *c)
{
    for (size_t i = 0; i < c->queries; i++) {
        o->out[i] = wanted_create(&c->query[i].out, false);
        o->lse[i] = wanted_create(&c->query[i].lse, false);
        o->dq[i] = wanted_create(&c->query[i].dq, true);
    }
    for (size_t i = 0; i < c->keys; i++) {
        o->dk[i] = wanted_create(&c->key[i].dk, true);
        o->dv[i] = wanted_create(&c->key[i].dv, true);
    }
    size_t keys = 0;
    for (size_t i = 0; i < c->keys; i++)
        keys += (size_t)c->key[i].run.count;
    oracle_pair *pairs = malloc((keys + 1) * sizeof *pairs);
    assert_non_null(pairs);
    for (size_t iq = 0; iq < c->queries; iq++)
        for (int64_t b = 0; b < c->shape.batch; b++)
            for (int64_t i = 0; i < c->query[iq].run.count; i++)
                for (int64_t h = 0; h < c->shape.q_heads; h++)
                    oracle_row(c, o, iq, i, b, h, pairs);
    free(pairs);
}

static inline void oracle_destroy(oracle *o, const kernel_case *c)
{
    for (size_t i = 0; i < c->queries; i++) {
        wanted *all[] = {&o->out[i], &o->lse[i], &o->dq[i]};
        for (size_t j = 0; j < 3; j++)
            free(all[j]->value), free(all[j]->size);
    }
    for (size_t i = 0; i < c->keys; i++) {
        wanted *all[] = {&o->dk[i], &o->dv[i]};
        for (size_t j = 0; j < 2; j++)
            free(all[j]->value), free(all[j]->size);
    }
}

/* Half a unit in the last place of a value rounded to dtype, relative and absolute. */
static inline double rounding(ringx_dtype dtype, double value)
{
    if (dtype == RINGX_F32)
        return 0;
    return dtype == RINGX_BF16 ? 0x1.01p-8 * fabs(value) : 0x1.01p-11 * fabs(value) + 0x1p-25;
}

/* |t - wanted| <= tolerance·size, root mean square over the tensor, and 20 times that for each element. */
static inline void check_tensor(const char *what, const tensor *t, const wanted *w, double tolerance)
{
    double error = 0, size = 0;
    FOR_EACH(t, b, i, h, e)
    {
        size_t at = packed_index(t, b, i, h, e);
        double got = tensor_get(t, b, i, h, e), want = w->value[at];
        if (isinf(want) && got == want)
            continue;
        double allowed = rounding(t->dtype, want), off = fabs(got - want) <= allowed ? 0 : fabs(got - want) - allowed;
        if (!(off <= 20 * tolerance * (w->size[at] + 1e-30)))
            fail_msg("%s[%d][%d][%d][%d] is %.9g, wanted %.9g (size %.3g)", what, (int)b, (int)i, (int)h, (int)e, got,
                     want, w->size[at]);
        error += off * off;
        size += w->size[at] * w->size[at];
    }
    if (!(sqrt(error) <= tolerance * sqrt(size)))
        fail_msg("%s: error %.3g of size %.3g, allowed %.3g", what, sqrt(error), sqrt(size), tolerance * sqrt(size));
}

static inline void check_forward(const kernel_case *c, const oracle *o, double tolerance)
{
    for (size_t i = 0; i < c->queries; i++) {
        check_tensor("out", &c->query[i].out, &o->out[i], tolerance);
        check_tensor("lse", &c->query[i].lse, &o->lse[i], tolerance);
    }
}

static inline void check_backward(const kernel_case *c, const oracle *o, double tolerance)
{
    for (size_t i = 0; i < c->queries; i++)
        check_tensor("dq", &c->query[i].dq, &o->dq[i], tolerance);
    for (size_t i = 0; i < c->keys; i++) {
        check_tensor("dk", &c->key[i].dk, &o->dk[i], tolerance);
        check_tensor("dv", &c->key[i].dv, &o->dv[i], tolerance);
    }
}

#endif
