/* SPDX-License-Identifier: MIT */
/* ringx info --calibrate: all ranks at work together, as in real runs, so that what they share is shared here too. */
#include "calibrate.h"

#include "launch.h"
#include "placed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS        4    /* over all sizes: what disturbs a machine for seconds shall not meet all times of one */
#define LEAST_S       0.05 /* in a round a figure is measured for at least this long … */
#define LEAST_REPEATS 2    /* … and this often */
#define COPY_BYTES    ((size_t)64 << 20)
#define MESSAGE       ((size_t)8 << 20)
#define SMALL_MESSAGE ((size_t)64)

static double clock_seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of a rank that is one thread its processor time counts, which others on a busy machine do not lengthen. */
static double work_seconds(const settings *s, int threads)
{
    return threads == 1 && s->device == RINGX_CPU ? clock_seconds(CLOCK_THREAD_CPUTIME_ID) : seconds_now();
}

/* ---- compute: each rank alone on its own problem, all at the same time ---- */

typedef struct alone {
    ringx_comm *comm;
    ringx_plan *plan;
    placed placed;
    ringx_problem problem;
    field fields[TENSORS];
    guarded workspace;
} alone;

static void alone_destroy(alone *a)
{
    for (int id = 0; id < TENSORS; id++)
        field_destroy(&a->fields[id]);
    placed_destroy(&a->placed);
    guarded_destroy(&a->workspace);
    ringx_plan_destroy(a->plan);
    ringx_comm_destroy(a->comm);
}

static int alone_create(alone *a, const settings *s, int64_t tokens, int threads)
{
    *a = (alone){.comm = NULL};
    a->problem = settings_problem(s);
    a->problem.tokens = tokens;
    ringx_options o = settings_options(s, "ringX3");
    o.threads = threads;
    int code = fail_status(ringx_comm_self(&a->comm), "communicator");
    if (!code)
        code = fail_status(ringx_plan_create(&a->plan, &a->problem, &o, a->comm), "plan of %lld tokens",
                           (long long)tokens);
    for (tensor_id id = 0; id < TENSORS && !code; id++) {
        int64_t sizes[4];
        tensor_sizes(&a->problem, id, tokens, sizes);
        ringx_dtype dtype = id == T_LSE ? RINGX_F32 : a->problem.dtype;
        code = field_create(&a->fields[id], sizes, dtype, FIELD_PACKED, 0);
        if (!code && id <= T_DOUT)
            random_fill(dtype, (uint64_t)id, 0, 1, a->fields[id].tensor.data, tensor_elements(&a->problem, id));
    }
    if (!code)
        code = guarded_create(&a->workspace, ringx_plan_workspace(a->plan));
    if (!code)
        code = placed_create(&a->placed, o.device, a->fields, &a->workspace);
    return code ? code : placed_upload(&a->placed);
}

/* Seconds of one direction: each rank's best of several times; of these the slowest. */
static int time_direction(crew *c, const settings *s, alone *a, int threads, bool backward, double *seconds)
{
    double spent = 0;
    *seconds = INFINITY;
    for (int n = 0; n < LEAST_REPEATS || spent < LEAST_S; n++) {
        c->ops->barrier(c);
        double begin = work_seconds(s, threads);
        ringx_status status =
            backward ? ringx_backward(a->plan, &a->placed.args) : ringx_forward(a->plan, &a->placed.args);
        if (status == RINGX_OK)
            status = ringx_plan_wait(a->plan);
        double took = work_seconds(s, threads) - begin;
        int code = crew_agree(c, fail_status(status, backward ? "backward" : "forward"));
        if (code)
            return code;
        *seconds = fmin(*seconds, took);
        crew_max(c, &took, 1); /* all repeat equally often */
        spent += took;
    }
    crew_max(c, seconds, 1);
    return CODE_GOOD;
}

/* The rates of one size; the better ones of all rounds are kept. */
static int measure_size(crew *c, const settings *s, calibration *r, int which)
{
    alone a;
    double forward = 0, backward = 0;
    r->tokens[which] = (double)((int64_t)32 << which);
    int code = crew_agree(c, alone_create(&a, s, (int64_t)32 << which, r->threads));
    if (!code)
        code = time_direction(c, s, &a, r->threads, false, &forward);
    if (!code)
        code = time_direction(c, s, &a, r->threads, true, &backward);
    ringx_plan_info info;
    if (!code) {
        ringx_plan_describe(a.plan, &info);
        r->forward_gflops[which] = fmax(r->forward_gflops[which], info.forward.flops / forward * 1e-9);
        r->backward_gflops[which] = fmax(r->backward_gflops[which], info.backward.flops / backward * 1e-9);
    }
    alone_destroy(&a);
    return code;
}

static int measure_compute(crew *c, const settings *s, calibration *r)
{
    int code = CODE_GOOD;
    for (int i = 0; i < ROUNDS * CALIBRATED_SIZES && !code; i++) {
        code = measure_size(c, s, r, i % CALIBRATED_SIZES);
        if (!code && c->rank == 0)
            progress_step((size_t)i + 1, NULL);
    }
    return code;
}

/* Nearly nothing to compute: what is left is the cost of a step. */
static int measure_overhead(crew *c, const settings *s, calibration *r)
{
    alone a;
    double seconds = 0;
    settings small = *s;
    small.q_heads = small.kv_heads = small.head_dim = small.value_dim = 1;
    int code = crew_agree(c, alone_create(&a, &small, 1, r->threads));
    if (!code)
        code = time_direction(c, s, &a, r->threads, false, &seconds);
    if (!code) {
        ringx_plan_info info;
        ringx_plan_describe(a.plan, &info);
        r->step_overhead_us = 1e6 * seconds / (double)(info.forward.steps ? info.forward.steps : 1);
    }
    alone_destroy(&a);
    return code;
}

static int measure_memory(crew *c, calibration *r)
{
    char *from = allocate(COPY_BYTES), *to = allocate(COPY_BYTES);
    if (from && to) { /* pages that were never written would be read from the cache */
        memset(from, 1, COPY_BYTES);
        memset(to, 2, COPY_BYTES);
    }
    int code = crew_agree(c, from && to ? CODE_GOOD : CODE_NO_MEMORY);
    double best = INFINITY;
    for (int i = 0; i < 9 && !code; i++) {
        c->ops->barrier(c);
        double begin = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
        memcpy(to, from, COPY_BYTES);
        best = fmin(best, clock_seconds(CLOCK_THREAD_CPUTIME_ID) - begin);
        from[i] = to[COPY_BYTES - 1 - (size_t)i]; /* a copy that nobody reads might not be made */
    }
    free(from);
    free(to);
    if (code)
        return code;
    crew_max(c, &best, 1);
    r->memory_gbs = 2e-9 * (double)COPY_BYTES / best;
    return CODE_GOOD;
}

/* ---- transfers ---- */

/* The best of five medians. */
static int time_op(crew *c, ringx_comm_op op, size_t bytes, int repeats, double *seconds)
{
    *seconds = INFINITY;
    for (int i = 0; i < 5; i++) {
        double took = 0;
        int code = crew_agree(c, fail_status(ringx_comm_time(c->comm, op, bytes, repeats, &took), "timing transfers"));
        if (code)
            return code;
        *seconds = fmin(*seconds, took);
    }
    crew_max(c, seconds, 1);
    return CODE_GOOD;
}

/* The formulas of forecasts, solved for the bandwidth: seconds = overhead + hops · latency + sent / bandwidth. */
static int measure_transfers(crew *c, calibration *r)
{
    const struct {
        ringx_comm_op op;
        bool ring;
        double sent; /* in messages of one rank */
        double *gbs;
    } ops[] = {{RINGX_OP_EXCHANGE, false, 1, &r->exchange_gbs},
               {RINGX_OP_BROADCAST, false, 1, &r->broadcast_gbs},
               {RINGX_OP_REDUCE, false, 1, &r->reduce_gbs},
               {RINGX_OP_ALLGATHER, true, c->ranks - 1, &r->allgather_gbs},
               {RINGX_OP_REDUCE_SCATTER, true, 1 - 1.0 / c->ranks, &r->reduce_scatter_gbs}};
    double seconds = 0;
    int code = time_op(c, RINGX_OP_EXCHANGE, SMALL_MESSAGE, 51, &seconds);
    if (code)
        return code;
    r->latency_us = fmax(0.1, seconds * 1e6 - r->step_overhead_us);
    double cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds_now();
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if ((code = time_op(c, ops[i].op, MESSAGE, 9, &seconds)))
            return code;
        double hops = ops[i].ring ? c->ranks - 1 : ceil(log2(c->ranks));
        double moving = seconds - 1e-6 * (r->step_overhead_us + hops * r->latency_us);
        *ops[i].gbs = 1e-9 * (double)MESSAGE * ops[i].sent / fmax(moving, 0.1 * seconds);
    }
    double share =
        (clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (seconds_now() - wall) / (c->in_process ? c->ranks : 1);
    crew_max(c, &share, 1);
    r->transfer_cores = fmin(1, share);
    return CODE_GOOD;
}

/* ---- the description ---- */

static void write_rates(FILE *to, const char *name, const double *tokens, const double *gflops)
{
    fprintf(to, "%s: [", name);
    for (int i = 0; i < CALIBRATED_SIZES; i++)
        fprintf(to, "%s[%.0f, %.3g]", i ? ", " : "", tokens[i], gflops[i]);
    fputs("]\n", to);
}

static int write_description(const settings *s, const calibration *r)
{
    static const char *const dtypes[] = {"f32", "bf16", "f16"};
    text_file f;
    int code = text_create(&f, s->calibrate);
    if (code)
        return code;
    fprintf(f.to,
            "# Measured by ringx %s info --calibrate: %d ranks of %d thread%s at work together, %s, head_dim %lld.\n"
            "# Multiply-add peak of a rank: %.1f GFLOP/s.\n"
            "name: calibrated %s, head_dim %lld\nranks_per_node: 0\ncores_per_node: %d\nthreads_per_rank: %d\n",
            ringx_version(), r->ranks, r->threads, r->threads == 1 ? "" : "s", dtypes[s->dtype], (long long)s->head_dim,
            r->peak_gflops, dtypes[s->dtype], (long long)s->head_dim, r->cores, r->threads);
    write_rates(f.to, "forward_gflops", r->tokens, r->forward_gflops);
    write_rates(f.to, "backward_gflops", r->tokens, r->backward_gflops);
    const struct {
        const char *key;
        double value;
    } figures[] = {{"transfer_cores", r->transfer_cores}, {"step_overhead_us", r->step_overhead_us},
                   {"memory_gbs", r->memory_gbs},         {"intra_latency_us", r->latency_us},
                   {"intra_gbs", r->exchange_gbs},        {"exchange_gbs", r->exchange_gbs},
                   {"broadcast_gbs", r->broadcast_gbs},   {"reduce_gbs", r->reduce_gbs},
                   {"allgather_gbs", r->allgather_gbs},   {"reduce_scatter_gbs", r->reduce_scatter_gbs}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        fprintf(f.to, "%s: %.4g\n", figures[i].key, figures[i].value);
    return text_finish(&f, CODE_GOOD);
}

typedef struct calibrate_job {
    const settings *settings;
    calibration *result; /* of rank 0 */
} calibrate_job;

static int work(crew *c, void *context)
{
    calibrate_job *job = context;
    const settings *s = job->settings;
    calibration r = {.ranks = c->ranks, .cores = core_count(), .threads = s->threads ? (int)s->threads : 1};
    r.cores = r.cores > r.threads * c->ranks_here ? r.cores : r.threads * c->ranks_here;
    c->ops->barrier(c);
    r.peak_gflops = 1e-9 * ringx_fma_peak(r.threads);
    int code = measure_overhead(c, s, &r);
    if (!code)
        code = measure_compute(c, s, &r);
    if (!code)
        code = measure_memory(c, &r);
    if (!code)
        code = measure_transfers(c, &r);
    if (!code && c->rank == 0) {
        *job->result = r;
        code = write_description(s, &r);
    }
    return crew_agree(c, code);
}

int calibrate(const settings *s, calibration *result)
{
    settings crowd = *s;
    calibrate_job job = {&crowd, result};
    int threads = s->threads ? (int)s->threads : 1, share = core_count() / threads;
    if (!s->ranks_set)
        crowd.ranks[0] = crowd.ranks[1] = share > 2 ? share : 2;
    if (crowd.ranks[0] < 2 && !launch_in_processes(s))
        return fail(CODE_USAGE, "--ranks 1 has no transfers to measure; it must be at least 2");
    if (launch_speaks())
        progress_begin("measuring size", (size_t)ROUNDS * CALIBRATED_SIZES);
    int code = launch(&crowd, work, &job);
    progress_end();
    return code;
}
