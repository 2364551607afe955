/* SPDX-License-Identifier: MIT */
/* Packing: rows of any dtype and stride become float panels; padding becomes 0. */

static int64_t round_up(int64_t n, int64_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* Hands out 128-byte-aligned pieces of scratch; with base 0 it only counts. */
typedef struct carver {
    uintptr_t at;
} carver;

static void *carve(carver *c, int64_t count, size_t size)
{
    uintptr_t piece = c->at;
    c->at += ((uintptr_t)count * size + 127) / 128 * 128;
    return (void *)piece;
}

INLINE vec load_as(const void *from, ringx_dtype dtype, int64_t i)
{
    if (dtype == RINGX_F32)
        return v_load((const float *)from + i);
    return dtype == RINGX_BF16 ? v_load_bf16((const uint16_t *)from + i) : v_load_f16((const uint16_t *)from + i);
}

INLINE vec widen_as(const void *from, ringx_dtype dtype, int64_t n, float factor, float *to, int64_t padded, vec odd)
{
    const vec f = v_set1(factor), zero = v_set1(0);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        vec x = v_mul(load_as(from, dtype, i), f);
        odd = v_fma(x, zero, odd);
        v_store(to + i, x);
    }
    for (; i < n; i++) {
        float x = ringx__load(from, dtype, i) * factor;
        odd = v_fma(v_set1(x), zero, odd);
        to[i] = x;
    }
    for (; i < padded; i++)
        to[i] = 0;
    return odd;
}

/* to[0 … padded) = factor·from[0 … n), then zeros.  Returns odd, turned into NaN if any of them is not finite. */
static vec widen_row(const void *from, ringx_dtype dtype, int64_t n, float factor, float *to, int64_t padded, vec odd)
{
    if (dtype == RINGX_F32)
        return widen_as(from, RINGX_F32, n, factor, to, padded, odd);
    if (dtype == RINGX_BF16)
        return widen_as(from, RINGX_BF16, n, factor, to, padded, odd);
    return widen_as(from, RINGX_F16, n, factor, to, padded, odd);
}

enum { AHEAD = 6 }; /* rows */

/* Asks for the row that lies AHEAD tokens after this one, which need not exist: rows are a stride apart, and hardware
 * prefetchers do not follow. */
INLINE void prefetch_ahead(const void *row, const ringx_view *view, int64_t dim, size_t element_bytes)
{
    uintptr_t at = (uintptr_t)row + (uintptr_t)(AHEAD * view->token_stride) * element_bytes;
    for (uintptr_t end = at + (uintptr_t)dim * element_bytes; at < end; at += 64)
        __builtin_prefetch((const void *)at);
}

static bool is_odd(vec odd)
{
    float part[VL];
    v_store(part, odd);
    bool any = false;
    for (int i = 0; i < VL; i++)
        any |= part[i] != part[i];
    return any;
}

/* to[j][i] = from[i][j]; rows and columns multiples of SQUARE */
static void transpose(int64_t rows, int64_t columns, const float *from, int64_t from_stride, float *to,
                      int64_t to_stride)
{
    for (int64_t j = 0; j < columns; j += SQUARE)
        for (int64_t i = 0; i < rows; i += SQUARE)
            transpose_square(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
}

/* Row `row` of panels [n / width][rows][width] = from[0 … n); n a multiple of width */
INLINE void scatter_row(const float *from, int64_t n, int64_t width, int64_t rows, int64_t row, float *panels)
{
    for (int64_t i = 0; i < n; i += width)
        memcpy(panels + (i / width * rows + row) * width, from + i, (size_t)width * sizeof(float));
}
