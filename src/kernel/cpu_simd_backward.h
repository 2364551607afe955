/* SPDX-License-Identifier: MIT */
/* Backward: a task is a chunk of queries against a chunk of keys of one kv head.
 *
 * Keys lie in columns: P, dS[query][key], dK, dV[dim][key].  dK and dV of a block of keys stay packed while the chunk's
 * queries pass; dQ of a block of queries is added to memory after each block of keys. */

enum { QUERY_BLOCK = 96, PANELS = RINGX_UNIT / WIDTH };

typedef struct backward_row { /* one stacked query row of the current block */
    int64_t token, head;
    uint32_t query, global_head;
    int32_t low, high; /* keys of the current block it sees */
    float lse2, delta;
} backward_row;

typedef struct backward_work {
    const ringx_job *job;
    int64_t dim, value_dim, flat_dim; /* padded; flat_dim to FLAT_WIDTH */
    int64_t q_stride, g_stride;       /* of rows of q and dout: padded so that a column spreads over the L1 cache */
    float *kt, *vt;                   /* [panel][dim][WIDTH], [panel][value_dim][WIDTH] */
    float *kf;                        /* [flat_dim / FLAT_WIDTH][UNIT][FLAT_WIDTH] */
    float *dkt, *dvt;                 /* like kt, vt */
    float *q, *g;                     /* [QUERY_BLOCK][stride]; q is scaled */
    float *p;                         /* [QUERY_BLOCK][WIDTH]: of one panel */
    float *ds;                        /* [panel][QUERY_BLOCK][WIDTH] */
    float *dq;                        /* [QUERY_BLOCK][flat_dim] */
    float *rows;                      /* [WIDTH][widest dim] */
    int32_t (*live)[WIDTH];           /* [QUERY_BLOCK] */
    backward_row *row;                /* [QUERY_BLOCK] */
    flat_panel panel[PANELS];
    float q_factor, dk_factor;
    int64_t batch, kv_head, first_head, heads; /* the task */
    int64_t block, keys;                       /* first key of the block in its slice, number of keys */
    int64_t count;                             /* rows of the query block */
    bool odd_q, odd_g, odd_k;                  /* something in them is not finite */
} backward_work;

static void backward_carve(backward_work *w, const ringx_shape *shape, carver *c)
{
    w->dim = round_up(shape->head_dim, 8);
    w->value_dim = round_up(shape->value_dim, 8);
    w->flat_dim = round_up(shape->head_dim, FLAT_WIDTH);
    w->q_stride = w->dim + 4;
    w->g_stride = w->value_dim + 4;
    w->kt = carve(c, RINGX_UNIT * w->dim, sizeof(float));
    w->vt = carve(c, RINGX_UNIT * w->value_dim, sizeof(float));
    w->kf = carve(c, RINGX_UNIT * w->flat_dim, sizeof(float));
    w->dkt = carve(c, RINGX_UNIT * w->dim, sizeof(float));
    w->dvt = carve(c, RINGX_UNIT * w->value_dim, sizeof(float));
    w->q = carve(c, QUERY_BLOCK * w->q_stride, sizeof(float));
    w->g = carve(c, QUERY_BLOCK * w->g_stride, sizeof(float));
    w->p = carve(c, QUERY_BLOCK * WIDTH, sizeof(float));
    w->ds = carve(c, QUERY_BLOCK * RINGX_UNIT, sizeof(float));
    w->dq = carve(c, QUERY_BLOCK * w->flat_dim, sizeof(float));
    w->rows = carve(c, WIDTH * max64(w->flat_dim, w->value_dim), sizeof(float));
    w->live = carve(c, QUERY_BLOCK, sizeof *w->live);
    w->row = carve(c, QUERY_BLOCK, sizeof(backward_row));
    w->q_factor = (float)(shape->softcap > 0 ? shape->scale / shape->softcap : shape->scale * RINGX_LOG2E);
    w->dk_factor = (float)(shape->softcap > 0 ? shape->softcap : RINGX_LN2);
}

/* ---- weights and their gradients
 * -------------------------------------------------------------------------------------- */

/* keep[0 … WIDTH): words of dropout of one row and the keys first, first + step, … */
static void draw_row(const backward_work *w, const backward_row *row, int64_t first, int64_t step, uint32_t *keep)
{
    uint32_t counter[4][VL], word[4][VL];
    for (int i = 0; i < VL; i++) {
        counter[1][i] = row->query;
        counter[2][i] = row->global_head;
        counter[3][i] = (uint32_t)w->batch;
    }
    if (step == 1) { /* VL groups of four neighbours cover the panel: WIDTH + 3 <= 4·VL */
        uint32_t all[4 * VL];
        for (int i = 0; i < VL; i++)
            counter[0][i] = (uint32_t)((first >> 2) + i);
        philox(w->job->shape->seed, (const uint32_t(*)[VL])counter, word);
        for (int i = 0; i < 4 * VL; i++)
            all[i] = word[i & 3][i >> 2];
        memcpy(keep, all + (first & 3), WIDTH * sizeof(uint32_t));
        return;
    }
    for (int j = 0; j < WIDE; j++) {
        for (int i = 0; i < VL; i++)
            counter[0][i] = (uint32_t)((first + (j * VL + i) * step) >> 2);
        philox(w->job->shape->seed, (const uint32_t(*)[VL])counter, word);
        for (int i = 0; i < VL; i++)
            keep[j * VL + i] = word[(first + (j * VL + i) * step) & 3][i];
    }
}

/* Scores in p and dP in ds of rows [begin, end) of a panel become the weights of dout in dV and dS. */
INLINE void differentiate(backward_work *w, int64_t panel, const ringx_run *run, int64_t begin, int64_t end, bool cap,
                          bool dropout)
{
    const ringx_shape *shape = w->job->shape;
    const vec outer = v_set1((float)(shape->softcap * RINGX_LOG2E)), one = v_set1(1), zero = v_set1(0);
    const vec grow = v_set1((float)(1 / (1 - shape->dropout)));
    const uint32_t threshold = ringx__dropout_threshold(shape->dropout);
    int32_t column[WIDTH], from = (int32_t)(panel * WIDTH);
    for (int i = 0; i < WIDTH; i++)
        column[i] = from + i;
    for (int64_t r = begin; r < end; r++) {
        const backward_row *row = &w->row[r];
        const vec lse2 = v_set1(row->lse2), delta = v_set1(row->delta);
        bool masked = row->low > from || row->high < from + w->panel[panel].depth;
        uint32_t keep[WIDTH];
        if (dropout)
            draw_row(w, row, run->first + (w->block + from) * run->step, run->step, keep);
        for (int j = 0; j < WIDE; j++) {
            float *p_at = w->p + r * WIDTH + j * VL, *ds_at = w->ds + (panel * QUERY_BLOCK + r) * WIDTH + j * VL;
            vec s = v_load(p_at), dp = v_load(ds_at), slope = one;
            if (cap) {
                vec t = tanh_vec(s);
                s = v_mul(outer, t);
                slope = v_sub(one, v_mul(t, t));
            }
            vec p = exp2_vec(v_min(v_set1(128), v_sub(s, lse2))), weight = p;
            if (dropout) {
                lanes kept = i_at_least(keep + j * VL, threshold);
                weight = v_select(kept, v_mul(p, grow), zero);
                dp = v_select(kept, v_mul(dp, grow), zero);
            }
            vec ds = v_mul(p, v_sub(dp, delta));
            if (cap)
                ds = v_mul(ds, slope);
            if (masked) {
                lanes seen = i_inside(i_set1(row->low), i_load(column + j * VL), i_set1(row->high));
                weight = v_select(seen, weight, zero);
                ds = v_select(seen, ds, zero);
            }
            v_store(p_at, weight);
            v_store(ds_at, ds);
        }
    }
}

static void differentiate_any(backward_work *w, int64_t panel, const ringx_run *run, int64_t begin, int64_t end)
{
    bool cap = w->job->shape->softcap > 0, dropout = w->job->shape->dropout > 0;
    if (cap && dropout)
        differentiate(w, panel, run, begin, end, true, true);
    else if (cap)
        differentiate(w, panel, run, begin, end, true, false);
    else if (dropout)
        differentiate(w, panel, run, begin, end, false, true);
    else
        differentiate(w, panel, run, begin, end, false, false);
}

/* ---- one block of queries against one block of keys
 * ------------------------------------------------------------------ */

/* Rows that see some key of the panel: [begin, end) and whether all of them see all of it. */
static bool rows_of_panel(const backward_work *w, int64_t panel, int64_t depth, flat_panel *rows)
{
    int32_t from = (int32_t)(panel * WIDTH), to = from + (int32_t)depth;
    *rows = (flat_panel){.begin = w->count, .depth = depth};
    bool full = true;
    int64_t seen = 0;
    for (int64_t r = 0; r < w->count; r++) {
        int32_t low = w->row[r].low, high = w->row[r].high;
        if (low >= to || high <= from || low >= high)
            continue;
        if (rows->end == 0)
            rows->begin = r;
        rows->end = r + 1;
        seen++;
        full = full && low <= from && high >= to;
    }
    return full && seen == rows->end - rows->begin;
}

static void mark_live(backward_work *w, int64_t panel, int64_t begin, int64_t end)
{
    for (int64_t r = begin; r < end; r++)
        for (int i = 0; i < WIDTH; i++) {
            int64_t column = panel * WIDTH + i;
            w->live[r][i] = w->row[r].low <= column && column < w->row[r].high ? -1 : 0;
        }
}

static void clear_rows(float *ds, int64_t begin, int64_t end)
{
    if (begin < end)
        memset(ds + begin * WIDTH, 0, (size_t)((end - begin) * WIDTH) * sizeof(float));
}

/* dK, dV of one panel of keys, and its dS for dQ. */
static void keys_panel(backward_work *w, int64_t panel, const ringx_run *run)
{
    const ringx_shape *shape = w->job->shape;
    flat_panel *rows = &w->panel[panel];
    bool full = rows_of_panel(w, panel, min64(WIDTH, w->keys - panel * WIDTH), rows);
    if (rows->end == 0)
        return;
    int64_t first = rows->begin / WIDE_ROWS * WIDE_ROWS, number = round_up(rows->end - first, WIDE_ROWS);
    int64_t begin = rows->begin, depth = rows->end - begin;
    float *ds = w->ds + panel * QUERY_BLOCK * WIDTH;
    product(number, shape->head_dim, w->q + first * w->q_stride, w->q_stride, w->kt + panel * WIDTH * w->dim,
            w->p + first * WIDTH);
    product(number, shape->value_dim, w->g + first * w->g_stride, w->g_stride, w->vt + panel * WIDTH * w->value_dim,
            ds + first * WIDTH);
    differentiate_any(w, panel, run, begin, rows->end);

    float *dv = w->dvt + panel * WIDTH * w->value_dim, *dk = w->dkt + panel * WIDTH * w->dim;
    const float *q = w->q + begin * w->q_stride, *g = w->g + begin * w->g_stride;
    if (!full && (w->odd_g || w->odd_q)) {
        mark_live(w, panel, begin, rows->end);
        const int32_t(*live)[WIDTH] = (const int32_t(*)[WIDTH])w->live + begin;
        product_where(w->value_dim, depth, g, 1, w->g_stride, w->p + begin * WIDTH, dv, live);
        product_where(w->dim, depth, q, 1, w->q_stride, ds + begin * WIDTH, dk, live);
    } else {
        product_add(w->value_dim, depth, g, w->g_stride, w->p + begin * WIDTH, dv);
        product_add(w->dim, depth, q, w->q_stride, ds + begin * WIDTH, dk);
    }
    clear_rows(ds, begin / FLAT_ROWS * FLAT_ROWS, begin);
    clear_rows(ds, rows->end, round_up(rows->end, FLAT_ROWS));
}

/* dQ row by row over the keys each row sees: for blocks in which a masked key is NaN or infinite. */
static void queries_carefully(backward_work *w)
{
    memset(w->dq, 0, (size_t)(w->count * w->flat_dim) * sizeof(float));
    for (int64_t r = 0; r < w->count; r++)
        for (int64_t k = w->row[r].low; k < w->row[r].high; k++) {
            const vec ds = v_set1(w->ds[(k / WIDTH * QUERY_BLOCK + r) * WIDTH + k % WIDTH]);
            for (int64_t e = 0; e < w->flat_dim; e += VL) {
                const float *key = w->kf + (e / FLAT_WIDTH * RINGX_UNIT + k) * FLAT_WIDTH + e % FLAT_WIDTH;
                float *at = w->dq + r * w->flat_dim + e;
                v_store(at, v_fma(ds, v_load(key), v_load(at)));
            }
        }
}

static void queries_block(backward_work *w, const ringx_query_slice *slice)
{
    const ringx_shape *shape = w->job->shape;
    const flat_panels ds = {
        .count = (w->keys + WIDTH - 1) / WIDTH, .panel = w->panel, .a = w->ds, .block = (int64_t)QUERY_BLOCK * WIDTH};
    if (w->odd_k)
        queries_carefully(w);
    else
        for (int64_t e = 0; e < w->flat_dim; e += FLAT_WIDTH)
            product_flat(round_up(w->count, FLAT_ROWS), &ds, w->kf + e * RINGX_UNIT, w->dq + e, w->flat_dim);
    const float scale = (float)shape->scale;
    for (int64_t r = 0; r < w->count; r++) {
        if (w->row[r].low >= w->row[r].high)
            continue;
        float *to = ringx__view_row(&slice->dq, sizeof(float), w->batch, w->row[r].token, w->row[r].head);
        const float *from = w->dq + r * w->flat_dim;
        for (int64_t e = 0; e < shape->head_dim; e++)
            to[e] += scale * from[e];
    }
}

/* Rows [first, first + count) of the stacked rows of a piece; false if none of them sees a key of the block. */
static bool pack_queries(backward_work *w, const ringx_query_slice *slice, ringx_piece piece, int64_t first,
                         const ringx_run *run)
{
    const ringx_shape *shape = w->job->shape;
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    bool any = false;
    for (int64_t r = 0; r < w->count; r++) {
        backward_row *row = &w->row[r];
        row->token = piece.begin + (first + r) / w->heads;
        row->head = w->first_head + (first + r) % w->heads;
        int64_t query = slice->run.first + row->token * slice->run.step;
        float lse = ringx__rows_at(&slice->lse, w->batch, row->head)[row->token];
        ringx_range see = ringx__members(run, ringx__mask_keys(&shape->mask, query));
        if (lse == -INFINITY)
            see = (ringx_range){0, 0};
        row->low = (int32_t)min64(max64(see.begin - w->block, 0), w->keys);
        row->high = (int32_t)min64(max64(see.end - w->block, 0), w->keys);
        row->query = (uint32_t)query;
        row->global_head = (uint32_t)(w->job->q_head + row->head);
        row->lse2 = (float)((double)lse * RINGX_LOG2E);
        row->delta = ringx__rows_at(&slice->delta, w->batch, row->head)[row->token];
        any |= row->low < row->high;
    }
    if (!any)
        return false;
    vec odd_q = v_set1(0), odd_g = v_set1(0);
    for (int64_t r = 0; r < round_up(w->count, WIDE_ROWS); r++) {
        const backward_row *row = &w->row[r];
        bool seeing = r < w->count && row->low < row->high;
        const void *q = seeing ? ringx__view_row(&slice->q, bytes, w->batch, row->token, row->head) : NULL;
        const void *g = seeing ? ringx__view_row(&slice->dout, bytes, w->batch, row->token, row->head) : NULL;
        if (seeing) {
            prefetch_ahead(q, &slice->q, shape->head_dim, bytes);
            prefetch_ahead(g, &slice->dout, shape->value_dim, bytes);
        }
        odd_q = widen_row(q, shape->dtype, seeing ? shape->head_dim : 0, w->q_factor, w->q + r * w->q_stride, w->dim,
                          odd_q);
        odd_g =
            widen_row(g, shape->dtype, seeing ? shape->value_dim : 0, 1, w->g + r * w->g_stride, w->value_dim, odd_g);
    }
    w->odd_q = is_odd(odd_q);
    w->odd_g = is_odd(odd_g);
    return true;
}

static void queries_piece(backward_work *w, ringx_piece piece, const ringx_run *run)
{
    const ringx_query_slice *slice = &w->job->query[piece.slice];
    int64_t rows = (piece.end - piece.begin) * w->heads, panels = (w->keys + WIDTH - 1) / WIDTH;
    for (int64_t first = 0; first < rows; first += QUERY_BLOCK) {
        w->count = min64(QUERY_BLOCK, rows - first);
        if (!pack_queries(w, slice, piece, first, run))
            continue;
        for (int64_t p = 0; p < panels; p++)
            keys_panel(w, p, run);
        queries_block(w, slice);
    }
}

/* ---- one task
 * ----------------------------------------------------------------------------------------------------------- */

static void pack_block(backward_work *w, const ringx_key_slice *slice)
{
    const ringx_shape *shape = w->job->shape;
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    vec odd = v_set1(0), ignored = v_set1(0);
    for (int64_t p = 0; p * WIDTH < w->keys; p++) {
        for (int64_t i = 0; i < WIDTH; i++) {
            int64_t key = p * WIDTH + i;
            bool there = key < w->keys;
            const void *k = there ? ringx__view_row(&slice->k, bytes, w->batch, w->block + key, w->kv_head) : NULL;
            float *row = w->rows + i * w->flat_dim;
            if (there)
                prefetch_ahead(k, &slice->k, shape->head_dim, bytes);
            odd = widen_row(k, shape->dtype, there ? shape->head_dim : 0, 1, row, w->flat_dim, odd);
            scatter_row(row, w->flat_dim, FLAT_WIDTH, RINGX_UNIT, key, w->kf);
        }
        transpose(WIDTH, w->dim, w->rows, w->flat_dim, w->kt + p * WIDTH * w->dim, WIDTH);
        for (int64_t i = 0; i < WIDTH; i++) {
            int64_t key = p * WIDTH + i;
            bool there = key < w->keys;
            const void *v = there ? ringx__view_row(&slice->v, bytes, w->batch, w->block + key, w->kv_head) : NULL;
            if (there)
                prefetch_ahead(v, &slice->v, shape->value_dim, bytes);
            widen_row(v, shape->dtype, there ? shape->value_dim : 0, 1, w->rows + i * w->value_dim, w->value_dim,
                      ignored);
        }
        transpose(WIDTH, w->value_dim, w->rows, w->value_dim, w->vt + p * WIDTH * w->value_dim, WIDTH);
    }
    w->odd_k = is_odd(odd);
    size_t panels = (size_t)((w->keys + WIDTH - 1) / WIDTH);
    memset(w->dkt, 0, panels * (size_t)(WIDTH * w->dim) * sizeof(float));
    memset(w->dvt, 0, panels * (size_t)(WIDTH * w->value_dim) * sizeof(float));
}

/* to[key] += factor·panels[panel][dim][WIDTH], for the keys of the block */
static void add_block(backward_work *w, const ringx_view *to, int64_t dim, int64_t padded, const float *panels,
                      float factor)
{
    for (int64_t p = 0; p * WIDTH < w->keys; p++) {
        transpose(padded, WIDTH, panels + p * WIDTH * padded, WIDTH, w->rows, padded);
        for (int64_t i = 0; i < min64(WIDTH, w->keys - p * WIDTH); i++) {
            float *row = ringx__view_row(to, sizeof(float), w->batch, w->block + p * WIDTH + i, w->kv_head);
            const float *from = w->rows + i * padded;
            for (int64_t e = 0; e < dim; e++)
                row[e] += factor * from[e];
        }
    }
}

static void backward_task(backward_work *w, const ringx_grid *grid, int64_t query_chunk, int64_t key_chunk)
{
    const ringx_job *job = w->job;
    ringx_range queries = ringx__chunk(grid->query_units, grid->query_chunks, query_chunk);
    ringx_range keys = ringx__chunk(grid->key_units, grid->key_chunks, key_chunk);
    for (int64_t ku = keys.begin; ku < keys.end; ku++) {
        ringx_piece k = ringx__key_unit(job, ku);
        const ringx_key_slice *slice = &job->key[k.slice];
        bool packed = false;
        w->block = k.begin;
        w->keys = k.end - k.begin;
        for (int64_t qu = queries.begin; qu < queries.end; qu++) {
            ringx_piece q = ringx__query_unit(job, qu);
            if (!ringx__pieces_live(job, q, k))
                continue;
            if (!packed)
                pack_block(w, slice);
            packed = true;
            queries_piece(w, q, &slice->run);
        }
        if (packed) {
            add_block(w, &slice->dk, job->shape->head_dim, w->dim, w->dkt, w->dk_factor);
            add_block(w, &slice->dv, job->shape->value_dim, w->value_dim, w->dvt, 1);
        }
    }
}
