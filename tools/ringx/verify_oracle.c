/* SPDX-License-Identifier: MIT */
/* Oracle files: every file × dtype × preset × number of ranks.
 *
 * What is float32 (lse always) must be within 2e-6 (relative Frobenius) of its oracle tensor; what is of a half type no
 * worse than 1.05 times the error of one rank on the same file. */
#include "attention_file.h"
#include "shared/options.h"
#include "pool.h"
#include "shared/table.h"
#include "verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOAT_TOLERANCE 2e-6
#define HALF_GROWTH     1.05
#define ONE_RANK_PRESET "ringX3"

typedef struct oracle {
    attention_file file;
    whole inputs[3]; /* by dtype; empty where it is not asked for */
    double *exact[TENSORS];
    double one_rank[3][TENSORS]; /* errors */
    double largest[3][TENSORS];  /* over all runs; under the tally's lock */
} oracle;

typedef struct oracle_run {
    tally tally;
    const settings *settings;
    oracle *oracles;
    size_t count;
    ringx_dtype dtypes[3];
    size_t n_dtypes;
    int64_t ranks[2];
} oracle_run;

typedef struct oracle_job {
    oracle *oracle;
    const char *preset;
    ringx_dtype dtype;
    int ranks;
} oracle_job;

static oracle_job job_at(const oracle_run *run, uint64_t index)
{
    oracle_job job;
    uint64_t sizes = (uint64_t)(run->ranks[1] - run->ranks[0] + 1);
    job.ranks = (int)(run->ranks[0] + (int64_t)(index % sizes));
    index /= sizes;
    job.preset = run->settings->presets.items[index % run->settings->presets.count];
    index /= run->settings->presets.count;
    job.dtype = run->dtypes[index % run->n_dtypes];
    job.oracle = &run->oracles[index / run->n_dtypes];
    return job;
}

static int ranks_of(void *context, uint64_t index)
{
    return job_at(context, index).ranks;
}

static void errors_of(const oracle *o, const ringx_problem *p, const whole *results, double errors[TENSORS])
{
    for (tensor_id id = T_OUT; id < TENSORS; id++)
        errors[id] = o->exact[id] ? relative_error(p, id, results->data[id], o->exact[id]) : 0;
}

/* Collective.  errors are set on rank 0. */
static int compute(crew *c, const oracle_run *run, const oracle_job *job, double errors[TENSORS])
{
    whole results = {0};
    trial t = {.problem = job->oracle->file.problem,
               .options = settings_options(run->settings, job->preset),
               .inputs = &job->oracle->inputs[job->dtype],
               .results = &results};
    t.problem.dtype = job->dtype;
    t.options.threads = t.options.threads ? t.options.threads : 1;
    bool backward = t.inputs->data[T_DOUT] && !t.options.forward_only;
    int code = c->rank == 0 ? whole_results_create(&results, &t.problem, backward) : CODE_GOOD;
    code = crew_agree(c, code);
    if (!code)
        code = trial_run(c, &t);
    if (!code && c->rank == 0)
        errors_of(job->oracle, &t.problem, &results, errors);
    whole_destroy(&results);
    return code;
}

static int check(const oracle_job *job, const double errors[TENSORS])
{
    for (tensor_id id = T_OUT; id < TENSORS; id++) {
        double one = job->oracle->one_rank[job->dtype][id];
        double allowed = job->dtype == RINGX_F32 || id == T_LSE ? FLOAT_TOLERANCE : HALF_GROWTH * one;
        if (!(errors[id] <= allowed))
            return fail(CODE_WRONG, "%s: relative error %.4g, allowed %.4g", tensor_names[id], errors[id], allowed);
    }
    return CODE_GOOD;
}

static int run_job(crew *c, void *context, uint64_t index)
{
    oracle_run *run = context;
    oracle_job job = job_at(run, index);
    double errors[TENSORS] = {0};
    failure_set("");
    int code = compute(c, run, &job, errors);
    bool computed = code == CODE_GOOD;
    if (computed && c->rank == 0)
        code = check(&job, errors);
    code = crew_agree(c, code);
    char why[MESSAGE_BYTES];
    failure_copy(why);
    if (!computed && code != CODE_WRONG)
        crew_renew(c);
    if (!c->leads_process)
        return code;

    static const char *const without[] = {"oracle", "preset", "dtype", "ranks", NULL};
    char what[400], more[400], command[900];
    const char *path = job.oracle->file.file.path;
    snprintf(what, sizeof what, "%s, %s, %s, %d ranks", path, job.preset, dtype_names[job.dtype], job.ranks);
    snprintf(more, sizeof more, "--preset %s --dtype %s --ranks %d --oracle '%s'", job.preset, dtype_names[job.dtype],
             job.ranks, path);
    verify_command_line(run->settings, c->ranks, without, more, command, sizeof command);
    tally_add(&run->tally, code, "oracle", what, why, command);
    pthread_mutex_lock(&run->tally.lock);
    for (int id = T_OUT; id < TENSORS; id++) {
        double *largest = &job.oracle->largest[job.dtype][id];
        *largest = errors[id] > *largest ? errors[id] : *largest;
    }
    pthread_mutex_unlock(&run->tally.lock);
    return code;
}

/* ---- loading ---- */

static int load(oracle_run *run, oracle *o, const char *path)
{
    int code = attention_open(&o->file, path);
    if (!code && !o->file.tensors[T_OUT])
        code = fail(CODE_BAD_INPUT, "%s: tensor 'out' is missing; an oracle holds results to compare with", path);
    for (size_t i = 0; i < run->n_dtypes; i++)
        for (tensor_id id = T_Q; id <= T_DOUT && !code; id++)
            if (o->file.tensors[id])
                code = attention_load(&o->file, id, run->dtypes[i], &o->inputs[run->dtypes[i]].data[id]);
    bool backward = o->file.tensors[T_DOUT] && !run->settings->forward_only;
    for (tensor_id id = T_OUT; id < TENSORS && !code; id++)
        if (o->file.tensors[id] && (backward || id == T_OUT || id == T_LSE))
            code = attention_load_double(&o->file, id, &o->exact[id]);
    return code;
}

/* What one rank makes of each half type, for comparison. */
static int measure_one_rank(crew *c, void *context)
{
    oracle_run *run = context;
    int code = CODE_GOOD;
    for (size_t i = 0; i < run->count && !code; i++)
        for (size_t d = 0; d < run->n_dtypes && !code; d++) {
            oracle_job job = {&run->oracles[i], ONE_RANK_PRESET, run->dtypes[d], 1};
            code = compute(c, run, &job, run->oracles[i].one_rank[run->dtypes[d]]);
        }
    return code;
}

static void unload(oracle_run *run)
{
    for (size_t i = 0; i < run->count && run->oracles; i++) {
        oracle *o = &run->oracles[i];
        if (o->file.file.path)
            attention_close(&o->file);
        for (int d = 0; d < 3; d++)
            whole_destroy(&o->inputs[d]);
        for (int id = 0; id < TENSORS; id++)
            free(o->exact[id]);
    }
    free(run->oracles);
}

static table *errors_table(const oracle_run *run)
{
    static const table_column columns[] = {
        {"file", "file"}, {"dtype", "dtype"}, {"out", "out"}, {"lse", "lse"},
        {"dq", "dq"},     {"dk", "dk"},       {"dv", "dv"},   {"growth", "÷ one rank"}};
    static const tensor_id order[] = {T_OUT, T_LSE, T_DQ, T_DK, T_DV};
    table *t = table_create(columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < run->count && t; i++)
        for (size_t d = 0; d < run->n_dtypes; d++) {
            const oracle *o = &run->oracles[i];
            ringx_dtype dtype = run->dtypes[d];
            const char *path = o->file.file.path, *slash = strrchr(path, '/');
            double growth = 0;
            table_text(t, slash ? slash + 1 : path);
            table_text(t, dtype_names[dtype]);
            for (size_t k = 0; k < 5; k++) {
                double one = o->one_rank[dtype][order[k]], error = o->largest[dtype][order[k]];
                table_real(t, o->exact[order[k]] ? error : NAN, -2);
                growth = one > 0 && error / one > growth ? error / one : growth;
            }
            table_real(t, growth, 3);
        }
    return t;
}

static int agree(crew *c, void *context)
{
    return crew_agree(c, *(int *)context);
}

static int verify_files(oracle_run *run)
{
    const settings *s = run->settings;
    int loaded = CODE_GOOD;
    for (size_t i = 0; i < run->count && !loaded; i++)
        loaded = load(run, &run->oracles[i], s->oracle.items[i]);
    if (launch_in_processes(s)) /* a file may be missing on one node only */
        loaded = launch(s, agree, &loaded);
    if (loaded)
        return loaded;
    settings alone = *s;
    alone.comm = COMM_SELF;
    alone.ranks_set = false;
    alone.fault = NULL;
    int code = launch(&alone, measure_one_rank, run);
    if (code)
        return code;

    uint64_t sizes = (uint64_t)(run->ranks[1] - run->ranks[0] + 1);
    pool p = {.count = run->count * run->n_dtypes * s->presets.count * sizes,
              .ranks = {run->ranks[0], run->ranks[1]},
              .ranks_of = ranks_of,
              .run = run_job,
              .context = run};
    tally_begin(&run->tally, s, "verifying run", p.count);
    code = pool_run(s, &p);
    progress_end();
    table *t = launch_speaks() ? errors_table(run) : NULL;
    if (!code && t && !s->json) {
        puts("largest relative errors");
        code = table_print(t, stdout);
    }
    int counted = tally_end(&run->tally, t ? json_pack("{s:o}", "oracles", table_json(t)) : NULL);
    table_destroy(t);
    return code ? code : counted;
}

int verify_oracle(const settings *s)
{
    oracle_run run = {.settings = s, .count = s->oracle.count};
    for (int d = 0; d < 3; d++)
        if (s->dtypes_set ? s->dtypes >> d & 1 : d != RINGX_F16)
            run.dtypes[run.n_dtypes++] = (ringx_dtype)d;
    int code = pool_ranks(s, run.ranks);
    if (code)
        return code;
    run.oracles = allocate(run.count * sizeof *run.oracles);
    code = run.oracles ? verify_files(&run) : CODE_NO_MEMORY;
    unload(&run);
    return code;
}
