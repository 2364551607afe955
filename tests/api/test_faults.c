/* SPDX-License-Identifier: MIT */
/* Every communication call of every rank fails, comes late, or never comes, in every preset: nothing hangs, no result
 * is wrong, and every rank names the one to blame.  RINGX_LONG=1 drops every call, else a part of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "api/attention_case.h"
#include "device/device.h"

enum { MOST_CALLS = 400, WORKERS = 8, MOST_JOBS = 128 };

static const double patient_s = 60, delay_s = 0.004, first_deadline_s = 0.25;

typedef struct job { /* all faults of one rank in one preset */
    const char *preset;
    int ranks, victim, drop_stride, drop_first;
    int calls, cases;
    char wrong[1024]; /* the first thing that was wrong */
} job;

/* ---- one case ---- */

static void run_case(attention_case *c, const job *j, const char *rule, double timeout)
{
    *c = (attention_case){.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = j->ranks};
    c->problem.batch = 1;
    c->problem.tokens = 11;
    c->problem.q_heads = 4;
    c->problem.kv_heads = 2;
    c->problem.head_dim = 4;
    c->problem.causal = true;
    c->options.preset = j->preset;
    c->options.threads = 1;
    c->options.timeout = timeout;
    c->options.ranks_per_node = j->ranks % 2 ? 0 : 2;
    c->data_seed = 3;
    c->fault = rule;
    case_run(c);
}

static bool all_ok(const attention_case *c)
{
    for (int r = 0; r < c->ranks; r++)
        if (c->status[r] != RINGX_OK)
            return false;
    return true;
}

/* Where ranks have groups of their own, one may have done all its part before a rank of another group fails.  It has
 * its results, and they are right; the failure is what its communicator answers from then on. */
static bool done_before(const attention_case *c, int rank)
{
    if (c->ranks == 3 || c->status[rank] != RINGX_OK || c->later[rank] == RINGX_OK)
        return false;
    for (int t = T_OUT; t < TENSORS; t++)
        for (size_t i = 0; t != T_DOUT && i < case_elements(&c->problem, t); i++)
            if (fabs(c->got[t][i] - c->want[t][i]) > 1e-5) /* NaN: of a rank that failed */
                return false;
    return true;
}

static void complain(job *j, const attention_case *c, const char *what)
{
    int n = snprintf(j->wrong, sizeof j->wrong, "%s, %d ranks, %s: %s", j->preset, j->ranks, c->fault, what);
    for (int r = 0; r < c->ranks && n >= 0 && (size_t)n < sizeof j->wrong; r++)
        n += snprintf(j->wrong + n, sizeof j->wrong - (size_t)n, "\n  rank %d: %s: %s", r,
                      ringx_status_name(c->status[r]), c->message[r]);
}

static bool right(job *j, const attention_case *c)
{
    if (!all_ok(c) || !case_right(c)) {
        complain(j, c, "the result is not right");
        return false;
    }
    return true;
}

/* ---- an error: at once everyone knows who and what ---- */

/* Returns false when the rank makes no such call any more. */
static bool try_error(job *j, int call)
{
    attention_case c;
    char rule[64], own[64], others[64];
    snprintf(rule, sizeof rule, "rank=%d,call=%d,kind=error", j->victim, call);
    double begin = ringx__now();
    run_case(&c, j, rule, patient_s);
    double seconds = ringx__now() - begin;
    j->cases++;
    bool met = !all_ok(&c);
    if (!met)
        right(j, &c);
    snprintf(own, sizeof own, "fault injected: call %d (", call);
    snprintf(others, sizeof others, "rank %d failed: ", j->victim);
    for (int r = 0; r < c.ranks && met; r++) {
        ringx_status want = r == j->victim ? RINGX_COMM : RINGX_PEER_DIED;
        bool named = strstr(c.message[r], own) && (r == j->victim || strstr(c.message[r], others) == c.message[r]);
        if ((c.status[r] != want && !done_before(&c, r)) || !named)
            complain(j, &c, "not every rank names the one that failed");
    }
    if (met && seconds > patient_s / 2)
        complain(j, &c, "it was noticed by waiting");
    case_free(&c);
    return met;
}

/* ---- a delay: nothing happens ---- */

static void try_delay(job *j, int call)
{
    attention_case c;
    char rule[64];
    snprintf(rule, sizeof rule, "rank=%d,call=%d,kind=delay:%g", j->victim, call, delay_s);
    run_case(&c, j, rule, patient_s);
    j->cases++;
    right(j, &c);
    case_free(&c);
}

/* ---- a call that never comes: after the deadline everyone knows who ---- */

static bool names(const char *message, const char *before, int rank, char after)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%s%d", before, rank);
    const char *at = strstr(message, text);
    return at && (at[n] == after || at[n] == '\0' || at[n] == ',');
}

static bool dropped_as_it_should(const attention_case *c, int victim)
{
    for (int r = 0; r < c->ranks; r++)
        if ((c->status[r] != RINGX_STALLED && !done_before(c, r)) ||
            !(names(c->message[r], " s for rank ", victim, ',') || names(c->message[r], ") of rank ", victim, ' ')))
            return false;
    return true;
}

/* A machine so busy that an innocent rank misses the deadline gets a longer one. */
static void try_drop(job *j, int call)
{
    attention_case c;
    char rule[64];
    snprintf(rule, sizeof rule, "rank=%d,call=%d,kind=drop", j->victim, call);
    for (double deadline = first_deadline_s;; deadline *= 4) {
        run_case(&c, j, rule, deadline);
        j->cases++;
        bool good = dropped_as_it_should(&c, j->victim);
        if (!good && deadline > 10)
            complain(j, &c, "not every rank names the one that is late");
        case_free(&c);
        if (good || deadline > 10)
            return;
    }
}

/* ---- all of them: jobs wait most of the time, so several run beside each other ---- */

static job jobs[MOST_JOBS];
static int job_count;
static atomic_int next_job;

static void run_job(job *j)
{
    while (j->calls < MOST_CALLS && !j->wrong[0] && try_error(j, j->calls))
        j->calls++;
    for (int call = 0; call < j->calls && !j->wrong[0]; call++)
        try_delay(j, call);
    for (int call = j->drop_first; call < j->calls && !j->wrong[0]; call += j->drop_stride)
        try_drop(j, call);
}

static void *worker(void *unused)
{
    (void)unused;
    for (int i; (i = atomic_fetch_add(&next_job, 1)) < job_count;)
        run_job(&jobs[i]);
    return NULL;
}

static void add_jobs(const char *preset, int ranks)
{
    int stride = getenv("RINGX_LONG") ? 1 : 5;
    for (int victim = 0; victim < ranks && job_count < MOST_JOBS; victim++, job_count++)
        jobs[job_count] = (job){.preset = preset,
                                .ranks = ranks,
                                .victim = victim,
                                .drop_stride = stride,
                                .drop_first = job_count * 3 % stride};
}

static void every_fault_of_every_call_of_every_rank(void **state)
{
    (void)state;
    pthread_t thread[WORKERS];
    int cases = 0, calls = 0;
    for (size_t i = 0; ringx_preset_at(i); i++)
        add_jobs(ringx_preset_at(i)->name, 3);
    add_jobs("ringX3b", 4); /* in two levels, of two nodes */
    add_jobs("usp", 4);
    alarm(getenv("RINGX_LONG") ? 3000 : 500); /* nothing hangs */
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, worker, NULL), 0);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(thread[i], NULL);
    alarm(0);
    for (int i = 0; i < job_count; i++) {
        if (jobs[i].wrong[0])
            fail_msg("%s", jobs[i].wrong);
        assert_true(jobs[i].calls >= 8 && jobs[i].calls < MOST_CALLS); /* 5 make the plan; forward and backward */
        cases += jobs[i].cases;
        calls += jobs[i].calls;
    }
    assert_true(job_count == MOST_JOBS || job_count >= 14 * 3 + 8);
    print_message("%d calls, %d cases\n", calls, cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_fault_of_every_call_of_every_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
