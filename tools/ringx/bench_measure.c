/* SPDX-License-Identifier: MIT */
/* Timing of one plan by a crew, and a check of all it computed. */
#include "bench_measure.h"

#include "placed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct timed { /* one rank's part */
    crew *crew;
    const settings *settings;
    ringx_problem problem;
    ringx_plan *plan;
    bool backward;
    ringx_device device;
    int64_t tokens, *positions;
    int threads; /* this rank's share of the cores */
    field fields[TENSORS];
    guarded workspace;
    placed placed;
    double *seconds[PASSES], *exposed[PASSES]; /* [iterations], of the slowest rank */
    int64_t observed;                          /* of exposed */
    bool observing;                            /* seconds are not taken any more */
};

/* Passes of a GPU with events around each step, which cost time of their own: for what is exposed, and timelines. */
enum { OBSERVED = 3 };

/* ---- peak memory of this process ---- */

static void reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file) {
        fputs("5", file);
        fclose(file);
    }
}

static double peak_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[128];
    double kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtod(line + 6, NULL);
    if (file)
        fclose(file);
    return 1024 * kib;
}

/* ---- tensors ---- */

typedef void (*row_visit)(timed *t, tensor_id id, void *row, uint64_t first, size_t count, int64_t number,
                          void *context);

/* Rows of a packed local tensor, in any order; first: the row's first element in the global tensor; number: of the row
 * here.  lse: one element a row. */
static void each_row(timed *t, tensor_id id, row_visit visit, void *context)
{
    int64_t s[4];
    tensor_sizes(&t->problem, id, t->problem.tokens, s);
    bool lse = id == T_LSE;
    int64_t outer = lse ? s[0] * s[2] : s[0], width = lse ? 1 : s[2] * s[3];
    size_t bytes = t->fields[id].element_bytes;
    char *data = t->fields[id].tensor.data;
    int threads = t->threads;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < t->tokens; i++) {
            uint64_t row = (uint64_t)(o * t->problem.tokens + t->positions[i]);
            visit(t, id, data + (size_t)((o * t->tokens + i) * width) * bytes, row * (uint64_t)width, (size_t)width,
                  o * t->tokens + i, context);
        }
}

static void fill_row(timed *t, tensor_id id, void *row, uint64_t first, size_t count, int64_t number, void *context)
{
    (void)number;
    (void)context;
    random_fill(t->problem.dtype, random_word(t->settings->seed, (uint64_t)id), first, 1, row, count);
}

typedef struct sums {
    double projection, square;
} sums;

static void sum_row(timed *t, tensor_id id, void *row, uint64_t first, size_t count, int64_t number, void *context)
{
    sums *total = (sums *)context + number, mine = {0, 0};
    uint64_t key = random_word(t->settings->seed, 100 + (uint64_t)id);
    for (size_t i = 0; i < count; i++) {
        bool single = id == T_LSE || t->problem.dtype == RINGX_F32;
        double x = single ? (double)((float *)row)[i] : (double)half_to_float(t->problem.dtype, ((uint16_t *)row)[i]);
        if (isinf(x) && x < 0 && id == T_LSE)
            x = 0; /* a row without keys */
        mine.projection += (random_word(key, first + i) & 1) ? x : -x;
        mine.square += x * x;
    }
    *total = mine;
}

static int create(timed *t)
{
    t->tokens = ringx_plan_local_tokens(t->plan);
    t->positions = allocate((size_t)t->tokens * sizeof(int64_t));
    if (!t->positions)
        return CODE_NO_MEMORY;
    ringx_plan_positions(t->plan, t->positions);
    for (tensor_id id = 0; id < TENSORS; id++) {
        int64_t sizes[4];
        if (!t->backward && (id == T_DOUT || id == T_DQ || id == T_DK || id == T_DV))
            continue;
        tensor_sizes(&t->problem, id, t->tokens, sizes);
        int code = field_create(&t->fields[id], sizes, id == T_LSE ? RINGX_F32 : t->problem.dtype, FIELD_PACKED, 0);
        if (code)
            return code;
        if (id <= T_DOUT)
            each_row(t, id, fill_row, NULL);
    }
    for (int p = 0; p < PASSES; p++) {
        t->seconds[p] = allocate((size_t)t->settings->iterations * sizeof(double));
        t->exposed[p] = allocate((size_t)(t->settings->iterations + OBSERVED) * sizeof(double));
        if (!t->seconds[p] || !t->exposed[p])
            return CODE_NO_MEMORY;
    }
    int code = guarded_create(&t->workspace, ringx_plan_workspace(t->plan));
    if (!code)
        code = placed_create(&t->placed, t->device, t->fields, &t->workspace);
    return code ? code : placed_upload(&t->placed);
}

void timed_destroy(timed *t)
{
    if (!t)
        return;
    ringx_plan_destroy(t->plan);
    t->crew->ops->barrier(t->crew); /* no rank has another's workspace open when that is freed */
    for (int id = 0; id < TENSORS; id++)
        field_destroy(&t->fields[id]);
    for (int p = 0; p < PASSES; p++) {
        free(t->seconds[p]);
        free(t->exposed[p]);
    }
    placed_destroy(&t->placed);
    guarded_destroy(&t->workspace);
    free(t->positions);
    free(t);
}

/* ---- timing ---- */

/* All begin at once.  Ranks leave a barrier between processes some hundred microseconds apart; on one host they have
 * one clock. */
static void begin_together(crew *c)
{
    c->ops->barrier(c);
    if (c->in_process || c->ranks_here != c->ranks)
        return;
    double start = seconds_now() + 5e-4;
    for (crew_max(c, &start, 1); seconds_now() < start;)
        ;
}

/* iteration < 0: only to warm up. */
static int run_pass(timed *t, int pass, int64_t iteration)
{
    ringx_timing timing[PASSES] = {{0}};
    begin_together(t->crew);
    double begin = seconds_now();
    ringx_status status = pass ? ringx_backward(t->plan, &t->placed.args) : ringx_forward(t->plan, &t->placed.args);
    if (status == RINGX_OK)
        status = ringx_plan_wait(t->plan);
    double took[2] = {seconds_now() - begin, 0};
    int code = crew_agree(t->crew, fail_status(status, pass ? "backward" : "forward"));
    if (code)
        return code;
    ringx_plan_timing(t->plan, &timing[PASS_FORWARD], &timing[PASS_BACKWARD]);
    took[1] = timing[pass].exposed_s;
    crew_max(t->crew, took, 2);
    if (iteration >= 0 && !t->observing)
        t->seconds[pass][iteration] = took[0];
    if (iteration >= 0)
        t->exposed[pass][iteration] = took[1];
    return CODE_GOOD;
}

static int run_both(timed *t, int64_t iteration)
{
    int code = run_pass(t, PASS_FORWARD, iteration);
    return !code && t->backward ? run_pass(t, PASS_BACKWARD, iteration) : code;
}

/* A GPU's clock falls while it works: it must have come to rest. */
static int settle_clock(timed *t)
{
    const double least_s = 0.5, begin = seconds_now();
    double elapsed = 0;
    int code = CODE_GOOD;
    while (t->device != RINGX_CPU && elapsed < least_s && !code) {
        code = run_both(t, -1);
        elapsed = seconds_now() - begin;
        crew_max(t->crew, &elapsed, 1);
    }
    return code;
}

static int run_all(timed *t)
{
    int code = settle_clock(t);
    for (int64_t i = -t->settings->warmup; i < t->settings->iterations && !code; i++) {
        code = run_both(t, i);
        if (t->crew->rank == 0)
            progress_step((size_t)(i + t->settings->warmup + 1), NULL);
    }
    t->observed = t->settings->iterations;
    return code;
}

static int make_plan(timed *t, const ringx_options *o)
{
    return crew_agree(t->crew, fail_status(ringx_plan_create(&t->plan, &t->problem, o, t->crew->comm), "plan"));
}

static int attach(timed *t)
{
    crew *c = t->crew;
    if (!c->attach)
        return CODE_GOOD;
    return crew_agree(c, fail_status(ringx_plan_attach(t->plan, t->placed.args.workspace), "workspace"));
}

/* Once more with a timeline; the times that were taken stay. */
static int observe(timed *t, const ringx_options *o)
{
    ringx_plan_destroy(t->plan);
    t->crew->ops->barrier(t->crew);
    int code = make_plan(t, o);
    if (!code)
        code = attach(t);
    t->observing = true;
    t->observed = OBSERVED;
    for (int64_t i = -1; i < OBSERVED && !code; i++)
        code = run_both(t, i);
    return code;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sort_for_median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, by_size);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void report_exposed(timed *t, measurement *m)
{
    for (int p = 0; p <= t->backward; p++)
        m->pass[p].exposed_s = sort_for_median(t->exposed[p], t->observed);
}

static void report(timed *t, measurement *m)
{
    ringx_plan_info info;
    ringx_plan_describe(t->plan, &info);
    snprintf(m->algorithm, sizeof m->algorithm, "%s", info.algorithm);
    snprintf(m->layout, sizeof m->layout, "%s", info.layout);
    snprintf(m->kernel, sizeof m->kernel, "%s", info.kernel);
    snprintf(m->transport, sizeof m->transport, "%s", info.transport);
    m->ranks = info.ranks;
    m->threads = info.threads;
    m->lookahead = info.lookahead;
    m->slices = info.slices;
    for (int p = 0; p <= t->backward; p++) {
        const ringx_traffic *traffic = p ? &info.backward : &info.forward;
        double largest[2] = {(double)traffic->wire_bytes, (double)traffic->messages}, flops = traffic->flops;
        int64_t n = t->settings->iterations;
        crew_max(t->crew, largest, 2);
        crew_sum(t->crew, &flops, 1);
        m->pass[p] = (pass_figures){.median_s = sort_for_median(t->seconds[p], n),
                                    .least_s = t->seconds[p][0],
                                    .most_s = t->seconds[p][n - 1],
                                    .flops = flops,
                                    .wire_bytes = largest[0],
                                    .messages = largest[1]};
    }
    report_exposed(t, m);
    double bytes[2] = {(double)info.workspace_bytes, peak_bytes()};
    crew_max(t->crew, bytes, 2);
    m->workspace_bytes = bytes[0];
    m->peak_bytes = bytes[1];
}

static int64_t row_count(const timed *t, tensor_id id)
{
    return t->tokens * t->problem.batch * (id == T_LSE ? t->problem.q_heads : 1);
}

/* The same sums whatever the number of threads. */
static int summarise(timed *t, measurement *m)
{
    sums *of_rows = allocate((size_t)row_count(t, T_LSE) * sizeof *of_rows);
    int code = crew_agree(t->crew, of_rows ? CODE_GOOD : CODE_NO_MEMORY);
    for (tensor_id id = T_OUT; id < TENSORS && !code; id++) {
        double both[2] = {0, 0};
        int64_t rows = t->fields[id].memory ? row_count(t, id) : 0;
        if (rows)
            each_row(t, id, sum_row, of_rows);
        for (int64_t i = 0; i < rows; i++) {
            both[0] += of_rows[i].projection;
            both[1] += of_rows[i].square;
        }
        crew_sum(t->crew, both, 2);
        m->projection[id] = both[0];
        m->norm[id] = sqrt(both[1]);
    }
    free(of_rows);
    return code;
}

int timed_create(timed **result, crew *c, const settings *s, const ringx_options *o)
{
    timed *t = *result = allocate(sizeof *t);
    int code = crew_agree(c, t ? CODE_GOOD : CODE_NO_MEMORY);
    if (code) {
        free(t);
        *result = NULL;
        return code;
    }
    *t = (timed){.crew = c,
                 .settings = s,
                 .problem = settings_problem(s),
                 .backward = !s->forward_only,
                 .device = o->device,
                 .threads = o->threads};
    code = make_plan(t, o);
    if (!code)
        code = crew_agree(c, create(t));
    return code ? code : attach(t);
}

int timed_run(timed *t, measurement *m)
{
    *m = (measurement){.ranks = t->crew->ranks};
    int code = run_all(t);
    if (!code)
        report(t, m);
    return code;
}

int timed_results(timed *t, measurement *m)
{
    int code = crew_agree(t->crew, placed_download(&t->placed));
    return code ? code : summarise(t, m);
}

static int draw(const timed *t, const char *timeline)
{
    ringx_status status = ringx_plan_draw(t->plan, timeline);
    int drawn = fail_status(status, "timeline");
    return crew_agree(t->crew, status == RINGX_IO ? CODE_CANNOT_WRITE : drawn);
}

int measure(crew *c, const settings *s, const ringx_options *o, measurement *m, const char *timeline)
{
    timed *t = NULL;
    c->ops->barrier(c);
    if (c->leads_process)
        reset_peak();
    c->ops->barrier(c);
    const bool gpu = o->device != RINGX_CPU; /* a CPU measures what it exposes as it goes */
    ringx_options plain = *o;
    plain.timeline = o->timeline && !gpu;
    int code = timed_create(&t, c, s, &plain);
    if (!code)
        code = timed_run(t, m);
    if (!code && gpu && o->timeline) {
        code = observe(t, o);
        report_exposed(t, m);
    }
    if (!code)
        code = timed_results(t, m);
    if (!code && timeline)
        code = draw(t, timeline);
    timed_destroy(t);
    return code;
}

int measurements_agree(const settings *s, const measurement *a, const measurement *b, const char *what)
{
    double tolerance = s->dtype == RINGX_F32 ? 1e-4 : s->dtype == RINGX_BF16 ? 3e-2 : 4e-3;
    for (tensor_id id = T_OUT; id < TENSORS; id++) {
        double size = fmax(a->norm[id], b->norm[id]), difference = fabs(a->projection[id] - b->projection[id]);
        if (!(difference <= tolerance * size) || !(fabs(a->norm[id] - b->norm[id]) <= tolerance * size))
            return fail(CODE_WRONG, "%s: %s differs from the first run by %.3g of its norm %.3g, allowed %.3g", what,
                        tensor_names[id], difference / size, size, tolerance);
    }
    return CODE_GOOD;
}
