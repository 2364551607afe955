/* SPDX-License-Identifier: MIT */
/* Attention of one query over cached keys against the definition in double. */
#include "nn_case.h"

typedef struct decode_case {
    int64_t heads, kv_heads, dim, keys;
    ringx_dtype dtype;
} decode_case;

static void right_head(const nn_decode *d, const matrix m[3], int64_t h, double *out)
{
    int64_t column = h / (d->heads / d->kv_heads) * d->head_dim, width = d->kv_heads * d->head_dim;
    double most = -INFINITY, sum = 0, *scores = malloc((size_t)(d->keys + 1) * sizeof *scores);
    for (int64_t i = 0; i < d->keys; i++) {
        scores[i] = 0;
        for (int64_t j = 0; j < d->head_dim; j++)
            scores[i] += d->scale * m[0].exact[h * d->head_dim + j] * m[1].exact[i * width + column + j];
        most = fmax(most, scores[i]);
    }
    for (int64_t j = 0; j < d->head_dim; j++)
        out[j] = 0;
    for (int64_t i = 0; i < d->keys; i++) {
        sum += exp(scores[i] - most);
        for (int64_t j = 0; j < d->head_dim; j++)
            out[j] += exp(scores[i] - most) * m[2].exact[i * width + column + j];
    }
    for (int64_t j = 0; j < d->head_dim && d->keys; j++)
        out[j] /= sum;
    free(scores);
}

static void try_case(decode_case c, double size)
{
    int64_t width = c.heads * c.dim;
    matrix m[3] = {matrix_random(1, width, c.dtype, size), matrix_random(c.keys, c.kv_heads * c.dim, c.dtype, size),
                   matrix_random(c.keys, c.kv_heads * c.dim, c.dtype, 1)};
    matrix out = matrix_poisoned(1, width, c.dtype, 3);
    nn_decode d = {.heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.dim, .keys = c.keys, .scale = 0.3};
    d.q = m[0].array, d.k = m[1].array, d.v = m[2].array, d.out = out.array;
    d.workspace = malloc(nn_decode_workspace(&d));
    poison(d.workspace, nn_decode_workspace(&d));
    assert_int_equal(cpu.ops->decode(&cpu, &d), 0);
    double *right = malloc((size_t)width * sizeof *right);
    for (int64_t h = 0; h < c.heads; h++)
        right_head(&d, m, h, right + h * c.dim);
    assert_matrix(&out, right, c.dtype == RINGX_F32 ? 2e-5 * (1 + size) : tolerance_of(c.dtype), "out");
    free(right), free(d.workspace);
    matrix_free(&m[0]), matrix_free(&m[1]), matrix_free(&m[2]), matrix_free(&out);
}

static void sizes_and_dtypes(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 3; dtype++) {
        try_case((decode_case){1, 1, 1, 1, (ringx_dtype)dtype}, 1);
        try_case((decode_case){3, 3, 7, 0, (ringx_dtype)dtype}, 1);
        try_case((decode_case){6, 2, 8, 129, (ringx_dtype)dtype}, 1);
        try_case((decode_case){4, 1, 128, 513, (ringx_dtype)dtype}, 1);
        try_case((decode_case){2, 2, 5, 1025, (ringx_dtype)dtype}, 1);
    }
    try_case((decode_case){2, 1, 16, 700, RINGX_F32}, 12); /* scores of hundreds */
}

static void head_too_wide(void **state)
{
    (void)state;
    nn_decode d = {.heads = 1, .kv_heads = 1, .head_dim = 1025};
    assert_int_equal(cpu.ops->decode(&cpu, &d), 78);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_and_dtypes), cmocka_unit_test(head_too_wide)};
    return cmocka_run_group_tests_name("nn_decode", tests, NULL, NULL);
}
