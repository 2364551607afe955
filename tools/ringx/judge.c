/* SPDX-License-Identifier: MIT */
/* Results against the float64 definition.  The tolerances of every test of the command are in this file. */
#include "judge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Unit roundoffs, and how many of them are allowed (docs/NUMERICS.md derives the figures).
 *   SUMS     of the float arithmetic, on the size of what is added up (not of the result: gradients cancel)
 *   results  of rounding `out` (which backward reads) and results to the dtype
 *   smallest spacing of the subnormals: nothing is nearer than half of it
 * A score is off by as many roundoffs as what is added up in q·k is large, and the exponential makes that a relative
 * error of every weight: score_size. */
typedef struct tolerance {
    double roundoff, results, smallest;
} tolerance;

static const tolerance tolerances[] = {
    [RINGX_F32] = {0x1p-24, 0, 0x1p-149},
    [RINGX_BF16] = {0x1p-8, 2, 0x1p-133},
    [RINGX_F16] = {0x1p-11, 2, 0x1p-24},
};
#define FLOAT_ROUNDOFF 0x1p-24
#define SUMS           4.0
#define WIRE           2.0
#define LSE            4.0

void reference_destroy(reference *r)
{
    for (int i = 0; i < TENSORS; i++)
        free(r->data[i]);
    *r = (reference){0};
}

int reference_create(reference *r, const ringx_problem *p, const whole *inputs)
{
    *r = (reference){0};
    bool backward = inputs->data[T_DOUT] != NULL;
    for (tensor_id id = 0; id < TENSORS; id++) {
        if (!backward && id != T_OUT && id != T_LSE && !(id <= T_DOUT && inputs->data[id]))
            continue;
        size_t n = tensor_elements(p, id);
        r->data[id] = allocate(n * sizeof(double));
        if (!r->data[id]) {
            reference_destroy(r);
            return CODE_NO_MEMORY;
        }
        if (id <= T_DOUT)
            to_doubles(p->dtype, inputs->data[id], r->data[id], n);
        else
            poison(r->data[id], n * sizeof(double));
    }
    double **d = r->data;
    ringx_reference_tensors tensors = {.q = d[T_Q],
                                       .k = d[T_K],
                                       .v = d[T_V],
                                       .dout = d[T_DOUT],
                                       .out = d[T_OUT],
                                       .lse = d[T_LSE],
                                       .dq = d[T_DQ],
                                       .dk = d[T_DK],
                                       .dv = d[T_DV]};
    int code = fail_status(ringx_reference(p, &tensors), "reference");
    if (code)
        reference_destroy(r);
    return code;
}

/* ---- norms ---- */

static double norm(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += isinf(x[i]) ? 0 : x[i] * x[i]; /* lse of rows without keys */
    return sqrt(sum);
}

static double mean_square_root(const reference *r, const ringx_problem *p, tensor_id id)
{
    size_t n = tensor_elements(p, id);
    return n ? norm(r->data[id], n) / sqrt((double)n) : 0;
}

static double value_at(const ringx_problem *p, tensor_id id, const void *data, size_t i)
{
    if (id == T_LSE || p->dtype == RINGX_F32)
        return (double)((const float *)data)[i];
    return (double)half_to_float(p->dtype, ((const uint16_t *)data)[i]);
}

static double distance(const ringx_problem *p, tensor_id id, const void *result, const double *exact)
{
    double sum = 0;
    size_t n = tensor_elements(p, id);
    for (size_t i = 0; i < n; i++) {
        double x = value_at(p, id, result, i), d = x == exact[i] ? 0 : x - exact[i];
        sum += d * d;
    }
    return sqrt(sum);
}

double relative_error(const ringx_problem *p, tensor_id id, const void *result, const double *exact)
{
    double d = distance(p, id, result, exact), size = norm(exact, tensor_elements(p, id));
    return d == 0 ? 0 : d / size;
}

/* Size of what is added up to make a score, and of its exponential: at least 4. */
static double score_size(const reference *r, const ringx_problem *p)
{
    double largest = 0, dim = (double)p->head_dim;
    for (size_t i = 0; i < tensor_elements(p, T_LSE); i++) {
        double x = fabs(r->data[T_LSE][i]);
        largest = isfinite(x) && x > largest ? x : largest;
    }
    double scale = p->scale != 0 ? fabs(p->scale) : 1 / sqrt(dim);
    return 4 + largest + scale * dim * mean_square_root(r, p, T_Q) * mean_square_root(r, p, T_K);
}

/* Size of what is added up to make a tensor, in Frobenius norm: `sums` where float arithmetic does it, `results` where
 * the error is that of `out` rounded to the dtype.  dP = dout·v and delta = dout·out cancel in dS = P(dP - delta). */
typedef struct sizes {
    double sums, results;
} sizes;

static sizes natural_sizes(const reference *r, const ringx_problem *p, tensor_id id)
{
    double rows = (double)tensor_elements(p, T_LSE);
    double key_dim = (double)p->head_dim, value_dim = (double)(p->value_dim ? p->value_dim : p->head_dim);
    double gain = 1 / (1 - p->dropout), scale = p->scale != 0 ? fabs(p->scale) : 1 / sqrt(key_dim);
    if (id == T_OUT)
        return (sizes){gain * sqrt(rows * value_dim) * mean_square_root(r, p, T_V), 0};
    double dout = mean_square_root(r, p, T_DOUT);
    if (id == T_DV)
        return (sizes){gain * sqrt(rows * value_dim) * dout, 0};
    double other = mean_square_root(r, p, id == T_DQ ? T_K : T_Q) * sqrt(rows * key_dim) * scale * sqrt(value_dim);
    return (sizes){gain * dout * mean_square_root(r, p, T_V) * other, dout * mean_square_root(r, p, T_OUT) * other};
}

/* ---- the verdict ---- */

static void note(verdict *v, tensor_id id, double used, const char *what, double error, double allowed)
{
    v->share[id] = used > v->share[id] || isnan(used) ? used : v->share[id];
    if (v->good && !(used <= 1)) {
        v->good = false;
        snprintf(v->why, sizeof v->why, "%s: %s %.3g, allowed %.3g", tensor_names[id], what, error, allowed);
    }
}

/* Relative error of partial results that were rounded on their way: once a rank, at random. */
static double wire_error(ringx_dtype wire, int ranks)
{
    return wire == RINGX_F32 || ranks == 1 ? 0 : WIRE * tolerances[wire].roundoff * sqrt(ranks);
}

typedef struct allowance { /* what a result may be off by, besides its own rounding */
    double score, wire;
    bool weights;
} allowance;

static void judge_tensor(const ringx_problem *p, tensor_id id, const void *result, const reference *r,
                         const allowance *a, verdict *v)
{
    const tolerance *t = &tolerances[p->dtype];
    size_t n = tensor_elements(p, id);
    double size = norm(r->data[id], n), off = distance(p, id, result, r->data[id]);
    sizes natural = natural_sizes(r, p, id);
    double allowed = SUMS * FLOAT_ROUNDOFF * a->score * (size + natural.sums) +
                     (t->results * t->roundoff + a->wire) * (size + natural.results) + t->smallest * sqrt((double)n);
    /* Each weight is off by up to a roundoff; of equal weights 1/tokens a sum has this size before it cancels. */
    if (a->weights)
        allowed += t->roundoff * natural.sums / sqrt(fmax(1, (double)p->tokens));
    bool cancelled = size < 1e-6 * natural.sums; /* its relative error would say nothing */
    v->error[id] = off == 0 || cancelled ? 0 : off / size;
    note(v, id, off == 0 ? 0 : off / allowed, "distance", off, allowed);
}

static void judge_lse(const ringx_problem *p, const float *lse, const double *exact, double score, double wire,
                      verdict *v)
{
    for (size_t i = 0; i < tensor_elements(p, T_LSE); i++) {
        double x = (double)lse[i], e = exact[i];
        if (isinf(e) || isinf(x)) {
            if (x != e && v->good) {
                v->good = false;
                snprintf(v->why, sizeof v->why, "lse: element %zu is %g instead of %g", i, x, e);
            }
            continue;
        }
        double error = fabs(x - e), allowed = LSE * FLOAT_ROUNDOFF * score + wire;
        v->error[T_LSE] = fmax(v->error[T_LSE], error / (1 + fabs(e)));
        note(v, T_LSE, error / allowed, "error", error, allowed);
    }
}

/* Rows of out and dq whose query sees no key are exactly zero. */
static void judge_empty_rows(const ringx_problem *p, tensor_id id, const void *result, const double *lse, verdict *v)
{
    int64_t s[4];
    tensor_sizes(p, id, p->tokens, s);
    for (int64_t i = 0; i < s[0] * s[1] * s[2] && v->good; i++) {
        int64_t b = i / (s[1] * s[2]), t = i / s[2] % s[1], h = i % s[2];
        if (lse[(b * s[2] + h) * s[1] + t] != -INFINITY)
            continue;
        for (int64_t d = 0; d < s[3] && v->good; d++) {
            double x = value_at(p, id, result, (size_t)(i * s[3] + d));
            if (x != 0) {
                v->good = false;
                snprintf(v->why, sizeof v->why, "%s: query %lld sees no key, but its row holds %g instead of 0",
                         tensor_names[id], (long long)t, x);
            }
        }
    }
}

void judge(const ringx_problem *p, roundings how, const whole *results, const reference *r, verdict *v)
{
    *v = (verdict){.good = true};
    const allowance a = {score_size(r, p), wire_error(how.wire, how.ranks), how.weights && p->dtype != RINGX_F32};
    judge_lse(p, results->data[T_LSE], r->data[T_LSE], a.score, a.wire, v);
    for (tensor_id id = T_OUT; id <= T_DV; id++) {
        if (!results->data[id] || !r->data[id])
            continue;
        judge_tensor(p, id, results->data[id], r, &a, v);
        if (id == T_OUT || id == T_DQ)
            judge_empty_rows(p, id, results->data[id], r->data[T_LSE], v);
    }
}
