/* SPDX-License-Identifier: MIT */
/* Checkpoints of a training run: weights, moments, and what else decides the next step. */
#include "gpt/cmd_train.h"

#include "gpt/hf_files.h"
#include "gpt/model_checkpoint.h"
#include "train/pieces.h"

#include <stdlib.h>
#include <string.h>

static int list_pieces(const training *t, int kinds, bool saving, piece_list *l)
{
    const gpt_parameter *all;
    size_t n = gpt_model_parameters(t->m, &all);
    checkpoint_piece *parts = allocate(n * sizeof *parts);
    for (size_t i = 0; parts && i < n; i++)
        parts[i] = gpt_checkpoint_piece(&all[i]);
    int code = parts ? pieces_of_states(l, &t->z, parts, kinds, saving) : CODE_NO_MEMORY;
    free(parts);
    return code;
}

/* What must be the same when a run goes on. */
typedef struct fixed_value {
    const char *name;
    int64_t value;
} fixed_value;

enum { FIXED = 10 };

static void list_fixed(const training *t, fixed_value fixed[FIXED])
{
    const config *c = t->c;
    const fixed_value all[FIXED] = {{"num_layers", c->num_layers},
                                    {"hidden_size", c->hidden_size},
                                    {"num_attention_heads", c->num_attention_heads},
                                    {"num_kv_heads", c->num_kv_heads},
                                    {"intermediate_size", c->intermediate_size},
                                    {"padded_vocab_size", t->vocabulary},
                                    {"seq_length", c->seq_length},
                                    {"train_batch_size", c->train_batch_size},
                                    {"seed", c->seed},
                                    {"optimizer", c->optimizer_type}};
    memcpy(fixed, all, sizeof all);
}

static json_t *state_of(const training *t)
{
    const lr_schedule *r = &t->rates;
    const loss_scaler *s = &t->scaler;
    fixed_value fixed[FIXED];
    json_t *arguments = json_object();
    list_fixed(t, fixed);
    for (int i = 0; i < FIXED; i++)
        json_object_set_new(arguments, fixed[i].name, json_integer(fixed[i].value));
    return json_pack("{s:I, s:I, s:o, s:o, s:{s:f, s:f, s:f, s:I, s:i}, s:{s:f, s:I, s:I, s:I, s:I}}", "updates",
                     (json_int_t)t->z.step, "samples", (json_int_t)(t->iteration * t->c->train_batch_size), "arguments",
                     arguments, "model", hf_config_json(gpt_model_config(t->m), RINGX_F32), "rates", "lr", r->lr,
                     "min_lr", r->min_lr, "warmup_iters", r->warmup_iters, "decay_iters", (json_int_t)r->decay_iters,
                     "style", (int)r->style, "loss_scale", "scale", s->scale, "good", (json_int_t)s->good, "patience",
                     (json_int_t)s->patience, "skipped", (json_int_t)s->skipped, "row", (json_int_t)s->skipped_in_row);
}

int training_save(training *t, const char *const *files)
{
    piece_list l = {0};
    json_t *state = state_of(t);
    int code = list_pieces(t, t->c->no_save_optim ? 1 : STATE_KINDS, true, &l);
    if (!code && !state)
        code = fail(CODE_NO_MEMORY, "no memory for a checkpoint");
    code = group_agree(t->world, code);
    if (!code)
        code = checkpoint_save(t->world, &(checkpoint_save_info){.folder = t->c->save,
                                                                 .iteration = t->iteration,
                                                                 .state = state,
                                                                 .files = files,
                                                                 .pieces = l.items,
                                                                 .n_pieces = l.count,
                                                                 .keep = t->c->keep_last_n_checkpoints});
    pieces_free(&l);
    json_decref(state);
    if (!code && t->log)
        fprintf(t->log, " saved %s/global_step%lld\n", t->c->save, (long long)t->iteration);
    return code;
}

/* ---- resuming ---- */

static int check_arguments(const training *t, const checkpoint *from, const json_t *state)
{
    fixed_value fixed[FIXED];
    list_fixed(t, fixed);
    for (int i = 0; i < FIXED; i++) {
        json_int_t stored = json_integer_value(json_object_get(json_object_get(state, "arguments"), fixed[i].name));
        bool data = strcmp(fixed[i].name, "train_batch_size") == 0 || strcmp(fixed[i].name, "seed") == 0 ||
                    strcmp(fixed[i].name, "optimizer") == 0 || strcmp(fixed[i].name, "seq_length") == 0;
        if (stored != fixed[i].value && !(data && t->c->finetune))
            return fail(CODE_CONFIGURATION, "%s: %s is %lld there and %lld in the configuration", from->path,
                        fixed[i].name, (long long)stored, (long long)fixed[i].value);
    }
    return CODE_GOOD;
}

/* The checkpoint's schedule or the configuration's, as the keys say; they must agree if no key says. */
static int take_rates(training *t, const checkpoint *from, const json_t *stored)
{
    lr_schedule r = t->rates;
    r.lr = json_real_value(json_object_get(stored, "lr"));
    r.min_lr = json_real_value(json_object_get(stored, "min_lr"));
    r.warmup_iters = json_real_value(json_object_get(stored, "warmup_iters"));
    r.decay_iters = json_integer_value(json_object_get(stored, "decay_iters"));
    r.style = (decay_style)json_integer_value(json_object_get(stored, "style"));
    bool same = r.lr == t->rates.lr && r.min_lr == t->rates.min_lr && r.warmup_iters == t->rates.warmup_iters &&
                r.decay_iters == t->rates.decay_iters && r.style == t->rates.style;
    if (!same && !t->c->override_lr_scheduler && !t->c->use_checkpoint_lr_scheduler)
        return fail(CODE_CONFIGURATION,
                    "%s: its learning-rate schedule is not the configuration's; set override_lr_scheduler or "
                    "use_checkpoint_lr_scheduler",
                    from->path);
    if (t->c->use_checkpoint_lr_scheduler)
        t->rates = r;
    return CODE_GOOD;
}

static void take_scale(training *t, const json_t *stored)
{
    if (!t->scaler.dynamic)
        return;
    t->scaler.scale = json_real_value(json_object_get(stored, "scale"));
    t->scaler.good = json_integer_value(json_object_get(stored, "good"));
    t->scaler.patience = json_integer_value(json_object_get(stored, "patience"));
    t->scaler.skipped = t->skipped_before = json_integer_value(json_object_get(stored, "skipped"));
    t->scaler.skipped_in_row = json_integer_value(json_object_get(stored, "row"));
}

static int take_tensors(training *t, const checkpoint *from, bool moments)
{
    piece_list l = {0};
    int code = list_pieces(t, moments ? STATE_KINDS : 1, false, &l);
    if (!code)
        code = checkpoint_load(from, l.items, l.count);
    pieces_free(&l);
    code = group_agree(t->world, code);
    return code ? code : zero_spread(&t->z);
}

static int take(training *t, const checkpoint *from)
{
    const json_t *state = json_object_get(from->manifest, "state");
    bool goes_on = !t->c->finetune, moments = goes_on && !t->c->no_load_optim;
    int code = check_arguments(t, from, state);
    if (!code && goes_on)
        code = take_rates(t, from, json_object_get(state, "rates"));
    code = group_agree(t->world, code);
    if (!code)
        code = take_tensors(t, from, moments);
    if (code || !goes_on)
        return code;
    t->iteration = from->iteration;
    t->z.step = moments ? json_integer_value(json_object_get(state, "updates")) : 0;
    take_scale(t, json_object_get(state, "loss_scale"));
    return CODE_GOOD;
}

int training_resume(training *t)
{
    checkpoint from;
    if (!t->c->load)
        return CODE_GOOD;
    int code = checkpoint_find(t->world, t->c->load, t->c->iteration, &from);
    if (code)
        return code;
    if (t->log && *from.refused)
        fprintf(t->log, " warning: passed over a checkpoint: %s\n", from.refused);
    if (from.iteration >= 0) {
        code = take(t, &from);
        if (!code && t->log)
            fprintf(t->log, " loaded %s\n", from.path);
    } else if (t->log) {
        fprintf(t->log, " %s holds no checkpoint; training starts at 0\n", t->c->load);
    }
    checkpoint_close(&from);
    return code;
}
