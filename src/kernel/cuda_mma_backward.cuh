/* SPDX-License-Identifier: MIT */
/* Portable backward: mma.sync and cp.async, any strides; one block a tile of keys, as the Hopper kernel.
 *
 * launch   a grid of key tiles × kv heads × batch; eight warps, two for each 16·STRIPS keys. reads    K, V once; Q, dO,
 * lse, delta for each live block, one block ahead. writes   dk, dv += once from registers; dq += by float atomics, in
 * turn where ordered. numerics as the Hopper kernel.
 *
 * Shared memory's bandwidth is what bounds this kernel, so a warp's pieces are as square as registers allow.  Of the
 * two warps of a group of keys each has half of a block's queries for the scores and dP; then one has all of dV and the
 * other all of dK, for which each needs the other's weights or dS, and uses its own from registers. */
#ifndef RINGX_KERNEL_CUDA_MMA_BACKWARD_CUH
#define RINGX_KERNEL_CUDA_MMA_BACKWARD_CUH

#include "kernel/cuda_mma.cuh"

/* EXTRA: softcap or dropout, as in forward. */
template <typename T_, int DK_, int DV_, int STRIPS_, int M_, bool EXTRA_> struct ringx_mma_backward_config {
    using T = T_;
    static constexpr bool EXTRA = EXTRA_;
    static constexpr int DK = DK_, DV = DV_, STRIPS = STRIPS_, M = M_, HALF = M / 2, WIDE = DK > DV ? DK : DV;
    static constexpr int GROUPS = 4, WARPS = 2 * GROUPS, THREADS = 32 * WARPS, N = 16 * STRIPS * GROUPS;
    static constexpr int KP = (DK + 63) / 64 * 64, VP = (DV + 63) / 64 * 64, MP = (M + 63) / 64 * 64;
    static constexpr int V_AT = N * KP * 2, Q_AT = V_AT + N * VP * 2, Q_BYTES = M * KP * 2;
    static constexpr int DO_AT = Q_AT + 2 * Q_BYTES, DO_BYTES = M * VP * 2, DS_AT = DO_AT + 2 * DO_BYTES;
    /* dS is stored [key][query] in rows of MP; M = 32 leaves half of each unused.  Weights that the other warp needs
     * are stored as fragments. */
    static constexpr int P_AT = DS_AT + N * MP * 2, ROWS_AT = P_AT + N * HALF * 2, STATS_AT = ROWS_AT + N * 16;
    static constexpr int RANGES_AT = STATS_AT + 4 * M * 4, SOURCES_AT = RANGES_AT + 16 * RINGX_MMA_QUERIES;
    static constexpr int SMEM = SOURCES_AT + 80 * RINGX_MMA_QUERIES;
    /* dQ's M × DK is shared out: DOWN warps of DQ_STRIPS × 16 queries, the others across */
    static constexpr int DOWN = DK % (512 * WARPS / M) == 0 ? M / 32 : M / 16, DQ_STRIPS = M / 16 / DOWN;
    static constexpr int DQ_COLUMNS = DK * DOWN / WARPS;
    static constexpr int LOADERS = THREADS / 2; /* half 0 */
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
 * and their dQ is not stored.  Only the first LOADERS threads do this: the others start with the products meanwhile,
 * and then the two warps of a scheduler seldom wait for the same unit. */
template <class C>
__device__ __forceinline__ void mma_backward_load(const ringx_mma_params &p, const ringx_mma_backward_source *sources,
                                                  const ringx_mma_backward_walk &w, char *base, int stage)
{
    const ringx_mma_backward_source &of = sources[w.iq];
    int count = p.query[w.iq].count;
    ringx_mma_source q = {of.q.data + w.head * of.q_head, of.q.step};
    ringx_mma_source dout = {of.dout.data + w.head * of.dout_head, of.dout.step};
    load_tile<C::M, C::KP, C::LOADERS>(base + C::Q_AT + stage * C::Q_BYTES, q, w.m * C::M, count, p.head_dim,
                                       p.aligned);
    load_tile<C::M, C::VP, C::LOADERS>(base + C::DO_AT + stage * C::DO_BYTES, dout, w.m * C::M, count, p.value_dim,
                                       p.aligned);
    if ((int)threadIdx.x < C::M) {
        const int i = w.m * C::M + (int)threadIdx.x;
        const float *lse = of.lse + w.head * of.lse_head, *delta = of.delta + w.head * of.delta_head;
        ringx_shared to = shared_address(base + C::STATS_AT) + (stage * 2 * C::M + (int)threadIdx.x) * 4;
        copy_word_async(to, i < count ? lse + i : lse, i < count);
        copy_word_async(to + C::M * 4, i < count ? delta + i : delta, i < count);
    }
}

/* Which of this thread's weights dropout keeps, in a rolled loop: the generator needs registers of its own. */
template <class C>
__device__ __forceinline__ uint64_t mma_backward_kept(const ringx_mma_params &p, const ringx_mma_backward_tile &t,
                                                      const ringx_mma_backward_walk &w, int key0, int query0)
{
    const ringx_cuda_run &queries = p.query[w.iq], &keys = p.key[t.slice];
    uint64_t kept = 0;
#pragma unroll 1
    for (int i = 0; i < C::STRIPS * C::HALF / 2; i++) {
        int strip = i / (C::HALF / 2), c = i % (C::HALF / 2) / 4;
        int64_t key = keys.first + (t.n * C::N + key0 + 16 * strip + i % 4 / 2 * 8) * keys.step;
        int64_t query = queries.first + (w.m * C::M + query0 + 8 * c + i % 2) * queries.step;
        kept |= (uint64_t)(ringx__cuda_keep(p.drop, t.batch, p.q_head + w.head, query, key) != 0) << i;
    }
    return kept;
}

/* Scores or weights of queries outside each key's interval become `none`. */
template <class C>
__device__ __forceinline__ void mma_backward_mask(const ringx_cuda_run &queries, int from, const ringx_interval *rows,
                                                  float none, float (&s)[C::STRIPS][C::HALF / 8][4])
{
#pragma unroll
    for (int r = 0; r < 2 * C::STRIPS; r++) {
        ringx_interval see = rows[8 * r];
        int lo = ringx__cuda_local(queries.first, queries.step, queries.count, see.lo) - from;
        int hi = see.lo < see.hi ? ringx__cuda_local(queries.first, queries.step, queries.count, see.hi) - from : lo;
#pragma unroll
        for (int c = 0; c < C::HALF / 8; c++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &x = s[r / 2][c][r % 2 * 2 + e];
                x = 8 * c + e >= lo && 8 * c + e < hi ? x : none;
            }
        }
    }
}

/* lse of two queries, times -log2(e).  That of a query without keys is -inf; its weights are to be 0, not NaN. */
__device__ __forceinline__ float2 mma_backward_lse(const float *lse)
{
    float2 x = *(const float2 *)lse;
    return make_float2(x.x == -INFINITY ? -INFINITY : x.x * -RINGX_LOG2E,
                       x.y == -INFINITY ? -INFINITY : x.y * -RINGX_LOG2E);
}

/* dP - delta: where the products of dP begin. */
template <class C>
__device__ __forceinline__ void mma_backward_minus_delta(const float *delta, float (&dp)[C::STRIPS][C::HALF / 8][4])
{
#pragma unroll
    for (int c = 0; c < C::HALF / 8; c++) {
        float2 x = *(const float2 *)(delta + 8 * c);
#pragma unroll
        for (int i = 0; i < C::STRIPS; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++)
                dp[i][c][e] = e % 2 ? -x.y : -x.x;
        }
    }
}

/* A few of the weights of scores s, the j-th of `of` parts: written between the products of dP. */
template <class C>
__device__ __forceinline__ void mma_backward_weights(float scale2, const float *lse, float2 &now, int j, int of,
                                                     float (&s)[C::STRIPS][C::HALF / 8][4])
{
    constexpr int ROW = 4 * C::STRIPS, ALL = C::HALF / 8 * ROW;
    const int each = (ALL + of - 1) / of;
#pragma unroll
    for (int x = j * each; x < (j + 1) * each; x++) {
        if (x >= ALL)
            continue;
        const int c = x / ROW, i = x / 4 % C::STRIPS, e = x % 4;
        s[i][c][e] = exp2_fast(fmaf(s[i][c][e], scale2, e % 2 ? now.y : now.x));
        if (x % ROW == ROW - 1 && x + 1 < ALL)
            now = mma_backward_lse(lse + 8 * (c + 1));
    }
}

/* From weights in s and dP - delta in dp to dS in dp.  EXTRA: from scores and dP, to weights that feed dV and dS. */
template <class C>
__device__ __forceinline__ void
mma_differentiate(const ringx_mma_params &p, const ringx_mma_backward_tile &t, const ringx_mma_backward_walk &w,
                  const float *stats, const ringx_interval *rows, bool masked, int key, int query,
                  float (&s)[C::STRIPS][C::HALF / 8][4], float (&dp)[C::STRIPS][C::HALF / 8][4])
{
    uint64_t kept = ~UINT64_C(0);
    if (C::EXTRA && p.drop.threshold)
        kept = mma_backward_kept<C>(p, t, w, key, query);
#pragma unroll
    for (int c = 0; C::EXTRA && c < C::HALF / 8; c++) {
        float2 lse = *(const float2 *)(stats + query + 8 * c), delta = *(const float2 *)(stats + C::M + query + 8 * c);
#pragma unroll
        for (int i = 0; i < C::STRIPS; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float l = (e % 2 ? lse.y : lse.x) * RINGX_LOG2E, mean = e % 2 ? delta.y : delta.x;
                float score = s[i][c][e] * p.scale, bent = p.softcap > 0 ? tanhf(score / p.softcap) : 0;
                float keep = kept >> (C::HALF / 2 * i + 4 * c + e) & 1 ? p.drop.grow : 0;
                dp[i][c][e] = (dp[i][c][e] * keep - mean) * (1 - bent * bent);
                s[i][c][e] = exp2_fast((p.softcap > 0 ? p.softcap * bent : score) * RINGX_LOG2E - l);
            }
        }
    }
    if (C::EXTRA && masked)
        mma_backward_mask<C>(p.query[w.iq], w.m * C::M + query, rows + key, 0.f, s);
#pragma unroll
    for (int c = 0; c < C::HALF / 8; c++) {
#pragma unroll
        for (int i = 0; i < C::STRIPS; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float weight = s[i][c][e], keep = kept >> (C::HALF / 2 * i + 4 * c + e) & 1 ? p.drop.grow : 0;
                if (C::EXTRA)
                    s[i][c][e] = weight * keep;
                dp[i][c][e] = C::EXTRA && weight == 0 ? 0 : weight * dp[i][c][e];
            }
        }
    }
}

/* d += A·Bᵀ of rows of two tiles, as multiply_rows, and beside(j, of) between products.  (Making the compiler keep it
 * there, by addresses that depend on it, was slower.) */
template <typename T, int STRIPS, int GROUPS, int STEPS, int DP, class F>
__device__ __forceinline__ void multiply_rows_beside(float (&d)[STRIPS][2 * GROUPS][4], ringx_shared rows, int a_tile,
                                                     ringx_shared columns, int b_tile, F beside)
{
    constexpr int AHEAD = 1, ALL = STEPS * GROUPS;
    uint32_t a[2][STRIPS][4], b[AHEAD + 1][4];
    auto load = [&](int j) {
        if (j % GROUPS == 0) {
#pragma unroll
            for (int i = 0; i < STRIPS; i++)
                load_matrices(a[j / GROUPS % 2][i], fragment_at<DP>(rows, a_tile, 16 * i, 2 * (j / GROUPS)));
        }
        load_matrices(b[j % (AHEAD + 1)], fragment_at<DP>(columns, b_tile, 16 * (j % GROUPS), 2 * (j / GROUPS)));
    };
    load(0);
#pragma unroll
    for (int j = 0; j < ALL; j++) {
        if (j + AHEAD < ALL)
            load(j + AHEAD);
#pragma unroll
        for (int i = 0; i < STRIPS; i++) {
            multiply_add<T>(d[i][j % GROUPS * 2], a[j / GROUPS % 2][i], b[j % 2][0], b[j % 2][1]);
            multiply_add<T>(d[i][j % GROUPS * 2 + 1], a[j / GROUPS % 2][i], b[j % 2][2], b[j % 2][3]);
        }
        beside(j, ALL);
    }
}

/* d += A·B: A's 16·STRIPS rows are fragments, 16·STEPS wide; B's those of a tile, 16·GROUPS columns. */
template <typename T, int STRIPS, int GROUPS, int STEPS, int DP, int WIDE>
__device__ __forceinline__ void multiply_fragments(float (&d)[STRIPS][WIDE][4], const uint32_t (&a)[STEPS][STRIPS][4],
                                                   ringx_shared rows, int b_tile)
{
    constexpr int AHEAD = 2, ALL = STEPS * GROUPS;
    uint32_t b[AHEAD + 1][4];
    auto load = [&](int j) {
        load_transposed(b[j % (AHEAD + 1)], fragment_at<DP>(rows, b_tile, 16 * (j / GROUPS), 2 * (j % GROUPS)));
    };
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
        load(j);
#pragma unroll
    for (int j = 0; j < ALL; j++) {
        if (j + AHEAD < ALL)
            load(j + AHEAD);
#pragma unroll
        for (int i = 0; i < STRIPS; i++) {
            multiply_add<T>(d[i][j % GROUPS * 2], a[j / GROUPS][i], b[j % (AHEAD + 1)][0], b[j % (AHEAD + 1)][1]);
            multiply_add<T>(d[i][j % GROUPS * 2 + 1], a[j / GROUPS][i], b[j % (AHEAD + 1)][2], b[j % (AHEAD + 1)][3]);
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

/* One row's share of a gradient, to += factor · d, as far as there are columns left.  Only one thread adds to an
 * element of dK and dV, but so it need not wait for what is there. */
template <int COLUMNS>
__device__ __forceinline__ void mma_add_row(float *to, const float (&d)[COLUMNS][4], int half, float factor, int left)
{
    const bool paired = (uintptr_t)to % 8 == 0;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        float a = factor * d[c][2 * half], b = factor * d[c][2 * half + 1];
        if (paired && 8 * c + 1 < left) {
            add_pair(to + 8 * c, a, b);
        } else {
            if (8 * c < left)
                atomicAdd(to + 8 * c, a);
            if (8 * c + 1 < left)
                atomicAdd(to + 8 * c + 1, b);
        }
    }
}

template <int STRIPS, int COLUMNS>
__device__ __forceinline__ void mma_add_rows(const ringx_view &to, int64_t batch, int64_t head, int token, int count,
                                             int column, int dim, float factor, const float (&d)[STRIPS][COLUMNS][4])
{
    float *row = (float *)to.data + batch * to.batch_stride + head * to.head_stride + column;
#pragma unroll
    for (int r = 0; r < 2 * STRIPS; r++) {
        if (token + 8 * r < count)
            mma_add_row(row + (token + 8 * r) * to.token_stride, d[r / 2], r % 2, factor, dim - column);
    }
}

/* dQ of one block: this warp's 16·DQ_STRIPS queries × DQ_COLUMNS from all keys' dS. */
template <class C>
__device__ __forceinline__ void mma_backward_dq(float (&dq)[C::DQ_STRIPS][C::DQ_COLUMNS / 8][4], ringx_shared rows,
                                                ringx_shared columns)
{
    using T = typename C::T;
    const int warp = threadIdx.x / 32, down = warp % C::DOWN, across = warp / C::DOWN;
    constexpr int GROUPS = C::DQ_COLUMNS / 16, STEPS = C::N / 16;
    uint32_t a[2][C::DQ_STRIPS][4], b[2][GROUPS][4];
    auto load = [&](int k) {
#pragma unroll
        for (int i = 0; i < C::DQ_STRIPS; i++)
            load_transposed(a[k % 2][i], fragment_at<C::MP>(columns, C::DS_AT, 16 * k, 2 * (C::DQ_STRIPS * down + i)));
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
            for (int i = 0; i < C::DQ_STRIPS; i++) {
                multiply_add<T>(dq[i][2 * d], a[k % 2][i], b[k % 2][d][0], b[k % 2][d][1]);
                multiply_add<T>(dq[i][2 * d + 1], a[k % 2][i], b[k % 2][d][2], b[k % 2][d][3]);
            }
        }
    }
}

/* Adds it to memory, in turn where ordered. */
template <class C>
__device__ __forceinline__ void mma_add_dq(const ringx_mma_params &p, const ringx_mma_backward_tile &t,
                                           const ringx_mma_backward_walk &w,
                                           const float (&dq)[C::DQ_STRIPS][C::DQ_COLUMNS / 8][4])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, down = warp % C::DOWN, across = warp / C::DOWN;
    constexpr int COLUMNS = C::DQ_COLUMNS / 8;
    int *turn = nullptr;
    if (p.turn) {
        int tiles_before = w.iq ? p.query[w.iq - 1].tiles : 0;
        turn = p.turn + ((int64_t)t.batch * p.q_heads + w.head) * p.q_tiles + tiles_before + w.m;
        if (threadIdx.x == 0)
            wait_for_turn(turn, backward_turn(p, C::N, w.iq, w.m, C::M, t.slice, t.n));
        __syncthreads();
    }
    const ringx_view &to = p.of[w.iq].dq;
    const int column = across * C::DQ_COLUMNS + lane % 4 * 2, first = w.m * C::M + 16 * C::DQ_STRIPS * down;
    const int count = p.query[w.iq].count, mine = first + lane / 4;
    float *row =
        (float *)to.data + t.batch * to.batch_stride + w.head * to.head_stride + mine * to.token_stride + column;
    /* a warp's share is whole but at the ends of a slice or of head_dim: then nothing is asked element by element */
    const bool whole = p.paired && first + 16 * C::DQ_STRIPS <= count && (across + 1) * C::DQ_COLUMNS <= p.head_dim;
    if (whole) {
#pragma unroll
        for (int r = 0; r < 2 * C::DQ_STRIPS; r++, row += 8 * to.token_stride) {
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
                add_pair(row + 8 * c, p.scale * dq[r / 2][c][r % 2 * 2], p.scale * dq[r / 2][c][r % 2 * 2 + 1]);
        }
    } else {
#pragma unroll
        for (int r = 0; r < 2 * C::DQ_STRIPS; r++, row += 8 * to.token_stride)
            if (mine + 8 * r < count)
                mma_add_row(row, dq[r / 2], r % 2, p.scale, p.head_dim - column);
    }
    if (turn) {
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0)
            pass_turn(turn);
    }
}

/* dV (half 0) or dK (half 1) += fragments of weights or dS by half `from` of the block's dO or Q. */
template <class C>
__device__ __forceinline__ void
mma_backward_sum(float (&sum)[C::STRIPS][C::WIDE / 8][4], const uint32_t (&left)[C::HALF / 16][C::STRIPS][4],
                 ringx_shared rows_k, ringx_shared rows_v, int q_tile, int do_tile, int half, int from)
{
    using T = typename C::T;
    const int q = q_tile + from * C::HALF * (C::KP * 2), dout = do_tile + from * C::HALF * (C::VP * 2);
    if constexpr (C::DK == C::DV) {
        multiply_fragments<T, C::STRIPS, C::DK / 16, C::HALF / 16, C::KP>(sum, left, rows_k, half ? q : dout);
    } else {
        if (half)
            multiply_fragments<T, C::STRIPS, C::DK / 16, C::HALF / 16, C::KP>(sum, left, rows_k, q);
        else
            multiply_fragments<T, C::STRIPS, C::DV / 16, C::HALF / 16, C::VP>(sum, left, rows_v, dout);
    }
}

/* Stores dS for dQ, and fragments of what the other warp of the group needs; left: what this warp itself needs. */
template <class C>
__device__ __forceinline__ void
mma_backward_store(char *base, int ds_first, int p_first, int half, const float (&s)[C::STRIPS][C::HALF / 8][4],
                   const float (&dp)[C::STRIPS][C::HALF / 8][4], uint32_t (&left)[C::HALF / 16][C::STRIPS][4])
{
    using T = typename C::T;
#pragma unroll
    for (int k = 0; k < C::HALF / 16; k++) {
#pragma unroll
        for (int i = 0; i < C::STRIPS; i++) {
            uint32_t weights[4], ds[4];
            as_left<T>(weights, s[i][2 * k], s[i][2 * k + 1]);
            as_left<T>(ds, dp[i][2 * k], dp[i][2 * k + 1]);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                *(uint32_t *)(base + (ds_first ^ (2 * k + e / 2) << 4) + (16 * i + e % 2 * 8) * (C::MP * 2)) = ds[e];
                if (half)
                    *(uint32_t *)(base + p_first + (k * C::STRIPS + i) * 512 + 128 * e) = weights[e];
                left[k][i][e] = half ? ds[e] : weights[e];
            }
        }
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
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32 % C::GROUPS, column = lane % 4 * 2;
    const int half = __shfl_sync(0xffffffffu, (int)threadIdx.x / 32 / C::GROUPS, 0); /* 0 has dV, 1 dK */
    const int strip0 = 16 * C::STRIPS * group;
    const int key = strip0 + lane / 4, query = C::HALF * half + column;
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
    if (any && !half)
        mma_backward_load<C>(p, sources, walk, base, 0);
    copy_commit();
    constexpr int STEPS = C::HALF / 16;
    float sum[C::STRIPS][C::WIDE / 8][4] = {}; /* dV or dK */
    constexpr bool SAME = C::KP == C::VP;
    const ringx_shared rows_k = rows_first<C::KP>(base), rows_v = SAME ? rows_k : rows_first<C::VP>(base);
    const ringx_shared columns_k = columns_first<C::KP>(base),
                       columns_v = SAME ? columns_k : columns_first<C::VP>(base);
    const ringx_shared rows_ds = C::KP == C::MP ? rows_k : rows_first<C::MP>(base);
    const ringx_shared columns_ds = C::KP == C::MP ? columns_k : columns_first<C::MP>(base);
    const ringx_shared strip_k = keep(rows_k + strip0 * (C::KP * 2));
    const ringx_shared strip_v = SAME ? strip_k : keep(rows_v + strip0 * (C::VP * 2));
    const int q_half = half * C::HALF * (C::KP * 2), do_half = half * C::HALF * (C::VP * 2);
    const int ds_first = C::DS_AT + chunk_at<C::MP>(key, half * (C::HALF / 8)) + column * 2;
    const int p_group = C::P_AT + group * (STEPS * C::STRIPS * 512);
    for (int count = 0; any; count++) {
        int stage = count & 1;
        const int q_tile = C::Q_AT + stage * C::Q_BYTES, do_tile = C::DO_AT + stage * C::DO_BYTES;
        const float *stats = (const float *)(base + C::STATS_AT) + stage * 2 * C::M;
        copy_wait<0>();
        __syncthreads(); /* this block is here; all are done with the one before */
        ringx_mma_backward_walk now = walk;
        any = walk.next(p, ranges);
        if (any && !half)
            mma_backward_load<C>(p, sources, walk, base, stage ^ 1);
        copy_commit();
        uint32_t left[STEPS][C::STRIPS][4];
        {
            float s[C::STRIPS][C::HALF / 8][4] = {}, dp[C::STRIPS][C::HALF / 8][4] = {};
            multiply_rows_beside<T, C::STRIPS, STEPS, C::DK / 16, C::KP>(s, strip_k, 0, columns_k, q_tile + q_half,
                                                                         [](int, int) {});
            bool masked = now.m < ranges[now.iq].full_begin || now.m >= ranges[now.iq].full_end;
            /* no branches from here to the barrier: the compiler mixes products with all else */
            if (!C::EXTRA && masked)
                mma_backward_mask<C>(p.query[now.iq], now.m * C::M + query, rows + key, -INFINITY, s);
            if (!C::EXTRA)
                mma_backward_minus_delta<C>(stats + C::M + query, dp);
            float2 lse = mma_backward_lse(stats + query);
            multiply_rows_beside<T, C::STRIPS, STEPS, C::DV / 16, C::VP>(
                dp, strip_v, C::V_AT, columns_v, do_tile + do_half, [&](int j, int of) {
                    if (!C::EXTRA)
                        mma_backward_weights<C>(p.scale * RINGX_LOG2E, stats + query, lse, j, of, s);
                });
            mma_differentiate<C>(p, t, now, stats, rows, masked, key, query, s, dp);
            mma_backward_store<C>(base, ds_first, p_group + lane * 4, half, s, dp, left);
        }
        mma_backward_sum<C>(sum, left, rows_k, rows_v, q_tile, do_tile, half, half);
        __syncthreads(); /* dS and weights are whole */
        float dq[C::DQ_STRIPS][C::DQ_COLUMNS / 8][4] = {};
        mma_backward_dq<C>(dq, rows_k, columns_ds);
#pragma unroll
        for (int k = 0; k < STEPS; k++) {
#pragma unroll
            for (int i = 0; i < C::STRIPS; i++) {
                ringx_shared ds = fragment_at<C::MP>(rows_ds, C::DS_AT, strip0 + 16 * i, 2 * k);
                ringx_shared weights = shared_address(base) + p_group + (k * C::STRIPS + i) * 512 + lane * 16;
                load_matrices(left[k][i], half ? ds : weights);
            }
        }
        mma_add_dq<C>(p, t, now, dq);
        mma_backward_sum<C>(sum, left, rows_k, rows_v, q_tile, do_tile, half, 1 - half);
    }
    copy_wait<0>();
    const int token = t.n * C::N + key;
    if (half)
        mma_add_rows(p.dk[t.slice], t.batch, t.kv, token, keys.count, column, p.head_dim, p.scale, sum);
    else
        mma_add_rows(p.dv[t.slice], t.batch, t.kv, token, keys.count, column, p.value_dim, 1.f, sum);
}

#endif
