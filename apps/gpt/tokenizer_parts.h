/* SPDX-License-Identifier: MIT */
/* What a tokenizer is made of: for the files that load one, and for the encoder. */
#ifndef RINGX_GPT_TOKENIZER_PARTS_H
#define RINGX_GPT_TOKENIZER_PARTS_H

#include "gpt/bpe.h"
#include "gpt/normalize.h"
#include "gpt/pretokenize.h"
#include "gpt/tokenizer.h"

#define MAX_ADDED  65536 /* tokens */
#define MAX_AROUND 16    /* ids before or after a text */
#define MAX_FILE   ((size_t)1 << 30)
#define MAX_PASSES 2

typedef struct added_token {
    byte_list text;
    int32_t id;
    bool special, normalized, left_strip, right_strip;
} added_token;

/* Tokens that are looked for in the text before it is cut into pieces: first those that are looked for in the raw text,
 * then, in what is left, the others. */
typedef struct added_tokens {
    added_token *items; /* by first byte; of those with the same one, the longest first */
    size_t count, room;
    int32_t least, most; /* ids */
    size_t first[257];   /* items of first byte b: first[b] … first[b+1]-1 */
} added_tokens;

struct tokenizer {
    bpe_model model;
    normalizer forms;
    pretokenizer cuts;
    added_tokens added;
    bool parses_special, bytes_only;
    int32_t before[MAX_AROUND], after[MAX_AROUND];
    size_t n_before, n_after;
    int32_t eod;
    size_t size;
};

/* ---- added_tokens.c ---- */

int added_put(added_tokens *added, added_token token); /* takes its text over, also on failure */
void added_sort(added_tokens *added);                  /* after the last one */
const added_token *added_by_id(const added_tokens *added, int32_t id);
const added_token *added_by_text(const added_tokens *added, const uint8_t *text, size_t count);
void added_free(added_tokens *added);

typedef struct added_match {
    const added_token *token; /* NULL: none is left */
    size_t begin, end;
} added_match;
/* The next match in text[from …]; `special` tokens only if asked for. Pass 0: not normalized, 1: normalized. */
added_match added_next(const added_tokens *added, int pass, bool special, const uint8_t *text, size_t count,
                       size_t from);

/* ---- loaders: fill a zeroed tokenizer; messages begin with the path ---- */

int tokenizer_load_json(tokenizer *t, const char *path, const byte_list *text);     /* tokenizer_json.c */
int tokenizer_load_tiktoken(tokenizer *t, const char *path, const byte_list *text); /* tokenizer_tiktoken.c */
int tokenizer_load_gpt2(tokenizer *t, const char *path, const byte_list *text, const char *merges);

/* ---- tokenizer_json.c ---- */

/* A token written in the byte-level alphabet, or any other text, which then is not byte-level. */
int tokenizer_add_text(tokenizer *t, int64_t id, const char *text, size_t length);
/* Merge number `rank` of two tokens written in the alphabet: "Ġ", "t". */
int tokenizer_add_merge(tokenizer *t, size_t rank, const char *left, size_t left_length, const char *right,
                        size_t right_length);

#endif
