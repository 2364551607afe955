/* SPDX-License-Identifier: MIT */
/* Plans on paper: the layout of ranks, and the memory of the rank that needs most. */
#include "gpt/plan_paper.h"

#include <string.h>

/* The same arithmetic, and the same refusals, as parallel_create and config_batch. */
static int lay_out_ranks(gpt_paper *p, config *c)
{
    int64_t dp;
    int size[AXES], order[AXES];
    int code = config_layout(c, size, order);
    if (!code)
        code = config_batch(c, p->plan.ranks, &dp);
    if (code)
        return code;
    size[AXIS_DATA] = (int)dp;
    paper_lay_out(&p->plan, size, order);
    p->batch = c->train_batch_size, p->micro = c->train_micro_batch_size_per_gpu;
    p->steps = c->gradient_accumulation_steps;
    return CODE_GOOD;
}

/* ---- memory ---- */

/* Ids, targets and masks of a step. */
static size_t tokens_of(const gpt_paper *p, int64_t local_tokens)
{
    return (size_t)(p->steps * p->micro * local_tokens) * (2 * sizeof(int32_t) + sizeof(float));
}

/* A place on the tensor and context axes. */
static int look_at_place(gpt_paper *p, const config *c, const gpt_settings *s, const gpt_paper_attention *a, int tensor,
                         int context)
{
    gpt_paper_rank rank = {tensor, p->plan.size[AXIS_TENSOR], a->local_tokens[context], a->workspace[context],
                           (ringx_device)c->device};
    gpt_memory model;
    int code = gpt_paper_memory(&s->model, s->dtype, &s->run, &rank, &model);
    if (code)
        return code;
    zero_paper share = {
        .elements = model.elements, .tensors = model.parameters, .dtype = s->dtype, .stage = (int)c->zero_stage};
    size_t tokens = tokens_of(p, rank.local_tokens);
    if (paper_add_place(&p->plan, tensor, context, share, model.device + tokens))
        p->tokens = tokens, p->model = model;
    return CODE_GOOD;
}

static int look_at_ranks(gpt_paper *p, const config *c, const gpt_settings *s, const gpt_paper_attention *a)
{
    int code = CODE_GOOD;
    for (int tensor = 0; tensor < p->plan.size[AXIS_TENSOR] && !code; tensor++)
        for (int context = 0; context < p->plan.size[AXIS_CONTEXT] && !code; context++)
            code = look_at_place(p, c, s, a, tensor, context);
    gpt_memory whole = {.device = 0};
    gpt_paper_rank alone = {.tensor_ranks = 1};
    if (!code)
        code = gpt_paper_memory(&s->model, s->dtype, &s->run, &alone, &whole);
    p->parameters = whole.elements;
    return code;
}

static int plan_settings(gpt_paper *p, const config *c, const gpt_settings *s, const paper_machine *machine)
{
    gpt_paper_attention a;
    int code = gpt_paper_attention_create(&a, s, p->plan.size, paper_context_in_node(&p->plan, machine), machine);
    if (code)
        return code;
    memcpy(p->plan.attention, a.text, sizeof p->plan.attention);
    code = look_at_ranks(p, c, s, &a);
    if (!code)
        code = gpt_paper_time(p, c, s, &a, machine);
    gpt_paper_attention_destroy(&a);
    return code;
}

int gpt_paper_make(gpt_paper *p, const config *c, int64_t vocabulary, int ranks, const paper_machine *machine)
{
    config own = *c; /* the batch keys that are left out follow from the ranks; nothing that is pointed to changes */
    gpt_settings s;
    *p = (gpt_paper){.plan = {.ranks = ranks}};
    int code = lay_out_ranks(p, &own);
    if (!code)
        code = gpt_settings_create(&s, &own, vocabulary);
    if (code)
        return code;
    size_t share = (size_t)p->plan.size[AXIS_CONTEXT] * (size_t)p->plan.size[AXIS_DATA];
    s.run.split_gradients = zero_splits((int)own.zero_stage, share);
    code = plan_settings(p, &own, &s, machine);
    gpt_settings_destroy(&s);
    return code;
}
