/* SPDX-License-Identifier: MIT */
/* JSON files of tokenizers: parsing, and fields with messages that name file and field. */
#ifndef RINGX_GPT_JSON_FIELDS_H
#define RINGX_GPT_JSON_FIELDS_H

#include "gpt/buffers.h"
#include "gpt/normalize.h"
#include "gpt/pretokenize.h"

#include <jansson.h>

/* An object at the top, without duplicate keys. */
int json_parse(const char *path, const byte_list *text, json_t **root);
/* The last part of a dotted name in `object`, of this type. */
int json_field(json_t *object, const char *path, const char *name, json_type type, json_t **value);
const char *json_text(json_t *object, const char *name); /* "" where there is no such text */
/* Puts "path: what: " before the message of a failure; passes CODE_GOOD on. */
int in_file(int code, const char *path, const char *what, ...) __attribute__((format(printf, 3, 4)));

/* ---- pretokenize_json.c ---- */

/* The steps of pre_tokenizer; fails where they are not byte-level. */
int pretokenizer_load(pretokenizer *p, const char *path, json_t *root);
/* normalizer: null, a Unicode normal form, or a Sequence of them. */
int normalizer_load(normalizer *n, const char *path, json_t *root);

#endif
