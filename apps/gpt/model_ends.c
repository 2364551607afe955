/* SPDX-License-Identifier: MIT */
/* What is before and after the model's layers: embedding, last norm, head and loss. */
#include "gpt/model_parts.h"
#include "train/device_data.h"

int sum_partial(gpt_model *m, int64_t tokens)
{
    if (!m->groups.tensor)
        return CODE_GOOD;
    return device_all_reduce(m->groups.tensor, m->on.ops->device, GROUP_SUM, m->partial.data,
                             (size_t)(tokens * m->config.width));
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int model_embed(gpt_model *m, const int32_t *ids)
{
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        int64_t tokens = least(m->chunk, m->tokens - t);
        nn_embedding e = {.tokens = tokens, .width = m->config.width, .first = m->first_word, .count = m->vocabulary};
        e.ids = ids + t, e.table = weight_of(m, 0), e.y = m->partial;
        TRY(m->on.ops->embedding_forward(&m->on, &e));
        TRY(sum_partial(m, tokens));
        nn_map cast = {.tokens = tokens, .width = m->config.width, .x = m->partial, .y = rows_from(m->inputs[0], t)};
        TRY(m->on.ops->cast(&m->on, &cast));
    }
    return CODE_GOOD;
}

int model_embed_backward(gpt_model *m, const int32_t *ids)
{
    nn_embedding e = {.tokens = m->tokens, .width = m->config.width, .first = m->first_word, .count = m->vocabulary};
    e.ids = ids, e.dy = m->dx, e.dtable = gradient_of(m, 0);
    return m->on.ops->embedding_backward(&m->on, &e);
}

static nn_norm last_norm_of(gpt_model *m, int64_t first, int64_t tokens)
{
    return (nn_norm){.tokens = tokens,
                     .width = m->config.width,
                     .eps = m->config.norm_eps,
                     .x = rows_from(m->inputs[m->config.layers], first),
                     .weight = weight_of(m, last_norm(m)),
                     .y = m->normal,
                     .dy = m->partial,
                     .dx = m->dx.data ? rows_from(m->dx, first) : m->dx,
                     .dweight = gradient_of(m, last_norm(m))};
}

/* Tokens first … first+tokens-1. */
static int head_chunk(gpt_model *m, const gpt_batch *b, double scale, bool backward, int64_t first)
{
    int64_t tokens = least(m->loss_chunk, m->tokens - first);
    device_group tensor = {m->groups.tensor, m->on.ops->device};
    nn_reduce reduce = {device_max, device_sum, &tensor};
    nn_norm n = last_norm_of(m, first, tokens);
    TRY(m->on.ops->rms_norm_forward(&m->on, &n));
    nn_loss l = {.tokens = tokens,
                 .width = m->config.width,
                 .first = m->first_word,
                 .count = m->vocabulary,
                 .chunk = tokens,
                 .hidden = m->normal,
                 .weight = weight_of(m, head_of(m)),
                 .targets = b->targets + first,
                 .mask = b->mask ? b->mask + first : NULL,
                 .scale = scale,
                 .token_nll = m->token_nll + first,
                 .nll = m->nll,
                 .workspace = m->loss_workspace,
                 .reduce = tensor.g ? &reduce : NULL};
    if (!backward)
        return m->on.ops->loss(&m->on, &l);
    l.dhidden = m->partial, l.dweight = gradient_of(m, head_of(m));
    TRY(m->on.ops->loss(&m->on, &l));
    TRY(sum_partial(m, tokens));
    return m->on.ops->rms_norm_backward(&m->on, &n);
}

int model_head(gpt_model *m, const gpt_batch *b, double scale, bool backward)
{
    for (int64_t t = 0; t < m->tokens; t += m->loss_chunk)
        TRY(head_chunk(m, b, scale, backward, t));
    return CODE_GOOD;
}

int gpt_model_logits(gpt_model *m, int64_t first, int64_t count, float *logits)
{
    if (first < 0 || count < 0 || first > m->tokens - count)
        return fail(CODE_INTERNAL, "logits of rows %lld … %lld of %lld", (long long)first,
                    (long long)(first + count - 1), (long long)m->tokens);
    if (m->output_gone)
        return fail(CODE_INTERNAL, "there are no logits after backward where inputs of layers are kept elsewhere");
    for (int64_t t = 0; t < count; t += m->loss_chunk) {
        int64_t tokens = least(m->loss_chunk, count - t);
        nn_norm n = last_norm_of(m, first + t, tokens);
        TRY(m->on.ops->rms_norm_forward(&m->on, &n));
        nn_linear l = {.tokens = tokens, .in = m->config.width, .out = m->vocabulary, .x = m->normal};
        l.w = weight_of(m, head_of(m)), l.y = (nn_array){logits + t * m->vocabulary, RINGX_F32, m->vocabulary};
        TRY(m->on.ops->linear_forward(&m->on, &l));
    }
    return CODE_GOOD;
}
