/* SPDX-License-Identifier: MIT */
/* GELU, the SiLU gate, sums, scaled rows, casts and dropout against references in double and finite differences. */
#include "nn/exponential.h"
#include "nn_case.h"

static const int64_t sizes[][2] = {{0, 3}, {1, 1}, {3, 7}, {129, 5}, {2, 1100}};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

typedef struct point_case {
    int64_t count;
    matrix a, b, dy;
} point_case;

static double gelu(double x)
{
    return x * erfc(-x / sqrt(2)) / 2;
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double gelu_objective(const void *args)
{
    const point_case *c = args;
    double sum = 0;
    for (int64_t i = 0; i < c->count; i++)
        sum += c->dy.exact[i] * gelu(c->a.exact[i]);
    return sum;
}

static double gate_objective(const void *args)
{
    const point_case *c = args;
    double sum = 0;
    for (int64_t i = 0; i < c->count; i++)
        sum += c->dy.exact[i] * silu(c->a.exact[i]) * c->b.exact[i];
    return sum;
}

static point_case create(int64_t rows, int64_t columns, ringx_dtype dtype)
{
    return (point_case){rows * columns, matrix_random(rows, columns, dtype, 3), matrix_random(rows, columns, dtype, 1),
                        matrix_random(rows, columns, dtype, 1)};
}

static void destroy(point_case *c)
{
    matrix_free(&c->a), matrix_free(&c->b), matrix_free(&c->dy);
}

static void gelu_sizes(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * N_SIZES; i++) {
        int64_t rows = sizes[i / 3][0], columns = sizes[i / 3][1];
        ringx_dtype dtype = (ringx_dtype)(i % 3);
        point_case c = create(rows, columns, dtype);
        matrix y = matrix_poisoned(rows, columns, dtype, 2), dx = matrix_poisoned(rows, columns, dtype, 1);
        nn_map m = {rows, columns, c.a.array, y.array, c.dy.array, dx.array};
        assert_int_equal(cpu.ops->gelu_forward(&cpu, &m), 0);
        assert_int_equal(cpu.ops->gelu_backward(&cpu, &m), 0);
        for (int64_t j = 0; j < c.count; j++)
            assert_near(value_at(&y, j), gelu(c.a.exact[j]), tolerance_of(dtype) * (1 + fabs(c.a.exact[j])), "y", j);
        assert_padding(&y);
        assert_gradient(&(difference){gelu_objective, &c, c.a.exact, c.count}, &dx, NULL, tolerance_of(dtype), "dx");
        matrix_free(&y), matrix_free(&dx), destroy(&c);
    }
}

static void gate_sizes(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * N_SIZES; i++) {
        int64_t rows = sizes[i / 3][0], columns = sizes[i / 3][1];
        ringx_dtype dtype = (ringx_dtype)(i % 3);
        point_case c = create(rows, columns, dtype);
        matrix y = matrix_poisoned(rows, columns, dtype, 2), dup = matrix_poisoned(rows, columns, dtype, 1);
        nn_gate g = {rows, columns, c.a.array, c.b.array, y.array, c.dy.array, c.dy.array, dup.array};
        assert_int_equal(cpu.ops->silu_gate_forward(&cpu, &g), 0);
        assert_int_equal(cpu.ops->silu_gate_backward(&cpu, &g), 0); /* dgate in the place of dy */
        for (int64_t j = 0; j < c.count; j++) {
            double right = silu(c.a.exact[j]) * c.b.exact[j];
            assert_near(value_at(&y, j), right, tolerance_of(dtype) * (1 + fabs(right)), "y", j);
        }
        assert_padding(&y);
        assert_gradient(&(difference){gate_objective, &c, c.a.exact, c.count}, &c.dy, NULL, tolerance_of(dtype),
                        "dgate");
        assert_gradient(&(difference){gate_objective, &c, c.b.exact, c.count}, &dup, NULL, tolerance_of(dtype), "dup");
        matrix_free(&y), matrix_free(&dup), destroy(&c);
    }
}

static void extreme_values(void **state)
{
    (void)state;
    float x[] = {-200, -90, 0, 90, 200}, up[] = {1, 1, 1, 1, 1}, y[5], dx[5], dup[5], dy[] = {1, 1, 1, 1, 1};
    const double right[] = {0, 0, 0, 90, 200}, slope[] = {0, 0, 0.5, 1, 1};
    nn_map m = {1, 5, {x, 0, 0}, {y, 0, 0}, {dy, 0, 0}, {dx, 0, 0}};
    nn_gate g = {1, 5, {x, 0, 0}, {up, 0, 0}, {y, 0, 0}, {dy, 0, 0}, {dx, 0, 0}, {dup, 0, 0}};
    for (int which = 0; which < 2; which++) {
        poison(y, sizeof y), poison(dx, sizeof dx), poison(dup, sizeof dup);
        assert_int_equal(which ? cpu.ops->gelu_forward(&cpu, &m) : cpu.ops->silu_gate_forward(&cpu, &g), 0);
        assert_int_equal(which ? cpu.ops->gelu_backward(&cpu, &m) : cpu.ops->silu_gate_backward(&cpu, &g), 0);
        for (int i = 0; i < 5; i++) {
            assert_near((double)y[i], right[i], 1e-6, "y", i);
            assert_near((double)dx[i], slope[i], 1e-6, "dx", i);
        }
    }
}

static void exponential(void **state)
{
    (void)state;
    random_stream stream = {fresh_key(), 0};
    for (int64_t i = 0; i < 200000; i++) {
        float x = (float)random_below(&stream, 1 << 24) * (175.5f / (1 << 24)) - 87.25f;
        assert_near((double)nn_exp(x) / exp((double)x), 1, 2e-7, "exp", i);
    }
    assert_true(nn_exp(0) == 1 && isnan(nn_exp(NAN)));
    assert_true(nn_exp(-INFINITY) < 1.3e-38f && nn_exp(-1000) < 1.3e-38f);
    assert_true(nn_exp(INFINITY) > 2e38f && nn_exp(1000) > 2e38f);
}

static void sums_and_casts(void **state)
{
    (void)state;
    for (int i = 0; i < 9 * N_SIZES; i++) {
        int64_t rows = sizes[i / 9][0], columns = sizes[i / 9][1];
        ringx_dtype from = (ringx_dtype)(i % 3), to = (ringx_dtype)(i / 3 % 3);
        point_case c = create(rows, columns, from);
        matrix y = matrix_poisoned(rows, columns, to, 2), z = matrix_poisoned(rows, columns, to, 0);
        nn_sum s = {rows, columns, c.a.array, c.b.array, y.array};
        nn_map m = {.tokens = rows, .width = columns, .x = c.a.array, .y = z.array};
        assert_int_equal(cpu.ops->add(&cpu, &s), 0);
        assert_int_equal(cpu.ops->cast(&cpu, &m), 0);
        for (int64_t j = 0; j < c.count; j++) {
            double sum = (double)(float)(c.a.exact[j] + c.b.exact[j]), rounded[2];
            unsigned char bytes[4];
            from_doubles(to, &sum, bytes, 1), to_doubles(to, bytes, rounded, 1);
            from_doubles(to, c.a.exact + j, bytes, 1), to_doubles(to, bytes, rounded + 1, 1);
            assert_near(value_at(&y, j), rounded[0], 0, "sum", j);
            assert_near(value_at(&z, j), rounded[1], 0, "cast", j);
        }
        assert_padding(&y);
        matrix_free(&y), matrix_free(&z), destroy(&c);
    }
}

/* The mask of a global matrix, seen through a shard of its rows and columns. */
static void scaled_rows(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * N_SIZES; i++) {
        int64_t rows = sizes[i / 3][0], columns = sizes[i / 3][1];
        ringx_dtype dtype = (ringx_dtype)(i % 3);
        matrix x = matrix_random(rows, columns, dtype, 1), y = matrix_poisoned(rows, columns, dtype, 2);
        float factors[129];
        uint64_t key = fresh_key();
        for (int64_t t = 0; t < rows; t++)
            factors[t] = t % 3 ? random_normal(key, (uint64_t)t) : 0;
        nn_scale s = {rows, columns, x.array, y.array, factors};
        assert_int_equal(cpu.ops->scale(&cpu, &s), 0);
        for (int64_t j = 0; j < rows * columns; j++)
            x.exact[j] *= (double)factors[j / columns];
        assert_matrix(&y, x.exact, tolerance_of(dtype), "scaled rows");
        s.y = s.x;
        assert_int_equal(cpu.ops->scale(&cpu, &s), 0);
        assert_matrix(&x, x.exact, tolerance_of(dtype), "scaled in place");
        matrix_free(&x), matrix_free(&y);
    }
}

static void dropout_of_shards(void **state)
{
    (void)state;
    enum { ROWS = 301, COLUMNS = 70, FIRST = 13, PART = 29 };
    const double p = 0.3;
    matrix x = matrix_random(ROWS, COLUMNS, RINGX_F32, 1), y = matrix_poisoned(ROWS, COLUMNS, RINGX_F32, 1);
    nn_dropout d = {ROWS, COLUMNS, x.array, y.array, p, fresh_key(), NULL, COLUMNS, 0};
    assert_int_equal(cpu.ops->dropout(&cpu, &d), 0);
    int64_t rows[ROWS], kept = 0;
    for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
        double value = value_at(&y, i);
        kept += value != 0;
        assert_near(value, value != 0 ? x.exact[i] / (1 - p) : 0, 1e-6, "y", i);
    }
    double share = (double)kept / (ROWS * COLUMNS), spread = sqrt(p * (1 - p) / (ROWS * COLUMNS));
    assert_near(share, 1 - p, 6 * spread, "kept", 0);
    matrix part = matrix_poisoned(ROWS / 2, PART, RINGX_F32, 0);
    nn_dropout shard = d;
    shard.tokens = ROWS / 2, shard.width = PART, shard.rows = rows, shard.first_column = FIRST;
    shard.x.data = (float *)x.array.data + x.array.stride + FIRST, shard.x.stride = 2 * x.array.stride;
    shard.y = part.array;
    for (int64_t t = 0; t < ROWS / 2; t++)
        rows[t] = 2 * t + 1;
    assert_int_equal(cpu.ops->dropout(&cpu, &shard), 0);
    for (int64_t i = 0; i < part.rows * PART; i++)
        assert_near(value_at(&part, i), value_at(&y, (2 * (i / PART) + 1) * COLUMNS + FIRST + i % PART), 0, "shard", i);
    d.p = 0;
    assert_int_equal(cpu.ops->dropout(&cpu, &d), 0);
    assert_matrix(&y, x.exact, 0, "p = 0");
    matrix_free(&x), matrix_free(&y), matrix_free(&part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gelu_sizes),       cmocka_unit_test(gate_sizes),
                                       cmocka_unit_test(extreme_values),   cmocka_unit_test(exponential),
                                       cmocka_unit_test(sums_and_casts),   cmocka_unit_test(scaled_rows),
                                       cmocka_unit_test(dropout_of_shards)};
    return cmocka_run_group_tests_name("nn_pointwise", tests, NULL, NULL);
}
