/* SPDX-License-Identifier: MIT */
/* Half precision: every code, every rounding boundary, and the vector forms inside each kernel. */
#include "kernel/cpu_simd.h"
#include "kernel/kernel_run.h"

extern const ringx_kernel ringx__kernel_cpu_ref;

/* The value of a code with `bits` bits of fraction and the exponent's bias, from the definition of the format. */
static double value_of(uint32_t code, int bits, int bias, int exponents)
{
    uint32_t fraction = code & ((1u << bits) - 1), exponent = code >> bits & ((1u << exponents) - 1);
    double sign = code >> 15 ? -1 : 1;
    if (exponent == (1u << exponents) - 1)
        return fraction ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - bits);
    return sign * ldexp((double)(fraction + (1u << bits)), (int)exponent - bias - bits);
}

typedef struct format {
    int bits, bias, exponents;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
} format;

static float widen_bf16(uint16_t h)
{
    return ringx__bf16_f32(h);
}

static uint16_t narrow_bf16(float f)
{
    return ringx__f32_bf16(f);
}

static float widen_f16(uint16_t h)
{
    return ringx__f16_f32(h);
}

static uint16_t narrow_f16(float f)
{
    return ringx__f32_f16(f);
}

static const format bf16 = {7, 127, 8, widen_bf16, narrow_bf16}, f16 = {10, 15, 5, widen_f16, narrow_f16};

static void check_codes(const format *f)
{
    for (uint32_t code = 0; code < 65536; code++) {
        double want = value_of(code, f->bits, f->bias, f->exponents);
        float got = f->widen((uint16_t)code);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(f->widen(f->narrow(got))));
            continue;
        }
        assert_true((double)got == want && !signbit(got) == !signbit(want));
        assert_int_equal(f->narrow(got), code);
    }
}

/* Between each finite code and the next: a little below the middle goes down, a little above goes up, the middle goes
 * to the even one.  Beyond the largest, the next is infinity at where the next finite code would be. */
static void check_boundaries(const format *f)
{
    uint32_t largest = (((1u << f->exponents) - 1) << f->bits) - 1;
    for (uint32_t code = 0; code <= largest; code++) {
        double low = value_of(code, f->bits, f->bias, f->exponents);
        double high = code < largest ? value_of(code + 1, f->bits, f->bias, f->exponents)
                                     : 2 * low - value_of(code - 1, f->bits, f->bias, f->exponents);
        float middle = (float)((low + high) / 2);
        assert_true((double)middle == (low + high) / 2 || (f == &bf16 && code == 0));
        uint32_t even = code & 1 ? code + 1 : code;
        if (ringx__f32_bits(middle) << 1) /* bf16 shares float's smallest numbers: there the middle may be exact 0 */
            for (uint32_t sign = 0; sign <= 0x8000u; sign += 0x8000u) {
                float m = sign ? -middle : middle, up = nextafterf(m, sign ? -INFINITY : INFINITY);
                assert_int_equal(f->narrow(m), even | sign);
                assert_int_equal(f->narrow(up), (code + 1) | sign);
                assert_int_equal(f->narrow(nextafterf(m, 0)), code | sign);
            }
    }
    assert_int_equal(f->narrow(INFINITY), (largest + 1));
    assert_int_equal(f->narrow(-INFINITY), (largest + 1) | 0x8000u);
    assert_int_equal(f->narrow(3.4e38f), f == &bf16 ? 0x7f80u : 0x7c00u);
}

static void bf16_codes(void **unused)
{
    (void)unused;
    check_codes(&bf16);
    check_boundaries(&bf16);
}

static void f16_codes(void **unused)
{
    (void)unused;
    check_codes(&f16);
    check_boundaries(&f16);
}

/* A query that sees one key gets that key's value, whatever its code. */
static void check_through(const ringx_kernel *kernel, ringx_dtype dtype)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 1;
    p.tokens = p.value_dim = 256;
    p.q_heads = p.kv_heads = 1;
    p.head_dim = 3;
    p.window_left = p.window_right = 0;
    p.dtype = dtype;
    kernel_case c = {.problem = p, .queries = 1, .keys = 1};
    assert_int_equal(ringx__shape_create(&c.shape, &c.problem), RINGX_OK);
    c.query[0].run = c.key[0].run = (ringx_run){256, 0, 1};
    case_allocate(&c);
    for (uint32_t code = 0; code < 65536; code++)
        *(uint16_t *)tensor_at(&c.key[0].v, 0, code >> 8, 0, code & 255) = (uint16_t)code;
    run_forward(&c, kernel, (run_how){.threads = 1});
    for (uint32_t code = 0; code < 65536; code++) {
        double want = tensor_get(&c.key[0].v, 0, code >> 8, 0, code & 255);
        double got = tensor_get(&c.query[0].out, 0, code >> 8, 0, code & 255);
        if (!(got == want || (isnan(got) && isnan(want))))
            fail_msg("%s: code %04x comes out as %g, not %g", kernel->name, (unsigned)code, got, want);
    }
    case_destroy(&c);
}

static void codes_through_kernels(void **unused)
{
    (void)unused;
    for (ringx_dtype dtype = RINGX_BF16; dtype <= RINGX_F16; dtype++) {
        check_through(&ringx__kernel_cpu_ref, dtype);
        for (size_t i = 0; ringx__simd_at(i); i++)
            if (ringx__simd_at(i)->kernel.available())
                check_through(&ringx__simd_at(i)->kernel, dtype);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_codes),
        cmocka_unit_test(f16_codes),
        cmocka_unit_test(codes_through_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
