/* SPDX-License-Identifier: MIT */
/* CUDA operators at the ends of a model and of the optimizer against the CPU's: embedding, rotary embedding, patches,
 * loss, decoding, updates, copies. */
#include "nn_cuda_case.h"

static const int64_t paddings[] = {0, 8, 3};
enum { N_PADDINGS = 3 };

static int32_t *random_ids(int64_t count, int64_t low, int64_t high)
{
    int32_t *ids = malloc((size_t)(count + 1) * sizeof *ids);
    random_stream stream = {fresh_key(), 0};
    assert_non_null(ids);
    for (int64_t t = 0; t < count; t++)
        ids[t] = (int32_t)random_between(&stream, low, high);
    return ids;
}

/* ---- embedding ---- */

typedef struct embedding_case {
    int64_t tokens, width, words, padding;
    ringx_dtype dtype, y;
} embedding_case;

static int call_embedding(const nn_context *on, trial *t, const void *sizes)
{
    const embedding_case *c = sizes;
    nn_embedding e = {.tokens = c->tokens, .width = c->width, .first = 5, .count = c->words, .ids = data_on(on, t, 0)};
    e.table = array_on(on, t, 1), e.y = array_on(on, t, 2), e.dy = array_on(on, t, 3), e.dtable = data_on(on, t, 4);
    int code = on->ops->embedding_forward(on, &e);
    return code ? code : on->ops->embedding_backward(on, &e);
}

static void embedding(embedding_case c)
{
    trial t = {.name = "embedding", .tolerance = 1e-30}; /* sums go in the CPU's order: its bits */
    snprintf(t.shape, sizeof t.shape, "tokens %lld width %lld words %lld padding %lld %s to %s", (long long)c.tokens,
             (long long)c.width, (long long)c.words, (long long)c.padding, dtype_name(c.dtype), dtype_name(c.y));
    const int64_t table[] = {c.words, c.width}, y[] = {c.tokens, c.width};
    int32_t *ids = random_ids(c.tokens, 3, 5 + c.words + 1);
    add_words(&t, "ids", ids, (size_t)c.tokens * sizeof *ids);
    add_random(&t, "table", table, c.dtype, c.padding);
    add_poisoned(&t, "y", y, c.y, c.padding);
    add_random(&t, "dy", y, c.y, c.padding);
    add_random(&t, "dtable", table, RINGX_F32, 0);
    trial_run(&t, call_embedding, &c);
    free(ids);
}

static void embeddings(void **state)
{
    (void)state;
    begin_test();
    const int64_t sizes[][3] = {{0, 3, 4},    {1, 1, 1},     {7, 129, 9},    {129, 3, 9},
                                {3, 1032, 5}, {3000, 40, 2}, {2000, 24, 999}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 9 * N_PADDINGS; form++)
            embedding((embedding_case){sizes[i][0], sizes[i][1], sizes[i][2], paddings[form / 9],
                                       (ringx_dtype)(form % 3), (ringx_dtype)(form / 3 % 3)});
    finish_test();
}

/* ---- rotary embedding ---- */

typedef struct rope_case {
    int64_t tokens, heads, dim, pairs, period, padding;
    ringx_dtype dtype;
    const double *frequencies;
    bool inverse;
} rope_case;

static int call_rope(const nn_context *on, trial *t, const void *sizes)
{
    const rope_case *c = sizes;
    nn_rope_table table = {c->period, c->pairs, data_on(on, t, 0), c->frequencies, data_on(on, t, 1)};
    nn_rope r = {c->tokens, c->heads, c->dim, c->pairs, c->period, array_on(on, t, 2), table.table, c->inverse};
    int code = on->ops->rope_table(on, &table);
    return code ? code : on->ops->rope(on, &r);
}

static void rope(rope_case c)
{
    trial t = {.name = "rope"};
    double frequencies[600];
    int64_t positions[300];
    for (int64_t i = 0; i < c.pairs; i++)
        frequencies[i] = pow(10000, -(double)i / (double)c.pairs);
    for (int64_t i = 0; i < c.period; i++)
        positions[i] = (i * 104729) % 1000003; /* angles up to a million: double or nothing */
    c.frequencies = frequencies;
    snprintf(t.shape, sizeof t.shape, "tokens %lld heads %lld dim %lld pairs %lld period %lld padding %lld %s%s",
             (long long)c.tokens, (long long)c.heads, (long long)c.dim, (long long)c.pairs, (long long)c.period,
             (long long)c.padding, dtype_name(c.dtype), c.inverse ? " inverse" : "");
    const int64_t table[] = {1, c.period * c.pairs * 2}, x[] = {c.tokens, c.heads * c.dim};
    add_words(&t, "positions", positions, (size_t)c.period * sizeof *positions);
    add_poisoned(&t, "table", table, RINGX_F32, 0);
    add_random(&t, "x", x, c.dtype, c.padding);
    trial_run(&t, call_rope, &c);
}

static void ropes(void **state)
{
    (void)state;
    begin_test();
    const int64_t sizes[][5] = {{1, 1, 2, 1, 1},    {6, 3, 7, 3, 3},      {258, 4, 128, 64, 129}, {9, 2, 24, 8, 3},
                                {10, 3, 64, 20, 5}, {5, 2, 1200, 600, 5}, {300, 8, 64, 32, 300}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 6 * N_PADDINGS; form++)
            rope((rope_case){sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], sizes[i][4], paddings[form / 6],
                             (ringx_dtype)(form % 3), NULL, form / 3 % 2});
    finish_test();
}

/* ---- patches ---- */

typedef struct patch_case {
    nn_patches p;
    int64_t padding;
    ringx_dtype image, rows;
    bool some;
} patch_case;

static int call_patches(const nn_context *on, trial *t, const void *sizes)
{
    const patch_case *c = sizes;
    nn_patches p = c->p;
    p.image = array_on(on, t, 0), p.patches = array_on(on, t, 1), p.positions = c->some ? data_on(on, t, 2) : NULL;
    int code = on->ops->patches_gather(on, &p);
    p.image = array_on(on, t, 3);
    return code ? code : on->ops->patches_scatter(on, &p);
}

static void patches(void **state)
{
    (void)state;
    begin_test();
    for (int form = 0; form < 36; form++) {
        patch_case c = {{.batch = 2, .channels = 3, .height = 12, .width = 20, .patch = form & 1 ? 4 : 2},
                        form / 18 * 3,
                        (ringx_dtype)(form / 2 % 3),
                        (ringx_dtype)(form / 6 % 3),
                        form & 1};
        int64_t all = c.p.height * c.p.width / (c.p.patch * c.p.patch), positions[60];
        c.p.tokens = c.some ? 7 : all;
        for (int64_t i = 0; i < c.p.tokens; i++)
            positions[i] = (i * 2 + 1) % all;
        trial t = {.name = "patches"};
        snprintf(t.shape, sizeof t.shape, "patch %lld image %s rows %s padding %lld%s", (long long)c.p.patch,
                 dtype_name(c.image), dtype_name(c.rows), (long long)c.padding, c.some ? " some" : " all");
        const int64_t image[] = {1, 2 * 3 * 12 * 20}, rows[] = {2 * c.p.tokens, 3 * c.p.patch * c.p.patch};
        add_random(&t, "image", image, c.image, 0);
        add_poisoned(&t, "patches", rows, c.rows, c.padding);
        add_words(&t, "positions", positions, (size_t)c.p.tokens * sizeof *positions);
        add_random(&t, "scattered", image, c.image, 0);
        trial_run(&t, call_patches, &c);
    }
    finish_test();
}

/* ---- loss ---- */

typedef struct loss_case {
    int64_t tokens, width, words, chunk, padding;
    ringx_dtype hidden, weight, dhidden;
    bool mask, ranks, backward;
} loss_case;

/* As if there were another rank: maxima grow by 1, sums are doubled. */
static int change(const nn_context *on, float *values, size_t count, bool sum)
{
    float *host = malloc(count * sizeof *host + 1);
    if (on->ops->wait(on))
        return 70;
    if (ringx_memory_copy(on->ops->device, host, values, count * sizeof *host))
        return 74;
    for (size_t i = 0; i < count; i++)
        host[i] = sum ? 2 * host[i] : host[i] + 1;
    int code = ringx_memory_copy(on->ops->device, values, host, count * sizeof *host) ? 74 : 0;
    free(host);
    return code;
}

static int change_max(void *on, float *values, size_t count)
{
    return change(on, values, count, false);
}

static int change_sum(void *on, float *values, size_t count)
{
    return change(on, values, count, true);
}

enum { FIRST_WORD = 10 };

static int call_loss(const nn_context *on, trial *t, const void *sizes)
{
    const loss_case *c = sizes;
    nn_context own = *on;
    nn_reduce reduce = {change_max, change_sum, &own};
    nn_loss l = {.tokens = c->tokens, .width = c->width, .first = FIRST_WORD, .count = c->words, .chunk = c->chunk};
    l.hidden = array_on(on, t, 0), l.weight = array_on(on, t, 1), l.targets = data_on(on, t, 2), l.scale = 0.37;
    l.mask = c->mask ? data_on(on, t, 3) : NULL, l.token_nll = data_on(on, t, 4), l.nll = data_on(on, t, 5);
    if (c->backward)
        l.dhidden = array_on(on, t, 6), l.dweight = data_on(on, t, 7);
    l.reduce = c->ranks ? &reduce : NULL;
    if (ringx_memory_alloc(on->ops->device, nn_loss_workspace(&l) + 16, &l.workspace))
        return 71;
    int code = on->ops->loss(on, &l);
    if (!code)
        code = on->ops->wait(on);
    double nll = NAN;
    if (!code && ringx_memory_copy(on->ops->device, &nll, l.nll, sizeof nll))
        code = 74;
    if (on == &cpu)
        compare_sum(t, "nll", t->sums[0], nll, 1e-4 * (1 + fabs(nll)));
    t->sums[0] = nll;
    ringx_memory_free(on->ops->device, l.workspace);
    return code;
}

/* nll is compared apart, since it is a double, and then forgotten. */
static int call_loss_and_forget(const nn_context *on, trial *t, const void *sizes)
{
    static const double none;
    int code = call_loss(on, t, sizes);
    if (!code && ringx_memory_copy(on->ops->device, data_on(on, t, 5), &none, sizeof none))
        code = 74;
    return code;
}

static void loss(loss_case c)
{
    bool half = c.hidden != RINGX_F32 || c.dhidden != RINGX_F32;
    trial t = {.name = "loss", .least = 1};
    t.tolerance = c.hidden == RINGX_BF16 || c.dhidden == RINGX_BF16 ? 2e-2 : half ? 4e-3 : 5e-5;
    snprintf(t.shape, sizeof t.shape, "tokens %lld width %lld words %lld chunk %lld padding %lld %s %s %s%s%s%s",
             (long long)c.tokens, (long long)c.width, (long long)c.words, (long long)c.chunk, (long long)c.padding,
             dtype_name(c.hidden), dtype_name(c.weight), dtype_name(c.dhidden), c.mask ? " mask" : "",
             c.ranks ? " ranks" : "", c.backward ? "" : " forward");
    const int64_t x[] = {c.tokens, c.width}, w[] = {c.words, c.width}, row[] = {1, c.tokens}, two[] = {1, 2};
    int32_t *targets = random_ids(c.tokens, c.ranks ? 0 : FIRST_WORD, FIRST_WORD + c.words - (c.ranks ? -5 : 1));
    float *mask = malloc((size_t)(c.tokens + 1) * sizeof *mask);
    for (int64_t i = 0; i < c.tokens; i++)
        mask[i] = i % 5 == 3 ? 0 : i % 7 == 2 ? 0.25f : 1;
    add_random(&t, "hidden", x, c.hidden, c.padding);
    add_random(&t, "weight", w, c.weight, c.padding);
    add_words(&t, "targets", targets, (size_t)c.tokens * sizeof *targets);
    add_words(&t, "mask", mask, (size_t)c.tokens * sizeof *mask);
    add_poisoned(&t, "token_nll", row, RINGX_F32, 0);
    add_poisoned(&t, "nll", two, RINGX_F32, 0);
    add_poisoned(&t, "dhidden", x, c.dhidden, c.padding);
    add_random(&t, "dweight", w, RINGX_F32, 0);
    trial_run(&t, call_loss_and_forget, &c);
    free(targets), free(mask);
}

static void losses(void **state)
{
    (void)state;
    begin_test();
    const int64_t sizes[][3] = {{0, 3, 5},    {1, 1, 1},    {3, 7, 2},       {7, 5, 129},
                                {131, 3, 17}, {260, 9, 31}, {130, 64, 1000}, {3, 8, 9001}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 24 * 3; form++) {
            ringx_dtype d = (ringx_dtype)(form % 3);
            bool mixed = form / 24 == 2;
            loss((loss_case){sizes[i][0], sizes[i][1], sizes[i][2], form / 24 ? 128 : 1 << 20, paddings[form % 2 + 1],
                             d, mixed ? RINGX_F32 : d, form / 12 % 2 ? d : RINGX_F32, form / 3 & 1, form / 3 & 2,
                             form % 24 != 7});
        }
    finish_test();
}

/* ---- decoding ---- */

typedef struct decode_case {
    int64_t heads, kv_heads, dim, keys, padding;
    ringx_dtype dtype;
    bool ranks;
} decode_case;

static int call_decode(const nn_context *on, trial *t, const void *sizes)
{
    const decode_case *c = sizes;
    nn_context own = *on;
    nn_reduce reduce = {change_max, change_sum, &own};
    nn_decode d = {.heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->dim, .keys = c->keys, .scale = 0.21};
    d.q = array_on(on, t, 0), d.k = array_on(on, t, 1), d.v = array_on(on, t, 2), d.out = array_on(on, t, 3);
    d.reduce = c->ranks ? &reduce : NULL;
    if (ringx_memory_alloc(on->ops->device, nn_decode_workspace(&d), &d.workspace))
        return 71;
    int code = on->ops->decode(on, &d);
    if (!code)
        code = on->ops->wait(on);
    ringx_memory_free(on->ops->device, d.workspace);
    return code;
}

static void decodes(void **state)
{
    (void)state;
    begin_test();
    const int64_t sizes[][4] = {{1, 1, 1, 1},      {4, 2, 7, 0},     {4, 2, 7, 3},
                                {8, 2, 64, 63},    {8, 8, 100, 65},  {6, 2, 40, 300},
                                {8, 2, 128, 1000}, {6, 3, 256, 129}, {2, 1, 1024, 5000}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 6 * N_PADDINGS; form++) {
            decode_case c = {sizes[i][0], sizes[i][1],        sizes[i][2],
                             sizes[i][3], paddings[form / 6], (ringx_dtype)(form % 3),
                             form / 3 % 2};
            trial t = {.name = "decode"};
            snprintf(t.shape, sizeof t.shape, "heads %lld kv %lld dim %lld keys %lld padding %lld %s%s",
                     (long long)c.heads, (long long)c.kv_heads, (long long)c.dim, (long long)c.keys,
                     (long long)c.padding, dtype_name(c.dtype), c.ranks ? " ranks" : "");
            const int64_t q[] = {1, c.heads * c.dim}, kv[] = {c.keys, c.kv_heads * c.dim};
            add_random(&t, "q", q, c.dtype, 0);
            add_random(&t, "k", kv, c.dtype, c.padding);
            add_random(&t, "v", kv, c.dtype, c.padding);
            add_poisoned(&t, "out", q, c.dtype, 0);
            trial_run(&t, call_decode, &c);
        }
    finish_test();
}

/* ---- updates ---- */

typedef struct update_case {
    int64_t count, offset;
    int what; /* 0 AdamW, 1 Adam, 2 LAMB */
} update_case;

/* Sums of squares into the trial's, or the CPU's against them. */
static int call_update(const nn_context *on, trial *t, const void *sizes)
{
    const update_case *c = sizes;
    float *all[4];
    double *sums;
    for (int i = 0; i < 4; i++)
        all[i] = (float *)data_on(on, t, i) + c->offset;
    nn_update u = {c->count, all[0], all[1], all[2], all[3], 0.5, 0.01, 0.9, 0.95, 1e-8, 0.1, 7, c->what == 0, 0.8};
    if (ringx_memory_alloc(on->ops->device, 3 * sizeof(double), (void **)&sums))
        return 71;
    int code = on->ops->sum_squares(on, u.gradient, u.count, sums);
    if (!code && c->what == 2)
        code = on->ops->lamb_moments(on, &u, sums + 1);
    if (!code)
        code = c->what == 2 ? on->ops->lamb_apply(on, &u) : on->ops->adam(on, &u);
    if (!code)
        code = on->ops->wait(on);
    double found[3] = {NAN, NAN, NAN};
    if (ringx_memory_copy(on->ops->device, found, sums, (c->what == 2 ? 3 : 1) * sizeof *found))
        code = 74;
    ringx_memory_free(on->ops->device, sums);
    if (on != &cpu) {
        memcpy(t->sums, found, sizeof found);
        return code;
    }
    compare_sum(t, "sum of squares", t->sums[0], found[0], 1e-12 * found[0]);
    if (c->what == 2) {
        compare_sum(t, "squares of weights", t->sums[1], found[1], 1e-12 * found[1]);
        compare_sum(t, "squares of updates", t->sums[2], found[2], 1e-5 * found[2]);
    }
    return code;
}

static void updates(void **state)
{
    (void)state;
    begin_test();
    const int64_t counts[] = {0, 1, 3, 129, 1024, 4097, 1100003};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (int form = 0; form < 6; form++) {
            update_case c = {counts[i], form / 3, form % 3};
            const int64_t size[] = {1, c.count + c.offset};
            trial t = {.name = c.what == 2 ? "lamb" : c.what ? "adam" : "adamw", .tolerance = 1e-6};
            snprintf(t.shape, sizeof t.shape, "count %lld offset %lld", (long long)c.count, (long long)c.offset);
            add_random(&t, "weight", size, RINGX_F32, 0);
            add_random(&t, "m", size, RINGX_F32, 0);
            twin *v = add_random(&t, "v", size, RINGX_F32, 0);
            add_random(&t, "gradient", size, RINGX_F32, 0);
            for (int64_t j = 0; j < size[1]; j++)
                ((float *)v->host.array.data)[j] = fabsf(((float *)v->host.array.data)[j]) + 0.01f;
            trial_run(&t, call_update, &c);
        }
    finish_test();
}

/* ---- copies ---- */

/* A value that the GPU computes goes to pinned memory and back beside other work. */
static void copies(void **state)
{
    (void)state;
    begin_test();
    enum { COUNT = 3 << 20 };
    const size_t bytes = COUNT * sizeof(float);
    void *a = NULL, *b = NULL, *host = NULL;
    assert_int_equal(ringx_memory_alloc(RINGX_CUDA, bytes, &a), RINGX_OK);
    assert_int_equal(ringx_memory_alloc(RINGX_CUDA, bytes, &b), RINGX_OK);
    assert_int_equal(gpu.ops->host_alloc(bytes, &host), 0);
    float *values = host;
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)(i % 1000);
    nn_sum sum = {1, COUNT, {a, RINGX_F32, 0}, {a, RINGX_F32, 0}, {b, RINGX_F32, 0}};
    assert_int_equal(gpu.ops->copy_begin(&gpu, a, host, bytes), 0);
    assert_int_equal(gpu.ops->copy_wait(&gpu), 0);
    assert_int_equal(gpu.ops->add(&gpu, &sum), 0);
    assert_int_equal(gpu.ops->copy_begin(&gpu, host, b, bytes), 0);
    assert_int_equal(gpu.ops->zero(&gpu, a, bytes), 0);
    assert_int_equal(gpu.ops->copy_wait(&gpu), 0);
    assert_int_equal(gpu.ops->zero(&gpu, b, bytes), 0); /* after the copy has read it */
    assert_int_equal(gpu.ops->wait(&gpu), 0);
    for (int i = 0; i < COUNT; i++)
        if (values[i] != (float)(2 * (i % 1000)))
            WRONG("copies: value %d is %g; it must be %d\n", i, (double)values[i], 2 * (i % 1000));
    must_copy(values, b, bytes);
    for (int i = 0; i < COUNT; i++)
        if (values[i] != 0)
            WRONG("zero: value %d is %g\n", i, (double)values[i]);
    gpu.ops->host_free(host);
    gpu.ops->host_free(NULL);
    ringx_memory_free(RINGX_CUDA, a), ringx_memory_free(RINGX_CUDA, b);
    finish_test();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeddings), cmocka_unit_test(ropes),   cmocka_unit_test(patches), cmocka_unit_test(losses),
        cmocka_unit_test(decodes),    cmocka_unit_test(updates), cmocka_unit_test(copies)};
    return cmocka_run_group_tests_name("nn_cuda_ends", tests, open_gpu, close_gpu);
}
