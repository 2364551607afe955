/* SPDX-License-Identifier: MIT */
/* Unicode normal forms, for tokenizers that ask for one. */
#ifndef RINGX_GPT_NORMALIZE_H
#define RINGX_GPT_NORMALIZE_H

#include "gpt/buffers.h"

#define MAX_FORMS 8

typedef enum normal_form { FORM_NFD, FORM_NFC, FORM_NFKD, FORM_NFKC, FORMS } normal_form;
extern const char *const normal_form_names[FORMS + 1];

typedef struct normalizer {
    normal_form forms[MAX_FORMS]; /* one after the other */
    size_t count;
} normalizer;

/* Well-formed text in these forms, replacing what `into` holds. */
int normalize(const normalizer *n, const uint8_t *text, size_t count, byte_list *into);

#endif
