/* SPDX-License-Identifier: MIT */
/* cpu_simd for AVX-512 (F, BW, VL, DQ): 16 floats a vector, 32 registers. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernel/cpu_rows.h"
#include "kernel/cpu_simd.h"

#define SIMD_ROW  ringx__simd_avx512
#define SIMD_NAME "avx512"
enum { VL = 16, WIDE = 3, WIDE_ROWS = 8, FLAT = 2, FLAT_ROWS = 12, SQUARE = 8 };

typedef __m512 vec;
typedef __m512i ints;
typedef __mmask16 lanes;

static inline vec v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void v_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}

static inline vec v_set1(float a)
{
    return _mm512_set1_ps(a);
}

static inline vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

static inline vec v_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

static inline vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

static inline vec v_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec v_max(vec a, vec b) /* b if either is NaN */
{
    return _mm512_max_ps(a, b);
}

static inline vec v_min(vec a, vec b) /* b if either is NaN */
{
    return _mm512_min_ps(a, b);
}

static inline vec v_abs(vec a)
{
    return _mm512_abs_ps(a);
}

static inline vec v_sign_of(vec magnitude, vec sign)
{
    __m512 bit = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(bit, magnitude), _mm512_and_ps(bit, sign));
}

static inline lanes v_less(vec a, vec b) /* false if either is NaN */
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

static inline vec v_select(lanes which, vec yes, vec no)
{
    return _mm512_mask_blend_ps(which, no, yes);
}

/* 2^(bits - 127) from the low 9 bits of each lane */
static inline vec v_exponent(vec bits)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(bits), 23));
}

static inline ints i_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline ints i_set1(int32_t a)
{
    return _mm512_set1_epi32(a);
}

static inline lanes i_inside(ints low, ints x, ints high) /* low <= x < high */
{
    return _mm512_mask_cmplt_epi32_mask(_mm512_cmple_epi32_mask(low, x), x, high);
}

static inline lanes i_at_least(const uint32_t *words, uint32_t threshold)
{
    return _mm512_cmpge_epu32_mask(_mm512_loadu_si512(words), _mm512_set1_epi32((int32_t)threshold));
}

static inline vec v_load_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline vec v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

#include "kernel/cpu_simd_x86.h"

/* As in the AVX2 file, at twice the width. */
static void philox(uint64_t seed, const uint32_t counter[4][VL], uint32_t word[4][VL])
{
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    __m512i c[2][4];
    for (int i = 0; i < 4; i++) {
        c[0][i] = _mm512_loadu_si512(counter[i]);
        c[1][i] = _mm512_srli_epi64(c[0][i], 32);
    }
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const __m512i v0 = _mm512_set1_epi32((int32_t)k0), v1 = _mm512_set1_epi32((int32_t)k1);
        for (int half = 0; half < 2; half++) {
            __m512i p0 = _mm512_mul_epu32(c[half][0], m0), p1 = _mm512_mul_epu32(c[half][2], m1);
            c[half][0] = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(p1, 32), c[half][1]), v0);
            c[half][2] = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(p0, 32), c[half][3]), v1);
            c[half][1] = p1;
            c[half][3] = p0;
        }
    }
    for (int i = 0; i < 4; i++)
        _mm512_storeu_si512(word[i], _mm512_mask_blend_epi32(0xaaaa, c[0][i], _mm512_slli_epi64(c[1][i], 32)));
}

static bool available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

#include "kernel/cpu_simd_body.h"
#endif
