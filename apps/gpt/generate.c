/* SPDX-License-Identifier: MIT */
/* Writing texts: token after token, with or without a cache. */
#include "gpt/generate.h"

#include "gpt/model_parts.h"

/* The next token after all ids, into id. */
static int next(gpt_model *m, gpt_generation *g, gpt_cache **c, const id_list *ids, int64_t more, int32_t *id)
{
    if (g->recompute || !*c) {
        gpt_cache_destroy(*c);
        TRY(gpt_cache_create(c, m, ids->items, (int64_t)ids->count, g->recompute ? 0 : more));
    } else {
        TRY(gpt_cache_append(*c, ids->items[ids->count - 1]));
    }
    int64_t words = m->config.vocabulary;
    if (g->vocabulary > 0 && g->vocabulary < words)
        words = g->vocabulary;
    return gpt_sample(gpt_cache_logits(*c), words, &g->how, &g->random, id);
}

static int write_on(gpt_model *m, gpt_generation *g, gpt_cache **c, id_list *ids, int64_t most)
{
    for (int64_t i = 0; i < most; i++) {
        int32_t id = -1;
        TRY(next(m, g, c, ids, most - 1, &id));
        if (id == g->eod) {
            g->finished = true, g->message = "end of document";
            return CODE_GOOD;
        }
        TRY(ids_append(ids, id));
    }
    return CODE_GOOD;
}

int gpt_generate(gpt_model *m, gpt_generation *g, id_list *ids)
{
    int64_t most = g->maximum, room = m->config.max_positions - (int64_t)ids->count;
    g->finished = false, g->message = "maximum tokens";
    if (m->config.max_positions > 0 && room < 0)
        return fail(CODE_USAGE, "the prompt has %zu tokens; the model is made for %lld", ids->count,
                    (long long)m->config.max_positions);
    if (m->config.max_positions > 0 && most > room)
        most = room, g->message = "the model's context is full";
    for (size_t i = 0; i < ids->count; i++)
        if (ids->items[i] < 0 || ids->items[i] >= m->config.vocabulary)
            return fail(CODE_BAD_INPUT, "token %zu of the prompt is %d; the model's vocabulary has %lld", i,
                        ids->items[i], (long long)m->config.vocabulary);
    gpt_cache *c = NULL;
    int code = write_on(m, g, &c, ids, most);
    gpt_cache_destroy(c);
    return code;
}
