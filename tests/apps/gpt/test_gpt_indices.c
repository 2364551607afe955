/* SPDX-License-Identifier: MIT */
/* Random numbers, splits, document, sample and shuffle indices, and blending equal NumPy's, as
 * tests/data/gpt/indices.json has them; samples are the tokens that these indices name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "gpt/corpus.h"
#include "train/mt19937.h"
#include "shared/report.h"

#include <cmocka.h> /* last: it has a macro called fail */

static json_t *oracle;
static char folder[] = "/tmp/gpt_indices.XXXXXX";

static int64_t item(json_t *list, size_t i)
{
    json_t *value = json_array_get(list, i);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static int64_t field(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static void random_words(void **state)
{
    (void)state;
    mt19937 g;
    mt19937_seed(&g, 1234);
    json_t *words = json_object_get(oracle, "words"), *shuffled = json_object_get(oracle, "shuffle");
    assert_int_equal(json_array_size(words), 8);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(mt19937_next(&g), item(words, i));
    int64_t items[3000];
    uint32_t narrow[3000];
    for (int i = 0; i < 3000; i++)
        narrow[i] = (uint32_t)(items[i] = i);
    mt19937_seed(&g, 1234);
    mt19937_shuffle64(&g, items, 3000);
    mt19937_seed(&g, 1234);
    mt19937_shuffle32(&g, narrow, 3000);
    assert_int_equal(json_array_size(shuffled), 200);
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(items[i], item(shuffled, i));
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(items[i], narrow[i]);
    for (uint64_t most = 0; most < 70; most++)
        assert_true(mt19937_at_most(&g, most) <= most);
    assert_true(mt19937_at_most(&g, UINT64_C(1) << 40) <= UINT64_C(1) << 40);
}

static void splits(void **state)
{
    (void)state;
    json_t *cases = json_object_get(oracle, "splits"), *one;
    size_t i;
    assert_true(json_array_size(cases) > 5);
    json_array_foreach(cases, i, one)
    {
        uint64_t ends[4];
        const char *text = json_string_value(json_array_get(one, 0));
        assert_int_equal(split_documents(text, (uint64_t)item(one, 1), ends), 0);
        for (size_t k = 0; k < 4; k++)
            assert_int_equal(ends[k], item(json_array_get(one, 2), k));
    }
    static const char *const wrong[] = {"", "a", "1,,1", "-1,2", "0,0,0", "1;2", "nan", "1,inf", "1,2x"};
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint64_t ends[4];
        assert_int_equal(split_documents(wrong[i], 9, ends), CODE_CONFIGURATION);
        assert_non_null(strstr(failure(), "split '"));
    }
}

static void blending(void **state)
{
    (void)state;
    json_t *cases = json_object_get(oracle, "blends"), *one;
    size_t i;
    json_array_foreach(cases, i, one)
    {
        double weights[8];
        uint16_t which[64];
        int64_t sample[64];
        json_t *w = json_array_get(one, 0), *drawn = json_array_get(one, 1);
        for (size_t k = 0; k < json_array_size(w); k++)
            weights[k] = json_number_value(json_array_get(w, k));
        assert_int_equal(json_array_size(drawn), 60);
        assert_int_equal(blend(weights, json_array_size(w), 60, which, sample), 0);
        for (size_t k = 0; k < 60; k++) {
            assert_int_equal(which[k], item(json_array_get(drawn, k), 0));
            assert_int_equal(sample[k], item(json_array_get(drawn, k), 1));
        }
    }
    assert_true(i > 2);
    json_array_foreach(json_object_get(oracle, "weights"), i, one)
    {
        uint64_t documents[8];
        double weights[8];
        json_t *counts = json_array_get(one, 0), *want = json_array_get(one, 2);
        size_t n = json_array_size(counts);
        for (size_t k = 0; k < n; k++)
            documents[k] = (uint64_t)item(counts, k);
        assert_int_equal(blend_weights(documents, n, json_number_value(json_array_get(one, 1)), weights), 0);
        for (size_t k = 0; k < n; k++) {
            double expected = json_number_value(json_array_get(want, k));
            assert_true(weights[k] > expected - 1e-14 && weights[k] < expected + 1e-14);
        }
    }
    assert_true(i > 1);
}

/* Document d of the file has the tokens 1000·d, 1000·d + 1, … */
static void write_documents(const char *prefix, json_t *lengths)
{
    indexed_writer w;
    int32_t ids[1000];
    assert_int_equal(indexed_create(&w, prefix, 70000), 0);
    for (size_t d = 0; d < json_array_size(lengths); d++) {
        size_t n = (size_t)item(lengths, d);
        assert_true(n < 1000);
        for (size_t i = 0; i < n; i++)
            ids[i] = (int32_t)(1000 * d + i);
        assert_int_equal(indexed_append(&w, ids, n), 0);
    }
    assert_int_equal(indexed_finish(&w, 0), 0);
}

static void one_case(const char *prefix, json_t *want)
{
    indexed data;
    sample_index made;
    write_documents(prefix, json_object_get(want, "lengths"));
    assert_int_equal(indexed_open(&data, prefix), 0);
    sample_plan plan = {.first = (uint64_t)field(want, "first"),
                        .end = (uint64_t)field(want, "end"),
                        .samples = field(want, "samples"),
                        .length = field(want, "seq"),
                        .seed = (uint32_t)field(want, "seed")};
    assert_int_equal(indices_build(&made, &data, &plan), 0);
    json_t *documents = json_object_get(want, "documents"), *places = json_object_get(want, "places");
    json_t *shuffled = json_object_get(want, "shuffled");
    assert_int_equal(made.epochs, field(want, "epochs"));
    assert_int_equal(made.n_documents, json_array_size(documents));
    for (size_t i = 0; i < made.n_documents; i++)
        assert_int_equal(made.documents[i], item(documents, i));
    assert_int_equal(made.samples, json_array_size(shuffled));
    assert_int_equal(made.samples + 1, json_array_size(places));
    for (size_t i = 0; i < (size_t)made.samples; i++)
        assert_int_equal(made.shuffled[i], item(shuffled, i));
    for (size_t i = 0; i <= (size_t)made.samples; i++) {
        assert_int_equal(made.places[i].place, item(json_array_get(places, i), 0));
        assert_int_equal(made.places[i].offset, item(json_array_get(places, i), 1));
    }
    indices_free(&made);
    indexed_close(&data);
}

/* Tokens of sample i: the stream of the shuffled documents, from shuffled[i]·S on. */
static void one_corpus(const char *prefix, json_t *want)
{
    corpus *c;
    corpus_plan plan = {.prefixes = &prefix,
                        .count = 1,
                        .which = CORPUS_ALL,
                        .samples = field(want, "samples"),
                        .length = field(want, "seq"),
                        .seed = (uint32_t)field(want, "seed"),
                        .vocabulary = 70000};
    json_t *documents = json_object_get(want, "documents"), *lengths = json_object_get(want, "lengths");
    json_t *shuffled = json_object_get(want, "shuffled");
    id_list stream = {0};
    if (field(want, "first") != 0 || (size_t)field(want, "end") != json_array_size(lengths))
        return;
    for (size_t k = 0; k < json_array_size(documents); k++)
        for (int64_t n = item(lengths, (size_t)item(documents, k)), j = 0; j < n; j++)
            assert_int_equal(ids_append(&stream, (int32_t)(1000 * item(documents, k) + j)), 0);
    assert_int_equal(corpus_open(&c, &plan), 0);
    assert_int_equal(corpus_samples(c), json_array_size(shuffled));
    size_t length = (size_t)plan.length;
    int32_t *tokens = malloc((length + 1) * sizeof *tokens);
    int64_t *starts = malloc((length + 2) * sizeof *starts);
    for (int64_t i = 0; i < corpus_samples(c); i++) {
        size_t n = 0, from = (size_t)item(shuffled, (size_t)i) * length, found = 1;
        assert_int_equal(corpus_read(c, i, tokens, starts, &n), 0);
        assert_int_equal(starts[0], 0);
        for (size_t k = 0; k <= length; k++) {
            assert_int_equal(tokens[k], stream.items[from + k]);
            if (k && stream.items[from + k] % 1000 == 0)
                assert_int_equal(starts[found++], k);
        }
        assert_int_equal(n, found + 1);
        assert_int_equal(starts[found], length + 1);
    }
    assert_int_equal(corpus_read(c, corpus_samples(c), tokens, NULL, NULL), CODE_INTERNAL);
    corpus_close(c);
    plan.vocabulary = 2; /* ids beyond: said with document and token */
    assert_int_equal(corpus_open(&c, &plan), 0);
    int code = 0;
    for (int64_t i = 0; i < corpus_samples(c) && !code; i++)
        code = corpus_read(c, i, tokens, NULL, NULL);
    if (json_array_size(lengths) > 1) {
        assert_int_equal(code, CODE_BAD_INPUT);
        assert_non_null(strstr(failure(), ".bin: document "));
        assert_non_null(strstr(failure(), "it must be 0 … 1"));
    }
    corpus_close(c);
    free(tokens);
    free(starts);
    ids_free(&stream);
}

static void remove_pair(const char *prefix)
{
    char path[128];
    snprintf(path, sizeof path, "%s.bin", prefix);
    unlink(path);
    snprintf(path, sizeof path, "%s.idx", prefix);
    unlink(path);
}

static void indices(void **state)
{
    (void)state;
    json_t *cases = json_object_get(oracle, "cases"), *one;
    size_t i;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s/data", folder);
    json_array_foreach(cases, i, one)
    {
        one_case(prefix, one);
        one_corpus(prefix, one);
    }
    assert_true(i >= 6);
    remove_pair(prefix);
}

static void blended_files(void **state)
{
    (void)state;
    char a[64], b[64];
    snprintf(a, sizeof a, "%s/a", folder);
    snprintf(b, sizeof b, "%s/b", folder);
    json_t *cases = json_object_get(oracle, "cases");
    write_documents(a, json_object_get(json_array_get(cases, 0), "lengths"));
    write_documents(b, json_object_get(json_array_get(cases, 1), "lengths"));
    corpus *c;
    const char *prefixes[] = {a, b};
    corpus_plan plan = {.prefixes = prefixes,
                        .count = 2,
                        .weights = (double[]){1, 3},
                        .split = "8,1,1",
                        .which = CORPUS_TRAIN,
                        .samples = 100,
                        .length = 12,
                        .seed = 1234,
                        .vocabulary = 60000};
    assert_int_equal(corpus_open(&c, &plan), 0);
    assert_int_equal(corpus_samples(c), 100);
    int32_t tokens[13], beyond = 0;
    for (int64_t i = 0; i < 100; i++) {
        assert_int_equal(corpus_read(c, i, tokens, NULL, NULL), 0);
        for (int k = 0; k < 13; k++)
            beyond += tokens[k] >= 23000; /* documents that only the second file has */
    }
    assert_true(beyond > 13);
    corpus_close(c);
    plan.weights = NULL;
    assert_int_equal(corpus_open(&c, &plan), 0);
    corpus_close(c);
    plan.split = "1,0,0";
    plan.which = CORPUS_VALID;
    assert_int_equal(corpus_open(&c, &plan), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "no document to the valid part"));
    remove_pair(a);
    remove_pair(b);
}

int main(void)
{
    oracle = json_load_file(RINGX_TEST_DATA "/gpt/indices.json", 0, NULL);
    if (!oracle || !mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_words), cmocka_unit_test(splits),
                                       cmocka_unit_test(blending), cmocka_unit_test(indices),
                                       cmocka_unit_test(blended_files)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(oracle);
    rmdir(folder);
    return failed;
}
