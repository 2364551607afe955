/* SPDX-License-Identifier: MIT */
/* Linear layers against naive sums and finite differences: odd sizes, all dtypes, tokens in pieces. */
#include "nn_case.h"

#include <omp.h>

typedef struct linear_case {
    int64_t tokens, in, out;
    ringx_dtype dtype;
    bool bias, add;
    matrix x, w, b, y, dy, dx, dw, db;
} linear_case;

static double reference(const linear_case *c, int64_t t, int64_t o)
{
    double sum = c->bias ? c->b.exact[o] : 0;
    for (int64_t i = 0; i < c->in; i++)
        sum += c->x.exact[t * c->in + i] * c->w.exact[o * c->in + i];
    return sum;
}

static double objective(const void *args)
{
    const linear_case *c = args;
    double sum = 0;
    for (int64_t i = 0; i < c->tokens * c->out; i++)
        sum += c->dy.exact[i] * reference(c, i / c->out, i % c->out);
    return sum;
}

static nn_linear arguments(linear_case *c)
{
    nn_linear l = {.tokens = c->tokens, .in = c->in, .out = c->out, .add = c->add};
    l.x = c->x.array, l.w = c->w.array, l.y = c->y.array, l.dy = c->dy.array, l.dx = c->dx.array;
    l.dw = c->dw.array.data;
    if (c->bias)
        l.bias = c->b.array, l.dbias = c->db.array.data;
    return l;
}

static void create(linear_case *c)
{
    c->x = matrix_random(c->tokens, c->in, c->dtype, 1);
    c->w = matrix_random(c->out, c->in, c->dtype, 0.5);
    c->b = matrix_random(1, c->out, c->dtype, 1);
    c->dy = matrix_random(c->tokens, c->out, c->dtype, 1);
    c->y = c->add ? matrix_random(c->tokens, c->out, c->dtype, 1) : matrix_poisoned(c->tokens, c->out, c->dtype, 2);
    c->dx = c->add ? matrix_random(c->tokens, c->in, c->dtype, 1) : matrix_poisoned(c->tokens, c->in, c->dtype, 5);
    c->dw = matrix_accumulator(c->out, c->in);
    c->db = matrix_accumulator(1, c->out);
}

static void destroy(linear_case *c)
{
    matrix *all[] = {&c->x, &c->w, &c->b, &c->y, &c->dy, &c->dx, &c->dw, &c->db};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        matrix_free(all[i]);
}

static void try_case(linear_case c)
{
    create(&c);
    nn_linear l = arguments(&c);
    double *right = calloc((size_t)(c.tokens * c.out) + 1, sizeof *right), tolerance = tolerance_of(c.dtype);
    for (int64_t i = 0; i < c.tokens * c.out; i++)
        right[i] = reference(&c, i / c.out, i % c.out) + c.y.exact[i];
    assert_int_equal(cpu.ops->linear_forward(&cpu, &l), 0);
    assert_matrix(&c.y, right, tolerance, "y");
    assert_int_equal(cpu.ops->linear_backward_input(&cpu, &l), 0);
    assert_int_equal(cpu.ops->linear_backward_weight(&cpu, &l), 0);
    difference x = {objective, &c, c.x.exact, c.tokens * c.in}, w = {objective, &c, c.w.exact, c.out * c.in};
    difference b = {objective, &c, c.b.exact, c.out};
    double sums = 2e-5 * sqrt((double)c.tokens + 1); /* float accumulators of sums over tokens */
    assert_gradient(&x, &c.dx, c.add ? c.dx.exact : NULL, tolerance, "dx");
    assert_gradient(&w, &c.dw, c.dw.exact, sums, "dw");
    if (c.bias)
        assert_gradient(&b, &c.db, c.db.exact, sums, "dbias");
    free(right);
    destroy(&c);
}

static const int64_t sizes[][3] = {{0, 3, 5},   {1, 1, 1},    {3, 7, 2},    {7, 129, 3}, {129, 5, 131},
                                   {5, 300, 3}, {257, 2, 67}, {64, 64, 64}, {2, 3, 129}, {131, 130, 1}};

static void sizes_and_dtypes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int dtype = 0; dtype < 3; dtype++)
            for (int form = 0; form < 4; form++)
                try_case((linear_case){.tokens = sizes[i][0],
                                       .in = sizes[i][1],
                                       .out = sizes[i][2],
                                       .dtype = (ringx_dtype)dtype,
                                       .bias = form & 1,
                                       .add = form & 2});
}

/* Forward and backward of tokens first … first+tokens-1. */
static void piece(nn_linear l, int64_t first, int64_t tokens)
{
    size_t size = dtype_bytes(l.x.dtype);
    l.tokens = tokens;
    l.x.data = (char *)l.x.data + (size_t)(first * l.x.stride) * size;
    l.y.data = (char *)l.y.data + (size_t)(first * l.y.stride) * size;
    l.dy.data = (char *)l.dy.data + (size_t)(first * l.dy.stride) * size;
    l.dx.data = (char *)l.dx.data + (size_t)(first * l.dx.stride) * size;
    assert_int_equal(cpu.ops->linear_forward(&cpu, &l), 0);
    assert_int_equal(cpu.ops->linear_backward_input(&cpu, &l), 0);
    assert_int_equal(cpu.ops->linear_backward_weight(&cpu, &l), 0);
}

/* No bit depends on threads, nor on how tokens are divided into calls at multiples of NN_TILE. */
static void threads_and_pieces_change_no_bit(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 3; dtype++) {
        linear_case c = {.tokens = 3 * NN_TILE + 17, .in = 133, .out = 140, .dtype = (ringx_dtype)dtype, .bias = true};
        create(&c);
        linear_case d = c;
        d.y = matrix_poisoned(c.tokens, c.out, c.dtype, 2);
        d.dx = matrix_poisoned(c.tokens, c.in, c.dtype, 5);
        d.dw = matrix_accumulator(c.out, c.in);
        d.db = matrix_accumulator(1, c.out);
        memcpy(d.dw.array.data, c.dw.array.data, c.dw.bytes);
        memcpy(d.db.array.data, c.db.array.data, c.db.bytes);
        omp_set_num_threads(1);
        piece(arguments(&c), 0, c.tokens);
        omp_set_num_threads(3);
        for (int64_t first = 0; first < c.tokens; first += NN_TILE)
            piece(arguments(&d), first, c.tokens - first < NN_TILE ? c.tokens - first : NN_TILE);
        assert_same_bits(c.y.array.data, d.y.array.data, c.y.bytes);
        assert_same_bits(c.dx.array.data, d.dx.array.data, c.dx.bytes);
        assert_same_bits(c.dw.array.data, d.dw.array.data, c.dw.bytes);
        assert_same_bits(c.db.array.data, d.db.array.data, c.db.bytes);
        matrix_free(&d.y), matrix_free(&d.dx), matrix_free(&d.dw), matrix_free(&d.db);
        destroy(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_and_dtypes),
                                       cmocka_unit_test(threads_and_pieces_change_no_bit)};
    return cmocka_run_group_tests_name("nn_linear", tests, NULL, NULL);
}
