/* SPDX-License-Identifier: MIT */
/* From a configuration to groups, model, optimizer and data. */
#include "gpt/cmd_train.h"

#include "gpt/model_config.h"
#include "shared/numbers.h"
#include "train/device_data.h"
#include "train/group_nccl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int set_up_groups(training *t)
{
    int size[AXES], order[AXES];
    axis axes[AXES];
    bool nccl = true;
    int code = config_layout(t->c, size, order);
    for (int i = 0; i < AXES; i++)
        axes[i] = (axis)order[i];
    if (!code)
        code = config_batch(t->c, group_ranks(t->world), &t->dp);
    code = group_agree(t->world, code);
    if (!code)
        code = parallel_create(&t->p, t->world, size, axes);
    if (!code && t->on.ops->device == RINGX_CUDA)
        code = parallel_use_gpus(&t->p, t->on.stream, &nccl);
    if (!code && !nccl && t->log)
        fprintf(t->log, " note: ranks share a GPU, or this build has no NCCL: transfers go through host memory\n");
    return code;
}

/* ---- model ---- */

/* Ranks that hold the same weights draw a share of them each: billions of numbers take a host minutes. */
static int initialise(training *t, ringx_dtype dtype)
{
    group *g = t->p.gradient;
    size_t ranks = (size_t)group_ranks(g), all = gpt_model_elements(t->m), width = dtype_bytes(dtype);
    size_t *bounds = allocate((ranks + 1) * sizeof *bounds);
    int code = bounds ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t r = 0; r <= ranks && !code; r++)
        bounds[r] = all / ranks * r + all % ranks * r / ranks;
    if (!code) {
        const size_t *mine = bounds + group_rank(g);
        code = gpt_model_initialise_share(t->m, (uint64_t)t->c->seed, mine[0], mine[1] - mine[0]);
    }
    code = group_agree(t->world, code);
    for (size_t r = 0; r <= ranks && !code; r++)
        bounds[r] *= width;
    if (!code)
        code = device_all_gather(g, t->on.ops->device, gpt_model_weights(t->m), bounds);
    free(bounds);
    return code;
}

static int prepare_model(training *t, const gpt_settings *s)
{
    gpt_groups groups = {t->p.tensor, t->p.context};
    int code = group_agree(t->world, gpt_model_create(&t->m, &s->model, s->dtype, &t->on, groups));
    if (!code)
        code = group_agree(t->world, initialise(t, s->dtype));
    return code ? code : gpt_model_prepare(t->m, &s->run);
}

static int set_up_model(training *t)
{
    gpt_settings s;
    int code = group_agree(t->world, gpt_settings_create(&s, t->c, t->vocabulary));
    if (code)
        return code;
    s.run.split_gradients = zero_splits((int)t->c->zero_stage, (size_t)group_ranks(t->p.gradient));
    code = prepare_model(t, &s);
    gpt_settings_destroy(&s);
    return group_agree(t->world, code);
}

static int claim_gradients(void *context, size_t first)
{
    return zero_claim(context, first);
}

static int gradients_ready(void *context, size_t first)
{
    return zero_ready(context, first);
}

/* What the optimizer knows of the model. */
static int describe_parameters(training *t)
{
    const gpt_parameter *all;
    const zero_unit *units; /* which an evaluation lays out anew */
    t->n_tensors = gpt_model_parameters(t->m, &all);
    t->n_units = gpt_model_units(t->m, &units);
    t->tensors = allocate(t->n_tensors * sizeof *t->tensors);
    t->units = allocate(t->n_units * sizeof *t->units);
    if (!t->tensors || !t->units)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < t->n_tensors; i++)
        t->tensors[i] = (zero_tensor){all[i].name, all[i].offset, all[i].count, all[i].decays, all[i].split};
    memcpy(t->units, units, t->n_units * sizeof *units);
    return CODE_GOOD;
}

static int set_up_optimizer(training *t)
{
    const config *c = t->c;
    int code = group_agree(t->world, describe_parameters(t));
    if (code)
        return code;
    static const ringx_dtype dtypes[] = {RINGX_F32, RINGX_BF16, RINGX_F16};
    zero_model model = {.tensors = t->tensors,
                        .n_tensors = t->n_tensors,
                        .elements = gpt_model_elements(t->m),
                        .weights = gpt_model_weights(t->m),
                        .dtype = dtypes[c->precision],
                        .gradients = gpt_model_gradients(t->m),
                        .units = t->units,
                        .n_units = t->n_units,
                        .on = &t->on};
    zero_settings settings = {.stage = (int)c->zero_stage,
                              .optimizer = (optimizer_kind)c->optimizer_type,
                              .beta1 = c->betas.items[0],
                              .beta2 = c->betas.items[1],
                              .eps = c->eps,
                              .decay = c->weight_decay,
                              .clip = c->gradient_clipping,
                              .least_trust = c->min_coeff,
                              .most_trust = c->max_coeff,
                              .bucket = (size_t)c->reduce_bucket_size,
                              .overlap = c->overlap_comm};
    code = zero_create(&t->z, &model, &settings, &t->p);
    gpt_model_watch(t->m, &(gpt_watch){claim_gradients, gradients_ready, &t->z});
    if (!code)
        code = group_agree(t->world, zero_adopt(&t->z));
    return code ? code : zero_clear(&t->z);
}

/* ---- data ---- */

/* Whether a part of the split gets no document: then there is no such evaluation, as in the original. */
static int part_is_empty(const config *c, corpus_split which, bool *empty)
{
    indexed data;
    uint64_t ends[4];
    int code = indexed_open(&data, c->data_path);
    if (code)
        return code;
    code = split_documents(c->split, data.documents, ends);
    *empty = !code && ends[which + 1] == ends[which];
    indexed_close(&data);
    return code;
}

static int open_corpus(const training *t, corpus **made, corpus_split which, int64_t samples)
{
    const config *c = t->c;
    const text_list *lists[] = {&c->train_data_paths, &c->valid_data_paths, &c->test_data_paths};
    const real_list *weights[] = {&c->train_data_weights, &c->valid_data_weights, &c->test_data_weights};
    const char *one[] = {c->data_path};
    bool apart = !c->data_path; /* paths of their own for each split */
    size_t count = apart ? lists[which]->count : 1;
    *made = NULL;
    if (samples == 0 || count == 0)
        return CODE_GOOD;
    bool empty = false;
    int code = apart || which == CORPUS_TRAIN ? CODE_GOOD : part_is_empty(c, which, &empty);
    if (code || empty)
        return code;
    corpus_plan plan = {.prefixes = apart ? (const char *const *)lists[which]->items : one,
                        .count = count,
                        .weights = apart && weights[which]->count ? weights[which]->items : NULL,
                        .split = c->split,
                        .which = apart ? CORPUS_ALL : which,
                        .samples = samples,
                        .length = c->seq_length,
                        .seed = (uint32_t)c->seed,
                        .vocabulary = (size_t)t->vocabulary};
    return corpus_open(made, &plan);
}

int training_text(const training *t, corpus **text)
{
    return open_corpus(t, text, CORPUS_TRAIN, 1);
}

static int set_up_data(training *t)
{
    const config *c = t->c;
    int64_t batch = c->train_batch_size, evaluations = c->eval_interval ? c->train_iters / c->eval_interval + 1 : 1;
    int64_t eval = c->eval_iters * batch;
    int code = c->data_path || c->train_data_paths.count
                   ? CODE_GOOD
                   : fail(CODE_CONFIGURATION, "data_path or train_data_paths is required");
    if (!code)
        code = open_corpus(t, &t->train, CORPUS_TRAIN, c->train_iters * batch);
    if (!code)
        code = open_corpus(t, &t->valid, CORPUS_VALID, evaluations * eval);
    if (!code)
        code = open_corpus(t, &t->test, CORPUS_TEST, eval);
    if (!code && c->train_iters > 0 && corpus_samples(t->train) < 1)
        code = fail(CODE_CONFIGURATION, "the training data hold no sample of %lld tokens", (long long)c->seq_length);
    code = code ? code : training_make_tokens(t);
    return group_agree(t->world, code);
}

int training_create(training *t, group *world, config *c, FILE *log)
{
    *t = (training){.c = c, .world = world, .valid_loss = NAN, .last_loss = NAN};
    t->log = group_rank(world) == 0 ? log : NULL;
    t->rates = lr_schedule_of(c);
    t->scaler = loss_scaler_of(c);
    int code = device_choose(world, (ringx_device)c->device);
    if (!code)
        code = group_agree(world, nn_open(&t->on, (ringx_device)c->device));
    if (!code)
        code = set_up_groups(t);
    if (!code)
        code = group_agree(world, gpt_find_vocabulary(c, &t->vocabulary, &t->eod));
    if (!code)
        code = set_up_model(t);
    if (!code)
        code = set_up_optimizer(t);
    if (!code)
        code = set_up_data(t);
    if (!code)
        code = group_agree(world, group_rank(world) == 0 && log ? events_open(&t->board, c->tensorboard_dir) : 0);
    if (code)
        training_destroy(t);
    return code;
}

size_t training_bytes(const training *t)
{
    const step_tokens *d = &t->on_device;
    return gpt_model_bytes(t->m) + zero_bytes(&t->z) +
           d->count * (sizeof *d->ids + sizeof *d->targets + sizeof *d->mask);
}

void training_destroy(training *t)
{
    curve_free(&t->curve);
    events_close(&t->board);
    if (t->on.ops)
        training_free_tokens(t);
    corpus_close(t->test);
    corpus_close(t->valid);
    corpus_close(t->train);
    zero_destroy(&t->z);
    free(t->tensors);
    free(t->units);
    gpt_model_destroy(t->m);
    parallel_destroy(&t->p);
    nn_close(&t->on);
    *t = (training){.world = t->world};
}
