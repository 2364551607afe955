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
    static constexpr int KP = (DK + 63) / 64 * 64, VP = (DV + 63) / 64 * 64, MP = (M + 63) / 64 * 64;
    static constexpr int V_AT = N * KP * 2, Q_AT = V_AT + N * VP * 2, Q_BYTES = M * KP * 2;
    static constexpr int DO_AT = Q_AT + 2 * Q_BYTES, DO_BYTES = M * VP * 2, DS_AT = DO_AT + 2 * DO_BYTES;
    /* dS is stored [key][query] in rows of MP; M = 32 leaves half of each unused */
    static constexpr int ROWS_AT = DS_AT + N * MP * 2, STATS_AT = ROWS_AT + N * 16, RANGES_AT = STATS_AT + 4 * M * 4;
    static constexpr int SOURCES_AT = RANGES_AT + 16 * RINGX_MMA_QUERIES;
    static constexpr int SMEM = SOURCES_AT + 80 * RINGX_MMA_QUERIES;
    /* dQ's M × DK is shared out: M/(16·STRIPS) warps down, the others across */
    static constexpr int STRIPS = KP * M >= 8192 ? 2 : 1, DOWN = M / 16 / STRIPS, ACROSS = WARPS / DOWN;
    static constexpr int DQ_COLUMNS = KP / ACROSS;
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

/* Where the first head of a query slice lies, and how far its heads lie apart (bytes of q and dout, elements of lse and
 * delta). */
struct ringx_mma_backward_source {
    ringx_mma_source q, dout;
    int64_t q_head, dout_head;
    const float *lse, *delta;
    int64_t lse_head, delta_head;
};

__device__ __forceinline__ ringx_mma_backward_source mma_backward_source(const ringx_mma_queries &of, int64_t batch)
{
    return {source_of(of.q, batch, 0),
            source_of(of.dout, batch, 0),
            2 * of.q.head_stride,
            2 * of.dout.head_stride,
            of.lse.data + batch * of.lse.batch_stride,
            of.delta.data + batch * of.delta.batch_stride,
            of.lse.head_stride,
            of.delta.head_stride};
}

/* Q, dO, lse and delta of one block into stage 0 or 1.  Rows past the slice are zeros: they add nothing to dK and dV,
 * and their dQ is not stored. */
template <class C>
__device__ __forceinline__ void mma_backward_load(const ringx_mma_params &p, const ringx_mma_backward_source *sources,
                                                  const ringx_mma_backward_walk &w, char *base, int stage)
{
    const ringx_mma_backward_source &of = sources[w.iq];
    int count = p.query[w.iq].count;
    ringx_mma_source q = {of.q.data + w.head * of.q_head, of.q.step};
    ringx_mma_source dout = {of.dout.data + w.head * of.dout_head, of.dout.step};
    load_tile<C::M, C::KP, C::THREADS>(base + C::Q_AT + stage * C::Q_BYTES, q, w.m * C::M, count, p.head_dim,
                                       p.aligned);
    load_tile<C::M, C::VP, C::THREADS>(base + C::DO_AT + stage * C::DO_BYTES, dout, w.m * C::M, count, p.value_dim,
                                       p.aligned);
    if ((int)threadIdx.x < 2 * C::M) {
        const int r = (int)threadIdx.x % C::M, i = w.m * C::M + r;
        const float *from = (int)threadIdx.x < C::M ? of.lse + w.head * of.lse_head : of.delta + w.head * of.delta_head;
        copy_word_async(shared_address(base + C::STATS_AT) + (stage * 2 * C::M + (int)threadIdx.x) * 4,
                        i < count ? from + i : from, i < count);
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
            float l = (e % 2 ? lse.y : lse.x) * RINGX_LOG2E;
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

/* to[0] += a, to[1] += b; to is aligned to 8 bytes. */
__device__ __forceinline__ void add_pair(float *to, float a, float b)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(a), "f"(b) : "memory");
#else
    atomicAdd(to, a);
    atomicAdd(to + 1, b);
#endif
}

/* One row's share of dQ, to += d, as far as there are columns left. */
template <int COLUMNS>
__device__ __forceinline__ void mma_add_row(float *to, const float (&d)[COLUMNS][4], int half, int left)
{
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
        for (int e = 0; e < 2; e++)
            if (8 * c + e < left)
                atomicAdd(to + 8 * c + e, d[c][2 * half + e]);
    }
}

/* dQ of one block: this warp's 16 queries × DQ_COLUMNS from all keys' dS, added to memory. */
template <class C>
__device__ __forceinline__ void mma_add_dq(const ringx_mma_params &p, const ringx_mma_backward_tile &t,
                                           const ringx_mma_backward_walk &w, ringx_shared rows, ringx_shared columns)
{
    using T = typename C::T;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, down = warp % C::DOWN, across = warp / C::DOWN;
    constexpr int GROUPS = C::DQ_COLUMNS / 16, STEPS = C::N / 16;
    float dq[C::STRIPS][2 * GROUPS][4] = {};
    uint32_t a[2][C::STRIPS][4], b[2][GROUPS][4];
    auto load = [&](int k) {
#pragma unroll
        for (int i = 0; i < C::STRIPS; i++)
            load_transposed(a[k % 2][i], fragment_at<C::MP>(columns, C::DS_AT, 16 * k, 2 * (C::STRIPS * down + i)));
#pragma unroll
        for (int d = 0; d < GROUPS; d++)
            load_transposed(b[k % 2][d], fragment_at<C::KP>(rows, 0, 16 * k, across * (2 * GROUPS) + 2 * d));
    };
    load(0);
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
        if (k + 1 < STEPS)
            load(k + 1);
#pragma unroll
        for (int d = 0; d < GROUPS; d++) {
#pragma unroll
            for (int i = 0; i < C::STRIPS; i++) {
                multiply_add<T>(dq[i][2 * d], a[k % 2][i], b[k % 2][d][0], b[k % 2][d][1]);
                multiply_add<T>(dq[i][2 * d + 1], a[k % 2][i], b[k % 2][d][2], b[k % 2][d][3]);
            }
        }
    }
#pragma unroll
    for (int c = 0; c < C::STRIPS * GROUPS * 8; c++)
        dq[c / (8 * GROUPS)][c / 4 % (2 * GROUPS)][c % 4] *= p.scale;
    int *turn = nullptr;
    if (p.turn) {
        int tiles_before = w.iq ? p.query[w.iq - 1].tiles : 0;
        turn = p.turn + ((int64_t)t.batch * p.q_heads + w.head) * p.q_tiles + tiles_before + w.m;
        if (threadIdx.x == 0)
            wait_for_turn(turn, backward_turn(p, C::N, w.iq, w.m, C::M, t.slice, t.n));
        __syncthreads();
    }
    const ringx_view &to = p.of[w.iq].dq;
    const int column = across * C::DQ_COLUMNS + lane % 4 * 2, first = w.m * C::M + 16 * C::STRIPS * down;
    const int count = p.query[w.iq].count;
    float *head = (float *)to.data + t.batch * to.batch_stride + w.head * to.head_stride + column;
    /* a warp's share is whole but at the ends of a slice or of head_dim: then nothing is asked element by element */
    const bool whole = first + 16 * C::STRIPS <= count && (across + 1) * C::DQ_COLUMNS <= p.head_dim;
#pragma unroll
    for (int r = 0; r < 2 * C::STRIPS; r++) {
        int i = first + lane / 4 + 8 * r;
        float *row = head + i * to.token_stride;
        if (whole && p.paired) {
#pragma unroll
            for (int c = 0; c < 2 * GROUPS; c++)
                add_pair(row + 8 * c, dq[r / 2][c][r % 2 * 2], dq[r / 2][c][r % 2 * 2 + 1]);
        } else if (i < count) {
            mma_add_row(row, dq[r / 2], r % 2, p.head_dim - column);
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
    ringx_mma_backward_source *sources = (ringx_mma_backward_source *)(base + C::SOURCES_AT);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = lane % 4 * 2, mine = 16 * warp + lane / 4;
    ringx_mma_backward_tile t;
    mma_backward_tile(p, &t);
    const ringx_cuda_run &keys = p.key[t.slice];
    for (int i = (int)threadIdx.x; i < C::N; i += C::THREADS) {
        int j = t.n * C::N + i;
        rows[i] = j < keys.count ? ringx__cuda_mask_queries(p.mask, keys.first + j * keys.step) : ringx_interval{0, 0};
    }
    if ((int)threadIdx.x < p.queries) {
        ranges[threadIdx.x] = mma_backward_range<C>(p, t, (int)threadIdx.x);
        sources[threadIdx.x] = mma_backward_source(p.of[threadIdx.x], t.batch);
    }
    load_tile<C::N, C::KP, C::THREADS>(base, source_of(p.k[t.slice], t.batch, t.kv), t.n * C::N, keys.count, p.head_dim,
                                       p.aligned);
    load_tile<C::N, C::VP, C::THREADS>(base + C::V_AT, source_of(p.v[t.slice], t.batch, t.kv), t.n * C::N, keys.count,
                                       p.value_dim, p.aligned);
    __syncthreads();
    int of_group = (t.kv + p.kv_head) * p.group - p.q_head; /* first local query head of this kv head */
    ringx_mma_backward_walk walk = {max(of_group, 0), min(of_group + p.group, p.q_heads), -1, 0, 0};
    bool any = walk.next(p, ranges);
    if (any)
        mma_backward_load<C>(p, sources, walk, base, 0);
    copy_commit();
    constexpr int WIDE_K = C::PARTS & 2 ? C::DK / 16 : 1, WIDE_V = C::PARTS & 1 ? C::DV / 16 : 1;
    float dk[1][2 * WIDE_K][4] = {}, dv[1][2 * WIDE_V][4] = {};
    constexpr bool SAME = C::KP == C::VP;
    const ringx_shared rows_k = rows_first<C::KP>(base), rows_v = SAME ? rows_k : rows_first<C::VP>(base);
    const ringx_shared columns_k = columns_first<C::KP>(base),
                       columns_v = SAME ? columns_k : columns_first<C::VP>(base);
    const ringx_shared columns_ds = C::KP == C::MP ? columns_k : columns_first<C::MP>(base);
    const ringx_shared strip_k = keep(rows_k + 16 * warp * (C::KP * 2));
    const ringx_shared strip_v = SAME ? strip_k : keep(rows_v + 16 * warp * (C::VP * 2));
    for (int count = 0; any; count++) {
        int stage = count & 1;
        const int q_tile = C::Q_AT + stage * C::Q_BYTES, do_tile = C::DO_AT + stage * C::DO_BYTES;
        const float *stats = (const float *)(base + C::STATS_AT) + stage * 2 * C::M;
        copy_wait<0>();
        __syncthreads(); /* this block is here; all are done with the one before */
        ringx_mma_backward_walk now = walk;
        any = walk.next(p, ranges);
        if (any)
            mma_backward_load<C>(p, sources, walk, base, stage ^ 1);
        copy_commit();
        float s[1][C::M / 8][4] = {}, dp[1][C::M / 8][4] = {};
        multiply_rows<T, 1, C::M / 16, C::DK / 16, C::KP>(s, strip_k, 0, columns_k, q_tile);
        if constexpr ((C::PARTS & 2) != 0)
            multiply_rows<T, 1, C::M / 16, C::DV / 16, C::VP>(dp, strip_v, C::V_AT, columns_v, do_tile);
        bool masked = now.m < ranges[now.iq].full_begin || now.m >= ranges[now.iq].full_end;
        mma_differentiate<C>(p, t, now, stats, rows, masked, mine, column, s[0], dp[0]);
        if constexpr ((C::PARTS & 1) != 0)
            multiply_columns<T, 1, WIDE_V, C::M / 16, C::VP>(dv, s, rows_v, do_tile);
        if constexpr ((C::PARTS & 2) != 0) {
#pragma unroll
            for (int k = 0; k < C::M / 16; k++) {
                uint32_t a[4];
                as_left<T>(a, dp[0][2 * k], dp[0][2 * k + 1]);
#pragma unroll
                for (int e = 0; e < 4; e++)
                    *(uint32_t *)(base + C::DS_AT + chunk_at<C::MP>(mine + e % 2 * 8, 2 * k + e / 2) + column * 2) =
                        a[e];
            }
            multiply_columns<T, 1, WIDE_K, C::M / 16, C::KP>(dk, dp, rows_k, q_tile);
            __syncthreads(); /* dS is whole */
            mma_add_dq<C>(p, t, now, rows_k, columns_ds);
        }
    }
    copy_wait<0>();
    int token = t.n * C::N + mine;
    if (C::PARTS & 2)
        mma_add_rows(p.dk[t.slice], t.batch, t.kv, token, keys.count, column, p.head_dim, p.scale, dk[0]);
    if (C::PARTS & 1)
        mma_add_rows(p.dv[t.slice], t.batch, t.kv, token, keys.count, column, p.value_dim, 1.f, dv[0]);
}

#endif
