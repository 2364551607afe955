/* SPDX-License-Identifier: MIT */
/* What is planned on paper is what training allocates, to the byte, on every layout of ranks; and forecasts keep to
 * what must hold of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "gpt/cmd_train.h"
#include "gpt/plan_paper.h"
#include "shared/numbers.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

#include "apps/train/group_ranks.h"

#define SHIPPED RINGX_TEST_DATA "/../../apps/gpt/configs"

enum { SETTINGS = 10 };

static char folder[64];
#define TEXT                                                                                                           \
    "num_layers: 3\nhidden_size: 32\nnum_attention_heads: 4\nnum_kv_heads: 2\nintermediate_size: 48\n"                 \
    "seq_length: 45\nlog_interval: 1\nvocab_size: 61\nmake_vocab_size_divisible_by: 1\nno_weight_tying: true\n"        \
    "train_iters: 1\ntrain_micro_batch_size_per_gpu: 2\neval_interval: 0\neval_iters: 0\nsplit: \"100,0,0\"\n"         \
    "data_path: text\n"

static int make_data(void **state)
{
    (void)state;
    char path[128];
    indexed_writer w;
    int32_t ids[900];
    snprintf(folder, sizeof folder, "/tmp/ringx_plan_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    for (size_t i = 0; i < 900; i++)
        ids[i] = (int32_t)(random_word(5, i) % 61);
    snprintf(path, sizeof path, "%s/text", folder);
    int code = indexed_create(&w, path, 61);
    code = indexed_finish(&w, code ? code : indexed_append(&w, ids, 900));
    snprintf(path, sizeof path, "%s/base.yml", folder);
    return code ? code : folder_write_text(path, TEXT);
}

static int remove_data(void **state)
{
    (void)state;
    return folder_remove(folder);
}

typedef struct plan_case {
    int ranks;
    const char *settings[SETTINGS]; /* ended by NULL */
    /* found: of the rank with most, and of the one that the plan names */
    double most, named, host;
    int fullest;
} plan_case;

static int read_case(const plan_case *p, config *c)
{
    char *files[] = {"base"}, *settings[SETTINGS + 1] = {NULL};
    for (int i = 0; p->settings[i]; i++)
        settings[i] = (char *)(uintptr_t)p->settings[i];
    return config_read(c, folder, files, 1, settings);
}

static int train_body(group *g, void *context)
{
    plan_case *p = context;
    config c;
    training t;
    omp_set_num_threads(1);
    int code = read_case(p, &c);
    if (code)
        return code;
    code = training_create(&t, g, &c, NULL);
    if (!code) {
        gpt_memory memory;
        gpt_model_memory(t.m, &memory);
        double bytes = (double)training_bytes(&t), most = bytes, host = (double)memory.host;
        double named = group_rank(g) == p->fullest ? bytes : 0;
        code = group_max(g, &most);
        code = code ? code : group_max(g, &named);
        code = code ? code : group_max(g, &host);
        if (group_rank(g) == 0)
            p->most = most, p->named = named, p->host = host;
        training_destroy(&t);
    }
    config_free(&c);
    return code;
}

static void good(int code)
{
    if (code)
        fail_msg("code %d: %s", code, failure());
}

static paper_machine machine_of(const char *name)
{
    paper_machine m = {.name = name, .efficiency = 1};
    good(fail_status(ringx_machine_describe(name, &m.figures), "machine"));
    m.memory = m.figures.device_memory;
    return m;
}

static void memory_to_the_byte(void **state)
{
    (void)state;
    plan_case cases[] = {
        {.ranks = 1, .settings = {"precision=fp32"}},
        {.ranks = 1, .settings = {"precision=bfloat16", "checkpoint_activations=true", "checkpoint_in_cpu=true"}},
        {.ranks = 1,
         .settings = {"precision=fp16", "mlp_chunk_tokens=1", "loss_chunk_tokens=1", "no_weight_tying=false"}},
        {.ranks = 2, .settings = {"context_parallel_size=2", "zero_optimization.stage=1"}},
        {.ranks = 2, .settings = {"context_parallel_size=2", "checkpoint_activations=true", "keep_attention=true"}},
        {.ranks = 3, .settings = {"context_parallel_size=3", "zero_optimization.stage=2", "precision=bfloat16"}},
        {.ranks = 2,
         .settings = {"model_parallel_size=2", "checkpoint_activations=true", "partition_activations=true"}},
        {.ranks = 4, .settings = {"model_parallel_size=2", "context_parallel_size=2", "attention_config=ringX4o*all"}},
        {.ranks = 4,
         .settings = {"context_parallel_size=2", "zero_optimization.stage=2", "gradient_accumulation_steps=3"}},
        {.ranks = 4, .settings = {"zero_optimization.stage=1", "precision=bfloat16", "rank_order=data,context,tensor"}},
        {.ranks = 8,
         .settings = {"model_parallel_size=2", "context_parallel_size=2", "zero_optimization.stage=1", "vocab_size=60",
                      "checkpoint_activations=true", "checkpoint_in_cpu=true", "precision=bfloat16"}},
        {.ranks = 2, .settings = {"context_parallel_size=2", "attention_config=ringX2o+zigzag+ringX4*1"}},
        {.ranks = 2, .settings = {"context_parallel_size=2", "attention_config=ulysses*all", "document_mask=true"}},
        {.ranks = 2, .settings = {"context_parallel_size=2", "keep_mlp_layers=1", "precision=bfloat16"}},
        {.ranks = 5, .settings = {"context_parallel_size=5", "seq_length=4", "attention_config=zigzag*all"}}};
    omp_set_num_threads(1);
    paper_machine local = machine_of("local");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        config c;
        gpt_paper p;
        int64_t vocabulary;
        int32_t eod;
        good(read_case(&cases[i], &c));
        good(gpt_find_vocabulary(&c, &vocabulary, &eod));
        good(gpt_paper_make(&p, &c, vocabulary, cases[i].ranks, &local));
        config_free(&c);
        cases[i].fullest = p.plan.fullest;
        run_group_good(cases[i].ranks, train_body, &cases[i]);
        if (!(cases[i].most > 0 && (double)p.plan.device == cases[i].most && cases[i].named == cases[i].most) ||
            (double)p.model.host != cases[i].host)
            fail_msg("case %zu: %zu bytes are planned, %.0f are there (%.0f on rank %d); in host memory %zu, %.0f", i,
                     p.plan.device, cases[i].most, cases[i].named, p.plan.fullest, p.model.host, cases[i].host);
        size_t sum = p.plan.optimizer.device + p.tokens;
        for (int k = 0; k < GPT_MEMORY_ITEMS; k++)
            sum += p.model.items[k];
        assert_int_equal(sum, p.plan.device);
    }
}

/* ---- shipped configurations ---- */

static void plan_shipped(const char *name, int context, int ranks, const char *machine, gpt_paper *p, char *more)
{
    config c;
    char *files[] = {(char *)(uintptr_t)name}, context_text[64],
         *settings[] = {"vocab_size=128256", context_text, "model_parallel_size=1", more, NULL};
    paper_machine m = machine_of(machine);
    snprintf(context_text, sizeof context_text, "context_parallel_size=%d", context);
    good(config_read(&c, SHIPPED, files, 1, settings));
    good(gpt_paper_make(p, &c, 128256, ranks, &m));
    config_free(&c);
}

/* The figures of Llama3-8B that can be had by hand. */
static void eight_billion(void **state)
{
    (void)state;
    gpt_paper p, q;
    size_t elements = 8030261248;
    plan_shipped("llama3-8b-128k", 8, 8, "h200x8", &p, NULL);
    assert_int_equal(p.parameters, elements);
    assert_int_equal(p.model.items[GPT_WEIGHTS], 2 * elements);
    assert_int_equal(p.model.items[GPT_GRADIENTS], 4 * elements);
    assert_int_equal(p.plan.optimizer.master, elements / 8 * 4);
    assert_int_equal(p.plan.optimizer.moments, elements / 8 * 8);
    assert_int_equal(p.model.items[GPT_INPUTS], (size_t)33 * 3 * (131072 / 8) * 4096 * 2);
    assert_true(p.plan.fits && p.plan.known);
    /* ringX3 sends K,V of the whole sequence but its own part, forward, again for recomputation, and backward as float
     * gradients beside: (n−1)/n · S · B · 2 · 1024 · (2 + 2 + 2 + 4) bytes a layer */
    double kv = 7.0 / 8 * 131072 * 3 * 2 * 1024;
    assert_true(fabs(p.plan.wire[PAPER_FORWARD] - 32 * kv * 4) < 1e-9 * p.plan.wire[PAPER_FORWARD]);
    assert_true(fabs(p.plan.wire[PAPER_BACKWARD] - 32 * kv * 6) < 1e-9 * p.plan.wire[PAPER_BACKWARD]);
    plan_shipped("llama3-8b-128k", 8, 64, "h200x8", &q, NULL);
    assert_true(q.plan.size[AXIS_DATA] == 8 && q.batch == 8 * p.batch && q.plan.device < p.plan.device);
    /* sums travel beside backward, and the optimizer has an eighth of the states to see to */
    assert_true(q.tokens_per_s > 7 * p.tokens_per_s && q.tokens_per_s < 8.2 * p.tokens_per_s);
}

/* With ZeRO 2 a rank has gradients of its share, and windows of two layers and of embedding or head. */
static void split_gradients(void **state)
{
    (void)state;
    gpt_paper p[3];
    size_t elements = 8030261248, layer = 218112000, head = 128256 * 4096 + 4096;
    char *const stages[] = {"zero_optimization.stage=0", "zero_optimization.stage=1", "zero_optimization.stage=2"};
    for (int i = 0; i < 3; i++) {
        plan_shipped("llama3-8b-128k", 8, 8, "h200x8", &p[i], stages[i]);
        assert_int_equal(p[i].model.items[GPT_GRADIENTS], 4 * (i < 2 ? elements : 2 * layer + head));
        assert_int_equal(p[i].plan.optimizer.sums, i < 2 ? 0 : elements / 8 * 4);
        assert_true(i == 0 || p[i].plan.device < p[i - 1].plan.device);
    }
    plan_shipped("llama3-8b-128k", 1, 1, "h200x8", &p[2], stages[2]); /* one rank has nobody to share with */
    assert_int_equal(p[2].model.items[GPT_GRADIENTS], 4 * elements);
    assert_int_equal(p[2].plan.optimizer.sums, 0);
}

/* What driver and communicators hold is in the way too; one rank has no communicators. */
static void fits_beside_the_driver(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 2; ranks++) {
        config c;
        char *files[] = {"laptop-10m"}, context[64], *settings[] = {"vocab_size=512", context, NULL};
        paper_machine m = machine_of("h200x2");
        gpt_paper p;
        snprintf(context, sizeof context, "context_parallel_size=%d", ranks);
        good(config_read(&c, SHIPPED, files, 1, settings));
        good(gpt_paper_make(&p, &c, 512, ranks, &m));
        assert_int_equal(p.plan.runtime, m.figures.driver_memory + (ranks > 1 ? m.figures.comm_memory : 0));
        assert_int_equal(paper_needs(&p.plan), p.plan.device + p.plan.runtime);
        m.memory = p.plan.device + p.plan.runtime;
        good(gpt_paper_make(&p, &c, 512, ranks, &m));
        assert_true(p.plan.fits);
        m.memory--;
        good(gpt_paper_make(&p, &c, 512, ranks, &m));
        assert_false(p.plan.fits);
        config_free(&c);
    }
}

static void forecasts_hold_together(void **state)
{
    (void)state;
    static const char *const names[] = {"8k", "32k-prod", "64k-prod", "128k-prod", "128k", "256k", "512k", "1m"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "llama3-8b-%s", names[i]);
        for (int ranks = 1; ranks <= 64; ranks *= 8) {
            gpt_paper p;
            double sum = 0;
            plan_shipped(name, ranks, ranks, "h200x8", &p, NULL);
            for (int k = 0; k < PAPER_PARTS; k++) {
                assert_true(p.plan.seconds[k] >= 0 && p.plan.wire[k] >= 0);
                sum += p.plan.seconds[k];
            }
            assert_true(fabs(sum - p.plan.step) <= 1e-9 * sum && p.plan.mfu > 0 && p.plan.mfu < 0.7);
            double own = (double)p.micro * p.tokens_per_s * p.plan.step / (double)p.batch / ranks; /* tokens */
            assert_true(own < 4096 || p.plan.mfu > 0.3);
            assert_int_equal(ranks > 1, p.plan.wire[PAPER_FORWARD] > 0);
            assert_int_equal(ranks > 1, p.plan.wire[PAPER_GRADIENTS] > 0);
        }
    }
}

static void refusals(void **state)
{
    (void)state;
    config c;
    gpt_paper p;
    paper_machine local = machine_of("local");
    plan_case two = {.ranks = 2, .settings = {"context_parallel_size=2"}},
              batch = {.ranks = 1, .settings = {"train_batch_size=5"}};
    good(read_case(&two, &c));
    assert_int_equal(gpt_paper_make(&p, &c, 61, 3, &local), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "3 ranks are no multiple of model_parallel_size 1 × context_parallel_size 2"));
    config_free(&c);
    good(read_case(&batch, &c));
    assert_int_equal(gpt_paper_make(&p, &c, 61, 1, &local), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "train_batch_size 5 is not"));
    config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_to_the_byte),      cmocka_unit_test(eight_billion),
        cmocka_unit_test(split_gradients),         cmocka_unit_test(fits_beside_the_driver),
        cmocka_unit_test(forecasts_hold_together), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, make_data, remove_data);
}
