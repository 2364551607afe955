/* SPDX-License-Identifier: MIT */
/* Cross-entropy on CUDA devices (formulas: loss.c), a chunk of tokens at a time: a product, one pass over the logits
 * for maxima and sums, one that turns them into their gradients, two products.
 *
 * Where hidden and weight are halves of one kind, gradients are stored as such, each row over the front of its logits,
 * so that the products run at the rate of halves. */
#include "nn/nn_cuda.cuh"

enum { THREADS = 512 };

struct chunk {
    int64_t first, tokens, count, first_word, stride;
    float *logits, *maxima, *sums, *own; /* sums: then the target logits; own: this rank's maxima */
    const int32_t *targets;              /* of the chunk, as the next two */
    const float *mask;
    float *token_nll;
    double scale;
};

/* The larger one; NaN if either is, to be seen in the loss. */
static __device__ __forceinline__ float larger(float a, float b)
{
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
    return most;
}

struct running { /* largest m, Σ exp(z − m) */
    float most, sum;
};

static __device__ __forceinline__ running both(running a, running b)
{
    float most = larger(a.most, b.most);
    float x = a.most == -INFINITY ? 0 : a.sum * expf(a.most - most);
    float y = b.most == -INFINITY ? 0 : b.sum * expf(b.most - most);
    return {most, x + y};
}

static __device__ __forceinline__ running lanes_of(running r)
{
    for (int step = 16; step; step /= 2) {
        running other = {__shfl_xor_sync(0xffffffffu, r.most, step), __shfl_xor_sync(0xffffffffu, r.sum, step)};
        r = threadIdx.x & step ? both(other, r) : both(r, other);
    }
    return r;
}

/* The part of a thread: count values, the first multiple of 4 of them by fours (rows are aligned). */
static __device__ __forceinline__ running part_of(const float *z, int64_t count)
{
    running r = {-INFINITY, 0};
    int64_t fours = count / 4;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < fours; i += THREADS) {
        float4 v = ((const float4 *)z)[i];
        float most = larger(r.most, larger(larger(v.x, v.y), larger(v.z, v.w)));
        if (most != -INFINITY)
            r.sum = r.sum * (r.most == -INFINITY ? 0 : expf(r.most - most)) + expf(v.x - most) + expf(v.y - most) +
                    expf(v.z - most) + expf(v.w - most);
        r.most = most;
    }
    for (int64_t i = 4 * fours + threadIdx.x; i < count; i += THREADS)
        if (z[i] != -INFINITY)
            r = both(r, {z[i], 1});
    return r;
}

static __device__ __forceinline__ float mask_of(const chunk &c, int64_t t)
{
    return c.mask ? c.mask[t] : 1;
}

/* The column of a token's target here; −1: another rank's, or masked. */
static __device__ __forceinline__ int64_t target_of(const chunk &c, int64_t t)
{
    int64_t target = mask_of(c, t) != 0 ? c.targets[t] - c.first_word : -1;
    return target >= 0 && target < c.count ? target : -1;
}

/* maxima, own, sums, target logits.  Launch: a block a token. */
static __global__ void __launch_bounds__(THREADS) find_sums(chunk c)
{
    __shared__ running warps[32];
    int64_t t = blockIdx.x;
    const float *z = c.logits + t * c.stride;
    running r = lanes_of(part_of(z, c.count));
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = r;
    __syncthreads();
    if (threadIdx.x >= 32)
        return;
    running none = {-INFINITY, 0};
    r = lanes_of(threadIdx.x < THREADS / 32 ? warps[threadIdx.x] : none);
    if (threadIdx.x == 0) {
        int64_t target = target_of(c, t);
        c.maxima[t] = c.own[t] = r.most;
        c.sums[t] = r.sum;
        c.sums[c.tokens + t] = target >= 0 ? z[target] : 0;
    }
}

/* Sums of this rank, from its own maximum to that of all. */
static __global__ void rescale(chunk c)
{
    int64_t t = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (t < c.tokens)
        c.sums[t] = c.own[t] == -INFINITY ? 0 : c.sums[t] * expf(c.own[t] - c.maxima[t]);
}

static __global__ void set_nll(chunk c)
{
    int64_t t = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= c.tokens)
        return;
    float mask = mask_of(c, t);
    c.token_nll[t] = mask != 0 ? mask * (c.maxima[t] + logf(c.sums[t]) - c.sums[c.tokens + t]) : 0;
}

/* Σ of all tokens.  Launch: one block. */
static __global__ void __launch_bounds__(1024) sum_nll(const float *token_nll, int64_t tokens, double *nll)
{
    __shared__ double shared[32];
    double sum[1] = {0};
    for (int64_t t = threadIdx.x; t < tokens; t += 1024)
        sum[0] += (double)token_nll[t];
    nn_block_sum(sum, shared);
    if (threadIdx.x == 0)
        *nll = sum[0];
}

/* Logits become their gradients, of dtype, each row over its own front.  A block takes a row by stretches: all of it
 * that is written over has been read, since results are no larger than logits.  Launch: a block a token. */
static __global__ void __launch_bounds__(THREADS) differentiate(chunk c, int dtype)
{
    int64_t t = blockIdx.x, target = target_of(c, t);
    float mask = mask_of(c, t), scale = (float)(c.scale * (double)mask), each = scale / c.sums[t], most = c.maxima[t];
    const float *z = c.logits + t * c.stride;
    char *to = (char *)(c.logits + t * c.stride);
    int size = dtype == RINGX_F32 ? 4 : 2;
    for (int64_t base = 0; base < c.stride; base += 8 * THREADS) {
        int64_t column = base + 8 * threadIdx.x;
        float x[8];
        nn_raw<8> raw;
        if (column < c.stride)
            nn_fetch(RINGX_F32, (const char *)(z + column), raw);
        __syncthreads();
        if (column >= c.stride)
            continue;
        nn_widen(RINGX_F32, raw, x);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            x[i] = mask != 0 ? each * expf(x[i] - most) : 0;
            if (column + i == target)
                x[i] -= scale;
        }
        nn_put(dtype, to + column * size, x);
    }
}

/* ---- launches ---- */

static int reduce(const nn_loss *l, bool sum, float *values, int64_t count)
{
    return (sum ? l->reduce->sum : l->reduce->max)(l->reduce->group, values, (size_t)count);
}

static nn_array rows_of(const nn_array *a, int64_t width, int64_t first)
{
    int64_t stride = a->stride ? a->stride : width;
    return {(char *)a->data + (size_t)(first * stride) * dtype_bytes(a->dtype), a->dtype, stride};
}

static unsigned blocks_of(const chunk &c)
{
    return (unsigned)nn_cuda_ceil(c.tokens, 256);
}

/* token_nll, maxima and sums of a chunk whose logits are there. */
static int evaluate(const nn_context *on, const nn_loss *l, const chunk &c)
{
    cudaStream_t stream = nn_cuda_stream(on);
    find_sums<<<(unsigned)c.tokens, THREADS, 0, stream>>>(c);
    int code = nn_cuda_launched("loss: sums of exponentials");
    if (!code && l->reduce) {
        code = reduce(l, false, c.maxima, c.tokens);
        if (code)
            return code;
        rescale<<<blocks_of(c), 256, 0, stream>>>(c);
        code = nn_cuda_launched("loss: sums of exponentials");
        if (!code)
            code = reduce(l, true, c.sums, 2 * c.tokens);
    }
    if (code)
        return code;
    set_nll<<<blocks_of(c), 256, 0, stream>>>(c);
    return nn_cuda_launched("loss: of tokens");
}

/* dhidden and dweight of a chunk. */
static int propagate(const nn_context *on, const nn_loss *l, const chunk &c)
{
    bool halves = l->hidden.dtype == l->weight.dtype && l->hidden.dtype != RINGX_F32;
    nn_array gradient = {c.logits, halves ? l->hidden.dtype : RINGX_F32, halves ? 2 * c.stride : c.stride};
    nn_product p = {};
    differentiate<<<(unsigned)c.tokens, THREADS, 0, nn_cuda_stream(on)>>>(c, (int)gradient.dtype);
    int code = nn_cuda_launched("loss: gradients of logits");
    if (code)
        return code;
    p.rows = c.tokens, p.columns = l->width, p.depth = l->count;
    p.a = gradient, p.b = rows_of(&l->weight, l->width, 0), p.c = rows_of(&l->dhidden, l->width, c.first);
    code = nn_cuda_multiply(on, &p);
    if (code)
        return code;
    p.rows = l->count, p.depth = c.tokens;
    p.a_transposed = true, p.add = true;
    p.b = rows_of(&l->hidden, l->width, c.first), p.c = {l->dweight, RINGX_F32, l->width};
    return nn_cuda_multiply(on, &p);
}

static int one_chunk(const nn_context *on, const nn_loss *l, const chunk &c)
{
    nn_product p = {};
    p.rows = c.tokens, p.columns = l->count, p.depth = l->width;
    p.a = rows_of(&l->hidden, l->width, c.first), p.b = rows_of(&l->weight, l->width, 0), p.b_transposed = true;
    p.c = {c.logits, RINGX_F32, c.stride};
    int code = nn_cuda_multiply(on, &p);
    if (!code)
        code = evaluate(on, l, c);
    if (code || !l->dhidden.data)
        return code;
    return propagate(on, l, c);
}

int nn_cuda_loss(const nn_context *on, const nn_loss *l)
{
    int64_t most = nn_loss_tile(RINGX_CUDA), size = nn_loss_chunk(l) < most ? nn_loss_chunk(l) : most;
    chunk c = {};
    c.count = l->count, c.first_word = l->first, c.stride = nn_loss_stride(l), c.scale = l->scale;
    c.logits = (float *)l->workspace;
    c.maxima = c.logits + size * c.stride, c.sums = c.maxima + size, c.own = c.sums + 2 * size;
    for (c.first = 0; c.first < l->tokens; c.first += size) {
        c.tokens = min(size, l->tokens - c.first);
        c.targets = l->targets + c.first, c.mask = l->mask ? l->mask + c.first : NULL;
        c.token_nll = l->token_nll + c.first;
        int code = one_chunk(on, l, c);
        if (code)
            return code;
    }
    sum_nll<<<1, 1024, 0, nn_cuda_stream(on)>>>(l->token_nll, l->tokens, l->nll);
    return nn_cuda_launched("loss: sum of tokens");
}
