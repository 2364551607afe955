/* SPDX-License-Identifier: MIT */
/* The attention of a planned run: studies of the library stand for its plans. */
#include "gpt/plan_paper.h"

#include <stdlib.h>

/* Tokens and workspace of each rank, where this choice needs more than those before. */
static int look_at_ranks(gpt_paper_attention *a, const ringx_study *study, ringx_plan_info *infos)
{
    int failed = a->ranks;
#pragma omp parallel for schedule(dynamic, 4) reduction(min : failed)
    for (int r = 0; r < a->ranks; r++)
        if (ringx_study_describe(study, r, &infos[r]) != RINGX_OK)
            failed = r < failed ? r : failed;
    if (failed < a->ranks) /* once more here: the message is another thread's */
        return fail_status(ringx_study_describe(study, failed, infos), "attention of context rank %d", failed);
    for (int r = 0; r < a->ranks; r++) {
        a->local_tokens[r] = infos[r].local_tokens;
        a->workspace[r] = infos[r].workspace_bytes > a->workspace[r] ? infos[r].workspace_bytes : a->workspace[r];
    }
    return CODE_GOOD;
}

static void add(gpt_paper_attention *a, int direction, const ringx_forecast *f, double layers)
{
    a->seconds[direction] += layers * f->seconds;
    a->exposed[direction] += layers * f->exposed_s;
    a->wire[direction] += layers * (double)f->wire_bytes;
}

static double layers_with(const gpt_settings *s, size_t which)
{
    double layers = 0;
    for (int64_t i = 0; i < s->model.layers; i++)
        layers += s->attention_of[i] == which;
    return layers;
}

typedef struct choice { /* one attention, being studied */
    const gpt_settings *s;
    size_t which;
    ringx_study *study;
    ringx_plan_info *infos; /* [ranks] */
} choice;

static int study_choice(gpt_paper_attention *a, choice *c, const paper_machine *machine)
{
    ringx_forecast forward, backward;
    int code = look_at_ranks(a, c->study, c->infos);
    if (!code)
        code = fail_status(ringx_study_forecast(c->study, machine->name, &forward, &backward), "forecast of attention");
    if (code)
        return code;
    double layers = layers_with(c->s, c->which);
    add(a, 0, &forward, layers);
    add(a, 1, &backward, layers);
    if (c->which == 0)
        paper_describe_attention(a->text, &c->infos[0]);
    return CODE_GOOD;
}

static int study_all(gpt_paper_attention *a, const gpt_settings *s, const int size[AXES], int ranks_per_node,
                     const paper_machine *machine)
{
    int code = CODE_GOOD;
    const char *layout = NULL;
    ringx_problem problem = gpt_run_problem(&s->model, s->dtype, &s->run, size[AXIS_TENSOR]);
    choice c = {.s = s, .infos = allocate((size_t)a->ranks * sizeof *c.infos)};
    if (!c.infos)
        return CODE_NO_MEMORY;
    for (c.which = 0; c.which < s->run.attentions && !code; c.which++) {
        ringx_options options = gpt_run_options(&s->run, c.which, layout, machine->device);
        options.ranks_per_node = ranks_per_node, options.machine = machine->name;
        code = fail_status(ringx_study_create(&c.study, &problem, &options, a->ranks), "attention");
        if (!code)
            code = study_choice(a, &c, machine);
        if (!code && c.which == 0)
            layout = c.infos[0].layout; /* a name in the library's tables */
        ringx_study_destroy(c.study);
        c.study = NULL;
    }
    free(c.infos);
    return code;
}

int gpt_paper_attention_create(gpt_paper_attention *a, const gpt_settings *s, const int size[AXES], int ranks_per_node,
                               const paper_machine *machine)
{
    size_t n = (size_t)size[AXIS_CONTEXT];
    *a = (gpt_paper_attention){.ranks = size[AXIS_CONTEXT]};
    a->local_tokens = allocate(n * sizeof *a->local_tokens);
    a->workspace = allocate(n * sizeof *a->workspace);
    int code = a->local_tokens && a->workspace ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code)
        code = study_all(a, s, size, ranks_per_node, machine);
    if (code)
        gpt_paper_attention_destroy(a);
    return code;
}

void gpt_paper_attention_destroy(gpt_paper_attention *a)
{
    free(a->local_tokens);
    free(a->workspace);
    *a = (gpt_paper_attention){.ranks = 0};
}
