/* SPDX-License-Identifier: MIT */
/* ringx-vit plan: a training run on paper, before any of it is started. */
#include "vit/vit_command.h"
#include "vit/vit_config_rows.h"
#include "vit/vit_plan.h"

#include <math.h>

typedef struct plan_settings {
    given_arguments given;
    vit_config_settings config;
    paper_options on; /* which machine */
    int64_t ranks;    /* 0: as many as the configuration's tensor and context ranks */
    bool json;
} plan_settings;

static table *memory_table(const vit_plan *p)
{
    table *t = paper_memory_table(vit_memory_names, p->model.items, VIT_MEMORY_ITEMS);
    if (!t)
        return NULL;
    paper_add_memory(t, "master weights", p->plan.optimizer.master);
    paper_add_memory(t, "moments", p->plan.optimizer.moments);
    paper_add_memory(t, "norms", p->plan.optimizer.norms);
    paper_add_sums(t, &p->plan);
    return t;
}

static int print_text(const vit_config *c, const paper_machine *m, const vit_plan *p, table *const tables[2])
{
    const int *size = p->layout.size;
    char rate[64];
    printf("%s: %d ranks on %s: tensor %d × context %d × data %d\n", c->name, p->plan.ranks, m->figures.name,
           size[AXIS_TENSOR], size[AXIS_CONTEXT], size[AXIS_DATA]);
    printf("%lld samples of %lld tokens a step, %lld on each of %d data ranks\n", (long long)p->layout.global_batch,
           (long long)vit_tokens(c), (long long)p->layout.local_batch, size[AXIS_DATA]);
    printf("%lld parameters, at most %zu on a rank; attention: %s\n", (long long)p->parameters, p->plan.most_parameters,
           p->plan.attention);
    if (m->device != (ringx_device)c->device)
        printf("note: %s\n", PAPER_NO_GPU);
    printf("\nof rank %d, which holds most:\n", p->plan.fullest);
    int code = table_print(tables[0], stdout);
    printf("\n");
    if (!code)
        code = table_print(tables[1], stdout);
    snprintf(rate, sizeof rate, "%.4g samples/s", p->samples_per_s);
    paper_verdict(&p->plan, m, rate, stdout);
    return code;
}

static int print_json(const vit_config *c, const paper_machine *m, const vit_plan *p, table *const tables[2])
{
    const int *size = p->layout.size;
    json_t *memory = p->plan.known ? json_integer((json_int_t)m->memory) : json_null();
    json_t *mfu = isnan(p->plan.mfu) ? json_null() : json_real(p->plan.mfu);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:{s:i, s:i, s:i}, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:o, s:b, s:f, s:f, s:o, s:o, "
        "s:o}",
        "command", "plan", "version", ringx_version(), "configuration", c->name, "machine", m->figures.name, "ranks",
        p->plan.ranks, "layout", "tensor", size[AXIS_TENSOR], "context", size[AXIS_CONTEXT], "data", size[AXIS_DATA],
        "batch", (json_int_t)p->layout.global_batch, "tokens", (json_int_t)vit_tokens(c), "parameters",
        (json_int_t)p->parameters, "rank_parameters", (json_int_t)p->plan.most_parameters, "attention",
        p->plan.attention, "device_bytes", (json_int_t)p->plan.device, "runtime_bytes", (json_int_t)p->plan.runtime,
        "device_memory_bytes", memory, "fits", p->plan.fits, "step_s", p->plan.step, "samples_per_s", p->samples_per_s,
        "mfu", mfu, "memory", table_json(tables[0]), "time", table_json(tables[1]));
    return json ? json_emit(json) : fail(CODE_NO_MEMORY, "out of memory for JSON");
}

static int output(const plan_settings *s, const vit_config *c, const paper_machine *m, const vit_plan *p)
{
    table *tables[] = {memory_table(p), paper_time_table(&p->plan, "norms, GELU, sums, casts")};
    int code = tables[0] && tables[1] ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code)
        code = (s->json ? print_json : print_text)(c, m, p, tables);
    table_destroy(tables[0]);
    table_destroy(tables[1]);
    if (!code && !p->plan.fits)
        code = fail(CODE_WRONG,
                    "a rank needs %.2f GiB and has %.2f; more ranks, --set zero_stage=1, keep_mlp_layers=0, "
                    "checkpoint_activations=true or mlp_chunk_tokens=4096 need less",
                    (double)paper_needs(&p->plan) / 0x1p30, (double)m->memory / 0x1p30);
    return code;
}

static int run(void *settings)
{
    const plan_settings *s = settings;
    vit_config c;
    paper_machine m;
    vit_plan p;
    int code = vit_config_open(&c, &s->config);
    if (code)
        return code;
    code = paper_machine_find(&m, &s->on, (ringx_device)c.device);
    int64_t ranks = s->ranks ? s->ranks : c.tensor_parallel * c.context_parallel;
    if (!code)
        code = vit_plan_make(&p, &c, (int)ranks, &m);
    if (!code)
        code = output(s, &c, &m, &p);
    vit_config_free(&c);
    return code;
}

static void defaults(void *settings)
{
    ((plan_settings *)settings)->on.efficiency = 1;
}

#define F(member) offsetof(plan_settings, member)

static const option config_rows[] = {VIT_CONFIG_ROWS(plan_settings), {0}};
static const option plan_rows[] = {
    {.name = "ranks",
     .value = "N",
     .text = "one on each device (default: tensor × context ranks); none is started",
     .kind = OPTION_INTEGER,
     .field = F(ranks),
     .low = 1,
     .high = 4096},
    PAPER_MACHINE_ROWS(plan_settings),
    {.name = "json", .text = "print JSON instead of text", .kind = OPTION_FLAG, .field = F(json)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = F(given.help)},
    {0}};
static const option_group plan_groups[] = {{"Configuration", config_rows}, {"Plan", plan_rows}, {0}};

const program_command vit_plan_command = {
    .options = {.program = "ringx-vit",
                .name = "plan",
                .text = "parameters, memory and time of a training run, before any of it is started",
                .help =
                    "Memory is that of the rank that holds most, by the functions that allocate it; time and bytes\n"
                    "sent are forecasts for the rank with most tokens. MFU counts model operations, recomputation\n"
                    "not at all. Ends with 1 if it does not fit.\n",
                .groups = plan_groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(plan_settings),
};
