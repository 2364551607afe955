/* SPDX-License-Identifier: MIT */
/* Hopper's instructions as C functions: mbarriers, bulk tensor copies, wgmma descriptors and fences, named barriers;
 * and the parameters that the host gives the sm_90a kernels. */
#ifndef RINGX_KERNEL_CUDA_SM90_CUH
#define RINGX_KERNEL_CUDA_SM90_CUH

#include <cuda.h>

#include "kernel/cuda_common.cuh"
#ifdef RINGX_EMULATE
#include "kernel/cuda_emulate_sm90.h"
#else
#include "kernel/cuda_wgmma.cuh"
#endif

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(RINGX_EMULATE)
#define RINGX_SM90 1
#else
#define RINGX_SM90 0
#endif

#ifndef RINGX_SM90_KEYS
#define RINGX_SM90_KEYS RINGX_AWAITED_RUNS /* slices in one launch; the tests make it small */
#endif
#define RINGX_SM90_QUERIES 4

/* ---- what the host passes --------------------------------------------------------------------------------------- */

/* The order of work: columns (a head of a batch) in groups whose streamed data the cache holds, the longest tiles of a
 * group first.  The last group is larger: its short tiles fill what its long ones leave at the end. */
struct ringx_cuda_order {
    int width, groups; /* columns of a group; groups before the last one */
};

__device__ __forceinline__ void ringx__cuda_place(const ringx_cuda_order &o, int work, int tiles, int columns,
                                                  int *tile, int *column)
{
    int each = tiles * o.width, group = min(work / each, o.groups), rest = work - group * each;
    int width = group < o.groups ? o.width : columns - group * o.width;
    *tile = rest / width;
    *column = group * o.width + rest % width;
}

struct ringx_sm90_forward_params {
    CUtensorMap q[RINGX_SM90_QUERIES], k[RINGX_SM90_KEYS], v[RINGX_SM90_KEYS];
    ringx_cuda_run query[RINGX_SM90_QUERIES], key[RINGX_SM90_KEYS];
    int key_head[RINGX_SM90_KEYS], key_end[RINGX_SM90_KEYS]; /* kv heads of the slice; its map begins at head 0 */
    const uint32_t *arrived[RINGX_SM90_KEYS];                /* not 0: the slice is there; NULL: it is */
    ringx_view acc[RINGX_SM90_QUERIES], out[RINGX_SM90_QUERIES];
    ringx_rows m[RINGX_SM90_QUERIES], l[RINGX_SM90_QUERIES], lse[RINGX_SM90_QUERIES];
    uint64_t live[RINGX_SM90_QUERIES];
    ringx_cuda_mask mask;
    ringx_cuda_dropout drop;
    int *next_tile;             /* zeroed before the launch */
    unsigned long long *waited; /* a job's */
    int queries, keys, heads, batch, q_head, kv_head, group, value_dim;
    int unit; /* of heads that share keys: the columns of a batch that are neighbours */
    ringx_cuda_order order;
    float scale, softcap;
    bool fresh, final;
    bool wide, paired; /* rows of out may be stored 16 bytes at a time, those of acc read and stored 8 */
};

struct ringx_sm90_backward_params {
    CUtensorMap q[RINGX_SM90_QUERIES], dout[RINGX_SM90_QUERIES], dq[RINGX_SM90_QUERIES];
    CUtensorMap k[RINGX_SM90_KEYS], v[RINGX_SM90_KEYS];
    ringx_cuda_run query[RINGX_SM90_QUERIES], key[RINGX_SM90_KEYS];
    ringx_view dk[RINGX_SM90_KEYS], dv[RINGX_SM90_KEYS];
    ringx_view dk_out[RINGX_SM90_KEYS], dv_out[RINGX_SM90_KEYS];
    ringx_rows lse[RINGX_SM90_QUERIES], delta[RINGX_SM90_QUERIES];
    uint64_t live[RINGX_SM90_QUERIES];
    ringx_cuda_mask mask;
    ringx_cuda_dropout drop;
    int *turn; /* deterministic: one counter a (query tile, head, batch), zeroed before the launch; else NULL */
    int queries, keys, q_heads, kv_heads, batch, q_head, kv_head, group, head_dim, value_dim, q_tiles;
    ringx_cuda_order order;
    float scale, softcap;
    uint64_t fresh, final; /* bit i: what dk, dv of key slice i hold is not added; the sum goes to dk_out, dv_out */
    uint64_t even;         /* bit i: tiles of key slice i are as long as each other */
    uint64_t told;         /* bit i: tiles of key slice i count; the last of told_tiles sets finished */
    int told_tiles, *told_count; /* zeroed before the launch */
    uint32_t *finished;
    bool wide, paired; /* rows of dk_out, dv_out may be stored 16 bytes at a time, those of dk, dv read and stored 8 */
};

/* ---- instructions ------------------------------------------------------------------------------------------------ */

#if RINGX_SM90 && !defined(RINGX_EMULATE)

__device__ __forceinline__ uint32_t smem_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void mbar_init(uint32_t bar, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count));
}

__device__ __forceinline__ void mbar_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}

__device__ __forceinline__ void mbar_arrive(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

__device__ __forceinline__ void mbar_wait(uint32_t bar, uint32_t parity)
{
    uint32_t done;
#ifdef RINGX_HANG_TRAP
    for (long tries = 0;; tries++) {
        if (tries > 20000000)
            __trap();
#else
    for (;;) {
#endif
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(bar), "r"(parity)
                     : "memory");
        if (done)
            return;
    }
}

__device__ __forceinline__ void tma_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int c0, int c1, int c2,
                                         int c3, uint64_t hint)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
                 "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "l"(hint)
                 : "memory");
}

/* The policies that createpolicy would make for all of an access. */
#define RINGX_EVICT_FIRST 0x12F0000000000000ull
#define RINGX_EVICT_LAST  0x14F0000000000000ull

__device__ __forceinline__ void tma_reduce_add(const CUtensorMap *map, uint32_t from, int c0, int c1, int c2, int c3)
{
    asm volatile(
        "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
            map),
        "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
        : "memory");
}

__device__ __forceinline__ uint32_t load_acquire(const uint32_t *from)
{
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}

__device__ __forceinline__ unsigned long long nanoseconds()
{
    unsigned long long now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)::"memory");
    return now;
}

/* Waits for what a stream of this device sets when a transfer has come; bulk copies then read what came. */
__device__ __forceinline__ void await_arrival(const uint32_t *arrived, unsigned long long *waited)
{
    if (load_acquire(arrived) == 0) {
        unsigned long long begin = nanoseconds();
        while (load_acquire(arrived) == 0)
            ;
        if (waited)
            atomicAdd(waited, (nanoseconds() - begin) / gridDim.x);
    }
    asm volatile("fence.proxy.async.global;" ::: "memory");
}

/* For streams of this device and for others: what was written before, as this thread saw it, is there. */
__device__ __forceinline__ void set_word(uint32_t *word)
{
    __threadfence_system();
    asm volatile("st.release.sys.global.u32 [%0], 1;" ::"l"(word) : "memory");
}

__device__ __forceinline__ void bulk_commit()
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

template <int N> __device__ __forceinline__ void bulk_wait_read()
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}

template <int N> __device__ __forceinline__ void bulk_wait()
{
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory");
}

/* Makes ordinary stores to shared memory visible to wgmma and the copy engine. */
__device__ __forceinline__ void fence_proxy()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void bar_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void bar_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <int N> __device__ __forceinline__ void registers_down()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> __device__ __forceinline__ void registers_up()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

__device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int N> __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ void fence_mbar_init()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Four 8×8 matrices of 16-bit elements in wgmma's layout to four times eight rows of 16 bytes; each lane has a row. */
__device__ __forceinline__ void store_matrices(uint32_t row, const uint32_t *x)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(x[0]), "r"(x[1]),
                 "r"(x[2]), "r"(x[3])
                 : "memory");
}

/* Between bulk copies to global memory and what ordinary instructions say about them. */
__device__ __forceinline__ void fence_proxy_global()
{
    asm volatile("fence.proxy.async.global;" ::: "memory");
}

/* Keeps the compiler from moving uses of the sums across a wait. */
template <int R> __device__ __forceinline__ void hold(float (&d)[R])
{
#pragma unroll
    for (int i = 0; i < R; i++)
        asm volatile("" : "+f"(d[i])::"memory");
}

template <int R> __device__ __forceinline__ void hold(uint32_t (&d)[R])
{
#pragma unroll
    for (int i = 0; i < R; i++)
        asm volatile("" : "+r"(d[i])::"memory");
}

#endif

/* Descriptor of an operand in 128-byte-swizzled rows of 64 elements, 8 rows to 1024 bytes.  group: bytes between
 * groups of 64 elements where the contiguous dimension is M or N; ignored where it is K. */
__device__ __forceinline__ uint64_t descriptor(uint32_t address, uint32_t group)
{
    return (uint64_t)(address >> 4) | (uint64_t)(group >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#endif
