/* SPDX-License-Identifier: MIT */
/* Row-wise operations on CPUs.  Every row is independent, so results do not depend on the number of threads. */
#include <string.h>

#include "kernel/cpu_rows.h"

#define WORTH_THREADS (1 << 15) /* elements below which starting threads costs more than it gains */

static int useful_threads(int threads, int64_t elements)
{
    return elements < WORTH_THREADS ? 1 : threads;
}

/* ---- conversions
 * ------------------------------------------------------------------------------------------------------ */

static void bf16_to_f32(const uint16_t *restrict from, float *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = ringx__bf16_f32(from[i]);
}

static void f16_to_f32(const uint16_t *restrict from, float *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = ringx__f16_f32(from[i]);
}

static void f32_to_bf16(const float *restrict from, uint16_t *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = ringx__f32_bf16(from[i]);
}

static void f32_to_f16(const float *restrict from, uint16_t *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = ringx__f32_f16(from[i]);
}

static void widen(const void *from, ringx_dtype dtype, float *to, int64_t n)
{
    if (dtype == RINGX_F32)
        memcpy(to, from, (size_t)n * sizeof(float));
    else if (dtype == RINGX_BF16)
        bf16_to_f32(from, to, n);
    else
        f16_to_f32(from, to, n);
}

static void narrow(const float *from, void *to, ringx_dtype dtype, int64_t n)
{
    if (dtype == RINGX_F32)
        memcpy(to, from, (size_t)n * sizeof(float));
    else if (dtype == RINGX_BF16)
        f32_to_bf16(from, to, n);
    else
        f32_to_f16(from, to, n);
}

static void convert(const void *from, ringx_dtype from_type, void *to, ringx_dtype to_type, int64_t n)
{
    if (from_type == to_type) {
        memmove(to, from, (size_t)n * ringx__dtype_bytes(to_type));
        return;
    }
    if (from_type == RINGX_F32) {
        narrow(from, to, to_type, n);
        return;
    }
    if (to_type == RINGX_F32) {
        widen(from, from_type, to, n);
        return;
    }
    float piece[256];
    for (int64_t i = 0; i < n; i += 256) {
        int64_t part = n - i < 256 ? n - i : 256;
        widen((const uint16_t *)from + i, from_type, piece, part);
        narrow(piece, (uint16_t *)to + i, to_type, part);
    }
}

/* ---- operations
 * ------------------------------------------------------------------------------------------------------- */

/* Folds one row of several states: acc into row, l is returned, m into *top.  Empty is what has l = 0: a NaN stays. */
static float fold_row(const ringx_state *states, int count, int64_t b, int64_t t, int64_t h, int64_t dim, float *row,
                      float *top)
{
    float sum = 0;
    bool begun = false;
    *top = -INFINITY;
    for (int i = 0; i < count; i++)
        *top = fmaxf(*top, ringx__rows_at(&states[i].m, b, h)[t]);
    for (int i = 0; i < count; i++) {
        const float *acc = ringx__view_row(&states[i].acc, sizeof(float), b, t, h);
        float own = ringx__rows_at(&states[i].m, b, h)[t], l = ringx__rows_at(&states[i].l, b, h)[t];
        if (l == 0)
            continue;
        float w = own == *top ? 1 : (float)exp2((double)own - (double)*top);
        sum += w * l;
        for (int64_t e = 0; e < dim; e++)
            row[e] = begun ? row[e] + w * acc[e] : w * acc[e];
        begun = true;
    }
    if (!begun)
        memset(row, 0, (size_t)dim * sizeof *row);
    return sum;
}

static ringx_status finish(const ringx_shape *shape, int64_t tokens, int64_t heads, const ringx_state *states,
                           int count, ringx_view out, ringx_rows lse, int threads, void *stream)
{
    (void)stream;
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    int64_t batch = shape->batch, dim = shape->value_dim;
    const int team = useful_threads(threads, batch * tokens * heads * dim);
#pragma omp parallel for collapse(2) num_threads(team)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t h = 0; h < heads; h++) {
                float row[256], top, sum = fold_row(states, count, b, t, h, dim, row, &top);
                ringx__rows_at(&lse, b, h)[t] = ringx__state_lse(top, sum);
                for (int64_t e = 0; e < dim; e++)
                    row[e] = ringx__quotient(row[e], sum);
                narrow(row, ringx__view_row(&out, bytes, b, t, h), shape->dtype, dim);
            }
    return RINGX_OK;
}

static ringx_status rescale(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_view acc, ringx_rows m,
                            ringx_rows l, ringx_rows agreed, int threads, void *stream)
{
    (void)stream;
    int64_t batch = shape->batch, dim = shape->value_dim;
    const int team = useful_threads(threads, batch * tokens * heads * dim);
#pragma omp parallel for collapse(2) num_threads(team)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t h = 0; h < heads; h++) {
                float *row = ringx__view_row(&acc, sizeof(float), b, t, h);
                float *own = &ringx__rows_at(&m, b, h)[t], top = ringx__rows_at(&agreed, b, h)[t];
                float w = *own == -INFINITY ? 0 : (float)exp2((double)*own - (double)top);
                for (int64_t e = 0; e < dim; e++)
                    row[e] *= w;
                ringx__rows_at(&l, b, h)[t] *= w;
                *own = top;
            }
    return RINGX_OK;
}

static ringx_status delta_rows(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_view out, ringx_view dout,
                               ringx_rows delta, int threads, void *stream)
{
    (void)stream;
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    int64_t batch = shape->batch, dim = shape->value_dim;
    const int team = useful_threads(threads, batch * tokens * heads * dim);
#pragma omp parallel for collapse(2) num_threads(team)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t h = 0; h < heads; h++) {
                float o[256], g[256], part[8] = {0};
                widen(ringx__view_row(&out, bytes, b, t, h), shape->dtype, o, dim);
                widen(ringx__view_row(&dout, bytes, b, t, h), shape->dtype, g, dim);
                for (int64_t e = 0; e < dim; e++)
                    part[e & 7] += o[e] * g[e];
                ringx__rows_at(&delta, b, h)[t] =
                    ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
            }
    return RINGX_OK;
}

static ringx_status copy(const ringx_shape *shape, int64_t tokens, int64_t heads, int64_t dim, ringx_view from,
                         ringx_dtype from_type, ringx_view to, ringx_dtype to_type, int threads, void *stream)
{
    (void)stream;
    size_t from_bytes = ringx__dtype_bytes(from_type), to_bytes = ringx__dtype_bytes(to_type);
    int64_t batch = shape->batch, width = dim;
    if (from.head_stride == dim && to.head_stride == dim) { /* the heads of a token are one row */
        width *= heads;
        heads = heads > 0;
    }
    const int team = useful_threads(threads, batch * tokens * heads * width);
#pragma omp parallel for collapse(2) num_threads(team)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t h = 0; h < heads; h++)
                convert(ringx__view_row(&from, from_bytes, b, t, h), from_type, ringx__view_row(&to, to_bytes, b, t, h),
                        to_type, width);
    return RINGX_OK;
}

static ringx_status copy_rows(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_rows from, ringx_rows to,
                              int threads, void *stream)
{
    (void)stream;
    int64_t batch = shape->batch;
    const int team = useful_threads(threads, batch * tokens * heads);
#pragma omp parallel for collapse(2) num_threads(team)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t h = 0; h < heads; h++)
            if (tokens > 0)
                memmove(ringx__rows_at(&to, b, h), ringx__rows_at(&from, b, h), (size_t)tokens * sizeof(float));
    return RINGX_OK;
}

static ringx_status convert_all(size_t count, const void *from, ringx_dtype from_type, void *to, ringx_dtype to_type,
                                int threads, void *stream)
{
    (void)stream;
    const size_t piece = WORTH_THREADS, in = ringx__dtype_bytes(from_type), out = ringx__dtype_bytes(to_type);
    const int team = useful_threads(threads, (int64_t)count);
#pragma omp parallel for num_threads(team)
    for (size_t i = 0; i < count; i += piece)
        convert((const char *)from + i * in, from_type, (char *)to + i * out, to_type,
                (int64_t)(count - i < piece ? count - i : piece));
    return RINGX_OK;
}

static ringx_status add(size_t count, const float *from, float *to, int threads, void *stream)
{
    (void)stream;
    const int team = useful_threads(threads, (int64_t)count);
#pragma omp parallel for simd num_threads(team)
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
    return RINGX_OK;
}

static ringx_status fill(size_t count, float value, float *to, int threads, void *stream)
{
    (void)stream;
    const int team = useful_threads(threads, (int64_t)count);
#pragma omp parallel for simd num_threads(team)
    for (size_t i = 0; i < count; i++)
        to[i] = value;
    return RINGX_OK;
}

const ringx_rowops ringx__rowops_cpu = {
    .device = RINGX_CPU,
    .finish = finish,
    .rescale = rescale,
    .delta = delta_rows,
    .copy = copy,
    .copy_rows = copy_rows,
    .convert = convert_all,
    .add = add,
    .fill = fill,
};
