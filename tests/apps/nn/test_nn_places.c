/* SPDX-License-Identifier: MIT */
/* Operators that move values between places: embedding, rotary embedding, patches. */
#include "nn/formulas.h"
#include "nn_case.h"

/* ---- embedding ---- */

static void embedding(int64_t tokens, int64_t width, ringx_dtype dtype)
{
    enum { FIRST = 5, COUNT = 9 };
    matrix table = matrix_random(COUNT, width, dtype, 1), y = matrix_poisoned(tokens, width, dtype, 2);
    matrix dy = matrix_random(tokens, width, dtype, 1), dtable = matrix_accumulator(COUNT, width);
    int32_t *ids = malloc((size_t)(tokens + 1) * sizeof *ids);
    random_stream stream = {fresh_key(), 0};
    for (int64_t t = 0; t < tokens; t++)
        ids[t] = (int32_t)random_between(&stream, FIRST - 2, FIRST + COUNT + 1);
    nn_embedding e = {tokens, width, FIRST, COUNT, ids, table.array, y.array, dy.array, dtable.array.data};
    assert_int_equal(cpu.ops->embedding_forward(&cpu, &e), 0);
    assert_int_equal(cpu.ops->embedding_backward(&cpu, &e), 0);
    for (int64_t i = 0; i < tokens * width; i++) {
        int64_t row = ids[i / width] - FIRST;
        bool own = row >= 0 && row < COUNT;
        assert_near(value_at(&y, i), own ? table.exact[row * width + i % width] : 0, 0, "y", i);
        if (own)
            dtable.exact[row * width + i % width] += dy.exact[i];
    }
    assert_padding(&y);
    assert_matrix(&dtable, dtable.exact, 1e-5, "dtable");
    matrix_free(&table), matrix_free(&y), matrix_free(&dy), matrix_free(&dtable);
    free(ids);
}

static void embeddings(void **state)
{
    (void)state;
    const int64_t sizes[][2] = {{0, 3}, {1, 1}, {7, 129}, {129, 3}, {3, 1030}};
    for (int i = 0; i < 15; i++)
        embedding(sizes[i / 3][0], sizes[i / 3][1], (ringx_dtype)(i % 3));
}

/* ---- rotary embedding ---- */

static void frequencies_of_llama3(void **state)
{
    (void)state;
    double f[64], plain[64];
    nn_rope_scaling scaling = {8, 1, 4, 8192};
    nn_rope_frequencies(500000, 128, &scaling, f);
    nn_rope_frequencies(500000, 128, NULL, plain);
    for (int i = 0; i < 64; i++) {
        double wavelength = 2 * acos(-1) * pow(500000, i / 64.0), right = pow(500000, -i / 64.0);
        assert_near(plain[i], right, 1e-15, "plain", i);
        double m = (8192 / wavelength - 1) / 3;
        m = m < 0 ? 0 : m > 1 ? 1 : m;
        assert_near(f[i], right * ((1 - m) / 8 + m), 1e-15, "scaled", i);
    }
}

typedef struct rope_case {
    int64_t tokens, heads, dim, pairs, period;
    ringx_dtype dtype;
} rope_case;

static void rope(rope_case c)
{
    int64_t width = c.heads * c.dim, positions[64];
    double frequencies[64];
    float *table = malloc((size_t)(c.period * c.pairs * 2) * sizeof *table);
    random_stream stream = {fresh_key(), 0};
    for (int64_t t = 0; t < c.period; t++)
        positions[t] = random_between(&stream, 0, 1 << 20); /* angles up to a million: double or nothing */
    nn_rope_frequencies(500000, 2 * c.pairs, NULL, frequencies);
    nn_rope_table rows = {c.period, c.pairs, positions, frequencies, table};
    assert_int_equal(cpu.ops->rope_table(&cpu, &rows), 0);
    matrix x = matrix_random(c.tokens, width, c.dtype, 1);
    nn_rope r = {c.tokens, c.heads, c.dim, c.pairs, c.period, x.array, table, false};
    assert_int_equal(cpu.ops->rope(&cpu, &r), 0);
    double *right = malloc((size_t)(c.tokens * width + 1) * sizeof *right);
    for (int64_t i = 0; i < c.tokens * width; i++) {
        int64_t t = i / width, column = i % width % c.dim, pair = column % c.pairs;
        double angle = (double)positions[t % c.period] * frequencies[pair];
        right[i] = x.exact[i];
        if (column < c.pairs)
            right[i] = x.exact[i] * cos(angle) - x.exact[i + c.pairs] * sin(angle);
        else if (column < 2 * c.pairs)
            right[i] = x.exact[i] * cos(angle) + x.exact[i - c.pairs] * sin(angle);
    }
    assert_matrix(&x, right, c.dtype == RINGX_F32 ? 1e-6 : tolerance_of(c.dtype), "rotated");
    r.inverse = true;
    assert_int_equal(cpu.ops->rope(&cpu, &r), 0);
    assert_matrix(&x, x.exact, c.dtype == RINGX_F32 ? 1e-6 : 2 * tolerance_of(c.dtype), "and back");
    matrix_free(&x);
    free(table), free(right);
}

static void ropes(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 3; dtype++) {
        rope((rope_case){0, 1, 2, 1, 1, (ringx_dtype)dtype});
        rope((rope_case){7, 3, 8, 4, 7, (ringx_dtype)dtype});
        rope((rope_case){39, 2, 128, 64, 13, (ringx_dtype)dtype}); /* three samples of 13 tokens */
        rope((rope_case){5, 1, 11, 3, 5, (ringx_dtype)dtype});     /* 6 of 11 columns turn */
    }
}

/* ---- patches ---- */

typedef struct patch_case {
    int64_t batch, channels, height, width, patch;
    ringx_dtype from, to;
    bool some;
} patch_case;

static double pixel_of(const nn_patches *p, const matrix *image, int64_t row, int64_t column)
{
    int64_t across = p->width / p->patch, position = p->positions ? p->positions[row % p->tokens] : row % p->tokens;
    int64_t channel = column / (p->patch * p->patch), dy = column / p->patch % p->patch, dx = column % p->patch;
    int64_t y = position / across * p->patch + dy, x = position % across * p->patch + dx;
    return image->exact[((row / p->tokens * p->channels + channel) * p->height + y) * p->width + x];
}

static void patches(patch_case c)
{
    int64_t all = c.height / c.patch * (c.width / c.patch), tokens = c.some ? all / 2 : all;
    int64_t row = c.channels * c.patch * c.patch, *positions = malloc((size_t)(all + 1) * sizeof *positions);
    for (int64_t i = 0; i < tokens; i++)
        positions[i] = 2 * i + 1;
    matrix image = matrix_random(c.batch * c.channels, c.height * c.width, c.from, 1);
    for (int64_t i = 0; i < image.rows * image.columns; i++) /* packed */
        from_doubles(c.from, image.exact + i, (char *)image.array.data + (size_t)i * dtype_bytes(c.from), 1);
    matrix rows = matrix_poisoned(c.batch * tokens, row, c.to, 3);
    nn_patches p = {c.batch,     c.channels, c.height, c.width, c.patch, tokens, c.some ? positions : NULL,
                    image.array, rows.array};
    assert_int_equal(cpu.ops->patches_gather(&cpu, &p), 0);
    double *right = malloc((size_t)(rows.rows * row + 1) * sizeof *right);
    for (int64_t i = 0; i < rows.rows * row; i++)
        right[i] = pixel_of(&p, &image, i / row, i % row);
    assert_matrix(&rows, right, c.to == RINGX_F32 ? 0 : tolerance_of(c.to), "patches");
    matrix back = matrix_poisoned(image.rows, image.columns, c.from, 0);
    p.image = back.array;
    assert_int_equal(cpu.ops->patches_scatter(&cpu, &p), 0);
    int64_t set = 0;
    for (int64_t i = 0; i < back.rows * back.columns; i++)
        if (!isnan(value_at(&back, i))) {
            assert_near(value_at(&back, i), image.exact[i], c.to == RINGX_F32 ? 0 : 4 * tolerance_of(c.to), "image", i);
            set++;
        }
    assert_int_equal(set, rows.rows * row);
    matrix_free(&image), matrix_free(&rows), matrix_free(&back);
    free(positions), free(right);
}

static void patch_sizes(void **state)
{
    (void)state;
    for (int dtypes = 0; dtypes < 9; dtypes++) {
        ringx_dtype from = (ringx_dtype)(dtypes % 3), to = (ringx_dtype)(dtypes / 3);
        patches((patch_case){0, 1, 2, 2, 1, from, to, false});
        patches((patch_case){1, 1, 1, 1, 1, from, to, false});
        patches((patch_case){2, 3, 6, 9, 3, from, to, false});
        patches((patch_case){3, 2, 8, 12, 2, from, to, true});
        patches((patch_case){1, 5, 7, 14, 7, from, to, true});
    }
}

static void patch_that_does_not_divide(void **state)
{
    (void)state;
    float image[20], rows[20];
    nn_patches p = {1, 1, 4, 5, 2, 4, NULL, {image, 0, 0}, {rows, 0, 0}};
    assert_int_equal(cpu.ops->patches_gather(&cpu, &p), 78);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(embeddings), cmocka_unit_test(frequencies_of_llama3),
                                       cmocka_unit_test(ropes), cmocka_unit_test(patch_sizes),
                                       cmocka_unit_test(patch_that_does_not_divide)};
    return cmocka_run_group_tests_name("nn_places", tests, NULL, NULL);
}
