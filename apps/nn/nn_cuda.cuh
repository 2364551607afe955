/* SPDX-License-Identifier: MIT */
/* What the CUDA operators share: the context's own things, rows of any dtype in registers, sums over a block. */
#ifndef NN_CUDA_CUH
#define NN_CUDA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "nn/nn_cuda.h"
extern "C" {
#include "shared/numbers.h"
#include "shared/report.h"
}

/* Behind nn_context.internal. */
struct nn_cuda_own {
    cudaStream_t copies[2]; /* to the host, to the device */
    cudaEvent_t begin, end; /* of copies */
    void *blas;
    void *scratch;
    size_t scratch_bytes;
    double *parts; /* NN_CUDA_PARTS pairs: sums of the blocks of a long sum */
};

enum { NN_CUDA_PARTS = 1024 };

static inline nn_cuda_own *nn_cuda_own_of(const nn_context *on)
{
    return (nn_cuda_own *)on->internal;
}

static inline cudaStream_t nn_cuda_stream(const nn_context *on)
{
    return (cudaStream_t)on->stream;
}

int nn_cuda_failed(cudaError_t error, const char *what);
/* At least so many bytes, until the next call of this; NULL with the failure kept.  Growing waits for the device. */
char *nn_cuda_scratch(const nn_context *on, size_t bytes);

/* After a launch. */
static inline int nn_cuda_launched(const char *what)
{
    cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? CODE_GOOD : nn_cuda_failed(error, what);
}

static inline size_t nn_cuda_rounded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static inline int64_t nn_cuda_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- matrices ---- */

struct nn_view { /* as nn_array, the stride as it is */
    char *data;
    int64_t stride;
    int dtype;
};

static inline nn_view nn_view_of(const nn_array &a, int64_t width)
{
    return {(char *)a.data, a.stride ? a.stride : width, (int)a.dtype};
}

/* Whether rows can be taken 8 elements at a time: all of their starts are multiples of 16 bytes. */
static inline bool nn_view_aligned(const nn_view &v, int64_t rows)
{
    int64_t size = v.dtype == RINGX_F32 ? 4 : 2;
    return (uintptr_t)v.data % 16 == 0 && (rows <= 1 || v.stride * size % 16 == 0);
}

__device__ __forceinline__ char *nn_place(const nn_view &v, int64_t row, int64_t column)
{
    return v.data + (row * v.stride + column) * (v.dtype == RINGX_F32 ? 4 : 2);
}

/* N neighbours as they are in memory: N is 8 (aligned) or 1. */
template <int N> struct nn_raw;
template <> struct nn_raw<8> {
    uint4 low, high; /* high: float's */
};
template <> struct nn_raw<1> {
    uint32_t low;
};

__device__ __forceinline__ void nn_fetch(int dtype, const char *at, nn_raw<8> &r)
{
    r.low = *(const uint4 *)at;
    if (dtype == RINGX_F32)
        r.high = ((const uint4 *)at)[1];
}

__device__ __forceinline__ void nn_fetch(int dtype, const char *at, nn_raw<1> &r)
{
    if (dtype == RINGX_F32)
        r.low = *(const uint32_t *)at;
    else
        r.low = *(const uint16_t *)at;
}

__device__ __forceinline__ void nn_widen_two(int dtype, uint32_t pair, float &a, float &b)
{
    if (dtype == RINGX_BF16) {
        a = __uint_as_float(pair << 16);
        b = __uint_as_float(pair & 0xffff0000u);
    } else {
        a = __half2float(__ushort_as_half((unsigned short)(pair & 0xffffu)));
        b = __half2float(__ushort_as_half((unsigned short)(pair >> 16)));
    }
}

__device__ __forceinline__ void nn_widen(int dtype, const nn_raw<8> &r, float (&x)[8])
{
    if (dtype == RINGX_F32) {
        x[0] = __uint_as_float(r.low.x), x[1] = __uint_as_float(r.low.y);
        x[2] = __uint_as_float(r.low.z), x[3] = __uint_as_float(r.low.w);
        x[4] = __uint_as_float(r.high.x), x[5] = __uint_as_float(r.high.y);
        x[6] = __uint_as_float(r.high.z), x[7] = __uint_as_float(r.high.w);
    } else {
        nn_widen_two(dtype, r.low.x, x[0], x[1]);
        nn_widen_two(dtype, r.low.y, x[2], x[3]);
        nn_widen_two(dtype, r.low.z, x[4], x[5]);
        nn_widen_two(dtype, r.low.w, x[6], x[7]);
    }
}

__device__ __forceinline__ void nn_widen(int dtype, const nn_raw<1> &r, float (&x)[1])
{
    float none;
    if (dtype == RINGX_F32)
        x[0] = __uint_as_float(r.low);
    else
        nn_widen_two(dtype, r.low, x[0], none);
}

template <int N> __device__ __forceinline__ void nn_load(const nn_view &v, int64_t row, int64_t column, float (&x)[N])
{
    nn_raw<N> r;
    nn_fetch(v.dtype, nn_place(v, row, column), r);
    nn_widen(v.dtype, r, x);
}

__device__ __forceinline__ uint32_t nn_narrow(int dtype, float x)
{
    return dtype == RINGX_BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn(x)) : __half_as_ushort(__float2half_rn(x));
}

__device__ __forceinline__ uint32_t nn_narrow_two(int dtype, float a, float b)
{
    return nn_narrow(dtype, a) | nn_narrow(dtype, b) << 16;
}

__device__ __forceinline__ void nn_put(int dtype, char *at, const float (&x)[8])
{
    if (dtype == RINGX_F32) {
        ((float4 *)at)[0] = make_float4(x[0], x[1], x[2], x[3]);
        ((float4 *)at)[1] = make_float4(x[4], x[5], x[6], x[7]);
    } else if (dtype == RINGX_BF16) {
        *(uint4 *)at = make_uint4(nn_narrow_two(RINGX_BF16, x[0], x[1]), nn_narrow_two(RINGX_BF16, x[2], x[3]),
                                  nn_narrow_two(RINGX_BF16, x[4], x[5]), nn_narrow_two(RINGX_BF16, x[6], x[7]));
    } else {
        *(uint4 *)at = make_uint4(nn_narrow_two(RINGX_F16, x[0], x[1]), nn_narrow_two(RINGX_F16, x[2], x[3]),
                                  nn_narrow_two(RINGX_F16, x[4], x[5]), nn_narrow_two(RINGX_F16, x[6], x[7]));
    }
}

__device__ __forceinline__ void nn_put(int dtype, char *at, const float (&x)[1])
{
    if (dtype == RINGX_F32)
        *(float *)at = x[0];
    else
        *(uint16_t *)at = (uint16_t)nn_narrow(dtype, x[0]);
}

template <int N>
__device__ __forceinline__ void nn_store(const nn_view &v, int64_t row, int64_t column, const float (&x)[N])
{
    nn_put(v.dtype, nn_place(v, row, column), x);
}

/* ---- sums over a block, in an order that the number of its threads decides ---- */

/* Σ over the block of each of K values, for all threads.  shared: 32·K values that the last call did not use. */
template <int K, typename T> __device__ __forceinline__ void nn_block_sum(T (&x)[K], T *shared)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
#pragma unroll
    for (int k = 0; k < K; k++)
        for (int step = 16; step; step /= 2)
            x[k] += __shfl_xor_sync(0xffffffffu, x[k], step);
    if (lane == 0)
        for (int k = 0; k < K; k++)
            shared[k * 32 + warp] = x[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++) {
        x[k] = lane < warps ? shared[k * 32 + lane] : T(0);
        for (int step = 16; step; step /= 2)
            x[k] += __shfl_xor_sync(0xffffffffu, x[k], step);
    }
}

#endif
