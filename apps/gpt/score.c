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

static void fill(const gpt_model *m, const int32_t *ids, int64_t count, int64_t first, gpt_batch b)
{
    for (int64_t t = 0; t < m->tokens; t++) {
        int64_t at = m->positions[t];
        bool real = at < count - 1;
        ((int32_t *)b.ids)[t] = real ? ids[at] : 0;
        ((int32_t *)b.targets)[t] = real ? ids[at + 1] : 0;
        ((float *)b.mask)[t] = real && at + 1 >= first ? 1 : 0;
    }
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
    int32_t *inputs = allocate(n * sizeof *inputs), *targets = allocate(n * sizeof *targets);
    float *mask = allocate(n * sizeof *mask);
    int code = inputs && targets && mask ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code) {
        gpt_batch b = {inputs, targets, mask};
        fill(m, ids, count, first, b);
        code = gpt_model_loss(m, &b, nll);
    }
    free(inputs), free(targets), free(mask);
    if (!code && m->groups.context)
        code = group_sum(m->groups.context, nll);
    return code;
}
