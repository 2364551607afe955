/* SPDX-License-Identifier: MIT */
/* Weights in checkpoints, and the numbers that are kept beside them. */
#include "vit/vit_checkpoint.h"

#include "train/pieces.h"

#include <stdlib.h>
#include <string.h>

checkpoint_piece vit_checkpoint_piece(const vit_parameter *p)
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

/* ---- what must be the same ---- */

typedef struct fixed_value {
    const char *name;
    int64_t value;
} fixed_value;

enum { FIXED_MODEL = 8, FIXED = 11 }; /* the model's come first */

static void list_fixed(const vit_config *c, int64_t global_batch, fixed_value fixed[FIXED])
{
    const fixed_value all[FIXED] = {{"embed_dim", c->embed_dim},
                                    {"depth", c->depth},
                                    {"num_heads", c->num_heads},
                                    {"patch_size", c->patch_size},
                                    {"latitudes", c->img_size[0]},
                                    {"longitudes", c->img_size[1]},
                                    {"n_in_channels", c->n_in_channels},
                                    {"n_out_channels", c->n_out_channels},
                                    {"dt", c->dt},
                                    {"global_batch_size", global_batch},
                                    {"seed", c->seed}};
    memcpy(fixed, all, sizeof all);
}

json_t *vit_fixed(const vit_config *c, int64_t global_batch)
{
    fixed_value fixed[FIXED];
    json_t *values = json_object();
    list_fixed(c, global_batch, fixed);
    for (int i = 0; i < (global_batch ? FIXED : FIXED_MODEL); i++)
        json_object_set_new(values, fixed[i].name, json_integer(fixed[i].value));
    return values;
}

int vit_fixed_check(const vit_config *c, int64_t global_batch, const checkpoint *from)
{
    fixed_value fixed[FIXED];
    const json_t *there = json_object_get(json_object_get(from->manifest, "state"), "fixed");
    list_fixed(c, global_batch, fixed);
    for (int i = 0; i < (global_batch ? FIXED : FIXED_MODEL); i++) {
        json_int_t stored = json_integer_value(json_object_get(there, fixed[i].name));
        if (stored != fixed[i].value)
            return fail(CODE_CONFIGURATION, "%s: %s is %lld there and %lld in the configuration", from->path,
                        fixed[i].name, (long long)stored, (long long)fixed[i].value);
    }
    return CODE_GOOD;
}

/* ---- weights ---- */

/* The whole of this rank's weights, at values. */
static int list_weights(const vit_model *m, float *values, piece_list *l)
{
    const vit_parameter *all;
    size_t n = vit_model_parameters(m, &all);
    int code = pieces_create(l, n);
    for (size_t i = 0; i < n && !code; i++) {
        checkpoint_piece p = vit_checkpoint_piece(&all[i]);
        p.values = values + all[i].offset;
        pieces_add(l, "weight", &p);
    }
    return code;
}

int vit_weights_load(vit_model *m, const checkpoint *from)
{
    const vit_parameter *all;
    size_t n = vit_model_parameters(m, &all);
    piece_list l = {0};
    float *values = allocate(vit_model_elements(m) * sizeof *values);
    int code = values ? list_weights(m, values, &l) : CODE_NO_MEMORY;
    if (!code)
        code = checkpoint_load(from, l.items, l.count);
    for (size_t i = 0; i < n && !code; i++)
        code = vit_model_put(m, i, values + all[i].offset);
    pieces_free(&l);
    free(values);
    return code;
}

bool vit_weights_alone(const checkpoint *from)
{
    return json_is_true(json_object_get(json_object_get(from->manifest, "state"), "weights_alone"));
}

int vit_weights_save(vit_model *m, const vit_config *c, group *alone, const char *folder)
{
    checkpoint found = {.iteration = -1};
    piece_list l = {0};
    int code = checkpoint_find_named(alone, folder, VIT_CHECKPOINTS, -1, &found);
    if (!code && found.iteration >= 0)
        code = fail(CODE_USAGE, "%s holds checkpoints; weights go into a folder without any", folder);
    checkpoint_close(&found);
    if (code)
        return code;
    json_t *state = json_pack("{s:b, s:o}", "weights_alone", true, "fixed", vit_fixed(c, 0));
    code = state ? list_weights(m, vit_model_weights(m), &l) : fail(CODE_NO_MEMORY, "no memory for a checkpoint");
    if (!code)
        code = checkpoint_save(
            alone,
            &(checkpoint_save_info){
                .folder = folder, .prefix = VIT_CHECKPOINTS, .state = state, .pieces = l.items, .n_pieces = l.count});
    pieces_free(&l);
    json_decref(state);
    return code;
}
