/* SPDX-License-Identifier: MIT */
/* One step, and evaluation.
 *
 * The loss of a step is the mean over the samples of its global batch: sums over context and data ranks are plain sums,
 * so that gradients are those of one rank with the whole batch. */
#include "shared/numbers.h"
#include "vit/cmd_vit_train.h"

#include <math.h>
#include <stdlib.h>

int vit_scores_create(vit_scores *s, int64_t channels)
{
    *s = (vit_scores){.loss = NAN,
                      .rmse = allocate((size_t)channels * sizeof *s->rmse),
                      .acc = allocate((size_t)channels * sizeof *s->acc)};
    return s->rmse && s->acc ? CODE_GOOD : CODE_NO_MEMORY;
}

void vit_scores_free(vit_scores *s)
{
    free(s->rmse);
    free(s->acc);
    *s = (vit_scores){.loss = NAN};
}

static int gradients(vit_training *t, const vit_batch *b)
{
    double scale = t->scaler.scale / (double)t->layout.global_batch;
    return vit_model_train(t->m, b, scale, random_word((uint64_t)t->c->seed, (uint64_t)t->iteration), t->losses);
}

/* A loss that is not finite.  Sums that were under way have spread to all ranks what is not: without a scale that may
 * be to blame, gradients are taken once more without them, so that the rank where it arose is the one that is named. */
static int refuse_loss(vit_training *t, const vit_batch *b, double loss)
{
    int code = zero_end(&t->z);
    if (code || t->scaler.dynamic)
        return code;
    if (t->z.lane) {
        code = zero_clear(&t->z);
        code = group_agree(t->world, code ? code : gradients(t, b));
    }
    return code ? code : zero_refuse(&t->z, t->iteration, "the loss", loss);
}

/* Forward and backward; *loss: mean over the global batch. */
static int accumulate(vit_training *t, const vit_batch *b, double *loss)
{
    zero_begin(&t->z, true);
    int code = zero_give_up(&t->z, gradients(t, b), false);
    code = zero_give_up(&t->z, group_agree(t->world, code), true);
    *loss = 0;
    for (int64_t i = 0; i < t->layout.local_batch && !code; i++)
        *loss += t->losses[i];
    if (!code)
        code = group_sum(t->p.data, loss);
    *loss /= (double)t->layout.global_batch;
    if (!code && !isfinite(*loss))
        return refuse_loss(t, b, *loss);
    return code || t->c->noddp ? code : zero_accumulate(&t->z, true);
}

/* Update; or none of it where fp16 overflowed. */
static int update(vit_training *t, double loss)
{
    double norm = NAN, back = 1 / t->scaler.scale;
    bool apply;
    int code = isfinite(loss) ? zero_norm(&t->z, back, &norm) : CODE_GOOD;
    if (!code && !isfinite(norm) && !t->scaler.dynamic)
        code = zero_refuse(&t->z, t->iteration, "the gradient's norm", norm);
    if (!code)
        code = loss_scaler_step(&t->scaler, isfinite(norm), &apply);
    if (code)
        return code;
    return apply ? zero_update(&t->z, vit_learning_rate(t->c, t->iteration), back, norm) : zero_clear(&t->z);
}

int vit_training_step(vit_training *t)
{
    vit_batch b;
    double begin = seconds_now(), loss = NAN;
    vit_log_print(&t->log, "rank %d: epoch %lld step %lld", group_rank(t->world), (long long)t->epoch,
                  (long long)t->step);
    int code = group_agree(t->world, vit_loader_next(t->train_batches, &b));
    if (!code)
        code = accumulate(t, &b, &loss);
    if (!code)
        code = update(t, loss);
    if (!code)
        code = t->on.ops->wait(&t->on);
    code = group_agree(t->world, code);
    if (code)
        return code;
    if (isfinite(loss))
        t->last_loss = loss, t->epoch_loss += loss, t->epoch_steps++;
    vit_dataset_date(t->train, vit_dataset_sample(t->train, b.samples[0]), t->date);
    t->steps++, t->step++, t->iteration++;
    t->seconds += seconds_now() - begin;
    return CODE_GOOD;
}

/* ---- evaluation ---- */

/* Adds the scores of the batch that was predicted last. */
static int add_scores(vit_training *t, vit_scores *s)
{
    int64_t channels = t->c->n_out_channels;
    double pixels = (double)t->c->img_size[0] * (double)t->c->img_size[1];
    int code = vit_model_scores(t->m, vit_dataset_weights(t->valid), t->sums);
    for (int64_t i = 0; i < t->layout.local_batch * channels && !code; i++) {
        s->rmse[i % channels] += vit_rmse(&t->sums[i], pixels);
        s->acc[i % channels] += vit_acc(&t->sums[i]);
    }
    for (int64_t i = 0; i < t->layout.local_batch && !code; i++)
        s->loss += t->losses[i];
    s->samples += t->layout.local_batch;
    return code;
}

/* Means over the samples of all data ranks. */
static int average(vit_training *t, vit_scores *s)
{
    int64_t channels = t->c->n_out_channels;
    double samples = (double)s->samples;
    int code = group_sum(t->p.data, &samples);
    if (!code)
        code = group_sum(t->p.data, &s->loss);
    if (!code)
        code = group_all_reduce(t->p.data, GROUP_SUM, GROUP_F64, s->rmse, (size_t)channels);
    if (!code)
        code = group_all_reduce(t->p.data, GROUP_SUM, GROUP_F64, s->acc, (size_t)channels);
    s->samples = (int64_t)samples;
    s->loss /= samples;
    for (int64_t c = 0; c < channels; c++)
        s->rmse[c] /= samples, s->acc[c] /= samples;
    return code;
}

int vit_training_evaluate(vit_training *t, int64_t batches, vit_scores *s)
{
    vit_batch b;
    s->loss = 0, s->samples = 0;
    for (int64_t c = 0; c < t->c->n_out_channels; c++)
        s->rmse[c] = s->acc[c] = 0;
    int code = group_agree(t->world, vit_loader_seek(t->valid_batches, 0, 0));
    for (int64_t i = 0; i < batches && !code; i++) {
        code = group_agree(t->world, vit_loader_next(t->valid_batches, &b));
        if (!code)
            code = vit_model_loss(t->m, &b, t->losses);
        if (!code)
            code = add_scores(t, s);
        code = group_agree(t->world, code);
    }
    return code ? code : average(t, s);
}
