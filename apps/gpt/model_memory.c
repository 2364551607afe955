/* SPDX-License-Identifier: MIT */
/* The model's memory of a run: one allocation, laid out by one function that first counts and then places. */
#include "gpt/model_parts.h"
#include "shared/numbers.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

typedef struct arena {
    char *base; /* NULL: count only */
    size_t used;
} arena;

static void *take(arena *a, size_t bytes)
{
    void *at = a->base ? a->base + a->used : NULL;
    a->used += (bytes + 127) / 128 * 128;
    return at;
}

static nn_array take_matrix(arena *a, int64_t rows, int64_t columns, ringx_dtype dtype)
{
    return (nn_array){take(a, (size_t)(rows * columns) * dtype_bytes(dtype)), dtype, columns};
}

static void take_kept(const gpt_model *m, arena *a, kept_attention *k)
{
    k->q = take_matrix(a, m->tokens, m->q_width, m->dtype);
    k->k = take_matrix(a, m->tokens, m->kv_width, m->dtype);
    k->v = take_matrix(a, m->tokens, m->kv_width, m->dtype);
    k->out = take_matrix(a, m->tokens, m->q_width, m->dtype);
    k->middle = take_matrix(a, m->tokens, m->config.width, m->dtype);
    k->lse = take(a, (size_t)(m->tokens * m->q_width / m->config.head_dim) * sizeof *k->lse);
}

static bool one_for_all(const gpt_model *m)
{
    return m->run.recompute || m->run.forward_only;
}

static void lay_out(gpt_model *m, arena *a)
{
    int64_t width = m->config.width, layers = m->config.layers,
            most = m->chunk > m->loss_chunk ? m->chunk : m->loss_chunk;
    for (int64_t i = 0; i <= layers; i++)
        m->inputs[i] = m->run.forward_only && i > 1 ? m->inputs[i - 2] : take_matrix(a, m->tokens, width, m->dtype);
    for (int64_t i = 0; i < (one_for_all(m) ? 1 : layers); i++)
        take_kept(m, a, &m->kept[i]);
    if (!m->run.forward_only) {
        m->dx = take_matrix(a, m->tokens, width, m->dtype);
        m->dq = take_matrix(a, m->tokens, m->q_width, m->dtype);
        m->dk = take_matrix(a, m->tokens, m->kv_width, m->dtype);
        m->dv = take_matrix(a, m->tokens, m->kv_width, m->dtype);
        m->dout = take_matrix(a, m->tokens, m->q_width, m->dtype);
    }
    m->normal = take_matrix(a, most, width, m->dtype);
    m->partial = take_matrix(a, most, width, RINGX_F32);
    m->gate = take_matrix(a, m->chunk, m->inner, m->dtype);
    m->up = take_matrix(a, m->chunk, m->inner, m->dtype);
    m->act = take_matrix(a, m->chunk, m->inner, m->dtype);
    m->workspace_bytes = ringx_plan_workspace(m->plan);
    m->workspace = take(a, m->workspace_bytes);
    nn_loss loss = {.tokens = m->loss_chunk, .count = m->vocabulary, .chunk = m->loss_chunk};
    m->loss_workspace = take(a, nn_loss_workspace(&loss));
    m->token_nll = take(a, (size_t)m->tokens * sizeof *m->token_nll);
    m->nll = take(a, sizeof *m->nll);
    m->device_positions = take(a, (size_t)m->local_tokens * sizeof *m->positions);
    m->rope = take(a, (size_t)(m->local_tokens * m->config.rotary_dim) * sizeof *m->rope);
}

int model_rope_table(gpt_model *m)
{
    int64_t pairs = m->config.rotary_dim / 2;
    double *frequencies = allocate((size_t)pairs * sizeof *frequencies);
    if (!frequencies)
        return CODE_NO_MEMORY;
    nn_rope_frequencies(m->config.rope_theta, m->config.rotary_dim, &m->config.rope_scaling, frequencies);
    nn_rope_table r = {m->local_tokens, pairs, m->device_positions, frequencies, m->rope};
    int code = fail_status(ringx_memory_copy(m->on.ops->device, m->device_positions, m->positions,
                                             (size_t)m->local_tokens * sizeof *m->positions),
                           "positions");
    if (!code)
        code = m->on.ops->rope_table(&m->on, &r);
    free(frequencies);
    return code;
}

int model_memory_create(gpt_model *m)
{
    m->inputs = allocate((size_t)(m->config.layers + 1) * sizeof *m->inputs);
    m->kept = allocate((size_t)(one_for_all(m) ? 1 : m->config.layers) * sizeof *m->kept);
    m->positions = allocate((size_t)m->local_tokens * sizeof *m->positions);
    m->host_nll = allocate((size_t)m->tokens * sizeof *m->host_nll);
    if (!m->inputs || !m->kept || !m->positions || !m->host_nll)
        return CODE_NO_MEMORY;
    ringx_plan_positions(m->plan, m->positions);
    arena a = {0};
    lay_out(m, &a);
    m->memory_bytes = a.used;
    TRY(fail_status(ringx_memory_alloc(m->on.ops->device, a.used, &m->memory), "memory of a run of %lld tokens",
                    (long long)m->tokens));
    a = (arena){.base = m->memory};
    lay_out(m, &a);
    return model_rope_table(m);
}

void model_memory_free(gpt_model *m)
{
    if (m->memory)
        ringx_memory_free(m->on.ops->device, m->memory);
    free(m->inputs), free(m->kept), free(m->positions), free(m->host_nll);
    m->memory = NULL, m->inputs = NULL, m->kept = NULL, m->positions = NULL, m->host_nll = NULL;
    m->memory_bytes = 0;
}
