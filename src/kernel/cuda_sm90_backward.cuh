/* SPDX-License-Identifier: MIT */
/* Backward on Hopper: one block a tile of 128 keys (64 for wide heads), looping over all query heads of its group and
 * all query blocks.
 *
 * launch   a grid of key tiles × kv heads × batch, first tiles first (under a causal mask they see most) but those of
 *          keys apart from the queries before (cuda_sm90.cu), and see cuda_turns.cuh; 384 threads:
 *          a producer warp (Q, dO by bulk tensor copies), a warp that loads lse and delta, a warp that adds dQ to
 *          memory (and one that waits for its turns), and two consumer warpgroups of 64 keys each.  Above 128 columns
 *          both have the same 64 keys, compute S and dP alike (7 products for 5) and share out the columns of dK, dV
 *          and dQ, which registers then hold.
 *
 * reads    K, V once; Q, dO, lse, delta for each live block; dk, dv unless fresh.
 *
 * writes   dk, dv once from registers (no other block owns these keys), or if final their rounded sums to dk_out,
 *          dv_out; dq += by bulk reductions in L2.
 *
 * tells    by a word, when the last tile of slices that somebody waits for has been stored.
 *
 * numerics scores, sums and all gradients fp32; weights and ds rounded to the input type before products.
 *
 * A consumer computes the transposed scores S = K·Qᵀ, so that weights and ds leave the matrix unit in the layout of a
 * left operand: dV += P·dO and dK += dS·Q read them from registers.  Only dS goes to shared memory, for dQ = dSᵀ·K, of
 * which each warpgroup computes a half: columns if the block has 64 queries, rows if it has 128. */
#ifndef RINGX_KERNEL_CUDA_SM90_BACKWARD_CUH
#define RINGX_KERNEL_CUDA_SM90_BACKWARD_CUH

#include "kernel/cuda_sm90_rows.cuh"
#include "kernel/cuda_turns.cuh"

/* DK, DV: head_dim and value_dim rounded up; M queries a block: 64, or 128 where DK <= 64.  WIDE: above 128 columns. */
template <typename T_, int DK_, int DV_, int M_, bool EXTRA_> struct ringx_backward_config {
    using T = T_;
    static constexpr bool EXTRA = EXTRA_, WIDE = DK_ > 128 || DV_ > 128;
    static constexpr int DK = DK_, DV = DV_, M = M_, N = WIDE ? 64 : 128, STAGES = WIDE ? 1 : 2, THREADS = 384;
    static constexpr int DK_OWN = WIDE ? DK / 2 : DK, DV_OWN = WIDE ? DV / 2 : DV; /* columns of a warpgroup */
    static_assert(M == 64 || (M == 128 && DK <= 64), "dQ's halves");
    static_assert(!WIDE || (DK_OWN % 64 == 0 && DV_OWN % 64 == 0), "halves begin where boxes of 64 columns do");
    static constexpr int K_BOXES = (DK + 63) / 64, V_BOXES = (DV + 63) / 64;
    static constexpr int K_BYTES = N * K_BOXES * 128, V_BYTES = N * V_BOXES * 128;
    static constexpr int Q_BYTES = M * K_BOXES * 128, DO_BYTES = M * V_BOXES * 128;
    static constexpr int DS_BYTES = N * M * 2, DQ_BOXES = (DK + 31) / 32, DQ_BYTES = M * DQ_BOXES * 128;
    static constexpr int V_AT = K_BYTES, Q_AT = V_AT + V_BYTES, DO_AT = Q_AT + STAGES * Q_BYTES;
    static constexpr int DS_AT = DO_AT + STAGES * DO_BYTES, DQ_AT = DS_AT + 2 * DS_BYTES;
    static constexpr int ROWS_AT = DQ_AT + DQ_BYTES, STATS_AT = ROWS_AT + 128 * 16;
    static constexpr int RANGES_AT = STATS_AT + STAGES * 2 * M * 4, BARS_AT = RANGES_AT + 2 * 16 * RINGX_SM90_QUERIES;
    static constexpr int SMEM = BARS_AT + 8 * (7 + 6 * STAGES);
    static constexpr int DQ_COLUMNS = WIDE ? DK_OWN : M == 128 ? DK : 64;   /* of the first warpgroup's half */
    static constexpr int PRODUCER_REGISTERS = 24, CONSUMER_REGISTERS = 240; /* 128·24 + 256·240 = 384·168 */
};

#if RINGX_SM90

struct ringx_backward_tile {
    int slice, n, kv, batch; /* n: tile in its slice */
};

__device__ __forceinline__ void backward_tile(const ringx_sm90_backward_params &p, ringx_backward_tile *t)
{
    int tile, column, before = 0;
    ringx__cuda_place(p.order, (int)blockIdx.x, p.key[p.keys - 1].tiles, p.kv_heads * p.batch, &tile, &column);
    tile = backward_launched(p, tile);
    t->slice = 0;
    while (tile >= p.key[t->slice].tiles)
        before = p.key[t->slice++].tiles;
    t->n = tile - before;
    t->kv = column % p.kv_heads;
    t->batch = column / p.kv_heads;
}

/* The live blocks of one query slice for a key tile. */
template <class C>
__device__ __forceinline__ ringx_cuda_range backward_range(const ringx_sm90_backward_params &p,
                                                           const ringx_backward_tile &t, int iq)
{
    const ringx_cuda_run &keys = p.key[t.slice];
    int rows = min(C::N, keys.count - t.n * C::N);
    int64_t first = keys.first + (int64_t)t.n * C::N * keys.step, last = first + (rows - 1) * keys.step;
    if (!(p.live[iq] >> t.slice & 1))
        return {0, 0, 0, 0};
    ringx_interval a = ringx__cuda_mask_queries(p.mask, first), b = ringx__cuda_mask_queries(p.mask, last);
    ringx_cuda_range r = ringx__cuda_range(p.query[iq], C::M, a.lo, a.hi, b.lo, b.hi);
    if (rows < C::N)
        r.full_begin = r.full_end = r.end; /* the tile reaches past its slice: every block needs its mask */
    if (p.turn) {
        ringx_cuda_range hull = backward_hull(p.mask, p.query[iq], C::M, first, last);
        r.begin = hull.begin;
        r.end = hull.end;
    }
    return r;
}

/* Tiles that begin at the same block would add to the same dQ at the same time, from block to block: where all are as
 * long as each other, each begins so many blocks after the one before, as under a causal mask. */
enum { RINGX_BACKWARD_STAGGER = 2 };

/* Of a query slice's live blocks for a key tile those from where the tile begins, or those before. */
template <class C>
__device__ __forceinline__ ringx_cuda_range backward_part(const ringx_sm90_backward_params &p,
                                                          const ringx_backward_tile &t, int part)
{
    ringx_cuda_range r = backward_range<C>(p, t, part / 2);
    int begin = r.begin, blocks = r.end - begin;
    if (blocks > 0 && p.even >> t.slice & 1)
        begin += t.n * RINGX_BACKWARD_STAGGER % blocks;
    (part % 2 ? r.end : r.begin) = begin;
    return r;
}

/* The query blocks of a key tile, in the order in which all roles walk them: heads, slices, of each slice's blocks
 * those from where the tile begins, then those before. */
struct ringx_backward_walk {
    const ringx_cuda_range *parts; /* in shared memory, two a query slice */
    int head, head_end, part, m, end;

    __device__ __forceinline__ void start(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                          const ringx_cuda_range *parts_)
    {
        int of_group = (t.kv + p.kv_head) * p.group - p.q_head; /* first local query head of this kv head */
        parts = parts_;
        head = max(of_group, 0);
        head_end = min(of_group + p.group, p.q_heads);
        part = -1;
        m = end = 0;
    }
    __device__ __forceinline__ bool next(const ringx_sm90_backward_params &p)
    {
        if (++m < end)
            return true;
        for (; head < head_end; head++, part = -1) {
            while (++part < 2 * p.queries) {
                m = parts[part].begin;
                end = parts[part].end;
                if (m < end)
                    return true;
            }
        }
        return false;
    }
    __device__ __forceinline__ int iq() const
    {
        return part >> 1;
    }
    __device__ __forceinline__ bool masked() const
    {
        return m < parts[part].full_begin || m >= parts[part].full_end;
    }
};

template <class C> struct ringx_backward_bars {
    uint32_t kv_full, dq_full, dq_empty, turn_come, turn_taken, q_full, q_empty, do_full, do_empty, stats_full,
        stats_empty;

    __device__ __forceinline__ explicit ringx_backward_bars(uint32_t smem)
    {
        kv_full = smem + C::BARS_AT;
        dq_full = kv_full + 8;
        dq_empty = kv_full + 16;
        turn_come = kv_full + 24; /* two each */
        turn_taken = kv_full + 40;
        q_full = kv_full + 56;
        q_empty = q_full + 8 * C::STAGES;
        do_full = q_empty + 8 * C::STAGES;
        do_empty = do_full + 8 * C::STAGES;
        stats_full = do_empty + 8 * C::STAGES;
        stats_empty = stats_full + 8 * C::STAGES;
    }
};

template <class C>
__device__ __forceinline__ void backward_produce(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                                 const ringx_cuda_range *parts, uint32_t smem)
{
    ringx_backward_bars<C> bars(smem);
    ringx_backward_walk walk;
    walk.start(p, t, parts);
    mbar_expect(bars.kv_full, C::K_BYTES + C::V_BYTES);
    for (int c = 0; c < C::K_BOXES; c++)
        tma_load(smem + c * C::N * 128, &p.k[t.slice], bars.kv_full, c * 64, t.n * C::N, t.kv, t.batch,
                 RINGX_EVICT_FIRST);
    for (int c = 0; c < C::V_BOXES; c++)
        tma_load(smem + C::V_AT + c * C::N * 128, &p.v[t.slice], bars.kv_full, c * 64, t.n * C::N, t.kv, t.batch,
                 RINGX_EVICT_FIRST);
    for (uint32_t count = 0; walk.next(p); count++) {
        uint32_t stage = count % C::STAGES, parity = (count / C::STAGES & 1) ^ 1;
        mbar_wait(bars.q_empty + 8 * stage, parity);
        mbar_expect(bars.q_full + 8 * stage, C::Q_BYTES);
        for (int c = 0; c < C::K_BOXES; c++)
            tma_load(smem + C::Q_AT + stage * C::Q_BYTES + c * C::M * 128, &p.q[walk.iq()], bars.q_full + 8 * stage,
                     c * 64, walk.m * C::M, walk.head, t.batch, RINGX_EVICT_LAST);
        mbar_wait(bars.do_empty + 8 * stage, parity);
        mbar_expect(bars.do_full + 8 * stage, C::DO_BYTES);
        for (int c = 0; c < C::V_BOXES; c++)
            tma_load(smem + C::DO_AT + stage * C::DO_BYTES + c * C::M * 128, &p.dout[walk.iq()],
                     bars.do_full + 8 * stage, c * 64, walk.m * C::M, walk.head, t.batch, RINGX_EVICT_LAST);
    }
}

/* lse·log2e and delta of each block; rows past the slice get +inf, which makes their weights 0.  Ordinary loads and
 * stores: every thread that writes or reads says so itself. */
template <class C>
__device__ __forceinline__ void backward_load_stats(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                                    const ringx_cuda_range *parts, uint32_t smem, char *base)
{
    ringx_backward_bars<C> bars(smem);
    ringx_backward_walk walk;
    walk.start(p, t, parts);
    int lane = threadIdx.x % 32;
    for (uint32_t count = 0; walk.next(p); count++) {
        uint32_t stage = count % C::STAGES;
        float *to = (float *)(base + C::STATS_AT) + stage * 2 * C::M;
        const ringx_rows &lse = p.lse[walk.iq()], &delta = p.delta[walk.iq()];
        const float *a = lse.data + t.batch * lse.batch_stride + walk.head * lse.head_stride;
        const float *b = delta.data + t.batch * delta.batch_stride + walk.head * delta.head_stride;
        float l[C::M / 32], d[C::M / 32];
#pragma unroll
        for (int i = 0; i < C::M / 32; i++) {
            int row = walk.m * C::M + i * 32 + lane;
            bool inside = row < p.query[walk.iq()].count;
            l[i] = inside ? a[row] * RINGX_LOG2E : INFINITY;
            d[i] = inside ? b[row] : 0;
        }
        mbar_wait(bars.stats_empty + 8 * stage, (count / C::STAGES & 1) ^ 1);
#pragma unroll
        for (int i = 0; i < C::M / 32; i++) {
            to[i * 32 + lane] = l[i];
            to[C::M + i * 32 + lane] = d[i];
        }
        mbar_arrive(bars.stats_full + 8 * stage);
    }
}

__device__ __forceinline__ int *backward_turn_of(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                                 const ringx_backward_walk &walk)
{
    int tiles_before = walk.iq() ? p.query[walk.iq() - 1].tiles : 0;
    return p.turn + ((int64_t)t.batch * p.q_heads + walk.head) * p.q_tiles + tiles_before + walk.m;
}

/* Ordered sums: waits for each block's turn, up to two blocks ahead of the one that adds. */
template <class C>
__device__ __forceinline__ void backward_wait_turns(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                                    const ringx_cuda_range *parts, uint32_t smem)
{
    ringx_backward_bars<C> bars(smem);
    ringx_backward_walk walk;
    walk.start(p, t, parts);
    for (uint32_t count = 0; walk.next(p); count++) {
        wait_for_turn(backward_turn_of(p, t, walk), backward_turn(p, C::N, walk.iq(), walk.m, C::M, t.slice, t.n));
        mbar_wait(bars.turn_taken + 8 * (count & 1), (count >> 1 & 1) ^ 1);
        mbar_arrive(bars.turn_come + 8 * (count & 1));
    }
}

/* Adds each block's dQ to memory as soon as both warpgroups have put it in shared memory.  In ordered sums a turn is
 * passed on when the next block's addition has been issued: by then the one before has arrived. */
template <class C>
__device__ __forceinline__ void backward_add_dq(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                                const ringx_cuda_range *parts, uint32_t smem)
{
    ringx_backward_bars<C> bars(smem);
    ringx_backward_walk walk;
    walk.start(p, t, parts);
    int *before = nullptr;
    for (uint32_t count = 0; walk.next(p); count++) {
        mbar_wait(bars.dq_full, count & 1);
        if (p.turn) {
            mbar_wait(bars.turn_come + 8 * (count & 1), count >> 1 & 1);
            mbar_arrive(bars.turn_taken + 8 * (count & 1));
            fence_proxy_global();
        }
        for (int c = 0; c < C::DQ_BOXES; c++)
            tma_reduce_add(&p.dq[walk.iq()], smem + C::DQ_AT + c * C::M * 128, c * 32, walk.m * C::M, walk.head,
                           t.batch);
        bulk_commit();
        bulk_wait_read<0>();
        mbar_arrive(bars.dq_empty);
        if (before) {
            bulk_wait<1>();
            fence_proxy_global();
            pass_turn(before);
        }
        before = p.turn ? backward_turn_of(p, t, walk) : nullptr;
    }
    bulk_wait<0>();
    if (before) {
        fence_proxy_global();
        pass_turn(before);
    }
}

/* Thread (g = lane/4, t = lane%4) of warp w holds keys 16w+g and 16w+g+8 of its warpgroup's 64, and of each 8 queries
 * 2t and 2t+1. */
template <class C> struct ringx_backward_block {
    float s[C::M / 2], dp[C::M / 2];
    uint32_t weights[C::M / 4], ds[C::M / 4];
};

/* From scores in s and dP in dp to weights in s; dp becomes dS, without the scale. */
template <class C>
__device__ __forceinline__ void backward_weigh(const ringx_sm90_backward_params &p, const ringx_backward_walk &walk,
                                               const float *lse, int column, const ringx_interval *rows,
                                               ringx_backward_block<C> &x, float (&slope)[C::EXTRA ? C::M / 2 : 1])
{
    const float scale2 = p.scale * RINGX_LOG2E;
    int lo[2] = {0, 0}, hi[2] = {0, 0};
    bool masked = walk.masked();
    if (masked) {
        const ringx_cuda_run &run = p.query[walk.iq()];
        int from = walk.m * C::M + column;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            ringx_interval see = rows[8 * r];
            lo[r] = ringx__cuda_local(run.first, run.step, run.count, see.lo) - from;
            hi[r] = see.lo < see.hi ? ringx__cuda_local(run.first, run.step, run.count, see.hi) - from : lo[r];
        }
    }
#pragma unroll
    for (int c = 0; c < C::M / 8; c++) {
        float2 l = *(const float2 *)(lse + 8 * c + column);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float &s = x.s[4 * c + e], l2 = e % 2 ? l.y : l.x;
            if (C::EXTRA) {
                float score = s * p.scale;
                slope[C::EXTRA ? 4 * c + e : 0] = 1;
                if (p.softcap > 0) {
                    float bent = tanhf(score / p.softcap);
                    score = p.softcap * bent;
                    slope[C::EXTRA ? 4 * c + e : 0] = 1 - bent * bent;
                }
                s = exp2_fast(score * RINGX_LOG2E - l2);
            } else {
                s = exp2_fast(fmaf(s, scale2, -l2));
            }
        }
    }
    if (masked) {
#pragma unroll
        for (int i = 0; i < C::M / 2; i++) {
            const int at = i / 4 * 8 + i % 2, r = i / 2 % 2;
            x.s[i] = at >= lo[r] && at < hi[r] ? x.s[i] : 0;
        }
    }
}

template <class C>
__device__ __forceinline__ void
backward_differentiate(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                       const ringx_backward_walk &walk, const float *delta, int mine, int column,
                       ringx_backward_block<C> &x, const float (&slope)[C::EXTRA ? C::M / 2 : 1])
{
    uint64_t kept = ~UINT64_C(0); /* first which, in a rolled loop: the generator needs registers of its own */
    if (C::EXTRA && p.drop.threshold) {
        const ringx_cuda_run &keys = p.key[t.slice], &queries = p.query[walk.iq()];
        kept = 0;
#pragma unroll 1
        for (int i = 0; i < C::M / 2; i++) {
            int64_t key = keys.first + (t.n * C::N + mine + i % 4 / 2 * 8) * keys.step;
            int64_t query = queries.first + (walk.m * C::M + i / 4 * 8 + column + i % 2) * queries.step;
            kept |= (uint64_t)(ringx__cuda_keep(p.drop, t.batch, p.q_head + walk.head, query, key) != 0) << i;
        }
    }
#pragma unroll
    for (int c = 0; c < C::M / 8; c++) {
        float2 d = *(const float2 *)(delta + 8 * c + column);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float &s = x.s[4 * c + e], &dp = x.dp[4 * c + e], mean = e % 2 ? d.y : d.x;
            if (C::EXTRA) {
                float keep = kept >> (4 * c + e) & 1 ? p.drop.grow : 0;
                dp = s == 0 ? 0 : s * (dp * keep - mean) * slope[C::EXTRA ? 4 * c + e : 0];
                s *= keep;
            } else {
                dp = s * (dp - mean);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < C::M / 4; i++) {
        x.weights[i] = pack<typename C::T>(x.s[2 * i], x.s[2 * i + 1]);
        x.ds[i] = pack<typename C::T>(x.dp[2 * i], x.dp[2 * i + 1]);
    }
}

/* This warpgroup's columns, from `first` on, of a tile's dK or dV.  They are loaded together: each on its own, before
 * the store of the one before, would take as many times as long. */
template <typename T, int WIDTH>
__device__ __forceinline__ void backward_store(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                               const ringx_view &sum, const ringx_view &result, int token, int first,
                                               int dim, float factor, const float (&d)[WIDTH / 2])
{
    const int count = p.key[t.slice].count, column = threadIdx.x % 4 * 2;
    const bool fresh = p.fresh >> t.slice & 1, final = p.final >> t.slice & 1;
#pragma unroll
    for (int r = 0; r < 2; r++, token += 8) {
        const bool inside = token < count;
        float row[WIDTH / 4];
        float *at =
            (float *)sum.data + t.batch * sum.batch_stride + token * sum.token_stride + t.kv * sum.head_stride + first;
        load_floats<WIDTH>(at, inside && !fresh, p.paired, column, dim - first, row);
#pragma unroll
        for (int k = 0; k < WIDTH / 4; k++)
            row[k] += factor * d[k / 2 * 4 + 2 * r + k % 2];
        if (final) {
            T *to = (T *)result.data + t.batch * result.batch_stride + token * result.token_stride +
                    t.kv * result.head_stride + first;
            store_halves<T, WIDTH>(to, inside, p.wide, column, dim - first, row);
        } else {
            store_floats<WIDTH>(at, inside, p.paired, column, dim - first, row);
        }
    }
}

/* dK += dS·Q, of this warpgroup's columns; committed. */
template <class C>
__device__ __forceinline__ void backward_multiply_dk(float (&dk)[C::DK_OWN / 2], const uint32_t *ds, uint32_t q_at,
                                                     int consumer)
{
    uint64_t b = descriptor(q_at + (C::WIDE ? consumer * (C::DK_OWN * C::M * 2) : 0), C::M * 128);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < C::M / 16; k++)
        ringx_wgmma<typename C::T, C::DK_OWN>::template rs<1>(dk, ds + 4 * k, b + (uint64_t)(k * 2048 >> 4), 1);
    wgmma_commit();
}

/* All consumers have stored their part of a tile that counts. */
__device__ __forceinline__ void backward_tell(const ringx_sm90_backward_params &p)
{
    __threadfence();
    bar_sync(1, 256);
    if (threadIdx.x != 128)
        return;
    __threadfence();
    if (atomicAdd(p.told_count, 1) + 1 == p.told_tiles)
        set_word(p.finished);
}

template <class C>
__device__ __forceinline__ void backward_consume(const ringx_sm90_backward_params &p, const ringx_backward_tile &t,
                                                 const ringx_cuda_range *parts, uint32_t smem, char *base, int consumer)
{
    using T = typename C::T;
    const int thread = threadIdx.x % 128, lane = thread % 32, warp = thread / 32, column = lane % 4 * 2;
    const int first_key = C::WIDE ? 0 : 64 * consumer, mine = first_key + warp * 16 + lane / 4;
    ringx_backward_bars<C> bars(smem);
    ringx_interval *rows = (ringx_interval *)(base + C::ROWS_AT) + 64 * consumer; /* of its own 64 keys */
    float dk[C::DK_OWN / 2], dv[C::DV_OWN / 2];
    ringx_backward_walk walk;
    walk.start(p, t, parts);
    if (thread < 64) {
        const ringx_cuda_run &keys = p.key[t.slice];
        int j = t.n * C::N + first_key + thread;
        rows[thread] =
            j < keys.count ? ringx__cuda_mask_queries(p.mask, keys.first + j * keys.step) : ringx_interval{0, 0};
    }
    bar_sync(2 + consumer, 128);
#pragma unroll
    for (int i = 0; i < C::DK_OWN / 2; i++)
        dk[i] = 0;
#pragma unroll
    for (int i = 0; i < C::DV_OWN / 2; i++)
        dv[i] = 0;
    /* stmatrix: this lane's row of dS, and which 8 queries of each 16 */
    const int ds_key = first_key + warp * 16 + (lane / 8 & 1) * 8 + lane % 8, ds_half = lane / 16;
    mbar_wait(bars.kv_full, 0);
    for (uint32_t count = 0; walk.next(p); count++) {
        const uint32_t stage = count % C::STAGES, parity = count / C::STAGES & 1;
        const uint32_t q_at = smem + C::Q_AT + stage * C::Q_BYTES, do_at = smem + C::DO_AT + stage * C::DO_BYTES;
        const uint32_t ds_at = smem + C::DS_AT + (count & 1) * C::DS_BYTES;
        const float *stats = (const float *)(base + C::STATS_AT) + stage * 2 * C::M;
        float slope[C::EXTRA ? C::M / 2 : 1];
        ringx_backward_block<C> x; /* not kept from block to block: registers are short */

        mbar_wait(bars.q_full + 8 * stage, parity);
        hold(x.s);
        hold(x.dp);
        wgmma_fence();
        uint64_t a = descriptor(smem + first_key * 128, 16), b = descriptor(q_at, 16);
#pragma unroll
        for (int k = 0; k < C::DK / 16; k++)
            ringx_wgmma<T, C::M>::template ss<0, 0>(x.s, a + (uint64_t)((k / 4 * C::N * 128 + k % 4 * 32) >> 4),
                                                    b + (uint64_t)((k / 4 * C::M * 128 + k % 4 * 32) >> 4), k > 0);
        wgmma_commit();
        mbar_wait(bars.do_full + 8 * stage, parity);
        a = descriptor(smem + C::V_AT + first_key * 128, 16);
        b = descriptor(do_at, 16);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < C::DV / 16; k++)
            ringx_wgmma<T, C::M>::template ss<0, 0>(x.dp, a + (uint64_t)((k / 4 * C::N * 128 + k % 4 * 32) >> 4),
                                                    b + (uint64_t)((k / 4 * C::M * 128 + k % 4 * 32) >> 4), k > 0);
        wgmma_commit();
        wgmma_wait<1>();
        hold(x.s);
        mbar_wait(bars.stats_full + 8 * stage, parity);
        backward_weigh<C>(p, walk, stats, column, rows + warp * 16 + lane / 4, x, slope);
        wgmma_wait<0>();
        hold(x.dp);
        backward_differentiate<C>(p, t, walk, stats + C::M, mine, column, x, slope);
        mbar_arrive(bars.stats_empty + 8 * stage);

        hold(dv);
        hold(x.weights);
        wgmma_fence();
        b = descriptor(do_at + (C::WIDE ? consumer * (C::DV_OWN * C::M * 2) : 0), C::M * 128);
#pragma unroll
        for (int k = 0; k < C::M / 16; k++)
            ringx_wgmma<T, C::DV_OWN>::template rs<1>(dv, x.weights + 4 * k, b + (uint64_t)(k * 2048 >> 4), 1);
        wgmma_commit();
#pragma unroll
        for (int k = 0; k < C::M / 16; k++) {
            int chunk = 2 * k + ds_half;
            if (!C::WIDE || k / (C::M / 32) == consumer) /* both have the same dS: each stores half */
                store_matrices(ds_at + chunk / 8 * (C::N * 128) + ds_key * 128 + ((chunk % 8 ^ (ds_key & 7)) << 4),
                               x.ds + 4 * k);
        }
        fence_proxy();
        bar_sync(1, 256); /* dS is whole; and both are done with the other buffer, whose dQ they have waited for */

        float dq[C::DQ_COLUMNS / 2];
        hold(dk);
        hold(x.ds);
        if (C::WIDE) { /* one stage: Q is given back before dQ, beside which the next one arrives */
            backward_multiply_dk<C>(dk, x.ds, q_at, consumer);
            wgmma_wait<1>();
            hold(dv);
            hold(x.weights);
            if (lane == 0)
                mbar_arrive(bars.do_empty + 8 * stage);
            wgmma_wait<0>();
            hold(dk);
            hold(x.ds);
            if (lane == 0)
                mbar_arrive(bars.q_empty + 8 * stage);
        }
        hold(dq);
        wgmma_fence();
        a = descriptor(ds_at + (C::M == 128 ? consumer * (C::N * 128) : 0), 16);
        b = descriptor(smem + (C::M == 128 ? 0 : consumer * (C::DQ_COLUMNS * C::N * 2)), C::N * 128);
#pragma unroll
        for (int k = 0; k < C::N / 16; k++)
            ringx_wgmma<T, C::DQ_COLUMNS>::template ss<1, 1>(dq, a + (uint64_t)(k * 2048 >> 4),
                                                             b + (uint64_t)(k * 2048 >> 4), k > 0);
        wgmma_commit();
        if (!C::WIDE) {
            backward_multiply_dk<C>(dk, x.ds, q_at, consumer);
            wgmma_wait<2>();
            hold(dv);
            hold(x.weights);
            if (lane == 0)
                mbar_arrive(bars.do_empty + 8 * stage);
            wgmma_wait<1>();
        } else {
            wgmma_wait<0>();
        }
        hold(dq);
        mbar_wait(bars.dq_empty, (count & 1) ^ 1);
#pragma unroll
        for (int i = 0; i < C::DQ_COLUMNS / 4; i++) {
            int row = warp * 16 + lane / 4 + i % 2 * 8 + (C::M == 128 ? 64 * consumer : 0);
            int d = i / 2 * 8 + column + (C::M == 128 ? 0 : C::DQ_COLUMNS * consumer);
            float2 *to = (float2 *)(base + C::DQ_AT + d / 32 * (C::M * 128) + row * 128 +
                                    (((d % 32 / 4) ^ (row & 7)) << 4) + d % 4 * 4);
            if (C::DK % 64 == 0 || d < C::DQ_BOXES * 32)
                *to = make_float2(dq[2 * i] * p.scale, dq[2 * i + 1] * p.scale);
        }
        fence_proxy();
        __syncwarp();
        if (lane == 0)
            mbar_arrive(bars.dq_full);
        if (!C::WIDE) {
            wgmma_wait<0>();
            hold(dk);
            hold(x.ds);
            if (lane == 0)
                mbar_arrive(bars.q_empty + 8 * stage);
        }
    }
    const int token = t.n * C::N + mine;
    backward_store<T, C::DK_OWN>(p, t, p.dk[t.slice], p.dk_out[t.slice], token, C::WIDE ? consumer * C::DK_OWN : 0,
                                 p.head_dim, p.scale, dk);
    backward_store<T, C::DV_OWN>(p, t, p.dv[t.slice], p.dv_out[t.slice], token, C::WIDE ? consumer * C::DV_OWN : 0,
                                 p.value_dim, 1.f, dv);
    if (p.told >> t.slice & 1)
        backward_tell(p);
}

#endif

template <class C>
__global__ void __launch_bounds__(C::THREADS, 1)
    ringx_sm90_backward(const __grid_constant__ ringx_sm90_backward_params p)
{
#if RINGX_SM90
    extern __shared__ __align__(1024) char base[];
    uint32_t smem = smem_address(base);
    ringx_backward_bars<C> bars(smem);
    if (threadIdx.x == 0) {
        mbar_init(bars.kv_full, 1);
        mbar_init(bars.dq_full, 8);
        mbar_init(bars.dq_empty, 1);
        for (int i = 0; i < 2; i++) {
            mbar_init(bars.turn_come + 8 * i, 1);
            mbar_init(bars.turn_taken + 8 * i, 1);
        }
        for (int i = 0; i < C::STAGES; i++) {
            mbar_init(bars.q_full + 8 * i, 1);
            mbar_init(bars.q_empty + 8 * i, 8);
            mbar_init(bars.do_full + 8 * i, 1);
            mbar_init(bars.do_empty + 8 * i, 8);
            mbar_init(bars.stats_full + 8 * i, 32);
            mbar_init(bars.stats_empty + 8 * i, 256);
        }
        fence_mbar_init();
    }
    ringx_backward_tile t;
    backward_tile(p, &t);
    ringx_cuda_range *parts = (ringx_cuda_range *)(base + C::RANGES_AT);
    if ((int)threadIdx.x < 2 * p.queries)
        parts[threadIdx.x] = backward_part<C>(p, t, (int)threadIdx.x);
    __syncthreads();
    if (threadIdx.x < 128) {
        registers_down<C::PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            backward_produce<C>(p, t, parts, smem);
        else if (threadIdx.x / 32 == 1)
            backward_load_stats<C>(p, t, parts, smem, base);
        else if (threadIdx.x == 64)
            backward_add_dq<C>(p, t, parts, smem);
        else if (threadIdx.x == 96 && p.turn)
            backward_wait_turns<C>(p, t, parts, smem);
    } else {
        registers_up<C::CONSUMER_REGISTERS>();
        backward_consume<C>(p, t, parts, smem, base, (int)threadIdx.x / 128 - 1);
    }
#endif
}

#endif
