/* SPDX-License-Identifier: MIT */
/* What the AVX2 and AVX-512 files share.  Included once by each of them. */

/* to[j][i] = from[i][j] of 8 × 8 floats */
static inline void transpose_square(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    __m256 r[8], s[8];
    for (int i = 0; i < 4; i++) { /* rows i and i + 4 side by side, halves apart */
        __m128 a = _mm_loadu_ps(from + i * from_stride), b = _mm_loadu_ps(from + (i + 4) * from_stride);
        __m128 c = _mm_loadu_ps(from + i * from_stride + 4), d = _mm_loadu_ps(from + (i + 4) * from_stride + 4);
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(a), b, 1);
        r[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(c), d, 1);
    }
    for (int i = 0; i < 8; i += 4) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        s[i + 2] = _mm256_unpacklo_ps(r[i + 2], r[i + 3]);
        s[i + 3] = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        _mm256_storeu_ps(to + i * to_stride, _mm256_shuffle_ps(s[i], s[i + 2], 0x44));
        _mm256_storeu_ps(to + (i + 1) * to_stride, _mm256_shuffle_ps(s[i], s[i + 2], 0xee));
        _mm256_storeu_ps(to + (i + 2) * to_stride, _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44));
        _mm256_storeu_ps(to + (i + 3) * to_stride, _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee));
    }
}
