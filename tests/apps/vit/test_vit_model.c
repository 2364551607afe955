/* SPDX-License-Identifier: MIT */
/* The model against the oracle: prediction, loss, scores, every gradient; recomputation and chunks change no bit; with
 * dropout the gradient is that of the loss. */
#include "vit_case.h"

typedef struct oracle {
    vit_model *m;
    float *input, *target;
    vit_batch batch;
} oracle;

/* Memory of the device, copied. */
static float *copy_of(const nn_context *on, const float *from, size_t count)
{
    float *copy = malloc(count * sizeof *copy);
    assert_non_null(copy);
    good(fail_status(ringx_memory_copy(on->ops->device, copy, from, count * sizeof *copy), "copy"));
    return copy;
}

static oracle oracle_on(const nn_context *on, ringx_dtype dtype, const vit_run *run)
{
    st_file f;
    size_t count;
    oracle o;
    good(vit_model_create(&o.m, &oracle_shape, dtype, on, (vit_groups){0}));
    oracle_weights(o.m);
    good(vit_model_prepare(o.m, run));
    good(st_open(&f, RINGX_TEST_DATA "/vit/reference.safetensors"));
    o.input = floats_of(&f, "input", &count), o.target = floats_of(&f, "target", &count);
    assert_int_equal(count, 2 * 5 * 24 * 48);
    st_close(&f);
    o.batch = (vit_batch){.input = o.input, .target = o.target};
    return o;
}

static oracle oracle_open(ringx_dtype dtype, const vit_run *run)
{
    return oracle_on(&cpu, dtype, run);
}

static void oracle_close(oracle *o)
{
    vit_model_destroy(o->m);
    free(o->input), free(o->target);
}

static void assert_scores(const oracle *o, const st_file *f)
{
    vit_sums sums[2][5];
    double weights[24], all = 0;
    size_t count;
    float *rmse = floats_of(f, "weighted_rmse", &count), *acc = floats_of(f, "weighted_acc", &count);
    for (int j = 0; j < 24; j++)
        all += weights[j] = cos((90 - 180 * j / 23.0) * 3.1416 / 180);
    for (int j = 0; j < 24; j++)
        weights[j] *= 24 / all;
    good(vit_model_scores(o->m, weights, &sums[0][0]));
    for (int c = 0; c < 5; c++) {
        double r = (vit_rmse(&sums[0][c], 24 * 48) + vit_rmse(&sums[1][c], 24 * 48)) / 2;
        double a = (vit_acc(&sums[0][c]) + vit_acc(&sums[1][c])) / 2;
        if (!(fabs(r - (double)rmse[c]) <= 1e-5 * (double)rmse[c]) || !(fabs(a - (double)acc[c]) <= 1e-5))
            fail_msg("channel %d: RMSE %.8g for %.8g, ACC %.8g for %.8g", c, r, (double)rmse[c], a, (double)acc[c]);
    }
    free(rmse), free(acc);
}

static void assert_oracle(const nn_context *on)
{
    st_file f;
    size_t count, n;
    double losses[2] = {NAN, NAN};
    const vit_parameter *all;
    oracle o = oracle_on(on, RINGX_F32, &(vit_run){.batch = 2});
    good(st_open(&f, RINGX_TEST_DATA "/vit/reference.safetensors"));
    good(vit_model_train(o.m, &o.batch, 0.5, 1, losses));
    float *right = floats_of(&f, "loss", &count);
    double loss = (losses[0] + losses[1]) / 2;
    if (!(fabs(loss - (double)right[0]) <= 1e-5 * (double)right[0]))
        fail_msg("loss is %.9g; it must be %.9g", loss, (double)right[0]);
    free(right);
    right = floats_of(&f, "prediction", &count);
    float *fields = malloc(count * sizeof *fields);
    poison(fields, count * sizeof *fields);
    good(vit_model_fields(o.m, fields));
    assert_close(fields, right, count, 1e-5, "prediction");
    free(right), free(fields);
    assert_scores(&o, &f);
    n = vit_model_parameters(o.m, &all);
    assert_int_equal(n, 38);
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "grad.%s", all[i].name);
        right = floats_of(&f, name, &count);
        assert_int_equal(count, all[i].count);
        float *found = copy_of(on, vit_model_gradients(o.m) + all[i].offset, count);
        if (strstr(name, "attn.k.bias")) /* 0 but for rounding: the softmax does not see it */
            for (size_t j = 0; j < count; j++)
                assert_true(fabsf(found[j]) <= 1e-6f && fabsf(right[j]) <= 1e-6f);
        else
            assert_close(found, right, count, 1e-5, name);
        free(right), free(found);
    }
    st_close(&f);
    oracle_close(&o);
}

static void oracle_on_the_cpu(void **state)
{
    (void)state;
    assert_oracle(&cpu);
}

static void oracle_on_a_gpu(void **state)
{
    (void)state;
    nn_context gpu;
    if (nn_open(&gpu, RINGX_CUDA))
        skip();
    assert_oracle(&gpu);
    nn_close(&gpu);
}

/* The gradients of two batches after each other, in memory of its own; adds the losses. */
static float *gradients_of(oracle *o, const vit_run *run, double losses[4])
{
    size_t bytes = vit_model_elements(o->m) * sizeof(float);
    memset(vit_model_gradients(o->m), 0, bytes);
    good(vit_model_prepare(o->m, run));
    for (int i = 0; i < 2; i++) {
        losses[2 * i] = losses[2 * i + 1] = NAN;
        good(vit_model_train(o->m, &o->batch, 0.01, 7, losses + 2 * i));
    }
    float *copy = malloc(bytes);
    memcpy(copy, vit_model_gradients(o->m), bytes);
    return copy;
}

static void recomputation_and_chunks_change_no_bit(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 3; dtype++) {
        double losses[4], again[4];
        vit_run run = {.batch = 2};
        oracle o = oracle_open((ringx_dtype)dtype, &run);
        float *first = gradients_of(&o, &run, losses);
        assert_memory_equal(losses, losses + 2, 2 * sizeof *losses);
        assert_true(losses[0] > 0 && losses[1] > 0);
        for (int form = 1; form < 4; form++) {
            run.recompute = form & 1, run.chunk = form & 2 ? 1 : 0, run.keep_mlp = form - 1;
            float *other = gradients_of(&o, &run, again);
            assert_memory_equal(losses, again, sizeof losses);
            assert_memory_equal(first, other, vit_model_elements(o.m) * sizeof *first);
            free(other);
        }
        free(first);
        oracle_close(&o);
    }
}

static void forward_alone_has_the_same_loss(void **state)
{
    (void)state;
    double losses[2] = {NAN, NAN}, trained[4];
    vit_run run = {.batch = 2};
    oracle o = oracle_open(RINGX_F32, &run);
    vit_memory training, forward;
    free(gradients_of(&o, &run, trained));
    vit_model_memory(o.m, &training);
    run.forward_only = true;
    good(vit_model_prepare(o.m, &run));
    vit_model_memory(o.m, &forward);
    good(vit_model_loss(o.m, &o.batch, losses));
    assert_memory_equal(losses, trained, sizeof losses);
    assert_true(forward.device < training.device);
    assert_int_not_equal(vit_model_train(o.m, &o.batch, 1, 0, losses), 0);
    oracle_close(&o);
}

static void memory_is_what_the_paper_says(void **state)
{
    (void)state;
    for (int form = 0; form < 8; form++) {
        ringx_dtype dtype = form & 1 ? RINGX_BF16 : RINGX_F32;
        vit_run run = {.batch = 2, .recompute = form & 2, .forward_only = form & 4, .chunk = form & 2 ? 128 : 0};
        run.keep_mlp = form % 3;
        oracle o = oracle_open(dtype, &run);
        vit_memory found, paper;
        vit_model_memory(o.m, &found);
        vit_paper_rank rank = {0, 1, 72, 24, ringx_plan_workspace(vit_model_plan(o.m))};
        assert_int_equal(vit_model_gradients(o.m) == NULL, run.forward_only);
        good(vit_paper_memory(&oracle_shape, dtype, &run, &rank, &paper));
        assert_memory_equal(&found, &paper, sizeof found);
        assert_int_equal(found.elements, vit_model_elements(o.m));
        oracle_close(&o);
    }
}

/* Half precision is near single precision: the stream and all sums are float. */
static void halves_are_near(void **state)
{
    (void)state;
    static const double near[] = {0, 2e-2, 2.5e-3};
    st_file f;
    size_t count;
    good(st_open(&f, RINGX_TEST_DATA "/vit/reference.safetensors"));
    float *right = floats_of(&f, "prediction", &count), *fields = malloc(count * sizeof *fields);
    st_close(&f);
    for (int dtype = 1; dtype < 3; dtype++) {
        double losses[2] = {NAN, NAN}, off = 0, size = 0;
        oracle o = oracle_open((ringx_dtype)dtype, &(vit_run){.batch = 2});
        good(vit_model_loss(o.m, &o.batch, losses));
        good(vit_model_fields(o.m, fields));
        for (size_t i = 0; i < count; i++) {
            double d = (double)fields[i] - (double)right[i];
            off += d * d, size += (double)right[i] * (double)right[i];
        }
        if (!(sqrt(off / size) <= near[dtype]))
            fail_msg("dtype %d: off by %.3g", dtype, sqrt(off / size));
        oracle_close(&o);
    }
    free(right), free(fields);
}

typedef struct final_reader { /* gradients as they were when they were said to be final */
    const vit_model *m;
    const float *gradients;
    float *seen;
    size_t from; /* elements from here on */
    int calls;
} final_reader;

static int gradients_ready(void *context, size_t first)
{
    final_reader *r = context;
    assert_true(first < r->from);
    memcpy(r->seen + first, r->gradients + first, (r->from - first) * sizeof *r->seen);
    r->from = first;
    r->calls++;
    return CODE_GOOD;
}

static int gradients_fail(void *context, size_t first)
{
    (void)first;
    ((final_reader *)context)->calls++;
    return CODE_IO;
}

/* Units are said to be final from the last to the first, and nothing is added to them after; who watches can end it. */
static void gradients_are_final_when_told(void **state)
{
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        double losses[2];
        oracle o = oracle_on(&cpu, RINGX_F32, &(vit_run){.batch = 2, .recompute = recompute, .chunk = 17});
        size_t n = vit_model_elements(o.m);
        final_reader r = {o.m, vit_model_gradients(o.m), malloc(n * sizeof(float)), n, 0};
        assert_non_null(r.seen);
        poison(r.seen, n * sizeof *r.seen);
        vit_model_watch(o.m, (vit_watch){gradients_ready, &r});
        good(vit_model_train(o.m, &o.batch, 0.5, 1, losses));
        assert_int_equal(r.from, 0);
        assert_int_equal(r.calls, vit_model_shape(o.m)->depth + 2);
        assert_memory_equal(r.seen, r.gradients, n * sizeof *r.seen);
        r.calls = 0;
        vit_model_watch(o.m, (vit_watch){gradients_fail, &r});
        assert_int_equal(vit_model_train(o.m, &o.batch, 0.5, 1, losses), CODE_IO);
        assert_int_equal(r.calls, 1);
        free(r.seen);
        oracle_close(&o);
    }
}

/* ---- other shapes, dropout, stochastic depth ---- */

static double loss_at(vit_model *m, const vit_batch *b, const float *weights, const float *along, double step)
{
    double losses[3] = {NAN, NAN, NAN};
    float *w = vit_model_weights(m);
    for (size_t i = 0; i < vit_model_elements(m); i++)
        w[i] = (float)((double)weights[i] + step * (double)along[i]);
    good(vit_model_train(m, b, 1, 5, losses));
    return losses[0] + losses[1] + losses[2];
}

/* The change of the loss along the gradient is the gradient's square. */
static void gradient_is_the_slope(void **state)
{
    (void)state;
    static const double dropouts[] = {0, 0.3};
    for (int i = 0; i < 2; i++) {
        vit_shape s = {.height = 6, .width = 10, .patch = 2, .channels_in = 2, .channels_out = 3};
        s.embed = 24, s.depth = 3, s.heads = 3, s.norm_eps = 1e-6, s.dropout = dropouts[i];
        vit_model *m;
        double losses[3] = {NAN, NAN, NAN}, square = 0;
        float *input = random_fields(1, 3, 2, &s), *target = random_fields(2, 3, 3, &s);
        vit_batch b = {.input = input, .target = target};
        good(vit_model_create(&m, &s, RINGX_F32, &cpu, (vit_groups){0}));
        good(vit_model_initialise(m, 3));
        float *weights = vit_model_weights(m);
        size_t n = vit_model_elements(m);
        for (size_t j = 0; j < n; j++)
            weights[j] *= 4; /* far from a linear model */
        good(vit_model_prepare(m, &(vit_run){.batch = 3, .recompute = true, .keep_mlp = i + 1, .sample_stride = 1}));
        good(vit_model_train(m, &b, 1, 5, losses));
        float *before = malloc(n * sizeof *before), *along = malloc(n * sizeof *along);
        memcpy(before, weights, n * sizeof *before);
        memcpy(along, vit_model_gradients(m), n * sizeof *along);
        for (size_t j = 0; j < n; j++)
            square += (double)along[j] * (double)along[j];
        double step = 2e-3 / sqrt(square);
        double slope = (loss_at(m, &b, before, along, step) - loss_at(m, &b, before, along, -step)) / (2 * step);
        if (!(fabs(slope - square) <= 2e-3 * square) || !(square > 0))
            fail_msg("dropout %g: slope %.6g, square of the gradient %.6g", dropouts[i], slope, square);
        free(before), free(along), free(input), free(target);
        vit_model_destroy(m);
    }
}

/* Dropout is a matter of training and of the step's seed. */
static void dropout_of_training_only(void **state)
{
    (void)state;
    vit_model *m;
    vit_shape s = oracle_shape;
    double trained[2][2], evaluated[2][2];
    float *input = random_fields(1, 2, 5, &s), *target = random_fields(2, 2, 5, &s);
    vit_batch b = {.input = input, .target = target};
    for (int i = 0; i < 2; i++) {
        s.dropout = i * 0.2;
        good(vit_model_create(&m, &s, RINGX_F32, &cpu, (vit_groups){0}));
        oracle_weights(m);
        good(vit_model_prepare(m, &(vit_run){.batch = 2, .sample_stride = 1}));
        good(vit_model_train(m, &b, 1, 11, trained[i]));
        good(vit_model_loss(m, &b, evaluated[i]));
        if (i == 1) {
            good(vit_model_train(m, &b, 1, 12, trained[0]));
            assert_true(fabs(trained[0][0] - trained[1][0]) > 1e-4);
            good(vit_model_train(m, &b, 1, 11, trained[0]));
            assert_memory_equal(trained[0], trained[1], sizeof trained[0]);
        }
        vit_model_destroy(m);
    }
    assert_memory_equal(evaluated[0], evaluated[1], sizeof evaluated[0]);
    assert_true(fabs(trained[1][0] - evaluated[1][0]) > 1e-4);
    free(input), free(target);
}

static void refused_by_name(void **state)
{
    (void)state;
    const struct {
        vit_shape shape;
        const char *says;
    } bad[] = {{{.height = 25, .width = 48, .patch = 4}, "patch_size 4 does not divide the image's height 25"},
               {{.height = 24, .width = 46, .patch = 4}, "width 46"},
               {{.height = 24, .width = 48, .patch = 0}, "patch_size is 0"},
               {{.height = 24, .width = 48, .patch = 4, .heads = 5}, "num_heads 5 does not divide embed_dim 32"}};
    vit_model *m;
    const char *preset;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        vit_shape s = bad[i].shape;
        s.channels_in = s.channels_out = 1, s.embed = 32, s.depth = 1, s.heads = s.heads ? s.heads : 4;
        assert_int_equal(vit_model_create(&m, &s, RINGX_F32, &cpu, (vit_groups){0}), CODE_CONFIGURATION);
        assert_non_null(strstr(failure(), bad[i].says));
        assert_null(m);
    }
    assert_int_equal(vit_attention_preset("ringy", &preset), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "ringX, ring, megatron"));
    good(vit_attention_preset("ringX", &preset));
    assert_string_equal(preset, "ringX1o");
    good(vit_attention_preset("ulysses", &preset));
    assert_string_equal(preset, "ulysses");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(oracle_on_the_cpu),
                                       cmocka_unit_test(oracle_on_a_gpu),
                                       cmocka_unit_test(recomputation_and_chunks_change_no_bit),
                                       cmocka_unit_test(forward_alone_has_the_same_loss),
                                       cmocka_unit_test(memory_is_what_the_paper_says),
                                       cmocka_unit_test(halves_are_near),
                                       cmocka_unit_test(gradients_are_final_when_told),
                                       cmocka_unit_test(gradient_is_the_slope),
                                       cmocka_unit_test(dropout_of_training_only),
                                       cmocka_unit_test(refused_by_name)};
    return cmocka_run_group_tests_name("vit_model", tests, NULL, NULL);
}
