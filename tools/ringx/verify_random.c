/* SPDX-License-Identifier: MIT */
/* Random cases: drawn, computed by a crew, compared with the float64 definition by its rank 0. */
#include "cases.h"
#include "shared/options.h"
#include "pool.h"
#include "verify.h"

#include <math.h>
#include <stdio.h>

typedef struct random_run {
    tally tally;
    const settings *settings;
    int64_t ranks[2];
    uint64_t first; /* --only: the case */
    /* under the tally's lock */
    double error[3][TENSORS], share[3][TENSORS]; /* largest relative error, and share of what is allowed, by dtype */
    double closest;                              /* the largest share, and where */
    uint64_t closest_case;
} random_run;

static int ranks_of(void *context, uint64_t job)
{
    random_run *run = context;
    drawn d;
    case_draw(run->settings, run->ranks, run->first + job, &d);
    return d.ranks;
}

static int make_inputs(const drawn *d, whole *inputs)
{
    for (tensor_id id = T_Q; id <= T_DOUT; id++) {
        if (id == T_DOUT && d->options.forward_only)
            continue;
        inputs->data[id] = allocate(tensor_bytes(&d->problem, id));
        if (!inputs->data[id])
            return CODE_NO_MEMORY;
        random_fill(d->problem.dtype, random_word(d->key, 10 + (uint64_t)id), 0, id <= T_K ? d->size : 1,
                    inputs->data[id], tensor_elements(&d->problem, id));
    }
    return CODE_GOOD;
}

static int compare(const drawn *d, const whole *inputs, const whole *results, verdict *found)
{
    reference r;
    int code = reference_create(&r, &d->problem, inputs);
    if (code)
        return code;
    roundings how = {d->options.wire, d->ranks, d->options.device == RINGX_CUDA};
    judge(&d->problem, how, results, &r, found);
    reference_destroy(&r);
    return found->good ? CODE_GOOD : fail(CODE_WRONG, "%s", found->why);
}

/* found: NULL if nothing was compared. */
static void record(random_run *run, const crew *c, uint64_t index, const drawn *d, int code, const verdict *found)
{
    static const char *const without[] = {"cases", "seed", "only", NULL};
    char title[40], what[600], more[80], command[600];
    snprintf(title, sizeof title, "case %llu", (unsigned long long)index);
    snprintf(more, sizeof more, "--seed %llu --only %llu", (unsigned long long)run->settings->seed,
             (unsigned long long)index);
    case_describe(d, what, sizeof what);
    verify_command_line(run->settings, c->ranks, without, more, command, sizeof command);
    tally_add(&run->tally, code, title, what, failure(), command);
    if (!found)
        return;
    pthread_mutex_lock(&run->tally.lock);
    for (int id = T_OUT; id < TENSORS; id++) {
        double *error = &run->error[d->problem.dtype][id], *share = &run->share[d->problem.dtype][id];
        *error = found->error[id] > *error ? found->error[id] : *error;
        *share = found->share[id] > *share ? found->share[id] : *share;
        if (found->share[id] > run->closest) {
            run->closest = found->share[id];
            run->closest_case = index;
        }
    }
    pthread_mutex_unlock(&run->tally.lock);
}

typedef struct attempt {
    drawn d;
    whole inputs, results;
    const whole *shared; /* inputs of the rank that leads this process */
    verdict found;
    bool compared;
} attempt;

/* Collective; the code is every rank's. */
static int prepare(attempt *a, crew *c)
{
    int code = c->leads_process ? make_inputs(&a->d, &a->inputs) : CODE_GOOD;
    if (!code && c->rank == 0)
        code = whole_results_create(&a->results, &a->d.problem, !a->d.options.forward_only);
    void *shared = &a->inputs;
    if (c->in_process)
        c->ops->share(c, &shared, 0);
    a->shared = shared;
    return crew_agree(c, code);
}

static int attempt_case(attempt *a, crew *c)
{
    trial t = {.problem = a->d.problem,
               .options = a->d.options,
               .inputs = a->shared,
               .results = &a->results,
               .style_key = a->d.strided ? a->d.key | 1 : 0,
               .repeat = a->d.repeat};
    int code = trial_run(c, &t);
    if (code) {
        char why[MESSAGE_BYTES];
        failure_copy(why);
        if (code != CODE_WRONG && crew_renew(c) != CODE_GOOD)
            return CODE_INTERNAL;
        failure_set(why);
        return code;
    }
    if (c->rank == 0) {
        code = compare(&a->d, a->shared, &a->results, &a->found);
        a->compared = code == CODE_GOOD || code == CODE_WRONG;
    }
    return crew_agree(c, code);
}

static int run_case(crew *c, void *context, uint64_t job)
{
    random_run *run = context;
    uint64_t index = run->first + job;
    attempt a = {.compared = false};
    int stop = c->rank == 0 && tally_stopped(&run->tally);
    failure_set("");
    if (crew_agree(c, stop)) {
        if (c->leads_process)
            tally_skip(&run->tally);
        return CODE_GOOD;
    }
    case_draw(run->settings, run->ranks, index, &a.d);
    a.d.options.threads = run->settings->threads ? (int)run->settings->threads : 1;
    int code = prepare(&a, c);
    if (!code)
        code = attempt_case(&a, c);
    if (c->leads_process)
        record(run, c, index, &a.d, code, a.compared ? &a.found : NULL);
    if (c->in_process)
        c->ops->barrier(c); /* nobody reads the shared inputs any more */
    whole_destroy(&a.inputs);
    whole_destroy(&a.results);
    return code;
}

/* ---- the report ---- */

static json_t *by_tensor(const double *values)
{
    json_t *row = json_object();
    for (int id = T_OUT; id < TENSORS; id++)
        json_object_set_new(row, tensor_names[id], json_real(values[id]));
    return row;
}

static json_t *largest_json(const random_run *run)
{
    json_t *errors = json_object(), *shares = json_object();
    for (int d = 0; d < 3; d++) {
        json_object_set_new(errors, dtype_names[d], by_tensor(run->error[d]));
        json_object_set_new(shares, dtype_names[d], by_tensor(run->share[d]));
    }
    return json_pack("{s:I, s:o, s:o, s:I}", "seed", (json_int_t)run->settings->seed, "largest_errors", errors,
                     "largest_shares_of_tolerance", shares, "closest_case", (json_int_t)run->closest_case);
}

static void print_row(const char *dtype, const char *what, const double *values, const char *format)
{
    printf("%-5s%s", dtype, what);
    for (int id = T_OUT; id < TENSORS; id++) {
        printf("%s%s ", id == T_OUT ? " " : ", ", tensor_names[id]);
        printf(format, values[id]);
    }
    putchar('\n');
}

static void print_largest(const random_run *run)
{
    for (int d = 0; d < 3; d++) {
        if (!(run->settings->dtypes >> d & 1))
            continue;
        print_row(dtype_names[d], "largest relative errors ", run->error[d], "%-8.2g");
        print_row("", "share of their tolerance", run->share[d], "%-8.2f");
    }
    printf("closest to its tolerance: case %llu\n", (unsigned long long)run->closest_case);
}

int verify_random(const settings *s)
{
    random_run run = {.settings = s, .first = s->only >= 0 ? (uint64_t)s->only : 0};
    pool p = {.count = s->only >= 0 ? 1 : (uint64_t)s->cases, .ranks_of = ranks_of, .run = run_case, .context = &run};
    int code = pool_ranks(s, p.ranks);
    if (code)
        return code;
    run.ranks[0] = p.ranks[0];
    run.ranks[1] = p.ranks[1];
    tally_begin(&run.tally, s, "verifying case", p.count);
    code = pool_run(s, &p);
    progress_end();
    if (!code && !s->json && launch_speaks() && run.closest > 0)
        print_largest(&run);
    int counted = tally_end(&run.tally, largest_json(&run));
    return code ? code : counted;
}
