/* SPDX-License-Identifier: MIT */
/* bfloat16 and IEEE half: conversions, round to nearest even.  Scalar; kernels have their own vector forms. */
#ifndef RINGX_CORE_HALF_H
#define RINGX_CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float ringx__bits_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t ringx__f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float ringx__bf16_f32(uint16_t h)
{
    return ringx__bits_f32((uint32_t)h << 16);
}

static inline uint16_t ringx__f32_bf16(float f)
{
    uint32_t bits = ringx__f32_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) /* NaN stays NaN */
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float ringx__f16_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    if (rest >= 0x7c00u) /* infinity, NaN */
        return ringx__bits_f32(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest >= 0x0400u)
        return ringx__bits_f32(sign | ((rest << 13) + 0x38000000u));
    float subnormal = (float)rest * 0x1p-24f;
    return ringx__bits_f32(sign | ringx__f32_bits(subnormal));
}

static inline uint16_t ringx__f32_f16(float f)
{
    uint32_t bits = ringx__f32_bits(f), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    if (rest >= 0x477ff000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00u);
    if (rest < 0x38800000u) { /* subnormal: adding 0.5 leaves the half's bits at the bottom of the sum, rounded */
        uint32_t sum = ringx__f32_bits(ringx__bits_f32(rest) + 0.5f);
        return (uint16_t)(sign | (sum - 0x3f000000u));
    }
    return (uint16_t)(sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13);
}

#endif
