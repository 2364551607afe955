/* SPDX-License-Identifier: MIT */
/* Learning rates, the loss scale, and values that are not finite. */
#include "train/rates.h"

#include "train/device_data.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

lr_schedule lr_schedule_of(const config *c)
{
    int64_t n = c->lr_decay_iters;
    if (!n && c->lr_decay_fraction > 0)
        n = (int64_t)floor((double)c->train_iters * c->lr_decay_fraction);
    if (!n)
        n = c->train_iters;
    return (lr_schedule){.lr = c->lr,
                         .min_lr = c->min_lr,
                         .warmup_iters = c->warmup * (double)n,
                         .decay_iters = n,
                         .style = (decay_style)c->lr_decay_style,
                         .from_one = c->warmup_from_one};
}

/* As the original's: cosine runs over what follows the warm-up, linear and exponential over N. */
double lr_at(const lr_schedule *s, int64_t n)
{
    double step = s->from_one && n < 1 ? 1 : (double)n, w = s->warmup_iters, all = (double)s->decay_iters;
    if (w > 0 && step <= w)
        return s->lr * step / w;
    double done = fmin(step, all) - w, lr = s->lr;
    switch (s->style) {
    case DECAY_CONSTANT:
        break;
    case DECAY_LINEAR:
        lr = all > 0 ? s->lr * (all - done) / all : s->min_lr;
        break;
    case DECAY_COSINE:
        lr = s->min_lr + (s->lr - s->min_lr) / 2 * (1 + cos(all > w ? pi * done / (all - w) : pi));
        break;
    case DECAY_EXPONENTIAL:
        lr = all > 0 ? s->lr * exp(-0.693 * done / all) : s->min_lr;
        break;
    }
    return fmax(lr, s->min_lr);
}

loss_scaler loss_scaler_of(const config *c)
{
    loss_scaler s = {
        .scale = 1, .least = c->min_loss_scale, .window = c->loss_scale_window, .hysteresis = c->hysteresis};
    if (c->precision == PRECISION_FP16) {
        s.dynamic = !(c->loss_scale > 0);
        s.scale = s.dynamic ? exp2((double)c->initial_scale_power) : c->loss_scale;
    }
    s.patience = s.hysteresis;
    return s;
}

int loss_scaler_step(loss_scaler *s, bool finite, bool *apply)
{
    *apply = finite;
    if (finite) {
        s->skipped_in_row = 0;
        if (s->dynamic && ++s->good == s->window) {
            s->scale *= 2;
            s->good = 0;
            s->patience = s->hysteresis;
        }
        return CODE_GOOD;
    }
    if (!s->dynamic)
        return fail(CODE_NOT_FINITE, "gradients are not finite");
    s->good = 0;
    s->skipped++;
    if (--s->patience <= 0)
        s->scale = fmax(s->scale / 2, s->least);
    if (++s->skipped_in_row >= MOST_SKIPPED)
        return fail(CODE_NOT_FINITE, "gradients were not finite in %d steps in a row; the loss scale is %g",
                    MOST_SKIPPED, s->scale);
    return CODE_GOOD;
}

typedef struct finite_search {
    const char *what;
    const named_values *in;
} finite_search;

static int find_bad(void *context, float *values, size_t first, size_t count)
{
    const finite_search *s = context;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return fail(CODE_NOT_FINITE, "%s of %s, element %zu of %zu is %g", s->what, s->in->name, first + i,
                        s->in->count, isnan(values[i]) ? NAN : (double)values[i]);
    return CODE_GOOD;
}

int find_not_finite(ringx_device device, const char *what, const named_values *values, size_t count)
{
    int code = CODE_GOOD;
    for (size_t t = 0; t < count && !code; t++) {
        finite_search s = {what, &values[t]};
        code = device_walk(device, (float *)(uintptr_t)values[t].values, values[t].count, false, find_bad, &s);
    }
    return code;
}

int check_finite(group *g, ringx_device device, const char *what, const named_values *values, size_t count)
{
    return group_agree(g, find_not_finite(device, what, values, count));
}
