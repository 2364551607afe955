/* SPDX-License-Identifier: MIT */
/* bfloat16 and half: every value survives, everything between two values goes to the nearer one, ties to the even. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/half.h"

typedef struct format {
    const char *name;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
    uint16_t infinity;
    double step; /* between the smallest values */
    int fraction_bits;
} format;

static const format formats[] = {{"bf16", ringx__bf16_f32, ringx__f32_bf16, 0x7f80, 0x1p-133, 7},
                                 {"f16", ringx__f16_f32, ringx__f32_f16, 0x7c00, 0x1p-24, 10}};

/* The value of a positive finite bit pattern, by the definition of the format. */
static double value(const format *f, int bits)
{
    int exponent = bits >> f->fraction_bits, fraction = bits & ((1 << f->fraction_bits) - 1);
    if (exponent == 0)
        return fraction * f->step;
    return ldexp(f->step, exponent - 1) * (fraction + (1 << f->fraction_bits));
}

static void expect(const format *f, float x, int bits)
{
    uint16_t plus = f->narrow(x), minus = f->narrow(-x);
    if (plus != bits || minus != (bits | 0x8000))
        fail_msg("%s: %a became %04x and %a became %04x; expected %04x", f->name, (double)x, plus, (double)-x, minus,
                 (unsigned)bits);
}

static void every_value_is_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const format *f = &formats[i];
        for (int bits = 0; bits < f->infinity; bits++) {
            assert_true((double)f->widen((uint16_t)bits) == value(f, bits));
            assert_true((double)f->widen((uint16_t)(bits | 0x8000)) == -value(f, bits));
            expect(f, f->widen((uint16_t)bits), bits);
        }
        assert_true(f->widen(f->infinity) == INFINITY && f->widen(f->infinity | 0x8000) == -INFINITY);
        expect(f, INFINITY, f->infinity);
        expect(f, FLT_MAX, f->infinity);
        expect(f, FLT_TRUE_MIN, (double)FLT_TRUE_MIN > f->step / 2);
        assert_true(signbit(f->widen(0x8000)));
    }
}

static void between_two_values_the_nearer(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const format *f = &formats[i];
        for (int a = 0; a < f->infinity; a++) {
            /* the middle is a float: floats have at least 13 more bits of fraction */
            float middle = (float)((value(f, a) + value(f, a + 1)) / 2);
            expect(f, middle, a % 2 ? a + 1 : a);
            expect(f, nextafterf(middle, 0), a);
            expect(f, nextafterf(middle, INFINITY), a + 1);
        }
    }
}

static void nan_stays_nan(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const format *f = &formats[i];
        for (int bits = f->infinity + 1; bits < 0x8000; bits++)
            assert_true(isnan(f->widen((uint16_t)bits)) && isnan(f->widen((uint16_t)(bits | 0x8000))));
        for (int shift = 0; shift < 23; shift++) { /* payloads in any one bit, also those that are cut off */
            float nan = ringx__bits_f32(0x7f800000u | 1u << shift), minus = ringx__bits_f32(0xff800000u | 1u << shift);
            assert_true(isnan(f->widen(f->narrow(nan))) && isnan(f->widen(f->narrow(minus))));
        }
        assert_true(isnan(f->widen(f->narrow(ringx__bits_f32(0x7fffffffu)))));
        assert_true(isnan(f->widen(f->narrow(ringx__bits_f32(0xffffffffu)))));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_value_is_kept),
                                       cmocka_unit_test(between_two_values_the_nearer),
                                       cmocka_unit_test(nan_stays_nan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
