/* SPDX-License-Identifier: MIT */
/* What a run says: lines that scripts parse, TensorBoard's scalars and figure, the curve of its losses. */
#include "vit/cmd_vit_train.h"
#include "vit/vit_figure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int put(vit_training *t, const char *tag, double value)
{
    return events_scalar(&t->board, tag, t->iteration, value);
}

int vit_log_first(vit_training *t, double train_loss)
{
    int code = put(t, "Loss/train", train_loss);
    if (!code && t->valid)
        code = put(t, "Loss/valid", t->scores.loss);
    if (!code && t->valid)
        code = put(t, "RMSE(u10m)/valid", t->scores.rmse[0]);
    return code ? code : events_flush(&t->board);
}

static void tell_mfu(vit_training *t, double samples_per_s)
{
    vit_shape s = vit_shape_of(t->c);
    double flops = 3 * vit_forward_flops(&s) * samples_per_s / group_ranks(t->world);
    double peak = 1e12 * t->c->peak_theoretical_tflops;
    if (peak > 0)
        vit_log_line(&t->log, "  MFU: %.2f %% of %g TFLOPS a rank (%.3f TFLOPS)", 100 * flops / peak, peak / 1e12,
                     flops / 1e12);
}

#define FIGURE_CHANNEL 2 /* t2m in the original's data */
static const char figure_tag[] = "Visualization, t2m";

/* The prediction of the last step's first sample.  Collective. */
static int put_figure(vit_training *t)
{
    const vit_config *c = t->c;
    int64_t channel = c->n_out_channels > FIGURE_CHANNEL ? FIGURE_CHANNEL : c->n_out_channels - 1;
    char title[160], path[sizeof t->folder + 32];
    unsigned char *png = NULL;
    size_t bytes = 0;
    int size[2], code = CODE_GOOD;
    for (int i = 0; i < 2 && !code; i++)
        code = vit_model_image(t->m, i == 0, 0, channel, t->images[i]);
    if (code || group_rank(t->world) != 0)
        return code;
    snprintf(title, sizeof title, "%s, %s, iteration %lld", vit_dataset_channels(t->train)[channel].name, t->date,
             (long long)t->iteration);
    vit_figure f = {.data = t->train, .rows = c->img_size[0], .columns = c->img_size[1], .channel = channel};
    f.patch = c->patch_size, f.truth = t->images[0], f.prediction = t->images[1];
    f.title = title, f.subtitle = "", f.width = 1600, f.height = 800;
    snprintf(path, sizeof path, "%s/output_image.png", t->folder);
    code = vit_figure_encode(&f, &png, &bytes, size);
    if (!code)
        code = events_image(&t->board, figure_tag, t->iteration, &(events_picture){size[1], size[0], png, bytes});
    if (!code)
        code = vit_figure_write(&f, path);
    free(png);
    return code;
}

int vit_log_steps(vit_training *t)
{
    double steps = (double)t->steps, rate = (double)t->layout.global_batch * steps / t->seconds;
    double mean = t->epoch_steps ? t->epoch_loss / (double)t->epoch_steps : NAN;
    vit_log_line(&t->log, "Time taken for %lld steps is %f sec, avg %f samples/sec", (long long)t->steps, t->seconds,
                 rate);
    vit_log_line(&t->log, "  Avg train loss=%f", mean);
    vit_log_line(&t->log, " Memory usage after forward pass: %f GB.", (double)vit_training_bytes(t) / 1e9);
    tell_mfu(t, rate);
    if (t->scaler.dynamic)
        vit_log_line(&t->log, "  Loss scale: %g, %lld steps skipped", t->scaler.scale, (long long)t->scaler.skipped);
    int code = t->pictures ? put_figure(t) : CODE_GOOD; /* first: all ranks take part */
    code = code ? code : put(t, "Loss/train", mean);
    code = code ? code : put(t, "Learning Rate", vit_learning_rate(t->c, t->iteration - 1));
    code = code ? code : put(t, "Avg iters per sec", steps / t->seconds);
    code = code ? code : put(t, "Avg samples per sec", rate);
    t->seconds = 0;
    t->steps = 0;
    return code ? code : events_flush(&t->board);
}

int vit_log_evaluation(vit_training *t, double seconds)
{
    const vit_channel *channels = vit_dataset_channels(t->valid);
    const vit_scores *s = &t->scores;
    vit_log_line(&t->log, "  Avg val loss=%f", s->loss);
    vit_log_line(&t->log, "  Total validation time: %f sec", seconds);
    for (int64_t c = 0; c < t->c->n_out_channels; c++)
        vit_log_line(&t->log, "  %s: RMSE=%f, in physical units %g%s%s, ACC=%f", channels[c].name, s->rmse[c],
                     s->rmse[c] * channels[c].std, *channels[c].unit ? " " : "", channels[c].unit, s->acc[c]);
    int code = put(t, "Loss/valid", s->loss);
    code = code ? code : put(t, "RMSE(u10m)/valid", s->rmse[0]);
    code = code ? code : events_flush(&t->board);
    if (!code && group_rank(t->world) == 0)
        code = curve_add(&t->curve, (double)t->iteration, t->last_loss, s->loss);
    return code;
}
