/* SPDX-License-Identifier: MIT */
/* A bf16 problem on the current GPU, with random inputs and poisoned results, ready to be executed. */
#ifndef RINGX_TESTS_CUDA_CASE_H
#define RINGX_TESTS_CUDA_CASE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime.h>

#include "core/status.h"

enum { CASE_INPUTS = 4, CASE_RESULTS = 5 };

typedef struct cuda_case {
    ringx_plan *plan;
    cudaStream_t stream;
    ringx_args args;
    void *input[CASE_INPUTS];   /* q, k, v, dout */
    void *result[CASE_RESULTS]; /* out, lse, dq, dk, dv */
    size_t bytes[CASE_RESULTS], all;
} cuda_case;

static inline ringx_status case_cuda(cudaError_t error, const char *what)
{
    return error == cudaSuccess ? RINGX_OK : ringx__fail(RINGX_DEVICE, "%s: %s", what, cudaGetErrorString(error));
}

#define CASE_CUDA(call) RINGX_TRY(case_cuda(call, #call))

/* Random bf16 values of -1 … 1. */
static inline void case_random(uint16_t *to, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        float x = (float)(seed >> 8) / (1 << 23) - 1.0f;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        to[i] = (uint16_t)(bits >> 16);
    }
}

static inline ringx_status case_input(size_t elements, unsigned seed, void **there)
{
    uint16_t *host = malloc(2 * elements + 2);
    if (!host)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu inputs", elements);
    case_random(host, elements, seed);
    ringx_status status = ringx_memory_alloc(RINGX_CUDA, 2 * elements, there);
    if (status == RINGX_OK)
        status = ringx_memory_copy(RINGX_CUDA, *there, host, 2 * elements);
    free(host);
    return status;
}

static inline ringx_status case_poisoned(size_t bytes, void **there)
{
    RINGX_TRY(ringx_memory_alloc(RINGX_CUDA, bytes, there));
    CASE_CUDA(cudaMemset(*there, 0xff, bytes));
    return RINGX_OK;
}

/* Collective.  Deterministic; attached, so that GPUs that can reach each other do. */
static inline ringx_status case_create(cuda_case *c, const ringx_problem *p, const char *preset, double timeout,
                                       ringx_comm *comm)
{
    *c = (cuda_case){.args = RINGX_ARGS_INIT};
    ringx_options o = RINGX_OPTIONS_INIT;
    CASE_CUDA(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    o.device = RINGX_CUDA;
    o.preset = preset;
    o.deterministic = true;
    o.timeout = timeout;
    o.stream = c->stream;
    RINGX_TRY(ringx_plan_create(&c->plan, p, &o, comm));
    size_t rows = (size_t)(p->batch * ringx_plan_local_tokens(c->plan));
    size_t q = rows * (size_t)(p->q_heads * p->head_dim), kv = rows * (size_t)(p->kv_heads * p->head_dim);
    const size_t inputs[CASE_INPUTS] = {q, kv, kv, q};
    const size_t bytes[CASE_RESULTS] = {2 * q, 4 * rows * (size_t)p->q_heads, 2 * q, 2 * kv, 2 * kv};
    for (unsigned i = 0; i < CASE_INPUTS; i++)
        RINGX_TRY(case_input(inputs[i], 4 * (unsigned)ringx_comm_rank(comm) + i + 1, &c->input[i]));
    for (int i = 0; i < CASE_RESULTS; i++) {
        RINGX_TRY(case_poisoned(bytes[i], &c->result[i]));
        c->bytes[i] = bytes[i];
        c->all += bytes[i];
    }
    ringx_tensor *const in[CASE_INPUTS] = {&c->args.q, &c->args.k, &c->args.v, &c->args.dout};
    for (int i = 0; i < CASE_INPUTS; i++)
        in[i]->data = c->input[i];
    c->args.out.data = c->result[0];
    c->args.lse = c->result[1];
    c->args.dq.data = c->result[2];
    c->args.dk.data = c->result[3];
    c->args.dv.data = c->result[4];
    c->args.workspace_bytes = ringx_plan_workspace(c->plan);
    RINGX_TRY(case_poisoned(c->args.workspace_bytes, &c->args.workspace));
    return ringx_plan_attach(c->plan, c->args.workspace);
}

static inline void case_destroy(cuda_case *c)
{
    ringx_plan_destroy(c->plan);
    for (int i = 0; i < CASE_INPUTS; i++)
        ringx_memory_free(RINGX_CUDA, c->input[i]);
    for (int i = 0; i < CASE_RESULTS; i++)
        ringx_memory_free(RINGX_CUDA, c->result[i]);
    ringx_memory_free(RINGX_CUDA, c->args.workspace);
    cudaStreamDestroy(c->stream);
}

/* Collective. */
static inline ringx_status case_execute(const cuda_case *c)
{
    RINGX_TRY(ringx_forward(c->plan, &c->args));
    RINGX_TRY(ringx_backward(c->plan, &c->args));
    return ringx_plan_wait(c->plan);
}

/* All results, one after the other. */
static inline ringx_status case_fetch(const cuda_case *c, unsigned char *host)
{
    for (int i = 0; i < CASE_RESULTS; i++) {
        RINGX_TRY(ringx_memory_copy(RINGX_CUDA, host, c->result[i], c->bytes[i]));
        host += c->bytes[i];
    }
    return RINGX_OK;
}

/* The same bits?  Else which result differs first, and in how many bytes. */
static inline ringx_status case_same(const cuda_case *c, const unsigned char *right, const unsigned char *found,
                                     const char *what, int turn)
{
    static const char *const names[CASE_RESULTS] = {"out", "lse", "dq", "dk", "dv"};
    for (int i = 0; i < CASE_RESULTS; i++) {
        size_t wrong = 0, first = 0;
        for (size_t b = c->bytes[i]; b-- > 0;)
            if (right[b] != found[b]) {
                wrong++;
                first = b;
            }
        if (wrong)
            RINGX_FAIL(RINGX_INTERNAL, "%s %d differs from the direct run: %s, %zu of %zu bytes, the first at %zu",
                       what, turn, names[i], wrong, c->bytes[i], first);
        right += c->bytes[i];
        found += c->bytes[i];
    }
    return RINGX_OK;
}

/* Collective.  A second run, and a forward and backward captured in a graph and replayed so many times, give the bits
 * of a direct one; capturing refuses allocations and waits: of this thread or, by mode, of any. */
static inline ringx_status case_replay(const cuda_case *c, enum cudaStreamCaptureMode mode, int replays)
{
    unsigned char *direct = malloc(2 * c->all + 2), *replayed = direct + c->all;
    ringx_status status = direct ? case_execute(c) : ringx__fail(RINGX_NO_MEMORY, "no memory for results");
    if (status == RINGX_OK)
        status = case_fetch(c, direct);
    if (status == RINGX_OK)
        status = case_execute(c);
    if (status == RINGX_OK)
        status = case_fetch(c, replayed);
    if (status == RINGX_OK)
        status = case_same(c, direct, replayed, "direct run", 1);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    if (status == RINGX_OK)
        status = case_cuda(cudaStreamBeginCapture(c->stream, mode), "begin capture");
    if (status == RINGX_OK)
        status = ringx_forward(c->plan, &c->args);
    if (status == RINGX_OK)
        status = ringx_backward(c->plan, &c->args);
    if (status == RINGX_OK)
        status = case_cuda(cudaStreamEndCapture(c->stream, &graph), "end capture");
    if (status == RINGX_OK)
        status = case_cuda(cudaGraphInstantiate(&ready, graph, 0), "instantiate");
    for (int i = 0; i < replays && status == RINGX_OK; i++) {
        for (int r = 0; r < CASE_RESULTS; r++)
            cudaMemsetAsync(c->result[r], 0xff, c->bytes[r], c->stream);
        status = case_cuda(cudaGraphLaunch(ready, c->stream), "launch");
        if (status == RINGX_OK)
            status = case_cuda(cudaStreamSynchronize(c->stream), "replay");
        if (status == RINGX_OK)
            status = case_fetch(c, replayed);
        if (status == RINGX_OK)
            status = case_same(c, direct, replayed, "replay", i);
    }
    if (ready)
        cudaGraphExecDestroy(ready);
    if (graph)
        cudaGraphDestroy(graph);
    free(direct);
    return status;
}

#endif
