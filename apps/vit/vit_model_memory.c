/* SPDX-License-Identifier: MIT */
/* The model's memory of a run: one allocation, laid out by one function that first counts and then places. */
#include "nn/arena.h"
#include "shared/numbers.h"
#include "vit/vit_model_parts.h"

#include <stdlib.h>
#include <string.h>

const char *const vit_memory_names[VIT_MEMORY_ITEMS] = {
    [VIT_WEIGHTS] = "weights",         [VIT_GRADIENTS] = "gradients",
    [VIT_INPUTS] = "inputs of blocks", [VIT_KEPT] = "kept attention",
    [VIT_KEPT_MLP] = "kept mlp",       [VIT_BACKWARD] = "backward",
    [VIT_CHUNKS] = "chunks of tokens", [VIT_WORKSPACE] = "attention space",
    [VIT_ENDS] = "fields and patches", [VIT_TABLES] = "tables"};

static void take_kept(const vit_model *m, arena *a, vit_kept *k)
{
    k->q = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    k->k = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    k->v = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    k->out = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    k->middle = arena_take_matrix(a, m->tokens, m->shape.embed, RINGX_F32);
    k->lse = arena_take(a, (size_t)(m->tokens * m->heads) * sizeof *k->lse);
}

static int64_t kept_blocks(const vit_model *m)
{
    return m->run.recompute || m->run.forward_only ? 1 : m->shape.depth;
}

static bool keeps_mlp(const vit_model *m, int64_t block)
{
    return !m->run.forward_only && block >= m->shape.depth - m->run.keep_mlp;
}

static void lay_out_backward(vit_model *m, arena *a)
{
    a->item = VIT_KEPT_MLP;
    for (int64_t i = 0; i < m->shape.depth; i++)
        if (keeps_mlp(m, i))
            m->hiddens[i] = arena_take_matrix(a, m->tokens, m->inner, m->dtype);
    a->item = VIT_BACKWARD;
    m->dx = arena_take_matrix(a, m->tokens, m->shape.embed, RINGX_F32);
    m->dq = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    m->dk = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    m->dv = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    m->dout = arena_take_matrix(a, m->tokens, m->qkv, m->dtype);
    a->item = VIT_CHUNKS;
    if (m->dtype != RINGX_F32 || m->shape.dropout > 0)
        m->branch = arena_take_matrix(a, m->chunk, m->shape.embed, m->dtype);
    if (m->dtype != RINGX_F32)
        m->pixels = arena_take_matrix(a, m->chunk, m->pixels_out, m->dtype);
}

static void lay_out(vit_model *m, arena *a)
{
    int64_t embed = m->shape.embed;
    a->item = VIT_INPUTS;
    for (int64_t i = 0; i <= m->shape.depth; i++)
        m->inputs[i] =
            m->run.forward_only && i > 1 ? m->inputs[i - 2] : arena_take_matrix(a, m->tokens, embed, RINGX_F32);
    a->item = VIT_KEPT;
    for (int64_t i = 0; i < kept_blocks(m); i++)
        take_kept(m, a, &m->kept[i]);
    if (!m->run.forward_only)
        lay_out_backward(m, a);
    a->item = VIT_CHUNKS;
    m->normal = arena_take_matrix(a, m->chunk, embed, m->dtype);
    m->partial = arena_take_matrix(a, m->chunk, embed, RINGX_F32);
    if (!keeps_mlp(m, 0)) /* each block has its own */
        m->hidden = arena_take_matrix(a, m->chunk, m->inner, m->dtype);
    m->act = arena_take_matrix(a, m->chunk, m->inner, m->dtype);
    a->item = VIT_WORKSPACE;
    m->workspace = arena_take(a, m->workspace_bytes);
    a->item = VIT_ENDS;
    int64_t pixels = m->run.batch * m->shape.channels_in * m->band.count * m->shape.width;
    m->image = arena_take(a, (size_t)pixels * sizeof *m->image);
    m->patches = arena_take_matrix(a, m->tokens, m->pixels_in, m->dtype);
    m->prediction = arena_take_matrix(a, m->tokens, m->pixels_out, RINGX_F32);
    a->item = VIT_TABLES;
    m->band_positions = arena_take(a, (size_t)m->local_tokens * sizeof *m->band_positions);
    m->token_ids = arena_take(a, (size_t)m->tokens * sizeof *m->token_ids);
    if (m->shape.dropout > 0 && !m->run.forward_only) {
        m->rows = arena_take(a, (size_t)m->tokens * sizeof *m->rows);
        m->factors = arena_take(a, (size_t)m->tokens * sizeof *m->factors);
    }
}

/* What is needed of host memory, and how much on the device. */
static int count(vit_model *m)
{
    int64_t chunk = m->run.chunk;
    m->tokens = m->local_tokens * m->run.batch;
    chunk = chunk < 1 || chunk > m->tokens ? m->tokens : chunk;
    m->chunk = chunk < 1 ? NN_TILE : (chunk + NN_TILE - 1) / NN_TILE * NN_TILE;
    m->inputs = allocate((size_t)(m->shape.depth + 1) * sizeof *m->inputs);
    m->kept = allocate((size_t)kept_blocks(m) * sizeof *m->kept);
    m->hiddens = allocate((size_t)m->shape.depth * sizeof *m->hiddens);
    if (!m->inputs || !m->kept || !m->hiddens)
        return CODE_NO_MEMORY;
    arena a = {.items = m->memory_items};
    lay_out(m, &a);
    m->memory_bytes = a.used;
    return CODE_GOOD;
}

/* The rows of the image that the own patches touch. */
static void find_band(vit_model *m)
{
    int64_t p = m->shape.patch, n = m->local_tokens;
    m->band = (vit_band){0, 0};
    if (n == 0)
        return;
    m->band.first = m->positions[0] / m->across * p; /* positions ascend */
    m->band.count = (m->positions[n - 1] / m->across + 1) * p - m->band.first;
}

static int to_device(const vit_model *m, void *to, const void *from, size_t bytes)
{
    return fail_status(ringx_memory_copy(m->on.ops->device, to, from, bytes), "tables of a run");
}

static int fill_tables(vit_model *m)
{
    int64_t n = m->tokens, above = m->band.first / m->shape.patch * m->across;
    int64_t *wide = allocate((size_t)n * sizeof *wide);
    int32_t *ids = allocate((size_t)n * sizeof *ids);
    int code = wide && ids ? CODE_GOOD : CODE_NO_MEMORY;
    for (int64_t i = 0; i < m->local_tokens && !code; i++)
        wide[i] = m->positions[i] - above;
    if (!code)
        code = to_device(m, m->band_positions, wide, (size_t)m->local_tokens * sizeof *wide);
    for (int64_t t = 0; t < n && !code; t++) {
        int64_t sample = m->run.first_sample + t / m->local_tokens * m->run.sample_stride;
        ids[t] = (int32_t)m->positions[t % m->local_tokens];
        wide[t] = sample * m->image_tokens + ids[t];
    }
    if (!code)
        code = to_device(m, m->token_ids, ids, (size_t)n * sizeof *ids);
    if (!code && m->rows)
        code = to_device(m, m->rows, wide, (size_t)n * sizeof *wide);
    free(wide);
    free(ids);
    return code;
}

/* What the device copies from and to is the row's own host memory, which copies are faster with. */
static int make_host_memory(vit_model *m)
{
    size_t pixels = (size_t)(m->tokens * m->pixels_out) * sizeof(float);
    void *prediction = NULL, *gradient = NULL;
    TRY(m->on.ops->host_alloc(pixels, &prediction));
    m->host_prediction = prediction;
    if (!m->run.forward_only)
        TRY(m->on.ops->host_alloc(pixels, &gradient));
    m->host_gradient = gradient;
    m->host_target = allocate(pixels);
    m->path_factors = allocate((size_t)m->tokens * sizeof *m->path_factors);
    m->sums = allocate(3 * (size_t)m->run.batch * sizeof *m->sums);
    return m->host_target && m->path_factors && m->sums ? CODE_GOOD : CODE_NO_MEMORY;
}

int vit_memory_create(vit_model *m)
{
    size_t items[VIT_MEMORY_ITEMS] = {0};
    m->positions = allocate((size_t)m->local_tokens * sizeof *m->positions);
    if (!m->positions)
        return CODE_NO_MEMORY;
    ringx_plan_positions(m->plan, m->positions);
    find_band(m);
    TRY(count(m));
    TRY(make_host_memory(m));
    TRY(fail_status(ringx_memory_alloc(m->on.ops->device, m->memory_bytes, &m->memory),
                    "memory of a run of %lld tokens", (long long)m->tokens));
    arena a = {.base = m->memory, .items = items};
    lay_out(m, &a);
    return fill_tables(m);
}

void vit_memory_free(vit_model *m)
{
    void *const host[] = {m->inputs, m->kept, m->hiddens, m->positions, m->host_target, m->path_factors, m->sums};
    m->on.ops->host_free(m->host_prediction);
    m->on.ops->host_free(m->host_gradient);
    ringx_memory_free(m->on.ops->device, m->memory);
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++)
        free(host[i]);
    m->memory = NULL, m->inputs = NULL, m->kept = NULL, m->hiddens = NULL, m->positions = NULL;
    m->host_prediction = NULL, m->host_target = NULL, m->host_gradient = NULL, m->path_factors = NULL, m->sums = NULL;
    m->rows = NULL, m->factors = NULL, m->dx = m->branch = m->pixels = (nn_array){0};
    m->memory_bytes = 0;
    memset(m->memory_items, 0, sizeof m->memory_items);
}

/* ---- what it holds ---- */

void vit_model_memory(const vit_model *m, vit_memory *memory)
{
    *memory = (vit_memory){.parameters = m->n_parameters, .elements = m->elements};
    memcpy(memory->items, m->memory_items, sizeof memory->items);
    memory->items[VIT_WEIGHTS] = m->elements * dtype_bytes(m->dtype);
    bool gradients = m->gradients || !m->run.forward_only;
    memory->items[VIT_GRADIENTS] = gradients ? m->elements * sizeof *m->gradients : 0;
    for (int i = 0; i < VIT_MEMORY_ITEMS; i++)
        memory->device += memory->items[i];
}

static int on_paper(vit_model *m, vit_memory *memory)
{
    TRY(vit_check_shape(&m->shape, m->tensor_ranks));
    TRY(vit_parameters_create(m));
    TRY(count(m));
    vit_model_memory(m, memory);
    return CODE_GOOD;
}

int vit_paper_memory(const vit_shape *shape, ringx_dtype dtype, const vit_run *run, const vit_paper_rank *rank,
                     vit_memory *memory)
{
    vit_model *m = allocate(sizeof *m);
    if (!m)
        return CODE_NO_MEMORY;
    m->shape = *shape, m->dtype = dtype, m->run = *run;
    m->tensor_rank = rank->tensor_rank, m->tensor_ranks = rank->tensor_ranks;
    m->local_tokens = rank->local_tokens, m->band.count = rank->band_rows, m->workspace_bytes = rank->workspace;
    int code = on_paper(m, memory);
    free(m->inputs);
    free(m->kept);
    free(m->hiddens);
    free(m->parameters);
    free(m);
    return code;
}
