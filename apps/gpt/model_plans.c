/* SPDX-License-Identifier: MIT */
/* The attention of a run: a plan of the library for each choice of attention, all with one layout of tokens, and the
 * calls of a layer.  Where samples have document masks, each is attended by itself, with plans of its own bounds. */
#include "gpt/model_parts.h"

#include <stdlib.h>
#include <string.h>

ringx_problem gpt_run_problem(const gpt_config *config, ringx_dtype dtype, const gpt_run *run, int tensor_ranks)
{
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = run->document_masks && run->batch > 1 ? 1 : run->batch, problem.tokens = run->tokens;
    problem.q_heads = config->heads / tensor_ranks, problem.kv_heads = config->kv_heads / tensor_ranks;
    problem.head_dim = config->head_dim, problem.dtype = dtype, problem.causal = true;
    problem.document_starts = run->document_starts, problem.documents = run->documents;
    return problem;
}

ringx_options gpt_run_options(const gpt_run *run, size_t which, const char *layout, ringx_device device)
{
    ringx_options options = RINGX_OPTIONS_INIT;
    if (run->attention)
        options = run->attention[which];
    if (which > 0)
        options.layout = layout;
    options.device = device, options.forward_only = run->forward_only;
    return options;
}

/* ---- making ---- */

int model_agree(const gpt_model *m, int code)
{
    return m->groups.context ? group_agree(m->groups.context, code) : code;
}

static int reserve(gpt_model *m)
{
    size_t layers = (size_t)m->config.layers;
    m->attentions = m->run.attentions ? m->run.attentions : 1;
    m->plans = allocate(m->attentions * sizeof *m->plans);
    m->options = allocate(m->attentions * sizeof *m->options);
    m->attention_of = allocate(layers * sizeof *m->attention_of);
    if (m->run.document_masks)
        m->masks = allocate((size_t)m->run.batch * sizeof *m->masks);
    if (!m->plans || !m->options || !m->attention_of || (m->run.document_masks && !m->masks))
        return CODE_NO_MEMORY;
    for (size_t i = 0; m->run.attention_of && i < layers; i++) {
        m->attention_of[i] = m->run.attention_of[i];
        if (m->attention_of[i] >= m->attentions)
            return fail(CODE_INTERNAL, "layer %zu has attention %zu of %zu", i, m->attention_of[i], m->attentions);
    }
    return CODE_GOOD;
}

static int communicator(gpt_model *m)
{
    if (m->groups.context)
        return group_comm(m->groups.context, &m->comm);
    TRY(fail_status(ringx_comm_self(&m->self), "communicator of one rank"));
    m->comm = m->self;
    return CODE_GOOD;
}

/* The first plan's layout is that of all. */
static int make(gpt_model *m, size_t which)
{
    ringx_plan_info first = {.layout = NULL};
    if (which > 0)
        ringx_plan_describe(m->plans[0], &first);
    ringx_problem problem = gpt_run_problem(&m->config, m->dtype, &m->run, m->tensor_ranks);
    m->options[which] = gpt_run_options(&m->run, which, first.layout, m->on.ops->device);
    m->options[which].stream = m->on.stream;
    return fail_status(ringx_plan_create(&m->plans[which], &problem, &m->options[which], m->comm), "attention");
}

int model_plans_create(gpt_model *m)
{
    TRY(model_agree(m, reserve(m)));
    TRY(communicator(m));
    m->workspace_bytes = 0;
    for (size_t i = 0; i < m->attentions; i++) {
        TRY(make(m, i));
        size_t bytes = ringx_plan_workspace(m->plans[i]);
        m->workspace_bytes = bytes > m->workspace_bytes ? bytes : m->workspace_bytes;
    }
    m->local_tokens = ringx_plan_local_tokens(m->plans[0]);
    return CODE_GOOD;
}

int model_plans_attach(gpt_model *m)
{
    for (size_t i = 0; i < m->attentions && !m->run.no_peer_copies; i++)
        TRY(fail_status(ringx_plan_attach(m->plans[i], m->workspace), "attention"));
    return CODE_GOOD;
}

static void destroy_plans(ringx_plan **plans, size_t count)
{
    for (size_t i = 0; plans && i < count; i++)
        ringx_plan_destroy(plans[i]);
    free(plans);
}

static void destroy_mask(const gpt_model *m, masked_plans *mask)
{
    if (!mask)
        return;
    destroy_plans(mask->plans, m->attentions);
    free(mask->starts);
    free(mask);
}

static bool is_among(masked_plans *const *list, int64_t count, const masked_plans *mask)
{
    for (int64_t i = 0; i < count; i++)
        if (list[i] == mask)
            return true;
    return false;
}

/* Destroys those of a list that are not among `kept`, each once. */
static void destroy_masks(const gpt_model *m, masked_plans **list, masked_plans *const *kept)
{
    for (int64_t i = 0; list && i < m->run.batch; i++)
        if (!is_among(list, i, list[i]) && !(kept && is_among(kept, m->run.batch, list[i])))
            destroy_mask(m, list[i]);
    free(list);
}

void model_plans_destroy(gpt_model *m)
{
    destroy_masks(m, m->masks, NULL);
    destroy_plans(m->plans, m->attentions);
    free(m->options);
    free(m->attention_of);
    m->plans = NULL, m->options = NULL, m->attention_of = NULL, m->masks = NULL;
}

int model_plans_leave(gpt_model *m)
{
    bool left = m->plans != NULL;
    model_plans_destroy(m);
    return left ? model_agree(m, CODE_GOOD) : CODE_GOOD;
}

/* ---- documents ---- */

static masked_plans *find_mask(masked_plans *const *list, int64_t count, const int64_t *starts, size_t documents)
{
    for (int64_t i = 0; i < count; i++)
        if (list[i] && list[i]->documents == documents &&
            memcmp(list[i]->starts, starts, (documents + 1) * sizeof *starts) == 0)
            return list[i];
    return NULL;
}

/* The plan of the first choice has no layout in its options, but the preset's.  These plans come and go with the
 * samples, and with them what they need: they are not attached to a workspace. */
static int make_masked(gpt_model *m, masked_plans *mask)
{
    size_t most = 0;
    ringx_plan_info first;
    ringx_plan_describe(m->plans[0], &first);
    for (size_t i = 0; i < m->attentions; i++) {
        ringx_problem problem = gpt_run_problem(&m->config, m->dtype, &m->run, m->tensor_ranks);
        ringx_options options = m->options[i];
        problem.document_starts = mask->starts, problem.documents = mask->documents;
        options.layout = first.layout; /* "auto" might choose another one for these documents */
        TRY(fail_status(ringx_plan_create(&mask->plans[i], &problem, &options, m->comm), "attention within documents"));
        size_t bytes = ringx_plan_workspace(mask->plans[i]);
        most = bytes > most ? bytes : most;
    }
    return model_agree(m, model_grow_workspace(m, most));
}

static int create_mask(gpt_model *m, const int64_t *starts, size_t documents, masked_plans **result)
{
    masked_plans *mask = allocate(sizeof *mask);
    int code = mask ? CODE_GOOD : CODE_NO_MEMORY;
    if (mask) {
        *mask = (masked_plans){allocate((documents + 1) * sizeof *starts), documents,
                               allocate(m->attentions * sizeof *mask->plans)};
        code = mask->starts && mask->plans ? CODE_GOOD : CODE_NO_MEMORY;
    }
    if (!code)
        memcpy(mask->starts, starts, (documents + 1) * sizeof *starts);
    code = model_agree(m, code);
    if (!code)
        code = make_masked(m, mask);
    if (code) {
        destroy_mask(m, mask);
        return code;
    }
    *result = mask;
    return CODE_GOOD;
}

int gpt_model_documents(gpt_model *m, const int64_t *const *starts, const size_t *documents)
{
    if (!m->run.document_masks)
        return fail(CODE_INTERNAL, "the run was not prepared for document masks");
    int64_t batch = m->run.batch;
    masked_plans **next = allocate((size_t)batch * sizeof *next);
    int code = model_agree(m, next ? CODE_GOOD : CODE_NO_MEMORY);
    for (int64_t i = 0; i < batch && !code; i++) {
        bool whole = documents[i] == 1 && starts[i][0] == 0 && starts[i][1] == m->run.tokens;
        if (whole || documents[i] == 0)
            continue;
        next[i] = find_mask(next, i, starts[i], documents[i]);
        if (!next[i])
            next[i] = find_mask(m->masks, batch, starts[i], documents[i]);
        if (!next[i])
            code = create_mask(m, starts[i], documents[i], &next[i]);
    }
    masked_plans **old = m->masks;
    if (code) {
        destroy_masks(m, next, old);
        return code;
    }
    m->masks = next;
    destroy_masks(m, old, next);
    return CODE_GOOD;
}

/* ---- running ---- */

int model_plans_wait(gpt_model *m)
{
    for (size_t i = 0; i < m->attentions; i++) {
        TRY(fail_status(ringx_plan_wait(m->plans[i]), "a step"));
        for (int64_t s = 0; m->masks && s < m->run.batch; s++)
            if (m->masks[s])
                TRY(fail_status(ringx_plan_wait(m->masks[s]->plans[i]), "a step"));
    }
    return CODE_GOOD;
}

/* Of all samples, or of one; masked: for a plan of its documents. */
static ringx_args args_of(const gpt_model *m, const kept_attention *k, int64_t sample, bool masked)
{
    bool more = masked && m->more_bytes;
    ringx_args args = RINGX_ARGS_INIT;
    int64_t first = sample * m->local_tokens;
    args.q.data = rows_from(k->q, first).data, args.k.data = rows_from(k->k, first).data;
    args.v.data = rows_from(k->v, first).data, args.out.data = rows_from(k->out, first).data;
    args.lse = k->lse + first * m->q_width / m->config.head_dim;
    args.workspace = more ? m->more_workspace : m->workspace;
    args.workspace_bytes = more ? m->more_bytes : m->workspace_bytes;
    if (m->run.forward_only)
        return args;
    args.dout.data = rows_from(m->dout, first).data, args.dq.data = rows_from(m->dq, first).data;
    args.dk.data = rows_from(m->dk, first).data, args.dv.data = rows_from(m->dv, first).data;
    return args;
}

int model_attend(gpt_model *m, int64_t layer, const kept_attention *k, bool backward)
{
    size_t which = m->attention_of[layer];
    for (int64_t i = 0; i < (m->masks ? m->run.batch : 1); i++) {
        bool masked = m->masks && m->masks[i];
        ringx_plan *plan = masked ? m->masks[i]->plans[which] : m->plans[which];
        ringx_args args = args_of(m, k, i, masked);
        TRY(fail_status(backward ? ringx_backward(plan, &args) : ringx_forward(plan, &args),
                        "%sattention of layer %lld", backward ? "backward of " : "", (long long)layer));
    }
    return CODE_GOOD;
}
