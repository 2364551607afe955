/* SPDX-License-Identifier: MIT */
/* The model's parameters: names, shapes, their parts over the tensor group, initial values. */
#include "gpt/model_parts.h"
#include "shared/numbers.h"
#include "shared/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double gpt_small_init(int64_t width)
{
    return sqrt(2 / (5 * (double)width));
}

double gpt_wang_init(int64_t layers, int64_t width)
{
    return 2 / ((double)layers * sqrt((double)width));
}

typedef enum cut { WHOLE, BY_ROWS, BY_COLUMNS } cut;
typedef enum spread { ONES, NORMAL, OUTPUT } spread; /* of initial values */

typedef struct dimensions {
    int64_t one, width, q, kv, inner, vocabulary;
} dimensions;

typedef struct parameter_row {
    const char *name;
    size_t rows, columns; /* offsets in dimensions */
    cut cut;
    spread spread;
} parameter_row;

#define ROW(name, rows, columns, cut, spread)                                                                          \
    {                                                                                                                  \
        name, offsetof(dimensions, rows), offsetof(dimensions, columns), cut, spread                                   \
    }
static const parameter_row embedding_row = ROW("model.embed_tokens.weight", vocabulary, width, BY_ROWS, NORMAL);
static const parameter_row norm_row = ROW("model.norm.weight", one, width, WHOLE, ONES);
static const parameter_row head_row = ROW("lm_head.weight", vocabulary, width, BY_ROWS, NORMAL);
static const parameter_row layer_rows[LAYER_WEIGHTS] = {
    [INPUT_NORM] = ROW("input_layernorm", one, width, WHOLE, ONES),
    [Q_PROJ] = ROW("self_attn.q_proj", q, width, BY_ROWS, NORMAL),
    [K_PROJ] = ROW("self_attn.k_proj", kv, width, BY_ROWS, NORMAL),
    [V_PROJ] = ROW("self_attn.v_proj", kv, width, BY_ROWS, NORMAL),
    [O_PROJ] = ROW("self_attn.o_proj", width, q, BY_COLUMNS, OUTPUT),
    [POST_NORM] = ROW("post_attention_layernorm", one, width, WHOLE, ONES),
    [GATE_PROJ] = ROW("mlp.gate_proj", inner, width, BY_ROWS, NORMAL),
    [UP_PROJ] = ROW("mlp.up_proj", inner, width, BY_ROWS, NORMAL),
    [DOWN_PROJ] = ROW("mlp.down_proj", width, inner, BY_COLUMNS, OUTPUT),
};

static void part(int64_t whole, bool split, const gpt_model *m, int64_t *first, int64_t *count)
{
    int64_t ranks = split ? m->tensor_ranks : 1, rank = split ? m->tensor_rank : 0;
    *first = whole * rank / ranks;
    *count = whole * (rank + 1) / ranks - *first;
}

static void add_parameter(gpt_model *m, const parameter_row *row, int64_t layer)
{
    const gpt_config *c = &m->config;
    dimensions d = {1, c->width, c->heads * c->head_dim, c->kv_heads * c->head_dim, c->inner, c->vocabulary};
    gpt_parameter *p = &m->parameters[m->n_parameters++];
    if (layer < 0)
        snprintf(p->name, sizeof p->name, "%s", row->name);
    else
        snprintf(p->name, sizeof p->name, "model.layers.%lld.%s.weight", (long long)layer, row->name);
    p->rows = *(const int64_t *)((const char *)&d + row->rows);
    p->columns = *(const int64_t *)((const char *)&d + row->columns);
    part(p->rows, row->cut == BY_ROWS, m, &p->first_row, &p->local_rows);
    part(p->columns, row->cut == BY_COLUMNS, m, &p->first_column, &p->local_columns);
    p->split = row->cut != WHOLE;
    p->decays = row->spread != ONES;
    p->init_std = row->spread == ONES ? 0 : row->spread == NORMAL ? c->init_std : c->output_init_std;
    p->offset = m->elements;
    p->count = (size_t)(p->local_rows * p->local_columns);
    m->elements += p->count;
}

int model_parameters_create(gpt_model *m)
{
    m->parameters = allocate(((size_t)m->config.layers * LAYER_WEIGHTS + 3) * sizeof *m->parameters);
    if (!m->parameters)
        return CODE_NO_MEMORY;
    add_parameter(m, &embedding_row, -1);
    for (int64_t layer = 0; layer < m->config.layers; layer++)
        for (int i = 0; i < LAYER_WEIGHTS; i++)
            add_parameter(m, &layer_rows[i], layer);
    add_parameter(m, &norm_row, -1);
    if (!m->config.tied)
        add_parameter(m, &head_row, -1);
    const gpt_parameter *down = &m->parameters[parameter_of(0, DOWN_PROJ)], *words = &m->parameters[0];
    int64_t first;
    m->inner = m->config.layers ? down->local_columns : 0;
    m->vocabulary = words->local_rows, m->first_word = words->first_row;
    part(m->config.heads, true, m, &first, &m->q_width);
    part(m->config.kv_heads, true, m, &first, &m->kv_width);
    m->q_width *= m->config.head_dim, m->kv_width *= m->config.head_dim;
    return CODE_GOOD;
}

size_t gpt_model_parameters(const gpt_model *m, const gpt_parameter **parameters)
{
    *parameters = m->parameters;
    return m->n_parameters;
}

const gpt_parameter *gpt_model_find(const gpt_model *m, const char *name)
{
    for (size_t i = 0; i < m->n_parameters; i++)
        if (strcmp(m->parameters[i].name, name) == 0)
            return &m->parameters[i];
    return NULL;
}

static uint64_t key_of(const char *name, uint64_t seed)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return random_word(seed, hash);
}

/* Normally distributed, by Box and Muller. */
static double normal(uint64_t key, uint64_t i)
{
    uint64_t word = random_word(key, i);
    double radius = ((double)(word >> 32) + 1) * 0x1p-32, angle = (double)(word & 0xffffffffu) * 0x1p-32;
    return sqrt(-2 * log(radius)) * cos(6.283185307179586 * angle);
}

enum { PIECE = 1 << 24, BLOCK = 1 << 12 }; /* elements on their way to the device; of a thread at a time */

typedef struct initial_piece { /* elements first … first+count-1 of a rank's part of a parameter */
    const gpt_parameter *p;
    uint64_t key;
    size_t first, count;
    ringx_dtype dtype;
    void *values;
} initial_piece;

static void put_value(const initial_piece *w, size_t i, float value)
{
    if (w->dtype == RINGX_F32)
        ((float *)w->values)[i] = value;
    else
        ((uint16_t *)w->values)[i] = float_to_half(w->dtype, value);
}

static void fill_block(const initial_piece *w, size_t begin, size_t end)
{
    const gpt_parameter *p = w->p;
    int64_t at = (int64_t)(w->first + begin), row = at / p->local_columns, column = at % p->local_columns;
    for (size_t i = begin; i < end; i++) {
        uint64_t place = (uint64_t)((p->first_row + row) * p->columns + p->first_column + column);
        put_value(w, i, p->init_std > 0 ? (float)(p->init_std * normal(w->key, place)) : 1);
        if (++column == p->local_columns)
            row++, column = 0;
    }
}

/* Elements first … end-1 of a parameter. */
static int initialise(gpt_model *m, size_t parameter, uint64_t seed, size_t first, size_t end)
{
    const gpt_parameter *p = &m->parameters[parameter];
    size_t width = dtype_bytes(m->dtype), most = end - first < PIECE ? end - first : PIECE;
    initial_piece w = {p, key_of(p->name, seed), first, 0, m->dtype, allocate(most * width)};
    int code = w.values ? CODE_GOOD : CODE_NO_MEMORY;
    for (; w.first < end && !code; w.first += w.count) {
        w.count = end - w.first < most ? end - w.first : most;
#pragma omp parallel for schedule(static)
        for (size_t begin = 0; begin < w.count; begin += BLOCK)
            fill_block(&w, begin, w.count - begin < BLOCK ? w.count : begin + BLOCK);
        char *to = (char *)weight_of(m, parameter).data + w.first * width;
        code = fail_status(ringx_memory_copy(m->on.ops->device, to, w.values, w.count * width), "initial values of %s",
                           p->name);
    }
    free(w.values);
    return code;
}

int gpt_model_initialise_share(gpt_model *m, uint64_t seed, size_t first, size_t count)
{
    int code = CODE_GOOD;
    for (size_t i = 0; i < m->n_parameters && !code; i++) {
        size_t offset = m->parameters[i].offset, n = m->parameters[i].count;
        size_t from = first > offset ? first - offset : 0, end = first + count > offset ? first + count - offset : 0;
        end = end < n ? end : n;
        if (from < end)
            code = initialise(m, i, seed, from, end);
    }
    return code;
}

int gpt_model_initialise(gpt_model *m, uint64_t seed)
{
    return gpt_model_initialise_share(m, seed, 0, m->elements);
}
