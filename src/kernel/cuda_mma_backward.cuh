/* SPDX-License-Identifier: MIT */
/* Portable backward: mma.sync and cp.async, any strides; one block a tile of keys, as the Hopper kernel.
 *
 * launch   a grid of key tiles × kv heads × batch, 16 keys a warp; twice for wide heads, whose dK and dV do not both
 * fit in registers (PARTS: 1 dV, 2 dK and dQ, 3 all). reads    K, V once; Q, dO, lse, delta for each live block, one
 * block ahead. writes   dk, dv += once from registers; dq += by float atomics, in turn where ordered. numerics as the
 * Hopper kernel. */
#ifndef RINGX_KERNEL_CUDA_MMA_BACKWARD_CUH
#define RINGX_KERNEL_CUDA_MMA_BACKWARD_CUH

#include "kernel/cuda_mma.cuh"

/* EXTRA: softcap or dropout, as in forward. */
template <typename T_, int DK_, int DV_, int WARPS_, int M_, int PARTS_, bool EXTRA_> struct ringx_mma_backward_config {
    using T = T_;
    static constexpr bool EXTRA = EXTRA_;
    static constexpr int DK = DK_, DV = DV_, WARPS = WARPS_, M = M_, PARTS = PARTS_;
    static constexpr int N = 16 * WARPS, THREADS = 32 * WARPS;
    static constexpr int KP = (DK + 63) / 64 * 64, VP = (DV + 63) / 64 * 64;
    static constexpr int V_AT = N * KP * 2, Q_AT = V_AT + N * VP * 2, Q_BYTES = M * KP * 2;
    static constexpr int DO_AT = Q_AT + 2 * Q_BYTES, DO_BYTES = M * VP * 2, DS_AT = DO_AT + 2 * DO_BYTES;
    /* dS is stored [key][query] in rows of 64; M = 32 leaves half of each unused */
    static constexpr int ROWS_AT = DS_AT + N * 128, STATS_AT = ROWS_AT + N * 16, RANGES_AT = STATS_AT + 4 * M * 4;
    static constexpr int SMEM = RANGES_AT + 16 * RINGX_MMA_QUERIES;
    /* dQ's M × DK is shared out: M/16 warps down, the others across */
    static constexpr int DOWN = M / 16, ACROSS = WARPS / DOWN, DQ_COLUMNS = KP / ACROSS;
};

struct ringx_mma_backward_tile {
    int slice, n, kv, batch;
};

__device__ __forceinline__ void mma_backward_tile(const ringx_mma_params &p, ringx_mma_backward_tile *t)
{
    int tiles = p.key[p.keys - 1].tiles, all = p.kv_heads * p.batch, per_group = tiles * p.head_group;
    int group = (int)blockIdx.x / per_group, rest = (int)blockIdx.x - group * per_group;
    int width = min(p.head_group, all - group * p.head_group);
    int tile = backward_launched(p, rest / width), column = group * p.head_group + rest % width, before = 0;
    t->slice = 0;
    while (tile >= p.key[t->slice].tiles)
        before = p.key[t->slice++].tiles;
    t->n = tile - before;
    t->kv = column % p.kv_heads;
    t->batch = column / p.kv_heads;
}

template <class C>
__device__ __forceinline__ ringx_cuda_range mma_backward_range(const ringx_mma_params &p,
                                                               const ringx_mma_backward_tile &t, int iq)
{
    const ringx_cuda_run &keys = p.key[t.slice];
    int rows = min(C::N, keys.count - t.n * C::N);
    int64_t first = keys.first + (int64_t)t.n * C::N * keys.step, last = first + (rows - 1) * keys.step;
    if (!(p.live[iq] >> t.slice & 1))
        return {0, 0, 0, 0};
    ringx_interval a = ringx__cuda_mask_queries(p.mask, first), b = ringx__cuda_mask_queries(p.mask, last);
    ringx_cuda_range r = ringx__cuda_range(p.query[iq], C::M, a.lo, a.hi, b.lo, b.hi);
    if (rows < C::N)
        r.full_begin = r.full_end = r.end;
    if (p.turn) {
        ringx_cuda_range hull = backward_hull(p.mask, p.query[iq], C::M, first, last);
        r.begin = hull.begin;
        r.end = hull.end;
    }
    return r;
}

struct ringx_mma_backward_walk {
    int head, head_end, iq, m, end;

    __device__ __forceinline__ bool next(const ringx_mma_params &p, const ringx_cuda_range *ranges)
    {
        if (++m < end)
            return true;
        for (; head < head_end; head++, iq = -1) {
            while (++iq < p.queries) {
                m = ranges[iq].begin;
                end = ranges[iq].end;
                if (m < end)
                    return true;
            }
        }
        return false;
    }
};

/* Q, dO, lse·log2e and delta of one block into stage 0 or 1; rows past the slice get lse = +inf, so weight 0. */
template <class C>
__device__ __forceinline__ void mma_backward_load(const ringx_mma_params &p, const ringx_mma_backward_tile &t,
                                                  const ringx_mma_backward_walk &w, char *base, int stage)
{
    using T = typename C::T;
    const ringx_mma_queries &of = p.of[w.iq];
    int count = p.query[w.iq].count;
    load_tile<T, C::M, C::KP, C::THREADS>(base + C::Q_AT + stage * C::Q_BYTES, of.q, t.batch, w.head, w.m * C::M, count,
                                          p.head_dim, p.aligned);
    load_tile<T, C::M, C::VP, C::THREADS>(base + C::DO_AT + stage * C::DO_BYTES, of.dout, t.batch, w.head, w.m * C::M,
                                          count, p.value_dim, p.aligned);
    float *stats = (float *)(base + C::STATS_AT) + stage * 2 * C::M;
    if ((int)threadIdx.x < C::M) {
        int i = w.m * C::M + (int)threadIdx.x;
        bool inside = i < count;
        stats[threadIdx.x] =
            inside ? of.lse.data[t.batch * of.lse.batch_stride + w.head * of.lse.head_stride + i] * RINGX_LOG2E
                   : INFINITY;
        stats[C::M + threadIdx.x] =
            inside ? of.delta.data[t.batch * of.delta.batch_stride + w.head * of.delta.head_stride + i] : 0;
    }
}

/* Which of this thread's weights dropout keeps, in a rolled loop: the generator needs registers of its own. */
template <class C>
__device__ __forceinline__ uint64_t mma_backward_kept(const ringx_mma_params &p, const ringx_mma_backward_tile &t,
                                                      const ringx_mma_backward_walk &w, int mine, int column)
{
    const ringx_cuda_run &queries = p.query[w.iq], &keys = p.key[t.slice];
    uint64_t kept = 0;
#pragma unroll 1
    for (int i = 0; i < C::M / 2; i++) {
        int64_t key = keys.first + (t.n * C::N + mine + i % 4 / 2 * 8) * keys.step;
        int64_t query = queries.first + (w.m * C::M + i / 4 * 8 + column + i % 2) * queries.step;
        kept |= (uint64_t)(ringx__cuda_keep(p.drop, t.batch, p.q_head + w.head, query, key) != 0) << i;
    }
    return kept;
}

/* Weights of queries outside each key's interval are selected away. */
template <class C>
__device__ __forceinline__ void mma_backward_mask(const ringx_cuda_run &queries, int from, const ringx_interval *rows,
                                                  float (&s)[C::M / 8][4])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        ringx_interval see = rows[8 * r];
        int lo = ringx__cuda_local(queries.first, queries.step, queries.count, see.lo) - from;
        int hi = see.lo < see.hi ? ringx__cuda_local(queries.first, queries.step, queries.count, see.hi) - from : lo;
#pragma unroll
        for (int c = 0; c < C::M / 8; c++) {
#pragma unroll
            for (int e = 0; e < 2; e++)
                s[c][2 * r + e] = 8 * c + e >= lo && 8 * c + e < hi ? s[c][2 * r + e] : 0;
        }
    }
}

/* From scores in s and dP in dp to weights in s (dropped: they feed dV) and dS in dp, of 16 keys × M queries. */
template <class C>
__device__ __forceinline__ void mma_differentiate(const ringx_mma_params &p, const ringx_mma_backward_tile &t,
                                                  const ringx_mma_backward_walk &w, const float *stats,
                                                  const ringx_interval *rows, bool masked, int mine, int column,
                                                  float (&s)[C::M / 8][4], float (&dp)[C::M / 8][4])
{
    const float scale2 = p.scale * RINGX_LOG2E;
    float slope[C::EXTRA ? C::M / 8 : 1][4];
#pragma unroll
    for (int c = 0; c < C::M / 8; c++) {
        float2 lse = *(const float2 *)(stats + 8 * c + column);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float l = e % 2 ? lse.y : lse.x;
            if (C::EXTRA) {
                float score = s[c][e] * p.scale, bent = p.softcap > 0 ? tanhf(score / p.softcap) : 0;
                slope[C::EXTRA ? c : 0][e] = 1 - bent * bent;
                s[c][e] = exp2_fast((p.softcap > 0 ? p.softcap * bent : score) * RINGX_LOG2E - l);
            } else {
                s[c][e] = exp2_fast(fmaf(s[c][e], scale2, -l));
            }
        }
    }
    if (masked)
        mma_backward_mask<C>(p.query[w.iq], w.m * C::M + column, rows + mine, s);
    uint64_t kept = ~UINT64_C(0);
    if (C::EXTRA && p.drop.threshold)
        kept = mma_backward_kept<C>(p, t, w, mine, column);
#pragma unroll
    for (int c = 0; c < C::M / 8; c++) {
        float2 delta = *(const float2 *)(stats + C::M + 8 * c + column);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float mean = e % 2 ? delta.y : delta.x;
            if (C::EXTRA) {
                float keep = kept >> (4 * c + e) & 1 ? p.drop.grow : 0, weight = s[c][e];
                dp[c][e] = weight == 0 ? 0 : weight * (dp[c][e] * keep - mean) * slope[C::EXTRA ? c : 0][e];
                s[c][e] = weight * keep;
            } else {
                dp[c][e] = s[c][e] * (dp[c][e] - mean);
            }
        }
    }
}

template <int GROUPS>
__device__ __forceinline__ void mma_add_rows(const ringx_view &to, int64_t batch, int64_t head, int token, int count,
                                             int column, int dim, float factor, const float (&d)[GROUPS][4])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if (token + 8 * r >= count)
            continue;
        float *row =
            (float *)to.data + batch * to.batch_stride + (token + 8 * r) * to.token_stride + head * to.head_stride;
#pragma unroll
        for (int c = 0; c < GROUPS; c++) {
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (8 * c + column + e < dim)
                    row[8 * c + column + e] += factor * d[c][2 * r + e];
        }
    }
}

/* to[0] += a, to[1] += b, as far as there are elements left. */
__device__ __forceinline__ void add_pair(float *to, float a, float b, int left, bool paired)
{
    if (left <= 0)
        return;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (paired) {
        asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(a), "f"(b) : "memory");
        return;
    }
#endif
    (void)paired;
    atomicAdd(to, a);
    if (left > 1)
        atomicAdd(to + 1, b);
}

/* dQ of one block: this warp's 16 queries × DQ_COLUMNS from all keys' dS, added to memory. */
template <class C>
__device__ __forceinline__ void mma_add_dq(const ringx_mma_params &p, const ringx_mma_backward_tile &t,
                                           const ringx_mma_backward_walk &w, char *base)
{
    using T = typename C::T;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, down = warp % C::DOWN, across = warp / C::DOWN;
    float dq[C::DQ_COLUMNS / 8][4] = {};
#pragma unroll
    for (int k = 0; k < C::N / 16; k++) {
        uint32_t a[4], b[4];
        left_turned<64>(a, base + C::DS_AT, 16 * k, 2 * down);
#pragma unroll
        for (int d = 0; d < C::DQ_COLUMNS / 16; d++) {
            right_turned<C::KP>(b, base, 16 * k, across * (C::DQ_COLUMNS / 8) + 2 * d);
            multiply_add<T>(dq[2 * d], a, b[0], b[1]);
            multiply_add<T>(dq[2 * d + 1], a, b[2], b[3]);
        }
    }
    int *turn = nullptr;
    if (p.turn) {
        int tiles_before = w.iq ? p.query[w.iq - 1].tiles : 0;
        turn = p.turn + ((int64_t)t.batch * p.q_heads + w.head) * p.q_tiles + tiles_before + w.m;
        if (threadIdx.x == 0)
            wait_for_turn(turn, backward_turn(p, C::N, w.iq, w.m, C::M, t.slice, t.n));
        __syncthreads();
    }
    const ringx_view &to = p.of[w.iq].dq;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int i = w.m * C::M + 16 * down + lane / 4 + 8 * r;
        if (i >= p.query[w.iq].count)
            continue;
        float *row = (float *)to.data + t.batch * to.batch_stride + i * to.token_stride + w.head * to.head_stride;
#pragma unroll
        for (int c = 0; c < C::DQ_COLUMNS / 8; c++) {
            int d = across * C::DQ_COLUMNS + 8 * c + lane % 4 * 2;
            add_pair(row + d, p.scale * dq[c][2 * r], p.scale * dq[c][2 * r + 1], p.head_dim - d, p.paired);
        }
    }
    if (turn) {
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0)
            pass_turn(turn);
    }
}

template <class C>
__global__ void __launch_bounds__(C::THREADS, 1) ringx_mma_backward(const __grid_constant__ ringx_mma_params p)
{
    using T = typename C::T;
    extern __shared__ __align__(1024) char base[];
    ringx_interval *rows = (ringx_interval *)(base + C::ROWS_AT);
    ringx_cuda_range *ranges = (ringx_cuda_range *)(base + C::RANGES_AT);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = lane % 4 * 2, mine = 16 * warp + lane / 4;
    ringx_mma_backward_tile t;
    mma_backward_tile(p, &t);
    const ringx_cuda_run &keys = p.key[t.slice];
    for (int i = (int)threadIdx.x; i < C::N; i += C::THREADS) {
        int j = t.n * C::N + i;
        rows[i] = j < keys.count ? ringx__cuda_mask_queries(p.mask, keys.first + j * keys.step) : ringx_interval{0, 0};
    }
    if ((int)threadIdx.x < p.queries)
        ranges[threadIdx.x] = mma_backward_range<C>(p, t, (int)threadIdx.x);
    load_tile<T, C::N, C::KP, C::THREADS>(base, p.k[t.slice], t.batch, t.kv, t.n * C::N, keys.count, p.head_dim,
                                          p.aligned);
    load_tile<T, C::N, C::VP, C::THREADS>(base + C::V_AT, p.v[t.slice], t.batch, t.kv, t.n * C::N, keys.count,
                                          p.value_dim, p.aligned);
    __syncthreads();
    int of_group = (t.kv + p.kv_head) * p.group - p.q_head; /* first local query head of this kv head */
    ringx_mma_backward_walk walk = {max(of_group, 0), min(of_group + p.group, p.q_heads), -1, 0, 0};
    bool any = walk.next(p, ranges);
    if (any)
        mma_backward_load<C>(p, t, walk, base, 0);
    copy_commit();
    float dk[C::PARTS & 2 ? C::DK / 8 : 1][4] = {}, dv[C::PARTS & 1 ? C::DV / 8 : 1][4] = {};
    for (int count = 0; any; count++) {
        int stage = count & 1;
        char *q_tile = base + C::Q_AT + stage * C::Q_BYTES, *do_tile = base + C::DO_AT + stage * C::DO_BYTES;
        const float *stats = (const float *)(base + C::STATS_AT) + stage * 2 * C::M;
        copy_wait<0>();
        __syncthreads(); /* this block is here; all are done with the one before */
        ringx_mma_backward_walk now = walk;
        any = walk.next(p, ranges);
        if (any)
            mma_backward_load<C>(p, t, walk, base, stage ^ 1);
        copy_commit();
        float s[C::M / 8][4] = {}, dp[C::M / 8][4] = {};
#pragma unroll
        for (int k = 0; k < C::DK / 16; k++) {
            uint32_t a[4], b[4];
            left<C::KP>(a, base, 16 * warp, 2 * k);
#pragma unroll
            for (int m = 0; m < C::M / 16; m++) {
                right<C::KP>(b, q_tile, 16 * m, 2 * k);
                multiply_add<T>(s[2 * m], a, b[0], b[1]);
                multiply_add<T>(s[2 * m + 1], a, b[2], b[3]);
            }
        }
#pragma unroll
        for (int k = 0; k < C::DV / 16; k++) {
            uint32_t a[4], b[4];
            if (!(C::PARTS & 2))
                break;
            left<C::VP>(a, base + C::V_AT, 16 * warp, 2 * k);
#pragma unroll
            for (int m = 0; m < C::M / 16; m++) {
                right<C::VP>(b, do_tile, 16 * m, 2 * k);
                multiply_add<T>(dp[2 * m], a, b[0], b[1]);
                multiply_add<T>(dp[2 * m + 1], a, b[2], b[3]);
            }
        }
        bool masked = now.m < ranges[now.iq].full_begin || now.m >= ranges[now.iq].full_end;
        mma_differentiate<C>(p, t, now, stats, rows, masked, mine, column, s, dp);
#pragma unroll
        for (int k = 0; k < C::M / 16; k++) {
            uint32_t a[4], b[4];
            if (!(C::PARTS & 1))
                break;
            as_left<T>(a, s[2 * k], s[2 * k + 1]);
#pragma unroll
            for (int d = 0; d < C::DV / 16; d++) {
                right_turned<C::VP>(b, do_tile, 16 * k, 2 * d);
                multiply_add<T>(dv[2 * d], a, b[0], b[1]);
                multiply_add<T>(dv[2 * d + 1], a, b[2], b[3]);
            }
        }
        if constexpr ((C::PARTS & 2) != 0) {
#pragma unroll
            for (int k = 0; k < C::M / 16; k++) {
                uint32_t a[4], b[4];
                as_left<T>(a, dp[2 * k], dp[2 * k + 1]);
#pragma unroll
                for (int e = 0; e < 4; e++)
                    *(uint32_t *)(chunk_at<64>(base + C::DS_AT, mine + e % 2 * 8, 2 * k + e / 2) + column * 2) = a[e];
#pragma unroll
                for (int d = 0; d < C::DK / 16; d++) {
                    right_turned<C::KP>(b, q_tile, 16 * k, 2 * d);
                    multiply_add<T>(dk[2 * d], a, b[0], b[1]);
                    multiply_add<T>(dk[2 * d + 1], a, b[2], b[3]);
                }
            }
            __syncthreads(); /* dS is whole */
            mma_add_dq<C>(p, t, now, base);
        }
    }
    copy_wait<0>();
    int token = t.n * C::N + mine;
    if (C::PARTS & 2)
        mma_add_rows(p.dk[t.slice], t.batch, t.kv, token, keys.count, column, p.head_dim, p.scale, dk);
    if (C::PARTS & 1)
        mma_add_rows(p.dv[t.slice], t.batch, t.kv, token, keys.count, column, p.value_dim, 1.f, dv);
}

#endif
