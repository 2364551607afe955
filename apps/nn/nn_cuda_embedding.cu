/* SPDX-License-Identifier: MIT */
/* Embedding on CUDA devices, of a range of the vocabulary.  Backward sorts the tokens by word (stable), so that each
 * row of the table has one thread per column that adds its tokens in their order: the bits are those of the CPU. */
#include "nn/nn_cuda.cuh"

#include <cub/device/device_radix_sort.cuh>

enum { THREADS = 128, AHEAD = 4 };

struct embedding {
    int64_t tokens, width, first, count;
    const int32_t *ids;
    nn_view table, y, dy;
    float *dtable;
};

static embedding embedding_of(const nn_embedding *e)
{
    return {e->tokens,
            e->width,
            e->first,
            e->count,
            e->ids,
            nn_view_of(e->table, e->width),
            nn_view_of(e->y, e->width),
            nn_view_of(e->dy, e->width),
            e->dtable};
}

/* The row of the table, or −1. */
static __device__ __forceinline__ int64_t row_of(const embedding &e, int64_t t)
{
    int64_t row = e.ids[t] - e.first;
    return row >= 0 && row < e.count ? row : -1;
}

/* A thread for N columns of a token, a block for as many as it has threads.  Launch (tokens, columns). */
template <int N> static __global__ void __launch_bounds__(THREADS) look_up(embedding e)
{
    int64_t t = blockIdx.x, row = row_of(e, t), column = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * N;
    float x[N] = {};
    if (column >= e.width)
        return;
    if (row >= 0)
        nn_load(e.table, row, column, x);
    nn_store(e.y, t, column, x);
}

static dim3 grid_of(const embedding &e, int group)
{
    return dim3((unsigned)e.tokens, (unsigned)nn_cuda_ceil(e.width, (int64_t)THREADS * group));
}

int nn_cuda_embedding_forward(const nn_context *on, const nn_embedding *given)
{
    embedding e = embedding_of(given);
    if (e.tokens <= 0 || e.width <= 0)
        return CODE_GOOD;
    if (e.width % 8 == 0 && nn_view_aligned(e.table, e.count) && nn_view_aligned(e.y, e.tokens))
        look_up<8><<<grid_of(e, 8), THREADS, 0, nn_cuda_stream(on)>>>(e);
    else
        look_up<1><<<grid_of(e, 1), THREADS, 0, nn_cuda_stream(on)>>>(e);
    return nn_cuda_launched("embedding_forward");
}

/* ---- backward ---- */

struct sorted {
    uint32_t *rows, *tokens, *rows_before, *tokens_before; /* rows: count for words of other ranks, which come last */
    void *space;
    size_t space_bytes;
};

static __global__ void list_tokens(embedding e, sorted s)
{
    int64_t t = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= e.tokens)
        return;
    int64_t row = row_of(e, t);
    s.rows_before[t] = (uint32_t)(row < 0 ? e.count : row);
    s.tokens_before[t] = (uint32_t)t;
}

/* The block of a row's first token adds them all; AHEAD of them are loaded together.  Launch (tokens, columns). */
template <int N> static __global__ void __launch_bounds__(THREADS) add_tokens(embedding e, sorted s)
{
    int64_t at = blockIdx.x, column = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * N;
    uint32_t row = s.rows[at];
    if (column >= e.width || row >= e.count || (at > 0 && s.rows[at - 1] == row))
        return;
    nn_view table = {(char *)(e.dtable + (int64_t)row * e.width), 0, RINGX_F32};
    float sum[N];
    nn_load(table, 0, column, sum);
    for (bool more = true; more; at += AHEAD) {
        nn_raw<N> raw[AHEAD];
        bool mine[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            mine[i] = at + i < e.tokens && s.rows[at + i] == row;
            if (mine[i])
                nn_fetch(e.dy.dtype, nn_place(e.dy, s.tokens[at + i], column), raw[i]);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            float dy[N];
            if (!mine[i])
                continue;
            nn_widen(e.dy.dtype, raw[i], dy);
#pragma unroll
            for (int k = 0; k < N; k++)
                sum[k] += dy[k];
        }
        more = mine[AHEAD - 1];
    }
    nn_store(table, 0, column, sum);
}

static int bits_of(int64_t count)
{
    int bits = 1;
    while (bits < 32 && count >> bits)
        bits++;
    return bits;
}

static int sort(const nn_context *on, const embedding &e, sorted *s)
{
    cudaStream_t stream = nn_cuda_stream(on);
    list_tokens<<<(unsigned)nn_cuda_ceil(e.tokens, 256), 256, 0, stream>>>(e, *s);
    int code = nn_cuda_launched("embedding_backward: list of tokens");
    if (code)
        return code;
    cudaError_t error =
        cub::DeviceRadixSort::SortPairs(s->space, s->space_bytes, s->rows_before, s->rows, s->tokens_before, s->tokens,
                                        (int)e.tokens, 0, bits_of(e.count), stream);
    return error == cudaSuccess ? CODE_GOOD : nn_cuda_failed(error, "embedding_backward: sort of tokens");
}

static int place(const nn_context *on, const embedding &e, sorted *s)
{
    size_t each = nn_cuda_rounded((size_t)e.tokens * sizeof(uint32_t));
    cudaError_t error =
        cub::DeviceRadixSort::SortPairs(NULL, s->space_bytes, s->rows_before, s->rows, s->tokens_before, s->tokens,
                                        (int)e.tokens, 0, bits_of(e.count), nn_cuda_stream(on));
    if (error != cudaSuccess)
        return nn_cuda_failed(error, "embedding_backward: memory of a sort");
    char *at = nn_cuda_scratch(on, 4 * each + s->space_bytes);
    if (!at)
        return CODE_NO_MEMORY;
    s->rows = (uint32_t *)at, s->tokens = (uint32_t *)(at + each);
    s->rows_before = (uint32_t *)(at + 2 * each), s->tokens_before = (uint32_t *)(at + 3 * each);
    s->space = at + 4 * each;
    return CODE_GOOD;
}

int nn_cuda_embedding_backward(const nn_context *on, const nn_embedding *given)
{
    embedding e = embedding_of(given);
    sorted s = {};
    if (e.tokens <= 0 || e.width <= 0 || e.count <= 0)
        return CODE_GOOD;
    if (e.tokens > INT32_MAX || e.count > INT32_MAX)
        return fail(CODE_CONFIGURATION, "embedding_backward of %lld tokens and %lld words; at most 2^31 − 1 of both",
                    (long long)e.tokens, (long long)e.count);
    int code = place(on, e, &s);
    if (!code)
        code = sort(on, e, &s);
    if (code)
        return code;
    nn_view table = {(char *)e.dtable, e.width, RINGX_F32};
    if (e.width % 8 == 0 && nn_view_aligned(table, 2) && nn_view_aligned(e.dy, e.tokens))
        add_tokens<8><<<grid_of(e, 8), THREADS, 0, nn_cuda_stream(on)>>>(e, s);
    else
        add_tokens<1><<<grid_of(e, 1), THREADS, 0, nn_cuda_stream(on)>>>(e, s);
    return nn_cuda_launched("embedding_backward");
}
