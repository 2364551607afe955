/* SPDX-License-Identifier: MIT */
/* What must follow when inputs change in a known way: no oracle is needed to see that it does not.  And the oracle's
 * own gradients are those of its forward. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/attention_case.h"

static attention_case case_of(const char *preset, int ranks, int variant)
{
    attention_case c = {.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = ranks};
    c.problem.batch = 2;
    c.problem.tokens = 53;
    c.problem.kv_heads = 2;
    c.problem.q_heads = 4;
    c.problem.head_dim = variant % 2 ? 16 : 11;
    c.problem.dtype = (ringx_dtype)(variant % 3);
    c.problem.causal = true;
    c.options.preset = preset;
    c.options.threads = 1;
    c.options.ranks_per_node = ranks % 2 ? 0 : 2;
    c.options.kernel = variant % 4 == 3 ? "cpu_ref" : NULL;
    c.data_seed = (uint64_t)variant + 7;
    return c;
}

static double *value(attention_case *c, int t, int64_t b, int64_t token, int64_t head, int64_t i)
{
    int64_t heads = case_heads(&c->problem, t), dim = case_dim(&c->problem, t);
    return c->want[t] + ((b * c->problem.tokens + token) * heads + head) * dim + i;
}

static void run(attention_case *c)
{
    case_run(c);
    for (int r = 0; r < c->ranks; r++)
        if (c->status[r] != RINGX_OK)
            fail_msg("%s, rank %d: %s", c->options.preset, r, c->message[r]);
}

static bool long_run(void)
{
    return getenv("RINGX_LONG") != NULL;
}

/* Runs the check with every preset, several numbers of ranks, all dtypes; if not long, one of those for each preset. */
static void everywhere(void (*check)(const char *preset, int ranks, int variant))
{
    int variant = 0;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 2; ranks <= 4; ranks++, variant++)
            if (long_run() || ranks == 2 + (int)(i / 2) % 3)
                check(ringx_preset_at(i)->name, ranks, variant);
}

/* Elements of both results that `concerned` picks are the same bits. */
static void expect_same(const attention_case *a, const attention_case *b, const char *what, int first, int last,
                        bool (*concerned)(int t, int64_t b, int64_t token, int64_t head))
{
    const ringx_problem *p = &a->problem;
    for (int t = first; t <= last; t++) {
        int64_t heads = case_heads(p, t), dim = case_dim(p, t);
        for (int64_t i = 0; t != T_DOUT && i < (int64_t)case_elements(p, t); i++) {
            int64_t row = i / dim, batch = row / (p->tokens * heads);
            int64_t token = t == T_LSE ? row % p->tokens : row / heads % p->tokens;
            int64_t head = t == T_LSE ? row / p->tokens % heads : row % heads;
            if (concerned(t, batch, token, head) && memcmp(&a->got[t][i], &b->got[t][i], sizeof(double)) != 0)
                fail_msg("%s, %d ranks, %s: %s of batch %lld, token %lld, head %lld: %.9g and %.9g", a->options.preset,
                         a->ranks, what, tensor_name[t], (long long)batch, (long long)token, (long long)head,
                         a->got[t][i], b->got[t][i]);
        }
    }
}

static bool everything(int t, int64_t b, int64_t token, int64_t head)
{
    (void)t, (void)b, (void)token, (void)head;
    return true;
}

/* ---- ranks and presets ---- */

static void results_do_not_depend_on_ranks_and_presets(void **state)
{
    (void)state;
    for (int variant = 0; variant < 3; variant++) {
        attention_case one = case_of("ring", 1, variant);
        run(&one);
        for (size_t i = 0; ringx_preset_at(i); i++)
            for (int ranks = 2; ranks <= 7; ranks++) {
                if (!long_run() && ranks != 2 + (int)(i + 2 * (size_t)variant) % 6)
                    continue;
                attention_case c = case_of(ringx_preset_at(i)->name, ranks, variant);
                c.like = &one;
                run(&c);
                for (int t = T_OUT; t < TENSORS; t++) {
                    memcpy(c.want[t], one.got[t], case_elements(&c.problem, t) * sizeof(double));
                    if (t != T_DOUT && !(case_error(&c, t) <= case_tolerance(c.problem.dtype, t)))
                        fail_msg("%s, %d ranks: %s differs by %g from one rank's", c.options.preset, ranks,
                                 tensor_name[t], case_error(&c, t));
                }
                case_free(&c);
            }
        case_free(&one);
    }
}

/* ---- time runs forward ---- */

enum { CUT = 23 };

static void change_the_future(attention_case *c)
{
    static const int inputs[] = {T_Q, T_K, T_V, T_DOUT};
    for (int k = 0; k < 4; k++)
        for (int64_t b = 0; b < c->problem.batch; b++)
            for (int64_t token = CUT; token < c->problem.tokens; token++)
                for (int64_t h = 0; h < case_heads(&c->problem, inputs[k]); h++)
                    for (int64_t i = 0; i < case_dim(&c->problem, inputs[k]); i++)
                        *value(c, inputs[k], b, token, h, i) *= -1.5;
}

static bool past(int t, int64_t b, int64_t token, int64_t head)
{
    (void)b, (void)head;
    return token < CUT && t != T_DK && t != T_DV; /* gradients of keys come from later queries */
}

static void check_past(const char *preset, int ranks, int variant)
{
    attention_case a = case_of(preset, ranks, variant), b = a;
    b.alter = change_the_future;
    run(&a);
    run(&b);
    expect_same(&a, &b, "the past under another future", T_OUT, T_LSE, past);
    case_free(&a);
    case_free(&b);
}

static void the_past_does_not_see_the_future(void **state)
{
    (void)state;
    everywhere(check_past);
}

/* ---- batches and heads ---- */

static void change_one_head(attention_case *c)
{
    for (int64_t token = 0; token < c->problem.tokens; token++)
        for (int64_t i = 0; i < case_dim(&c->problem, T_K); i++) {
            *value(c, T_K, 1, token, 0, i) *= 3;
            *value(c, T_V, 1, token, 0, i) *= -2;
            *value(c, T_Q, 1, token, 1, i) *= 0.25;
            *value(c, T_DOUT, 1, token, 1, i) *= 5;
        }
}

static bool other_heads(int t, int64_t b, int64_t token, int64_t head)
{
    (void)token;
    int64_t kv = t == T_DK || t == T_DV ? head : head / 2;
    return b != 1 || kv != 0;
}

static void check_heads(const char *preset, int ranks, int variant)
{
    attention_case a = case_of(preset, ranks, variant), b = a;
    b.alter = change_one_head;
    run(&a);
    run(&b);
    expect_same(&a, &b, "other heads and batches", T_OUT, T_LSE, other_heads);
    case_free(&a);
    case_free(&b);
}

static void heads_and_batches_do_not_touch(void **state)
{
    (void)state;
    everywhere(check_heads);
}

/* ---- linear in V and in dO ---- */

static void double_values(attention_case *c)
{
    for (size_t i = 0; i < case_elements(&c->problem, T_V); i++)
        c->want[T_V][i] *= 2;
}

static void double_dout(attention_case *c)
{
    for (size_t i = 0; i < case_elements(&c->problem, T_DOUT); i++)
        c->want[T_DOUT][i] *= 2;
}

/* Twice is exact in every dtype, so it goes through to the bit. */
static void check_twice(const char *preset, int ranks, int variant)
{
    attention_case a = case_of(preset, ranks, variant), v, d;
    if (a.problem.dtype == RINGX_F16) /* its smallest values have fewer bits */
        a.problem.dtype = RINGX_F32;
    v = d = a;
    v.alter = double_values;
    d.alter = double_dout;
    run(&a);
    run(&v);
    run(&d);
    for (size_t i = 0; i < case_elements(&a.problem, T_OUT); i++)
        a.got[T_OUT][i] *= 2;
    expect_same(&a, &v, "twice V", T_OUT, T_OUT, everything);
    expect_same(&a, &v, "twice V", T_LSE, T_LSE, everything);
    expect_same(&a, &v, "twice V", T_DV, T_DV, everything);
    for (size_t i = 0; i < case_elements(&a.problem, T_OUT); i++)
        a.got[T_OUT][i] /= 2;
    for (int t = T_DQ; t <= T_DV; t++)
        for (size_t i = 0; i < case_elements(&a.problem, t); i++)
            a.got[t][i] *= 2;
    expect_same(&a, &d, "twice dO", T_OUT, T_LSE, everything);
    case_free(&a);
    case_free(&v);
    case_free(&d);
}

static void twice_gives_twice(void **state)
{
    (void)state;
    everywhere(check_twice);
}

static void one_in_the_first_column(attention_case *c)
{
    for (int64_t b = 0; b < c->problem.batch; b++)
        for (int64_t token = 0; token < c->problem.tokens; token++)
            for (int64_t h = 0; h < c->problem.kv_heads; h++)
                *value(c, T_V, b, token, h, 0) = 1;
}

static const int64_t bounds[] = {2, 20, 20, 50};

/* Weights sum to one, on every row that sees a key. */
static void check_ones(const char *preset, int ranks, int variant)
{
    attention_case c = case_of(preset, ranks, variant);
    c.problem.document_starts = bounds;
    c.problem.documents = 3;
    c.problem.window_left = variant % 2 ? 6 : -1;
    c.alter = one_in_the_first_column;
    run(&c);
    for (int64_t b = 0; b < c.problem.batch; b++)
        for (int64_t token = 0; token < c.problem.tokens; token++)
            for (int64_t h = 0; h < c.problem.q_heads; h++) {
                int64_t row = (b * c.problem.tokens + token) * c.problem.q_heads + h;
                double one = token >= bounds[0] && token < bounds[3];
                if (!(fabs(c.got[T_OUT][row * c.problem.head_dim] - one) <= 5e-7))
                    fail_msg("%s, %d ranks: weights of token %lld sum to %.9g", preset, ranks, (long long)token,
                             c.got[T_OUT][row * c.problem.head_dim]);
            }
    case_free(&c);
}

static void weights_sum_to_one(void **state)
{
    (void)state;
    everywhere(check_ones);
}

/* ---- shifted logits, permuted keys ---- */

static const double shift = 3.0;

static void column_of_ones(attention_case *c)
{
    const double *k = c->context;
    for (int64_t b = 0; b < c->problem.batch; b++)
        for (int64_t token = 0; token < c->problem.tokens; token++) {
            for (int64_t h = 0; h < c->problem.q_heads; h++)
                *value(c, T_Q, b, token, h, 0) = 1;
            for (int64_t h = 0; h < c->problem.kv_heads; h++)
                *value(c, T_K, b, token, h, 0) = *k;
        }
}

/* The same number added to all logits of a row changes nothing but its lse. */
static void check_shift(const char *preset, int ranks, int variant)
{
    static double none = 0, some = shift;
    attention_case a = case_of(preset, ranks, variant), b;
    a.problem.scale = 0.5;
    a.alter = column_of_ones;
    b = a;
    a.context = &none;
    b.context = &some;
    run(&a);
    run(&b);
    for (size_t i = 0; i < case_elements(&a.problem, T_LSE); i++)
        a.got[T_LSE][i] += 0.5 * shift;
    for (int t = T_OUT; t < TENSORS; t++) {
        memcpy(b.want[t], a.got[t], case_elements(&a.problem, t) * sizeof(double));
        if (t != T_DOUT && t != T_DQ && !(case_error(&b, t) <= case_tolerance(b.problem.dtype, t)))
            fail_msg("%s, %d ranks: %s changes by %g", preset, ranks, tensor_name[t], case_error(&b, t));
    }
    case_free(&a);
    case_free(&b);
}

static void shifted_logits_change_only_lse(void **state)
{
    (void)state;
    everywhere(check_shift);
}

static int64_t permuted(const attention_case *c, int64_t token)
{
    return token * 20 % c->problem.tokens; /* 53 is prime */
}

static void permute_keys(attention_case *c)
{
    for (int t = T_K; t <= T_V; t++) {
        size_t bytes = case_elements(&c->problem, t) * sizeof(double);
        double *before = malloc(bytes);
        memcpy(before, c->want[t], bytes);
        size_t row = (size_t)(c->problem.kv_heads * case_dim(&c->problem, t));
        for (int64_t b = 0; b < c->problem.batch; b++)
            for (int64_t token = 0; token < c->problem.tokens; token++)
                memcpy(value(c, t, b, permuted(c, token), 0, 0), before + (size_t)(b * c->problem.tokens + token) * row,
                       row * sizeof(double));
        free(before);
    }
}

static void check_permutation(const char *preset, int ranks, int variant)
{
    attention_case a = case_of(preset, ranks, variant), b;
    a.problem.causal = false;
    b = a;
    b.alter = permute_keys;
    run(&a);
    run(&b);
    for (int t = T_OUT; t < TENSORS; t++) {
        size_t row = (size_t)(case_heads(&a.problem, t) * case_dim(&a.problem, t));
        for (int64_t i = 0; (t == T_DK || t == T_DV) && i < a.problem.batch * a.problem.tokens; i++)
            memcpy(value(&b, t, i / a.problem.tokens, permuted(&b, i % a.problem.tokens), 0, 0),
                   a.got[t] + (size_t)i * row, row * sizeof(double));
        if (t != T_DK && t != T_DV)
            memcpy(b.want[t], a.got[t], case_elements(&a.problem, t) * sizeof(double));
        if (t != T_DOUT && !(case_error(&b, t) <= case_tolerance(b.problem.dtype, t)))
            fail_msg("%s, %d ranks: %s changes by %g", preset, ranks, tensor_name[t], case_error(&b, t));
    }
    case_free(&a);
    case_free(&b);
}

static void the_order_of_keys_does_not_matter(void **state)
{
    (void)state;
    everywhere(check_permutation);
}

/* ---- from run to run, for any number of threads ---- */

static void the_same_bits_every_time(void **state)
{
    (void)state;
    int variant = 0;
    for (size_t i = 0; ringx_preset_at(i); i++, variant++)
        for (int ranks = 1; ranks <= 3; ranks += 2) {
            if (!long_run() && ranks == 1 && i % 5)
                continue;
            attention_case first = case_of(ringx_preset_at(i)->name, ranks, variant);
            first.problem.tokens = 150; /* more than a tile */
            first.problem.dropout = variant % 2 ? 0.25 : 0;
            run(&first);
            for (int again = 0; again < (long_run() ? 7 : 5); again++) {
                attention_case c = first;
                c.like = &first;
                c.options.threads = again < 4 ? again + 1 : 2; /* 1 … 4, and 2 again */
                run(&c);
                expect_same(&first, &c, "another run", T_OUT, T_LSE, everything);
                case_free(&c);
            }
            case_free(&first);
        }
}

/* ---- the oracle ---- */

typedef struct oracle_case {
    ringx_problem p;
    double *at[TENSORS];
} oracle_case;

static double loss(oracle_case *o)
{
    ringx_reference_tensors r = {.q = o->at[T_Q], .k = o->at[T_K], .v = o->at[T_V], .out = o->at[T_OUT]};
    assert_int_equal(ringx_reference(&o->p, &r), RINGX_OK);
    double sum = 0;
    for (size_t i = 0; i < case_elements(&o->p, T_OUT); i++)
        sum += o->at[T_OUT][i] * o->at[T_DOUT][i];
    return sum;
}

static void check_oracle(int variant)
{
    static const int input[] = {T_Q, T_K, T_V}, gradient[] = {T_DQ, T_DK, T_DV};
    oracle_case o = {.p = RINGX_PROBLEM_INIT};
    o.p.batch = 2;
    o.p.tokens = 9;
    o.p.kv_heads = 2;
    o.p.q_heads = 4;
    o.p.head_dim = 3;
    o.p.value_dim = variant % 2 ? 2 : 0;
    o.p.causal = variant & 1;
    o.p.window_left = variant & 2 ? 3 : -1;
    o.p.softcap = variant & 4 ? 0.7 : 0;
    o.p.dropout = variant & 8 ? 0.4 : 0;
    static const int64_t some[] = {1, 5, 5, 8};
    o.p.document_starts = some;
    o.p.documents = variant & 16 ? 3 : 0;
    for (int t = 0; t < TENSORS; t++) {
        o.at[t] = malloc((case_elements(&o.p, t) + 1) * sizeof(double));
        for (size_t i = 0; i < case_elements(&o.p, t); i++)
            o.at[t][i] = case_random((uint64_t)(variant * TENSORS + t), i);
    }
    ringx_reference_tensors r = {o.at[T_Q],   o.at[T_K],  o.at[T_V],  o.at[T_DOUT], o.at[T_OUT],
                                 o.at[T_LSE], o.at[T_DQ], o.at[T_DK], o.at[T_DV]};
    assert_int_equal(ringx_reference(&o.p, &r), RINGX_OK);
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < case_elements(&o.p, input[k]); i += 5) {
            double *x = &o.at[input[k]][i], before = *x, h = 1e-5;
            *x = before + h;
            double up = loss(&o);
            *x = before - h;
            double down = loss(&o);
            *x = before;
            if (!(fabs((up - down) / (2 * h) - o.at[gradient[k]][i]) <= 1e-8))
                fail_msg("variant %d: %s[%zu] is %.12g, the difference %.12g", variant, tensor_name[gradient[k]], i,
                         o.at[gradient[k]][i], (up - down) / (2 * h));
        }
    for (int t = 0; t < TENSORS; t++)
        free(o.at[t]);
}

static void the_gradients_of_the_oracle_are_differences(void **state)
{
    (void)state;
    for (int variant = 0; variant < 32; variant++)
        check_oracle(variant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(results_do_not_depend_on_ranks_and_presets),
                                       cmocka_unit_test(the_past_does_not_see_the_future),
                                       cmocka_unit_test(heads_and_batches_do_not_touch),
                                       cmocka_unit_test(twice_gives_twice),
                                       cmocka_unit_test(weights_sum_to_one),
                                       cmocka_unit_test(shifted_logits_change_only_lse),
                                       cmocka_unit_test(the_order_of_keys_does_not_matter),
                                       cmocka_unit_test(the_same_bits_every_time),
                                       cmocka_unit_test(the_gradients_of_the_oracle_are_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
