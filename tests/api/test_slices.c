/* SPDX-License-Identifier: MIT */
/* Slices change no bit; they shrink the workspace as promised and spread the work; a workspace limit is met, or refused
 * with the smallest that would fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/attention_case.h"
#include "api/plan_trial.h"

/* ---- results ---- */

static attention_case case_of(const char *preset, int ranks, int variant)
{
    attention_case c = {.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = ranks};
    c.problem.batch = 1 + variant % 2;
    c.problem.tokens = 67;
    c.problem.kv_heads = variant % 3 == 1 ? 3 : 4;
    c.problem.q_heads = c.problem.kv_heads * (variant % 2 ? 3 : 2);
    c.problem.head_dim = 12;
    c.problem.value_dim = variant % 3 == 2 ? 5 : 0;
    c.problem.causal = variant % 4 != 3;
    c.problem.window_left = variant % 4 == 2 ? 20 : -1;
    c.problem.dtype = (ringx_dtype)(variant % 3);
    c.problem.dropout = variant % 2 ? 0.2 : 0;
    c.options.preset = preset;
    c.options.threads = 1;
    c.options.ranks_per_node = ranks % 2 ? 0 : 2;
    c.options.kernel = variant % 5 == 4 ? "cpu_ref" : NULL;
    c.data_seed = (uint64_t)variant + 1;
    return c;
}

/* Runs with some slices; the results must be right, and those of `first` to the bit. */
static void run_slices(attention_case *c, int slices, const attention_case *first)
{
    c->options.slices = slices;
    case_run(c);
    if (!case_right(c))
        fail_msg("%s, %d ranks, %d slices: wrong", c->options.preset, c->ranks, slices);
    for (int t = 0; first && t < TENSORS; t++)
        if (memcmp(c->got[t], first->got[t], case_elements(&c->problem, t) * sizeof(double)) != 0)
            fail_msg("%s, %d ranks: %s in %d slices differs from that in one", c->options.preset, c->ranks,
                     tensor_name[t], slices);
}

static void slices_change_no_bit(void **state)
{
    (void)state;
    int variant = 0;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 1; ranks <= 5; ranks++, variant++) {
            attention_case one = case_of(ringx_preset_at(i)->name, ranks, variant);
            run_slices(&one, 1, NULL);
            for (int slices = 2; slices <= one.problem.kv_heads; slices++) {
                attention_case c = case_of(ringx_preset_at(i)->name, ranks, variant);
                run_slices(&c, slices, &one);
                case_free(&c);
            }
            case_free(&one);
        }
}

/* ---- workspace and work ---- */

static ringx_problem wide_problem(int kv_heads)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 1;
    p.tokens = 2048;
    p.kv_heads = kv_heads;
    p.q_heads = 2 * kv_heads;
    p.head_dim = 64;
    p.dtype = RINGX_BF16;
    p.causal = true;
    return p;
}

typedef struct figures { /* of all ranks */
    size_t workspace;
    double least_flops, most_flops;
} figures;

static figures study(const ringx_problem *p, const char *preset, int ranks, int slices)
{
    ringx_options o = RINGX_OPTIONS_INIT;
    ringx_study *s;
    figures f = {0, INFINITY, 0};
    o.preset = preset;
    o.slices = slices;
    o.threads = 1;
    o.ranks_per_node = ranks % 2 ? 0 : 2;
    o.kernel = "cpu_ref"; /* needs no scratch of its own */
    assert_int_equal(ringx_study_create(&s, p, &o, ranks), RINGX_OK);
    for (int r = 0; r < ranks; r++) {
        ringx_plan_info info;
        assert_int_equal(ringx_study_describe(s, r, &info), RINGX_OK);
        double flops = info.forward.flops + info.backward.flops;
        f.workspace = info.workspace_bytes > f.workspace ? info.workspace_bytes : f.workspace;
        f.least_flops = flops < f.least_flops ? flops : f.least_flops;
        f.most_flops = flops > f.most_flops ? flops : f.most_flops;
    }
    ringx_study_destroy(s);
    return f;
}

/* Bound: lookahead + 1 slices of everything, and what slices share (delta, small beside the rest).  headswap cannot go
 * below one kv head a rank; it must not grow. */
static void slices_shrink_the_workspace(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++) {
        const ringx_preset_entry *preset = ringx_preset_at(i);
        bool headswap = strcmp(preset->algorithm, "headswap") == 0;
        ringx_problem p = wide_problem(8);
        for (int ranks = 2; ranks <= 4; ranks++) {
            figures before = study(&p, preset->name, ranks, 1);
            double one = (double)before.workspace;
            for (int slices = 2; slices <= 8; slices *= 2) {
                figures f = study(&p, preset->name, ranks, slices);
                double most = headswap ? 1.001 : fmin(1.001, (1.0 + preset->lookahead) / slices + 0.05);
                if ((double)f.workspace > most * one)
                    fail_msg("%s, %d ranks: %zu bytes in %d slices, %zu in one", preset->name, ranks, f.workspace,
                             slices, (size_t)one);
                if (!headswap && (double)f.workspace > (double)before.workspace * 1.001)
                    fail_msg("%s, %d ranks: %zu bytes in %d slices, more than in half as many", preset->name, ranks,
                             f.workspace, slices);
                before = f;
            }
        }
    }
}

/* Ranks that share heads may differ by one unit of them: a kv head with its queries, or a part of one. */
static void slices_spread_the_work(void **state)
{
    (void)state;
    for (int kv_heads = 1; kv_heads <= 9; kv_heads += kv_heads < 4 ? 1 : 2)
        for (int ranks = 2; ranks <= 6; ranks++) {
            ringx_problem p = wide_problem(kv_heads);
            p.causal = false;
            figures whole = study(&p, "ring", 1, 1);
            for (int slices = 0; slices <= kv_heads; slices++) {
                figures f = study(&p, "ulysses", ranks, slices);
                int parts = (ranks + kv_heads - 1) / kv_heads; /* of a kv head's two query heads */
                double unit = whole.most_flops / (kv_heads * (parts < 2 ? parts : 2));
                if (f.most_flops - f.least_flops > unit * 1.0001)
                    fail_msg("%d kv heads, %d ranks, %d slices: %g to %g flops", kv_heads, ranks, slices, f.least_flops,
                             f.most_flops);
                f = study(&p, "ringX3", ranks, slices); /* by tokens */
                assert_true(f.most_flops < 1.01 * f.least_flops);
            }
        }
}

/* ---- limits ---- */

typedef struct limits {
    size_t workspace[TRIAL_RANKS]; /* what each rank's plan needs */
    int slices;
} limits;

static ringx_status note_workspace(trial_rank *r)
{
    limits *l = r->trial->context;
    ringx_plan_info info;
    ringx_plan_describe(r->plan, &info);
    l->workspace[r->rank] = ringx_plan_workspace(r->plan);
    if (r->rank == 0)
        l->slices = info.slices;
    return info.workspace_bytes == l->workspace[r->rank] ? RINGX_OK : RINGX_INTERNAL;
}

/* Plans with a limit on all ranks, or on one; returns whether there is a plan. */
static bool plan_within(const char *preset, int ranks, int kv_heads, int slices, size_t limit, int only, limits *l,
                        char *message)
{
    trial t;
    trial_start(&t, ranks, preset);
    for (int r = 0; r < ranks; r++) {
        t.rank[r].own_problem = wide_problem(kv_heads);
        t.rank[r].own_problem.tokens = 205;
        t.rank[r].own_options.slices = slices;
        t.rank[r].own_options.workspace_limit = only < 0 || only == r ? limit : 0;
        t.rank[r].own_options.ranks_per_node = ranks % 2 ? 0 : 2;
    }
    t.use = note_workspace;
    t.context = l;
    memset(l, 0, sizeof *l);
    trial_run(&t);
    bool made = t.rank[0].status == RINGX_OK;
    for (int r = 0; r < ranks; r++) {
        expect_rank(&t, r, made ? RINGX_OK : RINGX_NO_MEMORY, made ? NULL : "needs at least ");
        if (made && limit && (only < 0 || only == r))
            assert_true(l->workspace[r] <= limit);
    }
    snprintf(message, TRIAL_TEXT, "%s", t.rank[0].message);
    trial_end(&t);
    return made;
}

static size_t number_after(const char *text, const char *words)
{
    const char *at = strstr(text, words);
    assert_non_null(at);
    return (size_t)strtoull(at + strlen(words), NULL, 10);
}

static void a_limit_is_met_or_refused_with_the_smallest(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 2; ranks <= 4; ranks++) {
            const char *preset = ringx_preset_at(i)->name;
            int kv_heads = 3 + (int)i % 3;
            limits l;
            char message[TRIAL_TEXT];
            assert_false(plan_within(preset, ranks, kv_heads, 0, 1, -1, &l, message));
            size_t smallest = number_after(message, "needs at least ");
            assert_non_null(strstr(message, "workspace_limit is 1 bytes"));
            if (!plan_within(preset, ranks, kv_heads, 0, smallest, -1, &l, message))
                fail_msg("%s, %d ranks: %zu bytes do not fit: %s", preset, ranks, smallest, message);
            assert_false(plan_within(preset, ranks, kv_heads, 0, smallest - 1, -1, &l, message));
            assert_int_equal(number_after(message, "needs at least "), smallest);
            for (int slices = 1; slices <= kv_heads; slices++) { /* no number of slices does with less */
                size_t most = 0;
                assert_true(plan_within(preset, ranks, kv_heads, slices, SIZE_MAX, -1, &l, message));
                assert_int_equal(l.slices, slices);
                for (int r = 0; r < ranks; r++)
                    most = l.workspace[r] > most ? l.workspace[r] : most;
                if (most < smallest)
                    fail_msg("%s, %d ranks: %d slices need %zu, less than %zu", preset, ranks, slices, most, smallest);
                if (slices == 1 && most > smallest) { /* with slices given, they are kept or refused */
                    assert_false(plan_within(preset, ranks, kv_heads, 1, most - 1, -1, &l, message));
                    assert_int_equal(number_after(message, "needs at least "), most);
                }
            }
        }
}

/* The limit of one rank binds all: they run in equally many slices. */
static void the_limit_of_one_rank_binds_all(void **state)
{
    (void)state;
    for (int only = 0; only < 3; only++) {
        limits free_choice, l;
        char message[TRIAL_TEXT];
        assert_true(plan_within("ringX4o", 3, 4, 0, 0, -2, &free_choice, message));
        assert_int_equal(free_choice.slices, 1);
        assert_true(plan_within("ringX4o", 3, 4, 0, free_choice.workspace[only] - 1, only, &l, message));
        assert_true(l.slices > 1);
        for (int r = 0; r < 3; r++)
            assert_true(l.workspace[r] < free_choice.workspace[r]);
        assert_false(plan_within("ringX4o", 3, 4, 0, 1, only, &l, message));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_change_no_bit), cmocka_unit_test(slices_shrink_the_workspace),
        cmocka_unit_test(slices_spread_the_work), cmocka_unit_test(a_limit_is_met_or_refused_with_the_smallest),
        cmocka_unit_test(the_limit_of_one_rank_binds_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
