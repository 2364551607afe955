/* SPDX-License-Identifier: MIT */
/* ringx bench: verifies, then times, a row for each preset and pass. */
#include "bench_measure.h"
#include "shared/options.h"
#include "shared/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_WORK 6e7 /* tokens² · heads · dims of the problem that is verified */
#define LASTING_S  1.0 /* seconds of both passes of one rank */

typedef struct bench_job {
    const settings *settings;
    table *table;            /* rank 0 */
    measurement first;       /* what later ones must agree with */
    double alone[PASSES];    /* seconds of one rank; of GPUs: of the row that is measured */
    crew *solo;              /* of one rank, which it is timed by */
    timed *whole;            /* kept between presets if each is timed alone */
    double peak;             /* flop/s of one rank */
    double forecast[PASSES]; /* seconds */
} bench_job;

/* ---- verification ---- */

static int64_t scaled(int64_t value, int64_t tokens, int64_t small)
{
    return value < 0 || tokens == 0 ? value : (int64_t)((double)value * (double)small / (double)tokens);
}

/* The same problem with as many tokens as are cheap to verify; an odd number where it is not the real one. */
static ringx_problem check_problem(const settings *s, int64_t *starts)
{
    ringx_problem p = settings_problem(s);
    double rows = (double)p.batch * (double)p.q_heads * (double)(p.head_dim + (p.value_dim ? p.value_dim : p.head_dim));
    int64_t small = rows > 0 ? (int64_t)sqrt(CHECK_WORK / rows) | 1 : 1;
    if (p.tokens <= small)
        return p;
    small = small < 17 ? 17 : small;
    p.window_left = scaled(p.window_left, p.tokens, small);
    p.window_right = scaled(p.window_right, p.tokens, small);
    for (size_t i = 0; p.documents && i <= p.documents; i++)
        starts[i] = scaled(p.document_starts[i], p.tokens, small);
    if (p.documents)
        p.document_starts = starts;
    p.tokens = small;
    return p;
}

typedef struct checked { /* made by rank 0, read by all of its process */
    ringx_problem problem;
    int64_t *starts;
    whole inputs;
    reference reference; /* rank 0 */
} checked;

static int make_inputs(checked *k, const settings *s, bool with_reference)
{
    k->starts = allocate((s->docs.count + 1) * sizeof *k->starts);
    if (!k->starts)
        return CODE_NO_MEMORY;
    k->problem = check_problem(s, k->starts);
    for (tensor_id id = T_Q; id <= T_DOUT; id++) {
        if (id == T_DOUT && s->forward_only)
            continue;
        k->inputs.data[id] = allocate(tensor_bytes(&k->problem, id));
        if (!k->inputs.data[id])
            return CODE_NO_MEMORY;
        random_fill(k->problem.dtype, random_word(s->seed, 50 + (uint64_t)id), 0, 1, k->inputs.data[id],
                    tensor_elements(&k->problem, id));
    }
    return with_reference ? reference_create(&k->reference, &k->problem, &k->inputs) : CODE_GOOD;
}

/* Collective.  *error: the largest relative one. */
static int verify(crew *c, const settings *s, const checked *k, const char *preset, double *error)
{
    whole results = {0};
    verdict found = {.good = true};
    trial t = {.problem = k->problem,
               .options = settings_rank_options(s, preset, c->ranks_here),
               .inputs = &k->inputs,
               .results = &results,
               .style_key = random_word(s->seed, 77) | 1,
               .repeat = s->device == RINGX_CPU}; /* elsewhere only deterministic options repeat every bit */
    t.options.workspace_limit = 0;                /* that of the real size */
    int code = crew_agree(c, c->rank ? CODE_GOOD : whole_results_create(&results, &k->problem, !s->forward_only));
    if (!code)
        code = trial_run(c, &t);
    if (!code && c->rank == 0) {
        roundings how = {t.options.wire, c->ranks, t.options.device == RINGX_CUDA};
        judge(&k->problem, how, &results, &k->reference, &found);
        if (!found.good)
            code = fail(CODE_WRONG, "%s: wrong result for %lld tokens: %s", preset, (long long)k->problem.tokens,
                        found.why);
    }
    whole_destroy(&results);
    *error = 0;
    for (int id = T_OUT; id < TENSORS; id++)
        *error = found.error[id] > *error ? found.error[id] : *error;
    return crew_agree(c, code);
}

/* ---- rows ---- */

static const table_column columns[] = {{"batch", NULL},
                                       {"seq", NULL},
                                       {"heads", NULL},
                                       {"kv_heads", NULL},
                                       {"head_dim", NULL},
                                       {"dtype", NULL},
                                       {"ranks", NULL},
                                       {"threads", NULL},
                                       {"transport", NULL},
                                       {"algorithm", NULL},
                                       {"layout", NULL},
                                       {"preset", "preset"},
                                       {"pass", "pass"},
                                       {"kernel", "kernel"},
                                       {"ms", "ms"},
                                       {"min_ms", "min ms"},
                                       {"spread_percent", "spread %"},
                                       {"gflops_a_rank", "GFLOP/s a rank"},
                                       {"peak_percent", "% of peak"},
                                       {"exposed_ms", "exposed ms"},
                                       {"wire_mib", "wire MiB"},
                                       {"messages", "messages"},
                                       {"workspace_mib", "workspace MiB"},
                                       {"peak_rss_mib", "peak RSS MiB"},
                                       {"error", "error"},
                                       {"alone_ms", "alone ms"},
                                       {"efficiency", "efficiency"},
                                       {"forecast_ms", "forecast ms"}};
#define COLUMNS (sizeof columns / sizeof *columns) /* the last three are shown in text if they were asked for */

/* alone: seconds of one rank; NaN: not measured. */
static void add_row(const bench_job *job, const char *preset, int pass, const measurement *m, double error,
                    double alone, double efficiency)
{
    const settings *s = job->settings;
    const pass_figures *f = &m->pass[pass];
    table *t = job->table;
    const char *const dtypes[] = {"f32", "bf16", "f16"};
    const int64_t sizes[] = {s->batch, s->tokens, s->q_heads, s->kv_heads ? s->kv_heads : s->q_heads, s->head_dim};
    double rate = f->flops / m->ranks / f->median_s;
    for (size_t i = 0; i < 5; i++)
        table_whole(t, sizes[i]);
    table_text(t, dtypes[s->dtype]);
    table_whole(t, m->ranks);
    table_whole(t, m->threads);
    table_text(t, m->transport);
    table_text(t, m->algorithm);
    table_text(t, m->layout);
    table_text(t, preset);
    table_text(t, pass ? "backward" : "forward");
    table_text(t, m->kernel);
    table_real(t, 1e3 * f->median_s, 3);
    table_real(t, 1e3 * f->least_s, 3);
    table_real(t, 100 * (f->most_s - f->least_s) / f->median_s, 1);
    table_real(t, 1e-9 * rate, 2);
    table_real(t, 100 * rate / job->peak, 1);
    table_real(t, 1e3 * f->exposed_s, 3);
    table_real(t, f->wire_bytes / 1048576, 2);
    table_whole(t, (int64_t)f->messages);
    table_real(t, m->workspace_bytes / 1048576, 2);
    table_real(t, m->peak_bytes / 1048576, 1);
    table_real(t, error, -1);
    table_real(t, 1e3 * alone, 3);
    table_real(t, isnan(alone) ? NAN : efficiency, 3);
    table_real(t, s->machine ? 1e3 * job->forecast[pass] : NAN, 3);
}

/* Does each rank have a GPU of its own?  Then each is timed alone, before and after each preset, for clocks fall while
 * GPUs grow warm, and rise while a result is checked; once if that takes long.  Else rank 0 is, once. */
static bool each_alone(const crew *c)
{
    return c->nccl && !c->in_process && c->ranks > 1;
}

/* The whole sequence for one rank with the threads that all ranks of the process have together: of ranks that are
 * processes, this rank's threads alone. */
static int create_whole(const crew *c, bench_job *job)
{
    const settings *s = job->settings;
    settings alone = *s;
    alone.layout = alone.algorithm = NULL;
    alone.head_ranks = alone.ranks_per_node = alone.slices = 0;
    alone.workspace_limit = 0;
    ringx_options o = settings_rank_options(&alone, "ringX3", c->ranks_here);
    if (c->in_process)
        o.threads *= c->ranks;
    int code = crew_threads_create(COMM_SELF, 1, NULL, &job->solo);
    return code ? code : timed_create(&job->whole, job->solo, s, &o);
}

/* Ranks that are threads have one job, of which this is the first one's. */
static void destroy_whole(const crew *c, bench_job *job)
{
    if (c->in_process && c->rank > 0)
        return;
    timed_destroy(job->whole);
    crew_threads_destroy(job->solo);
    job->whole = NULL;
    job->solo = NULL;
}

/* A GPU that has been at work for that long has come to its lasting clock: it need not be timed again. */
static bool is_lasting(const double seconds[PASSES])
{
    return seconds[PASS_FORWARD] + seconds[PASS_BACKWARD] > LASTING_S;
}

/* seconds: of the slowest rank.  If nothing ran before, its results become those that later ones must agree with. */
static int measure_alone(crew *c, bench_job *job, double seconds[PASSES])
{
    measurement m = {.ranks = 0};
    int code = CODE_GOOD;
    if (c->rank == 0 || each_alone(c)) {
        code = job->whole ? CODE_GOOD : create_whole(c, job);
        if (!code)
            code = timed_run(job->whole, &m);
        if (!code && c->rank == 0 && job->first.ranks == 0)
            code = timed_results(job->whole, &m);
    }
    code = crew_agree(c, code);
    for (int pass = 0; pass < PASSES; pass++)
        seconds[pass] = m.pass[pass].median_s;
    if (!code && each_alone(c))
        crew_max(c, seconds, PASSES);
    if (c->rank == 0 && job->first.ranks == 0)
        job->first = m;
    return code;
}

static int forecast(const settings *s, const char *preset, int ranks, int threads, double seconds[PASSES])
{
    ringx_problem p = settings_problem(s);
    ringx_options o = settings_options(s, preset);
    ringx_study *study = NULL;
    ringx_forecast f = {0}, b = {0};
    o.threads = threads;
    ringx_status status = ringx_study_create(&study, &p, &o, ranks);
    if (status == RINGX_OK)
        status = ringx_study_forecast(study, s->machine, &f, s->forward_only ? NULL : &b);
    ringx_study_destroy(study);
    seconds[PASS_FORWARD] = f.seconds;
    seconds[PASS_BACKWARD] = b.seconds;
    return fail_status(status, "%s: forecast", preset);
}

static int bench_one(crew *c, bench_job *job, const checked *k, const char *preset)
{
    const settings *s = job->settings;
    const bool alone = s->baseline && each_alone(c);
    double error = 0, after[PASSES];
    char path[4096];
    measurement m;
    ringx_options o = settings_rank_options(s, preset, c->ranks_here);
    o.timeline = s->timeline != NULL || s->device == RINGX_CUDA; /* whose exposed time comes from it */
    int code = verify(c, s, k, preset, &error);
    if (!code && alone && !is_lasting(job->alone))
        code = measure_alone(c, job, job->alone);
    if (!code)
        code = measure(c, s, &o, &m, settings_timeline(s, preset, path, sizeof path));
    const bool again = alone && !is_lasting(job->alone);
    if (!code && again)
        code = measure_alone(c, job, after);
    for (int pass = 0; pass < PASSES && !code && again; pass++)
        job->alone[pass] = (job->alone[pass] + after[pass]) / 2;
    if (!code && c->rank == 0) {
        if (job->first.ranks == 0)
            job->first = m;
        code = measurements_agree(s, &job->first, &m, preset);
        if (!code && s->machine)
            code = forecast(s, preset, c->ranks, o.threads, job->forecast);
        for (int pass = 0; pass <= !s->forward_only && !code; pass++) {
            double share = job->alone[pass] / (c->in_process && s->device == RINGX_CPU ? 1 : c->ranks);
            add_row(job, preset, pass, &m, error, s->baseline ? job->alone[pass] : NAN, share / m.pass[pass].median_s);
        }
    }
    return crew_agree(c, code);
}

/* The multiply-add peak of one rank while all work: cores that are shared count in shares. */
static double rank_peak(crew *c, const settings *s)
{
    int threads = settings_rank_options(s, NULL, c->ranks_here).threads;
    double peak = 0;
    if (!c->in_process)
        peak = ringx_fma_peak(threads) / c->ranks;
    else if (c->rank == 0)
        peak = ringx_fma_peak(threads * c->ranks) / c->ranks;
    crew_sum(c, &peak, 1);
    return peak;
}

static int work(crew *c, void *context)
{
    bench_job *job = context;
    const settings *s = job->settings;
    checked mine = {.problem = RINGX_PROBLEM_INIT}, *k = &mine;
    int code = CODE_GOOD;
    if (c->leads_process)
        code = make_inputs(&mine, s, c->rank == 0);
    code = crew_agree(c, code);
    void *shared = &mine;
    if (c->in_process)
        c->ops->share(c, &shared, 0);
    k = shared;
    double peak = code ? 0 : rank_peak(c, s);
    if (c->rank == 0)
        job->peak = peak;
    if (!code && s->baseline && !each_alone(c))
        code = measure_alone(c, job, job->alone);
    if (!each_alone(c))
        destroy_whole(c, job);
    for (size_t i = 0; i < s->presets.count && !code; i++) {
        if (c->rank == 0)
            progress_begin(s->presets.items[i], (size_t)(s->iterations + s->warmup));
        code = bench_one(c, job, k, s->presets.items[i]);
        if (c->rank == 0)
            progress_end();
    }
    destroy_whole(c, job);
    c->ops->barrier(c); /* rank 0's memory is shared until here */
    reference_destroy(&mine.reference);
    whole_destroy(&mine.inputs);
    free(mine.starts);
    return code;
}

/* ---- output ---- */

static void print_heading(const settings *s, const bench_job *job, int ranks)
{
    static const char *const dtypes[] = {"f32", "bf16", "f16"};
    printf("%lld x %lld tokens, %lld:%lld heads, dim %lld, %s%s; %d rank%s; multiply-add peak of a rank %.1f GFLOP/s\n",
           (long long)s->batch, (long long)s->tokens, (long long)s->q_heads,
           (long long)(s->kv_heads ? s->kv_heads : s->q_heads), (long long)s->head_dim, dtypes[s->dtype],
           s->causal.value ? ", causal" : "", ranks, ranks == 1 ? "" : "s", 1e-9 * job->peak);
}

static int output(const settings *s, const bench_job *job, int ranks)
{
    int code = CODE_GOOD;
    if (s->csv) {
        text_file f;
        code = text_create(&f, s->csv);
        if (!code)
            code = text_finish(&f, table_csv(job->table, f.to));
    }
    if (code)
        return code;
    if (s->json)
        return json_emit(json_pack("{s:s, s:s, s:i, s:f, s:o}", "command", "bench", "version", ringx_version(), "ranks",
                                   ranks, "fma_peak_gflops_a_rank", 1e-9 * job->peak, "rows", table_json(job->table)));
    print_heading(s, job, ranks);
    return table_print(job->table, stdout);
}

/* ---- the command ---- */

static const option bench_options[] = {
    {"preset", "LIST", "presets, comma separated, or all (default all)", OPTION_PRESETS, FIELD(presets), 0, 0, 0, NULL},
    {"ranks", "N", "number of ranks (default 1; with mpi: the launcher's)", OPTION_INTEGER, FIELD(ranks),
     FIELD(ranks_set), 1, 1024, NULL},
    {"forward-only", NULL, "no backward pass", OPTION_FLAG, FIELD(forward_only), 0, 0, 0, NULL},
    {"iterations", "N", "timed (default 10)", OPTION_INTEGER, FIELD(iterations), 0, 1, 1e6, NULL},
    {"warmup", "N", "before them (default 2); GPUs work half a second before that", OPTION_INTEGER, FIELD(warmup), 0, 0,
     1e6, NULL},
    {"baseline", NULL, "also time one rank that uses all threads; efficiency is its time over the ranks'", OPTION_FLAG,
     FIELD(baseline), 0, 0, 0, NULL},
    {"csv", "FILE", "write the table as CSV, with more columns", OPTION_TEXT, FIELD(csv), 0, 0, 0, NULL},
    {"timeline", "FILE", "draw the last iteration as it was measured: .svg, or .json for Perfetto", OPTION_TEXT,
     FIELD(timeline), 0, 0, 0, NULL},
    {0},
};

static const option_group groups[] = {{"What is timed", bench_options},
                                      {"The problem", options_sizes},
                                      {"The mask", options_mask},
                                      {"With whom", options_launch},
                                      {"How", options_how},
                                      {"Output", options_common},
                                      {NULL, NULL}};

static void defaults(void *settings_of_command)
{
    settings *s = settings_of_command;
    presets_all(&s->presets);
}

static int run(void *settings_of_command)
{
    settings *s = settings_of_command;
    s->ranks[1] = s->ranks[0];
    bench_job job = {.settings = s};
    table_column shown[COLUMNS];
    memcpy(shown, columns, sizeof columns);
    if (!s->baseline)
        shown[COLUMNS - 3].title = shown[COLUMNS - 2].title = NULL;
    if (!s->machine)
        shown[COLUMNS - 1].title = NULL;
    int ranks = 1, code = settings_check(s, false);
    if (!code)
        code = launch_ranks(s, &ranks);
    if (!code && !(job.table = table_create(shown, COLUMNS)))
        code = CODE_NO_MEMORY;
    if (!code)
        code = launch(s, work, &job);
    progress_end();
    if (!code && launch_speaks())
        code = output(s, &job, ranks);
    table_destroy(job.table);
    return code;
}

static const char help[] =
    "Every preset is first compared with the float64 definition, for a number of tokens that makes this cheap;\n"
    "the results of the timed size must agree between presets.  Times are those of the slowest rank: the\n"
    "median, the least, and (most - least)/median.  GFLOP/s: 4 per live query, key and dimension forward, 10\n"
    "backward.  Exposed: computation waiting for transfers.  Wire and messages: of the rank with most.  Peak\n"
    "RSS is that of the process; with threads, of all ranks.  With --machine a forecast is added.\n"
    "Alone: one rank on the whole sequence; of GPUs the slowest, before and after each preset, or once if\n"
    "that takes more than a second; its tensors are kept.\n";

const program_command command_bench = {
    .options = {.program = "ringx",
                .name = "bench",
                .text = "verify, then time",
                .help = help,
                .groups = groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(settings),
};
