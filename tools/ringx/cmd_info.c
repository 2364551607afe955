/* SPDX-License-Identifier: MIT */
/* ringx info: what there is, and what this machine can do. */
#include "calibrate.h"
#include "launch.h"
#include "shared/options.h"
#include "shared/table.h"

#include <stdio.h>
#include <string.h>

static table *presets_table(void)
{
    static const table_column columns[] = {{"name", "preset"},      {"algorithm", "algorithm"}, {"layout", "layout"},
                                           {"lookahead", "ahead"},  {"two_level", "by node"},   {"mask", "at its best"},
                                           {"text", "what it does"}};
    table *t = table_create(columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; t && ringx_preset_at(i); i++) {
        const ringx_preset_entry *p = ringx_preset_at(i);
        table_text(t, p->name);
        table_text(t, p->algorithm);
        table_text(t, p->layout);
        table_whole(t, p->lookahead);
        table_bool(t, p->two_level);
        table_text(t, p->causal ? "causal" : "full");
        table_text(t, p->text);
    }
    return t;
}

static table *entries_table(const table_column *columns, const ringx_entry *(*at)(size_t))
{
    table *t = table_create(columns, 2);
    for (size_t i = 0; t && at(i); i++) {
        table_text(t, at(i)->name);
        table_text(t, at(i)->text);
    }
    return t;
}

static table *kernels_table(void)
{
    static const table_column columns[] = {
        {"name", "kernel"}, {"device", "device"}, {"available", "available"}, {"text", "what it is"}};
    table *t = table_create(columns, 4);
    for (size_t i = 0; t && ringx_kernel_at(i); i++) {
        const ringx_kernel_entry *k = ringx_kernel_at(i);
        table_text(t, k->name);
        table_text(t, device_names[k->device]);
        table_bool(t, k->available);
        table_text(t, k->text);
    }
    return t;
}

/* "model name" of /proc/cpuinfo; empty where there is none. */
static void processor_name(char *name, size_t bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    name[0] = '\0';
    while (file && !name[0] && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon)
            snprintf(name, bytes, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    }
    if (file)
        fclose(file);
}

static void instruction_sets(char *text, size_t bytes)
{
    text[0] = '\0';
#if defined(__x86_64__) || defined(__i386__)
    const struct {
        const char *name;
        int there;
    } sets[] = {{"avx2", __builtin_cpu_supports("avx2")},
                {"fma", __builtin_cpu_supports("fma")},
                {"avx512f", __builtin_cpu_supports("avx512f")},
                {"avx512bw", __builtin_cpu_supports("avx512bw")}};
    for (size_t i = 0, at = 0; i < sizeof sets / sizeof *sets; i++)
        if (sets[i].there && at < bytes)
            at += (size_t)snprintf(text + at, bytes - at, "%s%s", at ? " " : "", sets[i].name);
#else
    snprintf(text, bytes, "portable");
#endif
}

typedef struct facts {
    table *presets, *algorithms, *layouts, *kernels, *transports;
    char processor[128], sets[128];
    int cores, gpus, ranks;    /* ranks: that a transport between GPUs is named for */
    const char *between;       /* the transport */
    double peak_one, peak_all; /* GFLOP/s */
} facts;

static int gather(facts *f, const settings *s)
{
    static const table_column algorithms[] = {{"name", "algorithm"}, {"text", "what moves"}};
    static const table_column layouts[] = {{"name", "layout"}, {"text", "who holds which tokens"}};
    static const table_column transports[] = {{"name", "transport"}, {"text", "what it is"}};
    *f = (facts){.presets = presets_table(),
                 .algorithms = entries_table(algorithms, ringx_algorithm_at),
                 .layouts = entries_table(layouts, ringx_layout_at),
                 .kernels = kernels_table(),
                 .transports = entries_table(transports, ringx_transport_at),
                 .cores = core_count()};
    ringx_device_count(RINGX_CUDA, &f->gpus);
    f->ranks = s->ranks_set ? (int)s->ranks[0] : f->gpus;
    f->between = gpu_transport(f->ranks, f->gpus);
    processor_name(f->processor, sizeof f->processor);
    instruction_sets(f->sets, sizeof f->sets);
    f->peak_one = 1e-9 * ringx_fma_peak(1);
    f->peak_all = f->cores > 1 ? 1e-9 * ringx_fma_peak(f->cores) : f->peak_one;
    bool all = f->presets && f->algorithms && f->layouts && f->kernels && f->transports;
    return all ? CODE_GOOD : CODE_NO_MEMORY;
}

static int print_json(const facts *f)
{
    json_t *machine =
        json_pack("{s:s, s:s, s:i, s:f, s:f, s:i, s:{s:i, s:s}}", "processor", f->processor, "instruction_sets",
                  f->sets, "cores", f->cores, "fma_peak_gflops_one_core", f->peak_one, "fma_peak_gflops", f->peak_all,
                  "gpus", f->gpus, "gpu_ranks", "ranks", f->ranks, "transport", f->between);
    return json_emit(json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "command", "info", "version",
                               ringx_version(), "machine", machine, "presets", table_json(f->presets), "algorithms",
                               table_json(f->algorithms), "layouts", table_json(f->layouts), "kernels",
                               table_json(f->kernels), "transports", table_json(f->transports)));
}

static int print_text(const facts *f)
{
    table *const all[] = {f->presets, f->algorithms, f->layouts, f->kernels, f->transports};
    printf("ringx %s\n%s, %d core%s, %s\nmultiply-add peak (float32): %.1f GFLOP/s one core, %.1f GFLOP/s all\n",
           ringx_version(), *f->processor ? f->processor : "unknown processor", f->cores, f->cores == 1 ? "" : "s",
           f->sets, f->peak_one, f->peak_all);
    if (f->gpus)
        printf("%d GPU%s; %d rank%s with --device cuda: transport %s\n", f->gpus, f->gpus == 1 ? "" : "s", f->ranks,
               f->ranks == 1 ? "" : "s", f->between);
    else
        puts("no GPU for this process");
    int code = CODE_GOOD;
    for (size_t i = 0; i < sizeof all / sizeof *all && !code; i++) {
        putchar('\n');
        code = table_print(all[i], stdout);
    }
    if (!code)
        puts("\nthe preset auto is the one with the least forecast time");
    return code;
}

static int print_calibration(const settings *s, const calibration *r)
{
    static const table_column columns[] = {
        {"tokens", "tokens"}, {"forward_gflops", "forward GFLOP/s"}, {"backward_gflops", "backward GFLOP/s"}};
    table *t = table_create(columns, 3);
    if (!t)
        return CODE_NO_MEMORY;
    for (int i = 0; i < CALIBRATED_SIZES; i++) {
        table_whole(t, (int64_t)r->tokens[i]);
        table_real(t, r->forward_gflops[i], 1);
        table_real(t, r->backward_gflops[i], 1);
    }
    int code = CODE_GOOD;
    if (s->json) {
        code = json_emit(json_pack(
            "{s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "command", "info", "version",
            ringx_version(), "calibrated", s->calibrate, "ranks", r->ranks, "fma_peak_gflops", r->peak_gflops,
            "step_overhead_us", r->step_overhead_us, "latency_us", r->latency_us, "memory_gbs", r->memory_gbs,
            "exchange_gbs", r->exchange_gbs, "broadcast_gbs", r->broadcast_gbs, "reduce_gbs", r->reduce_gbs,
            "allgather_gbs", r->allgather_gbs, "reduce_scatter_gbs", r->reduce_scatter_gbs, "compute", table_json(t)));
    } else {
        printf("%d ranks of %d thread%s; multiply-add peak of a rank %.1f GFLOP/s\n", r->ranks, r->threads,
               r->threads == 1 ? "" : "s", r->peak_gflops);
        code = table_print(t, stdout);
        printf("a step %.1f us, a message %.1f us, memory %.1f GB/s\nexchange %.2f, broadcast %.2f, reduce %.2f, "
               "all-gather %.2f, reduce-scatter %.2f GB/s\nwritten: %s (use it with --machine %s)\n",
               r->step_overhead_us, r->latency_us, r->memory_gbs, r->exchange_gbs, r->broadcast_gbs, r->reduce_gbs,
               r->allgather_gbs, r->reduce_scatter_gbs, s->calibrate, s->calibrate);
    }
    table_destroy(t);
    return code;
}

/* ---- the command ---- */

static const option info_options[] = {
    {"calibrate", "FILE", "measure this machine, about ten seconds, and write its description for forecasts",
     OPTION_TEXT, FIELD(calibrate), 0, 0, 0, NULL},
    {"ranks", "N", "ranks at work together while measuring (default: one a core); of whose GPUs the transport is named",
     OPTION_INTEGER, FIELD(ranks), FIELD(ranks_set), 1, 1024, NULL},
    {"threads", "N", "of each rank (default 1)", OPTION_INTEGER, FIELD(threads), 0, 1, 4096, NULL},
    {"heads", "N", "query heads of what is measured (default 4)", OPTION_INTEGER, FIELD(q_heads), 0, 1, 1e6, NULL},
    {"head-dim", "N", "of what is measured (default 64)", OPTION_INTEGER, FIELD(head_dim), 0, 1, 256, NULL},
    {"dtype", "NAME", "of what is measured: f32, bf16 or f16 (default f32)", OPTION_CHOICE, FIELD(dtype), 0, 0, 0,
     dtype_names},
    {"comm", "NAME", "threads, mpi or env (default: mpi under mpirun or srun, env under torchrun, else threads)",
     OPTION_CHOICE, FIELD(comm), 0, 0, 0, comm_names},
    {0},
};

static const option_group groups[] = {{"Calibration", info_options}, {"Output", options_common}, {NULL, NULL}};

static void defaults(void *settings_of_command)
{
    settings *s = settings_of_command;
    s->q_heads = 4;
}

static int run(void *settings_of_command)
{
    settings *s = settings_of_command;
    s->ranks[1] = s->ranks[0];
    if (s->calibrate) {
        calibration r = {0};
        int code = calibrate(s, &r);
        return code || !launch_speaks() ? code : print_calibration(s, &r);
    }
    facts f;
    int code = gather(&f, s);
    if (!code && launch_speaks())
        code = s->json ? print_json(&f) : print_text(&f);
    table_destroy(f.presets);
    table_destroy(f.algorithms);
    table_destroy(f.layouts);
    table_destroy(f.kernels);
    table_destroy(f.transports);
    return code;
}

const program_command command_info = {
    .options = {.program = "ringx",
                .name = "info",
                .text = "presets, algorithms, layouts, kernels, transports; this machine; calibration",
                .help = NULL,
                .groups = groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(settings),
};
