/* SPDX-License-Identifier: MIT */
/* Checkpoints of a training run: weights, moments, and what else decides the next step. */
#include "train/pieces.h"
#include "vit/cmd_vit_train.h"
#include "vit/vit_checkpoint.h"

#include <stdlib.h>
#include <string.h>

static int list_states(const vit_training *t, bool saving, piece_list *l)
{
    const vit_parameter *all;
    size_t n = vit_model_parameters(t->m, &all);
    checkpoint_piece *parts = allocate(n * sizeof *parts);
    for (size_t i = 0; parts && i < n; i++)
        parts[i] = vit_checkpoint_piece(&all[i]);
    int code = parts ? pieces_of_states(l, &t->z, parts, STATE_KINDS, saving) : CODE_NO_MEMORY;
    free(parts);
    return code;
}

/* ---- saving ---- */

static json_t *state_of(const vit_training *t)
{
    const loss_scaler *s = &t->scaler;
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:o, s:{s:f, s:I, s:I, s:I}}", "updates", (json_int_t)t->z.step,
                     "epoch", (json_int_t)t->epoch, "step", (json_int_t)t->step, "iteration", (json_int_t)t->iteration,
                     "epoch_loss", t->epoch_loss, "fixed", vit_fixed(t->c, t->layout.global_batch), "loss_scale",
                     "scale", s->scale, "good", (json_int_t)s->good, "skipped", (json_int_t)s->skipped, "row",
                     (json_int_t)s->skipped_in_row);
}

bool vit_training_saves(const vit_training *t)
{
    return strcmp(t->c->save_path, "/dev/null") != 0;
}

int vit_training_save(vit_training *t, const char *const *files)
{
    piece_list l = {0};
    int64_t number = t->step ? t->epoch : t->epoch - 1; /* in an epoch, or after one */
    json_t *state = state_of(t);
    int code = list_states(t, true, &l);
    if (!code && !state)
        code = fail(CODE_NO_MEMORY, "no memory for a checkpoint");
    code = group_agree(t->world, code);
    if (!code)
        code = checkpoint_save(t->world, &(checkpoint_save_info){.folder = t->c->save_path,
                                                                 .prefix = VIT_CHECKPOINTS,
                                                                 .iteration = number,
                                                                 .state = state,
                                                                 .files = files,
                                                                 .pieces = l.items,
                                                                 .n_pieces = l.count,
                                                                 .keep = t->c->keep_last_n_checkpoints});
    pieces_free(&l);
    json_decref(state);
    if (!code)
        vit_log_print(&t->log, "Checkpoint for epoch %lld saved for rank %d -> %s/" VIT_CHECKPOINTS "%lld",
                      (long long)number, group_rank(t->world), t->c->save_path, (long long)number);
    return code;
}

/* ---- resuming ---- */

static int take_states(vit_training *t, const checkpoint *from)
{
    piece_list l = {0};
    int code = list_states(t, false, &l);
    if (!code)
        code = checkpoint_load(from, l.items, l.count);
    pieces_free(&l);
    code = group_agree(t->world, code);
    return code ? code : zero_spread(&t->z);
}

static int64_t whole(const json_t *state, const char *name)
{
    return json_integer_value(json_object_get(state, name));
}

static void take_place(vit_training *t, const json_t *state)
{
    const json_t *scale = json_object_get(state, "loss_scale");
    t->epoch = whole(state, "epoch"), t->step = whole(state, "step"), t->iteration = whole(state, "iteration");
    t->epoch_loss = json_real_value(json_object_get(state, "epoch_loss"));
    t->z.step = whole(state, "updates");
    if (t->step >= t->steps_per_epoch) /* that of another number of data ranks may be longer */
        t->epoch++, t->step = 0, t->epoch_loss = 0;
    t->epoch_steps = t->step;
    if (!t->scaler.dynamic)
        return;
    t->scaler.scale = json_real_value(json_object_get(scale, "scale"));
    t->scaler.good = whole(scale, "good");
    t->scaler.skipped = whole(scale, "skipped");
    t->scaler.skipped_in_row = whole(scale, "row");
}

/* A run that begins from weights alone has everything else as without them. */
static int take_weights(vit_training *t, const checkpoint *from)
{
    int code = group_agree(t->world, vit_weights_load(t->m, from));
    return code || t->forward_only ? code : group_agree(t->world, zero_adopt(&t->z));
}

static int take(vit_training *t, const checkpoint *from, bool weights_only)
{
    int code = group_agree(t->world, vit_fixed_check(t->c, weights_only ? 0 : t->layout.global_batch, from));
    if (!code)
        code = weights_only ? take_weights(t, from) : take_states(t, from);
    if (code)
        return code;
    if (!weights_only) {
        take_place(t, json_object_get(from->manifest, "state"));
        code = group_agree(t->world, vit_loader_seek(t->train_batches, t->epoch, t->step));
    }
    if (code)
        return code;
    vit_log_print(&t->log, "Checkpoint loaded for rank %d from %s", group_rank(t->world), from->path);
    if (!weights_only)
        vit_log_print(&t->log, "checkpoint loaded: start from epoch %lld", (long long)t->epoch);
    return CODE_GOOD;
}

int vit_training_resume(vit_training *t, bool weights_only)
{
    checkpoint from = {.iteration = -1};
    bool none = !vit_training_saves(t);
    int code = none ? CODE_GOOD : checkpoint_find_named(t->world, t->c->save_path, VIT_CHECKPOINTS, -1, &from);
    if (code)
        return code;
    if (*from.refused)
        vit_log_warning(&t->log, "passed over a checkpoint: %s", from.refused);
    if (from.iteration >= 0)
        code = take(t, &from, weights_only || vit_weights_alone(&from));
    else if (weights_only)
        code = fail(CODE_MISSING, "%s: holds no checkpoint", t->c->save_path);
    else
        vit_log_print(&t->log, "no checkpoint");
    checkpoint_close(&from);
    return code;
}
