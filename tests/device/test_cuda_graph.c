/* SPDX-License-Identifier: MIT */
/* On a GPU: executing allocates nothing and waits for nothing, so forward and backward can be captured in a graph; a
 * hundred replays of it give the same bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <cuda_runtime.h>
#include <ringx/ringx.h>

enum { REPLAYS = 100, RESULTS = 5 };

typedef struct setup {
    ringx_comm *comm;
    ringx_plan *plan;
    cudaStream_t stream;
    ringx_args args;
    void *result[RESULTS]; /* out, lse, dq, dk, dv on the device */
    size_t bytes[RESULTS];
} setup;

static bool no_gpu(void)
{
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0)
        return false;
    fprintf(stderr, "skipped: no CUDA device\n");
    return true;
}

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

/* Random bf16 values of -1 … 1. */
static void *on_device(size_t elements, unsigned seed)
{
    uint16_t *host = malloc(2 * elements);
    void *there = NULL;
    assert_non_null(host);
    for (size_t i = 0; i < elements; i++) {
        seed = seed * 1664525u + 1013904223u;
        float x = (float)(seed >> 8) / (1 << 23) - 1.0f;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        host[i] = (uint16_t)(bits >> 16);
    }
    must(ringx_memory_alloc(RINGX_CUDA, 2 * elements, &there));
    must(ringx_memory_copy(RINGX_CUDA, there, host, 2 * elements));
    free(host);
    return there;
}

static void *poisoned(size_t bytes)
{
    void *there = NULL;
    must(ringx_memory_alloc(RINGX_CUDA, bytes, &there));
    must_cuda(cudaMemset(there, 0xff, bytes));
    return there;
}

static void set_up(setup *s, const ringx_problem *p, const char *preset)
{
    *s = (setup){.args = RINGX_ARGS_INIT};
    ringx_options o = RINGX_OPTIONS_INIT;
    must_cuda(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    o.device = RINGX_CUDA;
    o.preset = preset;
    o.deterministic = true;
    o.stream = s->stream;
    must(ringx_comm_self(&s->comm));
    must(ringx_plan_create(&s->plan, p, &o, s->comm));
    size_t rows = (size_t)(p->batch * p->tokens), q = rows * (size_t)(p->q_heads * p->head_dim);
    size_t kv = rows * (size_t)(p->kv_heads * p->head_dim), lse = rows * (size_t)p->q_heads;
    const size_t bytes[RESULTS] = {2 * q, 4 * lse, 2 * q, 2 * kv, 2 * kv};
    for (int i = 0; i < RESULTS; i++)
        s->result[i] = poisoned(s->bytes[i] = bytes[i]);
    s->args.q.data = on_device(q, 1);
    s->args.k.data = on_device(kv, 2);
    s->args.v.data = on_device(kv, 3);
    s->args.dout.data = on_device(q, 4);
    s->args.out.data = s->result[0];
    s->args.lse = s->result[1];
    s->args.dq.data = s->result[2];
    s->args.dk.data = s->result[3];
    s->args.dv.data = s->result[4];
    s->args.workspace_bytes = ringx_plan_workspace(s->plan);
    s->args.workspace = poisoned(s->args.workspace_bytes);
}

static void tear_down(setup *s)
{
    void *inputs[] = {s->args.q.data, s->args.k.data, s->args.v.data, s->args.dout.data, s->args.workspace};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        ringx_memory_free(RINGX_CUDA, inputs[i]);
    for (int i = 0; i < RESULTS; i++)
        ringx_memory_free(RINGX_CUDA, s->result[i]);
    ringx_plan_destroy(s->plan);
    ringx_comm_destroy(s->comm);
    must_cuda(cudaStreamDestroy(s->stream));
}

static void fetch(const setup *s, unsigned char *host)
{
    for (int i = 0; i < RESULTS; i++) {
        must(ringx_memory_copy(RINGX_CUDA, host, s->result[i], s->bytes[i]));
        host += s->bytes[i];
    }
}

static void replay(const ringx_problem *p, const char *preset)
{
    setup s;
    set_up(&s, p, preset);
    size_t all = 0;
    for (int i = 0; i < RESULTS; i++)
        all += s.bytes[i];
    unsigned char *direct = malloc(all), *replayed = malloc(all);
    assert_true(direct && replayed);
    must(ringx_forward(s.plan, &s.args));
    must(ringx_backward(s.plan, &s.args));
    must(ringx_plan_wait(s.plan));
    fetch(&s, direct);

    cudaGraph_t graph;
    cudaGraphExec_t ready;
    must_cuda(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal)); /* refuses allocations and waits */
    must(ringx_forward(s.plan, &s.args));
    must(ringx_backward(s.plan, &s.args));
    must_cuda(cudaStreamEndCapture(s.stream, &graph));
    must_cuda(cudaGraphInstantiate(&ready, graph, 0));
    size_t free_before, free_after, total;
    must_cuda(cudaMemGetInfo(&free_before, &total));
    for (int i = 0; i < REPLAYS; i++) {
        for (int r = 0; r < RESULTS; r++)
            must_cuda(cudaMemsetAsync(s.result[r], 0xff, s.bytes[r], s.stream));
        must_cuda(cudaGraphLaunch(ready, s.stream));
        must_cuda(cudaStreamSynchronize(s.stream));
        fetch(&s, replayed);
        if (memcmp(direct, replayed, all) != 0)
            fail_msg("%s: replay %d differs from the direct run", preset, i);
    }
    must_cuda(cudaMemGetInfo(&free_after, &total));
    assert_true(free_after >= free_before || free_before - free_after < (size_t)64 << 20);
    must_cuda(cudaGraphExecDestroy(ready));
    must_cuda(cudaGraphDestroy(graph));
    free(direct);
    free(replayed);
    tear_down(&s);
}

static void test_graph(void **state)
{
    (void)state;
    if (no_gpu())
        skip();
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 2;
    p.tokens = 1003;
    p.q_heads = 8;
    p.kv_heads = 2;
    p.head_dim = 128;
    p.dtype = RINGX_BF16;
    p.causal = true;
    replay(&p, "ringX3");
    p.head_dim = 64;
    p.causal = false;
    p.window_left = 100;
    replay(&p, "ringX4o");
    static const int64_t bounds[] = {0, 17, 400, 1003};
    p.window_left = -1;
    p.documents = 3;
    p.document_starts = bounds;
    p.dropout = 0.1;
    replay(&p, "zigzag");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_graph)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
