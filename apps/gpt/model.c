/* SPDX-License-Identifier: MIT */
/* The Llama model as a whole: creation, preparation of a run, loss and gradients. */
#include "gpt/model.h"

#include "gpt/model_parts.h"
#include "shared/numbers.h"

#include <stdlib.h>

static int at_least(int64_t value, int64_t low, const char *name)
{
    return value >= low ? CODE_GOOD
                        : fail(CODE_CONFIGURATION, "%s is %lld; it must be at least %lld", name, (long long)value,
                               (long long)low);
}

static int divides(int64_t parts, int64_t whole, const char *parts_name, const char *whole_name)
{
    return whole % parts == 0 ? CODE_GOOD
                              : fail(CODE_CONFIGURATION, "%lld %s do not divide %lld %s", (long long)parts, parts_name,
                                     (long long)whole, whole_name);
}

int model_check(gpt_config *c, int64_t tensor_ranks)
{
    const struct {
        const char *name;
        int64_t value, low;
    } sizes[] = {{"layers", c->layers, 0},        {"width", c->width, 1},       {"heads", c->heads, 1},
                 {"kv heads", c->kv_heads, 1},    {"head_dim", c->head_dim, 1}, {"inner size", c->inner, 1},
                 {"vocabulary", c->vocabulary, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        TRY(at_least(sizes[i].value, sizes[i].low, sizes[i].name));
    TRY(divides(c->kv_heads, c->heads, "kv heads", "heads"));
    TRY(divides(tensor_ranks, c->kv_heads, "tensor-parallel ranks", "kv heads"));
    if (c->rotary_dim == 0)
        c->rotary_dim = c->head_dim;
    if (c->rotary_dim < 0 || c->rotary_dim > c->head_dim || c->rotary_dim % 2)
        return fail(CODE_CONFIGURATION, "%lld columns of a head turn; it must be an even number in 0 … %lld",
                    (long long)c->rotary_dim, (long long)c->head_dim);
    return CODE_GOOD;
}

static int create(gpt_model *m)
{
    TRY(model_parameters_create(m));
    return fail_status(ringx_memory_alloc(m->on.ops->device, m->elements * dtype_bytes(m->dtype), &m->weights),
                       "weights");
}

int gpt_model_create(gpt_model **result, const gpt_config *config, ringx_dtype dtype, const nn_context *on,
                     gpt_groups groups)
{
    *result = NULL;
    gpt_model *m = allocate(sizeof *m);
    if (!m)
        return CODE_NO_MEMORY;
    m->config = *config, m->dtype = dtype, m->on = *on, m->groups = groups;
    m->device = on->ops->device;
    if (groups.tensor && group_ranks(groups.tensor) == 1)
        m->groups.tensor = NULL;
    m->tensor_ranks = m->groups.tensor ? group_ranks(m->groups.tensor) : 1;
    m->tensor_rank = m->groups.tensor ? group_rank(m->groups.tensor) : 0;
    int code = model_check(&m->config, m->tensor_ranks);
    if (!code)
        code = create(m);
    if (code) {
        gpt_model_destroy(m);
        return code;
    }
    *result = m;
    return CODE_GOOD;
}

void gpt_model_release(gpt_model *m)
{
    if (!m)
        return;
    model_plans_destroy(m); /* first: they know where the memory is */
    model_memory_free(m);
    ringx_comm_destroy(m->self);
    m->self = NULL, m->dx = (nn_array){0};
}

void gpt_model_destroy(gpt_model *m)
{
    if (!m)
        return;
    gpt_model_release(m);
    ringx_memory_free(m->on.ops->device, m->weights);
    ringx_memory_free(m->on.ops->device, m->gradients);
    free(m->parameters);
    free(m->units);
    free(m);
}

const gpt_config *gpt_model_config(const gpt_model *m)
{
    return &m->config;
}

size_t gpt_model_elements(const gpt_model *m)
{
    return m->elements;
}

void *gpt_model_weights(gpt_model *m)
{
    return m->weights;
}

float *gpt_model_gradients(gpt_model *m)
{
    return m->gradients;
}

size_t gpt_model_gradient_elements(const gpt_model *m)
{
    return m->gradient_elements;
}

/* ---- a run ---- */

static int prepare(gpt_model *m)
{
    TRY(model_plans_create(m));
    m->run.attention = NULL, m->run.attention_of = NULL, m->run.document_starts = NULL; /* the plans have it */
    int code = model_gradients_create(m);
    TRY(model_agree(m, code ? code : model_memory_create(m)));
    return model_plans_attach(m);
}

int gpt_model_prepare(gpt_model *m, const gpt_run *run)
{
    int code = model_plans_leave(m);
    gpt_model_release(m);
    m->run = *run;
    code = code ? code : prepare(m);
    if (code)
        gpt_model_release(m);
    return code;
}

int64_t gpt_model_local_tokens(const gpt_model *m)
{
    return m->local_tokens;
}

const int64_t *gpt_model_positions(const gpt_model *m)
{
    return m->positions;
}

const ringx_plan *gpt_model_plan(const gpt_model *m)
{
    return m->plans ? m->plans[0] : NULL;
}

size_t gpt_model_bytes(const gpt_model *m)
{
    return m->memory_bytes + m->more_bytes + m->elements * dtype_bytes(m->dtype) +
           m->gradient_elements * sizeof *m->gradients;
}

/* ---- loss and gradients ---- */

static int forward(gpt_model *m, const int32_t *ids, bool store)
{
    m->output_gone = false;
    TRY(model_embed(m, ids));
    for (int64_t layer = 0; layer < m->config.layers; layer++) {
        if (store)
            TRY(model_store_input(m, layer));
        TRY(layer_attention(m, layer, false));
        TRY(layer_mlp(m, layer));
    }
    return CODE_GOOD;
}

int model_forward(gpt_model *m, const int32_t *ids)
{
    return forward(m, ids, false);
}

/* In the order of the tokens, whatever the chunks were. */
static int sum_nll(gpt_model *m, double *nll)
{
    TRY(model_plans_wait(m));
    TRY(fail_status(
        ringx_memory_copy(m->on.ops->device, m->host_nll, m->token_nll, (size_t)m->tokens * sizeof *m->host_nll),
        "losses"));
    *nll = 0;
    for (int64_t t = 0; t < m->tokens; t++)
        *nll += (double)m->host_nll[t];
    return CODE_GOOD;
}

int gpt_model_loss(gpt_model *m, const gpt_batch *b, double *nll)
{
    TRY(model_forward(m, b->ids));
    TRY(model_head(m, b, 0, false));
    return sum_nll(m, nll);
}

int gpt_model_train(gpt_model *m, const gpt_batch *b, double scale, double *nll)
{
    if (m->run.forward_only || (m->run.split_gradients && !m->watch.claim))
        return fail(CODE_INTERNAL, m->run.forward_only ? "a run prepared for forward only has no gradients"
                                                       : "split gradients need somebody who empties their places");
    TRY(forward(m, b->ids, m->elsewhere));
    if (m->config.tied)
        TRY(model_claim(m, 0));
    TRY(model_claim(m, last_norm(m)));
    TRY(model_head(m, b, scale, true));
    TRY(model_ready(m, last_norm(m)));
    for (int64_t layer = m->config.layers - 1; layer >= 0; layer--) {
        if (m->elsewhere)
            TRY(model_fetch_input(m, layer));
        TRY(model_claim(m, parameter_of(layer, INPUT_NORM)));
        TRY(layer_backward(m, layer));
        TRY(model_ready(m, parameter_of(layer, INPUT_NORM)));
    }
    if (!m->config.tied)
        TRY(model_claim(m, 0));
    TRY(model_embed_backward(m, b->ids));
    TRY(model_ready(m, 0));
    return sum_nll(m, nll);
}
