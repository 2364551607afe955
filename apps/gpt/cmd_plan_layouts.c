/* SPDX-License-Identifier: MIT */
/* ringx-gpt plan: the same training on every layout of the same ranks. */
#include "gpt/cmd_plan.h"

#include <stdlib.h>

static const table_column columns[] = {{"tensor", "tensor"},  {"context", "context"},
                                       {"data", "data"},      {"samples", "samples"},
                                       {"gib", "GiB a rank"}, {"fits", "fits"},
                                       {"step_s", "step s"},  {"tokens_per_s", "tokens/s"},
                                       {"sums_s", "sums s"},  {"exposed_s", "attention exposed s"},
                                       {"mfu", "MFU %"},      {"remark", "remark"}};

table *plan_layouts_table(void)
{
    return table_create(columns, sizeof columns / sizeof *columns);
}

typedef struct layouts {
    gpt_paper *items;
    size_t count, room;
} layouts;

/* What training would refuse is left out. */
static int try_layout(const planning *w, int64_t tensor, int64_t context, layouts *l)
{
    config c = *w->c;
    c.model_parallel_size = tensor, c.context_parallel_size = context;
    if (c.num_kv_heads % tensor || c.intermediate_size % tensor)
        return CODE_GOOD;
    if (l->count == l->room) {
        size_t room = 2 * l->room + 16;
        gpt_paper *more = realloc(l->items, room * sizeof *more);
        if (!more)
            return fail(CODE_NO_MEMORY, "out of memory for %zu layouts", room);
        l->items = more, l->room = room;
    }
    l->count += gpt_paper_make(&l->items[l->count], &c, w->vocabulary, w->ranks, &w->machine) == CODE_GOOD;
    progress_step(l->count, NULL);
    return CODE_GOOD;
}

/* Of those that fit, else of all, the one with most tokens a second; the first of equals. */
static size_t best_of(const layouts *l)
{
    size_t best = 0;
    for (size_t i = 1; i < l->count; i++) {
        const gpt_paper *p = &l->items[i], *q = &l->items[best];
        if ((p->plan.fits && !q->plan.fits) || (p->plan.fits == q->plan.fits && p->tokens_per_s > q->tokens_per_s))
            best = i;
    }
    return best;
}

static void add(table *t, const gpt_paper *p, const char *remark)
{
    for (int i = 0; i < AXES; i++)
        table_whole(t, p->plan.size[i]);
    table_whole(t, p->batch);
    table_real(t, (double)paper_needs(&p->plan) / 0x1p30, 3);
    table_bool(t, p->plan.fits);
    table_real(t, p->plan.step, 4);
    table_real(t, p->tokens_per_s, 0);
    table_real(t, p->plan.seconds[PAPER_TENSOR] + p->plan.seconds[PAPER_GRADIENTS], 4);
    table_real(t, p->plan.exposed[0] + p->plan.exposed[1], 4);
    table_real(t, 100 * p->plan.mfu, 1);
    table_text(t, remark);
}

int plan_layouts(const planning *w, table *t)
{
    layouts l = {.items = NULL};
    int code = CODE_GOOD;
    progress_begin("layouts", (size_t)w->ranks);
    for (int64_t tensor = 1; tensor <= w->ranks && !code; tensor++)
        for (int64_t context = 1; w->ranks % tensor == 0 && context <= w->ranks / tensor && !code; context++)
            if (w->ranks / tensor % context == 0)
                code = try_layout(w, tensor, context, &l);
    progress_end();
    for (size_t i = 0, best = best_of(&l); i < l.count && !code; i++)
        add(t, &l.items[i], i == best ? "best" : NULL);
    free(l.items);
    return code;
}
