/* SPDX-License-Identifier: MIT */
/* ringx-gpt plan: what is said about one plan. */
#include "gpt/cmd_plan.h"

#include <math.h>

static double gib(size_t bytes)
{
    return (double)bytes / 0x1p30;
}

static const table_column memory_columns[] = {{"item", "memory"}, {"bytes", NULL}, {"gib", "GiB"}};

static void add_memory(table *t, const char *item, size_t bytes)
{
    table_text(t, item);
    table_whole(t, (int64_t)bytes);
    table_real(t, gib(bytes), 3);
}

table *plan_memory_table(const paper_plan *p)
{
    table *t = table_create(memory_columns, sizeof memory_columns / sizeof *memory_columns);
    if (!t)
        return NULL;
    for (int i = 0; i < GPT_MEMORY_ITEMS; i++)
        add_memory(t, gpt_memory_names[i], p->model.items[i]);
    add_memory(t, "master weights", p->optimizer.master);
    add_memory(t, "moments", p->optimizer.moments);
    add_memory(t, "sums of gradients", p->optimizer.sums);
    add_memory(t, "norms", p->optimizer.norms);
    add_memory(t, "tokens of a step", p->tokens);
    add_memory(t, "all", p->device);
    add_memory(t, "in host memory", p->model.host);
    return t;
}

static const table_column time_columns[] = {
    {"part", "time"}, {"seconds", "seconds"}, {"share", "share"}, {"exposed_s", "exposed s"}, {"wire_mib", "sent MiB"}};

static void add_time(table *t, const char *part, const double figures[4])
{
    table_text(t, part);
    table_real(t, figures[0], 4);
    table_real(t, figures[1], 3);
    table_real(t, figures[2], 4);
    table_real(t, figures[3] / 1048576, 1);
}

/* Sums over ranks are not beside anything else: all of their time is exposed. */
table *plan_time_table(const paper_plan *p)
{
    table *t = table_create(time_columns, sizeof time_columns / sizeof *time_columns);
    double exposed = 0, wire = 0;
    for (int i = 0; t && i < PAPER_PARTS; i++) {
        bool sums = i == PAPER_TENSOR || i == PAPER_GRADIENTS;
        double waits = i == PAPER_FORWARD ? p->exposed[0] : i == PAPER_BACKWARD ? p->exposed[1] : 0;
        waits = sums ? p->seconds[i] : waits;
        exposed += waits;
        wire += p->wire[i];
        add_time(t, paper_part_names[i], (double[]){p->seconds[i], p->seconds[i] / p->step, waits, p->wire[i]});
    }
    if (t)
        add_time(t, "step", (double[]){p->step, 1, exposed, wire});
    return t;
}

void plan_heading(const planning *w, const paper_plan *p, FILE *to)
{
    fprintf(to, "%d ranks on %s: tensor %d × context %d × data %d\n", p->ranks, w->machine.figures.name,
            p->size[AXIS_TENSOR], p->size[AXIS_CONTEXT], p->size[AXIS_DATA]);
    fprintf(to, "%lld samples of %lld tokens a step: %lld micro-steps of %lld on each of %d data ranks\n",
            (long long)p->batch, (long long)w->c->seq_length, (long long)p->steps, (long long)p->micro,
            p->size[AXIS_DATA]);
    fprintf(to, "%zu parameters, at most %zu on a rank; attention: %s\n", p->parameters, p->most_parameters,
            p->attention);
    size_t i;
    json_t *note;
    json_array_foreach(w->notes, i, note) fprintf(to, "note: %s\n", json_string_value(note));
    fprintf(to, "\nof rank %d, which holds most:\n", p->fullest);
}

void plan_verdict(const planning *w, const paper_plan *p, FILE *to)
{
    if (!p->known)
        fprintf(to, "\n%.2f GiB a rank; the machine's memory is not known: --memory GIB says it", gib(p->device));
    else
        fprintf(to, "\n%s: %.2f of %.2f GiB a rank", p->fits ? "fits" : "does not fit", gib(p->device),
                gib(w->machine.memory));
    fprintf(to, "; %.4g s a step, %.0f tokens/s", p->step, p->tokens_per_s);
    if (!isnan(p->mfu))
        fprintf(to, ", MFU %.1f %% of %.4g TFLOP/s", 100 * p->mfu, p->peak * 1e-12);
    fprintf(to, "\n");
}

json_t *plan_json(const planning *w, const paper_plan *p)
{
    json_t *mfu = isnan(p->mfu) ? json_null() : json_real(p->mfu);
    json_t *memory = p->known ? json_integer((json_int_t)w->machine.memory) : json_null();
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:{s:i, s:i, s:i}, s:I, s:I, s:I, s:s, s:O, s:I, s:I, s:o, s:b, s:f, s:f, s:o}",
        "command", "plan", "version", ringx_version(), "machine", w->machine.figures.name, "ranks", p->ranks, "layout",
        "tensor", p->size[AXIS_TENSOR], "context", p->size[AXIS_CONTEXT], "data", p->size[AXIS_DATA], "batch",
        (json_int_t)p->batch, "parameters", (json_int_t)p->parameters, "rank_parameters",
        (json_int_t)p->most_parameters, "attention", p->attention, "notes", w->notes, "device_bytes",
        (json_int_t)p->device, "host_bytes", (json_int_t)p->model.host, "device_memory_bytes", memory, "fits", p->fits,
        "step_s", p->step, "tokens_per_s", p->tokens_per_s, "mfu", mfu);
}
