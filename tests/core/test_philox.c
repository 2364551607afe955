/* SPDX-License-Identifier: MIT */
/* The generator behind dropout gives its published numbers, and weights are kept at the rate that was asked for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/philox.h"

/* Known answers published with the generator (Random123, philox4x32, 10 rounds). */
static void published_numbers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        ringx__philox((uint64_t)known[i].key[1] << 32 | known[i].key[0], known[i].counter, out);
        for (int w = 0; w < 4; w++)
            assert_int_equal(out[w], known[i].out[w]);
    }
}

static void threshold_is_the_probability(void **state)
{
    (void)state;
    assert_int_equal(ringx__dropout_threshold(0), 0);
    assert_int_equal(ringx__dropout_threshold(0.5), 0x80000000u);
    assert_int_equal(ringx__dropout_threshold(0.25), 0x40000000u);
    assert_int_equal(ringx__dropout_threshold(nextafter(1, 0)), 0xffffffffu);
    assert_int_equal(ringx__dropout_threshold(0x1p-33), 0);
}

/* Counts over four dimensions; each weight is a draw of its own, so the count is binomial. */
static void weights_are_kept_at_the_rate(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        double p = i / 10.0, n = 0, kept = 0;
        uint32_t threshold = ringx__dropout_threshold(p);
        for (int64_t b = 0; b < 2; b++)
            for (int64_t h = 0; h < 5; h++)
                for (int64_t q = 0; q < 50; q++)
                    for (int64_t k = 0; k < 101; k++, n++)
                        kept += ringx__dropout_keeps((uint64_t)i, threshold, b, h, q, k);
        if (!(fabs(kept - n * (1 - p)) <= 4 * sqrt(n * p * (1 - p))))
            fail_msg("dropout %g kept %g of %g", p, kept, n);
    }
}

/* How often two streams of weights agree: half of the time if they are independent. */
static double agreement(uint64_t seed, int64_t b, int64_t h, int64_t q, int64_t k)
{
    int same = 0;
    for (int64_t i = 0; i < 4000; i++)
        same +=
            ringx__dropout_keeps(7, 0x80000000u, 1, 2, 3, i) == ringx__dropout_keeps(seed, 0x80000000u, b, h, q, i + k);
    return same / 4000.0;
}

static void every_coordinate_counts(void **state)
{
    (void)state;
    assert_true(agreement(7, 1, 2, 3, 0) == 1);
    const double most = 0.5 + 4 * 0.5 / sqrt(4000.0);
    assert_true(agreement(8, 1, 2, 3, 0) < most);
    assert_true(agreement(7 + (UINT64_C(1) << 32), 1, 2, 3, 0) < most);
    assert_true(agreement(7, 0, 2, 3, 0) < most);
    assert_true(agreement(7, 1, 3, 3, 0) < most);
    assert_true(agreement(7, 1, 2, 4, 0) < most);
    for (int64_t shift = 1; shift <= 8; shift++)
        assert_true(agreement(7, 1, 2, 3, shift) < most);
    /* keys and queries beyond 31 bits are not folded onto small ones */
    assert_true(agreement(7, 1, 2, 3, INT64_C(1) << 31) < most);
    assert_true(agreement(7, 1, 2, 3 + (INT64_C(1) << 31), 0) < most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_numbers), cmocka_unit_test(threshold_is_the_probability),
        cmocka_unit_test(weights_are_kept_at_the_rate), cmocka_unit_test(every_coordinate_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
