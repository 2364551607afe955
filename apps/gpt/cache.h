/* SPDX-License-Identifier: MIT */
/* Generation: keys and values of all tokens so far stay where they were computed, on the ranks of the context group;
 * new tokens go to the ranks in turn.  Nothing that was computed once is computed again. */
#ifndef GPT_CACHE_H
#define GPT_CACHE_H

#include "gpt/model.h"
#include "shared/numbers.h"

typedef struct gpt_cache gpt_cache;

/* Collective over the model's groups.  Runs the prompt ids[0 … count-1], count >= 1, through the model (which is not
 * prepared for any run afterwards) and makes room for `more` further tokens.  The model must outlive the cache. */
int gpt_cache_create(gpt_cache **c, gpt_model *m, const int32_t *ids, int64_t count, int64_t more);
void gpt_cache_destroy(gpt_cache *c); /* NULL is fine */

/* Of the whole vocabulary, the same on all ranks: what may follow the last token. */
const float *gpt_cache_logits(const gpt_cache *c);
int64_t gpt_cache_tokens(const gpt_cache *c);
int gpt_cache_append(gpt_cache *c, int32_t id); /* collective */

/* ---- sample.c ---- */

typedef struct gpt_sampling {
    double temperature; /* 0: the most probable token */
    int64_t top_k;      /* of these only; 0: all */
    double top_p;       /* of the fewest whose probabilities reach it; 0 or 1: all */
} gpt_sampling;

/* A token by its probability under logits.  Of equal ones the lower id counts as more probable. */
int gpt_sample(const float *logits, int64_t vocabulary, const gpt_sampling *how, random_stream *random, int32_t *id);

#endif
