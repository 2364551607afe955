/* SPDX-License-Identifier: MIT */
/* ringx-vit plan: a training run on paper, before any of it is started. */
#include "shared/table.h"
#include "vit/vit_command.h"
#include "vit/vit_config_rows.h"
#include "vit/vit_plan.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

typedef struct plan_settings {
    given_arguments given;
    vit_config_settings config;
    const char *machine;
    int64_t ranks;
    double memory; /* GiB; 0: the machine's */
    double efficiency;
    bool json;
} plan_settings;

static double gib(size_t bytes)
{
    return (double)bytes / 0x1p30;
}

/* ---- what is planned ---- */

/* Without kernels for GPUs at hand, those of the CPU stand for them. */
static ringx_device device_of(const vit_config *c)
{
    const ringx_kernel_entry *kernel;
    for (size_t i = 0; c->device == RINGX_CUDA && (kernel = ringx_kernel_at(i)) != NULL; i++)
        if (kernel->device == RINGX_CUDA && kernel->available)
            return RINGX_CUDA;
    return RINGX_CPU;
}

static int find_machine(const plan_settings *s, const vit_config *c, vit_machine *m)
{
    *m = (vit_machine){.efficiency = s->efficiency, .device = device_of(c)};
    m->name = s->machine ? s->machine : c->device == RINGX_CUDA ? "h200x8" : "local";
    if (strchr(m->name, '/') && access(m->name, F_OK) != 0)
        return fail(CODE_MISSING, "%s: there is no such file", m->name);
    int code = fail_status(ringx_machine_describe(m->name, &m->figures), "machine");
    m->memory = s->memory > 0 ? (size_t)(s->memory * 0x1p30) : m->figures.device_memory;
    return code;
}

/* ---- tables ---- */

static const table_column memory_columns[] = {{"item", "memory"}, {"bytes", NULL}, {"gib", "GiB"}};
static const table_column time_columns[] = {
    {"part", "time"}, {"seconds", "seconds"}, {"share", "share"}, {"exposed_s", "exposed s"}, {"wire_mib", "sent MiB"}};

static void add_memory(table *t, const char *item, size_t bytes)
{
    table_text(t, item);
    table_whole(t, (int64_t)bytes);
    table_real(t, gib(bytes), 3);
}

static table *memory_table(const vit_plan *p)
{
    table *t = table_create(memory_columns, sizeof memory_columns / sizeof *memory_columns);
    if (!t)
        return NULL;
    for (int i = 0; i < VIT_MEMORY_ITEMS; i++)
        add_memory(t, vit_memory_names[i], p->model.items[i]);
    add_memory(t, "master weights", p->optimizer.master);
    add_memory(t, "moments", p->optimizer.moments);
    add_memory(t, "norms", p->optimizer.norms);
    add_memory(t, "all", p->device);
    return t;
}

static void add_time(table *t, const char *part, const double figures[4])
{
    table_text(t, part);
    table_real(t, figures[0], 4);
    table_real(t, figures[1], 3);
    table_real(t, figures[2], 4);
    table_real(t, figures[3] / 1048576, 1);
}

/* Sums over ranks are not beside anything else: all of their time is exposed. */
static table *time_table(const vit_plan *p)
{
    table *t = table_create(time_columns, sizeof time_columns / sizeof *time_columns);
    double exposed = 0, wire = 0;
    for (int i = 0; t && i < VIT_PARTS; i++) {
        bool sums = i == VIT_PART_TENSOR || i == VIT_PART_GRADIENTS,
             attention = i == VIT_PART_FORWARD || i == VIT_PART_BACKWARD;
        double waits = sums ? p->seconds[i] : attention ? p->exposed[i - VIT_PART_FORWARD] : 0;
        exposed += waits;
        wire += p->wire[i];
        add_time(t, vit_part_names[i], (double[]){p->seconds[i], p->seconds[i] / p->step, waits, p->wire[i]});
    }
    if (t)
        add_time(t, "step", (double[]){p->step, 1, exposed, wire});
    return t;
}

/* ---- output ---- */

static int print_text(const vit_config *c, const vit_machine *m, const vit_plan *p, table *const tables[2])
{
    const int *size = p->layout.size;
    printf("%s: %d ranks on %s: tensor %d × context %d × data %d\n", c->name, p->ranks, m->figures.name,
           size[AXIS_TENSOR], size[AXIS_CONTEXT], size[AXIS_DATA]);
    printf("%lld samples of %lld tokens a step, %lld on each of %d data ranks\n", (long long)p->layout.global_batch,
           (long long)vit_tokens(c), (long long)p->layout.local_batch, size[AXIS_DATA]);
    printf("%lld parameters, at most %zu on a rank; attention: %s\n", (long long)p->parameters, p->most_parameters,
           p->attention);
    if (c->device == RINGX_CUDA && m->device == RINGX_CPU)
        printf("note: no GPU is at hand: the attention's workspace is that of the CPU's kernels\n");
    printf("\nof rank %d, which holds most:\n", p->fullest);
    int code = table_print(tables[0], stdout);
    printf("\n");
    if (!code)
        code = table_print(tables[1], stdout);
    if (p->known)
        printf("\n%s: %.2f of %.2f GiB a rank", p->fits ? "fits" : "does not fit", gib(p->device), gib(m->memory));
    else
        printf("\n%.2f GiB a rank; the machine's memory is not known: --memory GIB says it", gib(p->device));
    printf("; %.4g s a step, %.4g samples/s", p->step, p->samples_per_s);
    if (!isnan(p->mfu))
        printf(", MFU %.1f %% of %.4g TFLOP/s", 100 * p->mfu, p->peak * 1e-12);
    printf("\n");
    return code;
}

static int print_json(const vit_config *c, const vit_machine *m, const vit_plan *p, table *const tables[2])
{
    const int *size = p->layout.size;
    json_t *memory = p->known ? json_integer((json_int_t)m->memory) : json_null();
    json_t *mfu = isnan(p->mfu) ? json_null() : json_real(p->mfu);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:{s:i, s:i, s:i}, s:I, s:I, s:I, s:I, s:s, s:I, s:o, s:b, s:f, s:f, s:o, s:o, s:o}",
        "command", "plan", "version", ringx_version(), "configuration", c->name, "machine", m->figures.name, "ranks",
        p->ranks, "layout", "tensor", size[AXIS_TENSOR], "context", size[AXIS_CONTEXT], "data", size[AXIS_DATA],
        "batch", (json_int_t)p->layout.global_batch, "tokens", (json_int_t)vit_tokens(c), "parameters",
        (json_int_t)p->parameters, "rank_parameters", (json_int_t)p->most_parameters, "attention", p->attention,
        "device_bytes", (json_int_t)p->device, "device_memory_bytes", memory, "fits", p->fits, "step_s", p->step,
        "samples_per_s", p->samples_per_s, "mfu", mfu, "memory", table_json(tables[0]), "time", table_json(tables[1]));
    return json ? json_emit(json) : fail(CODE_NO_MEMORY, "out of memory for JSON");
}

static int output(const plan_settings *s, const vit_config *c, const vit_machine *m, const vit_plan *p)
{
    table *tables[] = {memory_table(p), time_table(p)};
    int code = tables[0] && tables[1] ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code)
        code = (s->json ? print_json : print_text)(c, m, p, tables);
    table_destroy(tables[0]);
    table_destroy(tables[1]);
    if (!code && !p->fits)
        code = fail(CODE_WRONG,
                    "a rank needs %.2f GiB and has %.2f; more ranks, --set zero_stage=1, checkpoint_activations=true "
                    "or mlp_chunk_tokens=4096 need less",
                    gib(p->device), gib(m->memory));
    return code;
}

static int run(void *settings)
{
    const plan_settings *s = settings;
    vit_config c;
    vit_machine m;
    vit_plan p;
    int code = vit_config_open(&c, &s->config);
    if (code)
        return code;
    code = find_machine(s, &c, &m);
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
    ((plan_settings *)settings)->efficiency = 1;
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
    {.name = "machine",
     .value = "FILE",
     .text = "a machine description or a built-in one: h200x2, h200x8, frontier, local (default: h200x8 if the "
             "configuration's device is cuda, else local)",
     .kind = OPTION_TEXT,
     .field = F(machine)},
    {.name = "memory",
     .value = "GIB",
     .text = "of each rank's device, in place of the machine's",
     .kind = OPTION_REAL,
     .field = F(memory),
     .low = 1e-6,
     .high = 1e9},
    {.name = "efficiency",
     .value = "X",
     .text = "share of the machine's rate of matrix products that linear layers reach (default 1)",
     .kind = OPTION_REAL,
     .field = F(efficiency),
     .low = 1e-3,
     .high = 2},
    {.name = "json", .text = "print JSON instead of text", .kind = OPTION_FLAG, .field = F(json)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = F(given.help)},
    {0}};
static const option_group plan_groups[] = {{"Configuration", config_rows}, {"Plan", plan_rows}, {0}};

const vit_command vit_plan_command = {
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
