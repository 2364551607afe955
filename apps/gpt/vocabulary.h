/* SPDX-License-Identifier: MIT */
/* A vocabulary: the bytes of each token by its id, and the id of given bytes; and pairs of tokens that merge into one.
 */
#ifndef RINGX_GPT_VOCABULARY_H
#define RINGX_GPT_VOCABULARY_H

#include "gpt/buffers.h"

#define MAX_TOKENS ((size_t)1 << 24) /* ids are below; no vocabulary in use has a fiftieth of it */

typedef struct token_bytes { /* of one id; absent: length 0 */
    size_t at;               /* in vocabulary.bytes */
    uint32_t length;
    bool byte_level; /* text can be split into it; the others are found as added tokens only */
} token_bytes;

typedef struct vocabulary {
    byte_list bytes;
    token_bytes *tokens;
    size_t count, room; /* ids are below count */
    int32_t *slots;     /* open addressing over the byte-level tokens, -1: free */
    size_t n_slots, used;
} vocabulary;

/* id 0 … MAX_TOKENS-1, length >= 1.  Fails (CODE_BAD_INPUT) where the id is taken, or the bytes are by another
 * byte-level token. */
int vocabulary_add(vocabulary *v, int64_t id, const uint8_t *bytes, size_t length, bool byte_level);
int32_t vocabulary_find(const vocabulary *v, const uint8_t *bytes, size_t length); /* byte-level tokens only; -1 */
const uint8_t *vocabulary_token(const vocabulary *v, int64_t id, size_t *length);  /* NULL: there is no such token */
void vocabulary_free(vocabulary *v);

/* ---- pairs ---- */

typedef struct merge { /* of tokens left and right */
    int32_t left, right;
    uint32_t rank; /* least first */
    int32_t made;
} merge;

typedef struct merge_table {
    merge *slots; /* left -1: free */
    size_t n_slots, used;
} merge_table;

int merges_put(merge_table *table, merge entry); /* replaces an entry of the same pair */
const merge *merges_find(const merge_table *table, int32_t left, int32_t right); /* NULL: they do not merge */
void merges_free(merge_table *table);

uint64_t hash_bytes(const uint8_t *bytes, size_t length);
uint64_t hash_word(uint64_t word);

#endif
