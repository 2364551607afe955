/* SPDX-License-Identifier: MIT */
/* The model against the oracle of transformers: logits, loss, every gradient; recomputation and chunks change no bit.
 */
#include "llama_case.h"

/* ‖found − right‖ ≤ tolerance·‖right‖, and no element off by more than that of the largest. */
static void assert_close(const float *found, const float *right, size_t count, double tolerance, const char *what)
{
    double difference = 0, size = 0, most = 0, worst = 0;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)found[i] - (double)right[i]);
        difference += d * d, size += (double)right[i] * (double)right[i];
        most = fmax(most, fabs((double)right[i]));
        worst = d <= worst ? worst : d; /* NaN stays */
    }
    if (!(sqrt(difference) <= tolerance * sqrt(size)) || !(worst <= tolerance * most))
        fail_msg("%s: off by %.3g of %.3g, at most by %.3g of %.3g", what, sqrt(difference), sqrt(size), worst, most);
}

static gpt_run run_of(const llama_batch *b)
{
    return (gpt_run){.batch = b->samples, .tokens = b->tokens};
}

static gpt_batch batch_of(const llama_batch *b)
{
    return (gpt_batch){b->ids, b->targets, b->mask};
}

static void logits_loss_and_gradients(void **state)
{
    (void)state;
    st_file f;
    size_t bytes, count;
    double nll = NAN;
    const gpt_parameter *parameters;
    llama_batch b = llama_batch_read();
    gpt_batch batch = batch_of(&b);
    gpt_run run = run_of(&b);
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    good(gpt_model_prepare(m, &run));
    good(gpt_model_train(m, &batch, 1 / (double)b.unmasked, &nll));
    good(st_open(&f, llama_reference));
    float *loss = tensor_of(&f, "loss", &bytes), *right = tensor_of(&f, "logits", &bytes), *logits = malloc(bytes);
    if (!(fabs(nll / (double)b.unmasked - (double)loss[0]) <= 1e-5 * (double)loss[0]))
        fail_msg("loss is %.9g; it must be %.9g", nll / (double)b.unmasked, (double)loss[0]);
    poison(logits, bytes);
    good(gpt_model_logits(m, 0, 2 * 96, logits));
    assert_close(logits, right, bytes / sizeof *right, 1e-4, "logits");
    free(loss), free(right), free(logits);
    count = gpt_model_parameters(m, &parameters);
    assert_int_equal(count, 30);
    for (size_t i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, "grad.%s", parameters[i].name);
        right = tensor_of(&f, name, &bytes);
        assert_int_equal(bytes, parameters[i].count * sizeof *right);
        assert_close(gpt_model_gradients(m) + parameters[i].offset, right, parameters[i].count, 1e-4, name);
        free(right);
    }
    st_close(&f);
    gpt_model_destroy(m);
    llama_batch_free(&b);
}

/* The gradients of two micro-batches after each other, in memory of its own; adds the losses. */
static float *gradients_of(gpt_model *m, const gpt_run *run, const llama_batch *b, double nll[2])
{
    gpt_batch batch = batch_of(b);
    size_t bytes = gpt_model_elements(m) * sizeof(float);
    good(gpt_model_prepare(m, run));
    memset(gpt_model_gradients(m), 0, bytes);
    for (int i = 0; i < 2; i++) {
        nll[i] = NAN;
        good(gpt_model_train(m, &batch, 0.01, &nll[i]));
    }
    float *copy = malloc(bytes);
    memcpy(copy, gpt_model_gradients(m), bytes);
    return copy;
}

static void recomputation_and_chunks_change_no_bit(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    for (int dtype = 0; dtype < 2; dtype++) {
        gpt_model *m = llama_create((ringx_dtype)dtype, (gpt_groups){0});
        gpt_run run = run_of(&b);
        double nll[2], again[2];
        float *first = gradients_of(m, &run, &b, nll);
        assert_memory_equal(&nll[0], &nll[1], sizeof nll[0]);
        for (int form = 1; form < 8; form++) {
            run.recompute = form & 1, run.chunk = form & 2 ? 1 : 0, run.loss_chunk = form & 4 ? 100 : 0;
            float *other = gradients_of(m, &run, &b, again);
            assert_memory_equal(nll, again, sizeof nll);
            assert_memory_equal(first, other, gpt_model_elements(m) * sizeof *first);
            free(other);
        }
        free(first);
        gpt_model_destroy(m);
    }
    llama_batch_free(&b);
}

static void forward_alone_has_the_same_loss(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    gpt_batch batch = batch_of(&b);
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    gpt_run run = run_of(&b);
    double nll[2] = {NAN, NAN}, trained[2];
    free(gradients_of(m, &run, &b, trained));
    size_t training = gpt_model_bytes(m);
    run.forward_only = true;
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &nll[0]));
    assert_memory_equal(&nll[0], &trained[0], sizeof nll[0]);
    assert_true(gpt_model_bytes(m) < training);
    assert_int_not_equal(gpt_model_train(m, &batch, 1, &nll[1]), 0);
    gpt_model_destroy(m);
    llama_batch_free(&b);
}

static void bf16_logits_point_the_same_way(void **state)
{
    (void)state;
    st_file f;
    size_t bytes;
    double nll, dot = 0, sizes[2] = {0};
    llama_batch b = llama_batch_read();
    gpt_batch batch = batch_of(&b);
    gpt_run run = run_of(&b);
    gpt_model *m = llama_create(RINGX_BF16, (gpt_groups){0});
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &nll));
    good(st_open(&f, llama_reference));
    float *right = tensor_of(&f, "logits", &bytes), *logits = malloc(bytes);
    poison(logits, bytes);
    good(gpt_model_logits(m, 0, 2 * 96, logits));
    for (size_t i = 0; i < bytes / sizeof *right; i++) {
        dot += (double)right[i] * (double)logits[i];
        sizes[0] += (double)right[i] * (double)right[i], sizes[1] += (double)logits[i] * (double)logits[i];
    }
    assert_true(dot / sqrt(sizes[0] * sizes[1]) >= 0.999);
    free(right), free(logits);
    st_close(&f);
    gpt_model_destroy(m);
    llama_batch_free(&b);
}

/* A tied head: its gradient and the embedding's are one, the sum of those of an untied model with equal weights. */
static void tied_gradient_is_the_sum(void **state)
{
    (void)state;
    gpt_config c;
    gpt_model *m[2];
    double nll[2] = {NAN, NAN};
    llama_batch b = llama_batch_read();
    gpt_batch batch = batch_of(&b);
    gpt_run run = run_of(&b);
    good(hf_config_read(&c, llama_config));
    c.init_std = 0.1, c.output_init_std = 0.05;
    for (int i = 0; i < 2; i++) {
        c.tied = i == 0;
        good(gpt_model_create(&m[i], &c, RINGX_F32, &cpu, (gpt_groups){0}));
        good(gpt_model_initialise(m[i], 3));
    }
    const gpt_parameter *words = gpt_model_find(m[1], "model.embed_tokens.weight");
    const gpt_parameter *head = gpt_model_find(m[1], "lm_head.weight");
    assert_null(gpt_model_find(m[0], "lm_head.weight"));
    float *weights = gpt_model_weights(m[1]), *sum = malloc(words->count * sizeof *sum);
    memcpy(weights + head->offset, weights + words->offset, words->count * sizeof *weights);
    for (int i = 0; i < 2; i++) {
        good(gpt_model_prepare(m[i], &run));
        good(gpt_model_train(m[i], &batch, 0.01, &nll[i]));
    }
    assert_memory_equal(&nll[0], &nll[1], sizeof nll[0]);
    for (size_t j = 0; j < words->count; j++)
        sum[j] = gpt_model_gradients(m[1])[words->offset + j] + gpt_model_gradients(m[1])[head->offset + j];
    assert_close(gpt_model_gradients(m[0]), sum, words->count, 1e-5, "tied gradient");
    free(sum);
    gpt_model_destroy(m[0]), gpt_model_destroy(m[1]);
    llama_batch_free(&b);
}

/* Documents packed into one sample do not see each other: their losses are those of each by itself. */
static void packed_documents_are_apart(void **state)
{
    (void)state;
    const int64_t starts[] = {0, 41, 42, 96};
    llama_batch b = llama_batch_read();
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    gpt_run run = {.batch = 1, .tokens = 96, .document_starts = starts, .documents = 3, .forward_only = true};
    gpt_batch batch = batch_of(&b);
    double packed = NAN, apart = 0, together = NAN;
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &packed));
    for (int i = 0; i < 3; i++) {
        double nll = NAN;
        gpt_batch one = {b.ids + starts[i], b.targets + starts[i], b.mask + starts[i]};
        run = (gpt_run){.batch = 1, .tokens = starts[i + 1] - starts[i], .forward_only = true};
        good(gpt_model_prepare(m, &run));
        good(gpt_model_loss(m, &one, &nll));
        apart += nll;
    }
    run = (gpt_run){.batch = 1, .tokens = 96, .forward_only = true};
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &together));
    assert_true(fabs(packed - apart) <= 1e-5 * apart);
    assert_true(fabs(packed - together) > 1e-3 * together); /* without the bounds it is another number */
    gpt_model_destroy(m);
    llama_batch_free(&b);
}

/* A run that cannot be prepared leaves a model that can be prepared for another. */
static void after_a_refused_run(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    gpt_batch batch = batch_of(&b);
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    gpt_run run = run_of(&b), bad = run;
    ringx_options options = RINGX_OPTIONS_INIT;
    double nll[2] = {NAN, NAN};
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &nll[0]));
    options.preset = "nonsense", bad.attention = &options;
    assert_int_not_equal(gpt_model_prepare(m, &bad), 0);
    assert_non_null(strstr(failure(), "nonsense"));
    bad = run, bad.batch = -1;
    assert_int_not_equal(gpt_model_prepare(m, &bad), 0);
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &nll[1]));
    assert_memory_equal(&nll[0], &nll[1], sizeof nll[0]);
    gpt_model_destroy(m);
    llama_batch_free(&b);
}

typedef struct window_reader {
    gpt_model *m;
    float *whole;   /* gradients as they would lie one after the other */
    size_t written; /* elements from here on have been claimed, but for a tied embedding's */
} window_reader;

static const zero_unit *unit_at(const window_reader *w, size_t first, size_t *count)
{
    const zero_unit *units;
    size_t n = gpt_model_units(w->m, &units), u = 0;
    while (u < n && units[u].first != first)
        u++;
    assert_true(u < n);
    *count = (u + 1 < n ? units[u + 1].first : gpt_model_elements(w->m)) - first;
    return &units[u];
}

static int claim(void *context, size_t first)
{
    window_reader *w = context;
    size_t count;
    const zero_unit *u = unit_at(w, first, &count);
    assert_true(first == 0 || w->written == first + count);
    w->written = first ? first : w->written;
    assert_true(u->place + count <= gpt_model_gradient_elements(w->m));
    memset(gpt_model_gradients(w->m) + u->place, 0, count * sizeof(float));
    return CODE_GOOD;
}

static int ready(void *context, size_t first)
{
    window_reader *w = context;
    size_t count;
    const zero_unit *u = unit_at(w, first, &count);
    memcpy(w->whole + first, gpt_model_gradients(w->m) + u->place, count * sizeof(float));
    return CODE_GOOD;
}

/* Split gradients are the whole ones, bit for bit, in less memory; a run without backward has none. */
static void gradients_of_a_run(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    gpt_batch batch = batch_of(&b);
    for (int tied = 0; tied < 2; tied++) {
        gpt_model *m;
        gpt_config c = *gpt_model_config(m = llama_create(RINGX_F32, (gpt_groups){0}));
        gpt_model_destroy(m);
        c.tied = tied, c.layers = 5;
        good(gpt_model_create(&m, &c, RINGX_F32, &cpu, (gpt_groups){0}));
        good(gpt_model_initialise(m, 3));
        size_t elements = gpt_model_elements(m), bytes = elements * sizeof(float);
        gpt_run run = run_of(&b), forward = run, split = run;
        forward.forward_only = true, split.split_gradients = true;
        double nll[2] = {NAN, NAN};
        good(gpt_model_prepare(m, &forward));
        assert_null(gpt_model_gradients(m));
        assert_int_equal(gpt_model_gradient_elements(m), 0);
        good(gpt_model_prepare(m, &run));
        size_t with = gpt_model_bytes(m);
        good(gpt_model_train(m, &batch, 0.01, &nll[0]));
        float *right = malloc(bytes);
        memcpy(right, gpt_model_gradients(m), bytes);
        good(gpt_model_prepare(m, &split));
        assert_int_equal(with - gpt_model_bytes(m), (elements - gpt_model_gradient_elements(m)) * sizeof(float));
        assert_true(gpt_model_gradient_elements(m) < elements / 4 * 3);
        assert_int_equal(gpt_model_train(m, &batch, 0.01, &nll[1]), CODE_INTERNAL);
        window_reader w = {m, malloc(bytes), elements};
        memset(w.whole, 0xff, bytes);
        gpt_model_watch(m, &(gpt_watch){claim, ready, &w});
        for (size_t i = 0; i < gpt_model_gradient_elements(m); i++)
            gpt_model_gradients(m)[i] = NAN;
        good(gpt_model_train(m, &batch, 0.01, &nll[1]));
        assert_memory_equal(w.whole, right, bytes);
        assert_memory_equal(&nll[0], &nll[1], sizeof nll[0]);
        free(right), free(w.whole);
        gpt_model_destroy(m);
    }
    llama_batch_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_loss_and_gradients),
                                       cmocka_unit_test(recomputation_and_chunks_change_no_bit),
                                       cmocka_unit_test(tied_gradient_is_the_sum),
                                       cmocka_unit_test(packed_documents_are_apart),
                                       cmocka_unit_test(forward_alone_has_the_same_loss),
                                       cmocka_unit_test(bf16_logits_point_the_same_way),
                                       cmocka_unit_test(after_a_refused_run),
                                       cmocka_unit_test(gradients_of_a_run)};
    return cmocka_run_group_tests_name("gpt_model", tests, NULL, NULL);
}
