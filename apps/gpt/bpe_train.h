/* SPDX-License-Identifier: MIT */
/* Training a byte-level BPE: counting the pieces of texts, then merging the most frequent pair again and again. */
#ifndef RINGX_GPT_BPE_TRAIN_H
#define RINGX_GPT_BPE_TRAIN_H

#include "gpt/tokenizer.h"
#include "gpt/vocabulary.h"

/* ---- bpe_words.c: different pieces and how often they occur ---- */

typedef struct word {
    size_t at; /* in word_counts.bytes */
    uint32_t length;
    int64_t count;
} word;

typedef struct word_counts {
    byte_list bytes;
    word *words;
    size_t count, room;
    uint32_t *slots; /* index of a word + 1, 0: free */
    size_t n_slots;
} word_counts;

int words_add(word_counts *words, const uint8_t *bytes, size_t length, int64_t count);
void words_free(word_counts *words);

typedef struct word_sources {
    char **paths;
    size_t count;
    const char *pattern;
    invalid_utf8 invalid;
    size_t threads;
} word_sources;

/* Counts the pieces of text files, sorted by their bytes: the same whatever the number of threads. */
int words_count(const word_sources *from, word_counts *into);

/* ---- bpe_train.c ---- */

typedef struct bpe_plan {
    size_t size;                /* of the vocabulary, special tokens and the 256 bytes included */
    int64_t least;              /* pairs that occur less often are not merged */
    const char *const *special; /* n_special texts: ids 0 …, then the bytes in the order of the alphabet, then merges */
    size_t n_special;
} bpe_plan;

typedef struct bpe_trained {
    vocabulary words; /* byte-level tokens; special tokens as not byte-level */
    merge *merges;    /* n_merges, in their order */
    size_t n_merges, room;
} bpe_trained;

/* Of two pairs that occur equally often the one with the lower ids is merged first. */
int bpe_train(const word_counts *words, const bpe_plan *plan, bpe_trained *made);
void bpe_trained_free(bpe_trained *made);

/* ---- tokenizer_write.c ---- */

/* A tokenizer.json that `tokenizers` loads. llama3: with Llama-3's pattern, else GPT-2's. */
int tokenizer_write(const char *path, const bpe_trained *trained, const bpe_plan *plan, bool llama3);

#endif
