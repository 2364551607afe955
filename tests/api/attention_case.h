/* SPDX-License-Identifier: MIT */
/* One attention, forward and backward, over ranks that are threads, with everything poisoned that should not matter:
 * outputs, gaps between strided rows, the workspace, which also sits between guard bytes. */
#ifndef RINGX_TEST_ATTENTION_CASE_H
#define RINGX_TEST_ATTENTION_CASE_H

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "core/half.h"
#include <ringx/ringx.h>
#include <ringx/ringx_study.h>

enum { T_Q, T_K, T_V, T_OUT, T_DOUT, T_DQ, T_DK, T_DV, T_LSE, TENSORS };
static const char *const tensor_name[TENSORS] = {"q", "k", "v", "out", "dout", "dq", "dk", "dv", "lse"};

typedef struct attention_case {
    ringx_problem problem;
    ringx_options options;
    int ranks;
    uint64_t data_seed;
    int gap;                                 /* extra elements between heads' rows */
    const char *fault;                       /* for ringx_comm_faulty */
    bool zeroed;                             /* memory that should not matter is 0, not NaN */
    void (*alter)(struct attention_case *c); /* changes the inputs drawn, in want[T_Q … T_V, T_DOUT] */
    void *context;                           /* of the test */
    const struct attention_case *like;       /* a case of the same problem and data: its want[] is taken over */
    double *want[TENSORS];                   /* whole, from ringx_reference */
    double *got[TENSORS];                    /* whole, from the ranks */
    size_t workspace_bytes;                  /* largest over ranks */
    size_t workspace_unused; /* bytes at the end of a workspace that neither direction wrote; largest over ranks */
    ringx_status status[64]; /* of each rank */
    ringx_status later[64];  /* of its communicator when all ranks have ended; the message is of the first failure */
    char message[64][512];
    ringx_comm *comm[64];
    pthread_mutex_t mutex;
} attention_case;

static inline double case_random(uint64_t seed, uint64_t i)
{
    uint64_t x = seed * 0x9E3779B97F4A7C15u + i + 1;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-52 - 1.0;
}

static inline double case_round(ringx_dtype dtype, double x)
{
    float f = (float)x;
    if (dtype == RINGX_BF16)
        f = ringx__bf16_f32(ringx__f32_bf16(f));
    if (dtype == RINGX_F16)
        f = ringx__f16_f32(ringx__f32_f16(f));
    return f;
}

static inline int64_t case_heads(const ringx_problem *p, int t)
{
    return t == T_K || t == T_V || t == T_DK || t == T_DV ? p->kv_heads : p->q_heads;
}

static inline int64_t case_dim(const ringx_problem *p, int t)
{
    int64_t dv = p->value_dim ? p->value_dim : p->head_dim;
    return t == T_LSE ? 1 : t == T_V || t == T_OUT || t == T_DOUT || t == T_DV ? dv : p->head_dim;
}

static inline size_t case_elements(const ringx_problem *p, int t)
{
    return (size_t)(p->batch * p->tokens * case_heads(p, t) * case_dim(p, t));
}

/* All ones: NaN in every format. */
static inline int case_poison(const attention_case *c)
{
    return c->zeroed ? 0 : 0xff;
}

static inline void *case_poisoned(const attention_case *c, size_t bytes, size_t align)
{
    void *p = NULL;
    if (posix_memalign(&p, align, bytes ? (bytes + 127) / 128 * 128 : 128) != 0)
        abort();
    memset(p, case_poison(c), bytes ? bytes : 1);
    return p;
}

typedef struct case_rank {
    attention_case *c;
    int rank;
} case_rank;

static inline void put(const ringx_problem *p, char *at, int64_t i, double x)
{
    float f = (float)x;
    uint16_t h = p->dtype == RINGX_BF16 ? ringx__f32_bf16(f) : ringx__f32_f16(f);
    if (p->dtype == RINGX_F32)
        memcpy(at + i * 4, &f, 4);
    else
        memcpy(at + i * 2, &h, 2);
}

static inline double get(const ringx_problem *p, const char *at, int64_t i)
{
    float f;
    uint16_t h;
    if (p->dtype == RINGX_F32) {
        memcpy(&f, at + i * 4, 4);
        return f;
    }
    memcpy(&h, at + i * 2, 2);
    return p->dtype == RINGX_BF16 ? ringx__bf16_f32(h) : ringx__f16_f32(h);
}

/* Where the plan's device is not the CPU, its memory stands in for the host's while the plan runs. */
typedef struct case_mirror {
    ringx_device device;
    void *host, *there;
    size_t bytes;
} case_mirror;

static inline void case_must(ringx_status status)
{
    if (status == RINGX_OK)
        return;
    fprintf(stderr, "%s\n", ringx_last_error());
    abort();
}

static inline void case_upload(const case_mirror *m)
{
    if (m->there != m->host)
        case_must(ringx_memory_copy(m->device, m->there, m->host, m->bytes));
}

static inline case_mirror case_mirror_create(ringx_device device, void *host, size_t bytes)
{
    case_mirror m = {device, host, host, bytes};
    if (device != RINGX_CPU) {
        case_must(ringx_memory_alloc(device, bytes, &m.there));
        case_upload(&m);
    }
    return m;
}

static inline void case_mirror_destroy(const case_mirror *m)
{
    if (m->there == m->host)
        return;
    case_must(ringx_memory_copy(m->device, m->host, m->there, m->bytes));
    ringx_memory_free(m->device, m->there);
}

/* Bytes at the end of [from, from + bytes) that still are the poison. */
static inline size_t case_untouched(const attention_case *c, const void *from, size_t bytes)
{
    const unsigned char *p = from;
    size_t n = 0;
    while (n < bytes && p[bytes - 1 - n] == (unsigned char)case_poison(c))
        n++;
    return n;
}

static inline ringx_status case_both_directions(attention_case *c, ringx_plan *plan, const ringx_args *a,
                                                const case_mirror *room, size_t guard)
{
    ringx_status status = ringx_forward(plan, a);
    if (status == RINGX_OK)
        status = ringx_plan_wait(plan);
    if (status != RINGX_OK || c->options.forward_only)
        return status;
    char *space = (char *)room->host + guard;
    size_t bytes = room->bytes - 2 * guard, unused = case_untouched(c, space, bytes);
    if (room->there == room->host) { /* fresh poison for backward */
        memset(space, case_poison(c), bytes);
    } else {
        case_upload(room);
    }
    status = ringx_backward(plan, a);
    if (status == RINGX_OK)
        status = ringx_plan_wait(plan);
    size_t unused_too = case_untouched(c, space, bytes);
    pthread_mutex_lock(&c->mutex);
    unused = unused_too < unused ? unused_too : unused;
    c->workspace_unused = unused > c->workspace_unused ? unused : c->workspace_unused;
    pthread_mutex_unlock(&c->mutex);
    return status;
}

static inline ringx_status case_execute(attention_case *c, ringx_plan *plan, char **local, float *lse, size_t *stride)
{
    const ringx_problem *p = &c->problem;
    ringx_device device = c->options.device;
    int64_t n = ringx_plan_local_tokens(plan);
    ringx_args a = RINGX_ARGS_INIT;
    ringx_tensor *at[] = {&a.q, &a.k, &a.v, &a.out, &a.dout, &a.dq, &a.dk, &a.dv};
    case_mirror tensor[TENSORS];
    size_t el = p->dtype == RINGX_F32 ? 4 : 2;
    for (int t = 0; t < T_LSE; t++) {
        int64_t head = (int64_t)stride[t], token = head * case_heads(p, t);
        tensor[t] = case_mirror_create(device, local[t], (size_t)(p->batch * n * token) * el);
        *at[t] = (ringx_tensor){tensor[t].there, {n * token, token, head}};
    }
    tensor[T_LSE] = case_mirror_create(device, lse, (size_t)(p->batch * p->q_heads * n) * sizeof *lse);
    size_t bytes = ringx_plan_workspace(plan), guard = 256;
    unsigned char *room = case_poisoned(c, bytes + 2 * guard, 128);
    memset(room, 0xA5, guard);
    memset(room + guard + bytes, 0xA5, guard);
    case_mirror workspace = case_mirror_create(device, room, bytes + 2 * guard);
    a.lse = tensor[T_LSE].there;
    a.workspace = (char *)workspace.there + guard;
    a.workspace_bytes = bytes;
    ringx_status status = case_both_directions(c, plan, &a, &workspace, guard);
    for (int t = 0; t < TENSORS; t++)
        case_mirror_destroy(&tensor[t]);
    case_mirror_destroy(&workspace);
    for (size_t i = 0; i < guard; i++)
        if (room[i] != 0xA5 || room[guard + bytes + i] != 0xA5) {
            fprintf(stderr, "guard byte %zu of the workspace was overwritten\n", i);
            abort();
        }
    free(room);
    return status;
}

static inline ringx_status case_run_rank(attention_case *c, int rank)
{
    const ringx_problem *p = &c->problem;
    ringx_plan *plan;
    ringx_status status = ringx_plan_create(&plan, p, &c->options, c->comm[rank]);
    if (status != RINGX_OK)
        return status;
    int64_t n = ringx_plan_local_tokens(plan), *position = malloc((size_t)(n + 1) * sizeof *position);
    char *local[T_LSE];
    size_t stride[T_LSE], el = p->dtype == RINGX_F32 ? 4 : 2;
    ringx_plan_positions(plan, position);
    for (int t = 0; t < T_LSE; t++) {
        int64_t heads = case_heads(p, t), dim = case_dim(p, t);
        stride[t] = (size_t)(dim + c->gap);
        local[t] = case_poisoned(c, (size_t)(p->batch * n * heads) * stride[t] * el, 128);
        for (int64_t r = 0; r < p->batch * n * heads && (t <= T_V || t == T_DOUT); r++) {
            int64_t b = r / (n * heads), token = position[r / heads % n], h = r % heads;
            for (int64_t i = 0; i < dim; i++)
                put(p, local[t], r * (int64_t)stride[t] + i,
                    c->want[t][((b * p->tokens + token) * heads + h) * dim + i]);
        }
    }
    float *lse = case_poisoned(c, (size_t)(p->batch * p->q_heads * n) * sizeof *lse, 128);
    status = case_execute(c, plan, local, lse, stride);
    pthread_mutex_lock(&c->mutex);
    size_t bytes = ringx_plan_workspace(plan);
    c->workspace_bytes = bytes > c->workspace_bytes ? bytes : c->workspace_bytes;
    for (int t = T_OUT; t < T_LSE && status == RINGX_OK; t++) {
        int64_t heads = case_heads(p, t), dim = case_dim(p, t);
        for (int64_t r = 0; r < p->batch * n * heads && t != T_DOUT; r++) {
            int64_t b = r / (n * heads), token = position[r / heads % n], h = r % heads;
            for (int64_t i = 0; i < dim; i++)
                c->got[t][((b * p->tokens + token) * heads + h) * dim + i] =
                    get(p, local[t], r * (int64_t)stride[t] + i);
        }
    }
    for (int64_t r = 0; r < p->batch * p->q_heads && status == RINGX_OK; r++)
        for (int64_t i = 0; i < n; i++)
            c->got[T_LSE][r * p->tokens + position[i]] = lse[r * n + i];
    pthread_mutex_unlock(&c->mutex);
    for (int t = 0; t < T_LSE; t++)
        free(local[t]);
    free(lse);
    free(position);
    char message[512];
    snprintf(message, sizeof message, "%s", ringx_last_error());
    ringx_plan_destroy(plan);
    if (status != RINGX_OK)
        snprintf(c->message[rank], sizeof c->message[rank], "%s", message);
    return status;
}

static inline void *case_thread(void *argument)
{
    case_rank *r = argument;
    r->c->status[r->rank] = case_run_rank(r->c, r->rank);
    if (r->c->status[r->rank] != RINGX_OK && !r->c->message[r->rank][0])
        snprintf(r->c->message[r->rank], sizeof r->c->message[r->rank], "%s", ringx_last_error());
    return NULL;
}

static inline void case_draw(attention_case *c)
{
    const ringx_problem *p = &c->problem;
    for (int t = 0; t < TENSORS; t++) {
        size_t n = case_elements(p, t);
        c->want[t] = malloc((n + 1) * sizeof(double));
        c->got[t] = malloc((n + 1) * sizeof(double));
        for (size_t i = 0; i < n; i++) {
            c->want[t][i] = c->like ? c->like->want[t][i]
                                    : case_round(p->dtype, case_random(c->data_seed * TENSORS + (uint64_t)t, i));
            c->got[t][i] = NAN;
        }
    }
    if (c->like)
        return;
    if (c->alter)
        c->alter(c);
    ringx_reference_tensors r = {c->want[T_Q],   c->want[T_K],  c->want[T_V],  c->want[T_DOUT], c->want[T_OUT],
                                 c->want[T_LSE], c->want[T_DQ], c->want[T_DK], c->want[T_DV]};
    if (ringx_reference(p, &r) != RINGX_OK) {
        fprintf(stderr, "reference: %s\n", ringx_last_error());
        abort();
    }
}

/* Draws inputs, computes what is wanted, runs all ranks.  The caller frees with case_free. */
static inline void case_run(attention_case *c)
{
    case_draw(c);
    ringx_comm *inner[64];
    if (ringx_comm_threads(c->ranks, inner) != RINGX_OK)
        abort();
    pthread_t thread[64];
    case_rank rank[64];
    pthread_mutex_init(&c->mutex, NULL);
    for (int i = 0; i < c->ranks; i++) {
        c->comm[i] = inner[i];
        c->message[i][0] = 0;
        if (c->fault && ringx_comm_faulty(inner[i], c->fault, &c->comm[i]) != RINGX_OK)
            abort();
        rank[i] = (case_rank){c, i};
        pthread_create(&thread[i], NULL, case_thread, &rank[i]);
    }
    for (int i = 0; i < c->ranks; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < c->ranks; i++) {
        c->later[i] = c->comm[i]->ops->poll(c->comm[i]);
        if (c->status[i] == RINGX_OK && c->later[i] != RINGX_OK)
            snprintf(c->message[i], sizeof c->message[i], "%s", ringx_last_error());
    }
    for (int i = 0; i < c->ranks; i++)
        ringx_comm_destroy(c->comm[i]);
    pthread_mutex_destroy(&c->mutex);
}

static inline void case_free(attention_case *c)
{
    for (int t = 0; t < TENSORS; t++) {
        free(c->want[t]);
        free(c->got[t]);
        c->want[t] = c->got[t] = NULL;
    }
}

/* Relative Frobenius error of a tensor; infinite values must match; NaN anywhere gives NaN. */
static inline double case_error(const attention_case *c, int t)
{
    double error = 0, size = 0;
    size_t n = case_elements(&c->problem, t);
    for (size_t i = 0; i < n; i++) {
        double want = c->want[t][i], got = c->got[t][i];
        if (isinf(want) || isinf(got)) {
            if (want != got)
                return NAN;
            continue;
        }
        error += (got - want) * (got - want);
        size += want * want;
    }
    double floor = 0.1 * sqrt((double)(n ? n : 1));
    return sqrt(error) / fmax(sqrt(size), floor);
}

static inline double case_tolerance(ringx_dtype dtype, int t)
{
    if (t == T_LSE)
        return dtype == RINGX_F32 ? 3e-6 : 3e-6;
    return dtype == RINGX_F32 ? 5e-6 : dtype == RINGX_BF16 ? 1e-2 : 1.5e-3;
}

/* True if every rank succeeded and every tensor is right; else says why. */
static inline bool case_right(const attention_case *c)
{
    bool right = true;
    for (int i = 0; i < c->ranks; i++)
        if (c->status[i] != RINGX_OK) {
            fprintf(stderr, "rank %d: %s: %s\n", i, ringx_status_name(c->status[i]), c->message[i]);
            right = false;
        }
    for (int t = T_OUT; t < TENSORS && right; t++) {
        if (t == T_DOUT || (c->options.forward_only && t != T_OUT && t != T_LSE))
            continue;
        double error = case_error(c, t);
        if (!(error <= case_tolerance(c->problem.dtype, t))) {
            fprintf(stderr, "%s: error %g\n", tensor_name[t], error);
            right = false;
        }
    }
    return right;
}

#endif
