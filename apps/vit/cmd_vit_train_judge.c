/* SPDX-License-Identifier: MIT */
/* What was learnt, beside the persistence forecast (nothing changes): mean relative L2 error over every pair of moments
 * in the validation files, each once. */
#include "vit/cmd_vit_train.h"

#include <math.h>
#include <stdlib.h>

typedef struct pairs { /* a batch of moments, of this rank's band */
    int64_t filled;
    float *input, *target;
    double model, persistence; /* Σ over samples so far */
    int64_t samples;
} pairs;

static size_t band_values(const vit_training *t)
{
    return (size_t)(t->c->n_in_channels * vit_model_band(t->m).count * t->c->img_size[1]);
}

/* Whole images of two moments on this rank alone: ‖a − b‖ / ‖b‖. */
static int compare_moments(vit_training *t, vit_moment a, vit_moment b, double *error)
{
    vit_band all = {0, t->c->img_size[0]};
    size_t n = (size_t)(t->c->n_in_channels * all.count * t->c->img_size[1]);
    float *x = allocate(2 * n * sizeof *x), *y = x + n;
    double difference = 0, size = 0;
    int code = x ? vit_dataset_read(t->valid, a, all, x) : CODE_NO_MEMORY;
    if (!code)
        code = vit_dataset_read(t->valid, b, all, y);
    for (size_t i = 0; i < n && !code; i++) {
        double d = (double)x[i] - (double)y[i];
        difference += d * d, size += (double)y[i] * (double)y[i];
    }
    *error = sqrt(difference / size);
    free(x);
    return code;
}

/* The model's errors of the moments that were gathered; what does not fill a batch is its first again. */
static int flush_pairs(vit_training *t, pairs *p)
{
    size_t n = band_values(t);
    if (p->filled == 0)
        return CODE_GOOD;
    for (int64_t i = p->filled; i < t->layout.local_batch; i++)
        for (size_t j = 0; j < n; j++)
            p->input[(size_t)i * n + j] = p->input[j], p->target[(size_t)i * n + j] = p->target[j];
    vit_batch b = {.input = p->input, .target = p->target};
    int code = group_agree(t->world, vit_model_loss(t->m, &b, t->losses));
    for (int64_t i = 0; i < p->filled && !code; i++)
        p->model += t->losses[i];
    p->samples += p->filled;
    p->filled = 0;
    return code;
}

static int add_pair(vit_training *t, pairs *p, vit_moment from)
{
    vit_moment to = {from.year, from.step + t->c->dt};
    size_t at = (size_t)p->filled * band_values(t);
    double error = NAN;
    int code = vit_dataset_read(t->valid, from, vit_model_band(t->m), p->input + at);
    if (!code)
        code = vit_dataset_read(t->valid, to, vit_model_band(t->m), p->target + at);
    if (!code)
        code = compare_moments(t, from, to, &error);
    p->persistence += error;
    p->filled++;
    code = group_agree(t->world, code);
    return code || p->filled < t->layout.local_batch ? code : flush_pairs(t, p);
}

int vit_training_judge(vit_training *t, double *model, double *persistence)
{
    size_t n = (size_t)t->layout.local_batch * band_values(t);
    pairs p = {.input = allocate(n * sizeof(float)), .target = allocate(n * sizeof(float))};
    int code = t->valid ? CODE_GOOD : fail(CODE_CONFIGURATION, "valid_data_path is needed to compare with persistence");
    if (!code && !(p.input && p.target))
        code = CODE_NO_MEMORY;
    code = group_agree(t->world, code);
    for (int64_t year = 0; !code && year < vit_dataset_years(t->valid); year++)
        for (int64_t step = 0; !code && step + t->c->dt < vit_dataset_steps(t->valid, year); step++)
            code = add_pair(t, &p, (vit_moment){year, step});
    if (!code)
        code = flush_pairs(t, &p);
    *model = p.model / (double)p.samples;
    *persistence = p.persistence / (double)p.samples;
    free(p.input);
    free(p.target);
    return code;
}
