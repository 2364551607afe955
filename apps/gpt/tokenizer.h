/* SPDX-License-Identifier: MIT */
/* Tokenizers: text to token ids and back.
 *
 * Byte-level BPE from a Hugging Face tokenizer.json, from a tiktoken file with Llama-3's pattern and special tokens
 * (tokenizer.model), from GPT-2's vocab.json and merges.txt; and bytes as they are (CharLevel). Ids are those of the
 * packages `tokenizers` and `tiktoken`. */
#ifndef RINGX_GPT_TOKENIZER_H
#define RINGX_GPT_TOKENIZER_H

#include "gpt/buffers.h"

typedef enum tokenizer_kind {
    TOKENIZER_ANY, /* by what the file holds */
    TOKENIZER_HF,
    TOKENIZER_TIKTOKEN,
    TOKENIZER_GPT2,
    TOKENIZER_BYTES, /* 256 bytes in a vocabulary of 512, eod 0; no file */
    TOKENIZER_KINDS
} tokenizer_kind;
extern const char *const tokenizer_kinds[TOKENIZER_KINDS + 1]; /* the names that --tokenizer-type takes */

typedef enum invalid_utf8 {
    INVALID_ERROR,   /* refuse the text, naming the byte */
    INVALID_REPLACE, /* U+FFFD for each part that is not well-formed, as Python's errors="replace" */
    INVALID_KEEP     /* such bytes are pieces of their own: decoding gives back the very bytes */
} invalid_utf8;
extern const char *const invalid_utf8_names[];

typedef struct tokenizer tokenizer; /* read-only once open: any number of threads */

/* merges: GPT2 only (else NULL).  Fails (CODE_BAD_INPUT, CODE_MISSING) with one line that names file and item. */
int tokenizer_open(tokenizer **made, tokenizer_kind kind, const char *path, const char *merges);
void tokenizer_close(tokenizer *t); /* NULL is fine */

size_t tokenizer_size(const tokenizer *t);                    /* all ids are below */
int32_t tokenizer_find(const tokenizer *t, const char *text); /* of an added token, or of a token's bytes; -1 */
int32_t tokenizer_eod(const tokenizer *t);                    /* end of document; -1: the tokenizer has none */
bool tokenizer_parses_special(const tokenizer *t);            /* whether its package does by itself */

/* The vocabulary a model has: size rounded up to a multiple of divisible_by·tp. */
int64_t tokenizer_padded_size(size_t size, int64_t divisible_by, int64_t tp);

/* ---- encoding ---- */

typedef struct encode_options {
    invalid_utf8 invalid;
    bool parse_special; /* special tokens written out in the text become their ids */
    bool add_special;   /* what the file's post-processor puts before and after (Llama-3: <|begin_of_text|>) */
} encode_options;

typedef struct encoder encoder; /* of one thread */
int encoder_open(encoder **made, const tokenizer *t);
void encoder_close(encoder *e); /* NULL is fine */
/* Ids are appended; on failure `into` is as it was. */
int encoder_encode(encoder *e, const void *text, size_t bytes, const encode_options *options, id_list *into);

/* ---- decoding ---- */

/* The bytes of the ids, appended. Any ids are allowed, so what comes out need not be well-formed UTF-8. */
int tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t count, bool skip_special, byte_list *into);

#endif
