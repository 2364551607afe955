/* SPDX-License-Identifier: MIT */
/* The model on every device there is: the oracle's logits, loss and gradients, ten optimizer steps through zero.h, and
 * what must change no bit.  Without a GPU that is the CPU alone, and the test says so. */
#include "llama_case.h"

#include "train/zero.h"

enum { STEPS = 10 };

typedef struct place { /* a model, its batch and context on one device */
    ringx_device device;
    nn_context on;
    gpt_model *m;
    llama_batch b;
    gpt_batch batch;
} place;

static void *to_device(ringx_device device, const void *host, size_t bytes)
{
    void *there = NULL;
    assert_int_equal(ringx_memory_alloc(device, bytes, &there), RINGX_OK);
    assert_int_equal(ringx_memory_copy(device, there, host, bytes), RINGX_OK);
    return there;
}

static void *to_host(ringx_device device, const void *there, size_t bytes)
{
    void *host = malloc(bytes + 1);
    assert_non_null(host);
    poison(host, bytes);
    assert_int_equal(ringx_memory_copy(device, host, there, bytes), RINGX_OK);
    return host;
}

/* false: there is no such device. */
static bool place_open(place *p, ringx_device device, ringx_dtype dtype)
{
    gpt_config c;
    *p = (place){.device = device};
    if (nn_open(&p->on, device) != CODE_GOOD) {
        assert_int_not_equal(device, RINGX_CPU);
        fprintf(stderr, "left out: %s\n", failure());
        return false;
    }
    p->b = llama_batch_read();
    size_t n = 2 * 96;
    p->batch = (gpt_batch){to_device(device, p->b.ids, n * 4), to_device(device, p->b.targets, n * 4),
                           to_device(device, p->b.mask, n * 4)};
    good(hf_config_read(&c, llama_config));
    good(gpt_model_create(&p->m, &c, dtype, &p->on, (gpt_groups){0}));
    good(hf_weights_read(p->m, llama_model));
    return true;
}

static void place_close(place *p)
{
    gpt_model_destroy(p->m);
    const void *const memory[] = {p->batch.ids, p->batch.targets, p->batch.mask};
    for (size_t i = 0; i < 3; i++)
        ringx_memory_free(p->device, (void *)(uintptr_t)memory[i]);
    llama_batch_free(&p->b);
    nn_close(&p->on);
}

static void assert_close(const float *found, const void *right_values, bool wide, size_t count, const char *what)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        double right = wide ? ((const double *)right_values)[i] : (double)((const float *)right_values)[i];
        difference += ((double)found[i] - right) * ((double)found[i] - right), size += right * right;
    }
    if (!(sqrt(difference) <= 1e-4 * sqrt(size)))
        fail_msg("%s: off by %.3g of %.3g", what, sqrt(difference), sqrt(size));
}

static void check_oracle(ringx_device device)
{
    place p;
    st_file f;
    size_t bytes, count;
    double nll = NAN;
    const gpt_parameter *parameters;
    if (!place_open(&p, device, RINGX_F32))
        return;
    good(gpt_model_prepare(p.m, &(gpt_run){.batch = 2, .tokens = 96}));
    good(gpt_model_train(p.m, &p.batch, 1 / (double)p.b.unmasked, &nll));
    good(st_open(&f, llama_reference));
    float *loss = tensor_of(&f, "loss", &bytes), *right = tensor_of(&f, "logits", &bytes);
    if (!(fabs(nll / (double)p.b.unmasked - (double)loss[0]) <= 1e-5 * (double)loss[0]))
        fail_msg("loss is %.9g; it must be %.9g", nll / (double)p.b.unmasked, (double)loss[0]);
    void *there = NULL;
    assert_int_equal(ringx_memory_alloc(device, bytes, &there), RINGX_OK);
    good(gpt_model_logits(p.m, 0, 2 * 96, there));
    good(p.on.ops->wait(&p.on));
    float *logits = to_host(device, there, bytes);
    assert_close(logits, right, false, bytes / sizeof *right, "logits");
    ringx_memory_free(device, there);
    free(loss), free(right), free(logits);
    count = gpt_model_parameters(p.m, &parameters);
    float *gradients = to_host(device, gpt_model_gradients(p.m), gpt_model_elements(p.m) * sizeof *gradients);
    for (size_t i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, "grad.%s", parameters[i].name);
        right = tensor_of(&f, name, &bytes);
        assert_close(gradients + parameters[i].offset, right, false, parameters[i].count, name);
        free(right);
    }
    free(gradients);
    st_close(&f);
    place_close(&p);
}

/* Loss and gradients of a run from cleared gradients. */
static float *gradients_of(place *p, const gpt_run *run, double *nll)
{
    size_t bytes = gpt_model_elements(p->m) * sizeof(float);
    good(gpt_model_prepare(p->m, run));
    good(p->on.ops->zero(&p->on, gpt_model_gradients(p->m), bytes));
    *nll = NAN;
    good(gpt_model_train(p->m, &p->batch, 0.01, nll));
    return to_host(p->device, gpt_model_gradients(p->m), bytes);
}

static void check_bits(ringx_device device)
{
    place p;
    double nll, again;
    ringx_options ordered = RINGX_OPTIONS_INIT;
    ordered.deterministic = true;
    if (!place_open(&p, device, RINGX_BF16))
        return;
    gpt_run run = {.batch = 2, .tokens = 96, .attention = &ordered};
    float *first = gradients_of(&p, &run, &nll);
    assert_true(isfinite(nll));
    for (int form = 0; form < 8; form++) {
        run.recompute = form & 1, run.offload = form & 1 && form & 2, run.keep_attention = form & 1 && form & 4;
        run.chunk = form & 2 ? 1 : 0, run.loss_chunk = form & 4 ? 100 : 0, run.keep_mlp = form / 2;
        float *other = gradients_of(&p, &run, &again);
        assert_memory_equal(&nll, &again, sizeof nll);
        assert_memory_equal(first, other, gpt_model_elements(p.m) * sizeof *first);
        free(other);
    }
    free(first);
    place_close(&p);
}

static void compare_weights(place *p, const st_file *right, const char *name)
{
    const gpt_parameter *parameters;
    size_t count = gpt_model_parameters(p->m, &parameters), bytes;
    float *weights = to_host(p->device, gpt_model_weights(p->m), gpt_model_elements(p->m) * sizeof *weights);
    for (size_t i = 0; i < count; i++) {
        char what[160];
        snprintf(what, sizeof what, "%s.values.%s", name, parameters[i].name);
        double *values = tensor_of(right, what, &bytes); /* every 7th */
        size_t n = bytes / sizeof *values;
        float *mine = malloc(n * sizeof *mine + 1);
        for (size_t j = 0; j < n; j++)
            mine[j] = weights[parameters[i].offset + 7 * j];
        assert_close(mine, values, true, n, what);
        free(mine), free(values);
    }
    free(weights);
}

static void take_steps(place *p, zero *z, bool lamb, const st_file *right)
{
    char what[64];
    size_t bytes;
    snprintf(what, sizeof what, "%s.loss", lamb ? "lamb" : "adamw");
    double *losses = tensor_of(right, what, &bytes);
    assert_int_equal(bytes, STEPS * sizeof *losses);
    for (int64_t step = 0; step < STEPS; step++) {
        double nll = NAN, norm = NAN;
        good(gpt_model_train(p->m, &p->batch, 1 / (double)p->b.unmasked, &nll));
        good(zero_accumulate(z, true));
        good(zero_norm(z, 1, &norm));
        if (!(fabs(nll / (double)p->b.unmasked - losses[step]) <= 1e-4 * losses[step]))
            fail_msg("loss of step %lld is %.9g; it must be %.9g", (long long)step, nll / (double)p->b.unmasked,
                     losses[step]);
        good(zero_update(z, lamb ? 6e-3 : 2e-3, 1, norm));
        good(p->on.ops->wait(&p->on));
    }
    free(losses);
}

static void check_steps(ringx_device device, bool lamb)
{
    place p;
    zero z;
    group *world;
    parallel ranks;
    st_file right;
    const gpt_parameter *all;
    if (!place_open(&p, device, RINGX_F32))
        return;
    good(group_self(&world));
    good(parallel_create(&ranks, world, (int[AXES]){1, 1, 1}, NULL));
    good(st_open(&right, RINGX_TEST_DATA "/llama/steps.safetensors"));
    good(gpt_model_prepare(p.m, &(gpt_run){.batch = 2, .tokens = 96, .recompute = true}));
    size_t count = gpt_model_parameters(p.m, &all);
    zero_tensor *tensors = calloc(count, sizeof *tensors);
    for (size_t i = 0; i < count; i++)
        tensors[i] = (zero_tensor){all[i].name, all[i].offset, all[i].count, all[i].decays, all[i].split};
    zero_model model = {.tensors = tensors, .n_tensors = count, .elements = gpt_model_elements(p.m)};
    model.weights = gpt_model_weights(p.m), model.gradients = gpt_model_gradients(p.m), model.on = &p.on;
    zero_settings settings = {
        .optimizer = lamb ? OPTIMIZER_LAMB : OPTIMIZER_ADAM, .beta1 = 0.9, .eps = 1e-8, .clip = 1};
    settings.beta2 = lamb ? 0.999 : 0.95, settings.decay = 0.1, settings.least_trust = 0.01, settings.most_trust = 10;
    good(zero_create(&z, &model, &settings, &ranks));
    good(zero_clear(&z));
    take_steps(&p, &z, lamb, &right);
    compare_weights(&p, &right, lamb ? "lamb" : "adamw");
    zero_destroy(&z);
    free(tensors);
    st_close(&right);
    parallel_destroy(&ranks);
    group_destroy(world);
    place_close(&p);
}

static void oracle(void **state)
{
    (void)state;
    check_oracle(RINGX_CPU);
    check_oracle(RINGX_CUDA);
}

static void nothing_changes_a_bit(void **state)
{
    (void)state;
    check_bits(RINGX_CPU);
    check_bits(RINGX_CUDA);
}

static void ten_steps(void **state)
{
    (void)state;
    for (int lamb = 0; lamb < 2; lamb++) {
        check_steps(RINGX_CPU, lamb);
        check_steps(RINGX_CUDA, lamb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(oracle), cmocka_unit_test(nothing_changes_a_bit),
                                       cmocka_unit_test(ten_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
