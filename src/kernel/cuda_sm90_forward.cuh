/* SPDX-License-Identifier: MIT */
/* Forward on Hopper: wgmma, bulk tensor copies, one producer warp and two or three consumer warpgroups of 64 queries.
 *
 * launch   persistent: as many blocks as multiprocessors, 128·(1 + consumers) threads, tiles from a counter, longest
 *          first, heads grouped so that a group's K, V stay in L2.
 * reads    Q, K, V through tensor maps; a seeded state (acc, m, l) where not fresh.
 * writes   out and lse, or the state.
 * numerics scores and sums fp32, weights rounded to the input type before they meet V, exp2 by the special unit.
 *
 * A consumer issues S = Q·Kᵀ of block n+1 and O += P·V of block n together, and does the softmax of n+1 while P·V runs;
 * named barriers let the warpgroups take turns at issuing, so that one's softmax hides behind the other's products. */
#ifndef RINGX_KERNEL_CUDA_SM90_FORWARD_CUH
#define RINGX_KERNEL_CUDA_SM90_FORWARD_CUH

#include "kernel/cuda_sm90_rows.cuh"

/* DK, DV: head_dim and value_dim rounded up; N keys a block; EXTRA: softcap, dropout or a negative scale. */
template <typename T_, int DK_, int DV_, int CONSUMERS_, int N_, bool EXTRA_> struct ringx_forward_config {
    using T = T_;
    static constexpr int DK = DK_, DV = DV_, CONSUMERS = CONSUMERS_, N = N_;
    static constexpr bool EXTRA = EXTRA_;
    static constexpr int M = 64 * CONSUMERS, THREADS = 128 * (CONSUMERS + 1), STAGES = 2;
    static constexpr int K_BOXES = (DK + 63) / 64, V_BOXES = (DV + 63) / 64;
    static constexpr int Q_BYTES = M * K_BOXES * 128, K_BYTES = N * K_BOXES * 128, V_BYTES = N * V_BOXES * 128;
    static constexpr int K_AT = Q_BYTES, V_AT = K_AT + STAGES * K_BYTES, ROWS_AT = V_AT + STAGES * V_BYTES;
    static constexpr int EDGE_AT = ROWS_AT + M * 16, BARS_AT = EDGE_AT + 2 * 64;
    static constexpr int SMEM = BARS_AT + 8 * (2 + 4 * STAGES);
    /* Together what the launch gave: 128·24 + 256·240 = 384·168, 128·32 + 384·160 = 512·128.  More would wait for ever.
     */
    /* A block keeps the registers it was launched with: what consumers take, the producer must have given. */
    static constexpr int PRODUCER_REGISTERS = CONSUMERS == 2 ? 24 : 32, CONSUMER_REGISTERS = CONSUMERS == 2 ? 240 : 160;
    static_assert(PRODUCER_REGISTERS + CONSUMERS * CONSUMER_REGISTERS <= 65536 / THREADS / 8 * 8 * (CONSUMERS + 1), "");
};

#if RINGX_SM90

struct ringx_forward_tile {
    int iq, m0, head, batch;
};

__device__ __forceinline__ bool forward_tile(const ringx_sm90_forward_params &p, int tile_rows, int work,
                                             ringx_forward_tile *t)
{
    int tiles = p.query[p.queries - 1].tiles, all = p.heads * p.batch, tile, column, before = 0;
    if (work >= tiles * all)
        return false;
    ringx__cuda_place(p.order, work, tiles, all, &tile, &column);
    tile = tiles - 1 - tile;
    t->iq = 0;
    while (tile >= p.query[t->iq].tiles)
        before = p.query[t->iq++].tiles;
    t->m0 = (tile - before) * tile_rows;
    t->head = column / (p.unit * p.batch) * p.unit + column % p.unit; /* all batches of some heads, then more heads */
    t->batch = column / p.unit % p.batch;
    return true;
}

/* What the producer tells the consumers of a tile: the intervals of its first and last row, and which tile it is. */
struct ringx_forward_edge {
    int64_t lo0, hi0, lo1, hi1;
    int work; /* -1: no more tiles */
    int kv;   /* its head's keys */
};

/* The blocks of a tile in the order both sides walk them: slices ascending, blocks of a slice descending. */
struct ringx_forward_walk {
    int iq, slice, n, begin, full_begin, full_end;

    __device__ __forceinline__ void start(int iq_)
    {
        iq = iq_;
        slice = -1;
        n = begin = 0;
    }
    __device__ __forceinline__ bool next(const ringx_sm90_forward_params &p, const volatile ringx_forward_edge *edge,
                                         int block)
    {
        if (--n >= begin)
            return true;
        while (++slice < p.keys) {
            if (!(p.live[iq] >> slice & 1) || edge->kv < p.key_head[slice] || edge->kv >= p.key_end[slice])
                continue;
            ringx_cuda_range r = ringx__cuda_range(p.key[slice], block, edge->lo0, edge->hi0, edge->lo1, edge->hi1);
            n = r.end - 1;
            begin = r.begin;
            full_begin = r.full_begin;
            full_end = r.full_end;
            if (n >= begin)
                return true;
        }
        return false;
    }
    __device__ __forceinline__ bool masked() const
    {
        return n < full_begin || n >= full_end;
    }
};

template <class C>
__device__ __forceinline__ void forward_produce(const ringx_sm90_forward_params &p, uint32_t smem, char *base)
{
    uint32_t bars = smem + C::BARS_AT, q_full = bars, q_empty = bars + 8, k_full = bars + 16;
    uint32_t k_empty = k_full + 8 * C::STAGES, v_full = k_empty + 8 * C::STAGES, v_empty = v_full + 8 * C::STAGES;
    uint32_t k_count = 0, v_count = 0;
    int work = (int)blockIdx.x;
    for (uint32_t turn = 0;; turn++) {
        ringx_forward_tile t;
        bool any = forward_tile(p, C::M, work, &t);
        /* consumers left this slot two tiles ago: the last round waited for that */
        volatile ringx_forward_edge *edge = (ringx_forward_edge *)(base + C::EDGE_AT + (turn & 1) * 64);
        if (!any) {
            mbar_wait(q_empty, (turn & 1) ^ 1);
            edge->work = -1;
            mbar_arrive(q_full);
            return;
        }
        int after = (int)gridDim.x + atomicAdd(p.next_tile, 1); /* its latency hides behind this tile */
        const ringx_cuda_run &rows = p.query[t.iq];
        ringx_forward_walk walk;
        ringx_interval see = ringx__cuda_mask_keys(p.mask, rows.first + t.m0 * rows.step);
        edge->lo0 = see.lo;
        edge->hi0 = see.hi;
        edge->work = work;
        const int kv = (p.q_head + t.head) / p.group - p.kv_head;
        edge->kv = kv;
        see = ringx__cuda_mask_keys(p.mask, rows.first + (min(t.m0 + C::M, rows.count) - 1) * rows.step);
        edge->lo1 = see.lo;
        edge->hi1 = see.hi;
        walk.start(t.iq);
        int v_slice = 0, v_n = 0, there = -1;
        auto load_k = [&]() {
            uint32_t stage = k_count % C::STAGES, bar = k_full + 8 * stage;
            if (walk.slice != there) {
                there = walk.slice;
                if (p.arrived[there])
                    await_arrival(p.arrived[there], p.waited);
            }
            mbar_wait(k_empty + 8 * stage, (k_count / C::STAGES & 1) ^ 1);
            mbar_expect(bar, C::K_BYTES);
#pragma unroll
            for (int c = 0; c < C::K_BOXES; c++)
                tma_load(smem + C::K_AT + stage * C::K_BYTES + c * C::N * 128, &p.k[walk.slice], bar, c * 64,
                         walk.n * C::N, kv, t.batch, RINGX_EVICT_LAST);
            k_count++;
        };
        auto load_v = [&]() {
            uint32_t stage = v_count % C::STAGES, bar = v_full + 8 * stage;
            mbar_wait(v_empty + 8 * stage, (v_count / C::STAGES & 1) ^ 1);
            mbar_expect(bar, C::V_BYTES);
#pragma unroll
            for (int c = 0; c < C::V_BOXES; c++)
                tma_load(smem + C::V_AT + stage * C::V_BYTES + c * C::N * 128, &p.v[v_slice], bar, c * 64, v_n * C::N,
                         kv, t.batch, RINGX_EVICT_LAST);
            v_count++;
        };
        bool more = walk.next(p, edge, C::N);
        if (more)
            load_k();
        mbar_wait(q_empty, (turn & 1) ^ 1);
        mbar_expect(q_full, C::Q_BYTES);
#pragma unroll
        for (int c = 0; c < C::K_BOXES; c++)
            tma_load(smem + c * C::M * 128, &p.q[t.iq], q_full, c * 64, t.m0, t.head, t.batch, RINGX_EVICT_FIRST);
        while (more) {
            v_slice = walk.slice;
            v_n = walk.n;
            more = walk.next(p, edge, C::N);
            if (more)
                load_k();
            load_v();
        }
        work = after;
    }
}

/* One consumer warpgroup's registers: thread (g = lane/4, t = lane%4) of warp w holds rows 16w+g and 16w+g+8, and of
 * each 8 columns 2t and 2t+1. */
template <class C> struct ringx_forward_state {
    float s[C::N / 2], o[C::DV / 2];
    uint32_t weights[C::N / 4];
    float m[2], l[2], shrink[2];

    /* s becomes weights relative to the new maximum; shrink is what older sums are worth. */
    __device__ __forceinline__ void softmax(float scale2)
    {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = s[2 * r];
#pragma unroll
            for (int i = 0; i < C::N / 8; i++)
                top = fmaxf(top, fmaxf(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
            float before = m[r], now = fmaxf(before, top * scale2);
            float subtract = now == -INFINITY ? 0 : now;
            m[r] = now;
            shrink[r] = exp2_fast(before - subtract);
            float sum = 0;
#pragma unroll
            for (int i = 0; i < C::N / 8; i++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &x = s[4 * i + 2 * r + e];
                    x = exp2_fast(fmaf(x, scale2, -subtract));
                    sum += x;
                }
            }
            l[r] = l[r] * shrink[r] + sum;
        }
    }
    __device__ __forceinline__ void shrink_sums()
    {
#pragma unroll
        for (int i = 0; i < C::DV / 8; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++)
                o[4 * i + e] *= shrink[e / 2];
        }
    }
    __device__ __forceinline__ void round_weights()
    {
#pragma unroll
        for (int i = 0; i < C::N / 4; i++)
            weights[i] = pack<typename C::T>(s[2 * i], s[2 * i + 1]);
    }
};

/* Columns outside [lo, hi), counted from this thread's first, are selected away. */
template <class C>
__device__ __forceinline__ void forward_mask(ringx_forward_state<C> &x, const int (&lo)[2], const int (&hi)[2])
{
#pragma unroll
    for (int i = 0; i < C::N / 2; i++) {
        const int column = i / 4 * 8 + i % 2, r = i / 2 % 2;
        x.s[i] = column >= lo[r] && column < hi[r] ? x.s[i] : -INFINITY;
    }
}

template <class C>
__device__ __forceinline__ void forward_load_state(const ringx_sm90_forward_params &p, const ringx_forward_tile &t,
                                                   int row, int column, ringx_forward_state<C> &x)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int i = row + 8 * r;
        bool inside = !p.fresh && i < p.query[t.iq].count;
        x.m[r] = -INFINITY;
        x.l[r] = 0;
        const float *from = nullptr;
        if (inside) {
            const ringx_rows &m = p.m[t.iq], &l = p.l[t.iq];
            const ringx_view &a = p.acc[t.iq];
            x.m[r] = m.data[t.batch * m.batch_stride + t.head * m.head_stride + i];
            if (column == 0)
                x.l[r] = l.data[t.batch * l.batch_stride + t.head * l.head_stride + i];
            from = (const float *)a.data + t.batch * a.batch_stride + i * a.token_stride + t.head * a.head_stride;
        }
        float acc[C::DV / 4];
        load_floats<C::DV>(from, inside, p.paired, column, p.value_dim, acc);
#pragma unroll
        for (int k = 0; k < C::DV / 4; k++)
            x.o[k / 2 * 4 + 2 * r + k % 2] = acc[k];
    }
}

template <class C>
__device__ __forceinline__ void forward_store(const ringx_sm90_forward_params &p, const ringx_forward_tile &t, int row,
                                              int column, ringx_forward_state<C> &x)
{
    using T = typename C::T;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int i = row + 8 * r;
        bool inside = i < p.query[t.iq].count;
        float l = x.l[r];
        l += __shfl_xor_sync(0xffffffffu, l, 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        const float factor = !p.final ? 1 : l > 0 ? 1 / l : 0;
        float row_of[C::DV / 4];
#pragma unroll
        for (int k = 0; k < C::DV / 4; k++)
            row_of[k] = x.o[k / 2 * 4 + 2 * r + k % 2] * factor;
        if (!p.final) {
            const ringx_view &a = p.acc[t.iq];
            float *to = (float *)a.data + t.batch * a.batch_stride + i * a.token_stride + t.head * a.head_stride;
            store_floats<C::DV>(to, inside, p.paired, column, p.value_dim, row_of);
            if (column == 0 && inside) {
                p.m[t.iq].data[t.batch * p.m[t.iq].batch_stride + t.head * p.m[t.iq].head_stride + i] = x.m[r];
                p.l[t.iq].data[t.batch * p.l[t.iq].batch_stride + t.head * p.l[t.iq].head_stride + i] = l;
            }
            continue;
        }
        const ringx_view &o = p.out[t.iq];
        const ringx_rows &lse = p.lse[t.iq];
        T *to = (T *)o.data + t.batch * o.batch_stride + i * o.token_stride + t.head * o.head_stride;
        store_halves<T, C::DV>(to, inside, p.wide, column, p.value_dim, row_of);
        if (column == 0 && inside)
            lse.data[t.batch * lse.batch_stride + t.head * lse.head_stride + i] =
                l > 0 ? RINGX_LN2 * (x.m[r] + log2f(l)) : -INFINITY;
    }
}

/* Softcap and scale, so that s is in units of log2; the usual case leaves the scale to softmax. */
template <class C>
__device__ __forceinline__ void forward_score(const ringx_sm90_forward_params &p, ringx_forward_state<C> &x)
{
#pragma unroll
    for (int i = 0; i < C::N / 2; i++) {
        float score = x.s[i] * p.scale;
        if (p.softcap > 0)
            score = p.softcap * tanhf(score / p.softcap);
        x.s[i] = score * RINGX_LOG2E;
    }
}

template <class C>
__device__ __forceinline__ void forward_drop(const ringx_sm90_forward_params &p, const ringx_forward_tile &t, int row,
                                             int column, const ringx_forward_walk &walk, ringx_forward_state<C> &x)
{
    const ringx_cuda_run &rows = p.query[t.iq], &keys = p.key[walk.slice];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int64_t query = rows.first + (row + 8 * r) * rows.step;
        uint64_t kept = 0; /* first which, in a rolled loop: the generator needs registers of its own */
#pragma unroll 1
        for (int i = 0; i < C::N / 4; i++) {
            int64_t key = keys.first + (walk.n * C::N + i / 2 * 8 + column + i % 2) * keys.step;
            kept |= (uint64_t)(ringx__cuda_keep(p.drop, t.batch, p.q_head + t.head, query, key) != 0) << i;
        }
#pragma unroll
        for (int i = 0; i < C::N / 4; i++) {
            float &x0 = x.s[i / 2 * 4 + 2 * r + i % 2];
            x0 = kept >> i & 1 ? x0 * p.drop.grow : 0;
        }
    }
}

template <class C>
__device__ __forceinline__ void forward_consume(const ringx_sm90_forward_params &p, uint32_t smem, char *base,
                                                int consumer)
{
    using T = typename C::T;
    const int thread = threadIdx.x % 128, lane = thread % 32, column = lane % 4 * 2;
    const int mine = 64 * consumer + thread / 32 * 16 + lane / 4; /* this thread's first row in the tile */
    const int turn_bar = 1 + consumer, other_bar = 1 + (consumer + 1) % C::CONSUMERS, own_bar = 4 + consumer;
    uint32_t bars = smem + C::BARS_AT, q_full = bars, q_empty = bars + 8, k_full = bars + 16;
    uint32_t k_empty = k_full + 8 * C::STAGES, v_full = k_empty + 8 * C::STAGES, v_empty = v_full + 8 * C::STAGES;
    const float scale2 = C::EXTRA ? 1.f : p.scale * RINGX_LOG2E;
    ringx_interval *rows = (ringx_interval *)(base + C::ROWS_AT);
    uint32_t k_count = 0, v_count = 0;
    ringx_forward_state<C> x;

    if (consumer == C::CONSUMERS - 1)
        bar_arrive(1, 256);
    auto scores = [&]() { /* S = Q·Kᵀ, issued */
                          uint32_t stage = k_count % C::STAGES;
                          uint64_t a = descriptor(smem + consumer * 8192, 16);
                          uint64_t b = descriptor(smem + C::K_AT + stage * C::K_BYTES, 16);
                          hold(x.s);
                          wgmma_fence();
#pragma unroll
                          for (int k = 0; k < C::DK / 16; k++)
                              ringx_wgmma<T, C::N>::template ss<0, 0>(
                                  x.s, a + (uint64_t)((k / 4 * C::M * 128 + k % 4 * 32) >> 4),
                                  b + (uint64_t)((k / 4 * C::N * 128 + k % 4 * 32) >> 4), k > 0);
                          wgmma_commit();
    };
    auto values = [&]() { /* O += P·V, issued */
                          uint32_t stage = v_count % C::STAGES;
                          uint64_t b = descriptor(smem + C::V_AT + stage * C::V_BYTES, C::N * 128);
                          hold(x.o);
                          hold(x.weights);
                          wgmma_fence();
#pragma unroll
                          for (int k = 0; k < C::N / 16; k++)
                              ringx_wgmma<T, C::DV>::template rs<1>(x.o, x.weights + 4 * k,
                                                                    b + (uint64_t)(k * 2048 >> 4), 1);
                          wgmma_commit();
    };
    for (uint32_t turn = 0;; turn++) {
        mbar_wait(q_full, turn & 1);
        const volatile ringx_forward_edge *edge = (ringx_forward_edge *)(base + C::EDGE_AT + (turn & 1) * 64);
        ringx_forward_tile t;
        if (edge->work < 0)
            return;
        forward_tile(p, C::M, edge->work, &t);
        ringx_forward_walk walk;
        walk.start(t.iq);
        const ringx_cuda_run &run = p.query[t.iq];
        bar_sync(own_bar, 128); /* the last tile's rows are done with */
        if (thread < 64) {
            int i = min(t.m0 + 64 * consumer + thread, run.count - 1);
            rows[64 * consumer + thread] = ringx__cuda_mask_keys(p.mask, run.first + i * run.step);
        }
        bar_sync(own_bar, 128);
        forward_load_state(p, t, t.m0 + mine, column, x);

        auto weigh = [&]() { /* from scores to weights, in place */
                             if (C::EXTRA)
                                 forward_score(p, x);
                             if (walk.masked()) {
                                 const ringx_cuda_run &keys = p.key[walk.slice];
                                 int lo[2], hi[2], first = walk.n * C::N + column;
#pragma unroll
                                 for (int r = 0; r < 2; r++) {
                                     ringx_interval see = rows[mine + 8 * r];
                                     lo[r] = ringx__cuda_local(keys.first, keys.step, keys.count, see.lo) - first;
                                     hi[r] = ringx__cuda_local(keys.first, keys.step, keys.count, see.hi) - first;
                                 }
                                 forward_mask(x, lo, hi);
                             }
                             x.softmax(scale2);
                             if (C::EXTRA && p.drop.threshold)
                                 forward_drop(p, t, t.m0 + mine, column, walk, x);
        };
        bool any = walk.next(p, edge, C::N);
        if (any) {
            mbar_wait(k_full + 8 * (k_count % C::STAGES), k_count / C::STAGES & 1);
            bar_sync(turn_bar, 256);
            scores();
            bar_arrive(other_bar, 256);
            wgmma_wait<0>();
            hold(x.s);
            if (lane == 0)
                mbar_arrive(k_empty + 8 * (k_count % C::STAGES));
            k_count++;
            weigh();
            x.shrink_sums();
            x.round_weights();
            while (walk.next(p, edge, C::N)) {
                mbar_wait(k_full + 8 * (k_count % C::STAGES), k_count / C::STAGES & 1);
                bar_sync(turn_bar, 256);
                scores();
                mbar_wait(v_full + 8 * (v_count % C::STAGES), v_count / C::STAGES & 1);
                values();
                bar_arrive(other_bar, 256);
                wgmma_wait<1>();
                hold(x.s);
                if (lane == 0)
                    mbar_arrive(k_empty + 8 * (k_count % C::STAGES));
                k_count++;
                weigh();
                wgmma_wait<0>();
                hold(x.o);
                hold(x.weights);
                if (lane == 0)
                    mbar_arrive(v_empty + 8 * (v_count % C::STAGES));
                v_count++;
                x.shrink_sums();
                x.round_weights();
            }
        }
        int work = edge->work; /* the slot may be overwritten after the arrival of all who read it */
        mbar_arrive(q_empty);
        if (any) {
            mbar_wait(v_full + 8 * (v_count % C::STAGES), v_count / C::STAGES & 1);
            values();
            wgmma_wait<0>();
            hold(x.o);
            if (lane == 0)
                mbar_arrive(v_empty + 8 * (v_count % C::STAGES));
            v_count++;
        }
        forward_tile(p, C::M, work, &t); /* again, rather than keep it in registers */
        if (any || p.fresh || p.final)
            forward_store(p, t, t.m0 + mine, column, x);
    }
}

#endif

template <class C>
__global__ void __launch_bounds__(C::THREADS, 1) ringx_sm90_forward(const __grid_constant__ ringx_sm90_forward_params p)
{
#if RINGX_SM90
    extern __shared__ __align__(1024) char base[]; /* the swizzle counts from multiples of 1024 */
    uint32_t smem = smem_address(base);
    if (threadIdx.x == 0) {
        uint32_t bar = smem + C::BARS_AT;
        mbar_init(bar, 1);
        mbar_init(bar + 8, 128 * C::CONSUMERS);
        for (int i = 0; i < C::STAGES; i++) {
            mbar_init(bar + 16 + 8 * i, 1);
            mbar_init(bar + 16 + 8 * (C::STAGES + i), 4 * C::CONSUMERS);
            mbar_init(bar + 16 + 8 * (2 * C::STAGES + i), 1);
            mbar_init(bar + 16 + 8 * (3 * C::STAGES + i), 4 * C::CONSUMERS);
        }
        fence_mbar_init();
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        registers_down<C::PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            forward_produce<C>(p, smem, base);
    } else {
        registers_up<C::CONSUMER_REGISTERS>();
        forward_consume<C>(p, smem, base, (int)threadIdx.x / 128 - 1);
    }
#endif
}

#endif
