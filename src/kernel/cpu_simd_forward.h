/* SPDX-License-Identifier: MIT */
/* Forward: a work item is a block of stacked query rows (tokens × the heads of one kv head) against all keys.
 *
 * Queries lie in columns: S[key][query], O[dim][query], so that the sums of softmax run down the rows.  A row's
 * arithmetic depends on its own interval and on where the key slices begin, not on the other rows of its panel. */

/* Most rows of an item: the more, the less it costs to pack the keys again for each item; but what belongs to the rows
 * should not outgrow the second-level cache. */
static int64_t block_rows(const ringx_shape *shape)
{
    int64_t rows = 98304 / (shape->head_dim + shape->value_dim);
    return (rows < 384 ? 384 : rows > 768 ? 768 : rows) / WIDTH * WIDTH;
}

typedef struct panel_keys { /* of one panel and one key slice: some row sees [begin, end), all see [full.begin,
                               full.end) */
    ringx_range any, full;
} panel_keys;

typedef struct forward_work {
    const ringx_job *job;
    int64_t dim, value_dim;   /* padded */
    float *q, *o;             /* [panel][dim][WIDTH], [panel][value_dim][WIDTH] */
    float *m, *l;             /* [panel][WIDTH] */
    ringx_interval *interval; /* [row], columns past the last row repeat it */
    ringx_range *keys;        /* [row]: of the current key slice */
    panel_keys *panel;
    uint32_t *query, *head; /* [row]: counters of dropout */
    float *k, *v;           /* [UNIT][dim], [value_dim / WIDE_ROWS][UNIT][WIDE_ROWS] */
    float *s;               /* [UNIT][WIDTH] */
    float *rows;            /* [WIDTH][wider of the dims] */
    int32_t (*live)[WIDTH]; /* [UNIT] */
    int32_t *low, *high;    /* [WIDTH]: keys of the current block that each column sees */
    int64_t batch, kv_head, first_head, heads, first_token, count, panels; /* the item */
    size_t slice;
} forward_work;

static void forward_carve(forward_work *w, const ringx_shape *shape, carver *c)
{
    const int64_t rows = block_rows(shape);
    w->dim = round_up(shape->head_dim, 8);
    w->value_dim = round_up(shape->value_dim, 8);
    w->q = carve(c, rows * w->dim, sizeof(float));
    w->o = carve(c, rows * w->value_dim, sizeof(float));
    w->m = carve(c, rows, sizeof(float));
    w->l = carve(c, rows, sizeof(float));
    w->interval = carve(c, rows, sizeof(ringx_interval));
    w->keys = carve(c, rows, sizeof(ringx_range));
    w->panel = carve(c, rows / WIDTH, sizeof(panel_keys));
    w->query = carve(c, rows, sizeof(uint32_t));
    w->head = carve(c, rows, sizeof(uint32_t));
    w->k = carve(c, RINGX_UNIT * w->dim, sizeof(float));
    w->v = carve(c, RINGX_UNIT * w->value_dim, sizeof(float));
    w->s = carve(c, RINGX_UNIT * WIDTH, sizeof(float));
    w->rows = carve(c, WIDTH * (w->dim > w->value_dim ? w->dim : w->value_dim), sizeof(float));
    w->live = carve(c, RINGX_UNIT, sizeof *w->live);
    w->low = carve(c, WIDTH, sizeof(int32_t));
    w->high = carve(c, WIDTH, sizeof(int32_t));
}

static size_t forward_scratch(const ringx_shape *shape, int threads)
{
    forward_work w;
    carver c = {0};
    forward_carve(&w, shape, &c);
    return c.at * (size_t)threads;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- one panel against one block of keys
 * ------------------------------------------------------------------------------ */

/* Turns s, the scores of keys [begin, end), into log2 units, -inf where masked. */
INLINE void finish_scores(forward_work *w, int64_t begin, int64_t end, float cap, bool masked)
{
    const vec outer = v_set1((float)((double)cap * RINGX_LOG2E)), none = v_set1(-INFINITY);
    for (int64_t k = begin; k < end; k++)
        for (int j = 0; j < WIDE; j++) {
            float *at = w->s + k * WIDTH + j * VL;
            vec s = v_load(at);
            if (cap > 0)
                s = v_mul(outer, tanh_vec(s));
            if (masked) {
                ints low = i_load(w->low + j * VL), high = i_load(w->high + j * VL);
                s = v_select(i_inside(low, i_set1((int32_t)k), high), s, none);
            }
            v_store(at, s);
        }
}

typedef struct dropout_words { /* of the last group of four keys asked for */
    int64_t group;
    uint32_t word[WIDE][4][VL];
} dropout_words;

static void draw_words(const forward_work *w, int64_t panel, int64_t group, dropout_words *words)
{
    uint32_t counter[4][VL];
    words->group = group;
    for (int j = 0; j < WIDE; j++) {
        for (int i = 0; i < VL; i++) {
            counter[0][i] = (uint32_t)group;
            counter[3][i] = (uint32_t)w->batch;
        }
        memcpy(counter[1], w->query + panel * WIDTH + j * VL, sizeof counter[1]);
        memcpy(counter[2], w->head + panel * WIDTH + j * VL, sizeof counter[2]);
        philox(w->job->shape->seed, (const uint32_t(*)[VL])counter, words->word[j]);
    }
}

/* s of keys [begin, end) becomes weights, dropped and grown if dropout is on; l and m follow; factor is what the sums
 * so far are to be multiplied by. */
INLINE void weigh(forward_work *w, int64_t panel, const ringx_run *run, int64_t block, int64_t begin, int64_t end,
                  float *factor, bool dropout)
{
    float *m = w->m + panel * WIDTH, *l = w->l + panel * WIDTH;
    vec base[WIDE], sum[WIDE];
    for (int j = 0; j < WIDE; j++) {
        vec top = v_load(m + j * VL);
        base[j] = top;
        sum[j] = v_set1(0);
    }
    for (int64_t k = begin; k < end; k++)
        for (int j = 0; j < WIDE; j++)
            base[j] = v_max(v_load(w->s + k * WIDTH + j * VL), base[j]);
    for (int j = 0; j < WIDE; j++) {
        vec before = v_load(m + j * VL);
        v_store(m + j * VL, base[j]);
        base[j] = v_select(v_less(v_set1(-INFINITY), base[j]), base[j], v_set1(0));
        v_store(factor + j * VL, exp2_vec(v_sub(before, base[j])));
    }
    const double rate = w->job->shape->dropout;
    const uint32_t threshold = ringx__dropout_threshold(rate);
    const vec grow = v_set1((float)(1 / (1 - rate)));
    dropout_words words = {.group = -1};
    for (int64_t k = begin; k < end; k++) {
        int64_t key = run->first + (block + k) * run->step;
        if (dropout && key >> 2 != words.group)
            draw_words(w, panel, key >> 2, &words);
        for (int j = 0; j < WIDE; j++) {
            float *at = w->s + k * WIDTH + j * VL;
            vec p = exp2_vec(v_sub(v_load(at), base[j]));
            sum[j] = v_add(sum[j], p);
            if (dropout)
                p = v_select(i_at_least(words.word[j][key & 3], threshold), v_mul(p, grow), v_set1(0));
            v_store(at, p);
        }
    }
    for (int j = 0; j < WIDE; j++)
        v_store(l + j * VL, v_fma(v_load(l + j * VL), v_load(factor + j * VL), sum[j]));
}

/* O = O·factor + Vᵀ·P pair by pair, leaving masked pairs out: their value may be NaN or infinite. */
static void fold_carefully(forward_work *w, float *o, int64_t begin, int64_t end, const float *factor)
{
    for (int64_t k = begin; k < end; k++)
        for (int i = 0; i < WIDTH; i++)
            w->live[k][i] = w->low[i] <= k && k < w->high[i] ? -1 : 0;
    for (int64_t e = 0; e < w->value_dim; e++)
        for (int j = 0; j < WIDE; j++)
            v_store(o + e * WIDTH + j * VL, v_mul(v_load(o + e * WIDTH + j * VL), v_load(factor + j * VL)));
    for (int64_t e = 0; e < w->value_dim; e += WIDE_ROWS)
        product_where(WIDE_ROWS, end - begin, w->v + (e * RINGX_UNIT + begin * WIDE_ROWS), 1, WIDE_ROWS,
                      w->s + begin * WIDTH, o + e * WIDTH, (const int32_t(*)[WIDTH])w->live + begin);
}

static void attend_panel(forward_work *w, int64_t panel, const ringx_run *run, int64_t block, int64_t length,
                         bool odd_values)
{
    const ringx_shape *shape = w->job->shape;
    const panel_keys *keys = &w->panel[panel];
    int64_t begin = max64(keys->any.begin - block, 0), end = min64(keys->any.end - block, length);
    if (begin >= end)
        return;
    bool masked = keys->full.begin > block + begin || keys->full.end < block + end;
    for (int i = 0; masked && i < WIDTH; i++) {
        const ringx_range *see = &w->keys[panel * WIDTH + i];
        w->low[i] = (int32_t)min64(max64(see->begin - block, 0), RINGX_UNIT);
        w->high[i] = (int32_t)min64(max64(see->end - block, 0), RINGX_UNIT);
    }
    int64_t first = begin / WIDE_ROWS * WIDE_ROWS;
    product(round_up(end - first, WIDE_ROWS), shape->head_dim, w->k + first * w->dim, w->dim,
            w->q + panel * WIDTH * w->dim, w->s + first * WIDTH);

    if (shape->softcap > 0)
        finish_scores(w, begin, end, (float)shape->softcap, masked);
    else if (masked)
        finish_scores(w, begin, end, 0, true);
    float factor[WIDTH], *o = w->o + panel * WIDTH * w->value_dim;
    if (shape->dropout > 0)
        weigh(w, panel, run, block, begin, end, factor, true);
    else
        weigh(w, panel, run, block, begin, end, factor, false);
    if (masked && odd_values)
        fold_carefully(w, o, begin, end, factor);
    else
        product_fold(w->value_dim, end - begin, w->v + begin * WIDE_ROWS, (int64_t)RINGX_UNIT * WIDE_ROWS,
                     w->s + begin * WIDTH, o, factor);
}

/* ---- one key slice
 * ------------------------------------------------------------------------------------------------------ */

/* Packs keys [begin, end) of the block; returns whether one of their values is not finite. */
static bool pack_keys(forward_work *w, const ringx_key_slice *slice, int64_t block, int64_t begin, int64_t end)
{
    const ringx_shape *shape = w->job->shape;
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    vec odd = v_set1(0), ignored = v_set1(0);
    int64_t stop = round_up(end, WIDE_ROWS);
    for (int64_t i = begin / WIDE_ROWS * WIDE_ROWS; i < stop; i++) {
        if (i < begin || i >= end) {
            memset(w->k + i * w->dim, 0, (size_t)w->dim * sizeof(float));
            continue;
        }
        const void *k = ringx__view_row(&slice->k, bytes, w->batch, block + i, w->kv_head);
        const void *v = ringx__view_row(&slice->v, bytes, w->batch, block + i, w->kv_head);
        prefetch_ahead(k, &slice->k, shape->head_dim, bytes);
        prefetch_ahead(v, &slice->v, shape->value_dim, bytes);
        widen_row(k, shape->dtype, shape->head_dim, 1, w->k + i * w->dim, w->dim, ignored);
        odd = widen_row(v, shape->dtype, shape->value_dim, 1, w->rows, w->value_dim, odd);
        scatter_row(w->rows, w->value_dim, WIDE_ROWS, RINGX_UNIT, i, w->v);
    }
    return is_odd(odd);
}

/* What each row and panel sees of the slice; returns the union. */
static ringx_range look(forward_work *w, const ringx_run *run)
{
    ringx_range all = {INT64_MAX, 0};
    for (int64_t p = 0; p < w->panels; p++) {
        panel_keys *panel = &w->panel[p];
        *panel = (panel_keys){{INT64_MAX, 0}, {0, INT64_MAX}};
        for (int64_t i = p * WIDTH; i < (p + 1) * WIDTH; i++) {
            ringx_range see = ringx__members(run, w->interval[i]);
            w->keys[i] = see;
            panel->full.begin = max64(panel->full.begin, see.begin);
            panel->full.end = min64(panel->full.end, see.end);
            if (see.begin < see.end) {
                panel->any.begin = min64(panel->any.begin, see.begin);
                panel->any.end = max64(panel->any.end, see.end);
            }
        }
        all.begin = min64(all.begin, panel->any.begin);
        all.end = max64(all.end, panel->any.end);
    }
    return all;
}

static void attend_slice(forward_work *w, const ringx_key_slice *slice)
{
    ringx_range all = look(w, &slice->run);
    if (all.begin >= all.end)
        return;
    for (int64_t block = all.begin / RINGX_UNIT * RINGX_UNIT; block < all.end; block += RINGX_UNIT) {
        int64_t length = min64(RINGX_UNIT, slice->run.count - block), begin = length, end = 0;
        for (int64_t p = 0; p < w->panels; p++) {
            int64_t from = max64(w->panel[p].any.begin - block, 0), to = min64(w->panel[p].any.end - block, length);
            if (from < to) {
                begin = min64(begin, from);
                end = max64(end, to);
            }
        }
        if (begin >= end)
            continue;
        bool odd = pack_keys(w, slice, block, begin, end);
        for (int64_t p = 0; p < w->panels; p++)
            attend_panel(w, p, &slice->run, block, length, odd);
    }
}

/* ---- one item
 * ----------------------------------------------------------------------------------------------------------- */

static void begin_rows(forward_work *w, int64_t panel)
{
    const ringx_job *job = w->job;
    const ringx_shape *shape = job->shape;
    const ringx_query_slice *slice = &job->query[w->slice];
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    float factor = (float)(shape->softcap > 0 ? shape->scale / shape->softcap : shape->scale * RINGX_LOG2E);
    vec ignored = v_set1(0);
    int64_t rows = min64(WIDTH, w->count - panel * WIDTH);
    for (int64_t i = 0; i < WIDTH; i++) {
        int64_t row = panel * WIDTH + min64(i, rows - 1), at = panel * WIDTH + i;
        int64_t token = w->first_token + row / w->heads, head = w->first_head + row % w->heads;
        int64_t query = slice->run.first + token * slice->run.step;
        w->interval[at] = i < rows ? ringx__mask_keys(&shape->mask, query) : w->interval[row];
        w->query[at] = (uint32_t)query;
        w->head[at] = (uint32_t)(job->q_head + head);
        const void *q = ringx__view_row(&slice->q, bytes, w->batch, token, head);
        widen_row(q, shape->dtype, i < rows ? shape->head_dim : 0, factor, w->rows + i * w->dim, w->dim, ignored);
        bool stored = i < rows && !job->fresh;
        w->m[at] = stored ? ringx__rows_at(&slice->m, w->batch, head)[token] : -INFINITY;
        w->l[at] = stored ? ringx__rows_at(&slice->l, w->batch, head)[token] : 0;
    }
    transpose(WIDTH, w->dim, w->rows, w->dim, w->q + panel * WIDTH * w->dim, WIDTH);
    float *o = w->o + panel * WIDTH * w->value_dim;
    if (job->fresh) {
        memset(o, 0, (size_t)(WIDTH * w->value_dim) * sizeof(float));
        return;
    }
    memset(w->rows, 0, (size_t)(WIDTH * w->value_dim) * sizeof(float));
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = panel * WIDTH + i, token = w->first_token + row / w->heads, head = w->first_head + row % w->heads;
        memcpy(w->rows + i * w->value_dim, ringx__view_row(&slice->acc, sizeof(float), w->batch, token, head),
               (size_t)shape->value_dim * sizeof(float));
    }
    transpose(WIDTH, w->value_dim, w->rows, w->value_dim, o, WIDTH);
}

static void end_rows(forward_work *w, int64_t panel)
{
    const ringx_job *job = w->job;
    const ringx_shape *shape = job->shape;
    const ringx_query_slice *slice = &job->query[w->slice];
    size_t bytes = ringx__dtype_bytes(shape->dtype);
    int64_t rows = min64(WIDTH, w->count - panel * WIDTH);
    transpose(w->value_dim, WIDTH, w->o + panel * WIDTH * w->value_dim, WIDTH, w->rows, w->value_dim);
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = panel * WIDTH + i, token = w->first_token + row / w->heads, head = w->first_head + row % w->heads;
        float *acc = w->rows + i * w->value_dim;
        if (!job->final) {
            memcpy(ringx__view_row(&slice->acc, sizeof(float), w->batch, token, head), acc,
                   (size_t)shape->value_dim * sizeof(float));
            ringx__rows_at(&slice->m, w->batch, head)[token] = w->m[row];
            ringx__rows_at(&slice->l, w->batch, head)[token] = w->l[row];
            continue;
        }
        void *out = ringx__view_row(&slice->out, bytes, w->batch, token, head);
        for (int64_t e = 0; e < shape->value_dim; e++)
            ringx__store(out, shape->dtype, e, ringx__quotient(acc[e], w->l[row]));
        ringx__rows_at(&slice->lse, w->batch, head)[token] = ringx__state_lse(w->m[row], w->l[row]);
    }
}
