/* SPDX-License-Identifier: MIT */
/* What the CUDA kernels share: the mask on the device, number types, dropout's generator, error passing. */
#ifndef RINGX_KERNEL_CUDA_COMMON_CUH
#define RINGX_KERNEL_CUDA_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <typename T> struct ringx_same {
    using type = T;
};

#ifdef RINGX_EMULATE
#include "kernel/cuda_emulate.h" /* tests: the same kernels on a CPU */
#endif

extern "C" {
#include "core/status.h"
#include "kernel/kernel.h"
}

#define RINGX_CUDA_TRY(call)                                                                                           \
    do {                                                                                                               \
        cudaError_t ringx__cuda_error = (call);                                                                        \
        if (ringx__cuda_error != cudaSuccess)                                                                          \
            RINGX_FAIL(RINGX_DEVICE, "%s: %s", #call, cudaGetErrorString(ringx__cuda_error));                          \
    } while (0)

#ifndef RINGX_EMULATE
template <typename... A>
static inline cudaError_t ringx__cuda_launch(void (*kernel)(A...), dim3 grid, unsigned threads, size_t smem,
                                             void *stream, typename ringx_same<A>::type... arguments)
{
    void *pointers[] = {&arguments...};
    return cudaLaunchKernel((const void *)kernel, grid, dim3(threads), pointers, smem, (cudaStream_t)stream);
}

/* Loads a kernel, and lets it have so much shared memory. */
static inline cudaError_t ringx__cuda_load(const void *kernel, int smem_bytes)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    return error != cudaSuccess || smem_bytes == 0
               ? error
               : cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, smem_bytes);
}
#endif

/* Do all rows begin at multiples of so many bytes?  elements: as many of the view's. */
static inline bool ringx__cuda_by(const ringx_view &v, size_t bytes, int64_t elements)
{
    return (uintptr_t)v.data % bytes == 0 && v.batch_stride % elements == 0 && v.token_stride % elements == 0 &&
           v.head_stride % elements == 0;
}

/* dK, dV of a key slice that is fresh become zeros: for kernels, or slices, whose sums only add. */
static inline ringx_status ringx__cuda_clear_keys(const ringx_job *job, const ringx_key_slice &s)
{
    const int64_t dims[] = {job->shape->head_dim, job->shape->value_dim};
    const ringx_view *const views[] = {&s.dk, &s.dv};
    for (int i = 0; i < 2; i++)
        for (int64_t b = 0; b < job->shape->batch && s.run.count > 0; b++)
            for (int64_t h = 0; h < (views[i]->head_stride == dims[i] ? 1 : job->kv_heads); h++) {
                int64_t width = views[i]->head_stride == dims[i] ? job->kv_heads * dims[i] : dims[i];
                float *at = (float *)views[i]->data + b * views[i]->batch_stride + h * views[i]->head_stride;
                RINGX_CUDA_TRY(cudaMemset2DAsync(at, (size_t)views[i]->token_stride * sizeof(float), 0,
                                                 (size_t)width * sizeof(float), (size_t)s.run.count,
                                                 (cudaStream_t)job->stream));
            }
    return RINGX_OK;
}

#define RINGX_LOG2E 1.4426950408889634f
#define RINGX_LN2   0.6931471805599453f

template <typename T> struct ringx_number;
template <> struct ringx_number<float> {
    static __device__ float up(float x)
    {
        return x;
    }
    static __device__ float down(float x)
    {
        return x;
    }
};
template <> struct ringx_number<__nv_bfloat16> {
    static __device__ float up(__nv_bfloat16 x)
    {
        return __bfloat162float(x);
    }
    static __device__ __nv_bfloat16 down(float x)
    {
        return __float2bfloat16_rn(x);
    }
};
template <> struct ringx_number<__half> {
    static __device__ float up(__half x)
    {
        return __half2float(x);
    }
    static __device__ __half down(float x)
    {
        return __float2half_rn(x);
    }
};

#ifdef RINGX_EMULATE
__device__ __forceinline__ float exp2_fast(float x)
{
    return exp2f(x);
}

template <typename T> __device__ __forceinline__ uint32_t pack(float lo, float hi)
{
    T l = ringx_number<T>::down(lo), h = ringx_number<T>::down(hi);
    uint16_t a, b;
    memcpy(&a, &l, 2);
    memcpy(&b, &h, 2);
    return a | (uint32_t)b << 16;
}
#else
__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <typename T> __device__ __forceinline__ uint32_t pack(float lo, float hi);
template <> __device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
template <> __device__ __forceinline__ uint32_t pack<__half>(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
#endif

/* ringx_mask with the document bounds in device memory. */
struct ringx_cuda_mask {
    int64_t tokens, left, right;
    const int64_t *starts;
    int64_t documents;
};

__device__ __forceinline__ ringx_interval ringx__cuda_document(const ringx_cuda_mask &mask, int64_t p)
{
    if (!mask.starts)
        return {0, mask.tokens};
    int64_t low = 0, high = mask.documents + 1;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (mask.starts[middle] <= p)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return {mask.starts[0], mask.starts[0]};
    if (low == mask.documents + 1)
        return {mask.starts[low - 1], mask.starts[low - 1]};
    return {mask.starts[low - 1], mask.starts[low]};
}

/* Positions within reach of p: below and above it. */
__device__ __forceinline__ ringx_interval ringx__cuda_reach(const ringx_cuda_mask &mask, int64_t p, int64_t below,
                                                            int64_t above)
{
    ringx_interval d = ringx__cuda_document(mask, p);
    if (d.lo >= d.hi)
        return d;
    return {max(d.lo, p - below), min(d.hi, p + 1 + above)};
}

__device__ __forceinline__ ringx_interval ringx__cuda_mask_keys(const ringx_cuda_mask &mask, int64_t query)
{
    return ringx__cuda_reach(mask, query, mask.left, mask.right);
}

__device__ __forceinline__ ringx_interval ringx__cuda_mask_queries(const ringx_cuda_mask &mask, int64_t key)
{
    return ringx__cuda_reach(mask, key, mask.right, mask.left);
}

/* Members of a run below position x: the local index of the first member at or after x. */
__device__ __forceinline__ int ringx__cuda_local(int64_t first, int64_t step, int count, int64_t x)
{
    int64_t d = x - first;
    if (d <= 0)
        return 0;
    if (step != 1)
        d = (d + step - 1) / step;
    return d < count ? (int)d : count;
}

struct ringx_cuda_run {
    int64_t first, step;
    int count;
    int tiles; /* of this and all earlier slices */
};

/* Blocks of one run that a tile of the other side sees: lo0 … hi0 is the interval of the tile's first row, lo1 … hi1 of
 * its last; both bounds are non-decreasing.  [begin, end) are the live blocks of `block` tokens, of which those in
 * [full_begin, full_end) need no mask. */
struct ringx_cuda_range {
    int begin, end, full_begin, full_end;
};

__device__ __forceinline__ ringx_cuda_range ringx__cuda_range(const ringx_cuda_run &run, int block, int64_t lo0,
                                                              int64_t hi0, int64_t lo1, int64_t hi1)
{
    int a = ringx__cuda_local(run.first, run.step, run.count, lo0);
    int b = ringx__cuda_local(run.first, run.step, run.count, hi1);
    int c = ringx__cuda_local(run.first, run.step, run.count, lo1);
    int d = ringx__cuda_local(run.first, run.step, run.count, hi0);
    if (a >= b)
        return {0, 0, 0, 0};
    return {a / block, (b + block - 1) / block, (c + block - 1) / block, d / block};
}

struct ringx_cuda_dropout {
    uint64_t seed;
    uint32_t threshold; /* 0: off */
    float grow;         /* 1/(1 - p) */
};

/* Word key % 4 of philox4x32-10 (core/philox.h). */
__device__ __forceinline__ void ringx__cuda_philox(uint64_t seed, uint32_t batch, uint32_t head, uint32_t query,
                                                   uint32_t key4, uint32_t (&c)[4])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    c[0] = key4;
    c[1] = query;
    c[2] = head;
    c[3] = batch;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* What a weight is multiplied by: 0 or 1/(1 - p). */
__device__ __forceinline__ float ringx__cuda_keep(const ringx_cuda_dropout &drop, int64_t batch, int64_t head,
                                                  int64_t query, int64_t key)
{
    uint32_t c[4];
    ringx__cuda_philox(drop.seed, (uint32_t)batch, (uint32_t)head, (uint32_t)query, (uint32_t)(key >> 2), c);
    uint32_t word = (key & 2) ? ((key & 1) ? c[3] : c[2]) : ((key & 1) ? c[1] : c[0]);
    return word >= drop.threshold ? drop.grow : 0.f;
}

static inline ringx_cuda_dropout ringx__cuda_dropout_of(const ringx_shape *shape)
{
    ringx_cuda_dropout drop = {shape->seed, 0, 1.f};
    if (shape->dropout > 0) {
        double t = shape->dropout * 4294967296.0;
        drop.threshold = t >= 4294967295.0 ? 4294967295u : (uint32_t)t;
        drop.grow = (float)(1.0 / (1.0 - shape->dropout));
    }
    return drop;
}

static inline size_t ringx__cuda_mask_bytes(const ringx_shape *shape)
{
    return shape->mask.starts ? ((shape->mask.documents + 1) * sizeof(int64_t) + 127) / 128 * 128 : 0;
}

/* Puts the document bounds at the start of scratch.  The copy's source is the shape's own array, which outlives the
 * plan, so a captured graph may repeat it. */
static inline ringx_status ringx__cuda_mask_of(const ringx_job *job, ringx_cuda_mask *mask)
{
    const ringx_mask *from = &job->shape->mask;
    *mask = {from->tokens, from->left, from->right, nullptr, (int64_t)from->documents};
    if (!from->starts)
        return RINGX_OK;
    RINGX_CUDA_TRY(cudaMemcpyAsync(job->scratch, from->starts, (from->documents + 1) * sizeof(int64_t),
                                   cudaMemcpyHostToDevice, (cudaStream_t)job->stream));
    mask->starts = (const int64_t *)job->scratch;
    return RINGX_OK;
}

/* Tokens that lie outside all documents are dropped from a run, so that their memory is never read: returns how many
 * are skipped at the start. */
static inline int64_t ringx__cuda_clip(const ringx_mask *mask, ringx_run *run)
{
    if (!mask->starts || run->count <= 0)
        return 0;
    int64_t lo = mask->starts[0], hi = mask->starts[mask->documents];
    int64_t a = lo <= run->first ? 0 : (lo - run->first + run->step - 1) / run->step;
    int64_t b = hi <= run->first ? 0 : (hi - run->first + run->step - 1) / run->step;
    a = a < run->count ? a : run->count;
    b = b < run->count ? b : run->count;
    run->count = b > a ? b - a : 0;
    run->first += a * run->step;
    return a;
}

static inline bool ringx__cuda_capability(int least_major, int exact_major)
{
    int device = 0, major = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
        cudaGetLastError();
        return false;
    }
    return exact_major ? major == exact_major : major >= least_major;
}

#endif
