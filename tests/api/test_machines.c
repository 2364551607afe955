/* SPDX-License-Identifier: MIT */
/* Figures of machine descriptions, and forecasts of single transfers against the formulas of docs/machines.md. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <ringx/ringx_study.h>

static double seconds_of(ringx_comm_op op, int ranks, int stride, double bytes)
{
    double seconds = NAN;
    if (ringx_machine_transfer("h200x8", op, ranks, stride, bytes, &seconds) != RINGX_OK)
        fail_msg("%s", ringx_last_error());
    return seconds;
}

static void expect(double found, double right)
{
    if (!(fabs(found - right) <= 1e-9 * right))
        fail_msg("%.12g seconds; it must be %.12g", found, right);
}

static void transfers(void **state)
{
    (void)state;
    const double step = 4e-6, link = 10e-6, wire = 15e-6; /* machines/h200x8.yaml */
    expect(seconds_of(RINGX_OP_ALLGATHER, 8, 1, 1e9), 7 * link + step + 1e9 / 260e9);
    expect(seconds_of(RINGX_OP_REDUCE_SCATTER, 4, 2, 1e9), 3 * link + step + 1e9 / 257e9);
    expect(seconds_of(RINGX_OP_BROADCAST, 8, 1, 1e9), 3 * link + step + 1e9 / 350e9);
    /* two nodes of eight: the links inside a node are slower than its eight NICs */
    expect(seconds_of(RINGX_OP_ALLGATHER, 16, 1, 1e9), 7 * link + wire + step + 1e9 / 260e9);
    /* two nodes with two members each: 2/3 of what a member sends enters its node, through two of the NICs */
    expect(seconds_of(RINGX_OP_ALLGATHER, 4, 4, 1e9), link + wire + step + 1e9 * 2 / 3 / 90e9);
    /* one member a node: one NIC */
    expect(seconds_of(RINGX_OP_ALLGATHER, 4, 8, 1e9), 3 * wire + step + 1e9 / 45e9);
    assert_true(seconds_of(RINGX_OP_REDUCE, 1, 1, 1e9) == 0);
}

static void figures(void **state)
{
    (void)state;
    ringx_machine_figures f;
    memset(&f, 0xff, sizeof f);
    assert_int_equal(ringx_machine_describe("h200x8", &f), RINGX_OK);
    assert_string_equal(f.name, "nodes of eight H200");
    assert_true(f.ranks_per_node == 8 && f.peak_flops == 989e12 && f.memory_gbs == 4200);
    assert_true(f.driver_memory == (size_t)(0.6 * 0x1p30) && f.comm_memory == (size_t)(1.3 * 0x1p30));
    assert_true(f.device_memory == (size_t)139 << 30 && f.matrix_flops > 0 && f.matrix_flops < f.peak_flops);
    assert_int_equal(ringx_machine_describe(NULL, &f), RINGX_OK);
    assert_true(f.matrix_flops == 77e9 && f.peak_flops == 0 && f.device_memory == 0 && f.ranks_per_node == 0);
    assert_true(f.driver_memory == 0 && f.comm_memory == 0);
}

static void mistakes(void **state)
{
    (void)state;
    ringx_machine_figures f;
    double seconds;
    assert_int_equal(ringx_machine_describe("h200x3", &f), RINGX_INVALID);
    assert_int_equal(ringx_machine_describe("local", NULL), RINGX_INVALID);
    assert_int_equal(ringx_machine_transfer("local", RINGX_OP_EXCHANGE, 2, 1, 1, &seconds), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "op is 1"));
    assert_int_equal(ringx_machine_transfer("local", RINGX_OP_REDUCE, 0, 1, 1, &seconds), RINGX_INVALID);
    assert_int_equal(ringx_machine_transfer("local", RINGX_OP_REDUCE, 2, 0, 1, &seconds), RINGX_INVALID);
    assert_int_equal(ringx_machine_transfer("local", RINGX_OP_REDUCE, 2, 1, NAN, &seconds), RINGX_INVALID);
    assert_int_equal(ringx_machine_transfer("local", RINGX_OP_REDUCE, 2, 1, 1, NULL), RINGX_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(transfers), cmocka_unit_test(figures),
                                       cmocka_unit_test(mistakes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
