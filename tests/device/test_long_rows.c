/* SPDX-License-Identifier: MIT */
/* Rows of a long sequence against their definition in double: out, lse and dq of some queries, dk and dv of some keys,
 * each a sum over all of the other side.  65,501 tokens on a GPU, where no oracle of all rows is at hand; fewer on the
 * CPU. */
#include "need_gpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 18, MOST_DIM = 128 };

typedef struct sequence { /* [tokens][heads][dim] bf16 in host memory */
    ringx_problem p;
    int64_t group;
    double scale;
    uint16_t *q, *k, *v, *dout, *out, *dq, *dk, *dv;
    float *lse; /* [heads][tokens] */
} sequence;

static void must(ringx_status status)
{
    if (status != RINGX_OK)
        fail_msg("%s: %s", ringx_status_name(status), ringx_last_error());
}

static double value(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return (double)x;
}

/* Multiples of 1/64 within ±2: each is a bf16. */
static uint16_t *random_values(size_t count, uint64_t seed)
{
    uint16_t *values = malloc(2 * count);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        float x = (float)((int)((seed >> 40) % 255) - 127) / 64;
        uint32_t word;
        memcpy(&word, &x, sizeof word);
        values[i] = (uint16_t)(word >> 16);
    }
    return values;
}

static size_t q_count(const sequence *s)
{
    return (size_t)(s->p.tokens * s->p.q_heads * s->p.head_dim);
}

static size_t kv_count(const sequence *s)
{
    return (size_t)(s->p.tokens * s->p.kv_heads * s->p.head_dim);
}

static void *to_device(ringx_device device, const void *from, size_t bytes)
{
    void *there = NULL;
    must(ringx_memory_alloc(device, bytes, &there));
    must(ringx_memory_copy(device, there, from, bytes));
    return there;
}

/* What is to be written: NaNs until then. */
static void *poisoned(ringx_device device, size_t bytes)
{
    void *poison = malloc(bytes);
    assert_non_null(poison);
    memset(poison, 0xff, bytes);
    void *there = to_device(device, poison, bytes);
    free(poison);
    return there;
}

static uint16_t *to_host(ringx_device device, const void *from, size_t count)
{
    uint16_t *here = malloc(2 * count);
    assert_non_null(here);
    must(ringx_memory_copy(device, here, from, 2 * count));
    return here;
}

static void compute(sequence *s, ringx_device device)
{
    ringx_args a = RINGX_ARGS_INIT;
    ringx_options o = RINGX_OPTIONS_INIT;
    ringx_comm *comm;
    ringx_plan *plan;
    size_t q = q_count(s), kv = kv_count(s), rows = (size_t)(s->p.tokens * s->p.q_heads);
    o.device = device;
    must(ringx_comm_self(&comm));
    must(ringx_plan_create(&plan, &s->p, &o, comm));
    a.q.data = to_device(device, s->q, 2 * q), a.k.data = to_device(device, s->k, 2 * kv);
    a.v.data = to_device(device, s->v, 2 * kv), a.dout.data = to_device(device, s->dout, 2 * q);
    a.out.data = poisoned(device, 2 * q), a.dq.data = poisoned(device, 2 * q);
    a.dk.data = poisoned(device, 2 * kv), a.dv.data = poisoned(device, 2 * kv);
    a.lse = poisoned(device, 4 * rows);
    a.workspace_bytes = ringx_plan_workspace(plan);
    a.workspace = poisoned(device, a.workspace_bytes + 1);
    must(ringx_forward(plan, &a));
    must(ringx_backward(plan, &a));
    must(ringx_plan_wait(plan));
    s->out = to_host(device, a.out.data, q), s->dq = to_host(device, a.dq.data, q);
    s->dk = to_host(device, a.dk.data, kv), s->dv = to_host(device, a.dv.data, kv);
    s->lse = (float *)to_host(device, a.lse, 2 * rows);
    void *const mine[] = {a.q.data,  a.k.data,  a.v.data,  a.dout.data, a.out.data,
                          a.dq.data, a.dk.data, a.dv.data, a.lse,       a.workspace};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        ringx_memory_free(device, mine[i]);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
}

static const uint16_t *row(const uint16_t *all, int64_t token, int64_t heads, int64_t head, int64_t dim)
{
    return all + (token * heads + head) * dim;
}

static double dot(const uint16_t *a, const uint16_t *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += value(a[i]) * value(b[i]);
    return sum;
}

static void add_scaled(double *sum, double factor, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += factor * value(x[i]);
}

/* Relative to the row's norm. */
static void expect_row(const char *what, int64_t token, int64_t head, const uint16_t *found, const double *right,
                       int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = value(found[i]) - right[i];
        off += d * d, size += right[i] * right[i];
    }
    if (!(sqrt(off) <= 0.015 * sqrt(size) + 1e-6)) /* NaN never passes */
        fail_msg("%s of token %lld, head %lld is off by %.3g of %.3g", what, (long long)token, (long long)head,
                 sqrt(off), sqrt(size));
}

/* Of the whole row: its sum is Σ w·v, its gradient Σ w·(dout·v − out·dout)·scale·k.  The latter is of out as found:
 * where one key has nearly all the weight, the gradient is less than what rounding out to bf16 moves it by. */
static void check_query(const sequence *s, int64_t i, int64_t h, double *weights)
{
    int64_t dim = s->p.head_dim, heads = s->p.q_heads, kv = s->p.kv_heads, kh = h / s->group;
    int64_t end = s->p.causal ? i + 1 : s->p.tokens;
    const uint16_t *q = row(s->q, i, heads, h, dim), *dout = row(s->dout, i, heads, h, dim);
    double top = -INFINITY, total = 0, delta = 0, out[MOST_DIM] = {0}, dq[MOST_DIM] = {0};
    for (int64_t j = 0; j < end; j++) {
        weights[j] = s->scale * dot(q, row(s->k, j, kv, kh, dim), dim);
        top = fmax(top, weights[j]);
    }
    for (int64_t j = 0; j < end; j++)
        total += weights[j] = exp(weights[j] - top);
    for (int64_t j = 0; j < end; j++)
        add_scaled(out, weights[j] / total, row(s->v, j, kv, kh, dim), dim);
    for (int64_t d = 0; d < dim; d++)
        delta += value(row(s->out, i, heads, h, dim)[d]) * value(dout[d]);
    for (int64_t j = 0; j < end; j++) {
        double ds = weights[j] / total * (dot(dout, row(s->v, j, kv, kh, dim), dim) - delta) * s->scale;
        add_scaled(dq, ds, row(s->k, j, kv, kh, dim), dim);
    }
    expect_row("out", i, h, row(s->out, i, heads, h, dim), out, dim);
    double lse = top + log(total), found = (double)s->lse[h * s->p.tokens + i];
    if (!(fabs(found - lse) <= 1e-4 * fmax(1, fabs(lse))))
        fail_msg("lse of token %lld, head %lld is %.9g, not %.9g", (long long)i, (long long)h, found, lse);
    if (i > 0 || !s->p.causal) /* with one key the gradient is 0, and what is left is rounding */
        expect_row("dq", i, h, row(s->dq, i, heads, h, dim), dq, dim);
}

/* Of a key: dk = Σ w·(dout·v − out·dout)·scale·q, dv = Σ w·dout over all queries of its heads, whose lse and out are
 * taken as found. */
static void check_key(const sequence *s, int64_t j, int64_t kh)
{
    int64_t dim = s->p.head_dim, heads = s->p.q_heads, kv = s->p.kv_heads;
    const uint16_t *k = row(s->k, j, kv, kh, dim), *v = row(s->v, j, kv, kh, dim);
    double dk[MOST_DIM] = {0}, dv[MOST_DIM] = {0};
    for (int64_t h = kh * s->group; h < (kh + 1) * s->group; h++)
        for (int64_t i = s->p.causal ? j : 0; i < s->p.tokens; i++) {
            const uint16_t *q = row(s->q, i, heads, h, dim), *dout = row(s->dout, i, heads, h, dim);
            double w = exp(s->scale * dot(q, k, dim) - (double)s->lse[h * s->p.tokens + i]);
            double ds = w * (dot(dout, v, dim) - dot(dout, row(s->out, i, heads, h, dim), dim)) * s->scale;
            add_scaled(dk, ds, q, dim);
            add_scaled(dv, w, dout, dim);
        }
    expect_row("dk", j, kh, row(s->dk, j, kv, kh, dim), dk, dim);
    expect_row("dv", j, kh, row(s->dv, j, kv, kh, dim), dv, dim);
}

static void check(ringx_device device, int64_t tokens, int64_t q_heads, int64_t kv_heads, int64_t dim, bool causal)
{
    sequence s = {.p = RINGX_PROBLEM_INIT, .group = q_heads / kv_heads, .scale = 1 / sqrt((double)dim)};
    s.p.batch = 1, s.p.tokens = tokens, s.p.q_heads = q_heads, s.p.kv_heads = kv_heads, s.p.head_dim = dim;
    s.p.dtype = RINGX_BF16, s.p.causal = causal;
    s.q = random_values(q_count(&s), 1), s.k = random_values(kv_count(&s), 2);
    s.v = random_values(kv_count(&s), 3), s.dout = random_values(q_count(&s), 4);
    compute(&s, device);
    double *weights = malloc((size_t)tokens * sizeof *weights);
    assert_non_null(weights);
    for (int64_t n = 0; n < ROWS; n++) { /* ends, both sides of a tile's edge, and rows all over */
        int64_t ends[] = {0, 1, 127, 128, tokens - 1, tokens - 130};
        int64_t at = n < 6 ? ends[n] : tokens * (2 * n - 11) / (2 * (ROWS - 6)) + n;
        check_query(&s, at, n % q_heads, weights);
        check_key(&s, at, n % kv_heads);
    }
    void *const mine[] = {s.q, s.k, s.v, s.dout, s.out, s.dq, s.dk, s.dv, s.lse, weights};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        free(mine[i]);
}

static void on_the_cpu(void **state)
{
    (void)state;
    check(RINGX_CPU, 3001, 12, 4, 64, true);
    check(RINGX_CPU, 1999, 2, 2, 128, false);
}

static void on_a_gpu(void **state)
{
    (void)state;
    need_gpus(1);
    for (int causal = 0; causal < 2; causal++) {
        check(RINGX_CUDA, 65501, 12, 4, 64, causal);
        check(RINGX_CUDA, 65501, 4, 1, 128, causal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_the_cpu), cmocka_unit_test(on_a_gpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
