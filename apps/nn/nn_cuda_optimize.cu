/* SPDX-License-Identifier: MIT */
/* Optimizer steps and sums of squares on CUDA devices: one pass over memory, each thread's elements a block apart, so
 * that no alignment is asked for and every access of a warp is one line.  Updates are in float; sums are in double,
 * over blocks whose number depends on the count alone, so that the same values give the same bits. */
#include "nn/nn_cuda.cuh"

#include <math.h>

enum { THREADS = 256, EACH = 4 };

struct update {
    int64_t count;
    float *weight, *m, *v;
    const float *gradient;
    float gradient_scale, beta1, beta2, rest1, rest2, eps, decay; /* rest: 1 − beta */
    float correct1, correct2;                                     /* adam: 1/(1 − β1^step), 1/√(1 − β2^step) */
    float lr;                                                     /* lamb: with corrections and trust */
    int decoupled;
};

static unsigned blocks_of(int64_t count)
{
    return (unsigned)nn_cuda_ceil(count, THREADS * EACH);
}

/* The e-th element of a thread; beyond the count: none. */
#define ELEMENT(e) ((int64_t)blockIdx.x * THREADS * EACH + (e)*THREADS + threadIdx.x)

struct element {
    float weight, m, v, gradient;
};

static __device__ __forceinline__ void fetch(const update &u, int64_t i, element &x)
{
    x.weight = u.weight[i], x.m = u.m[i], x.v = u.v[i], x.gradient = u.gradient[i];
}

static __global__ void __launch_bounds__(THREADS) adam(update u)
{
    element x[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++)
        if (ELEMENT(e) < u.count)
            fetch(u, ELEMENT(e), x[e]);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        int64_t i = ELEMENT(e);
        if (i >= u.count)
            continue;
        float w = x[e].weight, g = x[e].gradient * u.gradient_scale;
        if (!u.decoupled)
            g += u.decay * w;
        float m = u.beta1 * x[e].m + u.rest1 * g, v = u.beta2 * x[e].v + u.rest2 * g * g;
        float direction = m * u.correct1 / (sqrtf(v) * u.correct2 + u.eps) + (u.decoupled ? u.decay * w : 0);
        u.m[i] = m, u.v[i] = v, u.weight[i] = w - u.lr * direction;
    }
}

static __device__ __forceinline__ float lamb_direction(const update &u, const element &x)
{
    return x.m / (sqrtf(x.v) + u.eps) + u.decay * x.weight;
}

/* Moments; parts[block] = Σ w², Σ u².  A block goes on to the elements gridDim.x blocks further. */
static __global__ void __launch_bounds__(THREADS) lamb_moments(update u, double2 *parts)
{
    __shared__ double shared[64];
    double sums[2] = {0, 0};
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < u.count; i += (int64_t)gridDim.x * THREADS) {
        element x;
        fetch(u, i, x);
        float g = x.gradient * u.gradient_scale;
        u.m[i] = x.m = u.beta1 * x.m + u.rest1 * g;
        u.v[i] = x.v = u.beta2 * x.v + u.rest2 * g * g;
        double w = (double)x.weight, direction = (double)lamb_direction(u, x);
        sums[0] += w * w;
        sums[1] += direction * direction;
    }
    nn_block_sum(sums, shared);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = make_double2(sums[0], sums[1]);
}

static __global__ void __launch_bounds__(THREADS) lamb_apply(update u)
{
    element x[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        int64_t i = ELEMENT(e);
        if (i < u.count)
            x[e].weight = u.weight[i], x[e].m = u.m[i], x[e].v = u.v[i];
    }
#pragma unroll
    for (int e = 0; e < EACH; e++)
        if (ELEMENT(e) < u.count)
            u.weight[ELEMENT(e)] = x[e].weight - u.lr * lamb_direction(u, x[e]);
}

static __global__ void __launch_bounds__(THREADS) sum_squares(const float *values, int64_t count, double2 *parts)
{
    __shared__ double shared[32];
    double sum[1] = {0};
    int64_t step = (int64_t)gridDim.x * THREADS;
#pragma unroll 8
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += step)
        sum[0] += (double)values[i] * (double)values[i];
    nn_block_sum(sum, shared);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = make_double2(sum[0], 0);
}

/* Σ of the parts; second: NULL for one sum.  Launch: one block. */
static __global__ void __launch_bounds__(NN_CUDA_PARTS)
    sum_parts(const double2 *parts, int count, double *first, double *second)
{
    __shared__ double shared[64];
    double sums[2] = {0, 0};
    if ((int)threadIdx.x < count)
        sums[0] = parts[threadIdx.x].x, sums[1] = parts[threadIdx.x].y;
    nn_block_sum(sums, shared);
    if (threadIdx.x == 0) {
        *first = sums[0];
        if (second)
            *second = sums[1];
    }
}

/* ---- launches ---- */

static update update_of(const nn_update *u)
{
    update x = {};
    x.count = u->count, x.weight = u->weight, x.m = u->m, x.v = u->v, x.gradient = u->gradient;
    x.gradient_scale = (float)u->gradient_scale, x.eps = (float)u->eps, x.decay = (float)u->decay;
    x.beta1 = (float)u->beta1, x.rest1 = (float)(1 - u->beta1);
    x.beta2 = (float)u->beta2, x.rest2 = (float)(1 - u->beta2);
    x.lr = (float)u->lr, x.decoupled = u->decoupled;
    return x;
}

int nn_cuda_adam(const nn_context *on, const nn_update *u)
{
    update x = update_of(u);
    if (u->count <= 0)
        return CODE_GOOD;
    x.correct1 = (float)(1 / (1 - pow(u->beta1, (double)u->step)));
    x.correct2 = (float)(1 / sqrt(1 - pow(u->beta2, (double)u->step)));
    adam<<<blocks_of(u->count), THREADS, 0, nn_cuda_stream(on)>>>(x);
    return nn_cuda_launched("adam");
}

/* Blocks of a long sum: a function of the count alone, not more than there are parts. */
static unsigned parts_of(int64_t count)
{
    return (unsigned)min(nn_cuda_ceil(count, THREADS * EACH), (int64_t)NN_CUDA_PARTS);
}

int nn_cuda_lamb_moments(const nn_context *on, const nn_update *u, double squares[2])
{
    double2 *parts = (double2 *)nn_cuda_own_of(on)->parts;
    unsigned blocks = parts_of(u->count);
    int code = CODE_GOOD;
    if (blocks) {
        lamb_moments<<<blocks, THREADS, 0, nn_cuda_stream(on)>>>(update_of(u), parts);
        code = nn_cuda_launched("lamb_moments");
    }
    if (code)
        return code;
    sum_parts<<<1, NN_CUDA_PARTS, 0, nn_cuda_stream(on)>>>(parts, (int)blocks, squares, squares + 1);
    return nn_cuda_launched("lamb_moments");
}

int nn_cuda_lamb_apply(const nn_context *on, const nn_update *u)
{
    update x = update_of(u);
    if (u->count <= 0)
        return CODE_GOOD;
    x.lr = (float)(u->lr * sqrt(1 - pow(u->beta2, (double)u->step)) / (1 - pow(u->beta1, (double)u->step)) * u->trust);
    lamb_apply<<<blocks_of(u->count), THREADS, 0, nn_cuda_stream(on)>>>(x);
    return nn_cuda_launched("lamb_apply");
}

int nn_cuda_sum_squares(const nn_context *on, const float *values, int64_t count, double *sum)
{
    double2 *parts = (double2 *)nn_cuda_own_of(on)->parts;
    unsigned blocks = parts_of(count);
    int code = CODE_GOOD;
    if (blocks) {
        sum_squares<<<blocks, THREADS, 0, nn_cuda_stream(on)>>>(values, count, parts);
        code = nn_cuda_launched("sum_squares");
    }
    if (code)
        return code;
    sum_parts<<<1, NN_CUDA_PARTS, 0, nn_cuda_stream(on)>>>(parts, (int)blocks, sum, NULL);
    return nn_cuda_launched("sum_squares");
}
