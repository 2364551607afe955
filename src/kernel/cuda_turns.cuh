/* SPDX-License-Identifier: MIT */
/* Ordered sums into dQ: key tiles take turns at each block of queries, so that the same additions happen in the same
 * order in every run.  A counter a block says how many tiles have added.
 *
 * The last keys go first, and are launched first: all tiles walk their queries upwards, and under a causal mask or a
 * window later keys begin further up, so of the tiles that run at the same time the later one comes to a block first.
 * Tiles wait only for tiles with a smaller block index, which the device starts earlier. */
#ifndef RINGX_KERNEL_CUDA_TURNS_CUH
#define RINGX_KERNEL_CUDA_TURNS_CUH

#include "kernel/cuda_common.cuh"

#ifdef RINGX_EMULATE
static inline void wait_for_turn(const int *turn, int mine)
{
    while (*turn != mine)
        ringx__emulate_yield("turn");
}

static inline void pass_turn(int *turn)
{
    ++*turn;
    ringx__emulate_moved();
}
#else
__device__ __forceinline__ void wait_for_turn(const int *turn, int mine)
{
    int now;
    do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(turn) : "memory");
    } while (now != mine);
}

__device__ __forceinline__ void pass_turn(int *turn)
{
    asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(turn) : "memory");
}
#endif

/* Blocks of a query slice whose hull of live keys meets keys [first, last]: the same answer from either side, which the
 * turns of ordered sums need; a block may turn out to be empty. */
__device__ __forceinline__ ringx_cuda_range backward_hull(const ringx_cuda_mask &mask, const ringx_cuda_run &run,
                                                          int block, int64_t first, int64_t last)
{
    int blocks = (run.count + block - 1) / block, low = 0, high = blocks;
    while (low < high) {
        int m = (low + high) / 2;
        int64_t end = run.first + (int64_t)(min((m + 1) * block, run.count) - 1) * run.step;
        if (ringx__cuda_mask_keys(mask, end).hi > first)
            high = m;
        else
            low = m + 1;
    }
    int begin = low;
    high = blocks;
    while (low < high) {
        int m = (low + high) / 2;
        if (ringx__cuda_mask_keys(mask, run.first + (int64_t)m * block * run.step).lo > last)
            high = m;
        else
            low = m + 1;
    }
    return {begin, low, 0, 0};
}

/* Key tiles are launched first to last, but in ordered sums last to first. */
template <typename P> __device__ __forceinline__ int backward_launched(const P &p, int tile)
{
    return p.turn ? p.key[p.keys - 1].tiles - 1 - tile : tile;
}

/* How many key tiles add to a query block before this one, those of later keys: its turn. */
template <typename P>
__device__ __forceinline__ int backward_turn(const P &p, int tile_keys, int iq, int m, int block, int slice, int n)
{
    const ringx_cuda_run &run = p.query[iq];
    int64_t first = run.first + (int64_t)m * block * run.step;
    int64_t last = run.first + (int64_t)(min((m + 1) * block, run.count) - 1) * run.step;
    int64_t lo = ringx__cuda_mask_keys(p.mask, first).lo, hi = ringx__cuda_mask_keys(p.mask, last).hi;
    int turn = 0;
    for (int ik = slice; ik < p.keys; ik++) {
        const ringx_cuda_run &keys = p.key[ik];
        if (!(p.live[iq] >> ik & 1))
            continue;
        int seen = ringx__cuda_local(keys.first, keys.step, keys.count, lo), begin = seen / tile_keys;
        int end = (ringx__cuda_local(keys.first, keys.step, keys.count, hi) + tile_keys - 1) / tile_keys;
        if (seen >= keys.count)
            continue;
        if (ik == slice)
            begin = max(begin, n + 1);
        turn += max(0, end - begin);
    }
    return turn;
}

#endif
