/* SPDX-License-Identifier: MIT */
/* RMSNorm and LayerNorm against naive references in double and finite differences. */
#include "nn_case.h"

typedef struct norm_case {
    int64_t tokens, width;
    ringx_dtype dtype;
    bool layer, add;
    matrix x, weight, bias, y, dy, dx, dweight, dbias;
} norm_case;

static const double eps = 1e-3; /* large enough to be seen */

static void reference_row(const norm_case *c, int64_t t, double *y)
{
    const double *x = c->x.exact + t * c->width;
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < c->width && c->layer; i++)
        mean += x[i] / (double)c->width;
    for (int64_t i = 0; i < c->width; i++)
        squares += (x[i] - mean) * (x[i] - mean) / (double)c->width;
    for (int64_t i = 0; i < c->width; i++) {
        y[i] = (x[i] - mean) / sqrt(squares + eps) * c->weight.exact[i];
        if (c->layer)
            y[i] += c->bias.exact[i];
    }
}

static double objective(const void *args)
{
    const norm_case *c = args;
    double sum = 0, *y = malloc((size_t)c->width * sizeof *y);
    for (int64_t t = 0; t < c->tokens; t++) {
        reference_row(c, t, y);
        for (int64_t i = 0; i < c->width; i++)
            sum += y[i] * c->dy.exact[t * c->width + i];
    }
    free(y);
    return sum;
}

static void run(const norm_case *c)
{
    nn_norm n = {.tokens = c->tokens, .width = c->width, .eps = eps, .add = c->add};
    n.x = c->x.array, n.weight = c->weight.array, n.bias = c->bias.array, n.y = c->y.array;
    n.dy = c->dy.array, n.dx = c->dx.array, n.dweight = c->dweight.array.data, n.dbias = c->dbias.array.data;
    const nn_ops *ops = cpu.ops;
    assert_int_equal((c->layer ? ops->layer_norm_forward : ops->rms_norm_forward)(&cpu, &n), 0);
    assert_int_equal((c->layer ? ops->layer_norm_backward : ops->rms_norm_backward)(&cpu, &n), 0);
}

static void try_case(norm_case c)
{
    c.x = matrix_random(c.tokens, c.width, c.dtype, 2);
    c.weight = matrix_random(1, c.width, c.dtype, 1);
    c.bias = matrix_random(1, c.width, c.dtype, 1);
    c.dy = matrix_random(c.tokens, c.width, c.dtype, 1);
    c.y = matrix_poisoned(c.tokens, c.width, c.dtype, 1);
    c.dx = c.add ? matrix_random(c.tokens, c.width, c.dtype, 1) : matrix_poisoned(c.tokens, c.width, c.dtype, 4);
    c.dweight = matrix_accumulator(1, c.width);
    c.dbias = matrix_accumulator(1, c.width);
    run(&c);
    double *right = calloc((size_t)(c.tokens * c.width) + 1, sizeof *right);
    for (int64_t t = 0; t < c.tokens; t++)
        reference_row(&c, t, right + t * c.width);
    double tolerance = tolerance_of(c.dtype);
    assert_matrix(&c.y, right, tolerance, "y");
    difference x = {objective, &c, c.x.exact, c.tokens * c.width};
    difference weight = {objective, &c, c.weight.exact, c.width}, bias = {objective, &c, c.bias.exact, c.width};
    assert_gradient(&x, &c.dx, c.add ? c.dx.exact : NULL, tolerance, "dx");
    assert_gradient(&weight, &c.dweight, c.dweight.exact, 2e-5, "dweight");
    if (c.layer)
        assert_gradient(&bias, &c.dbias, c.dbias.exact, 2e-5, "dbias");
    matrix *all[] = {&c.x, &c.weight, &c.bias, &c.dy, &c.y, &c.dx, &c.dweight, &c.dbias};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        matrix_free(all[i]);
    free(right);
}

static void sizes_and_dtypes(void **state)
{
    (void)state;
    const int64_t sizes[][2] = {{0, 5}, {1, 1}, {3, 7}, {131, 3}, {2, 129}, {3, 513}, {260, 20}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 12; form++)
            try_case((norm_case){.tokens = sizes[i][0],
                                 .width = sizes[i][1],
                                 .dtype = (ringx_dtype)(form % 3),
                                 .layer = form / 3 % 2,
                                 .add = form / 6});
}

/* A row far from zero: the variance must not be a difference of large numbers. */
static void large_mean(void **state)
{
    (void)state;
    norm_case c = {.tokens = 2, .width = 64, .layer = true};
    c.x = matrix_random(2, 64, RINGX_F32, 1);
    float *x = c.x.array.data;
    for (int64_t i = 0; i < 128; i++) {
        size_t at = place_in(&c.x, i / 64, i % 64);
        x[at] += 4096;
        c.x.exact[i] = (double)x[at];
    }
    c.weight = matrix_random(1, 64, RINGX_F32, 1), c.bias = matrix_random(1, 64, RINGX_F32, 1);
    c.dy = matrix_random(2, 64, RINGX_F32, 1), c.y = matrix_poisoned(2, 64, RINGX_F32, 0);
    c.dx = matrix_poisoned(2, 64, RINGX_F32, 0);
    c.dweight = matrix_accumulator(1, 64), c.dbias = matrix_accumulator(1, 64);
    run(&c);
    double right[128];
    reference_row(&c, 0, right), reference_row(&c, 1, right + 64);
    assert_matrix(&c.y, right, 5e-4, "y"); /* the mean is rounded to float: 4096·2^-24 */
    matrix *all[] = {&c.x, &c.weight, &c.bias, &c.dy, &c.y, &c.dx, &c.dweight, &c.dbias};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        matrix_free(all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_and_dtypes), cmocka_unit_test(large_mean)};
    return cmocka_run_group_tests_name("nn_norm", tests, NULL, NULL);
}
