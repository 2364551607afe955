/* SPDX-License-Identifier: MIT */
/* The model's memory of a run: one allocation, laid out by one function that first counts and then places. */
#include "gpt/model_parts.h"
#include "nn/arena.h"
#include "shared/numbers.h"
#include "shared/report.h"
#include "train/device_data.h"

#include <stdlib.h>
#include <string.h>

const char *const gpt_memory_names[GPT_MEMORY_ITEMS] = {[GPT_WEIGHTS] = "weights",
                                                        [GPT_GRADIENTS] = "gradients",
                                                        [GPT_INPUTS] = "inputs of layers",
                                                        [GPT_KEPT] = "kept attention",
                                                        [GPT_KEPT_MLP] = "kept mlp",
                                                        [GPT_BACKWARD] = "backward",
                                                        [GPT_CHUNKS] = "chunks of tokens",
                                                        [GPT_WORKSPACE] = "attention space",
                                                        [GPT_LOSS] = "loss",
                                                        [GPT_TABLES] = "tables"};

/* shared: what is computed again is where another layer has it. */
static void take_kept(const gpt_model *m, arena *a, kept_attention *k, const kept_attention *shared)
{
    if (shared) {
        *k = *shared;
    } else {
        k->q = arena_take_matrix(a, m->tokens, m->q_width, m->dtype);
        k->k = arena_take_matrix(a, m->tokens, m->kv_width, m->dtype);
        k->v = arena_take_matrix(a, m->tokens, m->kv_width, m->dtype);
        k->middle = arena_take_matrix(a, m->tokens, m->config.width, m->dtype);
    }
    k->out = arena_take_matrix(a, m->tokens, m->q_width, m->dtype);
    k->lse = arena_take(a, (size_t)(m->tokens * m->q_width / m->config.head_dim) * sizeof *k->lse);
}

int64_t kept_layers(const gpt_model *m)
{
    bool one = m->run.forward_only || (m->run.recompute && !m->run.keep_attention);
    return one || m->config.layers < 1 ? 1 : m->config.layers;
}

static bool keeps_mlp(const gpt_model *m, int64_t layer)
{
    return !m->run.forward_only && layer >= m->config.layers - m->run.keep_mlp;
}

/* Whether inputs of layers are in two buffers that alternate. */
static bool alternate(const gpt_model *m)
{
    return m->run.forward_only || m->elsewhere;
}

static void lay_out(gpt_model *m, arena *a)
{
    int64_t width = m->config.width, layers = m->config.layers,
            most = m->chunk > m->loss_chunk ? m->chunk : m->loss_chunk;
    a->item = GPT_INPUTS;
    for (int64_t i = 0; i <= layers; i++)
        m->inputs[i] = alternate(m) && i > 1 ? m->inputs[i - 2] : arena_take_matrix(a, m->tokens, width, m->dtype);
    if (m->elsewhere && !m->run.offload && layers > 1)
        m->parts = arena_take(a, (size_t)(layers - 1) * m->part_bytes);
    a->item = GPT_KEPT;
    for (int64_t i = 0; i < kept_layers(m); i++)
        take_kept(m, a, &m->kept[i], m->run.recompute && i > 0 ? &m->kept[0] : NULL);
    a->item = GPT_KEPT_MLP;
    for (int64_t i = 0; i < layers; i++)
        if (keeps_mlp(m, i)) {
            m->mlps[i].gate = arena_take_matrix(a, m->tokens, m->inner, m->dtype);
            m->mlps[i].up = arena_take_matrix(a, m->tokens, m->inner, m->dtype);
        }
    a->item = GPT_BACKWARD;
    if (!m->run.forward_only) {
        m->dx = arena_take_matrix(a, m->tokens, width, m->dtype);
        m->dq = arena_take_matrix(a, m->tokens, m->q_width, m->dtype);
        m->dk = arena_take_matrix(a, m->tokens, m->kv_width, m->dtype);
        m->dv = arena_take_matrix(a, m->tokens, m->kv_width, m->dtype);
        m->dout = arena_take_matrix(a, m->tokens, m->q_width, m->dtype);
    }
    a->item = GPT_CHUNKS;
    m->normal = arena_take_matrix(a, most, width, m->dtype);
    m->partial = arena_take_matrix(a, most, width, RINGX_F32);
    if (!keeps_mlp(m, 0)) { /* each layer has its own */
        m->gate = arena_take_matrix(a, m->chunk, m->inner, m->dtype);
        m->up = arena_take_matrix(a, m->chunk, m->inner, m->dtype);
    }
    m->act = arena_take_matrix(a, m->chunk, m->inner, m->dtype);
    a->item = GPT_WORKSPACE;
    m->workspace = arena_take(a, m->workspace_bytes);
    a->item = GPT_LOSS;
    nn_loss loss = {.tokens = m->loss_chunk, .count = m->vocabulary, .chunk = m->loss_chunk};
    m->loss_workspace = arena_take(a, nn_loss_workspace(&loss));
    m->token_nll = arena_take(a, (size_t)m->tokens * sizeof *m->token_nll);
    m->nll = arena_take(a, sizeof *m->nll);
    a->item = GPT_TABLES;
    m->device_positions = arena_take(a, (size_t)m->local_tokens * sizeof *m->positions);
    m->rope = arena_take(a, (size_t)(m->local_tokens * m->config.rotary_dim) * sizeof *m->rope);
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

static int64_t round_up(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Of so many tokens or, if that is less, all of them. */
static int64_t chunk_of(int64_t chunk, int64_t tokens, int64_t tile)
{
    int64_t all = tokens < 1 ? NN_TILE : round_up(tokens, NN_TILE);
    return chunk < 1 || chunk >= all || round_up(chunk, tile) >= all ? all : round_up(chunk, tile);
}

/* Which part of the inputs of layers is kept, and where. */
static int divide_inputs(gpt_model *m)
{
    bool split = m->run.partition && m->tensor_ranks > 1;
    size_t row = (size_t)m->config.width * dtype_bytes(m->dtype), ranks = split ? (size_t)m->tensor_ranks : 1;
    m->elsewhere = m->run.offload || split;
    if (!m->elsewhere)
        return CODE_GOOD;
    if (m->run.forward_only || !m->run.recompute)
        return fail(CODE_INTERNAL, "inputs of layers are kept elsewhere with recomputation only");
    m->part_bounds = allocate((ranks + 1) * sizeof *m->part_bounds);
    if (!m->part_bounds)
        return CODE_NO_MEMORY;
    for (size_t r = 0; r <= ranks; r++)
        m->part_bounds[r] = (size_t)m->tokens * r / ranks * row;
    size_t rank = split ? (size_t)m->tensor_rank : 0;
    m->part_first = m->part_bounds[rank], m->part_bytes = m->part_bounds[rank + 1] - m->part_first;
    if (m->run.offload && m->config.layers > 1)
        m->host_bytes = (size_t)(m->config.layers - 1) * m->part_bytes;
    return CODE_GOOD;
}

/* What is needed of host memory, and how much on the device. */
static int count(gpt_model *m)
{
    m->tokens = m->local_tokens * m->run.batch;
    m->chunk = chunk_of(m->run.chunk, m->tokens, nn_tile(m->device));
    m->loss_chunk = chunk_of(m->run.loss_chunk, m->tokens, nn_loss_tile(m->device));
    m->inputs = allocate((size_t)(m->config.layers + 1) * sizeof *m->inputs);
    m->kept = allocate((size_t)kept_layers(m) * sizeof *m->kept);
    m->mlps = allocate((size_t)m->config.layers * sizeof *m->mlps);
    if (!m->inputs || !m->kept || !m->mlps)
        return CODE_NO_MEMORY;
    TRY(divide_inputs(m));
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
        TRY(m->on.ops->host_alloc(m->host_bytes, &m->parts));
    ringx_plan_positions(m->plans[0], m->positions);
    TRY(fail_status(ringx_memory_alloc(m->on.ops->device, m->memory_bytes, &m->memory),
                    "memory of a run of %lld tokens", (long long)m->tokens));
    arena a = {.base = m->memory, .items = items};
    lay_out(m, &a);
    return model_rope_table(m);
}

void model_memory_free(gpt_model *m)
{
    if (m->host_bytes && m->parts) {
        m->on.ops->wait(&m->on); /* copies may be on their way */
        m->on.ops->host_free(m->parts);
    }
    if (m->memory)
        ringx_memory_free(m->on.ops->device, m->memory);
    ringx_memory_free(m->on.ops->device, m->more_workspace);
    free(m->inputs), free(m->kept), free(m->mlps), free(m->positions), free(m->host_nll), free(m->part_bounds);
    m->memory = NULL, m->inputs = NULL, m->kept = NULL, m->mlps = NULL, m->positions = NULL, m->host_nll = NULL;
    m->parts = NULL, m->part_bounds = NULL, m->more_workspace = NULL, m->elsewhere = false;
    m->memory_bytes = m->host_bytes = m->more_bytes = m->part_first = m->part_bytes = 0;
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

/* ---- inputs of layers that are kept elsewhere ----
 * Two buffers on the device: layer i reads inputs[i] and writes inputs[i + 1], which lies where inputs[i − 1] did.  The
 * last layer's input is still there when backward begins. */

static void *kept_part(const gpt_model *m, int64_t layer)
{
    return (char *)m->parts + (size_t)layer * m->part_bytes;
}

static void *part_of_input(const gpt_model *m, int64_t layer)
{
    return (char *)m->inputs[layer].data + m->part_first;
}

/* On the device, in order. */
static int copy_part(gpt_model *m, void *to, void *from)
{
    int64_t width = m->config.width, rows = (int64_t)(m->part_bytes / ((size_t)width * dtype_bytes(m->dtype)));
    nn_map copy = {.tokens = rows, .width = width, .x = {from, m->dtype, width}, .y = {to, m->dtype, width}};
    return rows ? m->on.ops->cast(&m->on, &copy) : CODE_GOOD;
}

int model_store_input(gpt_model *m, int64_t layer)
{
    bool last = layer == m->config.layers - 1;
    if (!m->run.offload)
        return last ? CODE_GOOD : copy_part(m, kept_part(m, layer), part_of_input(m, layer));
    TRY(m->on.ops->copy_wait(&m->on));
    return last ? CODE_GOOD
                : m->on.ops->copy_begin(&m->on, kept_part(m, layer), part_of_input(m, layer), m->part_bytes);
}

int model_fetch_input(gpt_model *m, int64_t layer)
{
    bool last = layer == m->config.layers - 1;
    m->output_gone = m->output_gone || !last || (m->run.offload && layer > 0);
    if (m->run.offload)
        TRY(m->on.ops->copy_wait(&m->on));
    else if (!last)
        TRY(copy_part(m, part_of_input(m, layer), kept_part(m, layer)));
    if (!last && m->run.partition && m->groups.tensor)
        TRY(device_all_gather(m->groups.tensor, m->on.ops->device, m->inputs[layer].data, m->part_bounds));
    return m->run.offload && layer > 0
               ? m->on.ops->copy_begin(&m->on, part_of_input(m, layer - 1), kept_part(m, layer - 1), m->part_bytes)
               : CODE_GOOD;
}

/* ---- what it holds ---- */

void gpt_model_memory(const gpt_model *m, gpt_memory *memory)
{
    *memory = (gpt_memory){
        .device = gpt_model_bytes(m), .host = m->host_bytes, .parameters = m->n_parameters, .elements = m->elements};
    memcpy(memory->items, m->memory_items, sizeof memory->items);
    memory->items[GPT_WORKSPACE] += m->more_bytes;
    memory->items[GPT_WEIGHTS] = m->elements * dtype_bytes(m->dtype);
    memory->items[GPT_GRADIENTS] = m->gradient_elements * sizeof *m->gradients;
}

static int on_paper(gpt_model *m, gpt_memory *memory)
{
    TRY(model_check(&m->config, m->tensor_ranks));
    TRY(model_parameters_create(m));
    TRY(model_gradients_lay_out(m));
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
    m->device = rank->device, m->tensor_rank = rank->tensor_rank, m->tensor_ranks = rank->tensor_ranks;
    m->local_tokens = rank->local_tokens, m->workspace_bytes = rank->workspace;
    int code = on_paper(m, memory);
    free(m->inputs);
    free(m->kept);
    free(m->mlps);
    free(m->part_bounds);
    free(m->parameters);
    free(m->units);
    free(m);
    return code;
}
