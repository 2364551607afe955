/* SPDX-License-Identifier: MIT */
/* Opening token files with their indices, and reading samples across documents. */
#include "gpt/corpus.h"
#include "shared/report.h"

#include <math.h>
#include <stdlib.h>

#define DEFAULT_ALPHA 0.3
#define SPARE         1.005 /* each of several files gets so many more samples than its share */

typedef struct part {
    indexed data;
    sample_index index;
    double weight;
    uint64_t first, end; /* documents of the split */
} part;

struct corpus {
    part *parts;
    size_t count;
    int64_t length, samples;
    size_t vocabulary;
    uint16_t *which; /* count > 1: by sample, the file and its own sample */
    int64_t *sample;
};

static int open_part(part *p, const corpus_plan *plan, const char *prefix)
{
    int code = indexed_open(&p->data, prefix);
    if (code)
        return code;
    uint64_t ends[4] = {0, 0, 0, p->data.sequences};
    if (plan->which != CORPUS_ALL && (code = split_documents(plan->split, p->data.sequences, ends)))
        return code;
    p->first = plan->which == CORPUS_ALL ? 0 : ends[plan->which];
    p->end = plan->which == CORPUS_ALL ? p->data.sequences : ends[plan->which + 1];
    if (p->first >= p->end)
        return fail(CODE_CONFIGURATION, "%s: the split gives no document to the %s part of its %llu", p->data.idx,
                    plan->which == CORPUS_TRAIN   ? "train"
                    : plan->which == CORPUS_VALID ? "valid"
                    : plan->which == CORPUS_TEST  ? "test"
                                                  : "whole",
                    (unsigned long long)p->data.sequences);
    return CODE_GOOD;
}

static int weigh(corpus *c, const corpus_plan *plan)
{
    double *weights = allocate(c->count * sizeof *weights), sum = 0;
    uint64_t *documents = allocate(c->count * sizeof *documents);
    int code = weights && documents ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t i = 0; !code && i < c->count; i++)
        documents[i] = c->parts[i].end - c->parts[i].first;
    if (!code && !plan->weights)
        code = blend_weights(documents, c->count, plan->alpha > 0 ? plan->alpha : DEFAULT_ALPHA, weights);
    for (size_t i = 0; !code && plan->weights && i < c->count; i++) {
        weights[i] = plan->weights[i];
        if (!(weights[i] >= 0) || !isfinite(weights[i]))
            code = fail(CODE_CONFIGURATION, "the weight of %s is %g; it must be finite and not negative",
                        plan->prefixes[i], weights[i]);
    }
    for (size_t i = 0; !code && i < c->count; i++)
        sum += weights[i];
    if (!code && !(sum > 0))
        code = fail(CODE_CONFIGURATION, "the weights of the data sets add up to %g; it must be above 0", sum);
    for (size_t i = 0; !code && i < c->count; i++)
        c->parts[i].weight = weights[i] / sum;
    free(weights);
    free(documents);
    return code;
}

static int index_parts(corpus *c, const corpus_plan *plan)
{
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < c->count; i++) {
        part *p = &c->parts[i];
        double share = ceil((double)plan->samples * p->weight * SPARE);
        sample_plan own = {.first = p->first,
                           .end = p->end,
                           .samples = c->count == 1 ? plan->samples : (int64_t)share,
                           .length = plan->length,
                           .seed = plan->seed};
        code = indices_build(&p->index, &p->data, &own);
    }
    c->samples = c->count == 1 ? c->parts[0].index.samples : plan->samples;
    return code;
}

static int mix(corpus *c)
{
    size_t n = (size_t)c->samples;
    double *weights = allocate(c->count * sizeof *weights);
    c->which = allocate(n * sizeof *c->which);
    c->sample = allocate(n * sizeof *c->sample);
    int code = weights && c->which && c->sample ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t i = 0; !code && i < c->count; i++)
        weights[i] = c->parts[i].weight;
    code = code ? code : blend(weights, c->count, c->samples, c->which, c->sample);
    free(weights);
    return code;
}

int corpus_open(corpus **made, const corpus_plan *plan)
{
    *made = NULL;
    if (plan->count == 0 || plan->length < 1 || plan->samples < 0 || plan->samples > INT64_MAX / 64 ||
        plan->vocabulary == 0)
        return fail(CODE_CONFIGURATION,
                    "%zu data sets, %lld samples of length %lld, a vocabulary of %zu: none may be 0", plan->count,
                    (long long)plan->samples, (long long)plan->length, plan->vocabulary);
    corpus *c = allocate(sizeof *c);
    if (!c)
        return CODE_NO_MEMORY;
    c->parts = allocate(plan->count * sizeof *c->parts);
    c->length = plan->length;
    c->vocabulary = plan->vocabulary;
    int code = c->parts ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t i = 0; !code && i < plan->count; i++) {
        code = open_part(&c->parts[i], plan, plan->prefixes[i]);
        c->count++;
    }
    code = code ? code : weigh(c, plan);
    code = code ? code : index_parts(c, plan);
    if (!code && c->count > 1)
        code = mix(c);
    if (code)
        corpus_close(c);
    else
        *made = c;
    return code;
}

void corpus_close(corpus *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++) {
        indexed_close(&c->parts[i].data);
        indices_free(&c->parts[i].index);
    }
    free(c->parts);
    free(c->which);
    free(c->sample);
    free(c);
}

int64_t corpus_samples(const corpus *c)
{
    return c->samples;
}

int corpus_read(const corpus *c, int64_t i, int32_t *tokens, int64_t *starts, size_t *n_starts)
{
    if (i < 0 || i >= c->samples)
        return fail(CODE_INTERNAL, "sample %lld was asked for; there are %lld", (long long)i, (long long)c->samples);
    const part *p = &c->parts[c->count > 1 ? c->which[i] : 0];
    sample_place at = p->index.places[p->index.shuffled[c->count > 1 ? c->sample[i] : i]];
    size_t found = 0;
    for (int64_t done = 0; done <= c->length;) {
        uint32_t document = p->index.documents[at.place];
        int64_t here = (int64_t)indexed_length(&p->data, document) - at.offset;
        int64_t count = here < c->length + 1 - done ? here : c->length + 1 - done;
        int code = indexed_read(&p->data, document, (uint64_t)at.offset, (size_t)count, c->vocabulary, tokens + done);
        if (code)
            return code;
        if (starts && count > 0)
            starts[found++] = done;
        done += count;
        at = (sample_place){.place = at.place + 1};
    }
    if (starts) {
        starts[found++] = c->length + 1;
        *n_starts = found;
    }
    return CODE_GOOD;
}
