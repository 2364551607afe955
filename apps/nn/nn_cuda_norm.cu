/* SPDX-License-Identifier: MIT */
/* RMSNorm and LayerNorm on CUDA devices (formulas: norm.c), and sums of columns over tokens.
 *
 * A block goes over rows; where a row fits into its threads' registers, memory is read once.  Sums over tokens go in
 * pieces of SUB rows, added to tiles of NN_TILE, which are added one after the other: where calls divide the tokens at
 * multiples of NN_TILE no bit changes. */
#include "nn/nn_cuda.cuh"

enum { SUB = 16, SUBS = NN_TILE / SUB, SLOTS = 2, MOST_THREADS = 512, GROUP = 128 * NN_TILE };

/* ---- sums of columns ---- */

struct targets {
    const float *part[2]; /* [pieces of SUB rows][width] */
    float *to[2];
};

/* Launch (columns/32, sums), 32×32 threads: 32 tiles of 32 columns at a time. */
static __global__ void __launch_bounds__(1024) fold(targets all, int64_t pieces, int64_t width)
{
    __shared__ float tile_sums[32][33];
    int64_t column = (int64_t)blockIdx.x * 32 + threadIdx.x, tiles = (pieces + SUBS - 1) / SUBS;
    const float *part = all.part[blockIdx.y];
    float sum = 0;
    if (threadIdx.y == 0 && column < width)
        sum = all.to[blockIdx.y][column];
    for (int64_t first = 0; first < tiles; first += 32) {
        float tile = 0;
        int64_t piece = (first + threadIdx.y) * SUBS;
        if (column < width)
#pragma unroll
            for (int i = 0; i < SUBS; i++)
                tile += piece + i < pieces ? part[(piece + i) * width + column] : 0;
        tile_sums[threadIdx.y][threadIdx.x] = tile;
        __syncthreads();
        if (threadIdx.y == 0)
            for (int i = 0; i < 32 && first + i < tiles; i++)
                sum += tile_sums[i][threadIdx.x];
        __syncthreads();
    }
    if (threadIdx.y == 0 && column < width)
        all.to[blockIdx.y][column] = sum;
}

static int fold_all(const nn_context *on, const targets &t, int sums, int64_t tokens, int64_t width)
{
    dim3 grid((unsigned)nn_cuda_ceil(width, 32), (unsigned)sums);
    fold<<<grid, dim3(32, 32), 0, nn_cuda_stream(on)>>>(t, nn_cuda_ceil(tokens, SUB), width);
    return nn_cuda_launched("sums of tiles");
}

/* Launch (columns/256, pieces), 256 threads. */
static __global__ void __launch_bounds__(256) sum_rows(nn_view from, int64_t tokens, int64_t width, float *part)
{
    int64_t column = (int64_t)blockIdx.x * 256 + threadIdx.x, first = (int64_t)blockIdx.y * SUB;
    float sum = 0, x[1];
    if (column >= width)
        return;
#pragma unroll 4
    for (int64_t t = first; t < min(first + SUB, tokens); t++) {
        nn_load(from, t, column, x);
        sum += x[0];
    }
    part[blockIdx.y * width + column] = sum;
}

/* Tokens are taken in groups, so that scratch memory is bounded. */
int nn_cuda_sum_columns(const nn_context *on, int64_t tokens, int64_t width, nn_array from, float *to)
{
    nn_view v = nn_view_of(from, width);
    if (tokens <= 0 || width <= 0)
        return CODE_GOOD;
    float *part = (float *)nn_cuda_scratch(on, (size_t)(nn_cuda_ceil(min(tokens, (int64_t)GROUP), SUB) * width) * 4);
    int code = part ? CODE_GOOD : CODE_NO_MEMORY;
    for (int64_t t = 0; t < tokens && !code; t += GROUP) {
        int64_t n = min(tokens - t, (int64_t)GROUP);
        nn_view rows = {v.data + t * v.stride * (int64_t)dtype_bytes(from.dtype), v.stride, v.dtype};
        dim3 grid((unsigned)nn_cuda_ceil(width, 256), (unsigned)nn_cuda_ceil(n, SUB));
        sum_rows<<<grid, 256, 0, nn_cuda_stream(on)>>>(rows, n, width, part);
        code = nn_cuda_launched("sums of columns");
        if (!code)
            code = fold_all(on, {{part, part}, {to, to}}, 1, n, width);
    }
    return code;
}

/* ---- rows ---- */

struct norm_rows {
    int64_t tokens, width;
    float eps;
    nn_view x, weight, bias, y, dy, dx;
    float *weight_part, *bias_part; /* [pieces][width] */
    bool add;
};

/* A part of a row in the registers of a block: SLOTS groups of N columns a thread. */
template <int N> struct part {
    nn_raw<N> raw[SLOTS];
};

template <int N> __device__ __forceinline__ int64_t column_of(int64_t base, int slot)
{
    return base + ((int64_t)slot * blockDim.x + threadIdx.x) * N;
}

template <int N>
__device__ __forceinline__ void fetch(const nn_view &v, int64_t row, int64_t base, int64_t width, part<N> &p)
{
#pragma unroll
    for (int s = 0; s < SLOTS; s++) {
        int64_t column = column_of<N>(base, s);
        if (column < width)
            nn_fetch(v.dtype, nn_place(v, row, column), p.raw[s]);
    }
}

/* Mean (0 unless centred) and 1/√(mean of squares + eps) of a row whose first part is in x; sums: shared. */
template <bool CENTRED, int N>
__device__ __forceinline__ float2 statistics(const norm_rows &n, int64_t row, part<N> &x, float (*sums)[64])
{
    int64_t step = (int64_t)SLOTS * N * blockDim.x;
    float total[1] = {0}, squares[1] = {0}, mean = 0;
    for (int pass = CENTRED ? 0 : 1; pass < 2; pass++) {
        for (int64_t base = 0; base < n.width; base += step) {
            if (n.width > step)
                fetch(n.x, row, base, n.width, x);
#pragma unroll
            for (int s = 0; s < SLOTS; s++) {
                float v[N];
                if (column_of<N>(base, s) >= n.width)
                    continue;
                nn_widen(n.x.dtype, x.raw[s], v);
#pragma unroll
                for (int i = 0; i < N; i++) {
                    total[0] += v[i];
                    squares[0] += (v[i] - mean) * (v[i] - mean);
                }
            }
        }
        if (pass == 0) {
            nn_block_sum(total, sums[0]);
            mean = total[0] / (float)n.width, squares[0] = 0;
        }
    }
    nn_block_sum(squares, sums[1]);
    return make_float2(mean, 1 / sqrtf(squares[0] / (float)n.width + n.eps));
}

/* Launch: a block a row. */
template <bool CENTRED, int N> static __global__ void __launch_bounds__(MOST_THREADS) forward_rows(norm_rows n)
{
    __shared__ float sums[2][64];
    int64_t row = blockIdx.x, step = (int64_t)SLOTS * N * blockDim.x;
    part<N> x, weight, bias;
    fetch(n.x, row, 0, n.width, x);
    float2 s = statistics<CENTRED>(n, row, x, sums);
    for (int64_t base = 0; base < n.width; base += step) {
        if (n.width > step)
            fetch(n.x, row, base, n.width, x);
        fetch(n.weight, 0, base, n.width, weight);
        if (CENTRED)
            fetch(n.bias, 0, base, n.width, bias);
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            int64_t column = column_of<N>(base, slot);
            float v[N], w[N], b[N];
            if (column >= n.width)
                continue;
            nn_widen(n.x.dtype, x.raw[slot], v);
            nn_widen(n.weight.dtype, weight.raw[slot], w);
            if (CENTRED)
                nn_widen(n.bias.dtype, bias.raw[slot], b);
#pragma unroll
            for (int i = 0; i < N; i++)
                v[i] = (v[i] - s.x) * s.y * w[i] + (CENTRED ? b[i] : 0);
            nn_store(n.y, row, column, v);
        }
    }
}

/* What a gradient of a row needs of dy: means of g and of g·x̂, with g = dy·weight. */
template <bool CENTRED, int N>
__device__ __forceinline__ float2 along(const norm_rows &n, int64_t row, float2 stat, part<N> &x, part<N> &dy,
                                        float *shared)
{
    int64_t step = (int64_t)SLOTS * N * blockDim.x;
    float sums[2] = {0, 0};
    part<N> weight;
    for (int64_t base = 0; base < n.width; base += step) {
        if (n.width > step) {
            fetch(n.x, row, base, n.width, x);
            fetch(n.dy, row, base, n.width, dy);
        }
        fetch(n.weight, 0, base, n.width, weight);
#pragma unroll
        for (int s = 0; s < SLOTS; s++) {
            float v[N], g[N], w[N];
            if (column_of<N>(base, s) >= n.width)
                continue;
            nn_widen(n.x.dtype, x.raw[s], v);
            nn_widen(n.dy.dtype, dy.raw[s], g);
            nn_widen(n.weight.dtype, weight.raw[s], w);
#pragma unroll
            for (int i = 0; i < N; i++) {
                sums[0] += g[i] * w[i];
                sums[1] += g[i] * w[i] * ((v[i] - stat.x) * stat.y);
            }
        }
    }
    nn_block_sum(sums, shared);
    return make_float2(CENTRED ? sums[0] / (float)n.width : 0, sums[1] / (float)n.width);
}

/* dx of one slot of a row; what it adds to dweight and dbias. */
template <bool CENTRED, int N>
__device__ __forceinline__ void one_slot(const norm_rows &n, int64_t row, int64_t column, const float2 (&s)[2],
                                         const nn_raw<N> (&raw)[3], float (&dweight)[N], float (&dbias)[N])
{
    float v[N], g[N], w[N], old[N];
    nn_load(n.weight, 0, column, w);
    nn_widen(n.x.dtype, raw[0], v);
    nn_widen(n.dy.dtype, raw[1], g);
    if (n.add)
        nn_widen(n.dx.dtype, raw[2], old);
#pragma unroll
    for (int i = 0; i < N; i++) {
        float normal = (v[i] - s[0].x) * s[0].y;
        dweight[i] += g[i] * normal;
        if (CENTRED)
            dbias[i] += g[i];
        v[i] = s[0].y * (g[i] * w[i] - normal * s[1].y - s[1].x) + (n.add ? old[i] : 0);
    }
    nn_store(n.dx, row, column, v);
}

/* Rows of SUB tokens, whose parts of dweight and dbias stay in registers.  Launch: a block for SUB rows. */
template <bool CENTRED, int N> static __global__ void __launch_bounds__(MOST_THREADS) backward_rows(norm_rows n)
{
    __shared__ float sums[2][3][64];
    int64_t first = (int64_t)blockIdx.x * SUB, end = min(first + SUB, n.tokens);
    float dweight[SLOTS][N] = {}, dbias[SLOTS][N] = {};
    for (int64_t row = first; row < end; row++) {
        part<N> x, dy, old;
        float(*shared)[64] = sums[row & 1];
        fetch(n.x, row, 0, n.width, x);
        fetch(n.dy, row, 0, n.width, dy);
        if (n.add)
            fetch(n.dx, row, 0, n.width, old);
        float2 stat = statistics<CENTRED>(n, row, x, shared);
        const float2 s[2] = {stat, along<CENTRED>(n, row, stat, x, dy, shared[2])};
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            int64_t column = column_of<N>(0, slot);
            const nn_raw<N> raw[3] = {x.raw[slot], dy.raw[slot], old.raw[slot]};
            if (column < n.width)
                one_slot<CENTRED>(n, row, column, s, raw, dweight[slot], dbias[slot]);
        }
    }
#pragma unroll
    for (int slot = 0; slot < SLOTS; slot++)
        for (int i = 0; i < N; i++) {
            int64_t column = column_of<N>(0, slot) + i;
            if (column < n.width) {
                n.weight_part[blockIdx.x * n.width + column] = dweight[slot][i];
                if (CENTRED)
                    n.bias_part[blockIdx.x * n.width + column] = dbias[slot][i];
            }
        }
}

/* The same for rows that do not fit: they are read thrice, their parts of dweight and dbias are kept in memory. */
template <bool CENTRED> static __global__ void __launch_bounds__(MOST_THREADS) backward_long_rows(norm_rows n)
{
    __shared__ float sums[2][3][64];
    int64_t first = (int64_t)blockIdx.x * SUB, end = min(first + SUB, n.tokens), step = blockDim.x;
    nn_view weight_part = {(char *)(n.weight_part + blockIdx.x * n.width), 0, RINGX_F32};
    nn_view bias_part = {(char *)(n.bias_part + blockIdx.x * n.width), 0, RINGX_F32};
    for (int64_t row = first; row < end; row++) {
        part<1> x, dy;
        float(*shared)[64] = sums[row & 1];
        float2 stat = statistics<CENTRED>(n, row, x, shared);
        const float2 s[2] = {stat, along<CENTRED>(n, row, stat, x, dy, shared[2])};
        for (int64_t column = threadIdx.x; column < n.width; column += step) {
            nn_raw<1> raw[3];
            float dweight[1] = {}, dbias[1] = {};
            nn_fetch(n.x.dtype, nn_place(n.x, row, column), raw[0]);
            nn_fetch(n.dy.dtype, nn_place(n.dy, row, column), raw[1]);
            if (n.add)
                nn_fetch(n.dx.dtype, nn_place(n.dx, row, column), raw[2]);
            if (row > first) {
                nn_load(weight_part, 0, column, dweight);
                if (CENTRED)
                    nn_load(bias_part, 0, column, dbias);
            }
            one_slot<CENTRED>(n, row, column, s, raw, dweight, dbias);
            nn_store(weight_part, 0, column, dweight);
            if (CENTRED)
                nn_store(bias_part, 0, column, dbias);
        }
    }
}

/* ---- launches ---- */

static norm_rows norm_of(const nn_norm *n, bool centred)
{
    norm_rows m = {};
    m.tokens = n->tokens, m.width = n->width, m.eps = (float)n->eps, m.add = n->add;
    m.x = nn_view_of(n->x, n->width), m.weight = nn_view_of(n->weight, n->width);
    m.bias = centred ? nn_view_of(n->bias, n->width) : m.weight;
    m.y = nn_view_of(n->y, n->width), m.dy = nn_view_of(n->dy, n->width), m.dx = nn_view_of(n->dx, n->width);
    return m;
}

/* Whether 8 columns go at a time. */
static bool eights(const norm_rows &n, const nn_view *all, int count)
{
    bool aligned = n.width % 8 == 0 && nn_view_aligned(n.weight, 1) && nn_view_aligned(n.bias, 1);
    for (int i = 0; i < count; i++)
        aligned = aligned && nn_view_aligned(all[i], n.tokens);
    return aligned;
}

/* Half as many as there are groups of columns, each SLOTS of them; whole warps. */
static unsigned threads_of(int64_t width, int group)
{
    int64_t threads = nn_cuda_ceil(nn_cuda_ceil(width, group), SLOTS);
    return (unsigned)min((threads + 31) / 32 * 32, (int64_t)MOST_THREADS);
}

template <bool CENTRED> static int forward(const nn_context *on, const nn_norm *given, const char *name)
{
    norm_rows n = norm_of(given, CENTRED);
    const nn_view all[] = {n.x, n.y};
    if (n.tokens <= 0 || n.width <= 0)
        return CODE_GOOD;
    if (eights(n, all, 2))
        forward_rows<CENTRED, 8><<<(unsigned)n.tokens, threads_of(n.width, 8), 0, nn_cuda_stream(on)>>>(n);
    else
        forward_rows<CENTRED, 1><<<(unsigned)n.tokens, threads_of(n.width, 1), 0, nn_cuda_stream(on)>>>(n);
    return nn_cuda_launched(name);
}

template <bool CENTRED> static void launch_backward(const nn_context *on, const norm_rows &n, bool by_eights)
{
    unsigned blocks = (unsigned)nn_cuda_ceil(n.tokens, SUB), eighth = threads_of(n.width, 8);
    unsigned threads = threads_of(n.width, 1);
    if (by_eights && n.width <= (int64_t)SLOTS * 8 * eighth)
        backward_rows<CENTRED, 8><<<blocks, eighth, 0, nn_cuda_stream(on)>>>(n);
    else if (n.width <= (int64_t)SLOTS * threads)
        backward_rows<CENTRED, 1><<<blocks, threads, 0, nn_cuda_stream(on)>>>(n);
    else
        backward_long_rows<CENTRED><<<blocks, threads, 0, nn_cuda_stream(on)>>>(n);
}

static void skip_rows(nn_view *v, int64_t rows)
{
    v->data += rows * v->stride * (v->dtype == RINGX_F32 ? 4 : 2);
}

/* Tokens are taken in groups, so that scratch memory is bounded. */
template <bool CENTRED> static int backward(const nn_context *on, const nn_norm *given, const char *name)
{
    norm_rows n = norm_of(given, CENTRED);
    if (n.tokens <= 0 || n.width <= 0)
        return CODE_GOOD;
    const nn_view all[] = {n.x, n.dy, n.dx};
    bool by_eights = eights(n, all, 3);
    int64_t pieces = nn_cuda_ceil(min(n.tokens, (int64_t)GROUP), SUB), size = (pieces * n.width + 63) / 64 * 64;
    n.weight_part = (float *)nn_cuda_scratch(on, (size_t)size * (CENTRED ? 2 : 1) * sizeof(float));
    int code = n.weight_part ? CODE_GOOD : CODE_NO_MEMORY;
    n.bias_part = n.weight_part + (CENTRED ? size : 0);
    targets sums = {{n.weight_part, n.bias_part}, {given->dweight, given->dbias}};
    for (int64_t left = given->tokens; left > 0 && !code; left -= n.tokens) {
        n.tokens = min(left, (int64_t)GROUP);
        launch_backward<CENTRED>(on, n, by_eights);
        code = nn_cuda_launched(name);
        if (!code)
            code = fold_all(on, sums, CENTRED ? 2 : 1, n.tokens, n.width);
        skip_rows(&n.x, n.tokens), skip_rows(&n.dy, n.tokens), skip_rows(&n.dx, n.tokens);
    }
    return code;
}

int nn_cuda_rms_norm_forward(const nn_context *on, const nn_norm *n)
{
    return forward<false>(on, n, "rms_norm_forward");
}

int nn_cuda_rms_norm_backward(const nn_context *on, const nn_norm *n)
{
    return backward<false>(on, n, "rms_norm_backward");
}

int nn_cuda_layer_norm_forward(const nn_context *on, const nn_norm *n)
{
    return forward<true>(on, n, "layer_norm_forward");
}

int nn_cuda_layer_norm_backward(const nn_context *on, const nn_norm *n)
{
    return backward<true>(on, n, "layer_norm_backward");
}
