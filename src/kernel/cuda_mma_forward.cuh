/* SPDX-License-Identifier: MIT */
/* Portable forward: mma.sync and cp.async, any strides.
 *
 * launch   a block a tile of queries of one head, later tiles first (under a causal mask they see most).
 * reads    Q once, K and V block by block: V arrives while Q·Kᵀ runs, the next K while P·V runs.
 * writes   out and lse, or the state.
 * numerics as the Hopper kernel: scores and sums fp32, weights rounded to the input type. */
#ifndef RINGX_KERNEL_CUDA_MMA_FORWARD_CUH
#define RINGX_KERNEL_CUDA_MMA_FORWARD_CUH

#include "kernel/cuda_mma.cuh"

/* DK, DV: head_dim and value_dim rounded up to 16; STRIPS of 16 queries a warp; N keys a block.  EXTRA: softcap,
 * dropout or a scale that is not positive; without it the loop has no call and spills nothing. */
template <typename T_, int DK_, int DV_, int WARPS_, int STRIPS_, int N_, bool EXTRA_> struct ringx_mma_forward_config {
    using T = T_;
    static constexpr bool EXTRA = EXTRA_;
    static constexpr int DK = DK_, DV = DV_, WARPS = WARPS_, STRIPS = STRIPS_, N = N_;
    static constexpr int M = 16 * STRIPS * WARPS, THREADS = 32 * WARPS;
    static constexpr int KP = (DK + 63) / 64 * 64, VP = (DV + 63) / 64 * 64;
    static constexpr int K_AT = M * KP * 2, V_AT = K_AT + N * KP * 2, ROWS_AT = V_AT + N * VP * 2;
    static constexpr int RANGES_AT = ROWS_AT + M * 16, SEES_AT = RANGES_AT + 16 * RINGX_MMA_KEYS;
    static constexpr int SOURCES_AT = SEES_AT + 2 * M * 8, SMEM = SOURCES_AT + 32 * RINGX_MMA_KEYS;
};

template <class C> struct ringx_mma_forward_state {
    float o[C::STRIPS][C::DV / 8][4], m[C::STRIPS][2], l[C::STRIPS][2];
};

struct ringx_mma_forward_tile {
    int iq, m0, head, batch, kv;
};

__device__ __forceinline__ void mma_forward_tile(const ringx_mma_params &p, int rows, ringx_mma_forward_tile *t)
{
    int tiles = p.query[p.queries - 1].tiles, all = p.q_heads * p.batch, per_group = tiles * p.head_group;
    int group = (int)blockIdx.x / per_group, rest = (int)blockIdx.x - group * per_group;
    int width = min(p.head_group, all - group * p.head_group);
    int tile = tiles - 1 - rest / width, column = group * p.head_group + rest % width, before = 0;
    t->iq = 0;
    while (tile >= p.query[t->iq].tiles)
        before = p.query[t->iq++].tiles;
    t->m0 = (tile - before) * rows;
    t->head = column % p.q_heads;
    t->batch = column / p.q_heads;
    t->kv = (p.q_head + t->head) / p.group - p.kv_head;
}

/* Blocks of keys: slices ascending, blocks of a slice descending. */
struct ringx_mma_forward_walk {
    int slice, n, begin;

    __device__ __forceinline__ bool next(const ringx_mma_params &p, uint64_t live, const ringx_cuda_range *ranges)
    {
        if (--n >= begin)
            return true;
        while (++slice < p.keys) {
            if (!(live >> slice & 1))
                continue;
            n = ranges[slice].end - 1;
            begin = ranges[slice].begin;
            if (n >= begin)
                return true;
        }
        return false;
    }
};

/* The keys [x, y) of a slice that each row of the tile sees, by local index. */
template <class C>
__device__ __forceinline__ void mma_forward_sees(const ringx_cuda_run &keys, const ringx_interval *rows, int2 *sees)
{
    for (int i = (int)threadIdx.x; i < C::M; i += C::THREADS)
        sees[i] = {ringx__cuda_local(keys.first, keys.step, keys.count, rows[i].lo),
                   ringx__cuda_local(keys.first, keys.step, keys.count, rows[i].hi)};
}

template <class C>
__device__ __forceinline__ void mma_forward_load(const ringx_mma_params &p, const ringx_mma_forward_tile &t, int row,
                                                 int column, ringx_mma_forward_state<C> &x)
{
    const ringx_mma_queries &of = p.of[t.iq];
#pragma unroll
    for (int s = 0; s < C::STRIPS; s++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int i = row + 16 * s + 8 * r;
            bool inside = !p.fresh && i < p.query[t.iq].count;
            x.m[s][r] = -INFINITY;
            x.l[s][r] = 0;
            const float *from = nullptr;
            if (inside) {
                x.m[s][r] = of.m.data[t.batch * of.m.batch_stride + t.head * of.m.head_stride + i];
                if (column == 0)
                    x.l[s][r] = of.l.data[t.batch * of.l.batch_stride + t.head * of.l.head_stride + i];
                from = (const float *)of.acc.data + t.batch * of.acc.batch_stride + i * of.acc.token_stride +
                       t.head * of.acc.head_stride;
            }
#pragma unroll
            for (int c = 0; c < C::DV / 8; c++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int d = 8 * c + column + e;
                    x.o[s][c][2 * r + e] = inside && d < p.value_dim ? from[d] : 0;
                }
            }
        }
    }
}

template <class C>
__device__ __forceinline__ void mma_forward_store(const ringx_mma_params &p, const ringx_mma_forward_tile &t, int row,
                                                  int column, ringx_mma_forward_state<C> &x)
{
    using T = typename C::T;
    const ringx_mma_queries &of = p.of[t.iq];
#pragma unroll
    for (int s = 0; s < C::STRIPS; s++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int i = row + 16 * s + 8 * r;
            float l = x.l[s][r];
            l += __shfl_xor_sync(0xffffffffu, l, 1);
            l += __shfl_xor_sync(0xffffffffu, l, 2);
            if (i >= p.query[t.iq].count)
                continue;
            float inverse = l > 0 ? 1 / l : 0;
            T *out = (T *)of.out.data + t.batch * of.out.batch_stride + i * of.out.token_stride +
                     t.head * of.out.head_stride;
            float *acc = (float *)of.acc.data + t.batch * of.acc.batch_stride + i * of.acc.token_stride +
                         t.head * of.acc.head_stride;
#pragma unroll
            for (int c = 0; c < C::DV / 8; c++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int d = 8 * c + column + e;
                    if (d < p.value_dim && p.final)
                        out[d] = ringx_number<T>::down(x.o[s][c][2 * r + e] * inverse);
                    else if (d < p.value_dim)
                        acc[d] = x.o[s][c][2 * r + e];
                }
            }
            if (column == 0 && p.final)
                of.lse.data[t.batch * of.lse.batch_stride + t.head * of.lse.head_stride + i] =
                    l > 0 ? RINGX_LN2 * (x.m[s][r] + log2f(l)) : -INFINITY;
            if (column == 0 && !p.final) {
                of.m.data[t.batch * of.m.batch_stride + t.head * of.m.head_stride + i] = x.m[s][r];
                of.l.data[t.batch * of.l.batch_stride + t.head * of.l.head_stride + i] = l;
            }
        }
    }
}

/* From scores of one strip to weights; o and l shrink to the new maximum. */
template <class C>
__device__ __forceinline__ void mma_softmax(float (&s)[C::N / 8][4], float (&o)[C::DV / 8][4], float (&m)[2],
                                            float (&l)[2], float scale2)
{
    float subtract[2], shrink[2];
    bool grown = false;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = s[0][2 * r];
#pragma unroll
        for (int c = 0; c < C::N / 8; c++)
            top = fmaxf(top, fmaxf(s[c][2 * r], s[c][2 * r + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float now = fmaxf(m[r], top * scale2);
        subtract[r] = now == -INFINITY ? 0 : now;
        shrink[r] = exp2_fast(m[r] - subtract[r]);
        grown = grown || now > m[r];
        m[r] = now;
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = 0;
#pragma unroll
        for (int c = 0; c < C::N / 8; c++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &x = s[c][2 * r + e];
                x = exp2_fast(fmaf(x, scale2, -subtract[r]));
                sum += x;
            }
        }
        l[r] = l[r] * shrink[r] + sum;
    }
    if (!__any_sync(0xffffffffu, grown)) /* most blocks: shrink is 1, or o is still 0 */
        return;
#pragma unroll
    for (int c = 0; c < C::DV / 8; c++) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            o[c][e] *= shrink[e / 2];
    }
}

/* Columns of one strip outside each row's interval are selected away. */
template <class C> __device__ __forceinline__ void mma_mask(const int2 *sees, int from, float (&s)[C::N / 8][4])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int lo = sees[8 * r].x - from, hi = sees[8 * r].y - from;
#pragma unroll
        for (int c = 0; c < C::N / 8; c++) {
#pragma unroll
            for (int e = 0; e < 2; e++)
                s[c][2 * r + e] = 8 * c + e >= lo && 8 * c + e < hi ? s[c][2 * r + e] : -INFINITY;
        }
    }
}

template <class C>
__device__ __forceinline__ void mma_drop(const ringx_mma_params &p, const ringx_mma_forward_tile &t,
                                         const ringx_cuda_run &keys, int block, int row, int column,
                                         float (&s)[C::N / 8][4])
{
    const ringx_cuda_run &queries = p.query[t.iq];
    uint64_t kept = 0; /* first which, in a rolled loop: the generator needs registers of its own */
#pragma unroll 1
    for (int i = 0; i < C::N / 2; i++) {
        int64_t query = queries.first + (row + i % 4 / 2 * 8) * queries.step;
        int64_t key = keys.first + (block * C::N + i / 4 * 8 + column + i % 2) * keys.step;
        kept |= (uint64_t)(ringx__cuda_keep(p.drop, t.batch, p.q_head + t.head, query, key) != 0) << i;
    }
#pragma unroll
    for (int i = 0; i < C::N / 2; i++)
        s[i / 4][i % 4] = kept >> i & 1 ? s[i / 4][i % 4] * p.drop.grow : 0;
}

template <class C>
__global__ void __launch_bounds__(C::THREADS) ringx_mma_forward(const __grid_constant__ ringx_mma_params p)
{
    using T = typename C::T;
    extern __shared__ __align__(1024) char base[];
    char *q_tile = base, *k_tile = base + C::K_AT, *v_tile = base + C::V_AT;
    ringx_interval *rows = (ringx_interval *)(base + C::ROWS_AT);
    ringx_cuda_range *ranges = (ringx_cuda_range *)(base + C::RANGES_AT);
    int2 *sees = (int2 *)(base + C::SEES_AT);                               /* of this slice and the next, by turns */
    ringx_mma_source *sources = (ringx_mma_source *)(base + C::SOURCES_AT); /* K, V of each slice */
    const int lane = threadIdx.x % 32, column = lane % 4 * 2;
    const int strip0 = threadIdx.x / 32 * 16 * C::STRIPS, mine = strip0 + lane / 4;
    const float scale2 = C::EXTRA ? 1.f : p.scale * RINGX_LOG2E;
    ringx_mma_forward_tile t;
    mma_forward_tile(p, C::M, &t);
    const ringx_cuda_run &run = p.query[t.iq];
    for (int i = (int)threadIdx.x; i < C::M; i += C::THREADS)
        rows[i] = ringx__cuda_mask_keys(p.mask, run.first + min(t.m0 + i, run.count - 1) * run.step);
    for (int i = (int)threadIdx.x; i < 2 * p.keys; i += C::THREADS)
        sources[i] = source_of(i % 2 ? p.v[i / 2] : p.k[i / 2], t.batch, t.kv);
    load_tile<C::M, C::KP, C::THREADS>(q_tile, source_of(p.of[t.iq].q, t.batch, t.head), t.m0, run.count, p.head_dim,
                                       p.aligned);
    __syncthreads();
    ringx_mma_forward_state<C> x;
    mma_forward_load(p, t, t.m0 + mine, column, x);
    for (int i = (int)threadIdx.x; i < p.keys; i += C::THREADS)
        ranges[i] = ringx__cuda_range(p.key[i], C::N, rows[0].lo, rows[0].hi, rows[C::M - 1].lo, rows[C::M - 1].hi);
    __syncthreads();
    ringx_mma_forward_walk walk = {-1, 0, 0};
    bool any = walk.next(p, p.live[t.iq], ranges);
    int turn = 0;
    if (any)
        mma_forward_sees<C>(p.key[walk.slice], rows, sees);
    if (any)
        load_tile<C::N, C::KP, C::THREADS>(k_tile, sources[2 * walk.slice], walk.n * C::N, p.key[walk.slice].count,
                                           p.head_dim, p.aligned);
    copy_commit();
    const ringx_shared rows_k = rows_first<C::KP>(base), rows_v = C::KP == C::VP ? rows_k : rows_first<C::VP>(base);
    const ringx_shared columns_k = columns_first<C::KP>(base), rows_q = keep(rows_k + strip0 * (C::KP * 2));
    while (any) {
        copy_wait<0>();
        __syncthreads(); /* K is here; V's tile is free */
        load_tile<C::N, C::VP, C::THREADS>(v_tile, sources[2 * walk.slice + 1], walk.n * C::N, p.key[walk.slice].count,
                                           p.value_dim, p.aligned);
        copy_commit();
        float s[C::STRIPS][C::N / 8][4];
#pragma unroll
        for (int i = 0; i < C::STRIPS * (C::N / 8) * 4; i++)
            s[i / (C::N / 2)][i / 4 % (C::N / 8)][i % 4] = 0;
        multiply_rows<T, C::STRIPS, C::N / 16, C::DK / 16, C::KP>(s, rows_q, 0, columns_k, C::K_AT);
        const int slice = walk.slice, block = walk.n;
        const bool masked = block < ranges[slice].full_begin || block >= ranges[slice].full_end;
        const int2 *seen = sees + turn * C::M + mine;
        copy_wait<0>();
        __syncthreads(); /* V is here; all are done with K */
        any = walk.next(p, p.live[t.iq], ranges);
        if (any && walk.slice != slice)
            mma_forward_sees<C>(p.key[walk.slice], rows, sees + (turn ^= 1) * C::M);
        if (any)
            load_tile<C::N, C::KP, C::THREADS>(k_tile, sources[2 * walk.slice], walk.n * C::N, p.key[walk.slice].count,
                                               p.head_dim, p.aligned);
        copy_commit();
#pragma unroll
        for (int i = 0; i < C::STRIPS; i++) {
            if (C::EXTRA) {
#pragma unroll
                for (int c = 0; c < C::N / 2; c++) {
                    float score = s[i][c / 4][c % 4] * p.scale;
                    if (p.softcap > 0)
                        score = p.softcap * tanhf(score / p.softcap);
                    s[i][c / 4][c % 4] = score * RINGX_LOG2E;
                }
            }
            if (masked)
                mma_mask<C>(seen + 16 * i, block * C::N + column, s[i]);
            mma_softmax<C>(s[i], x.o[i], x.m[i], x.l[i], scale2);
            if (C::EXTRA && p.drop.threshold)
                mma_drop<C>(p, t, p.key[slice], block, t.m0 + mine + 16 * i, column, s[i]);
        }
        multiply_columns<T, C::STRIPS, C::DV / 16, C::N / 16, C::VP>(x.o, s, rows_v, C::V_AT);
    }
    copy_wait<0>();
    mma_forward_store(p, t, t.m0 + mine, column, x);
}

#endif
