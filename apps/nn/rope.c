/* SPDX-License-Identifier: MIT */
/* Rotary position embedding on CPUs: halves of a head are rotated against each other (the layout of Hugging Face). */
#include "nn/nn_cpu.h"
#include "nn/rows.h"

#include <math.h>

int nn_cpu_rope_table(const nn_context *on, const nn_rope_table *r)
{
    (void)on;
#pragma omp parallel for schedule(static) if (nn_worth(8 * r->tokens * r->pairs))
    for (int64_t t = 0; t < r->tokens; t++)
        for (int64_t i = 0; i < r->pairs; i++) {
            double angle = (double)r->positions[t] * r->frequencies[i];
            float *entry = r->table + (t * r->pairs + i) * 2;
            entry[0] = (float)cos(angle), entry[1] = (float)sin(angle);
        }
    return 0;
}

/* Pairs first … first+count-1 of one head. */
static void rotate(const nn_rope *r, const float *table, void *low, void *high, int64_t count)
{
    float low_buffer[NN_BLOCK], high_buffer[NN_BLOCK];
    if (r->x.dtype != RINGX_F32) {
        nn_halves_to_floats(r->x.dtype, low, low_buffer, count);
        nn_halves_to_floats(r->x.dtype, high, high_buffer, count);
    }
    float *a = nn_place(r->x.dtype, low, low_buffer), *b = nn_place(r->x.dtype, high, high_buffer);
    for (int64_t i = 0; i < count; i++) {
        float cosine = table[2 * i], sine = r->inverse ? -table[2 * i + 1] : table[2 * i + 1], x = a[i], y = b[i];
        a[i] = x * cosine - y * sine;
        b[i] = y * cosine + x * sine;
    }
    nn_store(r->x.dtype, low, count, a);
    nn_store(r->x.dtype, high, count, b);
}

int nn_cpu_rope(const nn_context *on, const nn_rope *r)
{
    (void)on;
    int64_t width = r->heads * r->head_dim;
#pragma omp parallel for schedule(static) if (nn_worth(r->tokens * width))
    for (int64_t t = 0; t < r->tokens; t++) {
        const float *table = r->table + t % r->period * r->pairs * 2;
        for (int64_t h = 0; h < r->heads; h++)
            for (int64_t i = 0; i < r->pairs; i += NN_BLOCK) {
                int64_t column = h * r->head_dim + i;
                rotate(r, table + 2 * i, nn_at(&r->x, width, t, column), nn_at(&r->x, width, t, column + r->pairs),
                       nn_least(NN_BLOCK, r->pairs - i));
            }
    }
    return 0;
}
