/* SPDX-License-Identifier: MIT */
/* Matrix products on CPUs: OpenMP over tiles of the result, OpenBLAS on one thread for each.
 *
 * The grid of tiles and the blocks of the sum are fixed, not a function of the number of threads or of what else is
 * computed in the same call.  So every thread count gives the same bits, and so does any division of the tokens into
 * calls at multiples of NN_TILE: tokens are tiles of rows (forward, dx) or blocks of the sum (dw). */
#include "nn/product.h"

#include "nn/rows.h"

#include <cblas.h>
#include <pthread.h>

enum { ROWS = NN_TILE, COLUMNS = 128, DEPTH = NN_TILE };

static void one_thread(void)
{
    openblas_set_num_threads(1);
}

typedef struct block { /* of an operand, as BLAS takes it */
    const float *data;
    blasint stride;
} block;

/* Rows first … of the stored matrix, columns from `column`: where they are, or converted into the buffer. */
static block block_of(const nn_array *m, int64_t first, int64_t rows, int64_t column, int64_t columns, float *buffer)
{
    if (m->dtype == RINGX_F32)
        return (block){nn_at(m, 0, first, column), (blasint)m->stride};
    for (int64_t r = 0; r < rows; r++)
        nn_halves_to_floats(m->dtype, nn_at(m, 0, first + r, column), buffer + r * columns, columns);
    return (block){buffer, (blasint)columns};
}

/* What the sum is added to. */
static void begin_row(const nn_product *p, int64_t row, int64_t column, int64_t columns, float *c)
{
    if (p->add && p->c.dtype != RINGX_F32)
        nn_halves_to_floats(p->c.dtype, nn_at(&p->c, 0, row, column), c, columns);
    if (!p->add)
        memset(c, 0, (size_t)columns * sizeof *c);
    if (p->bias.data) {
        float buffer[COLUMNS];
        const float *bias = nn_load(p->bias.dtype, nn_at(&p->bias, 0, 0, column), columns, buffer);
        for (int64_t i = 0; i < columns; i++)
            c[i] += bias[i];
    }
}

static void tile(const nn_product *p, int64_t row, int64_t column)
{
    float a_buffer[ROWS * DEPTH], b_buffer[COLUMNS * DEPTH], c_buffer[ROWS * COLUMNS];
    int64_t rows = nn_least(ROWS, p->rows - row), columns = nn_least(COLUMNS, p->columns - column);
    bool whole = p->c.dtype == RINGX_F32;
    float *c = whole ? nn_at(&p->c, 0, row, column) : c_buffer;
    int64_t stride = whole ? p->c.stride : columns;
    for (int64_t r = 0; r < rows; r++)
        begin_row(p, row + r, column, columns, c + r * stride);
    for (int64_t k = 0; k < p->depth; k += DEPTH) {
        int64_t depth = nn_least(DEPTH, p->depth - k);
        block a = p->a_transposed ? block_of(&p->a, k, depth, row, rows, a_buffer)
                                  : block_of(&p->a, row, rows, k, depth, a_buffer);
        block b = p->b_transposed ? block_of(&p->b, column, columns, k, depth, b_buffer)
                                  : block_of(&p->b, k, depth, column, columns, b_buffer);
        cblas_sgemm(CblasRowMajor, p->a_transposed ? CblasTrans : CblasNoTrans,
                    p->b_transposed ? CblasTrans : CblasNoTrans, (blasint)rows, (blasint)columns, (blasint)depth, 1,
                    a.data, a.stride, b.data, b.stride, 1, c, (blasint)stride);
    }
    for (int64_t r = 0; r < rows; r++)
        nn_store(p->c.dtype, nn_at(&p->c, 0, row + r, column), columns, c + r * stride);
}

void nn_multiply(const nn_product *p)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, one_thread);
    int64_t down = (p->rows + ROWS - 1) / ROWS, across = (p->columns + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(dynamic) if (nn_worth(p->rows * p->columns * p->depth / 8))
    for (int64_t i = 0; i < down * across; i++)
        tile(p, i / across * ROWS, i % across * COLUMNS);
}
