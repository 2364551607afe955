/* SPDX-License-Identifier: MIT */
/* cpu_ref: the definition as plain loops, all arithmetic in double.  Never optimised: the other kernels are tested
 * against it.  The state is rounded to float after each key slice, so that splitting a job's slices changes no bit. */
#include <float.h>

#include "core/philox.h"
#include "kernel/cpu_rows.h"
#include "kernel/cpu_tasks.h"

#define MAX_DIM 256

typedef struct pair { /* one (query, key) of one head */
    double s2;        /* score·log2(e), soft-capped */
    double slope;     /* d score / d (scaled q·k): 1 without softcap */
    double keep;      /* 0 if dropped, else 1/(1 - dropout) */
} pair;

static double dot(const void *a, const void *b, ringx_dtype dtype, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)ringx__load(a, dtype, i) * (double)ringx__load(b, dtype, i);
    return sum;
}

static pair evaluate(const ringx_job *job, const void *q, const void *k, int64_t b, int64_t head, int64_t query,
                     int64_t key)
{
    const ringx_shape *shape = job->shape;
    pair p = {.slope = 1, .keep = 1};
    double score = dot(q, k, shape->dtype, shape->head_dim) * shape->scale;
    if (shape->softcap > 0) {
        double t = tanh(score / shape->softcap);
        score = shape->softcap * t;
        p.slope = 1 - t * t;
    }
    p.s2 = score * RINGX_LOG2E;
    if (fabs(p.s2) > FLT_MAX) /* no float state can hold it: let it end as infinity or NaN, not as a wrong number */
        p.s2 = copysign(INFINITY, p.s2);
    if (shape->dropout > 0) {
        uint32_t threshold = ringx__dropout_threshold(shape->dropout);
        int keeps = ringx__dropout_keeps(shape->seed, threshold, b, job->q_head + head, query, key);
        p.keep = keeps ? 1 / (1 - shape->dropout) : 0;
    }
    return p;
}

static bool sees(const ringx_shape *shape, int64_t query, int64_t key)
{
    ringx_interval keys = ringx__mask_keys(&shape->mask, query);
    return keys.lo <= key && key < keys.hi;
}

static int64_t position(const ringx_run *run, int64_t i)
{
    return run->first + i * run->step;
}

/* ---- forward --------------------------------------------------------------------------------------------------------
 */

typedef struct state {
    float acc[MAX_DIM];
    float m, l;
} state;

/* state ⊕= the keys of one slice that the query sees */
static void fold(const ringx_job *job, const ringx_key_slice *slice, const void *q, int64_t b, int64_t head,
                 int64_t query, state *st)
{
    const ringx_shape *shape = job->shape;
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    int64_t kv = (job->q_head + head) / shape->group - job->kv_head;
    double top = (double)st->m;
    for (int64_t i = 0; i < slice->run.count; i++) {
        int64_t key = position(&slice->run, i);
        if (sees(shape, query, key))
            top = fmax(top, evaluate(job, q, ringx__view_row(&slice->k, bytes, b, i, kv), b, head, query, key).s2);
    }
    float m = (float)top;
    double base = m == -INFINITY ? 0 : (double)m, w = exp2((double)st->m - base);
    double l = (double)st->l * w, acc[MAX_DIM];
    for (int64_t e = 0; e < shape->value_dim; e++)
        acc[e] = (double)st->acc[e] * w;
    for (int64_t i = 0; i < slice->run.count; i++) {
        int64_t key = position(&slice->run, i);
        if (!sees(shape, query, key))
            continue;
        pair p = evaluate(job, q, ringx__view_row(&slice->k, bytes, b, i, kv), b, head, query, key);
        const void *v = ringx__view_row(&slice->v, bytes, b, i, kv);
        double weight = exp2(p.s2 - base);
        l += weight;
        for (int64_t e = 0; e < shape->value_dim; e++)
            acc[e] += weight * p.keep * (double)ringx__load(v, shape->dtype, e);
    }
    for (int64_t e = 0; e < shape->value_dim; e++)
        st->acc[e] = (float)acc[e];
    st->m = m;
    st->l = (float)l;
}

static void forward_row(const ringx_job *job, size_t iq, int64_t b, int64_t head, int64_t token)
{
    const ringx_shape *shape = job->shape;
    const ringx_query_slice *slice = &job->query[iq];
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    state st = {.m = -INFINITY};
    if (!job->fresh) {
        const float *acc = ringx__view_row(&slice->acc, sizeof(float), b, token, head);
        for (int64_t e = 0; e < shape->value_dim; e++)
            st.acc[e] = acc[e];
        st.m = ringx__rows_at(&slice->m, b, head)[token];
        st.l = ringx__rows_at(&slice->l, b, head)[token];
    }
    const void *q = ringx__view_row(&slice->q, bytes, b, token, head);
    for (size_t ik = 0; ik < job->keys; ik++)
        if (job->live[iq * job->keys + ik])
            fold(job, &job->key[ik], q, b, head, position(&slice->run, token), &st);
    if (job->final) {
        void *out = ringx__view_row(&slice->out, bytes, b, token, head);
        for (int64_t e = 0; e < shape->value_dim; e++)
            ringx__store(out, shape->dtype, e, ringx__quotient(st.acc[e], st.l));
        ringx__rows_at(&slice->lse, b, head)[token] = ringx__state_lse(st.m, st.l);
        return;
    }
    float *acc = ringx__view_row(&slice->acc, sizeof(float), b, token, head);
    for (int64_t e = 0; e < shape->value_dim; e++)
        acc[e] = st.acc[e];
    ringx__rows_at(&slice->m, b, head)[token] = st.m;
    ringx__rows_at(&slice->l, b, head)[token] = st.l;
}

static ringx_status forward(const ringx_job *job)
{
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(ringx__useful_threads(job))
    for (int64_t b = 0; b < job->shape->batch; b++)
        for (int64_t head = 0; head < job->q_heads; head++)
            for (size_t iq = 0; iq < job->queries; iq++)
                for (int64_t token = 0; token < job->query[iq].run.count; token++)
                    forward_row(job, iq, b, head, token);
    return RINGX_OK;
}

/* ---- backward -------------------------------------------------------------------------------------------------------
 */

typedef struct gradient { /* of one (query, key) */
    const void *q, *k, *dout;
    double weight; /* of dout in dv: the kept probability */
    double ds;     /* of q·k */
} gradient;

/* false where the pair contributes nothing */
static bool differentiate(const ringx_job *job, size_t iq, size_t ik, int64_t b, int64_t head, int64_t i, int64_t j,
                          gradient *g)
{
    const ringx_shape *shape = job->shape;
    const ringx_query_slice *qs = &job->query[iq];
    const ringx_key_slice *ks = &job->key[ik];
    int64_t query = position(&qs->run, i), key = position(&ks->run, j);
    float lse = ringx__rows_at(&qs->lse, b, head)[i];
    if (lse == -INFINITY || !sees(shape, query, key))
        return false;
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    int64_t kv = (job->q_head + head) / shape->group - job->kv_head;
    g->q = ringx__view_row(&qs->q, bytes, b, i, head);
    g->dout = ringx__view_row(&qs->dout, bytes, b, i, head);
    g->k = ringx__view_row(&ks->k, bytes, b, j, kv);
    const void *v = ringx__view_row(&ks->v, bytes, b, j, kv);
    pair p = evaluate(job, g->q, g->k, b, head, query, key);
    double probability = exp2(p.s2 - (double)lse * RINGX_LOG2E);
    double dp = p.keep * dot(g->dout, v, shape->dtype, shape->value_dim);
    double delta = (double)ringx__rows_at(&qs->delta, b, head)[i];
    g->weight = probability * p.keep;
    g->ds = probability * (dp - delta) * p.slope * shape->scale;
    return true;
}

static void add_scaled(double *sum, double weight, const void *row, ringx_dtype dtype, int64_t n)
{
    for (int64_t e = 0; e < n; e++)
        sum[e] += weight * (double)ringx__load(row, dtype, e);
}

static void add_rounded(float *to, const double *sum, int64_t n)
{
    for (int64_t e = 0; e < n; e++)
        to[e] = (float)((double)to[e] + sum[e]);
}

static void gradient_of_query(const ringx_job *job, size_t iq, int64_t b, int64_t head, int64_t i)
{
    const ringx_shape *shape = job->shape;
    double dq[MAX_DIM] = {0};
    gradient g;
    for (size_t ik = 0; ik < job->keys; ik++)
        for (int64_t j = 0; job->live[iq * job->keys + ik] && j < job->key[ik].run.count; j++)
            if (differentiate(job, iq, ik, b, head, i, j, &g))
                add_scaled(dq, g.ds, g.k, shape->dtype, shape->head_dim);
    add_rounded(ringx__view_row(&job->query[iq].dq, sizeof(float), b, i, head), dq, shape->head_dim);
}

static void gradient_of_key(const ringx_job *job, size_t ik, int64_t b, int64_t kv, int64_t j)
{
    const ringx_shape *shape = job->shape;
    double dk[MAX_DIM] = {0}, dv[MAX_DIM] = {0};
    int64_t first, end;
    ringx__group_heads(job, kv, &first, &end);
    gradient g;
    for (int64_t head = first; head < end; head++)
        for (size_t iq = 0; iq < job->queries; iq++)
            for (int64_t i = 0; job->live[iq * job->keys + ik] && i < job->query[iq].run.count; i++)
                if (differentiate(job, iq, ik, b, head, i, j, &g)) {
                    add_scaled(dk, g.ds, g.q, shape->dtype, shape->head_dim);
                    add_scaled(dv, g.weight, g.dout, shape->dtype, shape->value_dim);
                }
    add_rounded(ringx__view_row(&job->key[ik].dk, sizeof(float), b, j, kv), dk, shape->head_dim);
    add_rounded(ringx__view_row(&job->key[ik].dv, sizeof(float), b, j, kv), dv, shape->value_dim);
}

static ringx_status backward(const ringx_job *job)
{
#pragma omp parallel num_threads(ringx__useful_threads(job))
    {
#pragma omp for collapse(2) schedule(dynamic) nowait
        for (int64_t b = 0; b < job->shape->batch; b++)
            for (int64_t head = 0; head < job->q_heads; head++)
                for (size_t iq = 0; iq < job->queries; iq++)
                    for (int64_t i = 0; i < job->query[iq].run.count; i++)
                        gradient_of_query(job, iq, b, head, i);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t b = 0; b < job->shape->batch; b++)
            for (int64_t kv = 0; kv < job->kv_heads; kv++)
                for (size_t ik = 0; ik < job->keys; ik++)
                    for (int64_t j = 0; j < job->key[ik].run.count; j++)
                        gradient_of_key(job, ik, b, kv, j);
    }
    return RINGX_OK;
}

static bool available(void)
{
    return true;
}

static bool supports(const ringx_shape *shape)
{
    return shape->head_dim <= MAX_DIM && shape->value_dim <= MAX_DIM;
}

static size_t scratch_bytes(const ringx_shape *shape, int64_t q_heads, int64_t kv_heads, int64_t tokens, int threads,
                            bool backward_pass)
{
    (void)shape, (void)q_heads, (void)kv_heads, (void)tokens, (void)threads, (void)backward_pass;
    return 0;
}

const ringx_kernel ringx__kernel_cpu_ref = {
    .name = "cpu_ref",
    .text = "plain loops in double; slow, and what the others are tested against",
    .device = RINGX_CPU,
    .available = available,
    .supports = supports,
    .scratch_bytes = scratch_bytes,
    .forward = forward,
    .backward = backward,
};
