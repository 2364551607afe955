/* SPDX-License-Identifier: MIT */
/* Runs the CUDA kernels on a CPU, so that their logic is tested where there is no GPU: masks, walks, stages, phases,
 * who waits for whom.  Every CUDA thread is a fiber; blocks run one after the other.  What takes time on the device is
 * done as early (copies into shared memory) or as late (matrix products, copies out of it: at the wait) as the device
 * may, so that a missing wait shows as a wrong result, and a wait that nothing ends as a deadlock.  It says nothing
 * about speed, about memory ordering, or about how the hardware reads a descriptor beyond what is written down here. */
#ifndef RINGX_TEST_CUDA_EMULATE_H
#define RINGX_TEST_CUDA_EMULATE_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
using std::isinf;
using std::isnan;
#include <functional>

#undef __global__
#undef __device__
#undef __shared__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;

/* Runs body once for every thread of every block. */
void ringx__emulate(const std::function<void()> &body, dim3 grid, unsigned threads, size_t smem);
void ringx__emulate_yield(const char *why); /* lets other threads run; why shows in a deadlock's report */
void ringx__emulate_moved();                /* something happened: no deadlock yet */
void ringx__emulate_barrier(int kind, int id, int threads, bool wait, const char *why);

template <typename... A>
static inline cudaError_t ringx__cuda_launch(void (*kernel)(A...), dim3 grid, unsigned threads, size_t smem, void *,
                                             typename ringx_same<A>::type... arguments)
{
    ringx__emulate([&] { kernel(arguments...); }, grid, threads, smem);
    return cudaSuccess;
}

static inline cudaError_t ringx__cuda_load(const void *, int)
{
    return cudaSuccess;
}

template <typename T> static inline T min(T a, T b)
{
    return a < b ? a : b;
}
template <typename T> static inline T max(T a, T b)
{
    return a > b ? a : b;
}

/* Barriers by kind: 0 __syncthreads, 1 named, 2 a warp, 3 a warpgroup's products. */
static inline void __syncthreads()
{
    ringx__emulate_barrier(0, 0, (int)blockDim.x, true, "__syncthreads");
}

static inline void __syncwarp(unsigned = 0xffffffffu)
{
    ringx__emulate_barrier(2, (int)threadIdx.x / 32, 32, true, "__syncwarp");
}

extern uint32_t ringx__emulate_exchange[64][32][4]; /* warp, lane */

template <typename T> static inline T __shfl_xor_sync(unsigned, T value, int mask)
{
    static_assert(sizeof(T) == 4, "");
    uint32_t(*slot)[4] = ringx__emulate_exchange[threadIdx.x / 32];
    memcpy(slot[threadIdx.x % 32], &value, 4);
    __syncwarp();
    memcpy(&value, slot[(threadIdx.x % 32) ^ (unsigned)mask], 4);
    __syncwarp();
    return value;
}
template <typename T> static inline T __shfl_sync(unsigned, T value, int)
{
    return value; /* the kernels ask for their own lane's */
}
static inline int __any_sync(unsigned, int value)
{
    for (int step = 1; step < 32; step *= 2)
        value |= __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

static inline int __all_sync(unsigned mask, int value)
{
    return !__any_sync(mask, !value);
}

template <typename T> static inline T atomicAdd(T *to, T value)
{
    T before = *to;
    *to += value;
    return before;
}

static inline unsigned long long atomicMax(unsigned long long *to, unsigned long long value)
{
    unsigned long long before = *to;
    *to = before > value ? before : value;
    return before;
}

static inline void __threadfence()
{
}

static inline float cospif(float x)
{
    return cosf(3.14159265358979f * x);
}

static inline long long __double_as_longlong(double x)
{
    long long y;
    memcpy(&y, &x, 8);
    return y;
}

#endif
