/* SPDX-License-Identifier: MIT */
/* The model's memory of a run: one allocation, laid out by one function that first counts and then places. */
#include "gpt/model_parts.h"
#include "shared/numbers.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

const char *const gpt_memory_names[GPT_MEMORY_ITEMS] = {
    [GPT_WEIGHTS] = "weights",           [GPT_GRADIENTS] = "gradients", [GPT_INPUTS] = "inputs of layers",
    [GPT_KEPT] = "kept attention",       [GPT_BACKWARD] = "backward",   [GPT_CHUNKS] = "chunks of tokens",
    [GPT_WORKSPACE] = "attention space", [GPT_LOSS] = "loss",           [GPT_TABLES] = "tables"};

typedef struct arena {
    char *base; /* NULL: count only */
    size_t used;
    size_t *items; /* [GPT_MEMORY_ITEMS]: what of it is for what */
    gpt_memory_item item;
} arena;

static void *take(arena *a, size_t bytes)
{
    void *at = a->base ? a->base + a->used : NULL;
    size_t whole = (bytes + 127) / 128 * 128;
    a->used += whole;
    a->items[a->item] += whole;
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

/* Whether inputs of layers are in two buffers that alternate. */
static bool alternate(const gpt_model *m)
{
    return m->run.forward_only || m->run.offload;
}

static void lay_out(gpt_model *m, arena *a)
{
    int64_t width = m->config.width, layers = m->config.layers,
            most = m->chunk > m->loss_chunk ? m->chunk : m->loss_chunk;
    a->item = GPT_INPUTS;
    for (int64_t i = 0; i <= layers; i++)
        m->inputs[i] = alternate(m) && i > 1 ? m->inputs[i - 2] : take_matrix(a, m->tokens, width, m->dtype);
    a->item = GPT_KEPT;
    for (int64_t i = 0; i < (one_for_all(m) ? 1 : layers); i++)
        take_kept(m, a, &m->kept[i]);
    a->item = GPT_BACKWARD;
    if (!m->run.forward_only) {
        m->dx = take_matrix(a, m->tokens, width, m->dtype);
        m->dq = take_matrix(a, m->tokens, m->q_width, m->dtype);
        m->dk = take_matrix(a, m->tokens, m->kv_width, m->dtype);
        m->dv = take_matrix(a, m->tokens, m->kv_width, m->dtype);
        m->dout = take_matrix(a, m->tokens, m->q_width, m->dtype);
    }
    a->item = GPT_CHUNKS;
    m->normal = take_matrix(a, most, width, m->dtype);
    m->partial = take_matrix(a, most, width, RINGX_F32);
    m->gate = take_matrix(a, m->chunk, m->inner, m->dtype);
    m->up = take_matrix(a, m->chunk, m->inner, m->dtype);
    m->act = take_matrix(a, m->chunk, m->inner, m->dtype);
    a->item = GPT_WORKSPACE;
    m->workspace = take(a, m->workspace_bytes);
    a->item = GPT_LOSS;
    nn_loss loss = {.tokens = m->loss_chunk, .count = m->vocabulary, .chunk = m->loss_chunk};
    m->loss_workspace = take(a, nn_loss_workspace(&loss));
    m->token_nll = take(a, (size_t)m->tokens * sizeof *m->token_nll);
    m->nll = take(a, sizeof *m->nll);
    a->item = GPT_TABLES;
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

static int64_t chunk_of(int64_t chunk, int64_t tokens)
{
    if (chunk < 1 || chunk > tokens)
        chunk = tokens;
    return chunk < 1 ? NN_TILE : (chunk + NN_TILE - 1) / NN_TILE * NN_TILE;
}

static size_t input_bytes(const gpt_model *m) /* of a layer */
{
    return (size_t)(m->tokens * m->config.width) * dtype_bytes(m->dtype);
}

/* What is needed of host memory, and how much on the device. */
static int count(gpt_model *m)
{
    m->tokens = m->local_tokens * m->run.batch;
    m->chunk = chunk_of(m->run.chunk, m->tokens);
    m->loss_chunk = chunk_of(m->run.loss_chunk, m->tokens);
    m->inputs = allocate((size_t)(m->config.layers + 1) * sizeof *m->inputs);
    m->kept = allocate((size_t)(one_for_all(m) ? 1 : m->config.layers) * sizeof *m->kept);
    if (!m->inputs || !m->kept)
        return CODE_NO_MEMORY;
    if (m->run.offload && (m->run.forward_only || !m->run.recompute))
        return fail(CODE_INTERNAL, "inputs of layers wait in host memory with recomputation only");
    if (m->run.offload && m->config.layers > 1)
        m->host_bytes = (size_t)(m->config.layers - 1) * input_bytes(m);
    arena a = {.items = m->memory_items};
    lay_out(m, &a);
    m->memory_bytes = a.used;
    return CODE_GOOD;
}

int model_memory_create(gpt_model *m)
{
    size_t items[GPT_MEMORY_ITEMS] = {0};
    TRY(count(m));
    m->positions = allocate((size_t)m->local_tokens * sizeof *m->positions);
    m->host_nll = allocate((size_t)m->tokens * sizeof *m->host_nll);
    if (!m->positions || !m->host_nll)
        return CODE_NO_MEMORY;
    if (m->host_bytes)
        TRY(m->on.ops->host_alloc(m->host_bytes, &m->host_inputs));
    ringx_plan_positions(m->plans[0], m->positions);
    TRY(fail_status(ringx_memory_alloc(m->on.ops->device, m->memory_bytes, &m->memory),
                    "memory of a run of %lld tokens", (long long)m->tokens));
    arena a = {.base = m->memory, .items = items};
    lay_out(m, &a);
    return model_rope_table(m);
}

void model_memory_free(gpt_model *m)
{
    if (m->host_inputs) {
        m->on.ops->wait(&m->on); /* copies may be on their way */
        m->on.ops->host_free(m->host_inputs);
    }
    if (m->memory)
        ringx_memory_free(m->on.ops->device, m->memory);
    ringx_memory_free(m->on.ops->device, m->more_workspace);
    free(m->inputs), free(m->kept), free(m->positions), free(m->host_nll);
    m->memory = NULL, m->inputs = NULL, m->kept = NULL, m->positions = NULL, m->host_nll = NULL;
    m->host_inputs = NULL, m->more_workspace = NULL;
    m->memory_bytes = m->host_bytes = m->more_bytes = 0;
    memset(m->memory_items, 0, sizeof m->memory_items);
}

int model_grow_workspace(gpt_model *m, size_t bytes)
{
    if (bytes <= m->workspace_bytes || bytes <= m->more_bytes)
        return CODE_GOOD;
    ringx_memory_free(m->on.ops->device, m->more_workspace);
    m->more_workspace = NULL, m->more_bytes = 0;
    TRY(fail_status(ringx_memory_alloc(m->on.ops->device, bytes, &m->more_workspace), "workspace of attention"));
    m->more_bytes = bytes;
    return CODE_GOOD;
}

/* ---- inputs of layers in host memory ----
 * Two buffers on the device: layer i reads inputs[i] and writes inputs[i + 1], which lies where inputs[i − 1] did. */

static void *place_in_host(const gpt_model *m, int64_t layer)
{
    return (char *)m->host_inputs + (size_t)layer * input_bytes(m);
}

int model_store_input(gpt_model *m, int64_t layer)
{
    TRY(m->on.ops->copy_wait(&m->on));
    return layer < m->config.layers - 1
               ? m->on.ops->copy_begin(&m->on, place_in_host(m, layer), m->inputs[layer].data, input_bytes(m))
               : CODE_GOOD;
}

int model_fetch_input(gpt_model *m, int64_t layer)
{
    TRY(m->on.ops->copy_wait(&m->on));
    if (layer == 0)
        return CODE_GOOD;
    m->output_gone = true;
    return m->on.ops->copy_begin(&m->on, m->inputs[layer - 1].data, place_in_host(m, layer - 1), input_bytes(m));
}

/* ---- what it holds ---- */

void gpt_model_memory(const gpt_model *m, gpt_memory *memory)
{
    *memory = (gpt_memory){
        .device = gpt_model_bytes(m), .host = m->host_bytes, .parameters = m->n_parameters, .elements = m->elements};
    memcpy(memory->items, m->memory_items, sizeof memory->items);
    memory->items[GPT_WORKSPACE] += m->more_bytes;
    memory->items[GPT_WEIGHTS] = m->elements * dtype_bytes(m->dtype);
    memory->items[GPT_GRADIENTS] = m->elements * sizeof *m->gradients;
}

static int on_paper(gpt_model *m, gpt_memory *memory)
{
    TRY(model_check(&m->config, m->tensor_ranks));
    TRY(model_parameters_create(m));
    TRY(count(m));
    gpt_model_memory(m, memory);
    return CODE_GOOD;
}

int gpt_paper_memory(const gpt_config *config, ringx_dtype dtype, const gpt_run *run, const gpt_paper_rank *rank,
                     gpt_memory *memory)
{
    gpt_model *m = allocate(sizeof *m);
    if (!m)
        return CODE_NO_MEMORY;
    m->config = *config, m->dtype = dtype, m->run = *run;
    m->tensor_rank = rank->tensor_rank, m->tensor_ranks = rank->tensor_ranks;
    m->local_tokens = rank->local_tokens, m->workspace_bytes = rank->workspace;
    int code = on_paper(m, memory);
    free(m->inputs);
    free(m->kept);
    free(m->parameters);
    free(m);
    return code;
}
