/* SPDX-License-Identifier: MIT */
/* cpu_simd for AVX2 with FMA and F16C: 8 floats a vector, 16 registers. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "kernel/cpu_rows.h"
#include "kernel/cpu_simd.h"

#define SIMD_ROW  ringx__simd_avx2
#define SIMD_NAME "avx2"
enum { VL = 8, WIDE = 3, WIDE_ROWS = 4, FLAT = 2, FLAT_ROWS = 6, SQUARE = 8 };

typedef __m256 vec;
typedef __m256i ints;
typedef __m256 lanes; /* all ones or all zeros a lane */

static inline vec v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void v_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a);
}

static inline vec v_set1(float a)
{
    return _mm256_set1_ps(a);
}

static inline vec v_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

static inline vec v_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

static inline vec v_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

static inline vec v_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec v_max(vec a, vec b) /* b if either is NaN */
{
    return _mm256_max_ps(a, b);
}

static inline vec v_min(vec a, vec b) /* b if either is NaN */
{
    return _mm256_min_ps(a, b);
}

static inline vec v_abs(vec a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline vec v_sign_of(vec magnitude, vec sign)
{
    __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign));
}

static inline lanes v_less(vec a, vec b) /* false if either is NaN */
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

static inline vec v_select(lanes which, vec yes, vec no)
{
    return _mm256_blendv_ps(no, yes, which);
}

/* 2^(bits - 127) from the low 9 bits of each lane */
static inline vec v_exponent(vec bits)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(bits), 23));
}

static inline ints i_load(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline ints i_set1(int32_t a)
{
    return _mm256_set1_epi32(a);
}

static inline lanes i_inside(ints low, ints x, ints high) /* low <= x < high */
{
    return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpgt_epi32(low, x), _mm256_cmpgt_epi32(high, x)));
}

static inline lanes i_at_least(const uint32_t *words, uint32_t threshold)
{
    __m256i w = _mm256_loadu_si256((const __m256i *)words), t = _mm256_set1_epi32((int32_t)threshold);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(w, t), w));
}

static inline vec v_load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline vec v_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

#include "kernel/cpu_simd_x86.h"

/* Philox4x32-10 of VL counters; two products a vector, so even and odd lanes go separately.  The upper half of each
 * 64-bit lane holds rubbish that no product reads. */
static void philox(uint64_t seed, const uint32_t counter[4][VL], uint32_t word[4][VL])
{
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    __m256i c[2][4];
    for (int i = 0; i < 4; i++) {
        c[0][i] = _mm256_loadu_si256((const __m256i *)counter[i]);
        c[1][i] = _mm256_srli_epi64(c[0][i], 32);
    }
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const __m256i v0 = _mm256_set1_epi32((int32_t)k0), v1 = _mm256_set1_epi32((int32_t)k1);
        for (int half = 0; half < 2; half++) {
            __m256i p0 = _mm256_mul_epu32(c[half][0], m0), p1 = _mm256_mul_epu32(c[half][2], m1);
            c[half][0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c[half][1]), v0);
            c[half][2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c[half][3]), v1);
            c[half][1] = p1;
            c[half][3] = p0;
        }
    }
    for (int i = 0; i < 4; i++) {
        __m256i both = _mm256_blend_epi32(c[0][i], _mm256_slli_epi64(c[1][i], 32), 0xaa);
        _mm256_storeu_si256((__m256i *)word[i], both);
    }
}

static bool available(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & bit_F16C);
}

#include "kernel/cpu_simd_body.h"
#endif
