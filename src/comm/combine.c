/* SPDX-License-Identifier: MIT */
/* Sums and maxima over ranks.  Source by source over blocks that stay in the first-level cache. */
#include "comm/combine.h"
#include "core/half.h"

#include <string.h>

enum { BLOCK = 1024 };

static void add_f32(float *restrict sum, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static void widen(float *restrict out, const uint16_t *restrict x, size_t n, ringx_dtype dtype)
{
    if (dtype == RINGX_BF16) {
        for (size_t i = 0; i < n; i++)
            out[i] = ringx__bf16_f32(x[i]);
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] = ringx__f16_f32(x[i]);
    }
}

static void narrow(uint16_t *restrict out, const float *restrict x, size_t n, ringx_dtype dtype)
{
    if (dtype == RINGX_BF16) {
        for (size_t i = 0; i < n; i++)
            out[i] = ringx__f32_bf16(x[i]);
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] = ringx__f32_f16(x[i]);
    }
}

void ringx__combine_sum(const void *const *from, int sources, size_t count, ringx_dtype dtype, void *to)
{
    float sum[BLOCK], wide[BLOCK];
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t n = count - first < BLOCK ? count - first : BLOCK;
        if (dtype == RINGX_F32) {
            memcpy(sum, (const float *)from[0] + first, n * sizeof *sum);
            for (int s = 1; s < sources; s++)
                add_f32(sum, (const float *)from[s] + first, n);
            memcpy((float *)to + first, sum, n * sizeof *sum);
            continue;
        }
        widen(sum, (const uint16_t *)from[0] + first, n, dtype);
        for (int s = 1; s < sources; s++) {
            widen(wide, (const uint16_t *)from[s] + first, n, dtype);
            add_f32(sum, wide, n);
        }
        narrow((uint16_t *)to + first, sum, n, dtype);
    }
}

void ringx__combine_max(const float *const *from, int sources, size_t count, float *to)
{
    float top[BLOCK];
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t n = count - first < BLOCK ? count - first : BLOCK;
        memcpy(top, from[0] + first, n * sizeof *top);
        for (int s = 1; s < sources; s++) {
            const float *x = from[s] + first;
            for (size_t i = 0; i < n; i++)
                top[i] = x[i] > top[i] || x[i] != x[i] ? x[i] : top[i];
        }
        memcpy(to + first, top, n * sizeof *top);
    }
}
