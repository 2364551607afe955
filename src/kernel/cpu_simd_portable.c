/* SPDX-License-Identifier: MIT */
/* cpu_simd for any processor: 4 floats a vector, in the compiler's vector extension. */
#include "core/philox.h"
#include "kernel/cpu_rows.h"
#include "kernel/cpu_simd.h"

#define SIMD_ROW  ringx__simd_portable
#define SIMD_NAME "portable"
enum { VL = 4, WIDE = 3, WIDE_ROWS = 4, FLAT = 2, FLAT_ROWS = 6, SQUARE = 4 };

typedef float vec __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));
typedef ints lanes; /* all ones or all zeros a lane */

static inline vec v_load(const float *p)
{
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}

static inline void v_store(float *p, vec a)
{
    memcpy(p, &a, sizeof a);
}

static inline vec v_set1(float a)
{
    return (vec){a, a, a, a};
}

static inline vec v_add(vec a, vec b)
{
    return a + b;
}

static inline vec v_sub(vec a, vec b)
{
    return a - b;
}

static inline vec v_mul(vec a, vec b)
{
    return a * b;
}

static inline vec v_div(vec a, vec b)
{
    return a / b;
}

static inline vec v_fma(vec a, vec b, vec c)
{
#ifdef __FP_FAST_FMAF
    for (int i = 0; i < VL; i++)
        c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;
#endif
}

static inline vec v_select(lanes which, vec yes, vec no)
{
    return (vec)(((ints)yes & which) | ((ints)no & ~which));
}

static inline vec v_max(vec a, vec b) /* b if either is NaN */
{
    return v_select(a > b, a, b);
}

static inline vec v_min(vec a, vec b) /* b if either is NaN */
{
    return v_select(a < b, a, b);
}

static inline vec v_abs(vec a)
{
    return (vec)((ints)a & 0x7fffffff);
}

static inline vec v_sign_of(vec magnitude, vec sign)
{
    return (vec)(((ints)magnitude & 0x7fffffff) | ((ints)sign & ~0x7fffffff));
}

static inline lanes v_less(vec a, vec b) /* false if either is NaN */
{
    return a < b;
}

/* 2^(bits - 127) from the low 9 bits of each lane */
static inline vec v_exponent(vec bits)
{
    return (vec)((__attribute__((vector_size(16))) uint32_t)bits << 23);
}

static inline ints i_load(const int32_t *p)
{
    ints a;
    memcpy(&a, p, sizeof a);
    return a;
}

static inline ints i_set1(int32_t a)
{
    return (ints){a, a, a, a};
}

static inline lanes i_inside(ints low, ints x, ints high) /* low <= x < high */
{
    return (low <= x) & (x < high);
}

static inline lanes i_at_least(const uint32_t *words, uint32_t threshold)
{
    lanes which;
    for (int i = 0; i < VL; i++)
        which[i] = words[i] >= threshold ? -1 : 0;
    return which;
}

static inline vec v_load_bf16(const uint16_t *p)
{
    return (vec){ringx__bf16_f32(p[0]), ringx__bf16_f32(p[1]), ringx__bf16_f32(p[2]), ringx__bf16_f32(p[3])};
}

static inline vec v_load_f16(const uint16_t *p)
{
    return (vec){ringx__f16_f32(p[0]), ringx__f16_f32(p[1]), ringx__f16_f32(p[2]), ringx__f16_f32(p[3])};
}

/* to[j][i] = from[i][j] of 4 × 4 floats */
static inline void transpose_square(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int j = 0; j < SQUARE; j++)
        v_store(to + j * to_stride,
                (vec){from[j], from[from_stride + j], from[2 * from_stride + j], from[3 * from_stride + j]});
}

static void philox(uint64_t seed, const uint32_t counter[4][VL], uint32_t word[4][VL])
{
    for (int lane = 0; lane < VL; lane++) {
        uint32_t c[4] = {counter[0][lane], counter[1][lane], counter[2][lane], counter[3][lane]}, w[4];
        ringx__philox(seed, c, w);
        for (int i = 0; i < 4; i++)
            word[i][lane] = w[i];
    }
}

static bool available(void)
{
    return true;
}

#include "kernel/cpu_simd_body.h"
