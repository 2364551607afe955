/* SPDX-License-Identifier: MIT */
/* Byte-pair encoding of one piece of text: merge the adjacent pair of least rank (the leftmost of equals) until none
 * merges. */
#ifndef RINGX_GPT_BPE_H
#define RINGX_GPT_BPE_H

#include "gpt/vocabulary.h"

typedef struct bpe_model {
    vocabulary words;
    merge_table merges;
    int32_t byte_ids[256]; /* -1: no token is this byte alone */
    bool whole_first;      /* a piece that is a token is that token, whatever the merges say */
} bpe_model;

typedef struct bpe_link {      /* a token of the piece, in a doubly linked list */
    int32_t id, before, after; /* -1: none */
} bpe_link;

typedef struct bpe_candidate {
    uint32_t rank;
    int32_t at, left, right, made; /* of links and ids as they were when it was queued */
} bpe_candidate;

typedef struct bpe_scratch { /* of one thread */
    bpe_link *links;
    bpe_candidate *heap;
    size_t links_room, heap_room, heap_count;
} bpe_scratch;

void bpe_scratch_free(bpe_scratch *scratch);

/* Ids of `count` bytes, appended.  Fails where a byte has no token.  O(n log n). */
int bpe_piece(const bpe_model *model, bpe_scratch *scratch, const uint8_t *bytes, size_t count, id_list *into);
/* Fills byte_ids from words. */
void bpe_find_bytes(bpe_model *model);
void bpe_free(bpe_model *model);

#endif
