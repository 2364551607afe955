/* SPDX-License-Identifier: MIT */
/* Rotary position embedding and patches of images on CUDA devices (layouts: rope.c, patches.c). */
#include "nn/nn_cuda.cuh"

enum { THREADS = 256 };

/* ---- rotary embedding ---- */

enum { FREQUENCIES = 256 }; /* of one launch: they travel with its arguments, so that the host's array may go */

struct frequencies {
    double value[FREQUENCIES];
};

static __global__ void fill_table(nn_rope_table r, frequencies f, int64_t first, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, t = i / count, pair = i % count;
    if (t >= r.tokens)
        return;
    double angle = (double)r.positions[t] * f.value[pair], cosine, sine;
    sincos(angle, &sine, &cosine);
    ((float2 *)r.table)[t * r.pairs + first + pair] = make_float2((float)cosine, (float)sine);
}

int nn_cuda_rope_table(const nn_context *on, const nn_rope_table *r)
{
    int code = CODE_GOOD;
    for (int64_t first = 0; first < r->pairs && r->tokens > 0 && !code; first += FREQUENCIES) {
        frequencies f = {};
        int64_t count = min(r->pairs - first, (int64_t)FREQUENCIES);
        for (int64_t i = 0; i < count; i++)
            f.value[i] = r->frequencies[first + i];
        fill_table<<<(unsigned)nn_cuda_ceil(r->tokens * count, THREADS), THREADS, 0, nn_cuda_stream(on)>>>(*r, f, first,
                                                                                                           count);
        code = nn_cuda_launched("rope_table");
    }
    return code;
}

struct rope {
    int64_t heads, head_dim, pairs, period, groups; /* groups: of N pairs, in a head */
    int64_t all;                                    /* threads with work */
    nn_view x;
    const float *table;
    float sign;
};

/* A thread turns N pairs of a head; neighbours have the same token. */
template <int N> static __global__ void __launch_bounds__(THREADS) turn(rope r)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= r.all)
        return;
    int64_t pair = i % r.groups * N, head = i / r.groups % r.heads, t = i / (r.groups * r.heads);
    int64_t column = head * r.head_dim + pair;
    const float2 *table = (const float2 *)r.table + t % r.period * r.pairs + pair;
    float a[N], b[N];
    nn_raw<N> raw[2];
    nn_fetch(r.x.dtype, nn_place(r.x, t, column), raw[0]);
    nn_fetch(r.x.dtype, nn_place(r.x, t, column + r.pairs), raw[1]);
    nn_widen(r.x.dtype, raw[0], a);
    nn_widen(r.x.dtype, raw[1], b);
#pragma unroll
    for (int k = 0; k < N; k++) {
        float2 turned = table[k];
        float x = a[k], y = b[k], sine = r.sign * turned.y;
        a[k] = x * turned.x - y * sine;
        b[k] = y * turned.x + x * sine;
    }
    nn_store(r.x, t, column, a);
    nn_store(r.x, t, column + r.pairs, b);
}

int nn_cuda_rope(const nn_context *on, const nn_rope *given)
{
    rope r = {given->heads, given->head_dim, given->pairs, given->period};
    r.x = nn_view_of(given->x, r.heads * r.head_dim), r.table = given->table, r.sign = given->inverse ? -1 : 1;
    bool eights = r.pairs % 8 == 0 && r.head_dim % 8 == 0 && nn_view_aligned(r.x, given->tokens);
    r.groups = eights ? r.pairs / 8 : r.pairs;
    r.all = given->tokens * r.heads * r.groups;
    if (r.all <= 0)
        return CODE_GOOD;
    unsigned blocks = (unsigned)nn_cuda_ceil(r.all, THREADS);
    if (eights)
        turn<8><<<blocks, THREADS, 0, nn_cuda_stream(on)>>>(r);
    else
        turn<1><<<blocks, THREADS, 0, nn_cuda_stream(on)>>>(r);
    return nn_cuda_launched("rope");
}

/* ---- patches ---- */

struct patches {
    int64_t channels, height, width, patch, tokens, row, all; /* row: elements of a patch; all: elements */
    const int64_t *positions;
    nn_view image, patch_rows;
};

/* A thread an element of the patches. */
static __global__ void __launch_bounds__(THREADS) move(patches p, bool gather)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.all)
        return;
    int64_t patch = i / p.row, at = i % p.row, across = p.width / p.patch, token = patch % p.tokens;
    int64_t position = p.positions ? p.positions[token] : token;
    int64_t channel = at / (p.patch * p.patch), line = at / p.patch % p.patch;
    int64_t y = position / across * p.patch + line, x = position % across * p.patch + at % p.patch;
    int64_t pixel = ((patch / p.tokens * p.channels + channel) * p.height + y) * p.width + x;
    float value[1];
    nn_load(gather ? p.image : p.patch_rows, gather ? 0 : patch, gather ? pixel : at, value);
    nn_store(gather ? p.patch_rows : p.image, gather ? patch : 0, gather ? at : pixel, value);
}

static int move_all(const nn_context *on, const nn_patches *p, bool gather)
{
    if (p->patch < 1 || p->height % p->patch || p->width % p->patch)
        return fail(CODE_CONFIGURATION, "patch is %lld; it must divide the image's height %lld and width %lld",
                    (long long)p->patch, (long long)p->height, (long long)p->width);
    int64_t row = p->channels * p->patch * p->patch;
    patches q = {p->channels, p->height, p->width, p->patch, p->tokens, row, p->batch * p->tokens * row};
    q.positions = p->positions, q.image = nn_view_of(p->image, 0), q.patch_rows = nn_view_of(p->patches, row);
    if (q.all <= 0)
        return CODE_GOOD;
    move<<<(unsigned)nn_cuda_ceil(q.all, THREADS), THREADS, 0, nn_cuda_stream(on)>>>(q, gather);
    return nn_cuda_launched(gather ? "patches_gather" : "patches_scatter");
}

int nn_cuda_patches_gather(const nn_context *on, const nn_patches *p)
{
    return move_all(on, p, true);
}

int nn_cuda_patches_scatter(const nn_context *on, const nn_patches *p)
{
    return move_all(on, p, false);
}
