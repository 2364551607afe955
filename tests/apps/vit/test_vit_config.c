/* SPDX-License-Identifier: MIT */
/* ringx-vit's configurations: the shipped ones against the original's table, inheritance, layouts, rates, mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vit/vit_config_rows.h"

#include <cmocka.h>

#define SHIPPED RINGX_TEST_DATA "/../../apps/vit/configs/ViT.yaml"
#define MODEL   "img_size: [24, 48]\n  patch_size: 4\n  n_in_channels: 5\n  n_out_channels: 5\n"

static char file[64];

static int make_file(void **state)
{
    (void)state;
    snprintf(file, sizeof file, "/tmp/ringx_vit_config_XXXXXX");
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file);
}

static void put(const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void must_read(vit_config *c, const char *name, char *const *settings)
{
    int code = vit_config_read(c, file, name, settings);
    if (code)
        fail_msg("%s: code %d, %s", name, code, failure());
}

/* The file fails with the code, and the message holds `part`. */
static void refused(const char *text, int expected, const char *part)
{
    vit_config c;
    put(text);
    int code = vit_config_read(&c, file, "a", NULL);
    if (code != expected || !strstr(failure(), part))
        fail_msg("\"%s\": code %d, \"%s\"; expected %d, \"%s\"", text, code, code ? failure() : "", expected, part);
}

/* The table of the original's configurations: exact. */
static void the_shipped_configurations(void **state)
{
    static const struct {
        const char *family;
        int64_t width, heads, patch, batch, tokens, parameters, positions;
    } rows[] = {
        {"mp_emb1024", 1024, 8, 1, 8, 259200, 416619520, 265420800},
        {"mp_emb2048", 2048, 16, 2, 4, 64800, 737343488, 132710400},
        {"mp_emb4096", 4096, 32, 2, 1, 64800, 2682646528, 265420800},
        {"mp_p1", 384, 8, 1, 4, 259200, 120842880, 99532800},
        {"mp_p2", 384, 8, 2, 16, 64800, 46239360, 24883200},
        {"mp_p4", 384, 8, 4, 64, 16200, 27761280, 6220800},
        {"mp_p6", 384, 8, 6, 96, 7200, 24612480, 2764800},
        {"base", 384, 8, 8, 16, 4050, 23832960, 1555200},
        {"mp", 384, 8, 2, 512, 64800, 46239360, 24883200},
    };
    static const char *const ways[] = {"", "_ring", "_ringX", "_megatron"};
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t w = 0; w < (strncmp(rows[r].family, "mp_", 3) == 0 ? 4u : 1u); w++) {
            vit_config c;
            char name[64];
            snprintf(name, sizeof name, "%s%s", rows[r].family, ways[w]);
            if (vit_config_read(&c, SHIPPED, name, NULL))
                fail_msg("%s: %s", name, failure());
            assert_int_equal(c.embed_dim, rows[r].width);
            assert_int_equal(c.depth, 12);
            assert_int_equal(c.num_heads, rows[r].heads);
            assert_int_equal(c.patch_size, rows[r].patch);
            assert_int_equal(c.global_batch_size, rows[r].batch);
            assert_int_equal(vit_tokens(&c), rows[r].tokens);
            assert_int_equal(vit_tokens(&c) * c.embed_dim, rows[r].positions);
            assert_int_equal(vit_parameters(&c), rows[r].parameters);
            assert_int_equal(vit_parameters_of_rank(&c), rows[r].parameters);
            assert_string_equal(c.attn_type, w ? ways[w] + 1 : "ringX");
            assert_int_equal(c.num_iters, strcmp(name, "base") == 0 ? 30000 : 3000);
            assert_int_equal(c.amp_mode, strcmp(name, "base") == 0 ? VIT_AMP_NONE : VIT_AMP_BF16);
            assert_true(c.lr == (strcmp(name, "base") == 0 ? 5e-4 : 1e-3));
            assert_int_equal(c.limit_nsamples, 0);
            vit_config_free(&c);
        }
}

/* Thirty of the original's, then ours; every one can be read. */
static void every_name_can_be_read(void **state)
{
    char **names = NULL;
    (void)state;
    assert_int_equal(vit_config_names(SHIPPED, &names), CODE_GOOD);
    int count = 0;
    for (; names[count]; count++) {
        vit_config c;
        if (vit_config_read(&c, SHIPPED, names[count], NULL))
            fail_msg("%s: %s", names[count], failure());
        vit_config_free(&c);
    }
    assert_string_equal(names[0], "base");
    assert_string_equal(names[29], "mp_p6_megatron");
    assert_string_equal(names[30], "short");
    assert_int_equal(count, 33);
    free(names);
}

/* Own keys, then the nearest map's; a list of maps gives the earlier one; null gives the default. */
static void inheritance(void **state)
{
    vit_config c;
    (void)state;
    put("a: &a\n  " MODEL "  depth: 2\n  lr: 5E-4\n  lr_schedule: cosine\n  limit_nsamples: 7\n"
        "b: &b\n  depth: 3\n  warmup: 10\n  <<: *a\n"
        "c: &c\n  <<: *b\n  depth: 4\n"
        "d: {dropout: 0.25, depth: 9, <<: [*c, *a], limit_nsamples: None, 'lr': 'None'}\n"
        "e: {<<: [*a, *b]}\n");
    must_read(&c, "d", NULL);
    assert_int_equal(c.depth, 9);
    assert_int_equal(c.warmup, 10);
    assert_int_equal(c.limit_nsamples, 0);
    assert_true(c.dropout == 0.25 && c.lr == 5e-4);
    assert_int_equal(c.img_size[1], 48);
    assert_string_equal(c.lr_schedule, "cosine");
    vit_config_free(&c);
    must_read(&c, "e", NULL);
    assert_int_equal(c.depth, 2);
    assert_int_equal(c.limit_nsamples, 7);
    vit_config_free(&c);
    must_read(&c, "c", (char *[]){"depth=6", "img_size=8,12", "lr=2e-3", "missing_values=mean", NULL});
    assert_int_equal(c.depth, 6);
    assert_int_equal(c.img_size[0], 8);
    assert_int_equal(c.img_size[1], 12);
    assert_int_equal(c.missing_values, VIT_MISSING_MEAN);
    assert_true(c.lr == 2e-3);
    vit_config_free(&c);
}

static void mistakes(void **state)
{
    vit_config c;
    (void)state;
    refused("a:\n  dept: 3\n", CODE_CONFIGURATION, ":2: unknown key 'dept'; did you mean 'depth'?");
    refused("a:\n  depth: 1.5\n", CODE_CONFIGURATION, ":2: depth is '1.5'; it must be a whole number from 1 to");
    refused("a:\n  lr: inf\n", CODE_CONFIGURATION, "lr is 'inf'");
    refused("a:\n  lr: nan\n", CODE_CONFIGURATION, "lr is 'nan'");
    refused("a:\n  depth: 2\n  depth: 3\n", CODE_CONFIGURATION, ":3: key 'depth' is set a second time");
    refused("a:\n  img_size: [360]\n", CODE_CONFIGURATION, "two whole numbers");
    refused("a:\n  img_size: [360, 720, 1]\n", CODE_CONFIGURATION, "two whole numbers");
    refused("a:\n  img_size: {x: 1}\n", CODE_CONFIGURATION, "a single value, or [a, b]");
    refused("a:\n  patch_size: 7\n", CODE_CONFIGURATION, "patch_size 7 must divide img_size's 360 latitudes");
    refused("a:\n  num_heads: 7\n", CODE_CONFIGURATION, "embed_dim 384 over num_heads 7");
    refused("a:\n  num_heads: 1\n", CODE_CONFIGURATION, "from 1 to 256");
    refused("a:\n  n_in_channels: 3\n", CODE_CONFIGURATION, "n_out_channels 20 must be equal");
    refused("a:\n  amp_mode: fp8\n", CODE_CONFIGURATION, "it must be one of none, fp16, bf16");
    refused("a:\n  attn_type: ringY\n", CODE_CONFIGURATION, "it must be one of ringX, ring, megatron");
    refused("a:\n  global_means_path: m.npy\n", CODE_CONFIGURATION, "must both be given");
    refused("a: &a\n  depth: 2\n  <<: *a\n", CODE_CONFIGURATION, "inherits from itself");
    refused("a:\n  <<: 3\n", CODE_CONFIGURATION, "must be a map of keys");
    refused("a: [\n", CODE_CONFIGURATION, ":2:");
    refused("- a\n", CODE_CONFIGURATION, "must be a map of named configurations");
    refused("aa:\n  depth: 2\n", CODE_CONFIGURATION, "has no configuration 'a'; the nearest is 'aa'");
    refused("a:\n  depth: [[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]\n", CODE_CONFIGURATION,
            "nested deeper");
    assert_int_equal(vit_config_read(&c, "/nowhere/ViT.yaml", "a", NULL), CODE_MISSING);
    put("a:\n  depth: 2\n");
    assert_int_equal(vit_config_read(&c, file, "a", (char *[]){"depth", NULL}), CODE_USAGE);
    assert_int_equal(vit_config_read(&c, file, "a", (char *[]){"dept=3", NULL}), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "command line: unknown key 'dept'"));
}

/* The same anchor over and over must not take time that grows with the power of its depth. */
static void inheritance_is_bounded(void **state)
{
    char text[4096] = "m0: &m0\n  depth: 1\n";
    (void)state;
    for (int i = 1; i < 12; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "m%d: &m%d\n  <<: [*m%d, *m%d, *m%d, *m%d, *m%d, *m%d]\n", i, i,
                 i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    }
    strcat(text, "a:\n  <<: *m11\n");
    refused(text, CODE_CONFIGURATION, "inherits");
}

static void collect(void *context, const char *line)
{
    strcat(strcat(context, line), "\n");
}

static void what_is_printed(void **state)
{
    static char text[20000];
    char ignored[400];
    vit_config c;
    (void)state;
    put("a:\n  depth: 2\n  wireup_info: env\n  enable_jit: true\n  lr_schedule: step\n");
    must_read(&c, "a", NULL);
    vit_config_print(&c, collect, text);
    assert_non_null(strstr(text, "\ndepth 2\n"));
    assert_non_null(strstr(text, "\nConfiguration name: a\n"));
    assert_non_null(strstr(text, "\nlimit_nsamples None\n"));
    assert_non_null(strstr(text, "\nenable_jit true\n"));
    assert_null(strstr(text, "wireup_store"));
    assert_memory_equal(text, "-------------------- Configuration -", 36);
    assert_string_equal(vit_config_ignored(&c, ignored, sizeof ignored),
                        "without effect: enable_jit, wireup_info, lr_schedule step (neither cosine, linear nor "
                        "constant: the rate is constant)");
    assert_true(vit_learning_rate(&c, 1234) == c.lr);
    vit_config_free(&c);
}

static void options_override(void **state)
{
    vit_config c;
    (void)state;
    put("base:\n  depth: 2\n  amp_mode: bf16\n");
    vit_config_settings s = {.yaml_config = file,
                             .amp_mode = "none",
                             .num_iters = "17",
                             .run_num = "7",
                             .tensor_parallel = "2",
                             .parallel_order = "cp-tp-dp",
                             .noddp = true,
                             .enable_jit = true,
                             .set = {.items = (char *[]){"depth=5", "lr=1e-4"}, .count = 2}};
    assert_int_equal(vit_config_open(&c, &s), CODE_GOOD);
    assert_int_equal(c.amp_mode, VIT_AMP_BF16); /* none stands for the file's */
    assert_int_equal(c.num_iters, 17);
    assert_int_equal(c.tensor_parallel, 2);
    assert_int_equal(c.depth, 5);
    assert_true(c.noddp && c.lr == 1e-4);
    assert_string_equal(c.run_num, "7");
    vit_config_free(&c);
    s.amp_mode = "fp16";
    assert_int_equal(vit_config_open(&c, &s), CODE_GOOD);
    assert_int_equal(c.amp_mode, VIT_AMP_FP16);
    vit_config_free(&c);
    s.num_iters = "many";
    assert_int_equal(vit_config_open(&c, &s), CODE_CONFIGURATION);
}

/* Order and sizes, and what does not divide. */
static void layouts(void **state)
{
    static const struct {
        const char *order;
        int tp, cp, world, expect[3]; /* expect[0] < 0: refused */
        const char *part;
    } rows[] = {
        {"tp-cp-dp", 2, 2, 8, {0, 1, 2}, ""},
        {"cp-tp-dp", 2, 3, 12, {1, 0, 2}, ""},
        {"dp-cp-tp-pp", 1, 2, 4, {2, 1, 0}, ""},
        {"cp-tp", 2, 3, 6, {1, 0, 2}, ""},
        {"cp", 1, 3, 3, {1, 0, 2}, ""},
        {"cp-tp", 2, 2, 8, {-1}, "leaves out dp, which has 2 ranks"},
        {"tp-tp", 1, 1, 1, {-1}, "at most once"},
        {"tp-", 1, 1, 1, {-1}, "at most once"},
        {"tpcp", 1, 1, 1, {-1}, "at most once"},
        {"tp-cp-dp", 2, 2, 6, {-1}, "must divide the number of ranks, 6"},
        {"tp-cp-dp", 3, 1, 3, {-1}, "tensor_parallel 3 must divide num_heads 8"},
        {"tp-cp-dp", 1, 100, 100, {-1}, "at most the number of tokens, 72"},
        {"tp-cp-dp", 1, 1, 5, {-1}, "a multiple of the 5 data-parallel ranks"},
    };
    (void)state;
    put("a:\n  global_batch_size: 4\n  " MODEL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vit_config c;
        vit_layout l;
        must_read(&c, "a", NULL);
        free(c.parallel_order);
        c.parallel_order = strdup(rows[i].order);
        c.tensor_parallel = rows[i].tp, c.context_parallel = rows[i].cp;
        int code = vit_config_layout(&c, rows[i].world, &l);
        if (rows[i].expect[0] < 0) {
            if (code != CODE_CONFIGURATION || !strstr(failure(), rows[i].part))
                fail_msg("%s: code %d, %s", rows[i].order, code, failure());
        } else {
            assert_int_equal(code, CODE_GOOD);
            assert_memory_equal(l.order, rows[i].expect, sizeof l.order);
            assert_int_equal(l.size[0] * l.size[1] * l.size[2], rows[i].world);
            assert_int_equal(l.local_batch * l.dp, 4);
            c.local_batch_size = 3;
            assert_int_equal(vit_config_layout(&c, rows[i].world, &l), CODE_GOOD);
            assert_int_equal(l.global_batch, 3 * l.dp);
        }
        vit_config_free(&c);
    }
}

static void shards_cover_the_tokens(void **state)
{
    static const int64_t tokens[] = {1, 72, 4050, 64800, 259200};
    static const int cps[] = {1, 3, 4, 7, 64};
    (void)state;
    for (size_t t = 0; t < 5; t++)
        for (size_t k = 0; k < 5; k++) {
            int64_t next = 0, first, count;
            for (int at = 0; at < cps[k]; at++) {
                vit_token_shard(tokens[t], cps[k], at, &first, &count);
                assert_int_equal(first, next);
                assert_int_equal(first, tokens[t] * at / cps[k]);
                assert_in_range(count, (uint64_t)(tokens[t] / cps[k]), (uint64_t)(tokens[t] / cps[k] + 1));
                next += count;
            }
            assert_int_equal(next, tokens[t]);
        }
}

static void parameters_of_a_rank(void **state)
{
    vit_config c;
    (void)state;
    put("a:\n  embed_dim: 32\n  num_heads: 4\n  depth: 2\n  tensor_parallel: 4\n  " MODEL);
    must_read(&c, "a", NULL);
    int64_t ends = 5 * 16 * 32 + 32 + 72 * 32 + 2 * 32 + 5 * 16 * 32;
    assert_int_equal(vit_parameters(&c), ends + 2 * (12 * 32 * 32 + 13 * 32));
    /* q, k, v: 8 of 32 rows and biases; proj, fc2: 8 and 32 columns, whole biases; fc1: 32 rows; two norms */
    int64_t block = 3 * (8 * 32 + 8) + (32 * 8 + 32) + (32 * 32 + 32) + (32 * 32 + 32) + 4 * 32;
    assert_int_equal(vit_parameters_of_rank(&c), ends + 2 * block);
    vit_config_free(&c);
}

/* Values of the formula at points where it is simple, and the logged ones of the original's run. */
static void rates(void **state)
{
    vit_config c;
    (void)state;
    assert_int_equal(vit_config_read(&c, SHIPPED, "base", NULL), CODE_GOOD);
    assert_true(vit_learning_rate(&c, 0) == 5e-4);
    assert_float_equal(vit_learning_rate(&c, 15000), 2.5e-4, 1e-12);
    assert_float_equal(vit_learning_rate(&c, 10000), 3.75e-4, 1e-12);
    assert_float_equal(vit_learning_rate(&c, 2372), 4.92e-4, 1e-6);
    assert_float_equal(vit_learning_rate(&c, 23720), 5.2e-5, 1e-6);
    assert_float_equal(vit_learning_rate(&c, 30000), 0, 1e-12);
    c.warmup = 100;
    assert_float_equal(vit_learning_rate(&c, 0), 5e-6, 1e-15);
    assert_float_equal(vit_learning_rate(&c, 49), 2.5e-4, 1e-15);
    assert_float_equal(vit_learning_rate(&c, 15000), 2.5e-4, 1e-12);
    vit_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_configurations),
        cmocka_unit_test(every_name_can_be_read),
        cmocka_unit_test(inheritance),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(inheritance_is_bounded),
        cmocka_unit_test(what_is_printed),
        cmocka_unit_test(options_override),
        cmocka_unit_test(layouts),
        cmocka_unit_test(shards_cover_the_tokens),
        cmocka_unit_test(parameters_of_a_rank),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
