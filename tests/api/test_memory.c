/* SPDX-License-Identifier: MIT */
/* Memory: exactly the promised workspace, no allocation while executing, none lost when one fails, and nothing that
 * lies in masked, padded or scratch memory reaches a result. */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/attention_case.h"
#include "api/plan_trial.h"

/* ---- every allocation of this process, counted and made to fail: not where a sanitizer has its own ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define COUNTED 0
#endif
#endif
#ifndef COUNTED
#define COUNTED 1
#endif

static atomic_long allocations, live;   /* made so far; made and not freed */
static _Thread_local long fail_in = -1; /* this thread's allocation that fails: 0 is the next one */
static _Thread_local bool failed_one;

#if COUNTED
static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void (*free)(void *);
} real;

/* What the look-up itself asks for. */
static _Alignas(16) char early[1 << 16];
static size_t early_used;
static bool looking;

static void *early_alloc(size_t bytes)
{
    char *p = early + early_used;
    early_used += (bytes + 15) / 16 * 16;
    return early_used <= sizeof early ? p : NULL;
}

static bool is_early(const void *p)
{
    return (const char *)p >= early && (const char *)p < early + sizeof early;
}

static void look_up(void)
{
    static const char *const name[] = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "free"};
    void *found[6];
    if (real.free)
        return;
    looking = true;
    for (int i = 0; i < 6; i++)
        found[i] = dlsym(RTLD_NEXT, name[i]);
    memcpy(&real, found, sizeof real);
    looking = false;
}

/* false: this one fails */
static bool count_one(void)
{
    atomic_fetch_add(&allocations, 1);
    if (fail_in >= 0 && fail_in-- == 0) {
        failed_one = true;
        errno = ENOMEM;
        return false;
    }
    atomic_fetch_add(&live, 1);
    return true;
}

void *malloc(size_t bytes)
{
    if (looking)
        return early_alloc(bytes);
    look_up();
    return count_one() ? real.malloc(bytes) : NULL;
}

void *calloc(size_t n, size_t bytes)
{
    if (looking)
        return early_alloc(n * bytes);
    look_up();
    return count_one() ? real.calloc(n, bytes) : NULL;
}

void *realloc(void *p, size_t bytes)
{
    look_up();
    if (!count_one())
        return NULL;
    if (p)
        atomic_fetch_sub(&live, 1);
    return real.realloc(p, bytes);
}

int posix_memalign(void **p, size_t align, size_t bytes)
{
    look_up();
    return count_one() ? real.posix_memalign(p, align, bytes) : ENOMEM;
}

void *aligned_alloc(size_t align, size_t bytes)
{
    look_up();
    return count_one() ? real.aligned_alloc(align, bytes) : NULL;
}

void free(void *p)
{
    if (!p || is_early(p))
        return;
    atomic_fetch_sub(&live, 1);
    real.free(p);
}
#endif

static void skip_unless_counted(void)
{
    if (!COUNTED)
        skip();
}

static bool long_run(void)
{
    return getenv("RINGX_LONG") != NULL;
}

/* ---- no allocation while executing ---- */

typedef struct repeats {
    int count, ranks;
    pthread_barrier_t all; /* so that no rank counts what another one does outside */
    long counted;
} repeats;

static ringx_status execute_often(trial_rank *r)
{
    repeats *rep = r->trial->context;
    const ringx_problem *p = r->problem;
    ringx_args a = RINGX_ARGS_INIT;
    ringx_tensor *tensor[] = {&a.q, &a.k, &a.v, &a.out, &a.dout, &a.dq, &a.dk, &a.dv};
    size_t floats = (size_t)(p->batch * ringx_plan_local_tokens(r->plan) * p->q_heads * p->head_dim) + 1;
    for (int i = 0; i < 8; i++)
        tensor[i]->data = calloc(floats, sizeof(float));
    a.lse = calloc(floats, sizeof(float));
    a.workspace_bytes = ringx_plan_workspace(r->plan);
    if (posix_memalign(&a.workspace, 128, a.workspace_bytes + 128) != 0)
        abort();
    ringx_status status = RINGX_OK;
    for (int i = -2; i < rep->count && status == RINGX_OK; i++) { /* two to warm up: OpenMP makes its threads */
        if (i == 0 && pthread_barrier_wait(&rep->all) == PTHREAD_BARRIER_SERIAL_THREAD)
            rep->counted = -atomic_load(&allocations);
        if (i == 0)
            pthread_barrier_wait(&rep->all);
        status = ringx_forward(r->plan, &a);
        if (status == RINGX_OK)
            status = ringx_backward(r->plan, &a);
    }
    if (pthread_barrier_wait(&rep->all) == PTHREAD_BARRIER_SERIAL_THREAD)
        rep->counted += atomic_load(&allocations);
    pthread_barrier_wait(&rep->all);
    for (int i = 0; i < 8; i++)
        free(tensor[i]->data);
    free(a.lse);
    free(a.workspace);
    return status;
}

static void count_executes(const char *preset, const char *kernel, int ranks, int threads, int count)
{
    trial t;
    repeats rep = {.count = count, .ranks = ranks};
    trial_start(&t, ranks, preset);
    for (int r = 0; r < ranks; r++) {
        t.rank[r].own_options.kernel = kernel;
        t.rank[r].own_options.threads = threads;
        t.rank[r].own_options.ranks_per_node = ranks % 2 ? 0 : 2;
        t.rank[r].own_options.timeline = threads == 1;
        t.rank[r].own_problem.causal = true;
        t.rank[r].own_problem.dtype = threads == 1 ? RINGX_BF16 : RINGX_F32;
    }
    pthread_barrier_init(&rep.all, NULL, (unsigned)ranks);
    t.use = execute_often;
    t.context = &rep;
    trial_run(&t);
    expect_all(&t, RINGX_OK, NULL);
    trial_end(&t);
    pthread_barrier_destroy(&rep.all);
    if (rep.counted != 0)
        fail_msg("%s with %s, %d ranks, %d threads: %ld allocations in %d executes", preset, kernel, ranks, threads,
                 rep.counted, 2 * count);
}

static void a_thousand_executes_allocate_nothing(void **state)
{
    (void)state;
    skip_unless_counted();
    int executes = 0, count = long_run() ? 500 : 16;
    for (size_t k = 0; ringx_kernel_at(k); k++) {
        ringx_kernel_entry kernel = *ringx_kernel_at(k);
        if (kernel.device != RINGX_CPU || !kernel.available)
            continue;
        for (size_t i = 0; ringx_preset_at(i); i++) {
            count_executes(ringx_preset_at(i)->name, kernel.name, 1 + (int)(i + k) % 4, 1, count);
            count_executes(ringx_preset_at(i)->name, kernel.name, 1 + (int)(i + k + 1) % 4, 2, count / 2);
            executes += 3 * count;
        }
    }
    assert_true(executes >= 1000);
}

/* ---- an allocation that fails ---- */

typedef struct failing {
    int victim;
    long n;
    bool failed;
} failing;

static failing failure;

static void *failing_main(void *argument)
{
    trial_rank *r = argument;
    if (r->rank == failure.victim) {
        fail_in = failure.n;
        failed_one = false;
    }
    r->status = ringx_plan_create(&r->plan, r->problem, r->options, r->comm);
    fail_in = -1;
    if (r->rank == failure.victim)
        failure.failed = failed_one;
    snprintf(r->message, sizeof r->message, "%s", r->status == RINGX_OK ? "" : ringx_last_error());
    ringx_plan_destroy(r->plan);
    r->plan = NULL;
    return NULL;
}

/* Fails allocation n of one rank while it makes its plan; returns whether there were so many. */
static bool fail_allocation(const char *preset, int ranks, int victim, long n)
{
    trial t;
    ringx_comm *comms[TRIAL_RANKS];
    pthread_t thread[TRIAL_RANKS];
    char name[32];
    trial_start(&t, ranks, preset);
    assert_int_equal(ringx_comm_threads(ranks, comms), RINGX_OK);
    failure = (failing){.victim = victim, .n = n};
    for (int r = 0; r < ranks; r++) {
        t.rank[r].comm = comms[r];
        t.rank[r].own_options.timeline = true;
        t.rank[r].own_options.timeout = 20; /* nobody waits so long: it would end in RINGX_STALLED */
        t.rank[r].own_options.ranks_per_node = ranks % 2 ? 0 : 2;
        pthread_create(&thread[r], NULL, failing_main, &t.rank[r]);
    }
    for (int r = 0; r < ranks; r++)
        pthread_join(thread[r], NULL);
    snprintf(name, sizeof name, "rank %d", victim);
    for (int r = 0; r < ranks; r++) {
        if (!failure.failed)
            expect_rank(&t, r, RINGX_OK, NULL);
        else if (t.rank[r].status != RINGX_NO_MEMORY && t.rank[r].status != RINGX_PEER_DIED)
            fail_msg("%s: allocation %ld of rank %d failed; rank %d: %s: %s", preset, n, victim, r,
                     ringx_status_name(t.rank[r].status), t.rank[r].message);
        else if (r != victim && !strstr(t.rank[r].message, name))
            fail_msg("%s: allocation %ld of rank %d failed; rank %d says: %s", preset, n, victim, r, t.rank[r].message);
        ringx_comm_destroy(comms[r]);
    }
    return failure.failed;
}

static void an_allocation_that_fails_fails_all_and_loses_none(void **state)
{
    (void)state;
    skip_unless_counted();
    static const char *const presets[] = {"ringX3b", "usp", "ringX4o", "ringX2o", "zigzag"};
    int n_presets = long_run() ? 5 : 2;
    for (int i = 0; i < n_presets; i++) {
        int ranks = 4 - i / 2, victim = i % 3;
        for (int warm = 0; warm < 3; warm++)
            fail_allocation(presets[i], ranks, victim, 1000000);
        long n = 0, stride = long_run() ? 1 : 3;
        for (bool more = true; more; n += stride) {
            long before = 0;
            int grown = 0;
            for (int again = 0; again < 4; again++) {
                more = fail_allocation(presets[i], ranks, victim, n);
                long now = atomic_load(&live);
                grown += again > 0 && now > before; /* threads' stacks come and go, a leak is there every time */
                before = now;
            }
            if (grown == 3)
                fail_msg("%s: memory is lost when allocation %ld of rank %d fails", presets[i], n, victim);
        }
        assert_true(n > 10);
    }
}

/* ---- the workspace ---- */

static attention_case case_of(const char *preset, int ranks, int variant)
{
    attention_case c = {.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = ranks};
    c.problem.batch = 1 + variant % 2;
    c.problem.tokens = 37 + variant % 5;
    c.problem.kv_heads = 1 + variant % 3;
    c.problem.q_heads = c.problem.kv_heads * (1 + variant % 2);
    c.problem.head_dim = variant % 4 == 1 ? 17 : 16;
    c.problem.dtype = (ringx_dtype)(variant % 3);
    c.options.preset = preset;
    c.options.threads = 1;
    c.options.ranks_per_node = ranks % 2 ? 0 : 2;
    c.options.kernel = variant % 2 ? "cpu_ref" : NULL;
    c.gap = variant % 3;
    c.data_seed = (uint64_t)variant + 100;
    return c;
}

/* Between guards nothing is written beyond it (the harness sees to that); and its last bytes are used. */
static void the_workspace_is_as_promised(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 1; ranks <= 4; ranks++) {
            attention_case c = case_of(ringx_preset_at(i)->name, ranks, (int)i * 4 + ranks);
            c.options.kernel = "cpu_ref"; /* no scratch at the end */
            c.problem.causal = ranks == 2;
            case_run(&c);
            if (!case_right(&c))
                fail_msg("%s, %d ranks", ringx_preset_at(i)->name, ranks);
            if (c.workspace_unused >= 128) /* less is padding */
                fail_msg("%s, %d ranks: the last %zu of %zu bytes of a workspace were never written",
                         ringx_preset_at(i)->name, ranks, c.workspace_unused, c.workspace_bytes);
            case_free(&c);
        }
}

/* ---- what must not matter ---- */

static void expect_same(const attention_case *a, const attention_case *b, const char *what)
{
    for (int t = T_OUT; t < TENSORS; t++)
        for (size_t i = 0; t != T_DOUT && i < case_elements(&a->problem, t); i++)
            if (memcmp(&a->got[t][i], &b->got[t][i], sizeof(double)) != 0)
                fail_msg("%s, %d ranks: %s: element %zu of %s is %g or %g", a->options.preset, a->ranks, what, i,
                         tensor_name[t], a->got[t][i], b->got[t][i]);
}

static void scratch_and_gaps_do_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 1; ranks <= 4; ranks++) {
            attention_case nan = case_of(ringx_preset_at(i)->name, ranks, (int)i * 3 + ranks), zero = nan;
            nan.problem.causal = zero.problem.causal = ranks % 2;
            zero.zeroed = true;
            case_run(&nan);
            case_run(&zero);
            assert_true(case_right(&nan) && case_right(&zero));
            expect_same(&nan, &zero, "NaN or 0 in scratch, gaps and outputs");
            case_free(&nan);
            case_free(&zero);
        }
}

static const int64_t bounds[] = {3, 11, 11, 30}; /* padding before and after, and an empty document */

static double *row_of(attention_case *c, int t, int64_t b, int64_t token, int64_t head)
{
    int64_t heads = case_heads(&c->problem, t), dim = case_dim(&c->problem, t);
    return c->want[t] + ((b * c->problem.tokens + token) * heads + head) * dim;
}

static void fill_row(attention_case *c, int t, int64_t token, int64_t head, double x)
{
    for (int64_t b = 0; b < c->problem.batch; b++)
        for (int64_t i = 0; i < case_dim(&c->problem, t); i++)
            row_of(c, t, b, token, head)[i] = x;
}

static void fill_padding(attention_case *c)
{
    static const int inputs[] = {T_Q, T_K, T_V, T_DOUT};
    const double *x = c->context;
    for (int i = 0; i < 4; i++)
        for (int64_t token = 0; token < c->problem.tokens; token++)
            for (int64_t h = 0; h < case_heads(&c->problem, inputs[i]); h++)
                if (token < bounds[0] || token >= bounds[3])
                    fill_row(c, inputs[i], token, h, *x);
}

static void padding_does_not_matter(void **state)
{
    (void)state;
    static double fills[] = {0, NAN, INFINITY};
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 1; ranks <= 4; ranks++) {
            attention_case c[3];
            for (int k = 0; k < 3; k++) {
                c[k] = case_of(ringx_preset_at(i)->name, ranks, (int)i * 3 + ranks);
                c[k].problem.document_starts = bounds;
                c[k].problem.documents = 3;
                c[k].problem.causal = ranks % 2;
                c[k].alter = fill_padding;
                c[k].context = &fills[k];
                case_run(&c[k]);
                assert_true(case_right(&c[k]));
                if (k > 0)
                    expect_same(&c[0], &c[k], "0, NaN or infinity in padding");
            }
            for (int k = 0; k < 3; k++)
                case_free(&c[k]);
        }
}

/* ---- a NaN reaches exactly what depends on it ---- */

typedef struct spot {
    int tensor;
    int64_t token, head;
} spot;

static void put_nan(attention_case *c)
{
    const spot *s = c->context;
    fill_row(c, s->tensor, s->token, s->head, NAN);
}

/* The oracle evaluates the definition pair by pair: where it has NaN there must be NaN, and elsewhere the bits of a run
 * without. */
static void expect_spread(const attention_case *c, const attention_case *clean)
{
    const spot *s = c->context;
    for (int r = 0; r < c->ranks; r++)
        assert_int_equal(c->status[r], RINGX_OK);
    for (int t = T_OUT; t < TENSORS; t++)
        for (size_t i = 0; t != T_DOUT && i < case_elements(&c->problem, t); i++) {
            bool want = isnan(c->want[t][i]), got = isnan(c->got[t][i]);
            if (want != got || (!want && c->got[t][i] != clean->got[t][i]))
                fail_msg("%s, %s, %d ranks: NaN in %s at token %lld, head %lld: element %zu of %s is %g, without %g%s",
                         c->options.preset, c->options.kernel ? c->options.kernel : "best", c->ranks,
                         tensor_name[s->tensor], (long long)s->token, (long long)s->head, i, tensor_name[t],
                         c->got[t][i], clean->got[t][i], want ? "; it depends on it" : "");
        }
}

static void nan_reaches_what_depends_on_it(void **state)
{
    (void)state;
    static const int inputs[] = {T_Q, T_K, T_V, T_DOUT};
    int stride = long_run() ? 1 : 7, variant = 0;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int mask = 0; mask < 3; mask++, variant++) {
            attention_case clean = case_of(ringx_preset_at(i)->name, 3, variant);
            clean.problem.causal = mask > 0;
            clean.problem.window_left = mask == 2 ? 9 : -1;
            clean.problem.kv_heads = 2;
            clean.problem.q_heads = 4;
            clean.problem.batch = 1;
            case_run(&clean);
            assert_true(case_right(&clean));
            for (int64_t token = variant % stride; token < clean.problem.tokens; token += stride) {
                attention_case c = clean;
                int t = inputs[(token / stride + variant) % 4];
                spot s = {t, token, token % case_heads(&c.problem, t)};
                c.alter = put_nan;
                c.context = &s;
                case_run(&c);
                expect_spread(&c, &clean);
                case_free(&c);
            }
            case_free(&clean);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_thousand_executes_allocate_nothing),
                                       cmocka_unit_test(an_allocation_that_fails_fails_all_and_loses_none),
                                       cmocka_unit_test(the_workspace_is_as_promised),
                                       cmocka_unit_test(scratch_and_gaps_do_not_matter),
                                       cmocka_unit_test(padding_does_not_matter),
                                       cmocka_unit_test(nan_reaches_what_depends_on_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
