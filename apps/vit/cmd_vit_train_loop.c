/* SPDX-License-Identifier: MIT */
/* The loop: steps, log lines, evaluations, checkpoints, and the end. */
#include "train/stop.h"
#include "vit/cmd_vit_train.h"

#include <math.h>

static int evaluate(vit_training *t)
{
    double begin = seconds_now();
    if (!t->valid)
        return CODE_GOOD;
    int code = vit_training_evaluate(t, t->valid_batches_count, &t->scores);
    return code ? code : group_agree(t->world, vit_log_evaluation(t, seconds_now() - begin));
}

/* Before the first step, as the original: the first batch of training and of validation. */
static int evaluate_first(vit_training *t)
{
    vit_batch b;
    double loss = 0;
    int code = group_agree(t->world, vit_loader_next(t->train_batches, &b));
    if (!code)
        code = group_agree(t->world, vit_model_loss(t->m, &b, t->losses));
    for (int64_t i = 0; i < t->layout.local_batch && !code; i++)
        loss += t->losses[i];
    if (!code)
        code = group_sum(t->p.data, &loss);
    if (!code && t->valid)
        code = vit_training_evaluate(t, 1, &t->scores);
    if (!code)
        code = vit_loader_seek(t->train_batches, 0, 0);
    if (!code)
        code = vit_log_first(t, loss / (double)t->layout.global_batch);
    return group_agree(t->world, code);
}

static bool done(const vit_training *t)
{
    return t->epochs > 0 ? t->epoch >= t->epochs : t->iteration >= t->c->num_iters;
}

static void next_epoch(vit_training *t)
{
    t->epoch++;
    t->step = 0;
    t->epoch_loss = 0;
    t->epoch_steps = 0;
}

/* A step and what follows it; *saved: whether its state is in a checkpoint. */
static int one_step(vit_training *t, const char *const *files, bool *asked, bool *saved)
{
    const vit_config *c = t->c;
    int code = vit_training_step(t);
    *saved = false;
    if (!code && t->step % c->print_steps == 0)
        code = group_agree(t->world, vit_log_steps(t));
    bool ends = t->step == t->steps_per_epoch, last = c->num_iters == t->iteration && t->epochs == 0;
    if (!code && (c->eval_steps ? t->iteration % c->eval_steps == 0 : ends))
        code = evaluate(t);
    if (!code)
        code = stop_asked(t->world, asked);
    if (!code && ends)
        next_epoch(t);
    if (!code && (ends || last || *asked) && vit_training_saves(t)) {
        code = vit_training_save(t, files);
        *saved = true;
    }
    return code;
}

int vit_training_run(vit_training *t, const char *const *files)
{
    bool asked = false, saved = true;
    int64_t from = t->iteration;
    int code = CODE_GOOD;
    vit_log_line(&t->log, "Starting Training Loop...");
    if (t->iteration == 0 && !done(t))
        code = evaluate_first(t);
    while (!code && !asked && !done(t))
        code = one_step(t, files, &asked, &saved);
    if (!code && asked)
        return fail(CODE_STOPPED, "stopped by a signal after iteration %lld%s", (long long)t->iteration,
                    saved ? "; its state is saved: the same command goes on" : "");
    bool evaluated = t->c->eval_steps ? t->iteration % t->c->eval_steps == 0 : t->step == 0;
    if (!code && (!evaluated || t->iteration == from))
        code = evaluate(t); /* what is there at the end */
    if (!code)
        vit_log_line(&t->log, "DONE ---- rank %d", group_rank(t->world));
    return code;
}
