/* SPDX-License-Identifier: MIT */
/* ringx-gpt plan: a training run on paper, before any of it is started. */
#include "gpt/cmd_plan.h"
#include "gpt/gpt_command.h"

#include <unistd.h>

#define MOST_SETTINGS    64
#define LLAMA_VOCABULARY 128256

__attribute__((format(printf, 2, 3))) static void note(planning *w, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    json_array_append_new(w->notes, json_string(text));
}

static int read_configuration(const plan_settings *s, config *c)
{
    char *settings[MOST_SETTINGS + 1] = {NULL};
    if (s->configs.count == 0 || s->settings.count > MOST_SETTINGS)
        return fail(CODE_USAGE,
                    s->configs.count ? "at most %d settings"
                                     : "at least one YAML file is needed, as in ringx-gpt plan a.yml b.yml",
                    MOST_SETTINGS);
    for (size_t i = 0; i < s->settings.count; i++)
        settings[i] = s->settings.items[i];
    return config_read(c, s->folder, s->configs.items, s->configs.count, settings);
}

static int find_machine(planning *w)
{
    ringx_device device = (ringx_device)w->c->device;
    int code = paper_machine_find(&w->machine, &w->set->on, device);
    if (w->machine.device != device)
        note(w, PAPER_NO_GPU);
    return code;
}

/* Where the tokenizer is not at hand yet, Llama-3's size stands for it. */
static int find_vocabulary(planning *w)
{
    config *c = w->c;
    int32_t eod;
    bool there = c->vocab_size || c->tokenizer_type == 1 || (c->vocab_file && access(c->vocab_file, R_OK) == 0);
    if (!there) {
        note(w, "there is no tokenizer at vocab_file: %d words are assumed; --set vocab_size=N says another number",
             LLAMA_VOCABULARY);
        c->vocab_size = LLAMA_VOCABULARY;
        c->eod_mask_loss = false;
    }
    return gpt_find_vocabulary(c, &w->vocabulary, &eod);
}

static bool set_by_hand(const config *c, const char *key)
{
    const config_source *from = &c->from[config_find(key)];
    return from->given && !from->file;
}

static int64_t largest_divisor(int64_t of, int64_t most)
{
    int64_t n = most < of ? most : of;
    while (of % n)
        n--;
    return n;
}

/* A configuration for other numbers of ranks is planned with what is nearest to it, and that is said. */
static void fit_ranks(planning *w)
{
    config *c = w->c;
    int64_t tp = c->model_parallel_size, cp = c->context_parallel_size, n = w->set->ranks ? w->set->ranks : tp * cp;
    w->ranks = (int)n;
    if (n % (tp * cp) == 0 || set_by_hand(c, "model_parallel_size") || set_by_hand(c, "context_parallel_size"))
        return;
    while (n % c->model_parallel_size || tp % c->model_parallel_size)
        c->model_parallel_size--;
    c->context_parallel_size = largest_divisor(n / c->model_parallel_size, cp);
    note(w,
         "%lld ranks are no multiple of model_parallel_size %lld × context_parallel_size %lld; planned with "
         "model_parallel_size=%lld context_parallel_size=%lld",
         (long long)n, (long long)tp, (long long)cp, (long long)c->model_parallel_size,
         (long long)c->context_parallel_size);
}

/* ---- output ---- */

typedef struct report {
    table *memory, *time, *presets, *layouts, *changes; /* the last three: NULL if not asked for */
    bool helped;                                        /* changes make it fit */
} report;

static void report_free(report *r)
{
    table *const all[] = {r->memory, r->time, r->presets, r->layouts, r->changes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        table_destroy(all[i]);
}

static int fill(const planning *w, const gpt_paper *p, report *r)
{
    int code = CODE_GOOD;
    r->memory = plan_memory_table(p);
    r->time = paper_time_table(&p->plan, "norms, gates, sums, losses");
    if (w->set->presets_set)
        r->presets = plan_presets_table();
    if (w->set->layouts)
        r->layouts = plan_layouts_table();
    if (!p->plan.fits)
        r->changes = plan_changes_table();
    if (!r->memory || !r->time || (w->set->presets_set && !r->presets) || (w->set->layouts && !r->layouts) ||
        (!p->plan.fits && !r->changes))
        return CODE_NO_MEMORY;
    if (r->presets)
        code = plan_presets(w, r->presets);
    if (!code && r->layouts)
        code = plan_layouts(w, r->layouts);
    if (!code && r->changes)
        code = plan_changes(w, r->changes, &r->helped);
    return code;
}

static int print_text(const planning *w, const gpt_paper *p, const report *r)
{
    plan_heading(w, p, stdout);
    int code = table_print(r->memory, stdout);
    printf("\n");
    if (!code)
        code = table_print(r->time, stdout);
    if (!code)
        plan_verdict(w, p, stdout);
    const table *const further[] = {r->presets, r->layouts, r->changes};
    for (size_t i = 0; i < sizeof further / sizeof *further && !code; i++)
        if (further[i]) {
            printf("\n");
            code = table_print(further[i], stdout);
        }
    return code;
}

static int print_json(const planning *w, const gpt_paper *p, const report *r)
{
    json_t *json = plan_json(w, p);
    json_object_set_new(json, "memory", table_json(r->memory));
    json_object_set_new(json, "time", table_json(r->time));
    if (r->presets)
        json_object_set_new(json, "presets", table_json(r->presets));
    if (r->layouts)
        json_object_set_new(json, "layouts", table_json(r->layouts));
    if (r->changes)
        json_object_set_new(json, "changes", table_json(r->changes));
    return json ? json_emit(json) : fail(CODE_NO_MEMORY, "out of memory for JSON");
}

static int output(const planning *w, const gpt_paper *p, const report *r)
{
    int code = CODE_GOOD;
    if (w->set->csv) {
        text_file f;
        code = text_create(&f, w->set->csv);
        if (!code)
            code = text_finish(&f, table_csv(r->presets ? r->presets : r->layouts ? r->layouts : r->memory, f.to));
    }
    if (!code)
        code = w->set->json ? print_json(w, p, r) : print_text(w, p, r);
    if (!code && !p->plan.fits)
        code = fail(CODE_WRONG, "a rank needs %.2f GiB and has %.2f%s", (double)paper_needs(&p->plan) / 0x1p30,
                    (double)w->machine.memory / 0x1p30,
                    r->helped ? "; with all changes above it fits" : "; no change that was tried makes it fit");
    return code;
}

/* ---- the command ---- */

static int plan_configuration(planning *w)
{
    gpt_paper p;
    report r = {.memory = NULL};
    int code = find_machine(w);
    if (!code) {
        fit_ranks(w);
        code = find_vocabulary(w);
    }
    if (!code)
        code = gpt_paper_make(&p, w->c, w->vocabulary, w->ranks, &w->machine);
    if (!code)
        code = fill(w, &p, &r);
    if (!code)
        code = output(w, &p, &r);
    report_free(&r);
    return code;
}

static int run(void *settings)
{
    config c;
    planning w = {.set = settings, .c = &c};
    int code = read_configuration(settings, &c);
    if (code)
        return code;
    w.notes = json_array();
    code = w.notes ? plan_configuration(&w) : fail(CODE_NO_MEMORY, "out of memory for a plan");
    json_decref(w.notes);
    config_free(&c);
    return code;
}

static void defaults(void *settings)
{
    ((plan_settings *)settings)->on.efficiency = 1;
}

#define F(member) offsetof(plan_settings, member)

static const option plan_rows[] = {
    {.name = "folder",
     .value = "DIR",
     .text = "where the files are; also -d DIR",
     .kind = OPTION_TEXT,
     .field = F(folder)},
    {.name = "set",
     .value = "KEY=VALUE…",
     .text = "replaces what the files say, as in seq_length=131072 zero_optimization.stage=2",
     .kind = OPTION_FILES,
     .field = F(settings)},
    {.name = "gpus",
     .value = "N",
     .text = "ranks, one on each device (default: the configuration's tensor × context ranks); none is started",
     .kind = OPTION_INTEGER,
     .field = F(ranks),
     .low = 1,
     .high = 4096},
    {.name = "ranks",
     .value = "N",
     .text = "the same",
     .kind = OPTION_INTEGER,
     .field = F(ranks),
     .low = 1,
     .high = 4096},
    {0}};

static const option machine_rows[] = {PAPER_MACHINE_ROWS(plan_settings),
                                      {.name = "preset",
                                       .value = "LIST",
                                       .text = "compares presets of attention, comma separated, or all",
                                       .kind = OPTION_PRESETS,
                                       .field = F(presets),
                                       .set = F(presets_set)},
                                      {.name = "layouts",
                                       .text = "compares all tensor × context × data layouts of the ranks",
                                       .kind = OPTION_FLAG,
                                       .field = F(layouts)},
                                      {0}};

static const option output_rows[] = {
    {.name = "csv",
     .value = "FILE",
     .text = "writes the memory by item, or with --preset or --layouts the comparison, as CSV",
     .kind = OPTION_TEXT,
     .field = F(csv)},
    {.name = "json", .text = "print JSON instead of text", .kind = OPTION_FLAG, .field = F(json)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = F(given.help)},
    {0}};

static const option plan_rest = {.name = "", .value = "FILES", .kind = OPTION_FILES, .field = F(configs)};
static const option_group plan_groups[] = {
    {"Configuration", plan_rows}, {"On what", machine_rows}, {"Output", output_rows}, {0}};

const program_command gpt_plan = {
    .options = {.program = "ringx-gpt",
                .name = "plan",
                .text = "memory and time of a training run, before any of it is started",
                .help =
                    "FILES are those of train. Memory is that of the rank that holds most, by the functions that\n"
                    "allocate it; time and bytes sent are forecasts for the rank with most tokens. MFU counts model\n"
                    "operations: causal attention once, recomputation not at all. Ends with 1 if it does not fit,\n"
                    "after trying what would make it fit.\n",
                .groups = plan_groups,
                .defaults = defaults,
                .run = run,
                .letters = "d folder",
                .rest = &plan_rest},
    .settings_bytes = sizeof(plan_settings),
};
