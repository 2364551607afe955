/* SPDX-License-Identifier: MIT */
/* Operators on CUDA devices that take each element by itself: GELU, the SiLU gate, sums, dropout, casts.
 *
 * A thread takes 8 neighbours where rows begin at multiples of 16 bytes, else one.  All loads of a thread come before
 * its stores and concern the same elements, so results may be where inputs are.  Bandwidth-bound, but for dropout,
 * whose generator costs about three times as much as its memory. */
#include "nn/nn_cuda.cuh"

enum { THREADS = 256 };

/* Columns first … of rows, in groups: one matrix as it is cut for the threads. */
struct cut {
    uint64_t groups, across; /* across: groups of a row */
    int64_t first;           /* column */
};

template <int INPUTS, int OUTPUTS> struct views {
    nn_view in[INPUTS], out[OUTPUTS];
};

template <class F, int N>
static __global__ void __launch_bounds__(THREADS) each(F f, cut c, views<F::INPUTS, F::OUTPUTS> v)
{
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x, row = 0;
    if (i >= c.groups)
        return;
    if (c.across < c.groups)
        row = c.groups >> 32 ? i / c.across : (uint32_t)i / (uint32_t)c.across;
    int64_t column = c.first + (int64_t)(i - row * c.across) * N;
    nn_raw<N> raw[F::INPUTS];
    float in[F::INPUTS][N], out[F::OUTPUTS][N];
#pragma unroll
    for (int k = 0; k < F::INPUTS; k++)
        nn_fetch(v.in[k].dtype, nn_place(v.in[k], (int64_t)row, column), raw[k]);
#pragma unroll
    for (int k = 0; k < F::INPUTS; k++)
        nn_widen(v.in[k].dtype, raw[k], in[k]);
    f.apply(in, out, (int64_t)row, column);
#pragma unroll
    for (int k = 0; k < F::OUTPUTS; k++)
        nn_store(v.out[k], (int64_t)row, column, out[k]);
}

template <class F, int N>
static int launch(const nn_context *on, const F &f, cut c, const views<F::INPUTS, F::OUTPUTS> &v)
{
    if (c.groups == 0)
        return CODE_GOOD;
    each<F, N><<<(unsigned)nn_cuda_ceil((int64_t)c.groups, THREADS), THREADS, 0, nn_cuda_stream(on)>>>(f, c, v);
    return nn_cuda_launched(F::name());
}

template <class F>
static int run(const nn_context *on, const F &f, int64_t tokens, int64_t width, views<F::INPUTS, F::OUTPUTS> v)
{
    bool aligned = true, packed = F::ANYWHERE;
    if (tokens <= 0 || width <= 0)
        return CODE_GOOD;
    for (int k = 0; k < F::INPUTS + F::OUTPUTS; k++) {
        const nn_view &m = k < F::INPUTS ? v.in[k] : v.out[k - F::INPUTS];
        aligned = aligned && nn_view_aligned(m, tokens);
        packed = packed && m.stride == width;
    }
    if (packed)
        width *= tokens, tokens = 1;
    int64_t eights = aligned ? width / 8 : 0, rest = width - 8 * eights;
    cut whole = {(uint64_t)(tokens * eights), (uint64_t)eights, 0};
    cut odd = {(uint64_t)(tokens * rest), (uint64_t)rest, 8 * eights};
    int code = launch<F, 8>(on, f, whole, v);
    return code ? code : launch<F, 1>(on, f, odd, v);
}

/* ---- GELU ---- */

/* ANYWHERE: does not depend on row and column. */
#define OPERATOR(inputs, outputs, anywhere, text)                                                                      \
    enum { INPUTS = inputs, OUTPUTS = outputs, ANYWHERE = anywhere };                                                  \
    static const char *name()                                                                                          \
    {                                                                                                                  \
        return text;                                                                                                   \
    }

struct gelu {
    OPERATOR(1, 1, 1, "gelu_forward")
    template <int N> __device__ void apply(const float (&in)[1][N], float (&out)[1][N], int64_t, int64_t) const
    {
#pragma unroll
        for (int i = 0; i < N; i++)
            out[0][i] = 0.5f * in[0][i] * (1 + erff(in[0][i] * 0.70710678f));
    }
};

struct gelu_gradient {
    OPERATOR(2, 1, 1, "gelu_backward")
    template <int N> __device__ void apply(const float (&in)[2][N], float (&out)[1][N], int64_t, int64_t) const
    {
#pragma unroll
        for (int i = 0; i < N; i++) {
            float x = in[0][i], below = 0.5f * (1 + erff(x * 0.70710678f)), density = 0.39894228f * expf(-0.5f * x * x);
            out[0][i] = in[1][i] * (below + x * density);
        }
    }
};

int nn_cuda_gelu_forward(const nn_context *on, const nn_map *m)
{
    views<1, 1> v = {{nn_view_of(m->x, m->width)}, {nn_view_of(m->y, m->width)}};
    return run(on, gelu(), m->tokens, m->width, v);
}

int nn_cuda_gelu_backward(const nn_context *on, const nn_map *m)
{
    views<2, 1> v = {{nn_view_of(m->x, m->width), nn_view_of(m->dy, m->width)}, {nn_view_of(m->dx, m->width)}};
    return run(on, gelu_gradient(), m->tokens, m->width, v);
}

/* ---- silu(gate)·up ---- */

static __device__ __forceinline__ float sigmoid(float x)
{
    return __fdividef(1, 1 + expf(-x)); /* exp beyond 2^126: 0, as it should be */
}

struct silu_gate {
    OPERATOR(2, 1, 1, "silu_gate_forward")
    template <int N> __device__ void apply(const float (&in)[2][N], float (&out)[1][N], int64_t, int64_t) const
    {
#pragma unroll
        for (int i = 0; i < N; i++)
            out[0][i] = in[0][i] * sigmoid(in[0][i]) * in[1][i];
    }
};

struct silu_gate_gradient {
    OPERATOR(3, 2, 1, "silu_gate_backward")
    template <int N> __device__ void apply(const float (&in)[3][N], float (&out)[2][N], int64_t, int64_t) const
    {
#pragma unroll
        for (int i = 0; i < N; i++) {
            float x = in[0][i], up = in[1][i], dy = in[2][i], s = sigmoid(x);
            out[0][i] = dy * up * s * (1 + x * (1 - s));
            out[1][i] = dy * x * s;
        }
    }
};

int nn_cuda_silu_gate_forward(const nn_context *on, const nn_gate *g)
{
    int64_t w = g->width;
    views<2, 1> v = {{nn_view_of(g->gate, w), nn_view_of(g->up, w)}, {nn_view_of(g->y, w)}};
    return run(on, silu_gate(), g->tokens, w, v);
}

int nn_cuda_silu_gate_backward(const nn_context *on, const nn_gate *g)
{
    int64_t w = g->width;
    views<3, 2> v = {{nn_view_of(g->gate, w), nn_view_of(g->up, w), nn_view_of(g->dy, w)},
                     {nn_view_of(g->dgate, w), nn_view_of(g->dup, w)}};
    return run(on, silu_gate_gradient(), g->tokens, w, v);
}

/* ---- sums, scaled rows, casts, dropout ---- */

struct sum {
    OPERATOR(2, 1, 1, "add")
    template <int N> __device__ void apply(const float (&in)[2][N], float (&out)[1][N], int64_t, int64_t) const
    {
#pragma unroll
        for (int i = 0; i < N; i++)
            out[0][i] = in[0][i] + in[1][i];
    }
};

struct grow {
    OPERATOR(1, 1, 0, "scale")
    const float *factors;
    template <int N> __device__ void apply(const float (&in)[1][N], float (&out)[1][N], int64_t row, int64_t) const
    {
        float factor = factors[row];
#pragma unroll
        for (int i = 0; i < N; i++)
            out[0][i] = factor * in[0][i];
    }
};

struct copy {
    OPERATOR(1, 1, 1, "cast")
    template <int N> __device__ void apply(const float (&in)[1][N], float (&out)[1][N], int64_t, int64_t) const
    {
#pragma unroll
        for (int i = 0; i < N; i++)
            out[0][i] = in[0][i];
    }
};

/* random_word of tools/shared/numbers.c. */
static __device__ __forceinline__ uint64_t word_of(uint64_t key, uint64_t counter)
{
    uint64_t x = key ^ (counter + 1) * 0x9E3779B97F4A7C15ull;
#pragma unroll
    for (int round = 0; round < 2; round++) {
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
        x = (x ^ x >> 27) * 0x94D049BB133111EBull;
        x ^= x >> 31;
        x += key;
    }
    return x;
}

struct drop {
    OPERATOR(1, 1, 0, "dropout")
    uint64_t seed, threshold; /* of the first 53 bits of a word: below it, an element is dropped */
    float grown;
    const int64_t *rows;
    int64_t row_width, first_column;
    template <int N>
    __device__ void apply(const float (&in)[1][N], float (&out)[1][N], int64_t row, int64_t column) const
    {
        uint64_t first = (uint64_t)((rows ? rows[row] : row) * row_width + first_column + column);
#pragma unroll
        for (int i = 0; i < N; i++)
            out[0][i] = word_of(seed, first + (uint64_t)i) >> 11 < threshold ? 0 : in[0][i] * grown;
    }
};

int nn_cuda_add(const nn_context *on, const nn_sum *s)
{
    views<2, 1> v = {{nn_view_of(s->a, s->width), nn_view_of(s->b, s->width)}, {nn_view_of(s->y, s->width)}};
    return run(on, sum(), s->tokens, s->width, v);
}

int nn_cuda_add_row(const nn_context *on, int64_t tokens, int64_t width, nn_array row, nn_array y)
{
    views<2, 1> v = {{nn_view_of(y, width), {(char *)row.data, 0, (int)row.dtype}}, {nn_view_of(y, width)}};
    return run(on, sum(), tokens, width, v);
}

int nn_cuda_scale(const nn_context *on, const nn_scale *s)
{
    grow f;
    f.factors = s->factors;
    views<1, 1> v = {{nn_view_of(s->x, s->width)}, {nn_view_of(s->y, s->width)}};
    return run(on, f, s->tokens, s->width, v);
}

int nn_cuda_cast(const nn_context *on, const nn_map *m)
{
    views<1, 1> v = {{nn_view_of(m->x, m->width)}, {nn_view_of(m->y, m->width)}};
    return run(on, copy(), m->tokens, m->width, v);
}

int nn_cuda_dropout(const nn_context *on, const nn_dropout *d)
{
    drop f;
    double limit = d->p * 0x1p53; /* exact; k < limit for whole k is k < ceil(limit) */
    f.seed = d->seed, f.threshold = (uint64_t)limit + ((double)(uint64_t)limit < limit);
    f.grown = (float)(1 / (1 - d->p));
    f.rows = d->rows, f.row_width = d->row_width, f.first_column = d->first_column;
    views<1, 1> v = {{nn_view_of(d->x, d->width)}, {nn_view_of(d->y, d->width)}};
    return run(on, f, d->tokens, d->width, v);
}
