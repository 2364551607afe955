/* SPDX-License-Identifier: MIT */
/* Every named configuration of the original planned over ranks; what cannot be is refused as training would. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "vit/vit_plan.h"

#include <cmocka.h>

static const char yaml[] = RINGX_TEST_DATA "/../../apps/vit/configs/ViT.yaml";

static void plan(vit_plan *p, const char *name, char *const *settings, int ranks)
{
    vit_config c;
    paper_machine m = {.name = "h200x8", .memory = (size_t)139 << 30, .efficiency = 1};
    if (vit_config_read(&c, yaml, name, settings) || ringx_machine_describe(m.name, &m.figures) ||
        vit_plan_make(p, &c, ranks, &m))
        fail_msg("%s: %s", name, failure());
    vit_config_free(&c);
}

static void named_configurations(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters, tokens;
        double tflops; /* forward, of a sample, as the original's are known to be */
    } rows[] = {{"base", 23832960, 4050, 0.48},
                {"mp_emb1024", 416619520, 259200, 3381},
                {"mp_emb2048_ring", 737343488, 64800, 491},
                {"mp_emb4096_ringX", 2682646528, 64800, 1139},
                {"mp_p1_megatron", 120842880, 259200, 1249},
                {"mp_p2", 46239360, 64800, 80},
                {"mp_p6_ringX", 24612480, 7200, 1.3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vit_plan p;
        char *const settings[] = {"context_parallel=8", "global_batch_size=1", NULL};
        plan(&p, rows[i].name, settings, 8);
        assert_int_equal(p.parameters, rows[i].parameters);
        assert_int_equal(p.plan.most_parameters, rows[i].parameters);
        assert_int_equal(p.tokens, (rows[i].tokens + 7) / 8);
        double flops = vit_forward_flops(&p.shape) / 1e12;
        assert_true(fabs(flops - rows[i].tflops) <= 0.05 * rows[i].tflops);
        assert_true(p.plan.step > 0 && p.plan.mfu > 0 && p.plan.mfu < 1);
        /* float weights, gradients and moments are 16 bytes a parameter at the least; halves have masters */
        assert_true((double)p.plan.device > 16.0 * (double)p.parameters);
    }
}

/* Sharding over ranks and recomputation make a rank's memory smaller, by what the formulas say. */
static void less_with_more_ranks(void **state)
{
    (void)state;
    vit_plan one, sharded, tensor, again, kept;
    char *const plain[] = {"context_parallel=4", NULL}, *const stage[] = {"context_parallel=4", "zero_stage=1", NULL};
    char *const cut[] = {"context_parallel=4", "tensor_parallel=2", NULL};
    char *const recompute[] = {"context_parallel=4", "checkpoint_activations=true", NULL};
    char *const gates[] = {"context_parallel=4", "keep_mlp_layers=5", NULL};
    plan(&one, "mp_emb4096", plain, 4);
    plan(&sharded, "mp_emb4096", stage, 4);
    plan(&tensor, "mp_emb4096", cut, 8);
    plan(&again, "mp_emb4096", recompute, 4);
    plan(&kept, "mp_emb4096", gates, 4);
    double states = (double)(one.plan.device - sharded.plan.device), whole = 12 * (double)one.parameters;
    assert_true(fabs(states - 0.75 * whole) < 1e-3 * whole);
    assert_true(tensor.plan.most_parameters < one.plan.most_parameters && tensor.plan.device < one.plan.device);
    assert_int_equal(one.model.items[VIT_KEPT], 12 * again.model.items[VIT_KEPT]);
    assert_true(again.plan.step > one.plan.step && again.plan.mfu < one.plan.mfu);
    assert_int_equal(kept.model.items[VIT_KEPT_MLP], 5 * (int64_t)64800 / 4 * 4 * 4096 * 2);
    assert_true(kept.plan.device > one.plan.device && kept.plan.step < one.plan.step);
}

/* Beside backward what is left over of sums is the buckets that hold what is final last: the gradients of positions and
 * patches. */
static void sums_beside_backward(void **state)
{
    (void)state;
    vit_plan after, beside;
    char *const plain[] = {"context_parallel=2", NULL};
    char *const overlap[] = {"context_parallel=2", "overlap_comm=true", NULL};
    plan(&after, "mp_emb4096", plain, 2);
    plan(&beside, "mp_emb4096", overlap, 2);
    double left = beside.plan.seconds[PAPER_GRADIENTS], whole = after.plan.seconds[PAPER_GRADIENTS];
    double positions = 64800. * 4096 / (double)after.parameters, bucket = 6.25e6 / (double)after.parameters;
    assert_true(left >= positions * whole && left <= (positions + 2 * bucket) * whole);
    assert_true(fabs(after.plan.step - beside.plan.step - (whole - left)) < 1e-6);
    assert_int_equal(after.plan.device, beside.plan.device);
}

/* Parts that do not divide: the rank with most, and the bytes of the smaller ones are not more. */
static void uneven_parts(void **state)
{
    (void)state;
    static const struct {
        const char *name, *setting;
        int ranks;
        int64_t most;
    } rows[] = {{"base", "context_parallel=4", 4, 1013},
                {"mp_p2_ring", "context_parallel=7", 7, 9258},
                {"mp_p4_megatron", "context_parallel=64", 64, 254},
                {"mp_p6", "context_parallel=64", 64, 113}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vit_plan p;
        char setting[32], *const settings[] = {setting, "global_batch_size=1", NULL};
        snprintf(setting, sizeof setting, "%s", rows[i].setting);
        plan(&p, rows[i].name, settings, rows[i].ranks);
        assert_int_equal(p.tokens, rows[i].most);
    }
}

static void refused(void **state)
{
    (void)state;
    vit_config c;
    vit_plan p;
    paper_machine m = {.name = "local", .efficiency = 1};
    char *const settings[] = {"tensor_parallel=3", NULL};
    assert_int_equal(vit_config_read(&c, yaml, "mp_p2", settings), 0);
    assert_int_equal(vit_plan_make(&p, &c, 3, &m), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "num_heads"));
    assert_int_equal(vit_plan_make(&p, &c, 4, &m), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "number of ranks"));
    vit_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(named_configurations), cmocka_unit_test(less_with_more_ranks),
                                       cmocka_unit_test(sums_beside_backward), cmocka_unit_test(uneven_parts),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests_name("vit_plan", tests, NULL, NULL);
}
