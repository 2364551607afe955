/* SPDX-License-Identifier: MIT */
/* Matrices for tests of operators: random values or poison, padded rows; comparison with doubles; finite differences.
 * Values are new in every run; VERIFY_SEED repeats one. */
#ifndef NN_CASE_H
#define NN_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nn/operators.h"
#include "shared/numbers.h"

#include <cmocka.h>

static const nn_context cpu = {.ops = &nn_cpu};

static inline uint64_t fresh_key(void)
{
    static uint64_t seed; /* set by the first call, before there are threads */
    static _Atomic uint64_t calls;
    if (!seed) {
        const char *given = getenv("VERIFY_SEED");
        seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
        print_message("VERIFY_SEED=%llu\n", (unsigned long long)seed);
    }
    return random_word(seed, ++calls);
}

typedef struct matrix {
    int64_t rows, columns;
    double *exact; /* [rows][columns]: the values, as they are after rounding to the dtype */
    nn_array array;
    size_t bytes;
} matrix;

static inline size_t place_in(const matrix *m, int64_t row, int64_t column)
{
    return (size_t)(row * m->array.stride + column);
}

/* A matrix whose every byte is poison, rows a few elements apart. */
static inline matrix matrix_poisoned(int64_t rows, int64_t columns, ringx_dtype dtype, int64_t padding)
{
    matrix m = {rows, columns, NULL, {NULL, dtype, columns + padding}, 0};
    m.bytes = (size_t)(rows * m.array.stride) * dtype_bytes(dtype);
    m.array.data = malloc(m.bytes + 1);
    m.exact = calloc((size_t)(rows * columns) + 1, sizeof *m.exact);
    assert_non_null(m.array.data);
    assert_non_null(m.exact);
    poison(m.array.data, m.bytes);
    return m;
}

static inline matrix matrix_random(int64_t rows, int64_t columns, ringx_dtype dtype, double size)
{
    matrix m = matrix_poisoned(rows, columns, dtype, 3);
    uint64_t key = fresh_key();
    for (int64_t i = 0; i < rows * columns; i++) {
        double value = size * (double)random_normal(key, (uint64_t)i);
        void *to = (char *)m.array.data + place_in(&m, i / columns, i % columns) * dtype_bytes(dtype);
        from_doubles(dtype, &value, to, 1);
        to_doubles(dtype, to, m.exact + i, 1);
    }
    return m;
}

static inline void matrix_free(matrix *m)
{
    free(m->array.data);
    free(m->exact);
}

static inline double value_at(const matrix *m, int64_t i)
{
    double value;
    size_t at = place_in(m, i / m->columns, i % m->columns) * dtype_bytes(m->array.dtype);
    to_doubles(m->array.dtype, (char *)m->array.data + at, &value, 1);
    return value;
}

/* What lies between the rows must still be poison. */
static inline void assert_padding(const matrix *m)
{
    size_t size = dtype_bytes(m->array.dtype), width = (size_t)m->array.stride * size;
    for (int64_t r = 0; r < m->rows; r++)
        for (size_t b = (size_t)m->columns * size; b < width; b++)
            assert_int_equal(((unsigned char *)m->array.data)[(size_t)r * width + b], POISON);
}

static inline double tolerance_of(ringx_dtype dtype)
{
    return dtype == RINGX_F32 ? 2e-5 : dtype == RINGX_F16 ? 2e-3 : 1e-2;
}

static inline void assert_near(double found, double right, double allowed, const char *what, int64_t i)
{
    if (!(fabs(found - right) <= allowed)) /* NaN fails */
        fail_msg("%s[%lld] is %.9g; it must be %.9g within %.3g", what, (long long)i, found, right, allowed);
}

/* Every value of m against right, within tolerance times the largest of right (at least 1e-3). */
static inline void assert_matrix(const matrix *m, const double *right, double tolerance, const char *what)
{
    double most = 1e-3;
    for (int64_t i = 0; i < m->rows * m->columns; i++)
        most = fmax(most, fabs(right[i]));
    for (int64_t i = 0; i < m->rows * m->columns; i++)
        assert_near(value_at(m, i), right[i], tolerance * most, what, i);
    assert_padding(m);
}

static inline void assert_same_bits(const void *a, const void *b, size_t bytes)
{
    assert_true(bytes == 0 || memcmp(a, b, bytes) == 0);
}

/* Gradients by central differences in double of `objective` (a naive reference) with respect to values that it reads.
 */
typedef double objective_function(const void *args);

typedef struct difference {
    objective_function *objective;
    const void *args;
    double *values; /* count of them: what is varied */
    int64_t count;
} difference;

/* Compares found(i) = gradient of value i, at random places (all, if they are few); before: what was there to add to.
 */
static inline void assert_gradient(const difference *d, const matrix *found, const double *before, double tolerance,
                                   const char *what)
{
    enum { MOST = 24 };
    random_stream stream = {fresh_key(), 0};
    double right[MOST], most = 1e-3;
    int64_t at[MOST], places = d->count < MOST ? d->count : MOST;
    for (int64_t i = 0; i < places; i++) {
        at[i] = d->count <= MOST ? i : (int64_t)random_below(&stream, (uint64_t)d->count);
        double kept = d->values[at[i]], step = 1e-5;
        d->values[at[i]] = kept + step;
        double above = d->objective(d->args);
        d->values[at[i]] = kept - step;
        right[i] = (above - d->objective(d->args)) / (2 * step);
        d->values[at[i]] = kept;
        most = fmax(most, fabs(right[i]));
    }
    for (int64_t i = 0; i < places; i++)
        assert_near(value_at(found, at[i]), right[i] + (before ? before[at[i]] : 0), tolerance * (most + 1), what,
                    at[i]);
    assert_padding(found);
}

/* Accumulators of parameters' gradients: packed floats with something in them already. */
static inline matrix matrix_accumulator(int64_t rows, int64_t columns)
{
    matrix m = matrix_random(rows, columns, RINGX_F32, 0.5);
    float *packed = m.array.data;
    for (int64_t i = 0; i < rows * columns; i++)
        packed[i] = (float)m.exact[i];
    m.array.stride = columns;
    return m;
}

#endif
