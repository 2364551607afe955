/* SPDX-License-Identifier: MIT */
/* Register tiles: the inner loops of every product. */

enum { CLEAR, SCALE, ADD }; /* what a tile does with what is in c: forget it, multiply it by f, add to it */

/* c[WIDE_ROWS][WIDTH] = (c, by mode) + Σ_k a[i·row + k·step]·b[k][WIDTH] */
INLINE void wide_tile(int64_t depth, const float *a, int64_t row, int64_t step, const float *b, float *c, const vec *f,
                      int mode)
{
    vec s[WIDE_ROWS][WIDE];
    for (int i = 0; i < WIDE_ROWS; i++)
        for (int j = 0; j < WIDE; j++) {
            if (mode == CLEAR)
                s[i][j] = v_set1(0);
            else
                s[i][j] = v_load(c + i * WIDTH + j * VL);
            if (mode == SCALE)
                s[i][j] = v_mul(s[i][j], f[j]);
        }
    for (int64_t k = 0; k < depth; k++) {
        vec x[WIDE];
        for (int j = 0; j < WIDE; j++)
            x[j] = v_load(b + j * VL);
        for (int i = 0; i < WIDE_ROWS; i++) {
            vec y = v_set1(a[i * row]);
            for (int j = 0; j < WIDE; j++)
                s[i][j] = v_fma(y, x[j], s[i][j]);
        }
        a += step;
        b += WIDTH;
    }
    for (int i = 0; i < WIDE_ROWS; i++)
        for (int j = 0; j < WIDE; j++)
            v_store(c + i * WIDTH + j * VL, s[i][j]);
}

/* c[rows][WIDTH] = Σ_k a[i·row + k]·b[k][WIDTH]; rows a multiple of WIDE_ROWS */
NOINLINE void product(int64_t rows, int64_t depth, const float *a, int64_t row, const float *b, float *c)
{
    for (int64_t i = 0; i < rows; i += WIDE_ROWS)
        wide_tile(depth, a + i * row, row, 1, b, c + i * WIDTH, NULL, CLEAR);
}

/* c[rows][WIDTH] += Σ_k a[i + k·step]·b[k][WIDTH]; rows a multiple of WIDE_ROWS */
NOINLINE void product_add(int64_t rows, int64_t depth, const float *a, int64_t step, const float *b, float *c)
{
    for (int64_t i = 0; i < rows; i += WIDE_ROWS)
        wide_tile(depth, a + i, 1, step, b, c + i * WIDTH, NULL, ADD);
}

/* c[rows][WIDTH] = c·f + Σ_k a[i / WIDE_ROWS][k][i % WIDE_ROWS]·b[k][WIDTH], where a block of a is `block` floats long
 */
NOINLINE void product_fold(int64_t rows, int64_t depth, const float *a, int64_t block, const float *b, float *c,
                           const float *f)
{
    vec factor[WIDE];
    for (int j = 0; j < WIDE; j++)
        factor[j] = v_load(f + j * VL);
    for (int64_t i = 0; i < rows; i += WIDE_ROWS, a += block)
        wide_tile(depth, a, 1, WIDE_ROWS, b, c + i * WIDTH, factor, SCALE);
}

/* The same three sums as product_add and product_fold (c is already scaled), but a pair (k, column) enters only where
 * it is live: for panels where a 0 weight could meet NaN or infinity.  live[k] holds WIDTH lanes as 0 or -1. */
NOINLINE void product_where(int64_t rows, int64_t depth, const float *a, int64_t row, int64_t step, const float *b,
                            float *c, const int32_t (*live)[WIDTH])
{
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < WIDE; j++) {
            vec s = v_load(c + i * WIDTH + j * VL);
            for (int64_t k = 0; k < depth; k++) {
                vec sum = v_fma(v_set1(a[i * row + k * step]), v_load(b + k * WIDTH + j * VL), s);
                s = v_select(i_inside(i_set1(-1), i_load(live[k] + j * VL), i_set1(0)), sum, s);
            }
            v_store(c + i * WIDTH + j * VL, s);
        }
}

/* One of the panels whose products product_flat sums: rows [begin, end) of a are filled, the others do not count. */
typedef struct flat_panel {
    int64_t begin, end, depth;
} flat_panel;

typedef struct flat_panels {
    int64_t count;
    const flat_panel *panel;
    const float *a; /* [panel][block / WIDTH rows][WIDTH] */
    int64_t block;  /* floats from panel to panel */
} flat_panels;

/* c[rows][FLAT_WIDTH] = Σ_panels Σ_k a[panel][i][k]·b[panel·WIDTH + k][FLAT_WIDTH]; rows a multiple of FLAT_ROWS */
NOINLINE void product_flat(int64_t rows, const flat_panels *in, const float *b, float *c, int64_t c_stride)
{
    for (int64_t row = 0; row < rows; row += FLAT_ROWS, c += FLAT_ROWS * c_stride) {
        vec s[FLAT_ROWS][FLAT];
        for (int i = 0; i < FLAT_ROWS; i++)
            for (int j = 0; j < FLAT; j++)
                s[i][j] = v_set1(0);
        for (int64_t p = 0; p < in->count; p++) {
            const flat_panel *panel = &in->panel[p];
            if (panel->begin >= row + FLAT_ROWS || panel->end <= row)
                continue;
            const float *x = in->a + p * in->block + row * WIDTH, *y = b + p * WIDTH * FLAT_WIDTH;
            for (const float *stop = x + panel->depth; x < stop; x++, y += FLAT_WIDTH) {
                vec z[FLAT];
                for (int j = 0; j < FLAT; j++)
                    z[j] = v_load(y + j * VL);
                for (int i = 0; i < FLAT_ROWS; i++) {
                    vec w = v_set1(x[i * WIDTH]);
                    for (int j = 0; j < FLAT; j++)
                        s[i][j] = v_fma(w, z[j], s[i][j]);
                }
            }
        }
        for (int i = 0; i < FLAT_ROWS; i++)
            for (int j = 0; j < FLAT; j++)
                v_store(c + i * c_stride + j * VL, s[i][j]);
    }
}
