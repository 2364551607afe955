/* SPDX-License-Identifier: MIT */
/* Learning rates over iterations, the dynamic loss scale of fp16, and the search for what is not finite. */
#ifndef RINGX_TRAIN_RATES_H
#define RINGX_TRAIN_RATES_H

#include "train/config.h"
#include "train/group.h"

/* ---- learning rate ---- */

typedef struct lr_schedule {
    double lr, min_lr, warmup_iters;
    int64_t decay_iters; /* N */
    decay_style style;
    bool from_one; /* the first step of the warm-up counts as 1, not 0 */
} lr_schedule;

lr_schedule lr_schedule_of(const config *c);
/* Rate of the step that follows n done ones; n = 0 is the first. */
double lr_at(const lr_schedule *s, int64_t n);

/* ---- loss scale ---- */

#define MOST_SKIPPED 50 /* in a row: then training stops */

typedef struct loss_scaler {
    double scale, least;
    bool dynamic;
    int64_t window, hysteresis; /* good steps until it doubles; bad ones that it takes to halve */
    int64_t good, patience;     /* good steps in a row; bad ones that are still free */
    int64_t skipped, skipped_in_row;
} loss_scaler;

loss_scaler loss_scaler_of(const config *c); /* scale 1 and not dynamic unless precision is fp16 */
/* After a step whose gradients were finite or not.  *apply: whether to update.  With a fixed scale and with fp32 or
 * bf16 nothing may be infinite: CODE_NOT_FINITE, as after MOST_SKIPPED skipped steps. */
int loss_scaler_step(loss_scaler *s, bool finite, bool *apply);

#define CODE_NOT_FINITE 80

/* ---- what is not finite ---- */

typedef struct named_values {
    const char *name;
    const float *values;
    size_t count;
} named_values;

/* Of memory of the device, of this rank alone: CODE_NOT_FINITE with "<what> of <name>, element I of N is V". */
int find_not_finite(ringx_device device, const char *what, const named_values *values, size_t count);
/* Agreed over g: CODE_NOT_FINITE with "rank R: <what> of <name>, element I: value" if any
 * rank has such a value.  The names are those of tensors and say their layer. */
int check_finite(group *g, ringx_device device, const char *what, const named_values *values, size_t count);

#endif
