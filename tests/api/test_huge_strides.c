/* SPDX-License-Identifier: MIT */
/* Offsets beyond 2^33 elements: few tokens, far apart in memory that is only reserved, give the bits of the packed run.
 * (NaN would not show a product of sizes that was cut to 32 bits: it reads finite, wrong numbers.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "core/half.h"
#include "kernel/kernel.h"

enum { Q, K, V, OUT, DOUT, DQ, DK, DV, ACC, TENSORS, TOKENS = 64, BATCH = 2, HEADS = 4, KV_HEADS = 2, DIM = 16 };
enum { LSE, M, L, DELTA, ROWS };

static const int64_t far = INT64_C(1) << 28; /* between tokens; 63 of them are beyond 2^33 */
static const int64_t farther = (INT64_C(1) << 33) + 4096;
static const size_t reserved = (size_t)68 << 30;

static int64_t heads_of(int t)
{
    return t == K || t == V || t == DK || t == DV ? KV_HEADS : HEADS;
}

static void *reserve(void)
{
    void *p = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        print_message("this machine does not let %zu bytes of address space be reserved\n", reserved);
        skip();
    }
    madvise(p, reserved, MADV_NOHUGEPAGE);
    return p;
}

/* Three ways to lie far apart: tokens, batches, heads. */
enum { FAR_TOKENS, FAR_BATCHES, FAR_HEADS, WAYS };

static ringx_view view_at(char *memory, int t, int way, size_t element)
{
    ringx_view v = {memory + (size_t)t * ((size_t)1 << 22) * element, 0, 0, 0};
    int64_t heads = heads_of(t);
    v.head_stride = way == FAR_HEADS ? farther / (HEADS - 1) + 16 : DIM + 3;
    v.token_stride = way == FAR_TOKENS ? far : heads * (DIM + 3);
    v.batch_stride = way == FAR_BATCHES ? farther : TOKENS * heads * (DIM + 3);
    if (way == FAR_TOKENS)
        v.batch_stride = heads * (DIM + 3);
    if (way == FAR_HEADS)
        v.token_stride = DIM + 3, v.batch_stride = TOKENS * (DIM + 3);
    return v;
}

static ringx_view packed_view(int t, size_t element)
{
    int64_t heads = heads_of(t);
    void *data = calloc((size_t)(BATCH * TOKENS * heads * DIM), element);
    assert_non_null(data);
    return (ringx_view){data, TOKENS * heads * DIM, heads * DIM, DIM};
}

static ringx_rows rows_at(char *memory, int r, int way)
{
    float *data = (float *)(void *)memory + (size_t)(TENSORS + r) * ((size_t)1 << 22);
    if (way == FAR_BATCHES)
        return (ringx_rows){data, farther, TOKENS + 1};
    return (ringx_rows){data, TOKENS + 1, farther / (HEADS - 1) + BATCH * (TOKENS + 1)};
}

static char *element_at(const ringx_view *v, size_t element, int64_t b, int64_t token, int64_t head)
{
    return (char *)v->data + (b * v->batch_stride + token * v->token_stride + head * v->head_stride) * (int64_t)element;
}

static float number(int t, int64_t i)
{
    uint64_t x = (uint64_t)(t + 1) * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)i * UINT64_C(0xBF58476D1CE4E5B9);
    x ^= x >> 29;
    x *= UINT64_C(0x94D049BB133111EB);
    return (float)(x >> 40) * 0x1p-23f - 1;
}

static size_t element_of(ringx_dtype dtype, int t)
{
    return dtype == RINGX_F32 || (t >= DQ && t <= ACC) ? 4 : 2;
}

static void fill(const ringx_view *v, int t, ringx_dtype dtype)
{
    size_t el = element_of(dtype, t);
    int64_t heads = heads_of(t), n = 0;
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t token = 0; token < TOKENS; token++)
            for (int64_t h = 0; h < heads; h++)
                for (int64_t i = 0; i < DIM; i++, n++) {
                    float f = t == Q || t == K || t == V || t == DOUT ? number(t, n) : 0;
                    uint16_t half = ringx__f32_bf16(f);
                    memcpy(element_at(v, el, b, token, h) + (size_t)i * el, el == 4 ? (void *)&f : (void *)&half, el);
                }
}

static void expect_same(const ringx_view *a, const ringx_view *b, int t, ringx_dtype dtype, const char *what)
{
    size_t el = element_of(dtype, t);
    bool nothing = true;
    for (int64_t batch = 0; batch < BATCH; batch++)
        for (int64_t token = 0; token < TOKENS; token++)
            for (int64_t h = 0; h < heads_of(t); h++) {
                static const char zero[DIM * 4];
                const char *x = element_at(a, el, batch, token, h), *y = element_at(b, el, batch, token, h);
                nothing = nothing && memcmp(x, zero, DIM * el) == 0;
                if (memcmp(x, y, DIM * el) != 0)
                    fail_msg("%s: tensor %d differs at batch %lld, token %lld, head %lld", what, t, (long long)batch,
                             (long long)token, (long long)h);
            }
    assert_false(nothing);
}

/* ---- kernels ---- */

typedef struct tensors {
    ringx_view view[TENSORS];
    ringx_rows rows[ROWS];
} tensors;

static void run_kernel(const ringx_kernel *kernel, const ringx_shape *shape, tensors *t)
{
    static const uint8_t live = 1;
    ringx_run run = {.count = TOKENS, .first = 0, .step = 1};
    ringx_query_slice query = {.run = run,
                               .q = t->view[Q],
                               .acc = t->view[ACC],
                               .m = t->rows[M],
                               .l = t->rows[L],
                               .out = t->view[OUT],
                               .lse = t->rows[LSE],
                               .dout = t->view[DOUT],
                               .delta = t->rows[DELTA],
                               .dq = t->view[DQ]};
    ringx_key_slice key = {.run = run, .k = t->view[K], .v = t->view[V], .dk = t->view[DK], .dv = t->view[DV]};
    ringx_job job = {.shape = shape,
                     .q_heads = HEADS,
                     .kv_heads = KV_HEADS,
                     .query = &query,
                     .key = &key,
                     .live = &live,
                     .queries = 1,
                     .keys = 1,
                     .fresh = true,
                     .threads = 2};
    size_t bytes = kernel->scratch_bytes(shape, HEADS, KV_HEADS, TOKENS, 2, false);
    size_t more = kernel->scratch_bytes(shape, HEADS, KV_HEADS, TOKENS, 2, true);
    assert_int_equal(posix_memalign(&job.scratch, 128, (bytes > more ? bytes : more) + 128), 0);
    const ringx_rowops *ops = ringx__rowops(RINGX_CPU);
    assert_int_equal(kernel->forward(&job), RINGX_OK); /* a state … */
    job.fresh = false;
    job.final = true;
    assert_int_equal(kernel->forward(&job), RINGX_OK); /* … seen twice gives the same out, and 1 more bit in lse */
    assert_int_equal(ops->delta(shape, TOKENS, HEADS, t->view[OUT], t->view[DOUT], t->rows[DELTA], 2, NULL), RINGX_OK);
    assert_int_equal(kernel->backward(&job), RINGX_OK);
    free(job.scratch);
}

static ringx_shape shape_of(ringx_dtype dtype)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    ringx_shape shape;
    p.batch = BATCH;
    p.tokens = TOKENS;
    p.q_heads = HEADS;
    p.kv_heads = KV_HEADS;
    p.head_dim = DIM;
    p.causal = true;
    p.dtype = dtype;
    assert_int_equal(ringx__shape_create(&shape, &p), RINGX_OK);
    return shape;
}

static void check_kernel(const ringx_kernel *kernel, ringx_dtype dtype, int way)
{
    ringx_shape shape = shape_of(dtype);
    char *memory = reserve(), what[64];
    tensors packed, wide;
    for (int t = 0; t < TENSORS; t++) {
        packed.view[t] = packed_view(t, element_of(dtype, t));
        /* floats beside halves: bases are counted in floats, so that no two meet */
        wide.view[t] = view_at(memory, t, way, element_of(dtype, t));
        wide.view[t].data = memory + (size_t)t * ((size_t)1 << 24);
        fill(&packed.view[t], t, dtype);
        fill(&wide.view[t], t, dtype);
    }
    for (int r = 0; r < ROWS; r++) {
        packed.rows[r] = (ringx_rows){calloc(BATCH * HEADS * TOKENS, sizeof(float)), HEADS * TOKENS, TOKENS};
        wide.rows[r] = rows_at(memory, r, way);
    }
    run_kernel(kernel, &shape, &packed);
    run_kernel(kernel, &shape, &wide);
    snprintf(what, sizeof what, "%s, dtype %d, way %d", kernel->name, (int)dtype, way);
    for (int t = OUT; t < TENSORS; t++)
        if (t != DOUT)
            expect_same(&packed.view[t], &wide.view[t], t, dtype, what);
    for (int r = 0; r < ROWS; r++)
        for (int64_t b = 0; b < BATCH; b++)
            for (int64_t h = 0; h < HEADS; h++)
                assert_memory_equal(packed.rows[r].data + b * packed.rows[r].batch_stride +
                                        h * packed.rows[r].head_stride,
                                    wide.rows[r].data + b * wide.rows[r].batch_stride + h * wide.rows[r].head_stride,
                                    TOKENS * sizeof(float));
    for (int t = 0; t < TENSORS; t++)
        free(packed.view[t].data);
    for (int r = 0; r < ROWS; r++)
        free(packed.rows[r].data);
    munmap(memory, reserved);
    ringx__shape_destroy(&shape);
}

static void kernels_reach_beyond_33_bits(void **state)
{
    (void)state;
    for (size_t i = 0; ringx__kernel_at(i); i++)
        for (int dtype = RINGX_F32; dtype <= RINGX_BF16; dtype++)
            for (int way = 0; way < WAYS; way++)
                if (ringx__kernel_at(i)->device == RINGX_CPU && ringx__kernel_at(i)->available())
                    check_kernel(ringx__kernel_at(i), (ringx_dtype)dtype, way);
}

/* ---- a plan: what is packed, stored and converted on the way ---- */

static void run_plan(const ringx_view *view, float *lse, ringx_dtype dtype)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    ringx_options o = RINGX_OPTIONS_INIT;
    ringx_args a = RINGX_ARGS_INIT;
    ringx_comm *comm;
    ringx_plan *plan;
    ringx_tensor *tensor[] = {&a.q, &a.k, &a.v, &a.out, &a.dout, &a.dq, &a.dk, &a.dv};
    p.batch = BATCH;
    p.tokens = TOKENS;
    p.q_heads = HEADS;
    p.kv_heads = KV_HEADS;
    p.head_dim = DIM;
    p.causal = true;
    p.dtype = dtype;
    o.threads = 2;
    o.preset = "ring";
    for (int t = 0; t < ACC; t++)
        *tensor[t] = (ringx_tensor){view[t].data, {view[t].batch_stride, view[t].token_stride, view[t].head_stride}};
    assert_int_equal(ringx_comm_self(&comm), RINGX_OK);
    assert_int_equal(ringx_plan_create(&plan, &p, &o, comm), RINGX_OK);
    a.lse = lse;
    a.workspace_bytes = ringx_plan_workspace(plan);
    assert_int_equal(posix_memalign(&a.workspace, 128, a.workspace_bytes + 128), 0);
    assert_int_equal(ringx_forward(plan, &a), RINGX_OK);
    assert_int_equal(ringx_backward(plan, &a), RINGX_OK);
    free(a.workspace);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
}

static void plans_reach_beyond_33_bits(void **state)
{
    (void)state;
    for (int dtype = RINGX_F32; dtype <= RINGX_BF16; dtype++)
        for (int way = 0; way < WAYS; way++) {
            char *memory = reserve(), what[64];
            ringx_view packed[ACC], wide[ACC];
            static float lse[2][BATCH * HEADS * TOKENS];
            size_t el = dtype == RINGX_F32 ? 4 : 2;
            for (int t = 0; t < ACC; t++) {
                packed[t] = packed_view(t, 4);
                wide[t] = view_at(memory, t, way, el);
                for (int k = 0; k < 2 && (t <= V || t == DOUT); k++)
                    fill(k ? &wide[t] : &packed[t], t, (ringx_dtype)dtype);
            }
            run_plan(packed, lse[0], (ringx_dtype)dtype);
            run_plan(wide, lse[1], (ringx_dtype)dtype);
            snprintf(what, sizeof what, "plan, dtype %d, way %d", dtype, way);
            for (int t = OUT; t < ACC; t++) /* here gradients are of the dtype: compare as outputs are */
                if (t != DOUT)
                    for (int64_t b = 0; b < BATCH; b++)
                        for (int64_t token = 0; token < TOKENS; token++)
                            for (int64_t h = 0; h < heads_of(t); h++)
                                if (memcmp(element_at(&packed[t], el, b, token, h),
                                           element_at(&wide[t], el, b, token, h), DIM * el) != 0)
                                    fail_msg("%s: tensor %d, token %lld", what, t, (long long)token);
            assert_memory_equal(lse[0], lse[1], sizeof lse[0]);
            for (int t = 0; t < ACC; t++)
                free(packed[t].data);
            munmap(memory, reserved);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kernels_reach_beyond_33_bits),
                                       cmocka_unit_test(plans_reach_beyond_33_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
