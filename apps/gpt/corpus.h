/* SPDX-License-Identifier: MIT */
/* Training samples: one split of one token file, or of several that are blended by weight. */
#ifndef RINGX_GPT_CORPUS_H
#define RINGX_GPT_CORPUS_H

#include "gpt/indices.h"

typedef enum corpus_split { CORPUS_TRAIN, CORPUS_VALID, CORPUS_TEST, CORPUS_ALL } corpus_split;

typedef struct corpus_plan {
    const char *const *prefixes; /* without .bin and .idx */
    size_t count;
    const double *weights; /* NULL: by numbers of documents, with `alpha` */
    double alpha;          /* 0: 0.3 */
    const char *split;     /* such as "969,30,1"; CORPUS_ALL does not look at it */
    corpus_split which;
    int64_t samples; /* that will be asked for */
    int64_t length;  /* S */
    uint32_t seed;
    size_t vocabulary; /* ids must be below */
} corpus_plan;

typedef struct corpus corpus; /* read-only once open: any number of threads */

int corpus_open(corpus **made, const corpus_plan *plan);
void corpus_close(corpus *c); /* NULL is fine */
/* Samples there are: at least those asked for; with one file all of its epochs, as the original counts them. */
int64_t corpus_samples(const corpus *c);

/* Sample i: S + 1 tokens.  starts (NULL, or room for S + 2): where in the sample its documents begin (the first: 0),
 * then S + 1; *n_starts of them, the last included. */
int corpus_read(const corpus *c, int64_t i, int32_t *tokens, int64_t *starts, size_t *n_starts);

#endif
