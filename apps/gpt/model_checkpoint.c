/* SPDX-License-Identifier: MIT */
/* Weights from and into checkpoints: float pieces named weight/<parameter>. */
#include "gpt/model_checkpoint.h"

#include "gpt/hf_files.h"
#include "gpt/model_parts.h"
#include "shared/numbers.h"
#include "train/pieces.h"

#include <stdio.h>
#include <stdlib.h>

checkpoint_piece gpt_checkpoint_piece(const gpt_parameter *p)
{
    return (checkpoint_piece){.name = p->name,
                              .rows = p->rows,
                              .columns = p->columns,
                              .first_row = p->first_row,
                              .block_rows = p->local_rows,
                              .first_column = p->first_column,
                              .block_columns = p->local_columns,
                              .count = (int64_t)p->count};
}

/* Weights of all of this rank's parameters as floats, and where they belong. */
typedef struct float_weights {
    piece_list pieces;
    float *values;
} float_weights;

static void weights_free(float_weights *w)
{
    pieces_free(&w->pieces);
    free(w->values);
}

static int weights_create(const gpt_model *m, float_weights *w)
{
    *w = (float_weights){.values = allocate(m->elements * sizeof *w->values)};
    if (!w->values)
        return CODE_NO_MEMORY;
    int code = pieces_create(&w->pieces, m->n_parameters);
    for (size_t i = 0; i < m->n_parameters && !code; i++) {
        checkpoint_piece p = gpt_checkpoint_piece(&m->parameters[i]);
        p.values = w->values + m->parameters[i].offset;
        pieces_add(&w->pieces, "weight", &p);
    }
    return code;
}

/* Between the model's weights, by way of host memory, and floats. */
static int exchange(gpt_model *m, float *values, bool into_model)
{
    size_t bytes = m->elements * dtype_bytes(m->dtype);
    ringx_device device = m->on.ops->device;
    void *host = allocate(bytes);
    double value;
    if (!host)
        return CODE_NO_MEMORY;
    int code = into_model ? CODE_GOOD : fail_status(ringx_memory_copy(device, host, m->weights, bytes), "weights");
    for (size_t i = 0; i < m->elements && !code; i++) {
        void *at = (char *)host + i * dtype_bytes(m->dtype);
        if (into_model) {
            value = (double)values[i];
            from_doubles(m->dtype, &value, at, 1);
        } else {
            to_doubles(m->dtype, at, &value, 1);
            values[i] = (float)value;
        }
    }
    if (into_model)
        code = fail_status(ringx_memory_copy(device, m->weights, host, bytes), "weights");
    free(host);
    return code;
}

static int read_model(gpt_model **m, const model_place *place, const checkpoint *from)
{
    gpt_config config;
    float_weights w = {0};
    json_t *model = json_object_get(json_object_get(from->manifest, "state"), "model");
    if (!model)
        return fail(CODE_BAD_INPUT, "%s: its state does not say what model it is", from->path);
    TRY(hf_config_parse(&config, from->path, model));
    TRY(gpt_model_create(m, &config, place->dtype, place->on, place->groups));
    int code = weights_create(*m, &w);
    if (!code)
        code = checkpoint_load(from, w.pieces.items, w.pieces.count);
    if (!code)
        code = exchange(*m, w.values, true);
    weights_free(&w);
    return code;
}

int model_from_checkpoint(gpt_model **m, const model_place *place, const char *folder)
{
    checkpoint from;
    *m = NULL;
    TRY(checkpoint_find(place->world, folder, -1, &from));
    int code = from.iteration < 0 ? fail(CODE_MISSING, "%s: holds neither config.json nor a checkpoint", folder)
                                  : read_model(m, place, &from);
    checkpoint_close(&from);
    return group_agree(place->world, code);
}

static json_t *state_of(const gpt_model *m)
{
    const gpt_config *c = &m->config;
    return json_pack("{s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "model", hf_config_json(c, RINGX_F32), "arguments",
                     "num_layers", (json_int_t)c->layers, "hidden_size", (json_int_t)c->width, "num_attention_heads",
                     (json_int_t)c->heads, "num_kv_heads", (json_int_t)c->kv_heads, "intermediate_size",
                     (json_int_t)c->inner, "padded_vocab_size", (json_int_t)c->vocabulary);
}

/* Each element on one rank only: parameters that are whole everywhere on the first. */
static size_t keep_own(const gpt_model *m, piece_list *l)
{
    bool first_tensor = !m->groups.tensor || group_rank(m->groups.tensor) == 0;
    bool first_context = !m->groups.context || group_rank(m->groups.context) == 0;
    size_t kept = 0;
    for (size_t i = 0; i < l->count && first_context; i++)
        if (m->parameters[i].split || first_tensor)
            l->items[kept++] = l->items[i];
    return kept;
}

int model_to_checkpoint(gpt_model *m, const model_place *place, const char *folder)
{
    float_weights w;
    int code = weights_create(m, &w);
    json_t *state = state_of(m);
    if (!code)
        code = state ? exchange(m, w.values, false) : CODE_NO_MEMORY;
    code = group_agree(place->world, code);
    if (!code)
        code = checkpoint_save(place->world, &(checkpoint_save_info){.folder = folder,
                                                                     .state = state,
                                                                     .pieces = w.pieces.items,
                                                                     .n_pieces = keep_own(m, &w.pieces)});
    json_decref(state);
    weights_free(&w);
    return code;
}
