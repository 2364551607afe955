/* SPDX-License-Identifier: MIT */
/* Ten steps of training from the oracle's weights against PyTorch's Adam and schedule in double (make_vit_steps.py), on
 * one rank, and with stage 1 over context ranks; sums beside backward change no bit. */
#include "vit_case.h"

#include "apps/train/group_ranks.h"
#include "train/zero.h"

#include <omp.h>

enum { STEPS = 10, TENSORS = 38 };

typedef struct trial {
    int context, stage;
    bool overlap;
    double losses[STEPS];
    float head[80 * 32], norm[32]; /* of rank 0, at the end */
} trial;

static int make_optimizer(zero *z, vit_model *m, zero_tensor tensors[TENSORS], const parallel *p, const trial *t)
{
    const vit_parameter *all;
    size_t n = vit_model_parameters(m, &all);
    for (size_t i = 0; i < n; i++)
        tensors[i] = (zero_tensor){all[i].name, all[i].offset, all[i].count, false, all[i].split};
    zero_model model = {.tensors = tensors,
                        .n_tensors = n,
                        .elements = vit_model_elements(m),
                        .weights = vit_model_weights(m),
                        .gradients = vit_model_gradients(m),
                        .on = &cpu};
    zero_settings set = {.stage = t->stage,
                         .optimizer = OPTIMIZER_ADAM,
                         .beta1 = 0.9,
                         .beta2 = 0.95,
                         .eps = 1e-8,
                         .bucket = 500, /* many a block */
                         .overlap = t->overlap};
    return zero_create(z, &model, &set, p);
}

/* The rows of a model's band of whole images. */
static float *cut(vit_model *m, const float *whole)
{
    vit_band band = vit_model_band(m);
    size_t row = (size_t)(band.count * 48);
    float *part = malloc(10 * row * sizeof *part);
    for (size_t i = 0; i < 10; i++)
        memcpy(part + i * row, whole + (i * 24 + (size_t)band.first) * 48, row * sizeof *part);
    return part;
}

static int gradients_ready(void *context, size_t first)
{
    return zero_ready(context, first);
}

static int take_steps(trial *t, vit_model *m, zero *z, const vit_batch *b)
{
    static char cosine[] = "cosine";
    vit_config c = {.num_iters = 20, .warmup = 3, .lr = 2e-3, .lr_schedule = cosine};
    int code = CODE_GOOD;
    for (int i = 0; i < STEPS && !code; i++) {
        double losses[2], norm;
        zero_begin(z, true);
        code = vit_model_train(m, b, 0.5, 0, losses);
        if (!code)
            code = zero_accumulate(z, true);
        if (!code)
            code = zero_norm(z, 1, &norm);
        if (!code)
            code = zero_update(z, vit_learning_rate(&c, i), 1, norm);
        if (group_rank(z->ranks->world) == 0)
            t->losses[i] = (losses[0] + losses[1]) / 2;
    }
    return code;
}

static void keep_weights(trial *t, vit_model *m)
{
    const vit_parameter *all;
    size_t n = vit_model_parameters(m, &all);
    const float *weights = vit_model_weights(m);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, "head.weight") == 0)
            memcpy(t->head, weights + all[i].offset, sizeof t->head);
        if (strcmp(all[i].name, "blocks.0.norm1.weight") == 0)
            memcpy(t->norm, weights + all[i].offset, sizeof t->norm);
    }
}

static int train(trial *t, parallel *p)
{
    st_file f;
    size_t count;
    vit_model *m;
    zero z;
    zero_tensor tensors[TENSORS];
    good(vit_model_create(&m, &oracle_shape, RINGX_F32, &cpu, (vit_groups){NULL, p->context}));
    oracle_weights(m);
    good(vit_model_prepare(m, &(vit_run){.batch = 2}));
    good(make_optimizer(&z, m, tensors, p, t));
    vit_model_watch(m, (vit_watch){gradients_ready, &z});
    good(st_open(&f, RINGX_TEST_DATA "/vit/reference.safetensors"));
    float *images[] = {floats_of(&f, "input", &count), floats_of(&f, "target", &count)};
    float *bands[] = {cut(m, images[0]), cut(m, images[1])};
    vit_batch b = {.input = bands[0], .target = bands[1]};
    int code = take_steps(t, m, &z, &b);
    if (group_rank(p->world) == 0)
        keep_weights(t, m);
    for (int i = 0; i < 2; i++)
        free(images[i]), free(bands[i]);
    st_close(&f);
    zero_destroy(&z);
    vit_model_destroy(m);
    return code;
}

static int train_body(group *world, void *context)
{
    trial *t = context;
    parallel p;
    omp_set_num_threads(1);
    int code = parallel_create(&p, world, (int[AXES]){1, t->context, 1}, NULL);
    if (!code) {
        code = train(t, &p);
        parallel_destroy(&p);
    }
    return code;
}

static void steps_of_adam(void **state)
{
    (void)state;
    static const int forms[][2] = {{1, 0}, {3, 1}};
    st_file f;
    size_t count;
    good(st_open(&f, RINGX_TEST_DATA "/vit/steps.safetensors"));
    float *losses = floats_of(&f, "loss", &count), *head = floats_of(&f, "head.weight", &count);
    float *norm = floats_of(&f, "blocks.0.norm1.weight", &count);
    for (int i = 0; i < 2; i++) {
        static trial t;
        t = (trial){.context = forms[i][0], .stage = forms[i][1]};
        poison(t.head, sizeof t.head), poison(t.norm, sizeof t.norm);
        run_group_good(forms[i][0], train_body, &t);
        for (int s = 0; s < STEPS; s++)
            if (!(fabs(t.losses[s] - (double)losses[s]) <= 1e-5 * (double)losses[s]))
                fail_msg("%d ranks, step %d: loss %.8g; it must be %.8g", forms[i][0], s, t.losses[s],
                         (double)losses[s]);
        assert_close(t.head, head, sizeof t.head / sizeof *head, 1e-3, "head.weight");
        assert_close(t.norm, norm, sizeof t.norm / sizeof *norm, 1e-4, "blocks.0.norm1.weight");
    }
    free(losses), free(head), free(norm);
    st_close(&f);
}

static void sums_beside_backward(void **state)
{
    (void)state;
    for (int stage = 0; stage < 2; stage++) {
        static trial t[2];
        for (int beside = 0; beside < 2; beside++) {
            t[beside] = (trial){.context = 2 + stage, .stage = stage, .overlap = beside};
            run_group_good(t[beside].context, train_body, &t[beside]);
        }
        assert_memory_equal(t[0].losses, t[1].losses, sizeof t[0].losses);
        assert_memory_equal(t[0].head, t[1].head, sizeof t[0].head);
        assert_memory_equal(t[0].norm, t[1].norm, sizeof t[0].norm);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_of_adam), cmocka_unit_test(sums_beside_backward)};
    return cmocka_run_group_tests_name("vit_steps", tests, NULL, NULL);
}
