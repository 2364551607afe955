/* SPDX-License-Identifier: MIT */
/* Loss, scores, prediction and every gradient over tensor × context × data ranks in both orders equal those of one
 * rank, for presets, lengths that do not divide and dropout.
 *   RINGX_LONG=1: every layout with every preset and both orders */
#include "vit_case.h"

#include <omp.h>
#include <pthread.h>

enum { MOST_RANKS = 8, BATCH = 2, CHANNELS_OUT = 2 };

/* 7 x 11 = 77 patches: divided by neither 2, 3 nor 4. */
static vit_shape shape = {.height = 14,
                          .width = 22,
                          .patch = 2,
                          .channels_in = 3,
                          .channels_out = CHANNELS_OUT,
                          .embed = 32,
                          .depth = 2,
                          .heads = 4,
                          .norm_eps = 1e-6};

typedef struct layout_case {
    int tensor, context, data;
    bool context_first; /* rank order cp-tp-dp; else tp-cp-dp */
    const char *attn_type;
    double dropout;
} layout_case;

typedef struct member {
    const layout_case *c;
    group *world;
    const float *input, *target; /* [BATCH] whole images */
    double loss;                 /* Σ over the global batch */
    vit_sums sums[CHANNELS_OUT]; /* the same */
    float *fields;               /* of the samples of this data rank */
    int code;
    char message[MESSAGE_BYTES];
    vit_model *m;
} member;

/* The band of this rank's samples: first, first + stride, …  */
static float *cut(const member *r, const float *whole, int64_t channels, const vit_run *run)
{
    vit_band band = vit_model_band(r->m);
    size_t row = (size_t)shape.width, n = (size_t)(run->batch * channels * band.count);
    float *part = malloc((n * row + 1) * sizeof *part);
    for (int64_t i = 0; i < run->batch * channels; i++) {
        int64_t sample = run->first_sample + i / channels * run->sample_stride;
        const float *from = whole + ((sample * channels + i % channels) * shape.height + band.first) * shape.width;
        memcpy(part + i * band.count * shape.width, from, (size_t)band.count * row * sizeof *part);
    }
    return part;
}

static int train(member *r, const parallel *p, const vit_run *run)
{
    double losses[BATCH], weights[64];
    vit_sums sums[BATCH * CHANNELS_OUT];
    uint64_t key = 4;
    for (int j = 0; j < shape.height; j++)
        weights[j] = 1 + 0.1 * (double)random_normal(key, (uint64_t)j);
    float *input = cut(r, r->input, shape.channels_in, run), *target = cut(r, r->target, CHANNELS_OUT, run);
    vit_batch b = {.input = input, .target = target};
    int code = vit_model_train(r->m, &b, 0.5, 99, losses);
    if (!code)
        code = vit_model_scores(r->m, weights, sums);
    r->fields = malloc((size_t)(run->batch * CHANNELS_OUT * shape.height * shape.width) * sizeof *r->fields);
    if (!code)
        code = vit_model_fields(r->m, r->fields);
    memset(r->sums, 0, sizeof r->sums);
    r->loss = 0;
    for (int64_t i = 0; i < run->batch && !code; i++) {
        r->loss += losses[i];
        for (int c = 0; c < CHANNELS_OUT; c++) {
            r->sums[c].error += sums[i * CHANNELS_OUT + c].error,
                r->sums[c].target += sums[i * CHANNELS_OUT + c].target;
            r->sums[c].prediction += sums[i * CHANNELS_OUT + c].prediction;
            r->sums[c].product += sums[i * CHANNELS_OUT + c].product;
        }
    }
    if (!code)
        code = group_sum(p->data, &r->loss);
    if (!code)
        code = group_all_reduce(p->data, GROUP_SUM, GROUP_F64, &r->sums[0].error, 4 * CHANNELS_OUT);
    if (!code)
        code = group_all_reduce(p->gradient, GROUP_SUM, GROUP_F32, vit_model_gradients(r->m), vit_model_elements(r->m));
    free(input), free(target);
    return code;
}

static int run_rank(member *r, const parallel *p)
{
    const layout_case *c = r->c;
    vit_shape s = shape;
    ringx_options options = RINGX_OPTIONS_INIT;
    vit_run run = {.batch = BATCH / c->data, .recompute = true, .attention = &options};
    run.first_sample = p->at[AXIS_DATA], run.sample_stride = c->data;
    s.dropout = c->dropout, options.threads = 1;
    int code = vit_attention_preset(c->attn_type, &options.preset);
    if (!code)
        code = vit_model_create(&r->m, &s, RINGX_F32, &cpu, (vit_groups){p->tensor, p->context});
    if (!code)
        code = vit_model_initialise(r->m, 42);
    float *weights = code ? NULL : vit_model_weights(r->m);
    for (size_t i = 0; !code && i < vit_model_elements(r->m); i++)
        weights[i] *= 3; /* so that every part of the model counts */
    if (!code)
        code = vit_model_prepare(r->m, &run);
    if (!code)
        code = train(r, p, &run);
    vit_model_release(r->m);
    return code;
}

static void *one_rank(void *argument)
{
    static const axis orders[][AXES] = {{AXIS_TENSOR, AXIS_CONTEXT, AXIS_DATA}, {AXIS_CONTEXT, AXIS_TENSOR, AXIS_DATA}};
    member *r = argument;
    parallel p;
    omp_set_num_threads(1);
    const int size[AXES] = {r->c->tensor, r->c->context, r->c->data};
    r->code = parallel_create(&p, r->world, size, orders[r->c->context_first]);
    if (!r->code) {
        r->code = run_rank(r, &p);
        parallel_destroy(&p);
    }
    failure_copy(r->message);
    return NULL;
}

static const char *name_of(const layout_case *c, char text[128])
{
    snprintf(text, 128, "tensor %d, context %d, data %d, %s, %s, dropout %g", c->tensor, c->context, c->data,
             c->context_first ? "cp-tp-dp" : "tp-cp-dp", c->attn_type ? c->attn_type : "auto", c->dropout);
    return text;
}

static void run_ranks(const layout_case *c, const float *input, const float *target, member *members)
{
    int ranks = c->tensor * c->context * c->data;
    group *groups[MOST_RANKS];
    pthread_t threads[MOST_RANKS];
    char name[128];
    good(group_threads(ranks, groups));
    for (int r = 0; r < ranks; r++) {
        members[r] = (member){.c = c, .world = groups[r], .input = input, .target = target, .loss = NAN};
        assert_int_equal(pthread_create(&threads[r], NULL, one_rank, &members[r]), 0);
    }
    for (int r = 0; r < ranks; r++)
        pthread_join(threads[r], NULL);
    for (int r = 0; r < ranks; r++) {
        group_destroy(groups[r]);
        if (members[r].code)
            fail_msg("rank %d of %s: %s", r, name_of(c, name), members[r].message);
    }
}

static void free_ranks(member *members, int ranks)
{
    for (int r = 0; r < ranks; r++) {
        vit_model_destroy(members[r].m);
        free(members[r].fields);
    }
}

static void assert_number(double found, double right, const char *what, const layout_case *c)
{
    char name[128];
    if (!(fabs(found - right) <= 1e-5 * fabs(right)))
        fail_msg("%s, %s: %.9g; it must be %.9g", name_of(c, name), what, found, right);
}

/* This rank's part of a parameter's gradient against the whole; the weights are the same bits. */
static void compare_parameter(const member *found, const member *right, size_t i)
{
    const vit_parameter *parts, *wholes;
    vit_model_parameters(found->m, &parts), vit_model_parameters(right->m, &wholes);
    const vit_parameter *p = &parts[i], *q = &wholes[i];
    const float *part = vit_model_gradients(found->m) + p->offset, *whole = vit_model_gradients(right->m) + q->offset;
    const float *w = (const float *)vit_model_weights(found->m) + p->offset;
    const float *v = (const float *)vit_model_weights(right->m) + q->offset;
    double off = 0, size = 0;
    char name[128];
    for (int64_t j = 0; j < (int64_t)p->count; j++) {
        int64_t at = (p->first_row + j / p->local_columns) * p->columns + p->first_column + j % p->local_columns;
        double d = (double)part[j] - (double)whole[at];
        off += d * d, size += (double)whole[at] * (double)whole[at];
        assert_memory_equal(&w[j], &v[at], sizeof *w);
    }
    /* the gradient of the keys' bias is 0 but for rounding */
    bool none = strstr(p->name, "attn.k.bias");
    if (!(sqrt(off) <= (none ? 1e-6 : 1e-5 * sqrt(size))) || !(none || size > 0))
        fail_msg("%s: gradient of %s is off by %.3g of %.3g", name_of(found->c, name), p->name, sqrt(off), sqrt(size));
}

static void compare(const member *found, const member *right, int at_data)
{
    const vit_parameter *all;
    size_t n = vit_model_parameters(right->m, &all), image = (size_t)(CHANNELS_OUT * shape.height * shape.width);
    assert_number(found->loss, right->loss, "loss", found->c);
    for (int c = 0; c < CHANNELS_OUT; c++) {
        assert_number(vit_rmse(&found->sums[c], 1), vit_rmse(&right->sums[c], 1), "RMSE", found->c);
        assert_number(found->sums[c].target, right->sums[c].target, "target", found->c);
        assert_true(fabs(vit_acc(&found->sums[c]) - vit_acc(&right->sums[c])) <= 1e-5);
    }
    for (int i = 0; i < BATCH / found->c->data; i++)
        assert_close(found->fields + (size_t)i * image, right->fields + (size_t)(at_data + i * found->c->data) * image,
                     image, 1e-5, "prediction");
    for (size_t i = 0; i < n; i++)
        compare_parameter(found, right, i);
}

static void compare_layouts(const layout_case *cases, size_t count)
{
    float *input = random_fields(11, BATCH, shape.channels_in, &shape);
    float *target = random_fields(12, BATCH, CHANNELS_OUT, &shape);
    member one, members[MOST_RANKS];
    double dropout = NAN;
    for (size_t i = 0; i < count; i++) {
        static layout_case alone;
        if (cases[i].dropout != dropout) {
            if (i > 0)
                free_ranks(&one, 1);
            alone = (layout_case){1, 1, 1, false, NULL, cases[i].dropout};
            run_ranks(&alone, input, target, &one);
            dropout = cases[i].dropout;
        }
        int model = cases[i].tensor * cases[i].context, ranks = model * cases[i].data;
        run_ranks(&cases[i], input, target, members);
        for (int r = 0; r < ranks; r++)
            compare(&members[r], &one, r / model);
        free_ranks(members, ranks);
    }
    free_ranks(&one, 1);
    free(input), free(target);
}

static void some_layouts(void **state)
{
    (void)state;
    static const layout_case cases[] = {
        {2, 1, 1, false, "ringX", 0},     {1, 2, 1, true, "ringX3b", 0},  {1, 3, 1, false, "ringX1o", 0},
        {1, 4, 1, false, "ring", 0},      {2, 2, 1, true, "megatron", 0}, {1, 1, 2, false, "ulysses", 0},
        {2, 2, 2, true, "ringX1o", 0},    {2, 2, 2, false, "ulysses", 0}, {1, 3, 1, false, "zigzag", 0},
        {1, 4, 1, true, "stripe", 0},     {1, 4, 1, true, "ulysses", 0},  {2, 1, 1, false, "megatron", 0.2},
        {1, 3, 1, false, "ringX1o", 0.2}, {2, 2, 2, true, "ring", 0.2},   {1, 2, 2, false, "ringX3b", 0.2},
    };
    compare_layouts(cases, sizeof cases / sizeof cases[0]);
}

static void all_layouts(void **state)
{
    (void)state;
    static const int sizes[][AXES] = {{2, 1, 1}, {1, 2, 1}, {1, 3, 1}, {1, 4, 1}, {2, 2, 1}, {1, 1, 2}, {2, 2, 2}};
    static const char *const types[] = {"ringX1o", "ringX3b", "ring", "megatron", "ulysses"};
    enum { SIZES = sizeof sizes / sizeof sizes[0], TYPES = sizeof types / sizeof types[0] };
    static layout_case cases[SIZES * TYPES * 4];
    size_t n = 0;
    if (!getenv("RINGX_LONG"))
        skip();
    for (int dropout = 0; dropout < 2; dropout++)
        for (int i = 0; i < SIZES * TYPES * 2; i++) {
            const int *size = sizes[i / 2 / TYPES];
            cases[n++] = (layout_case){size[0], size[1], size[2], i % 2, types[i / 2 % TYPES], 0.1 * dropout};
        }
    compare_layouts(cases, n);
}

/* Last: as many patches as the original's base has, 45 x 90 over 4 and 3 ranks. */
static void patches_of_base(void **state)
{
    (void)state;
    static const layout_case cases[] = {{1, 4, 1, false, "ringX1o", 0}, {1, 3, 1, false, "megatron", 0}};
    shape.height = 45, shape.width = 90, shape.patch = 1, shape.embed = 8, shape.heads = 2, shape.depth = 1;
    compare_layouts(cases, sizeof cases / sizeof cases[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(some_layouts), cmocka_unit_test(all_layouts),
                                       cmocka_unit_test(patches_of_base)};
    return cmocka_run_group_tests_name("vit_parallel", tests, NULL, NULL);
}
