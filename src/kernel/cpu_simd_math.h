/* SPDX-License-Identifier: MIT */
/* exp2 and tanh on vectors.  Both pass NaN on. */

/* 2^x for x <= 128, relative error below 2e-7; 0 below 2^-126.  2^0 is exactly 1. */
INLINE vec exp2_vec(vec x)
{
    const vec magic = v_set1(12582912.0f + 127.0f); /* rounds to an integer and leaves 127 + it in the low bits */
    x = v_max(v_set1(-127.0f), x);
    vec bits = v_add(x, magic), f = v_sub(x, v_sub(bits, magic));
    vec p = v_fma(v_set1(0x1.5bba14p-10f), f, v_set1(0x1.3cea88p-7f));
    p = v_fma(p, f, v_set1(0x1.c6b752p-5f));
    p = v_fma(p, f, v_set1(0x1.ebf9bcp-3f));
    p = v_fma(p, f, v_set1(0x1.62e42ap-1f));
    p = v_fma(p, f, v_set1(1.0f));
    return v_mul(p, v_exponent(bits));
}

/* Relative error below 2e-7: a polynomial near 0 (Cephes' tanhf), else by exp2. */
INLINE vec tanh_vec(vec x)
{
    vec z = v_mul(x, x), p = v_fma(v_set1(-5.70498872745e-3f), z, v_set1(2.06390887954e-2f));
    p = v_fma(p, z, v_set1(-5.37397155531e-2f));
    p = v_fma(p, z, v_set1(1.33314422036e-1f));
    p = v_fma(p, z, v_set1(-3.33332819422e-1f));
    vec small = v_fma(v_mul(p, z), x, x);
    vec e = exp2_vec(v_min(v_set1(64.0f), v_mul(v_abs(x), v_set1((float)(2 * RINGX_LOG2E)))));
    vec large = v_sub(v_set1(1.0f), v_div(v_set1(2.0f), v_add(e, v_set1(1.0f))));
    return v_select(v_less(v_abs(x), v_set1(0.625f)), small, v_sign_of(large, x));
}
