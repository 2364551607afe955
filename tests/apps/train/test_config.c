/* SPDX-License-Identifier: MIT */
/* Configurations: those that are shipped, merging, value forms, and what is said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/config.h"

#include <cmocka.h>

#define SHIPPED RINGX_TEST_DATA "/../../apps/gpt/configs"
#define BASE                                                                                                           \
    "num_layers: 2\nhidden-size: 64\nnum_attention_heads: 4\nseq_length: 32\ntrain_iters: 10\nlog_interval: 1\n"       \
    "train_micro_batch_size_per_gpu: 2\n"

static char folder[64];

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/ringx_config_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static int read_base(config *c, const char *more)
{
    put("base.yml", BASE);
    put("more.yml", more);
    return config_read(c, folder, (char *[]){"base", "more.yml"}, 2, NULL);
}

/* base.yml and more.yml together fail, and the message holds `part`. */
static void refused(const char *more, const char *part)
{
    config c;
    int code = read_base(&c, more);
    if (code == CODE_GOOD || !strstr(failure(), part))
        fail_msg("\"%s\": code %d, \"%s\"; expected \"%s\"", more, code, code ? failure() : "", part);
}

typedef struct shipped {
    const char *name;
    int64_t seq, tp, cp, micro, stage, optimizer, train, decay, log, eval, save, keep;
    double lr, min_lr, beta, warmup;
} shipped;

static void original_eight(void **state)
{
    (void)state;
    static const shipped all[] = {
        {"8k", 8192, 2, 2, 8, 0, OPTIMIZER_ADAM, 47000, 47000, 10, 100, 100, 4, 1.6e-4, 1.6e-5, .95, .01},
        {"32k-prod", 32768, 1, 16, 4, 1, OPTIMIZER_LAMB, 250, 11200, 10, 10, 20, 20, 6e-3, 6e-4, .999, .01},
        {"64k-prod", 65536, 1, 16, 2, 1, OPTIMIZER_LAMB, 250, 11200, 10, 10, 20, 20, 6e-3, 6e-4, .999, .01},
        {"128k-prod", 131072, 1, 16, 1, 1, OPTIMIZER_LAMB, 250, 11200, 10, 10, 20, 20, 6e-3, 6e-4, .999, .01},
        {"128k", 131072, 1, 16, 3, 1, OPTIMIZER_ADAM, 10, 6250, 1, 100, 50, 4, 3e-4, 3e-5, .95, .01},
        {"256k", 262144, 1, 32, 1, 2, OPTIMIZER_ADAM, 10, 40000, 1, 100, 50, 4, 3e-4, 3e-5, .95, .05},
        {"512k", 524288, 1, 64, 1, 2, OPTIMIZER_ADAM, 10, 40000, 1, 100, 50, 4, 3e-4, 3e-5, .95, .05},
        {"1m", 1048576, 1, 128, 1, 2, OPTIMIZER_ADAM, 10, 40000, 1, 100, 50, 4, 3e-4, 3e-5, .95, .05}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const shipped *s = &all[i];
        char name[64];
        config c;
        snprintf(name, sizeof name, "llama3-8b-%s", s->name);
        if (config_read(&c, SHIPPED, (char *[]){name}, 1, NULL) != CODE_GOOD)
            fail_msg("%s", failure());
        assert_true(c.num_layers == 32 && c.hidden_size == 4096 && c.num_attention_heads == 32 && c.num_kv_heads == 8);
        assert_true(c.intermediate_size == 14336 && c.rotary_emb_base == 500000 && c.rms_norm_epsilon == 1e-5);
        assert_true(c.seq_length == s->seq && c.model_parallel_size == s->tp && c.context_parallel_size == s->cp);
        assert_true(c.train_micro_batch_size_per_gpu == s->micro && c.zero_stage == s->stage);
        assert_true(c.optimizer_type == s->optimizer && c.train_iters == s->train && c.lr_decay_iters == s->decay);
        assert_true(c.log_interval == s->log && c.eval_interval == s->eval && c.checkpoint_factor == s->save);
        assert_true(c.keep_last_n_checkpoints == s->keep && c.lr == s->lr && c.min_lr == s->min_lr);
        assert_true(c.betas.count == 2 && c.betas.items[0] == .9 && c.betas.items[1] == s->beta && c.eps == 1e-8);
        assert_true(c.warmup == s->warmup && c.weight_decay == .1 && c.gradient_clipping == 1 && c.eval_iters == 10);
        assert_true(c.precision == PRECISION_BF16 && c.checkpoint_activations && c.lr_decay_style == DECAY_COSINE);
        assert_true(c.init_method == INIT_SMALL && c.output_layer_init_method == INIT_WANG && c.no_weight_tying);
        assert_true(c.attention.count == 32 && strcmp(c.attention.items[31], "ring") == 0);
        int64_t dp;
        assert_int_equal(config_batch(&c, (int)(s->tp * s->cp * 2), &dp), CODE_GOOD);
        assert_true(dp == 2 && c.train_batch_size == 2 * s->micro && c.gradient_accumulation_steps == 1);
        config_free(&c);
    }
}

static void others_that_are_shipped(void **state)
{
    (void)state;
    static char *const names[] = {"llama3.2-1b.yml", "llama3.2-3b.yml", "laptop-1m.yml", "laptop-10m.yml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        config c;
        if (config_read(&c, SHIPPED, &names[i], 1, NULL) != CODE_GOOD)
            fail_msg("%s", failure());
        assert_true(c.intermediate_size > c.hidden_size);
        config_free(&c);
    }
}

static void value_forms(void **state)
{
    (void)state;
    config c;
    put("base.yml", BASE);
    put("more.yml", "{ # as the original's files look\n  \"no-weight-tying\": True,\n  \"betas\": null,\n}");
    assert_int_equal(config_read(&c, folder, (char *[]){"base", "more"}, 2, NULL), CODE_CONFIGURATION);
    assert_int_equal(
        read_base(&c, "{ # as the original's files look\n"
                      "  \"no-weight-tying\": True, \"hidden_dropout\": 0.0,\n"
                      "  \"optimizer\": {\"type\": \"LAMB\", \"params\": {\"lr\": 6.0e-3, \"betas\": [0.9, .999],}},\n"
                      "  \"zero_optimization\": {\"reduce_bucket_size\": 5e8},\n"
                      "  \"train-data-paths\": [\"a b\", \"/c\"], \"train_data_weights\": [1, 2.5],\n"
                      "  \"save\": \"out\", \"load\": None, \"hostfile\": {\"any\": [thing]}, launcher: slurm,\n"
                      "  \"attention_config\": [[[\"ring\", \"zigzag\"], \"all\"]],\n"
                      "}"),
        CODE_GOOD);
    assert_true(c.no_weight_tying && c.optimizer_type == OPTIMIZER_LAMB && c.lr == 6e-3 && c.betas.count == 2);
    assert_true(c.reduce_bucket_size == 500000000 && !c.load);
    char path[128];
    snprintf(path, sizeof path, "%s/out", folder); /* beside the file that names it */
    assert_string_equal(c.save, path);
    snprintf(path, sizeof path, "%s/a b", folder);
    assert_string_equal(c.train_data_paths.items[0], path);
    assert_string_equal(c.train_data_paths.items[1], "/c");
    assert_true(c.train_data_weights.count == 2 && c.train_data_weights.items[1] == 2.5);
    assert_true(c.attention.count == 2 && strcmp(c.attention.items[1], "zigzag") == 0);
    char *text;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    assert_int_equal(config_print(&c, to), CODE_GOOD);
    fclose(to);
    assert_non_null(strstr(text, "updated ("));
    assert_non_null(strstr(text, "seed "));
    assert_non_null(strstr(text, "more.yml:3)"));
    assert_non_null(strstr(text, "stack only: hostfile launcher\n"));
    free(text);
    config_free(&c);
}

/* Only keys that were set to something else than what is done are named, each once. */
static void keys_without_effect_are_named(void **state)
{
    (void)state;
    static const char *const more[] = {
        "partition_activations: true\nsteps_per_print: 3\nzero_optimization: {overlap_comm: true, reduce_scatter: "
        "true}\n"
        "checkpoint_in_cpu: true\nbf16: {loss_scale: 0}\nlog_grad_norm: false\ntop_k: 3\ndevice: cuda\n",
        "checkpoint_in_cpu: true\ncheckpoint_activations: true\npartition_activations: false\n"
        "zero_optimization: {overlap_comm: true}\n"};
    static const char *const right[] = {
        " note: key 'partition_activations' has no effect here: there are no tensor ranks, or no "
        "checkpoint_activations\n"
        " note: key 'checkpoint_in_cpu' has no effect here: inputs of layers are kept with checkpoint_activations "
        "only\n"
        " note: key 'steps_per_print' has no effect here: log_interval says when lines are printed\n"
        " note: key 'log_grad_norm' has no effect here: the gradient's norm is in the event files\n"
        " note: key 'top_k' has no effect here: ringx-gpt generate and evaluate take it as an option\n",
        ""};
    for (int i = 0; i < 2; i++) {
        config c;
        char *text;
        size_t size;
        assert_int_equal(read_base(&c, more[i]), CODE_GOOD);
        FILE *to = open_memstream(&text, &size);
        assert_int_equal(config_notes(&c, to), CODE_GOOD);
        fclose(to);
        assert_string_equal(text, right[i]);
        free(text);
        config_free(&c);
    }
}

static void settings_win(void **state)
{
    (void)state;
    config c;
    put("base.yml", BASE);
    char *settings[] = {"train-iters=77", "optimizer.params.betas=0.5,0.6", "save=here", NULL};
    assert_int_equal(config_read(&c, folder, (char *[]){"base"}, 1, settings), CODE_GOOD);
    assert_true(c.train_iters == 77 && c.betas.count == 2 && c.betas.items[0] == .5);
    assert_string_equal(c.save, "here");
    config_free(&c);
    char *forgotten[] = {"save=null", "train_iters=~", NULL};
    assert_int_equal(config_read(&c, folder, (char *[]){"base"}, 1, forgotten), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "train_iters"));
    forgotten[1] = NULL;
    assert_int_equal(config_read(&c, folder, (char *[]){"base"}, 1, forgotten), CODE_GOOD);
    assert_null(c.save);
    config_free(&c);
    settings[0] = "train_itres=7";
    assert_int_equal(config_read(&c, folder, (char *[]){"base"}, 1, settings), CODE_CONFIGURATION);
    assert_string_equal(failure(), "command line: unknown key 'train_itres'; did you mean 'train_iters'?");
}

static void mistakes(void **state)
{
    (void)state;
    refused("seqlength: 3\n", "more.yml:1: unknown key 'seqlength'; did you mean 'seq_length'?");
    refused("\noptimizer: {params: {rl: 3}}\n",
            "more.yml:2: unknown key 'optimizer.params.rl'; did you mean 'optimizer.params.lr'?");
    refused("seed: 1\nhidden_size: 3\n", "more.yml:2: key 'hidden_size' is set a second time; first in");
    refused("hidden_size: 3\n", "base.yml:2");
    refused("seed: 1\nseed: 1\n", "more.yml:2: key 'seed' is set a second time");
    refused("warmup: many\n", "more.yml:1: warmup is 'many'; it must be a number from 0 to 1");
    refused("warmup: nan\n", "warmup is 'nan'");
    refused("warmup: 0x1\n", "warmup is '0x1'");
    refused("seed: 1.5\n", "seed is '1.5'; it must be a whole number");
    refused("seed: [1]\n", "more.yml:1: seed must be a single value");
    refused("optimizer: Adam\n", "optimizer must be a map of keys");
    refused("optimizer: {type: sgd}\n", "it must be one of Adam, Lamb");
    refused("lr_decay_style: step\n", "it must be one of constant, linear, cosine, exponential");
    refused("finetune: 3\n", "it must be true or false");
    refused("gpt_j_residual: True\n", "it must be false: nothing else is offered");
    refused("hidden_dropout: 0.1\n", "it must be 0: nothing else is offered");
    refused("optimizer: {params: {betas: [0.9, 1.5]}}\n", "it must be a number from 0 to 1");
    refused("optimizer: {params: {betas: [0.9]}}\n", "betas must be two numbers");
    refused("optimizer: {params: {bias_correction: false}}\n", "bias_correction must be true");
    refused("optimizer: {params: {eps_inside_sqrt: true}}\n", "it must be false: nothing else is offered");
    refused("num_kv_heads: 3\n", "more.yml:1: num_kv_heads 3 does not divide num_attention_heads 4");
    refused("num_kv_heads: 2\nmodel_parallel_size: 4\n",
            "more.yml:2: model_parallel_size 4 does not divide num_kv_heads");
    refused("keep_mlp_layers: 3\n", "more.yml:1: keep_mlp_layers 3 is more than num_layers 2");
    refused("max_position_embeddings: 31\n", "seq_length 32 is beyond max_position_embeddings 31");
    refused("attention_config: [[[\"rings\"], 2]]\n", "'rings' is neither ring, auto nor a preset");
    refused("attention_config: [[[\"ring\"], 3]]\n", "count '3'");
    refused("attention_config: [[[\"ring\"], 1]]\n", "names 1 layers; num_layers is 2");
    refused("attention_config: [ring]\n", "must be a list of [[name, …], count]");
    refused("bf16: {enabled: true}\nfp16: {fp16: true}\n", "bf16 and fp16 are both enabled");
    refused("override_lr_scheduler: true\nuse_checkpoint_lr_scheduler: true\n", "are both set");
    refused("rank_order: tensor,data\n", "must name tensor, context and data once each");
    refused("seed: *x\n", "more.yml:1");
    refused("{ seed: 1\n", "more.yml:");
    refused("- seed\n", "more.yml:1: a map of keys must begin here");
    refused("seed: 1\n---\nseed: 2\n", "a second document");
    refused("hostfile: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", "nested too deeply");
    config c;
    assert_int_equal(config_read(&c, folder, (char *[]){"nowhere"}, 1, NULL), CODE_MISSING);
    assert_non_null(strstr(failure(), "/nowhere.yml: cannot be read"));
    put("less.yml", "num_layers: 2\n");
    assert_int_equal(config_read(&c, folder, (char *[]){"less"}, 1, NULL), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "key 'hidden_size' is required"));
}

typedef struct batch_case {
    int64_t whole, micro, steps; /* as configured; 0: left out */
    int world;
    int64_t right[3]; /* 0: refused */
} batch_case;

static void batches_multiply_out(void **state)
{
    (void)state;
    static const batch_case cases[] = {{0, 2, 0, 1, {2, 2, 1}},   {0, 2, 3, 4, {24, 2, 3}},  {24, 2, 0, 4, {24, 2, 3}},
                                       {24, 0, 3, 4, {24, 2, 3}}, {24, 0, 0, 4, {24, 6, 1}}, {24, 2, 3, 4, {24, 2, 3}},
                                       {25, 2, 0, 4, {0}},        {24, 2, 2, 4, {0}},        {3, 0, 0, 4, {0}},
                                       {0, 0, 2, 4, {0}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        config c;
        int64_t dp;
        assert_int_equal(read_base(&c, ""), CODE_GOOD);
        c.train_batch_size = cases[i].whole;
        c.train_micro_batch_size_per_gpu = cases[i].micro;
        c.gradient_accumulation_steps = cases[i].steps;
        int code = config_batch(&c, cases[i].world, &dp);
        if (cases[i].right[0] == 0) {
            assert_int_equal(code, CODE_CONFIGURATION);
        } else {
            assert_int_equal(code, CODE_GOOD);
            assert_true(c.train_batch_size == cases[i].right[0]);
            assert_true(c.train_micro_batch_size_per_gpu == cases[i].right[1]);
            assert_true(c.gradient_accumulation_steps == cases[i].right[2]);
        }
        config_free(&c);
    }
    config c;
    int64_t dp;
    assert_int_equal(read_base(&c, "context_parallel_size: 3\n"), CODE_GOOD);
    assert_int_equal(config_batch(&c, 4, &dp), CODE_CONFIGURATION);
    config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(original_eight),
                                       cmocka_unit_test(others_that_are_shipped),
                                       cmocka_unit_test(value_forms),
                                       cmocka_unit_test(settings_win),
                                       cmocka_unit_test(keys_without_effect_are_named),
                                       cmocka_unit_test(mistakes),
                                       cmocka_unit_test(batches_multiply_out)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
