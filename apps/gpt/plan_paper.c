/* SPDX-License-Identifier: MIT */
/* Plans on paper: the layout of ranks, and the memory of the rank that needs most. */
#include "gpt/plan_paper.h"

#include <string.h>

/* The same arithmetic, and the same refusals, as parallel_create and config_batch. */
static int lay_out_ranks(paper_plan *p, config *c)
{
    int64_t dp;
    int order[AXES], stride = 1;
    int code = config_layout(c, p->size, order);
    if (!code)
        code = config_batch(c, p->ranks, &dp);
    if (code)
        return code;
    p->size[AXIS_DATA] = (int)dp;
    for (int i = 0; i < AXES; i++) {
        p->stride[order[i]] = stride;
        stride *= p->size[order[i]];
    }
    p->batch = c->train_batch_size, p->micro = c->train_micro_batch_size_per_gpu;
    p->steps = c->gradient_accumulation_steps;
    return CODE_GOOD;
}

/* Ranks of the context group that share a node. */
static int context_in_node(const paper_plan *p, const paper_machine *machine)
{
    int per = machine->figures.ranks_per_node, ranks = p->size[AXIS_CONTEXT];
    int here = per ? per / p->stride[AXIS_CONTEXT] : ranks;
    here = here < 1 ? 1 : here < ranks ? here : ranks;
    return ranks % here == 0 ? here : 1;
}

/* ---- memory ---- */

/* Ids, targets and masks of a step. */
static size_t tokens_of(const paper_plan *p, int64_t local_tokens)
{
    return (size_t)(p->steps * p->micro * local_tokens) * (2 * sizeof(int32_t) + sizeof(float));
}

/* A place on the tensor and context axes: the data ranks there differ in the optimizer's share alone. */
static int look_at_place(paper_plan *p, const config *c, const gpt_settings *s, const paper_attention *a,
                         const int at[AXES])
{
    gpt_paper_rank rank = {at[AXIS_TENSOR], p->size[AXIS_TENSOR], a->local_tokens[at[AXIS_CONTEXT]],
                           a->workspace[at[AXIS_CONTEXT]], (ringx_device)c->device};
    gpt_memory model;
    int code = gpt_paper_memory(&s->model, s->dtype, &s->run, &rank, &model);
    if (!code && model.elements > p->most_parameters)
        p->most_parameters = model.elements;
    for (int d = 0; d < p->size[AXIS_DATA] && !code; d++) {
        zero_paper share = {.elements = model.elements,
                            .tensors = model.parameters,
                            .dtype = s->dtype,
                            .stage = (int)c->zero_stage,
                            .ranks = (size_t)p->size[AXIS_CONTEXT] * (size_t)p->size[AXIS_DATA],
                            .rank = (size_t)(at[AXIS_CONTEXT] + p->size[AXIS_CONTEXT] * d)};
        zero_memory optimizer = zero_memory_of(&share);
        size_t tokens = tokens_of(p, rank.local_tokens), device = model.device + optimizer.device + tokens;
        if (device > p->device) {
            p->device = device, p->tokens = tokens, p->model = model, p->optimizer = optimizer;
            p->fullest = at[AXIS_TENSOR] * p->stride[AXIS_TENSOR] + at[AXIS_CONTEXT] * p->stride[AXIS_CONTEXT] +
                         d * p->stride[AXIS_DATA];
        }
    }
    return code;
}

static int look_at_ranks(paper_plan *p, const config *c, const gpt_settings *s, const paper_attention *a)
{
    int at[AXES] = {0}, code = CODE_GOOD;
    for (at[AXIS_TENSOR] = 0; at[AXIS_TENSOR] < p->size[AXIS_TENSOR] && !code; at[AXIS_TENSOR]++)
        for (at[AXIS_CONTEXT] = 0; at[AXIS_CONTEXT] < p->size[AXIS_CONTEXT] && !code; at[AXIS_CONTEXT]++)
            code = look_at_place(p, c, s, a, at);
    gpt_memory whole = {.device = 0};
    gpt_paper_rank alone = {.tensor_ranks = 1};
    if (!code)
        code = gpt_paper_memory(&s->model, s->dtype, &s->run, &alone, &whole);
    p->parameters = whole.elements;
    return code;
}

static int plan_settings(paper_plan *p, const config *c, const gpt_settings *s, const paper_machine *machine)
{
    paper_attention a;
    int code = paper_attention_create(&a, s, p->size, context_in_node(p, machine), machine);
    if (code)
        return code;
    memcpy(p->attention, a.text, sizeof p->attention);
    code = look_at_ranks(p, c, s, &a);
    if (!code)
        code = paper_time(p, c, s, &a, machine);
    paper_attention_destroy(&a);
    p->known = machine->memory > 0;
    p->fits = !p->known || p->device <= machine->memory;
    return code;
}

int paper_plan_make(paper_plan *p, const config *c, int64_t vocabulary, int ranks, const paper_machine *machine)
{
    config own = *c; /* the batch keys that are left out follow from the ranks; nothing that is pointed to changes */
    gpt_settings s;
    *p = (paper_plan){.ranks = ranks};
    int code = lay_out_ranks(p, &own);
    if (!code)
        code = gpt_settings_create(&s, &own, vocabulary);
    if (code)
        return code;
    code = plan_settings(p, &own, &s, machine);
    gpt_settings_destroy(&s);
    return code;
}
