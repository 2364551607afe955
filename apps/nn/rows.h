/* SPDX-License-Identifier: MIT */
/* Rows of matrices of any dtype as floats, a block of columns at a time: in place for f32, through a buffer for halves.
 */
#ifndef NN_ROWS_H
#define NN_ROWS_H

#include "nn/operators.h"
#include "shared/numbers.h"

#include <string.h>

enum { NN_BLOCK = 512 }; /* columns */

static inline int64_t nn_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Whether so many operations are worth waking other threads. */
static inline bool nn_worth(int64_t operations)
{
    return operations >= 1 << 16;
}

/* Element (row, column) of a matrix that is `width` wide. */
static inline void *nn_at(const nn_array *a, int64_t width, int64_t row, int64_t column)
{
    int64_t stride = a->stride ? a->stride : width;
    return (char *)a->data + (size_t)(row * stride + column) * dtype_bytes(a->dtype);
}

static inline void nn_halves_to_floats(ringx_dtype dtype, const uint16_t *from, float *to, int64_t count)
{
    if (dtype == RINGX_F16) {
        for (int64_t i = 0; i < count; i++)
            to[i] = half_to_float(RINGX_F16, from[i]);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
}

/* count values from there as floats: where they are, or in the buffer. */
static inline const float *nn_load(ringx_dtype dtype, const void *from, int64_t count, float *buffer)
{
    if (dtype == RINGX_F32)
        return from;
    nn_halves_to_floats(dtype, from, buffer, count);
    return buffer;
}

/* Where count results for `to` may be written; nn_store brings them there if it is the buffer. */
static inline float *nn_place(ringx_dtype dtype, void *to, float *buffer)
{
    return dtype == RINGX_F32 ? to : buffer;
}

static inline void nn_store(ringx_dtype dtype, void *to, int64_t count, const float *from)
{
    if (dtype == RINGX_F32)
        return;
    uint16_t *halves = to;
    for (int64_t i = 0; i < count; i++)
        halves[i] = float_to_half(dtype, from[i]);
}

#endif
