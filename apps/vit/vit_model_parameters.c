/* SPDX-License-Identifier: MIT */
/* The vision transformer's parameters: names, shapes, their parts over the tensor group, initial values. */
#include "shared/numbers.h"
#include "vit/vit_model_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum cut { WHOLE, BY_ROWS, BY_COLUMNS } cut;

typedef struct dimensions {
    int64_t one, embed, inner, tokens, pixels_in, pixels_out;
} dimensions;

typedef struct parameter_row {
    const char *name;
    size_t rows, columns; /* offsets in dimensions */
    cut cut;
    vit_spread spread;
} parameter_row;

#define ROW(name, rows, columns, cut, spread)                                                                          \
    {                                                                                                                  \
        name, offsetof(dimensions, rows), offsetof(dimensions, columns), cut, spread                                   \
    }
static const parameter_row first_rows[END_WEIGHTS] = {
    [PATCH_WEIGHT] = ROW("patch_embed.proj.weight", embed, pixels_in, WHOLE, VIT_UNIFORM),
    [PATCH_BIAS] = ROW("patch_embed.proj.bias", one, embed, WHOLE, VIT_UNIFORM),
    [POSITIONS] = ROW("pos_embed", tokens, embed, WHOLE, VIT_NORMAL),
};
static const parameter_row block_rows[BLOCK_WEIGHTS] = {
    [NORM1_WEIGHT] = ROW("norm1.weight", one, embed, WHOLE, VIT_ONES),
    [NORM1_BIAS] = ROW("norm1.bias", one, embed, WHOLE, VIT_ZEROS),
    [Q_WEIGHT] = ROW("attn.q.weight", embed, embed, BY_ROWS, VIT_NORMAL),
    [Q_BIAS] = ROW("attn.q.bias", one, embed, BY_COLUMNS, VIT_ZEROS),
    [K_WEIGHT] = ROW("attn.k.weight", embed, embed, BY_ROWS, VIT_NORMAL),
    [K_BIAS] = ROW("attn.k.bias", one, embed, BY_COLUMNS, VIT_ZEROS),
    [V_WEIGHT] = ROW("attn.v.weight", embed, embed, BY_ROWS, VIT_NORMAL),
    [V_BIAS] = ROW("attn.v.bias", one, embed, BY_COLUMNS, VIT_ZEROS),
    [PROJ_WEIGHT] = ROW("attn.proj.weight", embed, embed, BY_COLUMNS, VIT_NORMAL),
    [PROJ_BIAS] = ROW("attn.proj.bias", one, embed, WHOLE, VIT_ZEROS),
    [NORM2_WEIGHT] = ROW("norm2.weight", one, embed, WHOLE, VIT_ONES),
    [NORM2_BIAS] = ROW("norm2.bias", one, embed, WHOLE, VIT_ZEROS),
    [FC1_WEIGHT] = ROW("mlp.fc1.weight", inner, embed, BY_ROWS, VIT_NORMAL),
    [FC1_BIAS] = ROW("mlp.fc1.bias", one, inner, BY_COLUMNS, VIT_ZEROS),
    [FC2_WEIGHT] = ROW("mlp.fc2.weight", embed, inner, BY_COLUMNS, VIT_NORMAL),
    [FC2_BIAS] = ROW("mlp.fc2.bias", one, embed, WHOLE, VIT_ZEROS),
};
static const parameter_row last_rows[] = {
    ROW("norm.weight", one, embed, WHOLE, VIT_ONES),
    ROW("norm.bias", one, embed, WHOLE, VIT_ZEROS),
    ROW("head.weight", pixels_out, embed, WHOLE, VIT_NORMAL),
};
enum { LAST = sizeof last_rows / sizeof last_rows[0] };

static void part(int64_t whole, bool split, const vit_model *m, int64_t *first, int64_t *count)
{
    int64_t ranks = split ? m->tensor_ranks : 1, rank = split ? m->tensor_rank : 0;
    *first = whole * rank / ranks;
    *count = whole * (rank + 1) / ranks - *first;
}

static void add_parameter(vit_model *m, const parameter_row *row, int64_t layer)
{
    const vit_shape *s = &m->shape;
    dimensions d = {1, s->embed, 4 * s->embed, m->image_tokens, m->pixels_in, m->pixels_out};
    vit_parameter *p = &m->parameters[m->n_parameters++];
    if (layer < 0)
        snprintf(p->name, sizeof p->name, "%s", row->name);
    else
        snprintf(p->name, sizeof p->name, "blocks.%lld.%s", (long long)layer, row->name);
    p->rows = *(const int64_t *)((const char *)&d + row->rows);
    p->columns = *(const int64_t *)((const char *)&d + row->columns);
    part(p->rows, row->cut == BY_ROWS, m, &p->first_row, &p->local_rows);
    part(p->columns, row->cut == BY_COLUMNS, m, &p->first_column, &p->local_columns);
    p->split = row->cut != WHOLE;
    p->vector = row->rows == offsetof(dimensions, one);
    p->spread = row->spread;
    p->size = row->spread == VIT_UNIFORM ? 1 / sqrt((double)m->pixels_in) : 0.02;
    p->offset = m->elements;
    p->count = (size_t)(p->local_rows * p->local_columns);
    m->elements += p->count;
}

int vit_parameters_create(vit_model *m)
{
    const vit_shape *s = &m->shape;
    m->across = s->width / s->patch, m->image_tokens = s->height / s->patch * m->across;
    m->pixels_in = s->channels_in * s->patch * s->patch, m->pixels_out = s->channels_out * s->patch * s->patch;
    m->head_dim = s->embed / s->heads, m->heads = s->heads / m->tensor_ranks;
    m->qkv = m->heads * m->head_dim, m->inner = 4 * s->embed / m->tensor_ranks;
    m->parameters = allocate(((size_t)s->depth * BLOCK_WEIGHTS + END_WEIGHTS + LAST) * sizeof *m->parameters);
    if (!m->parameters)
        return CODE_NO_MEMORY;
    for (int i = 0; i < END_WEIGHTS; i++)
        add_parameter(m, &first_rows[i], -1);
    for (int64_t layer = 0; layer < s->depth; layer++)
        for (int i = 0; i < BLOCK_WEIGHTS; i++)
            add_parameter(m, &block_rows[i], layer);
    for (int i = 0; i < LAST; i++)
        add_parameter(m, &last_rows[i], -1);
    return CODE_GOOD;
}

size_t vit_model_parameters(const vit_model *m, const vit_parameter **parameters)
{
    *parameters = m->parameters;
    return m->n_parameters;
}

/* ---- initial values ---- */

static uint64_t key_of(const char *name, uint64_t seed)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return random_word(seed, hash);
}

static double initial_value(const vit_parameter *p, uint64_t key, uint64_t place)
{
    switch (p->spread) {
    case VIT_ONES:
        return 1;
    case VIT_ZEROS:
        break;
    case VIT_NORMAL:
        return p->size * (double)random_normal(key, place);
    case VIT_UNIFORM:
        return p->size * ((double)(random_word(key, place) >> 11) * 0x1p-52 - 1);
    }
    return 0;
}

void vit_initial_values(const vit_parameter *p, uint64_t seed, float *values)
{
    uint64_t key = key_of(p->name, seed);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < p->local_rows; r++)
        for (int64_t c = 0; c < p->local_columns; c++) {
            uint64_t place = (uint64_t)((p->first_row + r) * p->columns + p->first_column + c);
            values[r * p->local_columns + c] = (float)initial_value(p, key, place);
        }
}

int vit_model_put(vit_model *m, size_t i, const float *values)
{
    const vit_parameter *p = &m->parameters[i];
    const void *from = values;
    uint16_t *halves = m->dtype == RINGX_F32 ? NULL : allocate(p->count * sizeof *halves);
    if (m->dtype != RINGX_F32 && !halves)
        return CODE_NO_MEMORY;
    size_t rounded = halves ? p->count : 0;
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < rounded; j++)
        halves[j] = float_to_half(m->dtype, values[j]);
    from = halves ? (const void *)halves : from;
    int code =
        fail_status(ringx_memory_copy(m->on.ops->device, weight_of(m, i).data, from, p->count * dtype_bytes(m->dtype)),
                    "%s", p->name);
    free(halves);
    return code;
}

int vit_model_initialise(vit_model *m, uint64_t seed)
{
    int code = CODE_GOOD;
    for (size_t i = 0; i < m->n_parameters && !code; i++) {
        float *values = allocate(m->parameters[i].count * sizeof *values);
        if (!values)
            return CODE_NO_MEMORY;
        vit_initial_values(&m->parameters[i], seed, values);
        code = vit_model_put(m, i, values);
        free(values);
    }
    return code;
}
