/* SPDX-License-Identifier: MIT */
/* The tiny Llama of tests/data/llama (made with transformers, see its README): model, batch and reference. */
#ifndef LLAMA_CASE_H
#define LLAMA_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpt/hf_files.h"
#include "gpt/model.h"
#include "shared/numbers.h"
#include "shared/report.h"
#include "shared/safetensors.h"

#include <cmocka.h>

static const nn_context cpu = {.ops = &nn_cpu};
static const char llama_config[] = RINGX_TEST_DATA "/llama/config.json";
static const char llama_model[] = RINGX_TEST_DATA "/llama/model.safetensors";
static const char llama_reference[] = RINGX_TEST_DATA "/llama/reference.safetensors";

static inline void good(int code)
{
    if (code)
        fail_msg("code %d: %s", code, failure());
}

/* A tensor of a file, in memory of its own. */
static inline void *tensor_of(const st_file *f, const char *name, size_t *bytes)
{
    const st_tensor *t = st_find(f, name);
    if (!t)
        fail_msg("%s is missing", name);
    *bytes = (size_t)(t->end - t->begin);
    void *data = malloc(*bytes + 1);
    assert_non_null(data);
    good(st_read(f, t, data));
    return data;
}

typedef struct llama_batch { /* whole samples */
    int64_t samples, tokens, unmasked;
    int32_t *ids, *targets;
    float *mask;
} llama_batch;

static inline llama_batch llama_batch_read(void)
{
    st_file f;
    size_t bytes;
    good(st_open(&f, llama_reference));
    llama_batch b = {.samples = 2, .tokens = 96};
    b.ids = tensor_of(&f, "tokens", &bytes);
    assert_int_equal(bytes, 2 * 96 * 4);
    b.targets = tensor_of(&f, "targets", &bytes);
    b.mask = malloc(2 * 96 * sizeof *b.mask);
    for (int64_t t = 0; t < 2 * 96; t++) {
        b.mask[t] = b.targets[t] == -100 ? 0 : 1;
        b.unmasked += b.targets[t] != -100;
    }
    st_close(&f);
    return b;
}

static inline void llama_batch_free(llama_batch *b)
{
    free(b->ids), free(b->targets), free(b->mask);
}

static inline gpt_model *llama_create(ringx_dtype dtype, gpt_groups groups)
{
    gpt_config c;
    gpt_model *m;
    good(hf_config_read(&c, llama_config));
    good(gpt_model_create(&m, &c, dtype, &cpu, groups));
    good(hf_weights_read(m, llama_model));
    return m;
}

#endif
