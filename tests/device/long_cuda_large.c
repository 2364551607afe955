/* SPDX-License-Identifier: MIT */
/* On a GPU with 100 GB to spare: Q of 2^32 elements, forward and backward, gives the same bits as the same computation
 * cut into pieces of one kv head each, which read the same memory by strides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cuda_case.h"
#include <ringx/ringx.h>

enum { TOKENS = 1 << 18, Q_HEADS = 128, KV_HEADS = 16, DIM = 128, GROUP = Q_HEADS / KV_HEADS, WINDOW = 2000 };
static const size_t q_elements = (size_t)TOKENS * Q_HEADS * DIM, kv_elements = (size_t)TOKENS * KV_HEADS * DIM;

static void must(ringx_status status)
{
    if (status != RINGX_OK)
        fail_msg("%s: %s", ringx_status_name(status), ringx_last_error());
}

static void must_cuda(cudaError_t error)
{
    if (error != cudaSuccess)
        fail_msg("%s", cudaGetErrorString(error));
}

static bool too_small(void)
{
    size_t left = 0, total = 0;
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0 && cudaMemGetInfo(&left, &total) == cudaSuccess &&
        left >= (size_t)100 << 30)
        return false;
    fprintf(stderr, "skipped: no CUDA device with 100 GiB free\n");
    return true;
}

static void *device_bytes(size_t bytes)
{
    void *there = NULL;
    must(case_poisoned(bytes, &there));
    return there;
}

/* Random bf16 of -1 … 1, repeated with a period that is no multiple of any size here. */
static void *device_random(size_t elements, unsigned seed)
{
    enum { PERIOD = (1 << 24) - 3 };
    uint16_t *block = malloc(2 * (size_t)PERIOD), *there = device_bytes(2 * elements);
    assert_non_null(block);
    case_random(block, PERIOD, seed);
    for (size_t done = 0; done < elements; done += PERIOD)
        must(ringx_memory_copy(RINGX_CUDA, there + done, block,
                               2 * (elements - done < PERIOD ? elements - done : PERIOD)));
    free(block);
    return there;
}

static void compute(const ringx_problem *p, ringx_args *args)
{
    ringx_options o = RINGX_OPTIONS_INIT;
    ringx_comm *comm;
    ringx_plan *plan;
    o.device = RINGX_CUDA;
    o.preset = "ringX3";
    o.deterministic = true;
    o.slices = 1;
    must(ringx_comm_self(&comm));
    must(ringx_plan_create(&plan, p, &o, comm));
    args->workspace_bytes = ringx_plan_workspace(plan);
    args->workspace = device_bytes(args->workspace_bytes);
    must(ringx_forward(plan, args));
    must(ringx_backward(plan, args));
    must(ringx_plan_wait(plan));
    ringx_memory_free(RINGX_CUDA, args->workspace);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
}

/* TOKENS rows of `wide` bytes, `stride` apart on the device, against packed ones.  halves: of bf16, of which none may
 * be the poison. */
static void same_rows(const char *what, int head, const char *from, size_t stride, const char *packed, size_t wide,
                      bool halves)
{
    char *a = malloc(TOKENS * wide), *b = malloc(TOKENS * wide);
    assert_true(a && b);
    must_cuda(cudaMemcpy2D(a, wide, from, stride, wide, TOKENS, cudaMemcpyDeviceToHost));
    must(ringx_memory_copy(RINGX_CUDA, b, packed, TOKENS * wide));
    if (memcmp(a, b, TOKENS * wide) != 0)
        fail_msg("%s of kv head %d differs between the whole and the piece", what, head);
    const uint16_t *values = (const uint16_t *)a;
    for (size_t i = 0; halves && i < TOKENS * wide / 2; i++)
        if (values[i] == 0xffff)
            fail_msg("%s of kv head %d was not written at %zu", what, head, i);
    free(a);
    free(b);
}

static void test_large(void **state)
{
    (void)state;
    if (too_small())
        skip();
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 1;
    p.tokens = TOKENS;
    p.q_heads = Q_HEADS;
    p.kv_heads = KV_HEADS;
    p.head_dim = DIM;
    p.dtype = RINGX_BF16;
    p.causal = true;
    p.window_left = WINDOW;
    assert_true(q_elements == (size_t)1 << 32);
    ringx_args all = RINGX_ARGS_INIT;
    char *q = device_random(q_elements, 1), *k = device_random(kv_elements, 2), *v = device_random(kv_elements, 3);
    char *dout = device_random(q_elements, 4), *out = device_bytes(2 * q_elements), *dq = device_bytes(2 * q_elements);
    char *dk = device_bytes(2 * kv_elements), *dv = device_bytes(2 * kv_elements);
    float *lse = device_bytes(4 * (size_t)TOKENS * Q_HEADS);
    all.q.data = q, all.k.data = k, all.v.data = v, all.out.data = out, all.lse = lse, all.dout.data = dout;
    all.dq.data = dq, all.dk.data = dk, all.dv.data = dv;
    compute(&p, &all);

    const size_t q_row = 2 * (size_t)Q_HEADS * DIM, kv_row = 2 * (size_t)KV_HEADS * DIM;
    const size_t piece_row = 2 * (size_t)GROUP * DIM, piece = TOKENS * piece_row, kv_piece = 2 * (size_t)TOKENS * DIM;
    char *piece_out = device_bytes(piece), *piece_dq = device_bytes(piece), *piece_dk = device_bytes(kv_piece);
    char *piece_dv = device_bytes(kv_piece);
    float *piece_lse = device_bytes(4 * (size_t)TOKENS * GROUP);
    const int heads[] = {0, 7, 8, KV_HEADS - 1};
    p.q_heads = GROUP;
    p.kv_heads = 1;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        size_t h = (size_t)heads[i];
        ringx_args cut = RINGX_ARGS_INIT;
        const ringx_tensor strided = {.stride = {(int64_t)q_elements, Q_HEADS * DIM, DIM}};
        const ringx_tensor kv_strided = {.stride = {(int64_t)kv_elements, KV_HEADS * DIM, DIM}};
        cut.q = cut.dout = strided;
        cut.k = cut.v = kv_strided;
        cut.q.data = q + h * piece_row, cut.dout.data = dout + h * piece_row;
        cut.k.data = k + h * 2 * DIM, cut.v.data = v + h * 2 * DIM;
        cut.out.data = piece_out, cut.dq.data = piece_dq, cut.dk.data = piece_dk, cut.dv.data = piece_dv;
        cut.lse = piece_lse;
        compute(&p, &cut);
        same_rows("out", heads[i], out + h * piece_row, q_row, piece_out, piece_row, true);
        same_rows("dq", heads[i], dq + h * piece_row, q_row, piece_dq, piece_row, true);
        same_rows("dk", heads[i], dk + h * 2 * DIM, kv_row, piece_dk, 2 * DIM, true);
        same_rows("dv", heads[i], dv + h * 2 * DIM, kv_row, piece_dv, 2 * DIM, true);
        same_rows("lse", heads[i], (char *)(lse + h * GROUP * TOKENS), 4 * GROUP, (char *)piece_lse, 4 * GROUP, false);
    }
    void *mine[] = {q, k, v, dout, out, dq, dk, dv, lse, piece_out, piece_dq, piece_dk, piece_dv, piece_lse};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        ringx_memory_free(RINGX_CUDA, mine[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_large)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
