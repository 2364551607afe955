/* SPDX-License-Identifier: MIT */
/* Row-wise operations between the attend steps on a CUDA device: bandwidth-bound, one warp a row. */
#include "kernel/cuda_common.cuh"

#define WARPS 8

namespace
{

struct geometry { /* rows are (batch, token, head) with head fastest: neighbours in memory for packed tensors */
    int64_t rows, tokens, heads, dim;
};

struct row_index {
    int64_t b, t, h;
};

__device__ bool my_row(const geometry &g, int64_t row, row_index *at)
{
    if (row >= g.rows)
        return false;
    if (g.rows <= UINT32_MAX) { /* a division of 64 bits takes longer than reading a row */
        uint32_t r = (uint32_t)row, heads = (uint32_t)g.heads, tokens = (uint32_t)g.tokens, token = r / heads;
        at->h = r - token * heads;
        at->b = token / tokens;
        at->t = token % tokens;
        return true;
    }
    at->h = row % g.heads;
    at->t = row / g.heads % g.tokens;
    at->b = row / g.heads / g.tokens;
    return true;
}

template <typename T> __device__ T *row_of(const ringx_view &v, const row_index &i)
{
    return (T *)v.data + i.b * v.batch_stride + i.t * v.token_stride + i.h * v.head_stride;
}

__device__ float *row_of(const ringx_rows &r, const row_index &i)
{
    return r.data + i.b * r.batch_stride + i.h * r.head_stride + i.t;
}

#define FOR_MY_ROWS(g, at)                                                                                             \
    row_index at;                                                                                                      \
    for (int64_t row__ = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32; my_row(g, row__, &at);                        \
         row__ += (int64_t)gridDim.x * WARPS)

struct state_list {
    ringx_state state[RINGX_MOST_STATES];
    int count;
};

/* How much of each state one row of the result has: what acc is multiplied by; returns lse.  Empty is what has l = 0: a
 * NaN stays. */
__device__ float shares(const state_list &list, const row_index &i, float (&share)[RINGX_MOST_STATES])
{
    float top = -INFINITY, sum = 0;
#pragma unroll
    for (int k = 0; k < RINGX_MOST_STATES; k++) {
        share[k] = k < list.count ? *row_of(list.state[k].m, i) : -INFINITY;
        top = fmaxf(top, share[k]);
    }
#pragma unroll
    for (int k = 0; k < RINGX_MOST_STATES; k++) {
        float l = k < list.count ? *row_of(list.state[k].l, i) : 0;
        share[k] = l == 0 ? 0 : share[k] == top ? 1 : exp2f(share[k] - top);
        sum += share[k] * l;
    }
#pragma unroll
    for (int k = 0; k < RINGX_MOST_STATES; k++)
        share[k] = share[k] == 0 ? 0 : share[k] / sum;
    return sum == 0 ? -INFINITY : RINGX_LN2 * (top + log2f(sum));
}

template <typename T> __global__ void finish_rows(geometry g, state_list list, ringx_view out, ringx_rows lse)
{
    int lane = threadIdx.x % 32;
    FOR_MY_ROWS(g, i)
    {
        float share[RINGX_MOST_STATES], all = shares(list, i, share);
        for (int64_t d = lane; d < g.dim; d += 32) {
            float x = 0;
#pragma unroll
            for (int k = 0; k < RINGX_MOST_STATES; k++)
                if (share[k] != 0)
                    x += share[k] * row_of<float>(list.state[k].acc, i)[d];
            row_of<T>(out, i)[d] = ringx_number<T>::down(x);
        }
        if (lane == 0)
            *row_of(lse, i) = all;
    }
}

__global__ void rescale_rows(geometry g, ringx_view acc, ringx_rows m, ringx_rows l, ringx_rows agreed)
{
    int lane = threadIdx.x % 32;
    FOR_MY_ROWS(g, i)
    {
        float mine = *row_of(m, i), all = *row_of(agreed, i);
        float w = mine == -INFINITY ? 0 : exp2f(mine - all);
        for (int64_t d = lane; d < g.dim; d += 32) {
            float *a = row_of<float>(acc, i) + d;
            *a = w == 0 ? 0 : *a * w;
        }
        __syncwarp();
        if (lane == 0) {
            *row_of(l, i) = w == 0 ? 0 : *row_of(l, i) * w;
            *row_of(m, i) = all;
        }
    }
}

/* Eight neighbouring elements, or a plain loop where rows are not aligned for it. */
template <typename T> struct alignas(8 * sizeof(T) < 16 ? 8 * sizeof(T) : 16) eight {
    T x[8];
};

/* A row is lanes threads' (a power of two, at most a warp). */
template <typename T>
__global__ void delta_rows8(geometry g, int lanes, ringx_view out, ringx_view dout, ringx_rows delta)
{
    int lane = (int)threadIdx.x % lanes;
    int64_t each = blockDim.x / lanes;
    for (int64_t row = (int64_t)blockIdx.x * each + threadIdx.x / lanes;; row += gridDim.x * each) {
        row_index i;
        bool mine = my_row(g, row, &i);
        float sum = 0;
        if (__all_sync(0xffffffffu, !mine))
            return;
        for (int64_t d = 8 * lane; mine && d < g.dim; d += 8 * lanes) {
            eight<T> a = *(const eight<T> *)(row_of<T>(out, i) + d), b = *(const eight<T> *)(row_of<T>(dout, i) + d);
#pragma unroll
            for (int e = 0; e < 8; e++)
                sum += ringx_number<T>::up(a.x[e]) * ringx_number<T>::up(b.x[e]);
        }
        for (int step = lanes / 2; step; step /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (mine && lane == 0)
            *row_of(delta, i) = sum;
    }
}

template <typename T> __global__ void delta_rows(geometry g, ringx_view out, ringx_view dout, ringx_rows delta)
{
    int lane = threadIdx.x % 32;
    FOR_MY_ROWS(g, i)
    {
        float sum = 0;
        for (int64_t d = lane; d < g.dim; d += 32)
            sum += ringx_number<T>::up(row_of<T>(out, i)[d]) * ringx_number<T>::up(row_of<T>(dout, i)[d]);
        for (int step = 16; step; step /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane == 0)
            *row_of(delta, i) = sum;
    }
}

/* As finish_rows; a row is lanes threads'. */
template <typename T>
__global__ void finish_rows8(geometry g, int lanes, state_list list, ringx_view out, ringx_rows lse)
{
    int lane = (int)threadIdx.x % lanes;
    int64_t each = blockDim.x / lanes;
    for (int64_t row = (int64_t)blockIdx.x * each + threadIdx.x / lanes; row < g.rows; row += gridDim.x * each) {
        row_index i;
        my_row(g, row, &i);
        float share[RINGX_MOST_STATES], all = shares(list, i, share);
        for (int64_t d = 8 * lane; d < g.dim; d += 8 * lanes) {
            float x[8] = {0};
#pragma unroll
            for (int k = 0; k < RINGX_MOST_STATES; k++) {
                if (share[k] == 0)
                    continue;
                eight<float> a = *(const eight<float> *)(row_of<float>(list.state[k].acc, i) + d);
#pragma unroll
                for (int e = 0; e < 8; e++)
                    x[e] += share[k] * a.x[e];
            }
            eight<T> y;
#pragma unroll
            for (int e = 0; e < 8; e++)
                y.x[e] = ringx_number<T>::down(x[e]);
            *(eight<T> *)(row_of<T>(out, i) + d) = y;
        }
        if (lane == 0)
            *row_of(lse, i) = all;
    }
}

/* All heads of a token lie together: rows of width elements.  I: an integer that counts all eights. */
template <typename I, typename From, typename To>
__global__ void copy_tokens8(I all, I eights, I tokens, ringx_view from, ringx_view to)
{
    for (I n = (I)blockIdx.x * (I)blockDim.x + (I)threadIdx.x; n < all; n += (I)gridDim.x * (I)blockDim.x) {
        I row = n / eights, at = n - row * eights, b = row / tokens, t = row - b * tokens;
        const From *x = (const From *)from.data + b * from.batch_stride + t * from.token_stride;
        To *y = (To *)to.data + b * to.batch_stride + t * to.token_stride;
        eight<From> a = *(const eight<From> *)(x + 8 * (int64_t)at);
        eight<To> c;
#pragma unroll
        for (int e = 0; e < 8; e++)
            c.x[e] = ringx_number<To>::down(ringx_number<From>::up(a.x[e]));
        *(eight<To> *)(y + 8 * (int64_t)at) = c;
    }
}

struct summed_list {
    ringx_view view[RINGX_MOST_SUMMED];
    int count;
};

template <typename To> __global__ void copy_sums(geometry g, summed_list list, ringx_view to)
{
    int lane = threadIdx.x % 32;
    FOR_MY_ROWS(g, i)
    {
        for (int64_t d = lane; d < g.dim; d += 32) {
            float sum = row_of<float>(list.view[0], i)[d];
            for (int k = 1; k < list.count; k++)
                sum += row_of<float>(list.view[k], i)[d];
            row_of<To>(to, i)[d] = ringx_number<To>::down(sum);
        }
    }
}

template <typename To> __global__ void copy_sums8(geometry g, int lanes, summed_list list, ringx_view to)
{
    int64_t each = blockDim.x / lanes;
    for (int64_t row = (int64_t)blockIdx.x * each + threadIdx.x / lanes; row < g.rows; row += gridDim.x * each) {
        row_index i;
        my_row(g, row, &i);
        for (int64_t d = 8 * (threadIdx.x % lanes); d < g.dim; d += 8 * lanes) {
            eight<float> sum = *(const eight<float> *)(row_of<float>(list.view[0], i) + d);
#pragma unroll 4
            for (int k = 1; k < list.count; k++) {
                eight<float> x = *(const eight<float> *)(row_of<float>(list.view[k], i) + d);
#pragma unroll
                for (int e = 0; e < 8; e++)
                    sum.x[e] += x.x[e];
            }
            eight<To> rounded;
#pragma unroll
            for (int e = 0; e < 8; e++)
                rounded.x[e] = ringx_number<To>::down(sum.x[e]);
            *(eight<To> *)(row_of<To>(to, i) + d) = rounded;
        }
    }
}

template <typename From, typename To> __global__ void copy_elements(geometry g, ringx_view from, ringx_view to)
{
    int lane = threadIdx.x % 32;
    FOR_MY_ROWS(g, i)
    {
        for (int64_t d = lane; d < g.dim; d += 32)
            row_of<To>(to, i)[d] = ringx_number<To>::down(ringx_number<From>::up(row_of<From>(from, i)[d]));
    }
}

__global__ void copy_row_values(int64_t tokens, int64_t heads, int64_t all, ringx_rows from, ringx_rows to)
{
    for (int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; n < all; n += (int64_t)gridDim.x * blockDim.x) {
        row_index i = {n / tokens / heads, n % tokens, n / tokens % heads};
        *row_of(to, i) = *row_of(from, i);
    }
}

template <typename From, typename To> __global__ void convert_values(size_t count, const From *from, To *to)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x; n < count; n += stride)
        to[n] = ringx_number<To>::down(ringx_number<From>::up(from[n]));
}

__global__ void add_values(size_t count, const float *from, float *to)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x; n < count; n += stride)
        to[n] += from[n];
}

/* Loads of a whole loop are under way before the first is used: a link's latency is several times that of memory. */
__global__ void __launch_bounds__(512) add_far_fours(size_t fours, const float4 *from, float4 *to)
{
    constexpr int DEEP = 8;
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x; n < fours; n += DEEP * stride) {
        float4 x[DEEP];
#pragma unroll
        for (int i = 0; i < DEEP; i++)
            x[i] = n + i * stride < fours ? from[n + i * stride] : float4{0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < DEEP; i++)
            if (n + i * stride < fours) {
                float4 y = to[n + i * stride];
                to[n + i * stride] = {y.x + x[i].x, y.y + x[i].y, y.z + x[i].z, y.w + x[i].w};
            }
    }
}

__global__ void fill_values(size_t count, float value, float *to)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x; n < count; n += stride)
        to[n] = value;
}

geometry geometry_of(const ringx_shape *shape, int64_t tokens, int64_t heads, int64_t dim)
{
    return {shape->batch * tokens * heads, tokens, heads, dim};
}

unsigned grid_of(int64_t work, int64_t each)
{
    int64_t blocks = (work + each - 1) / each, most = 16384;
    return (unsigned)(blocks < most ? blocks : most);
}

ringx_status rescale(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_view acc, ringx_rows m,
                     ringx_rows l, ringx_rows agreed, int, void *stream)
{
    geometry g = geometry_of(shape, tokens, heads, shape->value_dim);
    if (g.rows == 0)
        return RINGX_OK;
    RINGX_CUDA_TRY(ringx__cuda_launch(rescale_rows, grid_of(g.rows, WARPS), WARPS * 32, 0, (cudaStream_t)stream, g, acc,
                                      m, l, agreed));
    return RINGX_OK;
}

bool eights(const ringx_view &v, size_t element)
{
    return ringx__cuda_by(v, element < 4 ? 8 * element : 16, 8);
}

int lanes_of(int64_t dim)
{
    int lanes = 1;
    while (lanes < 32 && 8 * lanes < dim)
        lanes *= 2;
    return lanes;
}

template <typename T>
ringx_status finish_as(const geometry &g, const state_list &list, ringx_view out, ringx_rows lse, cudaStream_t s)
{
    int lanes = lanes_of(g.dim);
    bool whole = g.dim % 8 == 0 && eights(out, sizeof(T));
    for (int k = 0; k < list.count; k++)
        whole = whole && eights(list.state[k].acc, sizeof(float));
    if (whole)
        RINGX_CUDA_TRY(
            ringx__cuda_launch(finish_rows8<T>, grid_of(g.rows, 256 / lanes), 256, 0, s, g, lanes, list, out, lse));
    else
        RINGX_CUDA_TRY(ringx__cuda_launch(finish_rows<T>, grid_of(g.rows, WARPS), WARPS * 32, 0, s, g, list, out, lse));
    return RINGX_OK;
}

ringx_status finish(const ringx_shape *shape, int64_t tokens, int64_t heads, const ringx_state *states, int count,
                    ringx_view out, ringx_rows lse, int, void *stream)
{
    geometry g = geometry_of(shape, tokens, heads, shape->value_dim);
    cudaStream_t s = (cudaStream_t)stream;
    state_list list = {};
    if (g.rows == 0)
        return RINGX_OK;
    for (int k = 0; k < count; k++)
        list.state[k] = states[k];
    list.count = count;
    if (shape->dtype == RINGX_F32)
        return finish_as<float>(g, list, out, lse, s);
    return shape->dtype == RINGX_BF16 ? finish_as<__nv_bfloat16>(g, list, out, lse, s)
                                      : finish_as<__half>(g, list, out, lse, s);
}

template <typename T>
ringx_status delta_as(const geometry &g, ringx_view out, ringx_view dout, ringx_rows delta, cudaStream_t s)
{
    int lanes = lanes_of(g.dim);
    if (g.dim % 8 == 0 && eights(out, sizeof(T)) && eights(dout, sizeof(T)))
        RINGX_CUDA_TRY(
            ringx__cuda_launch(delta_rows8<T>, grid_of(g.rows, 256 / lanes), 256, 0, s, g, lanes, out, dout, delta));
    else
        RINGX_CUDA_TRY(
            ringx__cuda_launch(delta_rows<T>, grid_of(g.rows, WARPS), WARPS * 32, 0, s, g, out, dout, delta));
    return RINGX_OK;
}

ringx_status delta_of(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_view out, ringx_view dout,
                      ringx_rows delta, int, void *stream)
{
    geometry g = geometry_of(shape, tokens, heads, shape->value_dim);
    if (g.rows == 0)
        return RINGX_OK;
    cudaStream_t s = (cudaStream_t)stream;
    if (shape->dtype == RINGX_F32)
        return delta_as<float>(g, out, dout, delta, s);
    return shape->dtype == RINGX_BF16 ? delta_as<__nv_bfloat16>(g, out, dout, delta, s)
                                      : delta_as<__half>(g, out, dout, delta, s);
}

bool together(const ringx_view &v, const geometry &g)
{
    return v.head_stride == g.dim || g.heads == 1;
}

template <typename From, typename To>
ringx_status copy_as(const geometry &g, ringx_view from, ringx_view to, cudaStream_t s)
{
    int64_t width = g.heads * g.dim, all = g.rows / g.heads * (width / 8);
    if (width % 8 || !together(from, g) || !together(to, g) || !eights(from, sizeof(From)) || !eights(to, sizeof(To)))
        RINGX_CUDA_TRY(
            ringx__cuda_launch(copy_elements<From, To>, grid_of(g.rows, WARPS), WARPS * 32, 0, s, g, from, to));
    else if (all < INT32_MAX / 2)
        RINGX_CUDA_TRY(ringx__cuda_launch(copy_tokens8<uint32_t, From, To>, grid_of(all, 256), 256, 0, s, (uint32_t)all,
                                          (uint32_t)(width / 8), (uint32_t)g.tokens, from, to));
    else
        RINGX_CUDA_TRY(ringx__cuda_launch(copy_tokens8<uint64_t, From, To>, grid_of(all, 256), 256, 0, s, (uint64_t)all,
                                          (uint64_t)(width / 8), (uint64_t)g.tokens, from, to));
    return RINGX_OK;
}

template <typename From>
ringx_status copy_from(const geometry &g, ringx_view from, ringx_view to, ringx_dtype to_type, cudaStream_t s)
{
    if (to_type == RINGX_F32)
        return copy_as<From, float>(g, from, to, s);
    if (to_type == RINGX_BF16)
        return copy_as<From, __nv_bfloat16>(g, from, to, s);
    return copy_as<From, __half>(g, from, to, s);
}

ringx_status copy(const ringx_shape *shape, int64_t tokens, int64_t heads, int64_t dim, ringx_view from,
                  ringx_dtype from_type, ringx_view to, ringx_dtype to_type, int, void *stream)
{
    geometry g = geometry_of(shape, tokens, heads, dim);
    if (g.rows == 0 || dim == 0)
        return RINGX_OK;
    cudaStream_t s = (cudaStream_t)stream;
    if (from_type == RINGX_F32)
        return copy_from<float>(g, from, to, to_type, s);
    if (from_type == RINGX_BF16)
        return copy_from<__nv_bfloat16>(g, from, to, to_type, s);
    return copy_from<__half>(g, from, to, to_type, s);
}

template <typename T> ringx_status sum_as(const geometry &g, const summed_list &list, ringx_view to, cudaStream_t s)
{
    int lanes = lanes_of(g.dim);
    bool whole = g.dim % 8 == 0 && eights(to, sizeof(T));
    for (int k = 0; k < list.count; k++)
        whole = whole && eights(list.view[k], sizeof(float));
    if (whole)
        RINGX_CUDA_TRY(ringx__cuda_launch(copy_sums8<T>, grid_of(g.rows, 256 / lanes), 256, 0, s, g, lanes, list, to));
    else
        RINGX_CUDA_TRY(ringx__cuda_launch(copy_sums<T>, grid_of(g.rows, WARPS), WARPS * 32, 0, s, g, list, to));
    return RINGX_OK;
}

ringx_status copy_sum(const ringx_shape *shape, int64_t tokens, int64_t heads, int64_t dim, const ringx_view *from,
                      int count, ringx_view to, ringx_dtype to_type, void *stream)
{
    geometry g = geometry_of(shape, tokens, heads, dim);
    cudaStream_t s = (cudaStream_t)stream;
    summed_list list = {};
    if (g.rows == 0 || dim == 0)
        return RINGX_OK;
    for (int k = 0; k < count; k++)
        list.view[k] = from[k];
    list.count = count;
    if (to_type == RINGX_F32)
        return sum_as<float>(g, list, to, s);
    return to_type == RINGX_BF16 ? sum_as<__nv_bfloat16>(g, list, to, s) : sum_as<__half>(g, list, to, s);
}

ringx_status copy_rows(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_rows from, ringx_rows to, int,
                       void *stream)
{
    int64_t all = shape->batch * tokens * heads;
    if (all == 0)
        return RINGX_OK;
    RINGX_CUDA_TRY(ringx__cuda_launch(copy_row_values, grid_of(all, 256), 256, 0, (cudaStream_t)stream, tokens, heads,
                                      all, from, to));
    return RINGX_OK;
}

template <typename From>
ringx_status convert_from(size_t count, const void *from, void *to, ringx_dtype to_type, void *stream)
{
    dim3 grid = grid_of((int64_t)count, 1024);
    const From *f = (const From *)from;
    if (to_type == RINGX_F32)
        RINGX_CUDA_TRY(ringx__cuda_launch(convert_values<From, float>, grid, 256, 0, stream, count, f, (float *)to));
    else if (to_type == RINGX_BF16)
        RINGX_CUDA_TRY(ringx__cuda_launch(convert_values<From, __nv_bfloat16>, grid, 256, 0, stream, count, f,
                                          (__nv_bfloat16 *)to));
    else
        RINGX_CUDA_TRY(ringx__cuda_launch(convert_values<From, __half>, grid, 256, 0, stream, count, f, (__half *)to));
    return RINGX_OK;
}

ringx_status convert(size_t count, const void *from, ringx_dtype from_type, void *to, ringx_dtype to_type, int,
                     void *stream)
{
    if (count == 0)
        return RINGX_OK;
    if (from_type == RINGX_F32)
        return convert_from<float>(count, from, to, to_type, stream);
    if (from_type == RINGX_BF16)
        return convert_from<__nv_bfloat16>(count, from, to, to_type, stream);
    return convert_from<__half>(count, from, to, to_type, stream);
}

ringx_status add(size_t count, const float *from, float *to, int, void *stream)
{
    if (count == 0)
        return RINGX_OK;
    RINGX_CUDA_TRY(
        ringx__cuda_launch(add_values, grid_of((int64_t)count, 1024), 256, 0, (cudaStream_t)stream, count, from, to));
    return RINGX_OK;
}

ringx_status add_far(size_t count, const float *from, float *to, void *stream)
{
    const unsigned most = 24; /* blocks; 24 · 512 · 128 bytes under way fill a link */
    size_t fours = (uintptr_t)from % 16 == 0 && (uintptr_t)to % 16 == 0 ? count / 4 : 0;
    cudaStream_t s = (cudaStream_t)stream;
    if (fours)
        RINGX_CUDA_TRY(ringx__cuda_launch(add_far_fours, min(grid_of((int64_t)fours, 512), most), 512, 0, s, fours,
                                          (const float4 *)from, (float4 *)to));
    return add(count - 4 * fours, from + 4 * fours, to + 4 * fours, 1, stream);
}

ringx_status fill(size_t count, float value, float *to, int, void *stream)
{
    if (count == 0)
        return RINGX_OK;
    if (value == 0)
        RINGX_CUDA_TRY(cudaMemsetAsync(to, 0, count * sizeof *to, (cudaStream_t)stream));
    else
        RINGX_CUDA_TRY(ringx__cuda_launch(fill_values, grid_of((int64_t)count, 1024), 256, 0, (cudaStream_t)stream,
                                          count, value, to));
    return RINGX_OK;
}

/* ---- loading ---- */

template <typename... K> ringx_status load(K... kernels)
{
    for (const void *kernel : {(const void *)kernels...})
        RINGX_CUDA_TRY(ringx__cuda_load(kernel, 0));
    return RINGX_OK;
}

template <typename From, typename To> ringx_status load_pair()
{
    return load(copy_tokens8<uint32_t, From, To>, copy_tokens8<uint64_t, From, To>, copy_elements<From, To>,
                convert_values<From, To>);
}

template <typename T> ringx_status load_of()
{
    RINGX_TRY((load_pair<T, T>()));
    RINGX_TRY((load_pair<float, T>()));
    RINGX_TRY((load_pair<T, float>()));
    return load(finish_rows<T>, finish_rows8<T>, delta_rows<T>, delta_rows8<T>, copy_sums<T>, copy_sums8<T>);
}

/* Any dtype: partial results travel in another one than the problem's. */
ringx_status prepare(const ringx_shape *)
{
    RINGX_TRY(load_of<float>());
    RINGX_TRY(load_of<__nv_bfloat16>());
    RINGX_TRY(load_of<__half>());
    return load(rescale_rows, copy_row_values, add_values, add_far_fours, fill_values);
}

} // namespace

extern "C" const ringx_rowops ringx__rowops_cuda = {RINGX_CUDA, prepare,   finish,  rescale, delta_of, copy,
                                                    copy_sum,   copy_rows, convert, add,     add_far,  fill};
