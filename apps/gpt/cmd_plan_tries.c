/* SPDX-License-Identifier: MIT */
/* ringx-gpt plan: the same training with other attention, and what makes it fit. */
#include "gpt/cmd_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANKS 4096

/* ---- presets ---- */

static const table_column preset_columns[] = {
    {"preset", "preset"},       {"gib", "GiB a rank"},        {"fits", "fits"},           {"step_s", "step s"},
    {"forward_s", "forward s"}, {"backward_s", "backward s"}, {"exposed_s", "exposed s"}, {"wire_mib", "sent MiB"},
    {"mfu", "MFU %"},           {"remark", "remark"}};

table *plan_presets_table(void)
{
    return table_create(preset_columns, sizeof preset_columns / sizeof *preset_columns);
}

typedef struct attempt {
    gpt_paper p;
    int code;
    char why[MESSAGE_BYTES]; /* it is refused */
} attempt;

static void try_preset(const planning *w, const char *preset, char **names, attempt *a)
{
    config c = *w->c;
    char name[64];
    snprintf(name, sizeof name, "%.60s", preset);
    for (int64_t i = 0; i < c.num_layers; i++)
        names[i] = name;
    c.attention = (text_list){names, (size_t)c.num_layers};
    a->code = gpt_paper_make(&a->p, &c, w->vocabulary, w->ranks, &w->machine);
    if (a->code)
        failure_copy(a->why);
}

static void add_preset(table *t, const char *preset, const attempt *a, bool best)
{
    const gpt_paper *p = &a->p;
    table_text(t, preset);
    for (size_t i = 1; a->code && i + 1 < sizeof preset_columns / sizeof *preset_columns; i++)
        table_real(t, NAN, 0);
    if (a->code) {
        table_text(t, a->why);
        return;
    }
    table_real(t, (double)paper_needs(&p->plan) / 0x1p30, 3);
    table_bool(t, p->plan.fits);
    table_real(t, p->plan.step, 4);
    table_real(t, p->plan.seconds[PAPER_FORWARD], 4);
    table_real(t, p->plan.seconds[PAPER_BACKWARD], 4);
    table_real(t, p->plan.exposed[0] + p->plan.exposed[1], 4);
    table_real(t, (p->plan.wire[PAPER_FORWARD] + p->plan.wire[PAPER_BACKWARD]) / 1048576, 1);
    table_real(t, 100 * p->plan.mfu, 1);
    table_text(t, best ? "best" : NULL);
}

/* Of those that fit, else of all, the one with the least time; the first of equals. */
static size_t best_of(const attempt *all, size_t count)
{
    size_t best = count;
    for (size_t i = 0; i < count; i++)
        if (!all[i].code &&
            (best == count || (all[i].p.plan.fits && !all[best].p.plan.fits) ||
             (all[i].p.plan.fits == all[best].p.plan.fits && all[i].p.plan.step < all[best].p.plan.step)))
            best = i;
    return best;
}

int plan_presets(const planning *w, table *t)
{
    const name_list *presets = &w->set->presets;
    attempt *all = allocate(presets->count * sizeof *all);
    char **names = allocate((size_t)w->c->num_layers * sizeof *names);
    int code = all && names ? CODE_GOOD : CODE_NO_MEMORY;
    progress_begin("presets", presets->count);
    for (size_t i = 0; i < presets->count && !code; i++) {
        try_preset(w, presets->items[i], names, &all[i]);
        progress_step(i + 1, presets->items[i]);
    }
    progress_end();
    size_t best = code ? 0 : best_of(all, presets->count);
    for (size_t i = 0; i < presets->count && !code; i++)
        add_preset(t, presets->items[i], &all[i], i == best);
    free(all);
    free(names);
    return code;
}

/* ---- changes ---- */

typedef struct trial {
    config c;
    int ranks;
    int64_t rank_tokens; /* of a micro-step */
    char text[96];       /* what has changed; "" : nothing */
} trial;

static void say(trial *t, const char *key, int64_t value)
{
    snprintf(t->text, sizeof t->text, "%s=%lld", key, (long long)value);
}

static void recompute(trial *t)
{
    if (!t->c.checkpoint_activations)
        snprintf(t->text, sizeof t->text, "checkpoint_activations=true");
    t->c.checkpoint_activations = true;
}

static void cut_chunk(trial *t, const char *key, int64_t *chunk, int64_t most)
{
    if ((*chunk == 0 || *chunk > most) && t->rank_tokens > most)
        say(t, key, *chunk = most);
}

static void mlp_4096(trial *t)
{
    cut_chunk(t, "mlp_chunk_tokens", &t->c.mlp_chunk_tokens, 4096);
}

static void loss_1024(trial *t)
{
    cut_chunk(t, "loss_chunk_tokens", &t->c.loss_chunk_tokens, 1024);
}

static void mlp_1024(trial *t)
{
    cut_chunk(t, "mlp_chunk_tokens", &t->c.mlp_chunk_tokens, 1024);
}

static void loss_256(trial *t)
{
    cut_chunk(t, "loss_chunk_tokens", &t->c.loss_chunk_tokens, 256);
}

static void stage(trial *t, int64_t to)
{
    if (t->ranks > t->c.model_parallel_size && t->c.zero_stage < to)
        say(t, "zero_optimization.stage", t->c.zero_stage = to);
}

static void stage_1(trial *t)
{
    stage(t, 1);
}

static void stage_2(trial *t)
{
    stage(t, 2);
}

static void offload(trial *t)
{
    if (!t->c.checkpoint_in_cpu)
        snprintf(t->text, sizeof t->text, "checkpoint_in_cpu=true");
    t->c.checkpoint_in_cpu = true;
}

/* Data ranks become context ranks. */
static void more_context(trial *t)
{
    int64_t both = t->c.model_parallel_size * t->c.context_parallel_size;
    if (t->ranks / both % 2 == 0)
        say(t, "context_parallel_size", t->c.context_parallel_size *= 2);
}

static void more_ranks(trial *t)
{
    if (2 * t->ranks > MOST_RANKS)
        return;
    t->ranks *= 2;
    t->c.context_parallel_size *= 2;
    snprintf(t->text, sizeof t->text, "%d ranks, context_parallel_size=%lld", t->ranks,
             (long long)t->c.context_parallel_size);
}

static void inner_again(trial *t)
{
    if (t->c.keep_mlp_layers > 0)
        snprintf(t->text, sizeof t->text, "keep_mlp_layers=0");
    t->c.keep_mlp_layers = 0;
}

static void attend_again(trial *t)
{
    if (t->c.checkpoint_activations && t->c.keep_attention)
        snprintf(t->text, sizeof t->text, "keep_attention=false");
    t->c.keep_attention = false;
}

static void (*const changes[])(trial *) = {
    inner_again, recompute,  attend_again, mlp_4096,     loss_1024,    stage_1,      stage_2,      offload,
    mlp_1024,    loss_256,   more_context, more_context, more_context, more_context, more_context, more_context,
    more_ranks,  more_ranks, more_ranks,   more_ranks,   more_ranks,   more_ranks};

static const table_column change_columns[] = {{"change", "with, one after the other"},
                                              {"gib", "GiB a rank"},
                                              {"host_gib", "in host memory"},
                                              {"fits", "fits"},
                                              {"step_s", "step s"},
                                              {"tokens_per_s", "tokens/s"},
                                              {"remark", "remark"}};

table *plan_changes_table(void)
{
    return table_create(change_columns, sizeof change_columns / sizeof *change_columns);
}

static void add_change(table *t, const char *change, const gpt_paper *p, const char *why)
{
    table_text(t, change);
    if (why) {
        for (int i = 0; i < 5; i++)
            table_real(t, NAN, 0);
        table_text(t, why);
        return;
    }
    table_real(t, (double)paper_needs(&p->plan) / 0x1p30, 3);
    table_real(t, (double)p->model.host / 0x1p30, 3);
    table_bool(t, p->plan.fits);
    table_real(t, p->plan.step, 4);
    table_real(t, p->tokens_per_s, 0);
    table_text(t, NULL);
}

int plan_changes(const planning *w, table *t, bool *found)
{
    trial now = {.c = *w->c, .ranks = w->ranks};
    *found = false;
    for (size_t i = 0; i < sizeof changes / sizeof *changes && !*found; i++) {
        trial next = now;
        gpt_paper p;
        next.text[0] = '\0';
        next.rank_tokens = next.c.seq_length / next.c.context_parallel_size;
        if (next.c.train_micro_batch_size_per_gpu)
            next.rank_tokens *= next.c.train_micro_batch_size_per_gpu;
        changes[i](&next);
        if (!next.text[0])
            continue;
        if (gpt_paper_make(&p, &next.c, w->vocabulary, next.ranks, &w->machine)) {
            char why[MESSAGE_BYTES];
            failure_copy(why);
            add_change(t, next.text, &p, why);
            continue;
        }
        now = next;
        add_change(t, next.text, &p, NULL);
        *found = p.plan.fits;
    }
    return CODE_GOOD;
}
