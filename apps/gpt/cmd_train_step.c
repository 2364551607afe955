/* SPDX-License-Identifier: MIT */
/* One step, and evaluation.
 *
 * The loss of a step is Σ mask·nll / Σ mask over all samples of its global batch: sums over context, data and
 * accumulation are plain sums, so that gradients are those of one rank with the whole batch. */
#include "gpt/cmd_train.h"

#include <math.h>

/* Sum over ranks that hold different tokens of the same weights: the gradient group. */
static int sum_over_tokens(const training *t, double *value)
{
    return group_sum(t->p.gradient, value);
}

static void lap(training *t, train_timer which, double *since)
{
    double now = seconds_now();
    t->timers[which] += now - *since;
    *since = now;
}

/* First sample of this rank in micro-step a of a step whose samples begin at `begin`: each micro-step is cut
 * contiguously over the data ranks. */
static int64_t first_sample(const training *t, int64_t begin, int64_t a)
{
    return begin + (a * t->dp + t->p.at[AXIS_DATA]) * t->c->train_micro_batch_size_per_gpu;
}

/* All samples of a step, and the number of tokens that count over all ranks. */
static int read_step(training *t, const corpus *from, int64_t begin, double *tokens)
{
    int64_t micro = t->c->train_micro_batch_size_per_gpu;
    int code = CODE_GOOD;
    *tokens = 0;
    for (int64_t a = 0; a < t->c->gradient_accumulation_steps && !code; a++)
        code = training_read(t, from, first_sample(t, begin, a), micro, a * micro, tokens);
    code = code ? code : training_upload(t);
    code = group_agree(t->world, code);
    if (!code)
        code = group_sum(t->p.data, tokens);
    if (!code && !(*tokens > 0))
        code = fail(CODE_BAD_INPUT, "no token of the samples from %lld on counts for the loss", (long long)begin);
    return code;
}

static gpt_batch batch_of(const training *t, int64_t a)
{
    int64_t at = a * t->c->train_micro_batch_size_per_gpu * gpt_model_local_tokens(t->m);
    const step_tokens *d = &t->on_device;
    return (gpt_batch){d->ids + at, d->targets + at, t->c->eod_mask_loss ? d->mask + at : NULL};
}

/* Sums that were under way have spread what is not finite to all ranks: gradients are taken once more without them, so
 * that the rank where it arose is the one that is named. */
static int refuse_loss(training *t, const gpt_batch *b, double scale, double loss)
{
    int code = zero_end(&t->z);
    if (!code && t->z.lane) {
        double again;
        code = zero_clear(&t->z);
        code = group_agree(t->world, code ? code : gpt_model_train(t->m, b, scale, &again));
    }
    return code ? code : zero_refuse(&t->z, t->iteration + 1, "the loss", loss);
}

/* Forward and backward of all micro-steps; *nll: Σ over all ranks. */
static int accumulate(training *t, double scale, double *nll, bool *finite, double *since)
{
    int64_t steps = t->c->gradient_accumulation_steps;
    int code = CODE_GOOD;
    *nll = 0;
    *finite = true;
    for (int64_t a = 0; a < steps && !code; a++) {
        gpt_batch b = batch_of(t, a);
        double part = 0;
        code = training_documents(t, a);
        zero_begin(&t->z, a == steps - 1);
        code = zero_give_up(&t->z, code ? code : gpt_model_train(t->m, &b, scale, &part), false);
        code = zero_give_up(&t->z, group_agree(t->world, code), true);
        if (!code)
            code = sum_over_tokens(t, &part);
        lap(t, TIMER_MODEL, since);
        *nll += part;
        if (!code && !isfinite(part)) {
            *finite = false;
            return t->scaler.dynamic ? zero_end(&t->z) : refuse_loss(t, &b, scale, part);
        }
        if (!code)
            code = zero_accumulate(&t->z, a == steps - 1);
        lap(t, TIMER_REDUCE, since);
    }
    return code;
}

/* Norm, scale, clipping, update; or none of it where fp16 overflowed. */
static int update(training *t, bool finite)
{
    double norm = NAN, back = 1 / t->scaler.scale;
    bool apply;
    int code = finite ? zero_norm(&t->z, back, &norm) : CODE_GOOD;
    if (code)
        return code;
    t->last_norm = norm;
    if (!isfinite(norm) && !t->scaler.dynamic)
        return zero_refuse(&t->z, t->iteration + 1, "the gradient's norm", norm);
    code = loss_scaler_step(&t->scaler, isfinite(norm), &apply);
    if (code)
        return code;
    return apply ? zero_update(&t->z, lr_at(&t->rates, t->iteration), back, norm) : zero_clear(&t->z);
}

int training_step(training *t)
{
    double begin = seconds_now(), since = begin, tokens, nll = 0;
    bool finite = true;
    int code = read_step(t, t->train, t->iteration * t->c->train_batch_size, &tokens);
    lap(t, TIMER_BATCH, &since);
    if (!code)
        code = accumulate(t, t->scaler.scale / tokens, &nll, &finite, &since);
    if (!code)
        code = update(t, finite);
    if (!code)
        code = t->on.ops->wait(&t->on);
    lap(t, TIMER_OPTIMIZER, &since);
    code = group_agree(t->world, code);
    if (code)
        return code;
    t->last_loss = nll / tokens;
    t->loss_sum += finite ? t->last_loss : 0;
    t->losses += finite;
    t->not_finite += !finite;
    t->steps++;
    t->iteration++;
    t->seconds += seconds_now() - begin;
    return CODE_GOOD;
}

int training_evaluate(training *t, const corpus *from, int64_t first, double *loss)
{
    double sum = 0, all = 0;
    int code = CODE_GOOD;
    for (int64_t i = 0; i < t->c->eval_iters && !code; i++) {
        double tokens, nll = 0;
        code = read_step(t, from, first + i * t->c->train_batch_size, &tokens);
        for (int64_t a = 0; a < t->c->gradient_accumulation_steps && !code; a++) {
            gpt_batch b = batch_of(t, a);
            double part = 0;
            code = training_documents(t, a);
            code = code ? code : gpt_model_loss(t->m, &b, &part);
            nll += part;
        }
        code = group_agree(t->world, code);
        if (!code)
            code = sum_over_tokens(t, &nll);
        sum += nll;
        all += tokens;
    }
    *loss = sum / all;
    return code;
}
