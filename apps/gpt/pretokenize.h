/* SPDX-License-Identifier: MIT */
/* Pre-tokenizers: steps that cut text into the pieces inside which byte-pair encoding merges.
 *
 * Patterns are PCRE2 with UTF and UCP.  The letters, numbers and spaces are those of Unicode 16, as in the packages
 * `tokenizers` and `tiktoken`, whatever PCRE2 was built with (pretokenize_pattern.c). */
#ifndef RINGX_GPT_PRETOKENIZE_H
#define RINGX_GPT_PRETOKENIZE_H

#include "gpt/buffers.h"

#define MAX_STEPS 16

extern const char pattern_gpt2[], pattern_llama3[];

typedef enum split_kind {
    SPLIT_ISOLATE, /* matches and what is between them are pieces */
    SPLIT_MATCHES, /* only matches are pieces */
    SPLIT_GAPS,    /* only what is between matches */
    SPLIT_PREFIX   /* no pattern: a piece that does not begin with a space gets one */
} split_kind;

typedef struct split_step {
    split_kind kind;
    void *code; /* the compiled pattern */
} split_step;

typedef struct pretokenizer { /* read-only after it is made: any number of threads */
    split_step steps[MAX_STEPS];
    size_t count;
} pretokenizer;

typedef struct split_scratch { /* of one thread; begins zeroed */
    void *data, *context, *stack;
    byte_list prefixed[MAX_STEPS];
} split_scratch;

typedef int piece_function(void *user, const uint8_t *piece, size_t count);

/* $ and ^ match at line ends where `lines`; fails (CODE_BAD_INPUT) with what is wrong with the pattern, and where. */
int pretokenizer_add(pretokenizer *p, split_kind kind, const char *pattern, bool lines);
void pretokenizer_free(pretokenizer *p);

/* Calls the function with each piece of well-formed UTF-8, in order, until it fails. */
int pretokenize(const pretokenizer *p, split_scratch *scratch, const uint8_t *text, size_t count,
                piece_function *function, void *user);
void split_scratch_free(split_scratch *scratch);

/* ---- pretokenize_pattern.c ---- */

/* The pattern for PCRE2, with classes spelled out; appended with a 0 after it that is not counted. */
int pattern_translate(const char *pattern, byte_list *into);

#endif
