/* SPDX-License-Identifier: MIT */
/* Running a kernel on a case: cut over heads and key slices in any way, with poisoned outputs, exact scratch between
 * guards, and a look at every byte that was not to be written. */
#ifndef RINGX_TESTS_KERNEL_RUN_H
#define RINGX_TESTS_KERNEL_RUN_H

#include "kernel/kernel_case.h"

typedef struct run_how {
    int threads;
    int64_t kv_heads;  /* of a job; 0: all */
    int64_t q_heads;   /* of a job, fewer than a group; 0: all of its kv heads' */
    size_t keys;       /* key slices of a call; 0: all.  More than one call then carries the state in memory */
    bool drop_dead;    /* leave key slices out that no query sees */
    bool finish_later; /* by the row operation instead of `final` */
} run_how;

#define GUARD 256

typedef struct scratch {
    unsigned char *memory;
    size_t bytes;
} scratch;

static inline scratch scratch_create(size_t bytes)
{
    scratch s = {.bytes = bytes};
    s.memory = aligned_alloc(128, (bytes + 2 * GUARD + 127) / 128 * 128);
    assert_non_null(s.memory);
    memset(s.memory, POISON, bytes + 2 * GUARD);
    return s;
}

static inline void scratch_destroy(scratch *s)
{
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(s->memory[i], POISON);
        assert_int_equal(s->memory[GUARD + s->bytes + i], POISON);
    }
    free(s->memory);
}

static inline ringx_view view_from(const tensor *t, int64_t head)
{
    ringx_view v = t->view;
    v.data = (char *)v.data + (size_t)(head * v.head_stride) * t->element;
    return v;
}

static inline ringx_rows rows_from(const tensor *t, int64_t head)
{
    ringx_rows r = tensor_rows(t);
    r.data += head * r.head_stride;
    return r;
}

typedef struct run_job {
    ringx_job job;
    ringx_query_slice query[MAX_SLICES];
    ringx_key_slice key[MAX_SLICES];
    uint8_t live[MAX_SLICES * MAX_SLICES];
} run_job;

/* The job of kv heads [kv, kv + kvs), query heads [q, q + qs) and key slices [from, to). */
static inline void job_create(run_job *r, const kernel_case *c, int64_t kv, int64_t kvs, int64_t q, int64_t qs,
                              size_t from, size_t to, const run_how *how)
{
    r->job = (ringx_job){.shape = &c->shape,
                         .q_head = q,
                         .q_heads = qs,
                         .kv_head = kv,
                         .kv_heads = kvs,
                         .query = r->query,
                         .key = r->key,
                         .live = r->live,
                         .queries = c->queries,
                         .threads = how->threads};
    for (size_t i = 0; i < c->queries; i++) {
        const query_part *p = &c->query[i];
        r->query[i] = (ringx_query_slice){.run = p->run,
                                          .q = view_from(&p->q, q),
                                          .acc = view_from(&p->acc, q),
                                          .m = rows_from(&p->m, q),
                                          .l = rows_from(&p->l, q),
                                          .out = view_from(&p->out, q),
                                          .lse = rows_from(&p->lse, q),
                                          .dout = view_from(&p->dout, q),
                                          .delta = rows_from(&p->delta, q),
                                          .dq = view_from(&p->dq, q)};
    }
    for (size_t i = from; i < to; i++) {
        const key_part *p = &c->key[i];
        bool any = false;
        for (size_t iq = 0; iq < c->queries; iq++)
            any |= c->live[iq * c->keys + i];
        if (how->drop_dead && !any)
            continue;
        r->key[r->job.keys++] = (ringx_key_slice){.run = p->run,
                                                  .k = view_from(&p->k, kv),
                                                  .v = view_from(&p->v, kv),
                                                  .dk = view_from(&p->dk, kv),
                                                  .dv = view_from(&p->dv, kv)};
    }
    size_t at = 0;
    for (size_t i = from; i < to; i++) {
        bool any = false;
        for (size_t iq = 0; iq < c->queries; iq++)
            any |= c->live[iq * c->keys + i];
        if (how->drop_dead && !any)
            continue;
        for (size_t iq = 0; iq < c->queries; iq++)
            r->live[iq * r->job.keys + at] = c->live[iq * c->keys + i];
        at++;
    }
}

static inline int64_t tokens_of(const kernel_case *c)
{
    int64_t queries = 0, keys = 0;
    for (size_t i = 0; i < c->queries; i++)
        queries += c->query[i].run.count;
    for (size_t i = 0; i < c->keys; i++)
        keys += c->key[i].run.count;
    return queries > keys ? queries : keys;
}

static inline void poison(tensor *t)
{
    memset(t->memory, POISON, t->bytes);
    memcpy(t->before, t->memory, t->bytes);
}

/* Calls `one` for each head cut that `how` asks for. */
static inline void for_each_cut(const kernel_case *c, const run_how *how,
                                void (*one)(const kernel_case *, const ringx_kernel *, const run_how *, int64_t kv,
                                            int64_t kvs, int64_t q, int64_t qs),
                                const ringx_kernel *kernel)
{
    const ringx_shape *s = &c->shape;
    int64_t step = how->kv_heads ? how->kv_heads : s->kv_heads;
    if (how->q_heads) {
        for (int64_t q = 0; q < s->q_heads; q += how->q_heads) {
            int64_t qs = how->q_heads < s->q_heads - q ? how->q_heads : s->q_heads - q;
            int64_t kv = q / s->group, end = (q + qs - 1) / s->group + 1;
            one(c, kernel, how, kv, end - kv, q, qs);
        }
        return;
    }
    for (int64_t kv = 0; kv < s->kv_heads; kv += step) {
        int64_t kvs = step < s->kv_heads - kv ? step : s->kv_heads - kv;
        one(c, kernel, how, kv, kvs, kv * s->group, kvs * s->group);
    }
}

static inline void forward_cut(const kernel_case *c, const ringx_kernel *kernel, const run_how *how, int64_t kv,
                               int64_t kvs, int64_t q, int64_t qs)
{
    size_t step = how->keys ? how->keys : c->keys;
    scratch s = scratch_create(kernel->scratch_bytes(&c->shape, qs, kvs, tokens_of(c), how->threads, false));
    run_job r;
    for (size_t from = 0; from < c->keys; from += step) {
        size_t to = from + step < c->keys ? from + step : c->keys;
        memset(&r, 0, sizeof r);
        job_create(&r, c, kv, kvs, q, qs, from, to, how);
        r.job.fresh = from == 0;
        r.job.final = to == c->keys && !how->finish_later;
        r.job.scratch = s.memory + GUARD;
        assert_int_equal(kernel->forward(&r.job), RINGX_OK);
    }
    scratch_destroy(&s);
    for (size_t i = 0; how->finish_later && i < c->queries; i++) {
        const ringx_query_slice *slice = &r.query[i];
        assert_int_equal(ringx__rowops(RINGX_CPU)->finish(&c->shape, slice->run.count, qs,
                                                          &(ringx_state){slice->acc, slice->m, slice->l}, 1, slice->out,
                                                          slice->lse, how->threads, NULL),
                         RINGX_OK);
    }
}

static inline void run_forward(kernel_case *c, const ringx_kernel *kernel, run_how how)
{
    for (size_t i = 0; i < c->queries; i++) {
        query_part *p = &c->query[i];
        tensor *all[] = {&p->acc, &p->m, &p->l, &p->out, &p->lse};
        for (size_t j = 0; j < 5; j++)
            poison(all[j]);
    }
    for_each_cut(c, &how, forward_cut, kernel);
    for (size_t i = 0; i < c->queries; i++) {
        query_part *p = &c->query[i];
        tensor *all[] = {&p->acc, &p->m, &p->l, &p->out, &p->lse};
        for (size_t j = 0; j < 5; j++)
            tensor_check_gaps(all[j]);
    }
}

/* Gradients start from numbers, since they are added to. */
static inline void start_gradients(kernel_case *c)
{
    dice d = {42};
    for (size_t i = 0; i < c->queries; i++) {
        tensor_fill(&d, &c->query[i].dq);
        memcpy(c->query[i].dq.before, c->query[i].dq.memory, c->query[i].dq.bytes);
    }
    for (size_t i = 0; i < c->keys; i++) {
        tensor_fill(&d, &c->key[i].dk);
        tensor_fill(&d, &c->key[i].dv);
        memcpy(c->key[i].dk.before, c->key[i].dk.memory, c->key[i].dk.bytes);
        memcpy(c->key[i].dv.before, c->key[i].dv.memory, c->key[i].dv.bytes);
    }
}

static inline void backward_cut(const kernel_case *c, const ringx_kernel *kernel, const run_how *how, int64_t kv,
                                int64_t kvs, int64_t q, int64_t qs)
{
    scratch s = scratch_create(kernel->scratch_bytes(&c->shape, qs, kvs, tokens_of(c), how->threads, true));
    run_job r = {0};
    job_create(&r, c, kv, kvs, q, qs, 0, c->keys, how);
    r.job.scratch = s.memory + GUARD;
    assert_int_equal(kernel->backward(&r.job), RINGX_OK);
    scratch_destroy(&s);
}

/* lse and delta must be there: from a forward run and the oracle. */
static inline void run_backward(kernel_case *c, const ringx_kernel *kernel, run_how how)
{
    start_gradients(c);
    for_each_cut(c, &how, backward_cut, kernel);
    for (size_t i = 0; i < c->queries; i++)
        tensor_check_gaps(&c->query[i].dq);
    for (size_t i = 0; i < c->keys; i++) {
        tensor_check_gaps(&c->key[i].dk);
        tensor_check_gaps(&c->key[i].dv);
    }
}

#endif
