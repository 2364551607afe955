/* SPDX-License-Identifier: MIT */
/* Learning rates against the formulas, the loss scale's steps, and who is named when something is not finite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "train/rates.h"

#include <math.h>
#include <stdlib.h>

#include "apps/train/group_ranks.h"

static void near(double got, double right)
{
    if (!(fabs(got - right) <= 1e-12 * fabs(right)))
        fail_msg("%.17g, expected %.17g", got, right);
}

static void cosine(void **state)
{
    (void)state;
    lr_schedule s = {.lr = 3e-4, .min_lr = 3e-5, .warmup_iters = 10, .decay_iters = 110, .style = DECAY_COSINE};
    near(lr_at(&s, 0), 0);
    near(lr_at(&s, 5), 1.5e-4);
    near(lr_at(&s, 10), 3e-4);
    near(lr_at(&s, 60), 3e-5 + 1.35e-4);
    near(lr_at(&s, 35), 3e-5 + 1.35e-4 * (1 + sqrt(0.5)));
    near(lr_at(&s, 110), 3e-5);
    near(lr_at(&s, 500), 3e-5);
    s.from_one = true;
    near(lr_at(&s, 0), 3e-5);
    near(lr_at(&s, 1), 3e-5);
    s.warmup_iters = 0;
    s.from_one = false;
    near(lr_at(&s, 0), 3e-4);
}

static void other_styles(void **state)
{
    (void)state;
    lr_schedule s = {.lr = 1, .min_lr = 0.1, .warmup_iters = 0.5, .decay_iters = 100, .style = DECAY_CONSTANT};
    near(lr_at(&s, 1), 1);
    near(lr_at(&s, 1000), 1);
    s.style = DECAY_LINEAR;
    near(lr_at(&s, 50), 1 - 49.5 / 100);
    near(lr_at(&s, 100), 0.1); /* floored */
    s.style = DECAY_EXPONENTIAL;
    near(lr_at(&s, 50), exp(-0.693 * 0.495));
    near(lr_at(&s, 900), exp(-0.693 * 0.995));
}

static void iterations_from_the_configuration(void **state)
{
    (void)state;
    config c = {.lr = 2, .train_iters = 101, .warmup = 0.1, .lr_decay_fraction = 0.5};
    assert_true(lr_schedule_of(&c).decay_iters == 50 && lr_schedule_of(&c).warmup_iters == 5);
    c.lr_decay_iters = 11200;
    assert_true(lr_schedule_of(&c).decay_iters == 11200);
    c.lr_decay_iters = 0;
    c.lr_decay_fraction = 0;
    assert_true(lr_schedule_of(&c).decay_iters == 101);
}

static void dynamic_loss_scale(void **state)
{
    (void)state;
    config c = {.precision = PRECISION_FP16,
                .initial_scale_power = 4,
                .loss_scale_window = 3,
                .hysteresis = 2,
                .min_loss_scale = 2};
    loss_scaler s = loss_scaler_of(&c);
    bool apply;
    near(s.scale, 16);
    for (int i = 0; i < 3; i++)
        assert_true(loss_scaler_step(&s, true, &apply) == CODE_GOOD && apply);
    near(s.scale, 32);
    assert_true(loss_scaler_step(&s, false, &apply) == CODE_GOOD && !apply);
    near(s.scale, 32); /* hysteresis: the first is free */
    assert_true(loss_scaler_step(&s, false, &apply) == CODE_GOOD && !apply);
    near(s.scale, 16);
    int code = CODE_GOOD, steps = 2;
    while (!code && steps < 100) {
        code = loss_scaler_step(&s, false, &apply);
        steps++;
    }
    assert_int_equal(code, CODE_NOT_FINITE);
    assert_int_equal(steps, MOST_SKIPPED);
    near(s.scale, 2);
    assert_true(s.skipped == MOST_SKIPPED);
}

static void fixed_loss_scale(void **state)
{
    (void)state;
    config c = {.precision = PRECISION_BF16, .loss_scale = 128};
    loss_scaler s = loss_scaler_of(&c);
    bool apply = true;
    near(s.scale, 1);
    assert_int_equal(loss_scaler_step(&s, true, &apply), CODE_GOOD);
    assert_int_equal(loss_scaler_step(&s, false, &apply), CODE_NOT_FINITE);
    assert_false(apply);
    c.precision = PRECISION_FP16;
    near(loss_scaler_of(&c).scale, 128);
}

static int one_is_bad(group *g, void *context)
{
    float good[4] = {0, 1, -1e38f, 1e-40f}, bad[5] = {0, 1, 2, *(float *)context, 4};
    named_values all[2] = {{"model.norm.weight", good, 4}, {"model.layers.7.mlp.up_proj.weight", good, 4}};
    if (group_rank(g) == 2)
        all[1] = (named_values){all[1].name, bad, 5};
    return check_finite(g, RINGX_CPU, "gradient", all, 2);
}

static void names_what_is_not_finite(void **state)
{
    (void)state;
    static float values[] = {NAN, INFINITY, -INFINITY};
    static const char *const texts[] = {"nan", "inf", "-inf"};
    for (int i = 0; i < 3; i++) {
        group_run runs[3];
        run_group(runs, 3, one_is_bad, &values[i]);
        for (int r = 0; r < 3; r++) {
            char right[128];
            snprintf(right, sizeof right, "rank 2: gradient of model.layers.7.mlp.up_proj.weight, element 3 of 5 is %s",
                     texts[i]);
            assert_int_equal(runs[r].code, CODE_NOT_FINITE);
            if (strcmp(runs[r].message, right) != 0 && values[i] == values[i])
                fail_msg("%s", runs[r].message);
            assert_non_null(strstr(runs[r].message, "model.layers.7.mlp.up_proj.weight, element 3 of 5 is"));
        }
    }
    float fine = 3;
    run_group_good(3, one_is_bad, &fine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cosine),
                                       cmocka_unit_test(other_styles),
                                       cmocka_unit_test(iterations_from_the_configuration),
                                       cmocka_unit_test(dynamic_loss_scale),
                                       cmocka_unit_test(fixed_loss_scale),
                                       cmocka_unit_test(names_what_is_not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
