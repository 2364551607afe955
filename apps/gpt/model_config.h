/* SPDX-License-Identifier: MIT */
/* A model and its run as a training configuration says: the same for training and for what is planned on paper. */
#ifndef GPT_MODEL_CONFIG_H
#define GPT_MODEL_CONFIG_H

#include "gpt/model.h"
#include "train/config.h"

/* The tokenizer's size, padded, and its end of document (-1: none), or what vocab_size says. */
int gpt_find_vocabulary(const config *c, int64_t *vocabulary, int32_t *eod);

typedef struct gpt_settings {
    gpt_config model;
    ringx_dtype dtype;
    gpt_run run; /* of training; its pointers are to what follows, and to texts of the configuration */
    ringx_options *attention;
    size_t *attention_of;
} gpt_settings;

/* c: after config_batch. */
int gpt_settings_create(gpt_settings *s, const config *c, int64_t vocabulary);
void gpt_settings_destroy(gpt_settings *s);

#endif
