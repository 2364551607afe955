/* SPDX-License-Identifier: MIT */
/* The cache of keys and values, and the decoding of one token over it.
 *
 * Decoding runs the model's own functions on `one`, a copy of the model that shares its weights and has the buffers of
 * a run of one token.  All context ranks do the same for the token, except that one of them keeps its key and value. */
#include "gpt/cache.h"

#include "gpt/model_parts.h"
#include "shared/report.h"
#include "train/device_data.h"

#include <math.h>
#include <stdlib.h>

struct gpt_cache {
    gpt_model *m, one;
    int64_t prompt, tokens, room; /* tokens of all ranks, now and at most */
    int64_t local, capacity;      /* of this rank */
    bool keeps;                   /* whether this rank keeps the token that is decoded */
    size_t row;                   /* bytes of a token's keys, of one layer */
    char *memory;                 /* [layer][keys, values][capacity] rows */
    void *workspace;
    int32_t *ids;         /* on the device: the prompt's own tokens, then the one that is decoded */
    float *part, *logits; /* of this rank's vocabulary, on the device; of all */
};

static nn_array stored(const gpt_cache *c, int64_t layer, int which)
{
    size_t first = (size_t)((2 * layer + which) * c->capacity);
    return (nn_array){c->memory + first * c->row, c->m->dtype, c->m->kv_width};
}

int cache_fill(gpt_model *m, int64_t layer, const kept_attention *k)
{
    gpt_cache *c = m->cache;
    if (m->decoding && !c->keeps)
        return CODE_GOOD;
    const nn_array from[2] = {k->k, k->v};
    int64_t first = m->decoding ? c->local : 0;
    for (int i = 0; i < 2; i++) {
        nn_array to = rows_from(stored(c, layer, i), first);
        nn_map copy = {.tokens = m->tokens, .width = m->kv_width, .x = from[i], .y = to};
        TRY(m->on.ops->cast(&m->on, &copy));
    }
    return CODE_GOOD;
}

static nn_decode decode_of(const gpt_cache *c)
{
    int64_t dim = c->m->config.head_dim;
    return (nn_decode){.heads = c->m->q_width / dim, .kv_heads = c->m->kv_width / dim, .head_dim = dim};
}

int cache_attend(gpt_model *m, int64_t layer, const kept_attention *k)
{
    const gpt_cache *c = m->cache;
    device_group context = {c->m->groups.context, c->m->on.ops->device};
    nn_reduce reduce = {device_max, device_sum, &context};
    nn_decode d = decode_of(c);
    d.keys = c->local + c->keeps, d.scale = 1 / sqrt((double)d.head_dim);
    d.q = k->q, d.k = stored(c, layer, 0), d.v = stored(c, layer, 1), d.out = k->out;
    d.workspace = c->workspace, d.reduce = context.g ? &reduce : NULL;
    return m->on.ops->decode(&m->on, &d);
}

/* ---- logits ---- */

/* This rank's logits, to those of all tensor ranks, in order. */
static int gather_logits(gpt_cache *c)
{
    const gpt_model *m = c->m;
    if (!m->groups.tensor)
        return CODE_GOOD;
    size_t ranks = (size_t)group_ranks(m->groups.tensor), *bounds = allocate((ranks + 1) * sizeof *bounds);
    if (!bounds)
        return CODE_NO_MEMORY;
    for (size_t r = 0; r <= ranks; r++)
        bounds[r] = (size_t)m->config.vocabulary * r / ranks * sizeof *c->logits;
    int code = group_all_gather(m->groups.tensor, c->logits, bounds);
    free(bounds);
    return code;
}

/* After row `row` of m; row −1: the last token is on another context rank. */
static int find_logits(gpt_cache *c, gpt_model *m, int64_t row)
{
    size_t bytes = (size_t)c->m->vocabulary * sizeof *c->part;
    float *mine = c->logits + c->m->first_word;
    if (row >= 0) {
        TRY(gpt_model_logits(m, row, 1, c->part));
        TRY(m->on.ops->wait(&m->on));
        TRY(fail_status(ringx_memory_copy(m->on.ops->device, mine, c->part, bytes), "logits"));
    }
    group *context = c->m->groups.context;
    if (context && !m->decoding) {
        double owner = row >= 0 ? group_rank(context) : -1;
        TRY(group_max(context, &owner));
        TRY(group_broadcast(context, mine, bytes, (int)owner));
    }
    return gather_logits(c);
}

/* ---- the prompt ---- */

static int make_room(gpt_cache *c, int64_t more)
{
    gpt_model *m = c->m;
    ringx_device device = m->on.ops->device;
    int64_t ranks = m->groups.context ? group_ranks(m->groups.context) : 1;
    nn_decode d = decode_of(c);
    c->local = m->local_tokens, c->capacity = c->local + (more + ranks - 1) / ranks;
    c->row = (size_t)m->kv_width * dtype_bytes(m->dtype);
    size_t bytes = 2 * (size_t)(m->config.layers * c->capacity) * c->row;
    void *memory = NULL, *part = NULL, *ids = NULL;
    TRY(fail_status(ringx_memory_alloc(device, (size_t)(m->tokens + 1) * sizeof *c->ids, &ids), "tokens"));
    c->ids = ids;
    TRY(fail_status(ringx_memory_alloc(device, bytes, &memory), "keys and values of %lld tokens",
                    (long long)c->capacity));
    c->memory = memory;
    TRY(fail_status(ringx_memory_alloc(device, nn_decode_workspace(&d), &c->workspace), "workspace"));
    TRY(fail_status(ringx_memory_alloc(device, (size_t)m->vocabulary * sizeof(float), &part), "logits"));
    c->part = part;
    c->logits = allocate((size_t)m->config.vocabulary * sizeof *c->logits);
    return c->logits ? CODE_GOOD : CODE_NO_MEMORY;
}

static int run_prompt(gpt_cache *c, const int32_t *ids)
{
    gpt_model *m = c->m;
    int32_t *own = allocate((size_t)m->tokens * sizeof *own);
    if (!own)
        return CODE_NO_MEMORY;
    int64_t last = -1;
    for (int64_t t = 0; t < m->tokens; t++) {
        own[t] = ids[m->positions[t]];
        last = m->positions[t] == c->prompt - 1 ? t : last;
    }
    int code =
        fail_status(ringx_memory_copy(m->on.ops->device, c->ids, own, (size_t)m->tokens * sizeof *own), "tokens");
    m->cache = c;
    code = code ? code : model_forward(m, c->ids);
    code = code ? code : model_plans_wait(m); /* the run ends: no copy out of another rank's workspace is under way */
    m->cache = NULL;
    free(own);
    return code ? code : find_logits(c, m, last);
}

/* The model of one token. */
static int prepare_one(gpt_cache *c)
{
    gpt_run run = {.batch = 1, .tokens = 1, .forward_only = true};
    gpt_model_release(c->m);
    c->one = *c->m;
    c->one.groups.context = NULL, c->one.cache = c, c->one.decoding = true;
    return gpt_model_prepare(&c->one, &run);
}

static int create(gpt_cache *c, const int32_t *ids, int64_t more)
{
    gpt_run run = {.batch = 1, .tokens = c->prompt, .forward_only = true, .chunk = 1024};
    if (c->prompt < 1)
        return fail(CODE_USAGE, "a prompt must have at least one token");
    TRY(gpt_model_prepare(c->m, &run));
    TRY(make_room(c, more));
    TRY(run_prompt(c, ids));
    return prepare_one(c);
}

int gpt_cache_create(gpt_cache **result, gpt_model *m, const int32_t *ids, int64_t count, int64_t more)
{
    *result = NULL;
    gpt_cache *c = allocate(sizeof *c);
    if (!c)
        return CODE_NO_MEMORY;
    c->m = m, c->prompt = c->tokens = count, c->room = count + more;
    int code = create(c, ids, more);
    if (code) {
        gpt_cache_destroy(c);
        return code;
    }
    *result = c;
    return CODE_GOOD;
}

void gpt_cache_destroy(gpt_cache *c)
{
    if (!c)
        return;
    ringx_device device = c->m->on.ops->device;
    if (c->one.decoding)
        gpt_model_release(&c->one);
    ringx_memory_free(device, c->memory);
    ringx_memory_free(device, c->workspace);
    ringx_memory_free(device, c->part);
    ringx_memory_free(device, c->ids);
    free(c->logits);
    free(c);
}

const float *gpt_cache_logits(const gpt_cache *c)
{
    return c->logits;
}

int64_t gpt_cache_tokens(const gpt_cache *c)
{
    return c->tokens;
}

int gpt_cache_append(gpt_cache *c, int32_t id)
{
    group *context = c->m->groups.context;
    if (c->tokens == c->room)
        return fail(CODE_INTERNAL, "the cache has room for %lld tokens, and they are there", (long long)c->room);
    c->keeps = !context || (c->tokens - c->prompt) % group_ranks(context) == group_rank(context);
    c->one.positions[0] = c->tokens;
    TRY(model_rope_table(&c->one));
    TRY(fail_status(ringx_memory_copy(c->m->on.ops->device, c->ids, &id, sizeof id), "a token"));
    TRY(model_forward(&c->one, c->ids));
    c->local += c->keeps, c->tokens++, c->keeps = false;
    return find_logits(c, &c->one, 0);
}
