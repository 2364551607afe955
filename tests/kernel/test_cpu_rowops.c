/* SPDX-License-Identifier: MIT */
/* Row operations of CPUs against their one-line definitions, over strides, dtypes and threads. */
#include "kernel/kernel_run.h"

static ringx_shape shape_of(dice *d, ringx_dtype dtype)
{
    return (ringx_shape){.batch = pick(d, 0, 3), .value_dim = random_dim(d, 256), .dtype = dtype};
}

static tensor random_tensor(dice *d, int64_t batch, int64_t tokens, int64_t heads, int64_t dim, ringx_dtype dtype)
{
    tensor t = tensor_create(d, batch, tokens, heads, dim, dtype);
    tensor_fill(d, &t);
    memcpy(t.before, t.memory, t.bytes);
    return t;
}

static tensor poisoned_tensor(dice *d, int64_t batch, int64_t tokens, int64_t heads, int64_t dim, ringx_dtype dtype)
{
    tensor t = tensor_create(d, batch, tokens, heads, dim, dtype);
    memcpy(t.before, t.memory, t.bytes);
    return t;
}

/* A state whose rows are sometimes empty. */
static void random_sums(dice *d, tensor *m, tensor *l, tensor *acc)
{
    FOR_EACH(m, b, i, h, e)
    {
        bool empty = pick(d, 0, 4) == 0;
        tensor_put(m, b, i, h, e, empty ? -INFINITY : 20 * normal(d));
        tensor_put(l, b, i, h, e, empty ? 0 : 1 + 50 * uniform(d));
        for (int64_t x = 0; empty && x < acc->dim; x++)
            tensor_put(acc, b, i, h, x, 0);
    }
}

static void check_near(double got, double want, double allowed)
{
    if (!(got == want || fabs(got - want) <= allowed))
        fail_msg("%.9g, wanted %.9g ± %.3g", got, want, allowed);
}

static double half_ulp(ringx_dtype dtype, double value)
{
    static const double unit[] = {0x1p-23, 0x1.01p-8, 0x1.01p-11};
    return unit[dtype] * fabs(value) + (dtype == RINGX_F16 ? 0x1p-25 : 0);
}

static void finished_states(void **unused)
{
    (void)unused;
    const ringx_rowops *ops = ringx__rowops(RINGX_CPU);
    for (uint64_t seed = 0; seed < 40; seed++) {
        dice d = {seed};
        ringx_shape s = shape_of(&d, (ringx_dtype)(seed % 3));
        int64_t n = pick(&d, 0, 70), heads = pick(&d, 1, 5);
        int threads = 1 + (int)(seed % 3);
        tensor acc[RINGX_MOST_STATES], m[RINGX_MOST_STATES], l[RINGX_MOST_STATES];
        ringx_state states[RINGX_MOST_STATES];
        int count = 1 + (int)(seed % RINGX_MOST_STATES);
        for (int k = 0; k < count; k++) {
            acc[k] = random_tensor(&d, s.batch, n, heads, s.value_dim, RINGX_F32);
            m[k] = random_tensor(&d, s.batch, n, heads, 0, RINGX_F32);
            l[k] = random_tensor(&d, s.batch, n, heads, 0, RINGX_F32);
            random_sums(&d, &m[k], &l[k], &acc[k]);
            states[k] = (ringx_state){.acc = acc[k].view, .m = tensor_rows(&m[k]), .l = tensor_rows(&l[k])};
        }
        tensor out = poisoned_tensor(&d, s.batch, n, heads, s.value_dim, s.dtype);
        tensor lse = poisoned_tensor(&d, s.batch, n, heads, 0, RINGX_F32);
        assert_int_equal(ops->finish(&s, n, heads, states, count, out.view, tensor_rows(&lse), threads, NULL),
                         RINGX_OK);
        FOR_EACH(&out, b, i, h, e)
        {
            double top = -INFINITY, sum = 0, all = 0, size = 0;
            for (int k = 0; k < count; k++)
                top = fmax(top, tensor_get(&m[k], b, i, h, 0));
            for (int k = 0; k < count && top > -INFINITY; k++) {
                double w = exp2(tensor_get(&m[k], b, i, h, 0) - top), part = w * tensor_get(&acc[k], b, i, h, e);
                sum += w * tensor_get(&l[k], b, i, h, 0);
                all += part;
                size += fabs(part);
            }
            double want = sum > 0 ? all / sum : 0, rounding = count > 1 && sum > 0 ? 0x1p-21 * size / sum : 0;
            check_near(tensor_get(&out, b, i, h, e), want, half_ulp(s.dtype, want) + rounding);
            double lse_want = sum > 0 ? log(2) * (top + log2(sum)) : -INFINITY;
            check_near(tensor_get(&lse, b, i, h, 0), lse_want, 1e-7 * fabs(lse_want) + (count > 1 ? 1e-6 : 1e-7));
        }
        tensor_check_gaps(&out);
        tensor_check_gaps(&lse);
        tensor_destroy(&out);
        tensor_destroy(&lse);
        for (int k = 0; k < count; k++) {
            tensor_destroy(&acc[k]);
            tensor_destroy(&m[k]);
            tensor_destroy(&l[k]);
        }
    }
}

static void rescaled_states(void **unused)
{
    (void)unused;
    const ringx_rowops *ops = ringx__rowops(RINGX_CPU);
    for (uint64_t seed = 50; seed < 90; seed++) {
        dice d = {seed};
        ringx_shape s = shape_of(&d, (ringx_dtype)(seed % 3));
        int64_t n = pick(&d, 0, 70), heads = pick(&d, 1, 5);
        int threads = 1 + (int)(seed % 3);
        tensor acc = random_tensor(&d, s.batch, n, heads, s.value_dim, RINGX_F32);
        tensor m = random_tensor(&d, s.batch, n, heads, 0, RINGX_F32),
               top = random_tensor(&d, s.batch, n, heads, 0, RINGX_F32);
        tensor l = random_tensor(&d, s.batch, n, heads, 0, RINGX_F32),
               lse = random_tensor(&d, s.batch, n, heads, 0, RINGX_F32);
        random_sums(&d, &m, &l, &acc);
        FOR_EACH(&top, b, i, h, e)
        {
            double own = tensor_get(&m, b, i, h, 0);
            tensor_put(&top, b, i, h, e, own == -INFINITY && pick(&d, 0, 1) ? own : fmax(own, 30 * normal(&d)));
        }
        tensor out = tensor_create(&d, s.batch, n, heads, s.value_dim, RINGX_F32);
        assert_int_equal(ops->copy(&s, n, heads, s.value_dim, acc.view, RINGX_F32, out.view, RINGX_F32, 1, NULL),
                         RINGX_OK);
        assert_int_equal(ops->copy_rows(&s, n, heads, tensor_rows(&l), tensor_rows(&lse), threads, NULL), RINGX_OK);
        tensor before = tensor_create(&d, s.batch, n, heads, 0, RINGX_F32);
        assert_int_equal(ops->copy_rows(&s, n, heads, tensor_rows(&m), tensor_rows(&before), threads, NULL), RINGX_OK);
        assert_int_equal(
            ops->rescale(&s, n, heads, acc.view, tensor_rows(&m), tensor_rows(&l), tensor_rows(&top), threads, NULL),
            RINGX_OK);
        FOR_EACH(&acc, b, i, h, e)
        {
            double own = tensor_get(&before, b, i, h, 0), agreed = tensor_get(&top, b, i, h, 0);
            double w = own == -INFINITY ? 0 : exp2(own - agreed);
            double scaled = w * tensor_get(&out, b, i, h, e), sum = w * tensor_get(&lse, b, i, h, 0);
            check_near(tensor_get(&acc, b, i, h, e), scaled, 2e-7 * fabs(scaled) + 1e-37);
            check_near(tensor_get(&l, b, i, h, 0), sum, 2e-7 * sum + 1e-37);
            assert_true(tensor_get(&m, b, i, h, 0) == agreed);
        }
        tensor_check_gaps(&acc);
        tensor_check_gaps(&m);
        tensor_check_gaps(&l);
        tensor *all[] = {&acc, &m, &l, &top, &out, &lse, &before};
        for (size_t i = 0; i < 7; i++)
            tensor_destroy(all[i]);
    }
}

static void delta_is_a_dot_product(void **unused)
{
    (void)unused;
    for (uint64_t seed = 100; seed < 130; seed++) {
        dice d = {seed};
        ringx_shape s = shape_of(&d, (ringx_dtype)(seed % 3));
        int64_t n = pick(&d, 0, 70), heads = pick(&d, 1, 5);
        tensor out = random_tensor(&d, s.batch, n, heads, s.value_dim, s.dtype);
        tensor dout = random_tensor(&d, s.batch, n, heads, s.value_dim, s.dtype);
        tensor delta = poisoned_tensor(&d, s.batch, n, heads, 0, RINGX_F32);
        assert_int_equal(ringx__rowops(RINGX_CPU)->delta(&s, n, heads, out.view, dout.view, tensor_rows(&delta),
                                                         1 + (int)(seed % 3), NULL),
                         RINGX_OK);
        FOR_EACH(&delta, b, i, h, e)
        {
            double want = 0, size = 0;
            for (int64_t x = 0; x < s.value_dim; x++) {
                double term = tensor_get(&out, b, i, h, x) * tensor_get(&dout, b, i, h, x);
                want += term;
                size += fabs(term);
            }
            check_near(tensor_get(&delta, b, i, h, e), want, 1e-6 * size);
        }
        tensor_check_gaps(&delta);
        tensor_destroy(&out);
        tensor_destroy(&dout);
        tensor_destroy(&delta);
    }
}

/* Every pair of types: the result is what one rounding of the value gives, and nothing beside it changes. */
static void copies_and_conversions(void **unused)
{
    (void)unused;
    for (uint64_t seed = 200; seed < 290; seed++) {
        dice d = {seed};
        ringx_dtype from_type = (ringx_dtype)(seed % 3), to_type = (ringx_dtype)(seed / 3 % 3);
        ringx_shape s = shape_of(&d, RINGX_F32);
        int64_t n = pick(&d, 0, 40), heads = pick(&d, 0, 6), dim = pick(&d, 1, 600);
        tensor from = random_tensor(&d, s.batch, n, heads, dim, from_type);
        tensor to = poisoned_tensor(&d, s.batch, n, heads, dim, to_type);
        assert_int_equal(ringx__rowops(RINGX_CPU)->copy(&s, n, heads, dim, from.view, from_type, to.view, to_type,
                                                        1 + (int)(seed % 3), NULL),
                         RINGX_OK);
        FOR_EACH(&to, b, i, h, e)
        {
            unsigned char want[4];
            ringx__store(want, to_type, 0, ringx__load(tensor_at(&from, b, i, h, e), from_type, 0));
            assert_memory_equal(tensor_at(&to, b, i, h, e), want, to.element);
        }
        tensor_check_gaps(&to);
        tensor_destroy(&from);
        tensor_destroy(&to);
    }
}

static void flat_arrays(void **unused)
{
    (void)unused;
    const ringx_rowops *ops = ringx__rowops(RINGX_CPU);
    static const int64_t counts[] = {0, 1, 7, 1000, 100003};
    for (size_t c = 0; c < 5; c++)
        for (int threads = 1; threads <= 3; threads++)
            for (uint64_t types = 0; types < 9; types++) {
                dice d = {types + 10 * (uint64_t)threads};
                ringx_dtype from_type = (ringx_dtype)(types % 3), to_type = (ringx_dtype)(types / 3);
                tensor a = random_tensor(&d, 1, counts[c], 1, 1, RINGX_F32),
                       from = random_tensor(&d, 1, counts[c], 1, 1, from_type);
                tensor to = poisoned_tensor(&d, 1, counts[c], 1, 1, to_type),
                       sum = random_tensor(&d, 1, counts[c], 1, 1, RINGX_F32);
                size_t n = (size_t)counts[c];
                tensor *all[] = {&a, &from, &to, &sum};
                for (size_t i = 0; i < 4; i++) /* packed, whatever stride was drawn: the memory is large enough */
                    all[i]->view.token_stride = 1;
                FOR_EACH(&a, b, i, h, e)
                {
                    tensor_put(&a, b, i, h, e, normal(&d));
                    tensor_put(&from, b, i, h, e, normal(&d));
                    tensor_put(&sum, b, i, h, e, normal(&d));
                }
                for (size_t i = 0; i < 4; i++)
                    memcpy(all[i]->before, all[i]->memory, all[i]->bytes);
                assert_int_equal(ops->convert(n, from.view.data, from_type, to.view.data, to_type, threads, NULL),
                                 RINGX_OK);
                assert_int_equal(ops->add(n, a.view.data, sum.view.data, threads, NULL), RINGX_OK);
                FOR_EACH(&to, b, i, h, e)
                {
                    unsigned char want[4];
                    ringx__store(want, to_type, 0, ringx__load(tensor_at(&from, b, i, h, e), from_type, 0));
                    assert_memory_equal(tensor_at(&to, b, i, h, e), want, to.element);
                    size_t at = (size_t)((char *)tensor_at(&sum, b, i, h, e) - (char *)sum.memory);
                    float old, got = (float)tensor_get(&sum, b, i, h, e);
                    memcpy(&old, sum.before + at, sizeof old);
                    assert_true(got == old + (float)tensor_get(&a, b, i, h, e));
                }
                assert_int_equal(ops->fill(n, -2.5f, a.view.data, threads, NULL), RINGX_OK);
                FOR_EACH(&a, b, i, h, e)
                {
                    assert_true(tensor_get(&a, b, i, h, e) == -2.5);
                }
                for (size_t i = 0; i < 4; i++) {
                    tensor_check_gaps(all[i]);
                    tensor_destroy(all[i]);
                }
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finished_states),
        cmocka_unit_test(rescaled_states),
        cmocka_unit_test(delta_is_a_dot_product),
        cmocka_unit_test(copies_and_conversions),
        cmocka_unit_test(flat_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
