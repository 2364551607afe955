/* SPDX-License-Identifier: MIT */
/* Numbers: half precision, reproducible random values, poison. */
#include "shared/numbers.h"

#include <string.h>

size_t dtype_bytes(ringx_dtype dtype)
{
    return dtype == RINGX_F32 ? 4 : 2;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Half formats by their fields: bf16 has 8 exponent bits and 7 of mantissa, f16 5 and 10. */
typedef struct half_format {
    int mantissa, bias, top; /* top: exponent field of infinity */
} half_format;

static half_format format_of(ringx_dtype dtype)
{
    return dtype == RINGX_BF16 ? (half_format){7, 127, 255} : (half_format){10, 15, 31};
}

float half_to_float(ringx_dtype dtype, uint16_t half)
{
    if (dtype == RINGX_BF16)
        return float_of((uint32_t)half << 16);
    uint32_t sign = (uint32_t)(half >> 15) << 31, exponent = half >> 10 & 31u, mantissa = half & 1023u;
    if (exponent == 31)
        return float_of(sign | 0x7f800000u | mantissa << 13);
    if (exponent)
        return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    float small = (float)mantissa * 0x1p-24f;
    return sign ? -small : small;
}

uint16_t float_to_half(ringx_dtype dtype, float value)
{
    half_format f = format_of(dtype);
    uint32_t bits = bits_of(value), sign = bits >> 31 << 15;
    uint32_t infinity = (uint32_t)f.top << f.mantissa;
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(sign | infinity | 1u << (f.mantissa - 1));
    int exponent = (int)(bits >> 23 & 255u) - 127 + f.bias;
    uint64_t mantissa = (bits & 0x7fffffu) | ((bits >> 23 & 255u) ? 0x800000u : 0u);
    if ((bits >> 23 & 255u) == 0)
        exponent++;
    if (exponent >= f.top)
        return (uint16_t)(sign | infinity);
    int drop = 23 - f.mantissa + (exponent < 1 ? 1 - exponent : 0); /* bits that do not fit; more for subnormals */
    if (drop > 40)
        return (uint16_t)sign;
    uint64_t kept = mantissa >> drop, rest = mantissa & ((UINT64_C(1) << drop) - 1), tie = UINT64_C(1) << (drop - 1);
    kept += rest > tie || (rest == tie && (kept & 1));
    /* a carry out of the mantissa raises the exponent by itself */
    uint64_t whole = exponent < 1 ? kept : kept + ((uint64_t)(exponent - 1) << f.mantissa);
    return (uint16_t)(sign | (whole > infinity ? infinity : whole));
}

void to_doubles(ringx_dtype dtype, const void *from, double *to, size_t count)
{
    if (dtype == RINGX_F32) {
        const float *x = from;
        for (size_t i = 0; i < count; i++)
            to[i] = (double)x[i];
        return;
    }
    const uint16_t *x = from;
    for (size_t i = 0; i < count; i++)
        to[i] = (double)half_to_float(dtype, x[i]);
}

void from_doubles(ringx_dtype dtype, const double *from, void *to, size_t count)
{
    float *x = to;
    uint16_t *h = to;
    for (size_t i = 0; i < count; i++) {
        if (dtype == RINGX_F32)
            x[i] = (float)from[i];
        else
            h[i] = float_to_half(dtype, (float)from[i]);
    }
}

uint64_t random_word(uint64_t key, uint64_t counter)
{
    uint64_t x = key ^ (counter + 1) * UINT64_C(0x9E3779B97F4A7C15); /* finaliser of splitmix64, applied twice */
    for (int round = 0; round < 2; round++) {
        x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
        x ^= x >> 31;
        x += key;
    }
    return x;
}

uint64_t random_below(random_stream *stream, uint64_t bound)
{
    return (uint64_t)((unsigned __int128)random_word(stream->key, stream->counter++) * bound >> 64);
}

int64_t random_between(random_stream *stream, int64_t low, int64_t high)
{
    return low + (int64_t)random_below(stream, (uint64_t)(high - low) + 1);
}

bool random_chance(random_stream *stream, double probability)
{
    return (double)(random_word(stream->key, stream->counter++) >> 11) * 0x1p-53 < probability;
}

float random_normal(uint64_t key, uint64_t i)
{
    uint64_t w = random_word(key, i); /* four 16-bit uniforms: their sum is normal enough */
    uint32_t sum =
        (uint32_t)(w & 0xffff) + (uint32_t)(w >> 16 & 0xffff) + (uint32_t)(w >> 32 & 0xffff) + (uint32_t)(w >> 48);
    return ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
}

void random_fill(ringx_dtype dtype, uint64_t key, uint64_t first, double size, void *to, size_t count)
{
    float *x = to, scale = (float)size;
    uint16_t *h = to;
    for (size_t i = 0; i < count; i++) {
        float value = scale * random_normal(key, first + i);
        if (dtype == RINGX_F32)
            x[i] = value;
        else
            h[i] = float_to_half(dtype, value);
    }
}

void poison(void *memory, size_t bytes)
{
    memset(memory, POISON, bytes);
}
