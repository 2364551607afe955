/* SPDX-License-Identifier: MIT */
/* The CUDA operators against the CPU's: the same call on the same bytes, twice on the GPU (whose bits must agree) and
 * once on the CPU.  Everything that a call was given is compared, inputs and what lies between rows too. */
#ifndef NN_CUDA_CASE_H
#define NN_CUDA_CASE_H

#include "shared/report.h" /* before cmocka, which has a fail of its own */

#include "nn_case.h"

static nn_context gpu;
static int wrongs; /* of the test that runs */

typedef struct twin { /* a matrix in both memories */
    const char *name;
    matrix host;
    void *there;
    unsigned char *found[2];
} twin;

enum { MOST_TWINS = 12 };

typedef struct trial {
    const char *name; /* the operator */
    char shape[160];
    twin twins[MOST_TWINS];
    int count;
    double tolerance; /* times the largest value of a result; 0: that of the result's dtype */
    double least;     /* how large that value is at least: of terms that cancel; 0: 1e-3 */
    double sums[3];   /* results in double, of the GPU */
} trial;

/* Calls the operator on host or device memory. */
typedef int call_function(const nn_context *on, trial *t, const void *sizes);

static inline const char *dtype_name(ringx_dtype dtype)
{
    return dtype == RINGX_F32 ? "f32" : dtype == RINGX_BF16 ? "bf16" : "f16";
}

/* Takes the matrix over; the device gets as many bytes. */
static inline twin *trial_add(trial *t, const char *name, matrix m)
{
    assert_true(t->count < MOST_TWINS);
    twin *w = &t->twins[t->count++];
    *w = (twin){.name = name, .host = m};
    assert_int_equal(ringx_memory_alloc(RINGX_CUDA, m.bytes + 16, &w->there), RINGX_OK);
    for (int i = 0; i < 2; i++) {
        w->found[i] = malloc(m.bytes + 1);
        assert_non_null(w->found[i]);
    }
    return w;
}

static inline matrix padded_random(int64_t rows, int64_t columns, ringx_dtype dtype, int64_t padding, double size)
{
    matrix m = matrix_poisoned(rows, columns, dtype, padding);
    uint64_t key = fresh_key();
    for (int64_t r = 0; r < rows; r++)
        random_fill(dtype, key, (uint64_t)(r * columns), size,
                    (char *)m.array.data + place_in(&m, r, 0) * dtype_bytes(dtype), (size_t)columns);
    return m;
}

static inline twin *add_random(trial *t, const char *name, const int64_t size[2], ringx_dtype dtype, int64_t padding)
{
    return trial_add(t, name, padded_random(size[0], size[1], dtype, padding, 1));
}

static inline twin *add_poisoned(trial *t, const char *name, const int64_t size[2], ringx_dtype dtype, int64_t padding)
{
    return trial_add(t, name, matrix_poisoned(size[0], size[1], dtype, padding));
}

/* Bytes that are no floats: words of a multiple of 4 bytes, compared bit by bit. */
static inline twin *add_words(trial *t, const char *name, const void *words, size_t bytes)
{
    twin *w = trial_add(t, name, matrix_poisoned(1, (int64_t)(bytes / 4), RINGX_F32, 0));
    if (bytes)
        memcpy(w->host.array.data, words, bytes);
    return w;
}

static inline void trial_free(trial *t)
{
    for (int i = 0; i < t->count; i++) {
        twin *w = &t->twins[i];
        ringx_memory_free(RINGX_CUDA, w->there);
        free(w->found[0]), free(w->found[1]);
        matrix_free(&w->host);
    }
    t->count = 0;
}

static inline void *data_on(const nn_context *on, const trial *t, int i)
{
    return on == &cpu ? t->twins[i].host.array.data : t->twins[i].there;
}

static inline nn_array array_on(const nn_context *on, const trial *t, int i)
{
    nn_array a = t->twins[i].host.array;
    a.data = data_on(on, t, i);
    return a;
}

#define WRONG(...)                                                                                                     \
    do {                                                                                                               \
        if (wrongs++ < 60)                                                                                             \
            print_error(__VA_ARGS__);                                                                                  \
    } while (0)

static inline void must_copy(void *to, const void *from, size_t bytes)
{
    if (ringx_memory_copy(RINGX_CUDA, to, from, bytes) != RINGX_OK)
        WRONG("copy of %zu bytes: %s\n", bytes, ringx_last_error());
}

static inline void run_on_gpu(trial *t, call_function *call, const void *sizes, int round)
{
    for (int i = 0; i < t->count; i++)
        if (t->twins[i].host.bytes)
            must_copy(t->twins[i].there, t->twins[i].host.array.data, t->twins[i].host.bytes);
    int code = call(&gpu, t, sizes);
    if (!code)
        code = gpu.ops->wait(&gpu);
    if (code)
        WRONG("%s %s: returned %d: %s\n", t->name, t->shape, code, failure());
    for (int i = 0; i < t->count; i++)
        if (t->twins[i].host.bytes)
            must_copy(t->twins[i].found[round], t->twins[i].there, t->twins[i].host.bytes);
}

static inline void compare_values(const trial *t, const twin *w)
{
    const matrix *m = &w->host;
    matrix found = *m;
    found.array.data = w->found[0];
    double most = t->least > 0 ? t->least : 1e-3,
           tolerance = t->tolerance > 0 ? t->tolerance : tolerance_of(m->array.dtype);
    int64_t all = m->rows * m->columns, bad = 0;
    for (int64_t i = 0; i < all; i++)
        if (isfinite(value_at(m, i)))
            most = fmax(most, fabs(value_at(m, i)));
    for (int64_t i = 0; i < all; i++) {
        double x = value_at(&found, i), right = value_at(m, i);
        size_t at = place_in(m, i / m->columns, i % m->columns) * dtype_bytes(m->array.dtype);
        bool same = memcmp(w->found[0] + at, (char *)m->array.data + at, dtype_bytes(m->array.dtype)) == 0;
        if (!same && !(fabs(x - right) <= tolerance * most) && bad++ < 4) /* NaN fails, but as an unused input */
            WRONG("%s %s: %s (%s)[%lld][%lld] is %.9g; it must be %.9g within %.3g\n", t->name, t->shape, w->name,
                  dtype_name(m->array.dtype), (long long)(i / m->columns), (long long)(i % m->columns), x, right,
                  tolerance * most);
    }
    if (bad > 4)
        WRONG("%s %s: %s: %lld of %lld values are wrong\n", t->name, t->shape, w->name, (long long)bad, (long long)all);
}

static inline void compare_padding(const trial *t, const twin *w)
{
    size_t size = dtype_bytes(w->host.array.dtype), stride = (size_t)w->host.array.stride * size;
    size_t used = (size_t)w->host.columns * size;
    for (int64_t r = 0; r < w->host.rows; r++)
        if (memcmp(w->found[0] + (size_t)r * stride + used, (char *)w->host.array.data + (size_t)r * stride + used,
                   stride - used) != 0) {
            WRONG("%s %s: %s: what follows row %lld was written to\n", t->name, t->shape, w->name, (long long)r);
            return;
        }
}

/* Runs and compares; frees the trial. */
static inline void trial_run(trial *t, call_function *call, const void *sizes)
{
    for (int round = 0; round < 2; round++)
        run_on_gpu(t, call, sizes, round);
    int code = call(&cpu, t, sizes);
    if (code)
        WRONG("%s %s: the CPU returned %d: %s\n", t->name, t->shape, code, failure());
    for (int i = 0; i < t->count; i++) {
        const twin *w = &t->twins[i];
        if (memcmp(w->found[0], w->found[1], w->host.bytes) != 0)
            WRONG("%s %s: %s: two runs differ in bits\n", t->name, t->shape, w->name);
        compare_values(t, w);
        compare_padding(t, w);
    }
    trial_free(t);
}

/* A result in double: from device memory, or the CPU's. */
static inline void compare_sum(const trial *t, const char *name, double found, double right, double allowed)
{
    if (!(fabs(found - right) <= allowed))
        WRONG("%s %s: %s is %.15g; it must be %.15g within %.3g\n", t->name, t->shape, name, found, right, allowed);
}

static inline void finish_test(void)
{
    if (wrongs)
        fail_msg("%d results are wrong", wrongs);
}

/* Test groups' set-up: opens the GPU, or says that there is none, and then every test skips. */
static inline int open_gpu(void **state)
{
    (void)state;
    if (nn_open(&gpu, RINGX_CUDA))
        print_message("skipped: %s\n", failure());
    return 0;
}

static inline int close_gpu(void **state)
{
    (void)state;
    nn_close(&gpu);
    return 0;
}

static inline void begin_test(void)
{
    wrongs = 0;
    if (!gpu.ops)
        skip();
}

#endif
