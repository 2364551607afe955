/* SPDX-License-Identifier: MIT */
/* Document, sample and shuffle indices, splits and blending. */
#include "gpt/indices.h"
#include "train/mt19937.h"
#include "shared/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- splits ---- */

static int parse_split(const char *split, double parts[3])
{
    char separator = strchr(split, ',') ? ',' : '/';
    const char *at = split;
    double sum = 0;
    for (int i = 0; *at; i++) {
        char *stop;
        double part = strtod(at, &stop);
        if (stop == at || !(part >= 0) || !isfinite(part) || (*stop && strchr(", /", *stop) == NULL))
            return fail(CODE_CONFIGURATION, "split '%s' must be up to three numbers, not negative, such as 969,30,1",
                        split);
        if (i < 3)
            parts[i] = part;
        at = stop + strspn(stop, " ");
        if (*at && *at++ != separator)
            return fail(CODE_CONFIGURATION, "split '%s' must have commas (or '/') between its numbers", split);
    }
    for (int i = 0; i < 3; i++)
        sum += parts[i];
    if (!(sum > 0) || !isfinite(sum))
        return fail(CODE_CONFIGURATION, "split '%s' has no part above 0", split);
    for (int i = 0; i < 3; i++)
        parts[i] /= sum;
    return CODE_GOOD;
}

int split_documents(const char *split, uint64_t documents, uint64_t ends[4])
{
    double parts[3] = {0};
    int code = parse_split(split, parts);
    if (code)
        return code;
    int64_t sums[4] = {0};
    for (int i = 0; i < 3; i++)
        sums[i + 1] = sums[i] + (int64_t)rint(parts[i] * (double)documents); /* half to even, as Python rounds */
    int64_t over = sums[3] - (int64_t)documents;
    for (int i = 0; i < 4; i++) {
        int64_t end = i ? sums[i] - over : 0;
        ends[i] = end < 0 ? 0 : (uint64_t)end;
    }
    return CODE_GOOD;
}

/* ---- indices ---- */

static int count_tokens(const indexed *data, const sample_plan *plan, int64_t *tokens)
{
    uint64_t sum = 0;
    for (uint64_t i = plan->first; i < plan->end; i++)
        sum += indexed_length(data, i);
    *tokens = (int64_t)sum;
    if (sum == 0 || sum > INT64_MAX)
        return fail(CODE_BAD_INPUT, "%s: documents %llu … %llu hold %llu tokens; there must be at least one", data->idx,
                    (unsigned long long)plan->first, (unsigned long long)plan->end, (unsigned long long)sum);
    return CODE_GOOD;
}

/* The smallest number of epochs, at least 1, with (epochs·tokens - 1) / S >= samples; and the samples they give. */
static int count_epochs(const sample_plan *plan, int64_t tokens, sample_index *made)
{
    int64_t needed, all;
    if (__builtin_mul_overflow(plan->samples, plan->length, &needed) || __builtin_add_overflow(needed, 1, &needed))
        return fail(CODE_CONFIGURATION, "%lld samples of %lld tokens are more than 2^63 tokens",
                    (long long)plan->samples, (long long)plan->length);
    made->epochs = needed / tokens + (needed % tokens != 0);
    if (made->epochs < 1)
        made->epochs = 1;
    if (__builtin_mul_overflow(made->epochs, tokens, &all))
        return fail(CODE_CONFIGURATION, "%lld epochs of %lld tokens are more than 2^63 tokens", (long long)made->epochs,
                    (long long)tokens);
    made->samples = (all - 1) / plan->length;
    return CODE_GOOD;
}

static int order_documents(sample_index *made, const sample_plan *plan, mt19937 *random)
{
    size_t each = (size_t)(plan->end - plan->first), bytes;
    if (plan->end > UINT32_MAX)
        return fail(CODE_BAD_INPUT, "there are %llu documents; at most %u are taken", (unsigned long long)plan->end,
                    UINT32_MAX);
    if (!multiply(each, (size_t)made->epochs, &made->n_documents) ||
        !multiply(made->n_documents, sizeof *made->documents, &bytes))
        return fail(CODE_NO_MEMORY, "out of memory: %lld epochs of %zu documents", (long long)made->epochs, each);
    made->documents = allocate(bytes);
    if (!made->documents)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < made->n_documents; i++)
        made->documents[i] = (uint32_t)(plan->first + i % each);
    mt19937_shuffle32(random, made->documents, made->n_documents);
    return CODE_GOOD;
}

/* Where the next sample begins, S tokens further on. */
static sample_place advance(const sample_index *made, const indexed *data, sample_place at)
{
    int64_t left = made->length + 1; /* tokens of the sample that are still to come */
    for (;;) {
        int64_t here = (int64_t)indexed_length(data, made->documents[at.place]) - at.offset;
        if (here >= left) {
            at.offset += left - 1;
            return at;
        }
        left -= here;
        at.place++;
        at.offset = 0;
    }
}

static int place_samples(sample_index *made, const indexed *data, mt19937 *random)
{
    size_t bytes;
    if (!multiply((size_t)made->samples + 1, sizeof *made->places, &bytes))
        return fail(CODE_NO_MEMORY, "out of memory: places of %lld samples", (long long)made->samples);
    made->places = allocate(bytes);
    made->shuffled = allocate((size_t)made->samples * sizeof *made->shuffled);
    if (!made->places || !made->shuffled)
        return CODE_NO_MEMORY;
    for (int64_t i = 0; i < made->samples; i++) {
        made->places[i + 1] = advance(made, data, made->places[i]);
        made->shuffled[i] = i;
    }
    mt19937_shuffle64(random, made->shuffled, (size_t)made->samples);
    return CODE_GOOD;
}

int indices_build(sample_index *made, const indexed *data, const sample_plan *plan)
{
    *made = (sample_index){.length = plan->length};
    int64_t tokens = 0;
    mt19937 random;
    if (plan->length < 1 || plan->samples < 0 || plan->first > plan->end || plan->end > data->sequences)
        return fail(CODE_CONFIGURATION, "%lld samples of length %lld of documents %llu … %llu cannot be taken of %s",
                    (long long)plan->samples, (long long)plan->length, (unsigned long long)plan->first,
                    (unsigned long long)plan->end, data->idx);
    mt19937_seed(&random, plan->seed);
    int code = count_tokens(data, plan, &tokens);
    code = code ? code : count_epochs(plan, tokens, made);
    code = code ? code : order_documents(made, plan, &random);
    code = code ? code : place_samples(made, data, &random);
    if (code)
        indices_free(made);
    return code;
}

void indices_free(sample_index *made)
{
    free(made->documents);
    free(made->places);
    free(made->shuffled);
    *made = (sample_index){0};
}

/* ---- blending ---- */

int blend(const double *weights, size_t n, int64_t size, uint16_t *which, int64_t *sample)
{
    if (n == 0 || n > UINT16_MAX)
        return fail(CODE_CONFIGURATION, "%zu data sets cannot be blended; it must be 1 … %d", n, UINT16_MAX);
    int64_t *drawn = allocate(n * sizeof *drawn);
    if (!drawn)
        return CODE_NO_MEMORY;
    for (int64_t i = 0; i < size; i++) {
        double at = i > 1 ? (double)i : 1.0; /* the first sample is of the largest weight */
        size_t best = 0;
        for (size_t k = 1; k < n; k++)
            if (weights[k] * at - (double)drawn[k] > weights[best] * at - (double)drawn[best])
                best = k;
        which[i] = (uint16_t)best;
        sample[i] = drawn[best]++;
    }
    free(drawn);
    return CODE_GOOD;
}

int blend_weights(const uint64_t *documents, size_t n, double alpha, double *weights)
{
    double all = 0, powers = 0, sum = 0;
    for (size_t i = 0; i < n; i++)
        all += (double)documents[i];
    if (!(all > 0))
        return fail(CODE_BAD_INPUT, "%zu data sets have no document; weights come from their numbers", n);
    for (size_t i = 0; i < n; i++)
        powers += pow((double)documents[i] / all, alpha);
    for (size_t i = 0; i < n; i++) {
        double share = (double)documents[i] / all;
        weights[i] = n == 1 ? 1 : pow(share, alpha) / powers * (1 - share);
        sum += weights[i];
    }
    for (size_t i = 0; i < n; i++)
        weights[i] /= sum;
    return CODE_GOOD;
}
