/* SPDX-License-Identifier: MIT */
/* The tiny vision transformer of tests/data/vit (see its README): model, batch and reference. */
#ifndef VIT_CASE_H
#define VIT_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/numbers.h"
#include "shared/report.h"
#include "shared/safetensors.h"
#include "vit/vit_metrics.h"
#include "vit/vit_model.h"

#include <cmocka.h>

static const nn_context cpu = {.ops = &nn_cpu};
static const vit_shape oracle_shape = {.height = 24,
                                       .width = 48,
                                       .patch = 4,
                                       .channels_in = 5,
                                       .channels_out = 5,
                                       .embed = 32,
                                       .depth = 2,
                                       .heads = 4,
                                       .norm_eps = 1e-6};

static inline void good(int code)
{
    if (code)
        fail_msg("code %d: %s", code, failure());
}

/* A tensor of a file, in memory of its own; count: of its floats. */
static inline float *floats_of(const st_file *f, const char *name, size_t *count)
{
    const st_tensor *t = st_find(f, name);
    if (!t)
        fail_msg("%s is missing", name);
    *count = (size_t)(t->end - t->begin) / sizeof(float);
    float *data = malloc((size_t)(t->end - t->begin) + 1);
    assert_non_null(data);
    good(st_read(f, t, data));
    return data;
}

/* Reads the oracle's weights into a model, whatever part of them it holds. */
static inline void oracle_weights(vit_model *m)
{
    st_file f;
    const vit_parameter *all;
    size_t n = vit_model_parameters(m, &all), count;
    good(st_open(&f, RINGX_TEST_DATA "/vit/model.safetensors"));
    assert_int_equal(f.n_tensors, n);
    for (size_t i = 0; i < n; i++) {
        const vit_parameter *p = &all[i];
        float *whole = floats_of(&f, p->name, &count), *part = malloc(p->count * sizeof *part);
        assert_int_equal(count, p->rows * p->columns);
        for (int64_t j = 0; j < (int64_t)p->count; j++)
            part[j] =
                whole[(p->first_row + j / p->local_columns) * p->columns + p->first_column + j % p->local_columns];
        good(vit_model_put(m, i, part));
        free(whole), free(part);
    }
    st_close(&f);
}

/* ‖found − right‖ ≤ tolerance·‖right‖, and no element off by more than that of the largest. */
static inline void assert_close(const float *found, const float *right, size_t count, double tolerance,
                                const char *what)
{
    double difference = 0, size = 0, most = 0, worst = 0;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)found[i] - (double)right[i]);
        difference += d * d, size += (double)right[i] * (double)right[i];
        most = fmax(most, fabs((double)right[i]));
        worst = d <= worst ? worst : d; /* NaN stays */
    }
    if (!(sqrt(difference) <= tolerance * sqrt(size)) || !(worst <= tolerance * most))
        fail_msg("%s: off by %.3g of %.3g, at most by %.3g of %.3g", what, sqrt(difference), sqrt(size), worst, most);
}

/* [batch][channels][height][width] values that look like fields. */
static inline float *random_fields(uint64_t key, int64_t batch, int64_t channels, const vit_shape *s)
{
    size_t n = (size_t)(batch * channels * s->height * s->width);
    float *fields = malloc(n * sizeof *fields);
    for (size_t i = 0; i < n; i++)
        fields[i] = random_normal(key, i);
    return fields;
}

#endif
