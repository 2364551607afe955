/* SPDX-License-Identifier: MIT */
/* CUDA operators of the layers against the CPU's: linear layers, norms, pointwise operators. */
#include "nn_cuda_case.h"

/* Padding between rows: 0 and 8 leave rows where they can be taken 8 elements at a time, 3 does not. */
static const int64_t paddings[] = {0, 8, 3};
enum { N_PADDINGS = 3 };

/* ---- linear ---- */

typedef struct linear_case {
    int64_t tokens, in, out, padding;
    ringx_dtype x, w, y, dy, dx;
    bool bias, add;
} linear_case;

static int call_linear(const nn_context *on, trial *t, const void *sizes)
{
    const linear_case *c = sizes;
    nn_linear l = {.tokens = c->tokens, .in = c->in, .out = c->out, .add = c->add};
    l.x = array_on(on, t, 0), l.w = array_on(on, t, 1), l.y = array_on(on, t, 2), l.dy = array_on(on, t, 3);
    l.dx = array_on(on, t, 4), l.dw = data_on(on, t, 5);
    if (c->bias)
        l.bias = array_on(on, t, 6), l.dbias = data_on(on, t, 7);
    int code = on->ops->linear_forward(on, &l);
    if (!code)
        code = on->ops->linear_backward_input(on, &l);
    return code ? code : on->ops->linear_backward_weight(on, &l);
}

static void linear(linear_case c)
{
    trial t = {.name = "linear", .least = 1}; /* the terms, which may cancel */
    snprintf(t.shape, sizeof t.shape, "tokens %lld in %lld out %lld padding %lld x %s w %s y %s dy %s dx %s%s%s",
             (long long)c.tokens, (long long)c.in, (long long)c.out, (long long)c.padding, dtype_name(c.x),
             dtype_name(c.w), dtype_name(c.y), dtype_name(c.dy), dtype_name(c.dx), c.bias ? " bias" : "",
             c.add ? " add" : "");
    const int64_t x[] = {c.tokens, c.in}, w[] = {c.out, c.in}, y[] = {c.tokens, c.out}, b[] = {1, c.out};
    add_random(&t, "x", x, c.x, c.padding);
    add_random(&t, "w", w, c.w, c.padding);
    c.add ? add_random(&t, "y", y, c.y, c.padding) : add_poisoned(&t, "y", y, c.y, c.padding);
    add_random(&t, "dy", y, c.dy, c.padding);
    c.add ? add_random(&t, "dx", x, c.dx, c.padding) : add_poisoned(&t, "dx", x, c.dx, c.padding);
    add_random(&t, "dw", w, RINGX_F32, 0);
    if (c.bias) {
        add_random(&t, "bias", b, c.y, 0);
        add_random(&t, "dbias", b, RINGX_F32, 0);
    }
    trial_run(&t, call_linear, &c);
}

static void linear_sizes(void **state)
{
    (void)state;
    begin_test();
    const int64_t sizes[][3] = {{0, 3, 5},     {1, 1, 1},       {3, 7, 2},    {7, 129, 3},
                                {129, 5, 131}, {5, 300, 3},     {257, 2, 67}, {64, 64, 64},
                                {131, 130, 1}, {256, 128, 384}, {130, 72, 8}, {1, 512, 256}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 3 * 4 * N_PADDINGS; form++) {
            ringx_dtype d = (ringx_dtype)(form % 3);
            linear((linear_case){sizes[i][0], sizes[i][1], sizes[i][2], paddings[form / 12], d, d, d, d, d,
                                 form / 3 & 1, form / 3 & 2});
        }
    finish_test();
}

/* Every combination of dtypes of x, w and y; those of dy and dx go along. */
static void linear_dtypes(void **state)
{
    (void)state;
    begin_test();
    for (int i = 0; i < 27 * 2; i++) {
        ringx_dtype x = (ringx_dtype)(i % 3), w = (ringx_dtype)(i / 3 % 3), y = (ringx_dtype)(i / 9 % 3);
        linear((linear_case){130, 40, 24, i % 2 ? 8 : 3, x, w, y, y, x, true, i >= 27});
    }
    finish_test();
}

/* ---- norms ---- */

typedef struct norm_case {
    int64_t tokens, width, padding, chunk;
    ringx_dtype x, dy;
    bool layer, add;
} norm_case;

static void norm_rows(nn_norm *n, int64_t first)
{
    nn_array *all[] = {&n->x, &n->y, &n->dy, &n->dx};
    for (int i = 0; i < 4; i++)
        all[i]->data = (char *)all[i]->data + (size_t)(first * all[i]->stride) * dtype_bytes(all[i]->dtype);
}

/* In pieces of `chunk` tokens. */
static int call_norm(const nn_context *on, trial *t, const void *sizes)
{
    const norm_case *c = sizes;
    nn_norm n = {.width = c->width, .eps = 1e-5, .add = c->add};
    n.x = array_on(on, t, 0), n.weight = array_on(on, t, 1), n.bias = array_on(on, t, 2), n.y = array_on(on, t, 3);
    n.dy = array_on(on, t, 4), n.dx = c->x == c->dy && !c->add ? n.dy : array_on(on, t, 5);
    n.dweight = data_on(on, t, 6), n.dbias = data_on(on, t, 7);
    int code = 0;
    for (int64_t first = 0; (first < c->tokens || first == 0) && !code; first += c->chunk) {
        nn_norm piece = n;
        norm_rows(&piece, first);
        piece.tokens = c->tokens - first < c->chunk ? c->tokens - first : c->chunk;
        code = (c->layer ? on->ops->layer_norm_forward : on->ops->rms_norm_forward)(on, &piece);
        if (!code)
            code = (c->layer ? on->ops->layer_norm_backward : on->ops->rms_norm_backward)(on, &piece);
    }
    return code;
}

static trial norm_trial(const norm_case *c)
{
    trial t = {.name = c->layer ? "layer_norm" : "rms_norm", .least = c->width < 8 ? 10 : 1};
    snprintf(t.shape, sizeof t.shape, "tokens %lld width %lld padding %lld chunk %lld x %s dy %s%s%s",
             (long long)c->tokens, (long long)c->width, (long long)c->padding, (long long)c->chunk, dtype_name(c->x),
             dtype_name(c->dy), c->add ? " add" : "", c->x == c->dy && !c->add ? " dx over dy" : "");
    const int64_t x[] = {c->tokens, c->width}, w[] = {1, c->width};
    add_random(&t, "x", x, c->x, c->padding);
    add_random(&t, "weight", w, c->x, 0);
    add_random(&t, "bias", w, c->x, 0);
    add_poisoned(&t, "y", x, c->x, c->padding);
    add_random(&t, "dy", x, c->dy, c->padding);
    c->add ? add_random(&t, "dx", x, c->x, c->padding) : add_poisoned(&t, "dx", x, c->x, c->padding);
    add_random(&t, "dweight", w, RINGX_F32, 0);
    add_random(&t, "dbias", w, RINGX_F32, 0);
    return t;
}

static void norms(void **state)
{
    (void)state;
    begin_test();
    const int64_t sizes[][2] = {{0, 3},     {1, 1},     {3, 7},    {5, 128},  {130, 136}, {260, 768},
                                {17, 4096}, {33, 1030}, {3, 8200}, {2, 9001}, {600, 24}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 3 * 8 * N_PADDINGS; form++) {
            norm_case c = {sizes[i][0], sizes[i][1],  paddings[form / 24], 1 << 20, (ringx_dtype)(form % 3),
                           RINGX_F32,   form / 3 & 1, form / 3 & 2};
            c.dy = form / 3 & 4 ? RINGX_F32 : c.x;
            trial t = norm_trial(&c);
            trial_run(&t, call_norm, &c);
        }
    finish_test();
}

/* On the GPU, tokens in pieces at multiples of NN_TILE: the bits of one call. */
static void norms_in_pieces(void **state)
{
    (void)state;
    begin_test();
    for (int form = 0; form < 12; form++) {
        norm_case c = {
            5 * NN_TILE + 37, form & 1 ? 264 : 131, 0, 1 << 20, (ringx_dtype)(form / 4), RINGX_F32, form & 2, true};
        trial t = norm_trial(&c);
        run_on_gpu(&t, call_norm, &c, 0);
        c.chunk = form & 1 ? NN_TILE : 2 * NN_TILE;
        run_on_gpu(&t, call_norm, &c, 1);
        for (int i = 0; i < t.count; i++)
            if (memcmp(t.twins[i].found[0], t.twins[i].found[1], t.twins[i].host.bytes) != 0)
                WRONG("%s %s: %s: pieces of %lld tokens change bits\n", t.name, t.shape, t.twins[i].name,
                      (long long)c.chunk);
        trial_free(&t);
    }
    finish_test();
}

/* ---- pointwise ---- */

typedef struct map_case {
    int64_t tokens, width, padding;
    ringx_dtype a, b;
    int what;
} map_case;

static int call_gate(const nn_context *on, const trial *t, const map_case *c)
{
    nn_gate g = {.tokens = c->tokens, .width = c->width};
    g.gate = array_on(on, t, 0), g.up = array_on(on, t, 1), g.y = array_on(on, t, 2), g.dy = array_on(on, t, 3);
    int code = on->ops->silu_gate_forward(on, &g);
    if (c->what == 1) /* gradients in the places of gate and up, as training has them */
        g.dgate = g.gate, g.dup = g.up;
    else
        g.dgate = g.dy, g.dup = array_on(on, t, 4);
    return code ? code : on->ops->silu_gate_backward(on, &g);
}

static int call_gelu(const nn_context *on, const trial *t, const map_case *c)
{
    nn_map m = {.tokens = c->tokens, .width = c->width};
    m.x = array_on(on, t, 0), m.y = array_on(on, t, 2), m.dy = array_on(on, t, 3), m.dx = m.dy;
    int code = on->ops->gelu_forward(on, &m);
    return code ? code : on->ops->gelu_backward(on, &m);
}

static int call_dropout(const nn_context *on, const trial *t, const map_case *c)
{
    nn_dropout d = {.tokens = c->tokens, .width = c->width, .p = 0.3, .seed = 12345, .row_width = c->width + 1000};
    d.x = array_on(on, t, 0), d.y = array_on(on, t, 2), d.first_column = 7;
    if (c->padding)
        d.rows = data_on(on, t, 5);
    return on->ops->dropout(on, &d);
}

static int call_scale(const nn_context *on, const trial *t, const map_case *c)
{
    nn_scale s = {c->tokens, c->width, array_on(on, t, 0), array_on(on, t, 2), data_on(on, t, 6)};
    return on->ops->scale(on, &s);
}

static int call_map(const nn_context *on, trial *t, const void *sizes)
{
    const map_case *c = sizes;
    nn_sum s = {c->tokens, c->width, array_on(on, t, 0), array_on(on, t, 1), array_on(on, t, 2)};
    nn_map m = {.tokens = c->tokens, .width = c->width, .x = s.a, .y = s.y};
    switch (c->what) {
    case 0:
    case 1:
        return call_gate(on, t, c);
    case 2:
        return call_gelu(on, t, c);
    case 3:
        return on->ops->add(on, &s);
    case 4:
        s.y = s.a; /* in place */
        return on->ops->add(on, &s);
    case 5:
        return on->ops->cast(on, &m);
    case 6:
        return call_scale(on, t, c);
    default:
        return call_dropout(on, t, c);
    }
}

static const char *const maps[] = {"silu_gate", "silu_gate in place", "gelu", "add", "add in place", "cast", "scale",
                                   "dropout"};
enum { N_MAPS = sizeof maps / sizeof maps[0] };

static void map(map_case c)
{
    trial t = {.name = maps[c.what]};
    snprintf(t.shape, sizeof t.shape, "tokens %lld width %lld padding %lld %s to %s", (long long)c.tokens,
             (long long)c.width, (long long)c.padding, dtype_name(c.a), dtype_name(c.b));
    const int64_t size[] = {c.tokens, c.width};
    int64_t *rows = calloc((size_t)c.tokens + 1, sizeof *rows);
    float *factors = calloc((size_t)c.tokens + 1, sizeof *factors);
    for (int64_t i = 0; i < c.tokens; i++)
        rows[i] = (i * 7919 + 3) % 100003, factors[i] = i % 3 ? random_normal(77, (uint64_t)i) : 0;
    add_random(&t, "a", size, c.a, c.padding);
    add_random(&t, "b", size, c.a, c.padding);
    add_poisoned(&t, "y", size, c.b, c.padding);
    add_random(&t, "dy", size, c.b, c.padding);
    add_poisoned(&t, "dup", size, c.b, c.padding);
    add_words(&t, "rows", rows, (size_t)c.tokens * sizeof *rows);
    add_words(&t, "factors", factors, (size_t)c.tokens * sizeof *factors);
    trial_run(&t, call_map, &c);
    free(rows), free(factors);
}

static void pointwise(void **state)
{
    (void)state;
    begin_test();
    const int64_t sizes[][2] = {{0, 3}, {1, 1}, {3, 7}, {5, 128}, {129, 40}, {7, 1030}, {1, 70001}, {300, 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int form = 0; form < 9 * N_PADDINGS; form++)
            for (int what = 0; what < N_MAPS; what++)
                map((map_case){sizes[i][0], sizes[i][1], paddings[form / 9], (ringx_dtype)(form % 3),
                               (ringx_dtype)(form / 3 % 3), what});
    finish_test();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(linear_sizes), cmocka_unit_test(linear_dtypes),
                                       cmocka_unit_test(norms), cmocka_unit_test(norms_in_pieces),
                                       cmocka_unit_test(pointwise)};
    return cmocka_run_group_tests_name("nn_cuda", tests, open_gpu, close_gpu);
}
