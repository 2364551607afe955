/* SPDX-License-Identifier: MIT */
/* Ten steps of AdamW and of LAMB against those of tests/data/llama/steps.safetensors (double, make_steps.py). */
#include "llama_case.h"

enum { STEPS = 10 };

typedef struct trainer {
    gpt_model *m;
    const char *name;
    bool lamb;
    float *moments[2], *first;
    st_file right;
} trainer;

static double sum_of_gradients(const trainer *t)
{
    double sum = NAN;
    good(nn_cpu.sum_squares(&cpu, gpt_model_gradients(t->m), (int64_t)gpt_model_elements(t->m), &sum));
    return sqrt(sum);
}

static void update(const trainer *t, const gpt_parameter *p, int64_t step, double factor)
{
    nn_update u = {.count = (int64_t)p->count, .step = step, .gradient_scale = factor, .eps = 1e-8, .beta1 = 0.9};
    u.weight = (float *)gpt_model_weights(t->m) + p->offset, u.gradient = gpt_model_gradients(t->m) + p->offset;
    u.m = t->moments[0] + p->offset, u.v = t->moments[1] + p->offset, u.decay = p->decays ? 0.1 : 0;
    if (!t->lamb) {
        u.lr = 2e-3, u.beta2 = 0.95, u.decoupled = true;
        good(nn_cpu.adam(&cpu, &u));
        return;
    }
    double squares[2] = {NAN, NAN};
    u.lr = 6e-3, u.beta2 = 0.999;
    good(nn_cpu.lamb_moments(&cpu, &u, squares));
    u.trust = nn_lamb_trust(squares[0], squares[1], 0.01, 10);
    good(nn_cpu.lamb_apply(&cpu, &u));
}

static double *right_of(const trainer *t, const char *what, const char *parameter, size_t *count)
{
    char name[160];
    size_t bytes;
    snprintf(name, sizeof name, "%s.%s%s%s", t->name, what, *parameter ? "." : "", parameter);
    double *values = tensor_of(&t->right, name, &bytes);
    *count = bytes / sizeof *values;
    return values;
}

static void assert_near(double found, double right, double allowed, const char *what, int64_t i)
{
    if (!(fabs(found - right) <= allowed))
        fail_msg("%s %lld is %.9g; it must be %.9g within %.3g", what, (long long)i, found, right, allowed);
}

static void take_steps(const trainer *t, const llama_batch *b, const gpt_parameter *parameters, size_t count)
{
    gpt_batch batch = {b->ids, b->targets, b->mask};
    size_t n;
    double *losses = right_of(t, "loss", "", &n), *norms = right_of(t, "norm", "", &n);
    assert_int_equal(n, STEPS);
    for (int64_t step = 1; step <= STEPS; step++) {
        double nll = NAN;
        memset(gpt_model_gradients(t->m), 0, gpt_model_elements(t->m) * sizeof(float));
        good(gpt_model_train(t->m, &batch, 1 / (double)b->unmasked, &nll));
        double norm = sum_of_gradients(t);
        assert_near(nll / (double)b->unmasked, losses[step - 1], 1e-4 * losses[step - 1], "loss of step", step);
        assert_near(norm, norms[step - 1], 1e-4 * norms[step - 1], "gradient norm of step", step);
        for (size_t i = 0; i < count; i++)
            update(t, &parameters[i], step, nn_clip_factor(norm, 1));
    }
    free(losses), free(norms);
}

/* Every 7th weight and the norm of the change, within 1e-4 of the parameter's size, and of its change's norm. */
static void compare(const trainer *t, const gpt_parameter *p)
{
    size_t n, one;
    double *values = right_of(t, "values", p->name, &n), *change = right_of(t, "change", p->name, &one);
    const float *weights = (const float *)gpt_model_weights(t->m) + p->offset;
    double difference = 0, size = 0, moved = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)weights[7 * i] - values[i];
        difference += d * d, size += values[i] * values[i];
    }
    assert_near(sqrt(difference), 0, 1e-4 * sqrt(size), p->name, (int64_t)n);
    for (size_t i = 0; i < p->count; i++) {
        double d = (double)weights[i] - (double)t->first[p->offset + i];
        moved += d * d;
    }
    assert_true(n > 0 && change[0] > 0);
    assert_near(sqrt(moved), change[0], 1e-4 * change[0], p->name, -1);
    free(values), free(change);
}

static void ten_steps(const char *name, bool lamb)
{
    const gpt_parameter *parameters;
    llama_batch b = llama_batch_read();
    gpt_run run = {.batch = b.samples, .tokens = b.tokens, .recompute = true};
    trainer t = {.m = llama_create(RINGX_F32, (gpt_groups){0}), .name = name, .lamb = lamb};
    size_t bytes = gpt_model_elements(t.m) * sizeof(float), count = gpt_model_parameters(t.m, &parameters);
    good(gpt_model_prepare(t.m, &run));
    good(st_open(&t.right, RINGX_TEST_DATA "/llama/steps.safetensors"));
    t.moments[0] = calloc(1, bytes), t.moments[1] = calloc(1, bytes), t.first = malloc(bytes);
    memcpy(t.first, gpt_model_weights(t.m), bytes);
    take_steps(&t, &b, parameters, count);
    for (size_t i = 0; i < count; i++)
        compare(&t, &parameters[i]);
    free(t.moments[0]), free(t.moments[1]), free(t.first);
    st_close(&t.right);
    gpt_model_destroy(t.m);
    llama_batch_free(&b);
}

static void ten_steps_of_adamw(void **state)
{
    (void)state;
    ten_steps("adamw", false);
}

static void ten_steps_of_lamb(void **state)
{
    (void)state;
    ten_steps("lamb", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ten_steps_of_adamw), cmocka_unit_test(ten_steps_of_lamb)};
    return cmocka_run_group_tests_name("gpt_steps", tests, NULL, NULL);
}
