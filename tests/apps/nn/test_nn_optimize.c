/* SPDX-License-Identifier: MIT */
/* Optimizers against a naive reference in double, over several steps; norms, clipping, shards of a tensor. */
#include "nn/formulas.h"
#include "nn_case.h"

#include <omp.h>

enum { STEPS = 5, MOST = 70001 };

typedef struct state_of {
    float weight[MOST], m[MOST], v[MOST], gradient[MOST];
} state_of;

typedef struct exact_state {
    double weight[MOST], m[MOST], v[MOST], u[MOST];
} exact_state;

static state_of found;
static exact_state right;

static nn_update update_of(int64_t first, int64_t count, int64_t step)
{
    return (nn_update){.count = count,
                       .weight = found.weight + first,
                       .m = found.m + first,
                       .v = found.v + first,
                       .gradient = found.gradient + first,
                       .gradient_scale = 0.5,
                       .lr = 0.01 / (double)step,
                       .beta1 = 0.9,
                       .beta2 = 0.95,
                       .eps = 1e-3,
                       .decay = 0.1,
                       .step = step,
                       .decoupled = true};
}

static void begin(int64_t count)
{
    memset(&right, 0, sizeof right);
    poison(&found, sizeof found);
    random_fill(RINGX_F32, fresh_key(), 0, 1, found.weight, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        right.weight[i] = (double)found.weight[i], found.m[i] = found.v[i] = 0;
}

static void fresh_gradient(int64_t count)
{
    random_fill(RINGX_F32, fresh_key(), 0, 1, found.gradient, (size_t)count);
}

static void assert_weights(int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        assert_near((double)found.weight[i], right.weight[i], 1e-6, "weight", i);
    for (int64_t i = count; i < count + 3 && i < MOST; i++)
        assert_true(isnan(found.weight[i]) && isnan(found.m[i]) && isnan(found.v[i])); /* left alone */
}

static void moments(const nn_update *u, int64_t i, double g)
{
    right.m[i] = u->beta1 * right.m[i] + (1 - u->beta1) * g;
    right.v[i] = u->beta2 * right.v[i] + (1 - u->beta2) * g * g;
}

static void adam_of(int64_t count, bool decoupled)
{
    begin(count);
    for (int64_t step = 1; step <= STEPS; step++) {
        fresh_gradient(count);
        nn_update u = update_of(0, count, step);
        u.decoupled = decoupled;
        for (int64_t i = 0; i < count; i++) {
            double g = 0.5 * (double)found.gradient[i], w = right.weight[i];
            moments(&u, i, decoupled ? g : g + u.decay * w);
            double m = right.m[i] / (1 - pow(0.9, (double)step)), v = right.v[i] / (1 - pow(0.95, (double)step));
            right.weight[i] = w - u.lr * (m / (sqrt(v) + u.eps)) - (decoupled ? u.lr * u.decay * w : 0);
        }
        assert_int_equal(cpu.ops->adam(&cpu, &u), 0);
    }
    assert_weights(count);
}

static const int64_t sizes[] = {0, 1, 3, 129, 4097, MOST};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static void adam(void **state)
{
    (void)state;
    for (int i = 0; i < N_SIZES; i++)
        adam_of(sizes[i], true), adam_of(sizes[i], false);
}

static void lamb_right(const nn_update *u, int64_t count)
{
    double weights = 0, updates = 0;
    for (int64_t i = 0; i < count; i++) {
        moments(u, i, 0.5 * (double)found.gradient[i]);
        right.u[i] = right.m[i] / (sqrt(right.v[i]) + u->eps) + u->decay * right.weight[i];
        weights += right.weight[i] * right.weight[i], updates += right.u[i] * right.u[i];
    }
    double trust = weights > 0 && updates > 0 ? sqrt(weights) / sqrt(updates) : 1;
    trust = trust < 0.01 ? 0.01 : trust > 10 ? 10 : trust;
    double lr = u->lr * sqrt(1 - pow(u->beta2, (double)u->step)) / (1 - pow(u->beta1, (double)u->step));
    for (int64_t i = 0; i < count; i++)
        right.weight[i] -= lr * trust * right.u[i];
}

/* The tensor in `shards` pieces, whose norms are added. */
static void lamb_step(int64_t count, int64_t shards, int64_t step)
{
    nn_update part[3];
    double sums[2] = {0};
    for (int64_t s = 0; s < shards; s++) {
        double squares[2] = {NAN, NAN};
        int64_t first = count * s / shards;
        part[s] = update_of(first, count * (s + 1) / shards - first, step);
        assert_int_equal(cpu.ops->lamb_moments(&cpu, &part[s], squares), 0);
        sums[0] += squares[0], sums[1] += squares[1];
    }
    for (int64_t s = 0; s < shards; s++) {
        part[s].trust = nn_lamb_trust(sums[0], sums[1], 0.01, 10);
        assert_int_equal(cpu.ops->lamb_apply(&cpu, &part[s]), 0);
    }
}

static void lamb(void **state)
{
    (void)state;
    for (int i = 0; i < N_SIZES; i++)
        for (int64_t shards = 1; shards <= 3; shards++) {
            begin(sizes[i]);
            for (int64_t step = 1; step <= STEPS; step++) {
                fresh_gradient(sizes[i]);
                nn_update u = update_of(0, sizes[i], step);
                lamb_right(&u, sizes[i]);
                lamb_step(sizes[i], shards, step);
            }
            assert_weights(sizes[i]);
        }
}

static void trust_and_clipping(void **state)
{
    (void)state;
    assert_near(nn_lamb_trust(4, 16, 0.01, 10), 0.5, 1e-15, "trust", 0);
    assert_near(nn_lamb_trust(0, 16, 0.01, 10), 1, 0, "trust", 1);
    assert_near(nn_lamb_trust(4, 0, 0.01, 10), 1, 0, "trust", 2);
    assert_near(nn_lamb_trust(1e6, 1, 0.01, 10), 10, 0, "trust", 3);
    assert_near(nn_lamb_trust(1, 1e6, 0.01, 10), 0.01, 0, "trust", 4);
    assert_near(nn_clip_factor(4, 1), 1 / (4 + 1e-6), 1e-15, "clip", 0);
    assert_near(nn_clip_factor(0.5, 1), 1, 0, "clip", 1);
    assert_near(nn_clip_factor(100, 0), 1, 0, "clip", 2);
}

static void sums_of_squares(void **state)
{
    (void)state;
    for (int i = 0; i < N_SIZES; i++) {
        double sum = NAN, exact = 0, again = NAN;
        fresh_gradient(sizes[i]);
        for (int64_t j = 0; j < sizes[i]; j++)
            exact += (double)found.gradient[j] * (double)found.gradient[j];
        omp_set_num_threads(3);
        assert_int_equal(cpu.ops->sum_squares(&cpu, found.gradient, sizes[i], &sum), 0);
        omp_set_num_threads(1);
        assert_int_equal(cpu.ops->sum_squares(&cpu, found.gradient, sizes[i], &again), 0);
        assert_near(sum, exact, 1e-12 * exact, "sum", i);
        assert_same_bits(&sum, &again, sizeof sum);
    }
    omp_set_num_threads(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(adam), cmocka_unit_test(lamb),
                                       cmocka_unit_test(trust_and_clipping), cmocka_unit_test(sums_of_squares)};
    return cmocka_run_group_tests_name("nn_optimize", tests, NULL, NULL);
}
