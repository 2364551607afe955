/* SPDX-License-Identifier: MIT */
/* The probability of a sequence of tokens. */
#include "gpt/score.h"

#include "gpt/model_parts.h"
#include "shared/report.h"

#include <stdlib.h>

enum { LENGTHS = 64 }; /* runs are for multiples of so many tokens: similar lengths share one */

/* Tokens behind the end are padding that nothing sees. */
static int prepare(gpt_model *m, int64_t tokens)
{
    int64_t length = (tokens + LENGTHS - 1) / LENGTHS * LENGTHS;
    if (m->plans && m->run.forward_only && m->run.batch == 1 && m->run.tokens == length)
        return CODE_GOOD;
    gpt_run run = {.batch = 1, .tokens = length, .forward_only = true, .chunk = 1024, .loss_chunk = 1024};
    return gpt_model_prepare(m, &run);
}

/* A run's tokens, in host memory and on the device. */
typedef struct tokens {
    int32_t *ids, *targets;
    float *mask;
} tokens;

static void fill(const gpt_model *m, const int32_t *ids, int64_t count, int64_t first, tokens to)
{
    for (int64_t t = 0; t < m->tokens; t++) {
        int64_t at = m->positions[t];
        bool real = at < count - 1;
        to.ids[t] = real ? ids[at] : 0;
        to.targets[t] = real ? ids[at + 1] : 0;
        to.mask[t] = real && at + 1 >= first ? 1 : 0;
    }
}

static int loss_of(gpt_model *m, tokens host, char *there, double *nll)
{
    size_t bytes = (size_t)m->tokens * sizeof(int32_t);
    const void *const from[] = {host.ids, host.targets, host.mask};
    for (size_t i = 0; i < 3; i++)
        TRY(fail_status(ringx_memory_copy(m->on.ops->device, there + i * bytes, from[i], bytes), "tokens"));
    gpt_batch b = {(int32_t *)there, (int32_t *)(there + bytes), (float *)(there + 2 * bytes)};
    return gpt_model_loss(m, &b, nll);
}

int gpt_score(gpt_model *m, const int32_t *ids, int64_t count, int64_t first, double *nll)
{
    *nll = 0;
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= m->config.vocabulary)
            return fail(CODE_BAD_INPUT, "token %lld is %d; the model's vocabulary has %lld", (long long)i, ids[i],
                        (long long)m->config.vocabulary);
    if (first < 1 || first >= count)
        return CODE_GOOD;
    TRY(prepare(m, count - 1));
    size_t n = (size_t)m->tokens;
    tokens host = {allocate(n * sizeof(int32_t)), allocate(n * sizeof(int32_t)), allocate(n * sizeof(float))};
    void *there = NULL;
    int code = host.ids && host.targets && host.mask ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code)
        code = fail_status(ringx_memory_alloc(m->on.ops->device, 3 * n * sizeof(int32_t), &there), "tokens");
    if (!code) {
        fill(m, ids, count, first, host);
        code = loss_of(m, host, there, nll);
    }
    ringx_memory_free(m->on.ops->device, there);
    free(host.ids), free(host.targets), free(host.mask);
    if (!code && m->groups.context)
        code = group_sum(m->groups.context, nll);
    return code;
}
