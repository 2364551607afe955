/* SPDX-License-Identifier: MIT */
/* What every CPU kernel agrees on about one row: where it lies, its elements, and how a state becomes a result.
 * Using the same expressions everywhere makes "final" and a later finish give the same bits. */
#ifndef RINGX_KERNEL_CPU_ROWS_H
#define RINGX_KERNEL_CPU_ROWS_H

#include <math.h>

#include "core/half.h"
#include "kernel/kernel.h"

#define RINGX_LOG2E 1.44269504088896340736
#define RINGX_LN2   0.69314718055994530942

static inline void *ringx__view_row(const ringx_view *view, size_t element_bytes, int64_t batch, int64_t token,
                                    int64_t head)
{
    int64_t element = batch * view->batch_stride + token * view->token_stride + head * view->head_stride;
    return (char *)view->data + element * (int64_t)element_bytes;
}

static inline float *ringx__rows_at(const ringx_rows *rows, int64_t batch, int64_t head)
{
    return rows->data + batch * rows->batch_stride + head * rows->head_stride;
}

static inline float ringx__load(const void *row, ringx_dtype dtype, int64_t i)
{
    if (dtype == RINGX_F32)
        return ((const float *)row)[i];
    uint16_t bits = ((const uint16_t *)row)[i];
    return dtype == RINGX_BF16 ? ringx__bf16_f32(bits) : ringx__f16_f32(bits);
}

static inline void ringx__store(void *row, ringx_dtype dtype, int64_t i, float value)
{
    if (dtype == RINGX_F32)
        ((float *)row)[i] = value;
    else
        ((uint16_t *)row)[i] = dtype == RINGX_BF16 ? ringx__f32_bf16(value) : ringx__f32_f16(value);
}

/* out of a state: 0 where no key has been reached. */
static inline float ringx__quotient(float acc, float l)
{
    return l == 0 ? 0 : acc / l;
}

/* lse of a state: -inf where no key has been reached. */
static inline float ringx__state_lse(float m, float l)
{
    return l == 0 ? -INFINITY : (float)(RINGX_LN2 * ((double)m + log2((double)l)));
}

/* Local query heads [*first, *end) of the job that use its local kv head. */
static inline void ringx__group_heads(const ringx_job *job, int64_t kv_head, int64_t *first, int64_t *end)
{
    int64_t group = job->shape->group, low = (job->kv_head + kv_head) * group - job->q_head;
    *first = low < 0 ? 0 : low;
    *end = low + group < job->q_heads ? low + group : job->q_heads;
}

#endif
