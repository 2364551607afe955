/* SPDX-License-Identifier: MIT */
/* The judge of `ringx verify` must be able to say no: small defects of each kind in results that are otherwise right.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "judge.h"

#include <cmocka.h> /* last: it has a macro called fail */

typedef struct example {
    ringx_problem problem;
    int64_t starts[3];
    whole inputs, results;
    reference reference;
} example;

/* Results that are the definition's, rounded to the dtype: the best there can be. */
static void create(example *e, ringx_dtype dtype, int64_t tokens)
{
    *e = (example){.problem = RINGX_PROBLEM_INIT, .starts = {2, tokens / 2, tokens - 3}};
    ringx_problem *p = &e->problem;
    p->batch = 2;
    p->tokens = tokens;
    p->q_heads = 4;
    p->kv_heads = 2;
    p->head_dim = 24;
    p->value_dim = 17;
    p->dtype = dtype;
    p->causal = true;
    p->document_starts = e->starts;
    p->documents = 2;
    for (tensor_id id = T_Q; id <= T_DOUT; id++) {
        e->inputs.data[id] = malloc(tensor_bytes(p, id));
        random_fill(dtype, 5 + (uint64_t)id, 0, 1, e->inputs.data[id], tensor_elements(p, id));
    }
    assert_int_equal(reference_create(&e->reference, p, &e->inputs), CODE_GOOD);
    assert_int_equal(whole_results_create(&e->results, p, true), CODE_GOOD);
    for (tensor_id id = T_OUT; id < TENSORS; id++)
        from_doubles(id == T_LSE ? RINGX_F32 : dtype, e->reference.data[id], e->results.data[id],
                     tensor_elements(p, id));
}

static void destroy(example *e)
{
    whole_destroy(&e->inputs);
    whole_destroy(&e->results);
    reference_destroy(&e->reference);
}

static bool good(example *e, verdict *v)
{
    judge(&e->problem, (roundings){RINGX_F32, 1, false}, &e->results, &e->reference, v);
    assert_true(v->good == (v->why[0] == '\0'));
    return v->good;
}

static float get(const example *e, tensor_id id, size_t i)
{
    if (id == T_LSE || e->problem.dtype == RINGX_F32)
        return ((float *)e->results.data[id])[i];
    return half_to_float(e->problem.dtype, ((uint16_t *)e->results.data[id])[i]);
}

static void put(example *e, tensor_id id, size_t i, float value)
{
    if (id == T_LSE || e->problem.dtype == RINGX_F32)
        ((float *)e->results.data[id])[i] = value;
    else
        ((uint16_t *)e->results.data[id])[i] = float_to_half(e->problem.dtype, value);
}

static void rounded_results_are_good(void **state)
{
    (void)state;
    for (ringx_dtype dtype = RINGX_F32; dtype <= RINGX_F16; dtype++)
        for (int64_t tokens = 8; tokens < 80; tokens += 23) {
            example e;
            verdict v;
            create(&e, dtype, tokens);
            assert_true(good(&e, &v));
            for (int id = T_OUT; id < TENSORS; id++)
                assert_true(v.share[id] < 0.5);
            destroy(&e);
        }
}

/* One element of one tensor, each in turn. */
static void single_defects(void **state)
{
    (void)state;
    for (ringx_dtype dtype = RINGX_F32; dtype <= RINGX_F16; dtype++) {
        example e;
        verdict v;
        create(&e, dtype, 37);
        for (tensor_id id = T_OUT; id < TENSORS; id++) {
            size_t n = tensor_elements(&e.problem, id), at = n / 2;
            while (id == T_LSE && isinf(get(&e, id, at)))
                at++;
            float is = get(&e, id, at);
            put(&e, id, at, NAN);
            assert_false(good(&e, &v));
            put(&e, id, at, INFINITY);
            assert_false(good(&e, &v));
            put(&e, id, at, is + 3);
            assert_false(good(&e, &v));
            put(&e, id, at, is);
            assert_true(good(&e, &v));
            if (id == T_LSE) {
                put(&e, id, at, -INFINITY);
                assert_false(good(&e, &v));
                put(&e, id, at, is + 1e-4f);
                assert_false(good(&e, &v));
                put(&e, id, at, is);
            }
        }
        destroy(&e);
    }
}

static void rows_without_keys(void **state)
{
    (void)state;
    example e;
    verdict v;
    create(&e, RINGX_F32, 37);
    assert_true(isinf(get(&e, T_LSE, 0))); /* token 0 is padding */
    put(&e, T_LSE, 0, -1e30f);
    assert_false(good(&e, &v));
    put(&e, T_LSE, 0, -INFINITY);
    assert_true(good(&e, &v));
    put(&e, T_OUT, 0, 1e-30f); /* far below any tolerance, but not zero */
    assert_false(good(&e, &v));
    put(&e, T_OUT, 0, -0.0f);
    put(&e, T_DQ, 3, 1e-30f);
    assert_false(good(&e, &v));
    destroy(&e);
}

/* Results of a problem that differs a little: what real defects look like. */
static void wrong_problems(void **state)
{
    (void)state;
    for (int defect = 0; defect < 6; defect++)
        for (ringx_dtype dtype = RINGX_F32; dtype <= RINGX_F16; dtype++) {
            example e;
            verdict v;
            create(&e, dtype, 61);
            ringx_problem wrong = e.problem;
            int64_t starts[3];
            memcpy(starts, e.starts, sizeof starts);
            wrong.document_starts = starts;
            if (defect == 0)
                wrong.causal = false;
            else if (defect == 1)
                wrong.window_left = 24; /* the oldest keys of a few rows are lost */
            else if (defect == 2)
                starts[1]++; /* a boundary is one off */
            else if (defect == 3)
                wrong.scale = 1.02 / sqrt(24);
            else if (defect == 4)
                wrong.softcap = 10;
            else
                wrong.documents = 0;
            reference r;
            assert_int_equal(reference_create(&r, &wrong, &e.inputs), CODE_GOOD);
            for (tensor_id id = T_OUT; id < TENSORS; id++) {
                if (defect == 5 && (id == T_LSE || id == T_DV))
                    continue; /* out and dq alone must give it away */
                from_doubles(id == T_LSE ? RINGX_F32 : dtype, r.data[id], e.results.data[id],
                             tensor_elements(&e.problem, id));
            }
            assert_false(good(&e, &v));
            reference_destroy(&r);
            destroy(&e);
        }
}

/* One key forgotten by one query block, in float32: the smallest defect that tiles can have. */
static void dropped_key(void **state)
{
    (void)state;
    example e;
    verdict v;
    create(&e, RINGX_F32, 61);
    double *out = e.reference.data[T_OUT], *lse = e.reference.data[T_LSE];
    int64_t query = 55, head = 1;
    for (int64_t d = 0; d < 17; d++) { /* as if 1/20 of the weight were missing, in one row */
        size_t i = (size_t)((query * 4 + head) * 17 + d);
        put(&e, T_OUT, i, (float)(out[i] * 0.95));
    }
    assert_true(isfinite(lse[head * 61 + query]));
    assert_false(good(&e, &v));
    destroy(&e);
}

/* ---- memory around tensors ---- */

static void fields(void **state)
{
    (void)state;
    const int64_t sizes[4] = {2, 5, 3, 7}, none[4] = {2, 0, 3, 7};
    float packed[2 * 5 * 3 * 7], back[2 * 5 * 3 * 7];
    for (size_t i = 0; i < 210; i++)
        packed[i] = (float)i;
    for (field_style style = FIELD_PACKED; style < FIELD_STYLES; style++) {
        field f;
        assert_int_equal(field_create(&f, sizes, RINGX_F32, style, 3), CODE_GOOD);
        field_load(&f, packed);
        assert_true(field_intact(&f));
        field_store(&f, back);
        assert_memory_equal(packed, back, sizeof packed);
        f.memory[FIELD_GUARD - 1] = 0;
        assert_false(field_intact(&f));
        f.memory[FIELD_GUARD - 1] = POISON;
        f.memory[FIELD_GUARD + f.bytes] = 0;
        assert_false(field_intact(&f));
        f.memory[FIELD_GUARD + f.bytes] = POISON;
        if (style == FIELD_GAPS) {
            ((float *)f.tensor.data)[7] = 0; /* between the first two heads */
            assert_false(field_intact(&f));
        }
        field_destroy(&f);
        assert_int_equal(field_create(&f, none, RINGX_F32, style, 3), CODE_GOOD);
        assert_null(f.tensor.data);
        assert_true(field_intact(&f));
        field_destroy(&f);
    }
}

static void guards(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < 300; bytes += 37) {
        guarded g;
        assert_int_equal(guarded_create(&g, bytes), CODE_GOOD);
        assert_int_equal((uintptr_t)g.data % 128, 0);
        memset(g.data, 1, bytes);
        assert_true(guarded_intact(&g));
        g.data[bytes] ^= 1;
        assert_false(guarded_intact(&g));
        g.data[bytes] ^= 1;
        g.data[-1] ^= 1;
        assert_false(guarded_intact(&g));
        guarded_destroy(&g);
    }
}

/* ---- numbers: the command has its own conversions, which must be the library's ---- */

static void halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float mine[2] = {half_to_float(RINGX_F16, (uint16_t)h), half_to_float(RINGX_BF16, (uint16_t)h)};
        float theirs[2] = {ringx__f16_f32((uint16_t)h), ringx__bf16_f32((uint16_t)h)};
        assert_memory_equal(mine, theirs, sizeof mine);
    }
    for (uint64_t i = 0; i < 2000000; i++) {
        float x = ringx__bits_f32((uint32_t)random_word(1, i));
        if (isnan(x))
            continue;
        assert_int_equal(float_to_half(RINGX_F16, x), ringx__f32_f16(x));
        assert_int_equal(float_to_half(RINGX_BF16, x), ringx__f32_bf16(x));
    }
    assert_true(isnan(half_to_float(RINGX_F16, float_to_half(RINGX_F16, NAN))));
    assert_true(isnan(half_to_float(RINGX_BF16, float_to_half(RINGX_BF16, NAN))));
}

static void random_numbers(void **state)
{
    (void)state;
    double sum = 0, square = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double x = (double)random_normal(3, i);
        assert_true(fabs(x) < 3.5);
        sum += x;
        square += x * x;
    }
    assert_true(fabs(sum / 100000) < 0.02);
    assert_true(fabs(square / 100000 - 1) < 0.02);
    random_stream r = {.key = 9};
    int seen[5] = {0};
    for (int i = 0; i < 1000; i++)
        seen[random_between(&r, -2, 2) + 2]++;
    for (int i = 0; i < 5; i++)
        assert_true(seen[i] > 100);
    assert_int_equal(random_below(&r, 1), 0);
    uint32_t nan;
    poison(&nan, sizeof nan);
    assert_true(isnan(ringx__bits_f32(nan)));
    assert_true(isnan(half_to_float(RINGX_F16, (uint16_t)nan)) && isnan(half_to_float(RINGX_BF16, (uint16_t)nan)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounded_results_are_good),
        cmocka_unit_test(single_defects),
        cmocka_unit_test(rows_without_keys),
        cmocka_unit_test(wrong_problems),
        cmocka_unit_test(dropped_key),
        cmocka_unit_test(fields),
        cmocka_unit_test(guards),
        cmocka_unit_test(halves),
        cmocka_unit_test(random_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
