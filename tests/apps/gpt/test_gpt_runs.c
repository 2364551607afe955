/* SPDX-License-Identifier: MIT */
/* Forms of a run: inputs of layers in host memory, attention that differs between layers, documents that do not see
 * each other; what they hold, and what it would be on paper. */
#include "llama_case.h"

#include "apps/train/group_ranks.h"

#include <omp.h>

enum { LAYERS = 3, WIDTH = 64, SAMPLES = 2, TOKENS = 96 };

typedef struct form { /* what is run, on how many ranks, and what came out */
    int ranks;
    bool tensor; /* they share matrices, not tokens; results are then of rank 0 alone */
    gpt_run run;
    const char *const *presets; /* of the layers; NULL: the library's choice for all */
    const int64_t *const *starts;
    const size_t *documents;
    const llama_batch *b;
    double nll;
    float *gradients; /* summed over the ranks, of rank 0 */
    size_t elements;
    gpt_memory memory; /* of rank 0 */
} form;

/* This rank's tokens of each sample. */
static gpt_batch shard(const gpt_model *m, const llama_batch *b, int32_t *ids, int32_t *targets, float *mask)
{
    int64_t local = gpt_model_local_tokens(m);
    for (int64_t i = 0; i < b->samples * local; i++) {
        int64_t from = i / local * b->tokens + gpt_model_positions(m)[i % local];
        ids[i] = b->ids[from], targets[i] = b->targets[from], mask[i] = b->mask[from];
    }
    return (gpt_batch){ids, targets, mask};
}

static int step(gpt_model *m, form *f, group *g)
{
    int32_t ids[SAMPLES * TOKENS], targets[SAMPLES * TOKENS];
    float mask[SAMPLES * TOKENS];
    double nll = NAN;
    gpt_batch batch = shard(m, f->b, ids, targets, mask);
    int code = f->starts ? gpt_model_documents(m, f->starts, f->documents) : CODE_GOOD;
    if (!code)
        code = gpt_model_train(m, &batch, 0.01, &nll);
    if (!code && !f->tensor)
        code = group_sum(g, &nll);
    if (!code && !f->tensor)
        code = group_all_reduce(g, GROUP_SUM, GROUP_F32, gpt_model_gradients(m), gpt_model_elements(m));
    if (code || group_rank(g) != 0)
        return code;
    f->nll = nll, f->elements = gpt_model_elements(m);
    f->gradients = malloc(f->elements * sizeof(float));
    memcpy(f->gradients, gpt_model_gradients(m), f->elements * sizeof(float));
    gpt_model_memory(m, &f->memory);
    return f->memory.device == gpt_model_bytes(m) ? CODE_GOOD : CODE_WRONG;
}

static int run_body(group *g, void *context)
{
    form *f = context;
    ringx_options options[LAYERS];
    static const size_t each[LAYERS] = {0, 1, 2};
    gpt_run run = f->run;
    omp_set_num_threads(1);
    for (int i = 0; i < LAYERS && f->presets; i++) {
        options[i] = (ringx_options)RINGX_OPTIONS_INIT;
        options[i].preset = f->presets[i], options[i].threads = 1;
        run.attention = options, run.attentions = LAYERS, run.attention_of = each;
    }
    gpt_model *m = llama_create(RINGX_F32, f->tensor ? (gpt_groups){g, NULL} : (gpt_groups){NULL, g});
    int code = gpt_model_prepare(m, &run);
    if (!code)
        code = step(m, f, g);
    gpt_model_destroy(m);
    return code;
}

static void run_form(form *f)
{
    run_group_good(f->ranks, run_body, f);
}

static void expect_same(const form *a, const form *right, double limit, const char *what)
{
    double off = 0, size = 0;
    assert_int_equal(a->elements, right->elements);
    for (size_t i = 0; i < a->elements; i++) {
        double d = (double)a->gradients[i] - (double)right->gradients[i];
        off += d * d, size += (double)right->gradients[i] * (double)right->gradients[i];
    }
    if (!(sqrt(off) <= limit * sqrt(size)) || !(size > 0) || !(fabs(a->nll - right->nll) <= limit * right->nll))
        fail_msg("%s: gradients are off by %.3g of %.3g, the loss is %.9g, not %.9g", what, sqrt(off), sqrt(size),
                 a->nll, right->nll);
}

static form form_of(const llama_batch *b, int ranks)
{
    return (form){.ranks = ranks, .b = b, .run = {.batch = b->samples, .tokens = b->tokens}};
}

/* Host memory holds the inputs of all layers but the last; the device two of them. */
static void host_memory_changes_no_bit(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    for (int context = 1; context <= 2; context++) {
        form kept = form_of(&b, context), away = form_of(&b, context);
        size_t input = (size_t)(SAMPLES * TOKENS / context * WIDTH) * sizeof(float);
        kept.run.recompute = away.run.recompute = away.run.offload = true;
        away.run.chunk = 1, away.run.loss_chunk = 1, away.run.keep_attention = context == 2;
        run_form(&kept);
        run_form(&away);
        expect_same(&away, &kept, 0, "inputs of layers in host memory");
        assert_int_equal(kept.memory.host, 0);
        assert_int_equal(kept.memory.items[GPT_INPUTS], (LAYERS + 1) * input);
        assert_int_equal(away.memory.host, (LAYERS - 1) * input);
        assert_int_equal(away.memory.items[GPT_INPUTS], 2 * input);
        free(kept.gradients);
        free(away.gradients);
    }
    llama_batch_free(&b);
}

/* gate and up of no layer, of the last ones, or of all, which need no place for a chunk then. */
static void kept_gates_change_no_bit(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    for (int context = 1; context <= 2; context++) {
        form none = form_of(&b, context);
        none.run.chunk = 1;
        run_form(&none);
        assert_int_equal(none.memory.items[GPT_KEPT_MLP], 0);
        for (int layers = 1; layers <= LAYERS; layers++) {
            form some = form_of(&b, context);
            some.run.chunk = 1, some.run.keep_mlp = layers, some.run.recompute = layers == 2;
            run_form(&some);
            expect_same(&some, &none, 0, "kept gates");
            assert_int_equal(some.memory.items[GPT_KEPT_MLP] % (size_t)layers, 0);
            assert_true(some.memory.items[GPT_KEPT_MLP] > 0);
            assert_int_equal(some.memory.items[GPT_CHUNKS] < none.memory.items[GPT_CHUNKS], layers == LAYERS);
            free(some.gradients);
        }
        free(none.gradients);
    }
    llama_batch_free(&b);
}

/* Each of two tensor ranks keeps half of the inputs: on the device, or in host memory. */
static void parts_on_tensor_ranks_change_no_bit(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    form kept = form_of(&b, 2);
    size_t input = (size_t)(SAMPLES * (TOKENS - 1) * WIDTH) * sizeof(float), half = input / 2;
    kept.tensor = kept.run.recompute = true, kept.run.tokens = TOKENS - 1;
    run_form(&kept);
    for (int offload = 0; offload < 2; offload++) {
        form parts = form_of(&b, 2);
        parts.tensor = parts.run.recompute = parts.run.partition = true, parts.run.offload = offload;
        parts.run.tokens = TOKENS - 1;
        run_form(&parts);
        expect_same(&parts, &kept, 0, "parts of the inputs of layers");
        assert_int_equal(parts.memory.host, offload ? (LAYERS - 1) * half : 0);
        size_t right = 2 * ((input + 127) / 128 * 128) + (offload ? 0 : ((LAYERS - 1) * half + 127) / 128 * 128);
        assert_int_equal(parts.memory.items[GPT_INPUTS], right);
        free(parts.gradients);
    }
    free(kept.gradients);
    llama_batch_free(&b);
}

static void host_memory_again_and_refused(void **state)
{
    (void)state;
    llama_batch b = llama_batch_read();
    gpt_batch batch = {b.ids, b.targets, b.mask};
    gpt_run run = {.batch = SAMPLES, .tokens = TOKENS, .recompute = true, .offload = true};
    float logits[384];
    double first = NAN, again = NAN, trained = NAN;
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &first));
    good(gpt_model_logits(m, 0, 1, logits));
    good(gpt_model_train(m, &batch, 0.01, &trained));
    assert_int_not_equal(gpt_model_logits(m, 0, 1, logits), CODE_GOOD); /* what they came from has been overwritten */
    good(gpt_model_train(m, &batch, 0.01, &again));
    assert_true(first == trained && first == again);
    good(gpt_model_loss(m, &batch, &again));
    good(gpt_model_logits(m, 0, 1, logits));
    assert_true(first == again);
    run.recompute = false;
    assert_int_not_equal(gpt_model_prepare(m, &run), CODE_GOOD);
    run.recompute = run.forward_only = true;
    assert_int_not_equal(gpt_model_prepare(m, &run), CODE_GOOD);
    gpt_model_destroy(m);
    llama_batch_free(&b);
}

static void layers_attend_differently(void **state)
{
    (void)state;
    static const char *const mixed[][LAYERS] = {{"ringX3", "ringX4o", "zigzag"},
                                                {"ringX2o", "megatron", "ringX3"},
                                                {"stripe", "ulysses", "ringX4"}},
                             *const one[LAYERS] = {"ringX3", "ringX3", "ringX3"};
    llama_batch b = llama_batch_read();
    form right = form_of(&b, 2);
    right.presets = one;
    run_form(&right);
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++) {
        form f = form_of(&b, 2), again = form_of(&b, 2);
        f.presets = again.presets = mixed[i];
        again.run.recompute = true;
        run_form(&f);
        run_form(&again);
        expect_same(&f, &right, 1e-5, mixed[i][1]);
        expect_same(&again, &f, 0, "recomputation");
        free(f.gradients);
        free(again.gradients);
    }
    free(right.gradients);
    llama_batch_free(&b);
}

/* ---- documents ---- */

static const int64_t bounds[SAMPLES][5] = {{0, 37, TOKENS}, {0, 5, 6, 70, TOKENS}};
static const int64_t *const starts[SAMPLES] = {bounds[0], bounds[1]};
static const size_t documents[SAMPLES] = {2, 4};

/* Each document by itself, one after the other. */
static void run_each(form *f)
{
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    f->nll = 0;
    for (int s = 0; s < SAMPLES; s++)
        for (size_t d = 0; d < documents[s]; d++) {
            int64_t first = s * TOKENS + bounds[s][d];
            gpt_run run = {.batch = 1, .tokens = bounds[s][d + 1] - bounds[s][d]};
            gpt_batch batch = {f->b->ids + first, f->b->targets + first, f->b->mask + first};
            double nll = NAN;
            good(gpt_model_prepare(m, &run));
            good(gpt_model_train(m, &batch, 0.01, &nll));
            f->nll += nll;
        }
    f->elements = gpt_model_elements(m);
    f->gradients = malloc(f->elements * sizeof(float));
    memcpy(f->gradients, gpt_model_gradients(m), f->elements * sizeof(float));
    gpt_model_destroy(m);
}

static void documents_as_if_alone(void **state)
{
    (void)state;
    static const char *const presets[][LAYERS] = {{"ringX3", "ringX3", "ringX3"}, {"ringX4o", "zigzag", "ulysses"}};
    llama_batch b = llama_batch_read();
    form alone = form_of(&b, 1), blind = form_of(&b, 1);
    run_each(&alone);
    run_form(&blind);
    assert_true(fabs(blind.nll - alone.nll) > 1e-3 * alone.nll); /* the mask does something */
    for (int context = 1; context <= 3; context++)
        for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
            form f = form_of(&b, context);
            f.run.document_masks = true, f.run.recompute = i > 0;
            f.presets = context == 3 && i > 0 ? presets[0] : presets[i];
            f.starts = starts, f.documents = documents;
            run_form(&f);
            expect_same(&f, &alone, 1e-5, "documents");
            free(f.gradients);
        }
    free(alone.gradients);
    free(blind.gradients);
    llama_batch_free(&b);
}

/* From step to step other bounds, the same, and none. */
static void documents_change(void **state)
{
    (void)state;
    static const int64_t whole[] = {0, TOKENS};
    llama_batch b = llama_batch_read();
    gpt_batch batch = {b.ids, b.targets, b.mask};
    gpt_run run = {.batch = SAMPLES, .tokens = TOKENS, .document_masks = true}, plain = run;
    double nll[6] = {NAN, NAN, NAN, NAN, NAN, NAN};
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    plain.document_masks = false;
    good(gpt_model_prepare(m, &plain));
    assert_int_not_equal(gpt_model_documents(m, starts, documents), CODE_GOOD);
    good(gpt_model_loss(m, &batch, &nll[0]));
    good(gpt_model_prepare(m, &run));
    good(gpt_model_loss(m, &batch, &nll[1])); /* nothing was said yet */
    good(gpt_model_documents(m, starts, documents));
    good(gpt_model_loss(m, &batch, &nll[2]));
    good(gpt_model_documents(m, (const int64_t *[]){bounds[0], bounds[0]}, (const size_t[]){2, 2}));
    good(gpt_model_loss(m, &batch, &nll[3]));
    good(gpt_model_documents(m, starts, documents));
    good(gpt_model_train(m, &batch, 0.01, &nll[4]));
    good(gpt_model_documents(m, (const int64_t *[]){whole, whole}, (const size_t[]){1, 0}));
    good(gpt_model_loss(m, &batch, &nll[5]));
    assert_true(nll[0] == nll[1] && nll[0] == nll[5] && nll[2] == nll[4]);
    assert_true(nll[3] != nll[2] && nll[3] != nll[0]);
    gpt_model_destroy(m);
    llama_batch_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(host_memory_changes_no_bit),
                                       cmocka_unit_test(kept_gates_change_no_bit),
                                       cmocka_unit_test(host_memory_again_and_refused),
                                       cmocka_unit_test(parts_on_tensor_ranks_change_no_bit),
                                       cmocka_unit_test(layers_attend_differently),
                                       cmocka_unit_test(documents_as_if_alone),
                                       cmocka_unit_test(documents_change)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
