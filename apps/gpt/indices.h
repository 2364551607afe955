/* SPDX-License-Identifier: MIT */
/* Which tokens make which training sample, by the rules of Megatron and GPT-NeoX with NumPy's RandomState.
 *
 * The documents of a split, repeated for as many epochs as are needed, are shuffled and read one after the other;
 * sample i has tokens i·S … i·S + S of that stream, so that neighbours share one token; the samples are shuffled in
 * turn. */
#ifndef RINGX_GPT_INDICES_H
#define RINGX_GPT_INDICES_H

#include "gpt/indexed.h"

/* Ends of the train, valid and test documents by a text such as "969,30,1" (or "969/30/1", or "1"). */
int split_documents(const char *split, uint64_t documents, uint64_t ends[4]);

typedef struct sample_place { /* where a sample begins */
    int64_t place;            /* in sample_index.documents */
    int64_t offset;           /* in that document, in tokens */
} sample_place;

typedef struct sample_index {
    int64_t length;      /* S: a sample has S + 1 tokens */
    uint32_t *documents; /* n_documents numbers of sequences of the file */
    size_t n_documents;
    sample_place *places; /* samples + 1 */
    int64_t *shuffled;    /* samples numbers of places */
    int64_t samples, epochs;
} sample_index;

typedef struct sample_plan {
    uint64_t first, end; /* documents, as split_documents gives them */
    int64_t samples;     /* at least */
    int64_t length;      /* S */
    uint32_t seed;
} sample_plan;

int indices_build(sample_index *made, const indexed *data, const sample_plan *plan);
void indices_free(sample_index *made);

/* ---- blending ---- */

/* Which of n data sets sample i of `size` comes from, and which of that data set's samples it is. Weights sum to 1. */
int blend(const double *weights, size_t n, int64_t size, uint16_t *which, int64_t *sample);
/* (n_i/N)^alpha, normalised, times 1 - n_i/N, normalised. */
int blend_weights(const uint64_t *documents, size_t n, double alpha, double *weights);

#endif
