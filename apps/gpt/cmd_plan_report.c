/* SPDX-License-Identifier: MIT */
/* ringx-gpt plan: what is said about one plan. */
#include "gpt/cmd_plan.h"

#include <math.h>

table *plan_memory_table(const gpt_paper *p)
{
    const zero_memory *optimizer = &p->plan.optimizer;
    table *t = paper_memory_table(gpt_memory_names, p->model.items, GPT_MEMORY_ITEMS);
    if (!t)
        return NULL;
    paper_add_memory(t, "master weights", optimizer->master);
    paper_add_memory(t, "moments", optimizer->moments);
    paper_add_memory(t, "sums of gradients", optimizer->sums);
    paper_add_memory(t, "norms", optimizer->norms);
    paper_add_memory(t, "tokens of a step", p->tokens);
    paper_add_sums(t, &p->plan);
    paper_add_memory(t, "in host memory", p->model.host);
    return t;
}

void plan_heading(const planning *w, const gpt_paper *p, FILE *to)
{
    fprintf(to, "%d ranks on %s: tensor %d × context %d × data %d\n", p->plan.ranks, w->machine.figures.name,
            p->plan.size[AXIS_TENSOR], p->plan.size[AXIS_CONTEXT], p->plan.size[AXIS_DATA]);
    fprintf(to, "%lld samples of %lld tokens a step: %lld micro-steps of %lld on each of %d data ranks\n",
            (long long)p->batch, (long long)w->c->seq_length, (long long)p->steps, (long long)p->micro,
            p->plan.size[AXIS_DATA]);
    fprintf(to, "%zu parameters, at most %zu on a rank; attention: %s\n", p->parameters, p->plan.most_parameters,
            p->plan.attention);
    size_t i;
    json_t *note;
    json_array_foreach(w->notes, i, note) fprintf(to, "note: %s\n", json_string_value(note));
    fprintf(to, "\nof rank %d, which holds most:\n", p->plan.fullest);
}

void plan_verdict(const planning *w, const gpt_paper *p, FILE *to)
{
    char rate[64];
    snprintf(rate, sizeof rate, "%.0f tokens/s", p->tokens_per_s);
    paper_verdict(&p->plan, &w->machine, rate, to);
}

json_t *plan_json(const planning *w, const gpt_paper *p)
{
    json_t *mfu = isnan(p->plan.mfu) ? json_null() : json_real(p->plan.mfu);
    json_t *memory = p->plan.known ? json_integer((json_int_t)w->machine.memory) : json_null();
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:{s:i, s:i, s:i}, s:I, s:I, s:I, s:s, s:O, s:I, s:I, s:I, s:o, s:b, s:f, s:f, s:o}",
        "command", "plan", "version", ringx_version(), "machine", w->machine.figures.name, "ranks", p->plan.ranks,
        "layout", "tensor", p->plan.size[AXIS_TENSOR], "context", p->plan.size[AXIS_CONTEXT], "data",
        p->plan.size[AXIS_DATA], "batch", (json_int_t)p->batch, "parameters", (json_int_t)p->parameters,
        "rank_parameters", (json_int_t)p->plan.most_parameters, "attention", p->plan.attention, "notes", w->notes,
        "device_bytes", (json_int_t)p->plan.device, "runtime_bytes", (json_int_t)p->plan.runtime, "host_bytes",
        (json_int_t)p->model.host, "device_memory_bytes", memory, "fits", p->plan.fits, "step_s", p->plan.step,
        "tokens_per_s", p->tokens_per_s, "mfu", mfu);
}
