/* SPDX-License-Identifier: MIT */
/* The loop: steps, log lines, evaluations, checkpoints, and the end. */
#include "gpt/cmd_train.h"

#include "train/stop.h"

#include <math.h>
#include <string.h>

static flop_shape shape_of(const training *t)
{
    const config *c = t->c;
    return (flop_shape){.layers = (double)c->num_layers,
                        .width = (double)c->hidden_size,
                        .heads = (double)c->num_attention_heads,
                        .kv_heads = (double)c->num_kv_heads,
                        .head_dim = (double)(c->hidden_size / c->num_attention_heads),
                        .inner = (double)c->intermediate_size,
                        .vocabulary = (double)t->vocabulary,
                        .tokens = (double)c->seq_length,
                        .batch = (double)c->train_batch_size,
                        .recompute = c->checkpoint_activations,
                        .keep_attention = c->checkpoint_activations && c->keep_attention};
}

/* Share of the configured peak; NaN if there is none. */
static double share_of_peak(const training *t, double flops, double seconds)
{
    double peak = t->c->peak_theoretical_tflops * 1e12 * group_ranks(t->world);
    return peak > 0 ? flops / seconds / peak : NAN;
}

static int put_events(training *t, const log_step *s, double seconds)
{
    events *e = &t->board;
    int64_t n = t->iteration;
    double tokens = (double)t->c->train_batch_size * (double)t->c->seq_length / seconds;
    int code = events_scalar(e, "train/learning_rate", n, s->lr);
    code = code ? code : events_scalar(e, "train/lm_loss", n, s->lm_loss);
    if (!isnan(s->loss_scale))
        code = code ? code : events_scalar(e, "train/loss_scale", n, s->loss_scale);
    code = code ? code : events_scalar(e, "train/grad_norm", n, t->last_norm);
    code = code ? code : events_scalar(e, "runtime/samples_per_sec", n, s->samples_per_s);
    code = code ? code : events_scalar(e, "runtime/iteration_time", n, seconds);
    code = code ? code : events_scalar(e, "runtime/steps_per_sec", n, 1 / seconds);
    code = code ? code : events_scalar(e, "runtime/tokens_per_sec", n, tokens);
    code = code ? code : events_scalar(e, "runtime/flops_per_sec_per_gpu", n, s->flops_per_rank);
    if (!isnan(s->mfu)) {
        code = code ? code : events_scalar(e, "runtime/model_flops_utilization", n, s->mfu);
        code = code ? code : events_scalar(e, "runtime/hardware_flops_utilization", n, s->hfu);
    }
    return code ? code : events_flush(e);
}

static void print_timers(const training *t)
{
    static const char *const names[TRAIN_TIMERS] = {"batch generator", "forward-backward", "backward-allreduce",
                                                    "optimizer"};
    log_timer timers[TRAIN_TIMERS];
    for (int i = 0; i < TRAIN_TIMERS; i++)
        timers[i] = (log_timer){names[i], 1e3 * t->timers[i]};
    log_timers_print(t->log, timers, TRAIN_TIMERS);
}

/* Lines about the steps since the last ones. */
static int log_steps(training *t)
{
    double seconds = t->seconds / (double)t->steps;
    flop_shape f = shape_of(t);
    log_step s = {.iteration = t->iteration,
                  .iterations = t->c->train_iters,
                  .samples_per_s = (double)t->c->train_batch_size / seconds,
                  .iteration_ms = 1e3 * seconds,
                  .lr = lr_at(&t->rates, t->iteration - 1),
                  .flops_per_rank = flops_as_logged(&f) / seconds / group_ranks(t->world),
                  .mfu = share_of_peak(t, flops_exact(&f, false), seconds),
                  .hfu = share_of_peak(t, flops_exact(&f, true), seconds),
                  .lm_loss = t->losses ? t->loss_sum / (double)t->losses : NAN,
                  .loss_scale = t->c->precision == PRECISION_FP16 ? t->scaler.scale : NAN,
                  .skipped = t->scaler.skipped - t->skipped_before,
                  .not_finite = t->not_finite};
    live_clear();
    log_step_print(t->log, &s);
    if (t->c->wall_clock_breakdown)
        print_timers(t);
    if (!t->told_memory)
        log_memory_print(t->log, t->iteration);
    t->told_memory = true;
    return put_events(t, &s, seconds);
}

static int after_step(training *t)
{
    double seconds = t->seconds / (double)t->steps;
    flop_shape f = shape_of(t);
    int code = CODE_GOOD;
    bool due = t->iteration % t->c->log_interval == 0;
    if (t->log && due)
        code = log_steps(t);
    else if (t->log)
        live_line(t->iteration, t->c->train_iters, t->last_loss, (double)t->c->train_batch_size * f.tokens / seconds,
                  share_of_peak(t, flops_exact(&f, false), seconds),
                  seconds * (double)(t->c->train_iters - t->iteration));
    if (due) {
        t->seconds = t->loss_sum = 0;
        t->steps = t->losses = t->not_finite = 0;
        t->skipped_before = t->scaler.skipped;
        memset(t->timers, 0, sizeof t->timers);
    }
    return code;
}

static int evaluate(training *t, const corpus *from, const char *chart, int64_t first)
{
    double loss;
    if (!from || t->c->eval_iters == 0)
        return CODE_GOOD;
    int code = training_evaluate(t, from, first, &loss);
    if (code)
        return code;
    if (strcmp(chart, "validation") == 0) {
        t->valid_loss = loss;
        if (t->log)
            code = curve_add(&t->curve, (double)t->iteration, t->last_loss, loss);
    }
    char tag[64];
    if (t->log) {
        live_clear();
        log_evaluation_print(t->log, chart, t->iteration, loss);
        snprintf(tag, sizeof tag, "%.20s/lm_loss", chart);
        code = code ? code : events_scalar(&t->board, tag, t->iteration, loss);
        snprintf(tag, sizeof tag, "%.20s/lm_loss_ppl", chart);
        code = code ? code : events_scalar(&t->board, tag, t->iteration, exp(loss));
        code = code ? code : events_flush(&t->board);
    }
    return group_agree(t->world, code);
}

/* The how-manyeth evaluation this is decides its samples. */
static int64_t evaluation_begin(const training *t, int64_t which)
{
    return which * t->c->eval_iters * t->c->train_batch_size;
}

/* Multiples of checkpoint_factor, or its powers; and what is asked for beside. */
static bool save_due(const training *t)
{
    const config *c = t->c;
    bool due = false;
    for (size_t i = 0; i < c->extra_save_iters.count; i++)
        due = due || c->extra_save_iters.items[i] == (double)t->iteration;
    if (c->checkpoint_factor > 0 && c->checkpoint_scale == SCALE_LINEAR)
        due = due || t->iteration % c->checkpoint_factor == 0;
    if (c->checkpoint_factor > 1 && c->checkpoint_scale == SCALE_LOG)
        for (int64_t n = c->checkpoint_factor; n <= t->iteration; n *= c->checkpoint_factor)
            due = due || n == t->iteration;
    return due;
}

int64_t training_last_evaluation(const training *t)
{
    return evaluation_begin(t, t->c->eval_interval ? t->c->train_iters / t->c->eval_interval : 0);
}

static int finish(training *t)
{
    int code = evaluate(t, t->valid, "validation", training_last_evaluation(t));
    return code ? code : evaluate(t, t->test, "test", 0);
}

int training_run(training *t, const char *const *files)
{
    const config *c = t->c;
    int64_t saved = t->iteration; /* what was loaded is there already */
    bool asked = false, leave = false;
    int code = CODE_GOOD;
    while (!code && !leave && t->iteration < c->train_iters) {
        code = training_step(t);
        if (!code)
            code = group_agree(t->world, after_step(t));
        if (!code && c->eval_interval && t->iteration % c->eval_interval == 0)
            code = evaluate(t, t->valid, "validation", evaluation_begin(t, t->iteration / c->eval_interval - 1));
        if (!code)
            code = stop_asked(t->world, &asked);
        leave = asked || (c->exit_interval && t->iteration % c->exit_interval == 0);
        bool last = leave || t->iteration == c->train_iters;
        if (!code && c->save && (save_due(t) || last)) {
            code = training_save(t, files);
            saved = t->iteration;
        }
    }
    if (t->log)
        live_clear();
    if (!code && asked)
        return fail(CODE_STOPPED, "stopped by a signal after iteration %lld%s", (long long)t->iteration,
                    saved == t->iteration && c->save ? "; its state is saved: the same command goes on" : "");
    return code || leave ? code : finish(t);
}
