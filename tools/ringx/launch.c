/* SPDX-License-Identifier: MIT */
/* Crews whose ranks are threads of this process, and what is the same for every crew. */
#include "launch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct thread_crew { /* shared by the ranks */
    pthread_barrier_t barrier;
    comm_kind kind;
    int ranks;
    ringx_comm **comms; /* of renew */
    int code;           /* of renew */
    char message[MESSAGE_BYTES];
    void *shared;
    const void **mine; /* of gather */
} thread_crew;

static void threads_barrier(crew *c)
{
    pthread_barrier_wait(&((thread_crew *)c->internal)->barrier);
}

static void threads_gather(crew *c, const void *mine, size_t bytes, void *all)
{
    thread_crew *t = c->internal;
    t->mine[c->rank] = mine;
    threads_barrier(c);
    for (int r = 0; r < c->ranks; r++)
        memcpy((char *)all + (size_t)r * bytes, t->mine[r], bytes);
    threads_barrier(c);
}

static int threads_share(crew *c, void **memory, size_t bytes)
{
    (void)bytes;
    thread_crew *t = c->internal;
    if (c->rank == 0)
        t->shared = *memory;
    threads_barrier(c);
    *memory = t->shared;
    threads_barrier(c);
    return CODE_GOOD;
}

static void threads_release(crew *c, void *memory)
{
    (void)memory;
    threads_barrier(c);
}

static int make_comms(thread_crew *t, const char *fault)
{
    ringx_status status = t->kind == COMM_SELF ? ringx_comm_self(t->comms) : ringx_comm_threads(t->ranks, t->comms);
    for (int r = 0; r < t->ranks && status == RINGX_OK && fault; r++) {
        ringx_comm *faulty;
        status = ringx_comm_faulty(t->comms[r], fault, &faulty);
        if (status == RINGX_OK)
            t->comms[r] = faulty;
    }
    if (status == RINGX_OK)
        return CODE_GOOD;
    int code = fail_status(status, "communicator of %d ranks", t->ranks);
    for (int r = 0; r < t->ranks; r++)
        ringx_comm_destroy(t->comms[r]);
    memset(t->comms, 0, (size_t)t->ranks * sizeof(ringx_comm *));
    return code;
}

static int threads_renew(crew *c)
{
    thread_crew *t = c->internal;
    crew_leave(c);
    threads_barrier(c);
    if (c->rank == 0) {
        t->code = make_comms(t, c->fault);
        failure_copy(t->message);
    }
    threads_barrier(c);
    c->comm = t->comms[c->rank];
    if (t->code)
        failure_set(t->message);
    return t->code;
}

static const crew_ops threads_ops = {.barrier = threads_barrier,
                                     .gather = threads_gather,
                                     .share = threads_share,
                                     .release = threads_release,
                                     .renew = threads_renew};

int crew_threads_create(comm_kind kind, int ranks, const char *fault, crew **crews)
{
    *crews = NULL;
    thread_crew *t = allocate(sizeof *t);
    crew *all = allocate((size_t)ranks * sizeof *all);
    ringx_comm **comms = allocate((size_t)ranks * sizeof(ringx_comm *));
    const void **mine = allocate((size_t)ranks * sizeof(void *));
    int code = t && all && comms && mine ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code) {
        *t = (thread_crew){.kind = kind, .ranks = ranks, .comms = comms, .mine = mine};
        code = make_comms(t, fault);
    }
    if (!code && pthread_barrier_init(&t->barrier, NULL, (unsigned)ranks) != 0)
        code = fail(CODE_NO_MEMORY, "cannot make a barrier of %d threads", ranks);
    if (code) {
        free(t);
        free(all);
        free(comms);
        free(mine);
        return code;
    }
    for (int r = 0; r < ranks; r++)
        all[r] = (crew){.ops = &threads_ops,
                        .rank = r,
                        .ranks = ranks,
                        .ranks_here = ranks,
                        .local = r,
                        .leads_process = r == 0,
                        .in_process = true,
                        .comm = comms[r],
                        .fault = fault,
                        .internal = t};
    *crews = all;
    return CODE_GOOD;
}

void crew_threads_destroy(crew *crews)
{
    if (!crews)
        return;
    thread_crew *t = crews[0].internal;
    for (int r = 0; r < t->ranks; r++)
        ringx_comm_destroy(crews[r].comm);
    pthread_barrier_destroy(&t->barrier);
    free(t->comms);
    free(t->mine);
    free(t);
    free(crews);
}

/* ---- what is the same for every crew ---- */

/* Everyone gets the message of one rank. */
static void spread_message(crew *c, int speaker, bool others_agree)
{
    char mine[MESSAGE_BYTES], *all = malloc((size_t)c->ranks * MESSAGE_BYTES), text[MESSAGE_BYTES + 32];
    bool everyone = all != NULL;
    failure_copy(mine);
    int have[MAX_CREW], has = everyone;
    c->ops->gather(c, &has, sizeof has, have);
    for (int r = 0; r < c->ranks; r++)
        everyone = everyone && have[r];
    if (everyone) {
        c->ops->gather(c, mine, MESSAGE_BYTES, all);
        const char *message = all + (size_t)speaker * MESSAGE_BYTES;
        bool named = others_agree || speaker == 0 || strncmp(message, "rank ", 5) == 0;
        if (named)
            snprintf(text, sizeof text, "%s", message);
        else
            snprintf(text, sizeof text, "rank %d: %s", speaker, message);
        failure_set(text);
    }
    free(all);
}

int crew_agree(crew *c, int code)
{
    int all[MAX_CREW];
    c->telling = code;
    c->ops->gather(c, &code, sizeof code, all);
    c->telling = CODE_GOOD;
    int largest = CODE_GOOD, speaker = 0;
    bool unanimous = true;
    for (int r = 0; r < c->ranks; r++) {
        if (all[r] > largest) {
            largest = all[r];
            speaker = r;
        }
        unanimous = unanimous && all[r] == all[0];
    }
    if (largest)
        spread_message(c, speaker, unanimous);
    return largest;
}

void crew_max(crew *c, double *values, size_t count)
{
    double all[MAX_CREW];
    for (size_t i = 0; i < count; i++) {
        c->ops->gather(c, &values[i], sizeof(double), all);
        for (int r = 0; r < c->ranks; r++)
            values[i] = all[r] > values[i] ? all[r] : values[i];
    }
}

void crew_sum(crew *c, double *values, size_t count)
{
    double all[MAX_CREW];
    for (size_t i = 0; i < count; i++) {
        c->ops->gather(c, &values[i], sizeof(double), all);
        values[i] = 0;
        for (int r = 0; r < c->ranks; r++)
            values[i] += all[r];
    }
}

int crew_equip(crew *c, ringx_comm *plain)
{
    ringx_comm *faulty;
    ringx_status status = c->fault ? ringx_comm_faulty(plain, c->fault, &faulty) : RINGX_OK;
    if (status != RINGX_OK) {
        int code = fail_status(status, "communicator of %d ranks", c->ranks);
        ringx_comm_destroy(plain);
        return code;
    }
    c->comm = c->fault ? faulty : plain;
    return CODE_GOOD;
}

void crew_leave(crew *c)
{
    ringx_comm_destroy(c->comm);
    c->comm = NULL;
}

int crew_run(crew *c, int code, const settings *s, crew_work work, void *context)
{
    if (!code)
        code = crew_use_device(c, s);
    if (!code)
        code = work(c, context);
    crew_leave(c);
    return code;
}

int crew_room(crew *c, void **memory, size_t bytes)
{
    int code = CODE_GOOD;
    if (c->rank != 0) {
        *memory = allocate(bytes);
        code = *memory ? CODE_GOOD : CODE_NO_MEMORY;
    }
    return crew_agree(c, code);
}

void crew_room_free(crew *c, void *memory)
{
    if (c->rank != 0)
        free(memory);
}

/* ---- launch ---- */

comm_kind launch_kind(const settings *s)
{
    if (s->comm != COMM_DEFAULT)
        return (comm_kind)s->comm;
    return launch_under_mpi() ? COMM_MPI : launch_under_env() ? COMM_ENV : COMM_THREADS;
}

bool launch_in_processes(const settings *s)
{
    return launch_kind(s) == COMM_MPI || launch_kind(s) == COMM_ENV;
}

int launch_processes(const settings *s, crew_work work, void *context)
{
    return launch_kind(s) == COMM_MPI ? launch_mpi(s, work, context) : launch_env(s, work, context);
}

bool launch_speaks(void)
{
    return launch_under_mpi() ? launch_mpi_speaks() : launch_env_speaks();
}

void launch_finish(void)
{
    launch_mpi_finish();
    launch_env_finish();
}

int launch_ranks(const settings *s, int *ranks)
{
    *ranks = (int)s->ranks[0];
    comm_kind kind = launch_kind(s);
    if (kind == COMM_SELF)
        *ranks = 1;
    if (launch_in_processes(s)) {
        int code = kind == COMM_MPI ? launch_mpi_ranks(ranks) : launch_env_ranks(ranks);
        if (code)
            return code;
    }
    if (s->ranks_set && (*ranks < s->ranks[0] || *ranks > s->ranks[1]))
        return fail(CODE_USAGE, "--ranks %lld, but %s gives %d; leave --ranks out or use --comm threads",
                    (long long)s->ranks[0],
                    kind == COMM_MPI   ? "the MPI launcher"
                    : kind == COMM_ENV ? "the environment"
                                       : "--comm self",
                    *ranks);
    return CODE_GOOD;
}

/* All of the threads run, or, where one cannot be started, none: they wait for each other. */
typedef struct start_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int verdict; /* 0: wait, 1: go, -1: leave */
    void (*run)(void *job);
} start_gate;

typedef struct gate_pass {
    start_gate *gate;
    void *job;
} gate_pass;

static void *pass_gate(void *argument)
{
    gate_pass *pass = argument;
    pthread_mutex_lock(&pass->gate->lock);
    while (pass->gate->verdict == 0)
        pthread_cond_wait(&pass->gate->changed, &pass->gate->lock);
    int verdict = pass->gate->verdict;
    pthread_mutex_unlock(&pass->gate->lock);
    if (verdict > 0)
        pass->gate->run(pass->job);
    return NULL;
}

int run_together(size_t count, void (*run)(void *job), void *jobs, size_t job_bytes)
{
    start_gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .run = run};
    gate_pass *passes = allocate(count * sizeof *passes);
    pthread_t *threads = allocate(count * sizeof *threads);
    int code = passes && threads ? CODE_GOOD : CODE_NO_MEMORY;
    size_t started = 1; /* job 0 stays on this thread */
    for (size_t i = 1; i < count && !code; i++) {
        passes[i] = (gate_pass){&gate, (char *)jobs + i * job_bytes};
        if (pthread_create(&threads[i], NULL, pass_gate, &passes[i]) != 0)
            code = fail(CODE_NO_MEMORY, "cannot start %zu threads", count);
        else
            started++;
    }
    pthread_mutex_lock(&gate.lock);
    gate.verdict = code ? -1 : 1;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    if (!code)
        run(jobs);
    for (size_t i = 1; i < started && threads; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    free(passes);
    return code;
}

typedef struct thread_job {
    crew *c;
    const settings *settings;
    crew_work work;
    void *context;
    int code;
} thread_job;

static void thread_main(void *argument)
{
    thread_job *job = argument;
    job->code = crew_run(job->c, CODE_GOOD, job->settings, job->work, job->context);
}

static int launch_threads(const settings *s, int ranks, crew_work work, void *context)
{
    crew *crews;
    int code = crew_threads_create(launch_kind(s), ranks, s->fault, &crews);
    if (code)
        return code;
    thread_job *jobs = allocate((size_t)ranks * sizeof *jobs);
    for (int r = 0; r < ranks && jobs; r++)
        jobs[r] = (thread_job){.c = &crews[r], .settings = s, .work = work, .context = context};
    code = jobs ? run_together((size_t)ranks, thread_main, jobs, sizeof *jobs) : CODE_NO_MEMORY;
    if (!code)
        code = jobs[0].code; /* agreed, and rank 0 was this thread */
    free(jobs);
    crew_threads_destroy(crews);
    return code;
}

int launch(const settings *s, crew_work work, void *context)
{
    int ranks;
    int code = launch_ranks(s, &ranks);
    if (code)
        return code;
    return launch_in_processes(s) ? launch_processes(s, work, context) : launch_threads(s, ranks, work, context);
}
