/* SPDX-License-Identifier: MIT */
/* Choosing the next token: greedy, temperature, top-k, top-p. */
#include "gpt/cache.h"
#include "shared/report.h"

#include <math.h>
#include <stdlib.h>

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

static int more_probable_first(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    if (a->logit != b->logit)
        return a->logit < b->logit ? 1 : -1;
    return a->id < b->id ? -1 : 1;
}

static double weight_of(const candidate *all, int64_t i, double temperature)
{
    return exp(((double)all[i].logit - (double)all[0].logit) / temperature);
}

/* all: sorted, n of them. */
static int32_t choose(const candidate *all, int64_t n, const gpt_sampling *how, random_stream *random)
{
    double total = 0, kept = 0, at = 0;
    int64_t most = how->top_k > 0 && how->top_k < n ? how->top_k : n, count = 0;
    for (int64_t i = 0; i < most; i++)
        total += weight_of(all, i, how->temperature);
    while (count < most && (count == 0 || how->top_p <= 0 || kept < how->top_p * total))
        kept += weight_of(all, count++, how->temperature);
    double until = kept * (double)(random_word(random->key, random->counter++) >> 11) * 0x1p-53;
    for (int64_t i = 0; i < count; i++) {
        at += weight_of(all, i, how->temperature);
        if (at > until)
            return all[i].id;
    }
    return all[count - 1].id;
}

int gpt_sample(const float *logits, int64_t vocabulary, const gpt_sampling *how, random_stream *random, int32_t *id)
{
    int64_t best = 0;
    for (int64_t i = 0; i < vocabulary; i++) {
        if (!isfinite(logits[i]))
            return fail(CODE_WRONG, "the logit of token %lld is not a number; the weights are damaged", (long long)i);
        best = logits[i] > logits[best] ? i : best;
    }
    *id = (int32_t)best;
    if (how->temperature <= 0)
        return CODE_GOOD;
    candidate *all = allocate((size_t)vocabulary * sizeof *all);
    if (!all)
        return CODE_NO_MEMORY;
    for (int64_t i = 0; i < vocabulary; i++)
        all[i] = (candidate){logits[i], (int32_t)i};
    qsort(all, (size_t)vocabulary, sizeof *all, more_probable_first);
    *id = choose(all, vocabulary, how, random);
    free(all);
    return CODE_GOOD;
}
