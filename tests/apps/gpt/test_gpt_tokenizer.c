/* SPDX-License-Identifier: MIT */
/* Tokenizers: ids equal those of the packages as tests/data/gpt/ids.json has them; bytes come back; files that are cut
 * off or changed are refused or harmless. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "gpt/bpe_train.h"
#include "gpt/byte_alphabet.h"
#include "gpt/pretokenize.h"
#include "gpt/tokenizer.h"
#include "gpt/utf8.h"
#include "shared/numbers.h"
#include "shared/report.h"

#include <cmocka.h> /* last: it has a macro called fail */

#define DATA RINGX_TEST_DATA "/gpt/"

static json_t *oracle;
static char folder[] = "/tmp/gpt_tokenizer.XXXXXX", file[64];

static void same_ids(const id_list *ids, json_t *want)
{
    assert_int_equal(ids->count, json_array_size(want));
    for (size_t i = 0; i < ids->count; i++)
        assert_int_equal(ids->items[i], json_integer_value(json_array_get(want, i)));
}

static void read_binary(byte_list *into)
{
    json_t *bytes = json_object_get(json_object_get(oracle, "binary"), "bytes");
    assert_true(json_array_size(bytes) == 400);
    for (size_t i = 0; i < 400; i++) {
        uint8_t byte = (uint8_t)json_integer_value(json_array_get(bytes, i));
        assert_int_equal(bytes_append(into, &byte, 1), 0);
    }
}

/* Bytes that are kept come back, whatever they are. */
static void round_trip(const tokenizer *t, encoder *e, const uint8_t *bytes, size_t count)
{
    id_list ids = {0};
    byte_list back = {0};
    encode_options keep = {.invalid = INVALID_KEEP};
    assert_int_equal(encoder_encode(e, bytes, count, &keep, &ids), 0);
    assert_int_equal(tokenizer_decode(t, ids.items, ids.count, false, &back), 0);
    assert_int_equal(back.count, count);
    if (count)
        assert_memory_equal(back.items, bytes, count);
    ids_free(&ids);
    bytes_free(&back);
}

static void one_file(const char *name, json_t *want)
{
    char path[512];
    tokenizer *t;
    encoder *e;
    json_t *samples = json_object_get(oracle, "samples"), *sample;
    size_t i;
    snprintf(path, sizeof path, DATA "%s", name);
    assert_int_equal(tokenizer_open(&t, TOKENIZER_ANY, path, NULL), 0);
    assert_int_equal(encoder_open(&e, t), 0);
    bool json = strstr(name, ".json") != NULL;
    encode_options options = {.invalid = INVALID_ERROR, .parse_special = json, .add_special = json};
    assert_true(tokenizer_parses_special(t) == json);
    id_list ids = {0};
    json_array_foreach(samples, i, sample)
    {
        ids.count = 0;
        const char *text = json_string_value(sample);
        size_t count = json_string_length(sample);
        assert_int_equal(encoder_encode(e, text, count, &options, &ids), 0);
        same_ids(&ids, json_array_get(want, i));
        round_trip(t, e, (const uint8_t *)text, count);
    }
    assert_true(i > 8);
    byte_list binary = {0};
    read_binary(&binary);
    ids.count = 0;
    assert_int_equal(encoder_encode(e, binary.items, binary.count, &options, &ids), CODE_BAD_INPUT);
    assert_int_equal(ids.count, 0);
    assert_non_null(strstr(failure(), "begins no well-formed UTF-8"));
    options.invalid = INVALID_REPLACE;
    assert_int_equal(encoder_encode(e, binary.items, binary.count, &options, &ids), 0);
    same_ids(&ids, json_object_get(json_object_get(oracle, "binary"), name));
    round_trip(t, e, binary.items, binary.count);
    bytes_free(&binary);
    ids_free(&ids);
    encoder_close(e);
    tokenizer_close(t);
}

static void packages(void **state)
{
    (void)state;
    const char *name;
    json_t *want;
    int n = 0;
    json_object_foreach(json_object_get(oracle, "ids"), name, want)
    {
        one_file(name, want);
        n++;
    }
    assert_int_equal(n, 3);
}

static void special(void **state)
{
    (void)state;
    tokenizer *t;
    assert_int_equal(tokenizer_open(&t, TOKENIZER_TIKTOKEN, DATA "bpe.tiktoken", NULL), 0);
    size_t n = tokenizer_size(t) - 256;
    assert_int_equal(tokenizer_find(t, "<|begin_of_text|>"), n);
    assert_int_equal(tokenizer_find(t, "<|reserved_special_token_0|>"), n + 2);
    assert_int_equal(tokenizer_find(t, "<|start_header_id|>"), n + 6);
    assert_int_equal(tokenizer_find(t, "<|eot_id|>"), n + 9);
    assert_int_equal(tokenizer_find(t, "<|reserved_special_token_2|>"), n + 11);
    assert_int_equal(tokenizer_find(t, "<|reserved_special_token_246|>"), n + 255);
    assert_int_equal(tokenizer_find(t, "<|nothing|>"), -1);
    assert_int_equal(tokenizer_eod(t), n + 1);
    int32_t ids[] = {(int32_t)n, (int32_t)'a', (int32_t)n + 256};
    byte_list text = {0};
    assert_int_equal(tokenizer_decode(t, ids, 2, true, &text), 0);
    assert_int_equal(tokenizer_decode(t, ids, 3, true, &text), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "at place 2"));
    bytes_free(&text);
    tokenizer_close(t);
    assert_int_equal(tokenizer_open(&t, TOKENIZER_BYTES, NULL, NULL), 0);
    assert_int_equal(tokenizer_size(t), 512);
    assert_int_equal(tokenizer_eod(t), 0);
    tokenizer_close(t);
    assert_int_equal(tokenizer_padded_size(128256, 1, 1), 128256);
    assert_int_equal(tokenizer_padded_size(128256, 128, 3), 128256);
    assert_int_equal(tokenizer_padded_size(50257, 128, 1), 50304);
    assert_int_equal(tokenizer_padded_size(1, 128, 2), 256);
}

/* The same tokenizer as GPT-2's two files. */
static void two_files(void **state)
{
    (void)state;
    char lines[80];
    tokenizer *t;
    encoder *e;
    id_list ids = {0};
    json_t *root = json_load_file(DATA "bpe-gpt2.json", 0, NULL), *model = json_object_get(root, "model"), *m, *sample;
    json_t *want = json_object_get(json_object_get(oracle, "ids"), "bpe-gpt2.json");
    size_t i;
    assert_int_equal(json_dump_file(json_object_get(model, "vocab"), file, 0), 0);
    snprintf(lines, sizeof lines, "%s.txt", file);
    FILE *to = fopen(lines, "w");
    assert_non_null(to);
    fputs("#version: 0.2\n", to);
    json_array_foreach(json_object_get(model, "merges"), i, m)
        fprintf(to, "%s %s\n", json_string_value(json_array_get(m, 0)), json_string_value(json_array_get(m, 1)));
    assert_true(i > 100);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(tokenizer_open(&t, TOKENIZER_GPT2, file, lines), 0);
    assert_int_equal(tokenizer_eod(t), 0);
    assert_int_equal(encoder_open(&e, t), 0);
    json_array_foreach(json_object_get(oracle, "samples"), i, sample)
    {
        ids.count = 0;
        encode_options options = {.parse_special = true};
        if (strstr(json_string_value(sample), "<|padding|>"))
            continue; /* GPT-2 has one special token */
        assert_int_equal(encoder_encode(e, json_string_value(sample), json_string_length(sample), &options, &ids), 0);
        same_ids(&ids, json_array_get(want, i));
    }
    encoder_close(e);
    tokenizer_close(t);
    assert_int_equal(tokenizer_open(&t, TOKENIZER_GPT2, file, NULL), CODE_USAGE);
    to = fopen(lines, "a");
    assert_non_null(to);
    fputs("alone\n", to);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(tokenizer_open(&t, TOKENIZER_GPT2, file, lines), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), ".txt: line "));
    json_decref(root);
    ids_free(&ids);
    unlink(lines);
    unlink(file);
}

/* Merging by scanning and merging with a heap agree: pieces around the length where one takes over. */
static void lengths(void **state)
{
    (void)state;
    tokenizer *t;
    encoder *e;
    random_stream random = {.key = 3};
    assert_int_equal(tokenizer_open(&t, TOKENIZER_HF, DATA "bpe-gpt2.json", NULL), 0);
    assert_int_equal(encoder_open(&e, t), 0);
    uint8_t bytes[4000];
    for (size_t count = 0; count < 200; count += count < 60 ? 1 : 7) {
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)("etaoinshr"[random_below(&random, 9)]);
        round_trip(t, e, bytes, count);
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)random_below(&random, 256);
        round_trip(t, e, bytes, count);
    }
    memset(bytes, 'a', sizeof bytes);
    round_trip(t, e, bytes, sizeof bytes);
    encoder_close(e);
    tokenizer_close(t);
}

static void spill(const uint8_t *bytes, size_t count)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, count, f), count);
    assert_int_equal(fclose(f), 0);
}

/* Opens the file; if that works, encodes with it. */
static int try_file(void)
{
    static const char text[] = "Grüße, it's 12345 <|endoftext|>\n\n  x";
    tokenizer *t;
    encoder *e;
    id_list ids = {0};
    byte_list back = {0};
    int code = tokenizer_open(&t, TOKENIZER_ANY, file, NULL);
    if (code) {
        assert_null(t);
        assert_non_null(strstr(failure(), file));
        return code;
    }
    assert_int_equal(encoder_open(&e, t), 0);
    encode_options options = {.invalid = INVALID_ERROR, .parse_special = true, .add_special = true};
    if (encoder_encode(e, text, sizeof text - 1, &options, &ids) == 0) {
        for (size_t i = 0; i < ids.count; i++)
            assert_true(ids.items[i] >= 0);
        tokenizer_decode(t, ids.items, ids.count, false, &back); /* ids of a post-processor may be no tokens */
    }
    encoder_close(e);
    tokenizer_close(t);
    ids_free(&ids);
    bytes_free(&back);
    return code;
}

static void corrupt(const char *name, size_t step, int trials, bool line_wise)
{
    char path[512];
    byte_list whole, copy = {0};
    random_stream random = {.key = 7};
    snprintf(path, sizeof path, DATA "%s", name);
    assert_int_equal(file_read(path, 1 << 20, &whole), 0);
    for (size_t kept = 0; kept < whole.count; kept += step) {
        spill(whole.items, kept);
        int code = try_file();
        if (!line_wise)
            assert_int_equal(code, CODE_BAD_INPUT);
    }
    for (int i = 0; i < trials; i++) {
        copy.count = 0;
        assert_int_equal(bytes_append(&copy, whole.items, whole.count), 0);
        for (uint64_t k = 1 + random_below(&random, 3); k > 0; k--)
            copy.items[random_below(&random, copy.count)] ^= (uint8_t)(1u << random_below(&random, 8));
        spill(copy.items, copy.count);
        try_file();
    }
    bytes_free(&whole);
    bytes_free(&copy);
    unlink(file);
}

static void corrupt_json(void **state)
{
    (void)state;
    corrupt("bpe-llama3.json", 61, 400, false);
}

static void corrupt_tiktoken(void **state)
{
    (void)state;
    corrupt("bpe.tiktoken", 3, 400, true); /* a file that ends with a line is whole, if all bytes are there */
}

/* With a normalizer the forms of a text have the same ids, those of the form that it makes; without, they have not. */
static void normal_forms(void **state)
{
    (void)state;
    static const char composed[] = "Ünïcödé ﬁ 가 \u2126<|endoftext|>é",
                      decomposed[] = "U\u0308ni\u0308co\u0308de\u0301 ﬁ \u1100\u1161 \u03a9<|endoftext|>e\u0301";
    static const char folded[] = "Ünïcödé fi 가 \u03a9<|endoftext|>é", nfc[] = "Ünïcödé ﬁ 가 \u03a9<|endoftext|>é";
    const char *const form[] = {NULL, "{\"type\":\"NFC\"}",
                                "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":\"NFC\"}]}"};
    const char *const want[] = {decomposed, nfc, folded};
    id_list plain[3] = {0}, ids = {0};
    for (int i = 0; i < 3; i++) {
        tokenizer *t;
        encoder *e;
        json_t *root = json_load_file(DATA "bpe-gpt2.json", 0, NULL);
        if (form[i])
            json_object_set_new(root, "normalizer", json_loads(form[i], 0, NULL));
        assert_int_equal(json_dump_file(root, file, 0), 0);
        json_decref(root);
        assert_int_equal(tokenizer_open(&t, TOKENIZER_HF, file, NULL), 0);
        assert_int_equal(encoder_open(&e, t), 0);
        encode_options options = {.parse_special = true};
        for (int k = 0; !form[i] && k < 3; k++)
            assert_int_equal(encoder_encode(e, want[k], strlen(want[k]), &options, &plain[k]), 0);
        for (int k = 0; k < 2; k++) {
            const char *text = k ? composed : decomposed;
            ids.count = 0;
            assert_int_equal(encoder_encode(e, text, strlen(text), &options, &ids), 0);
            bool same =
                ids.count == plain[i].count && memcmp(ids.items, plain[i].items, ids.count * sizeof *ids.items) == 0;
            assert_true(same == (form[i] || k == 0));
        }
        encoder_close(e);
        tokenizer_close(t);
    }
    for (int i = 0; i < 3; i++)
        ids_free(&plain[i]);
    ids_free(&ids);
    unlink(file);
}

/* What a file asks for and is not offered is said by name. */
static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"normalizer", "{\"type\":\"Lowercase\"}", "normalizer 'Lowercase' is not offered; NFC"},
        {"truncation", "{\"max_length\":4}", "truncation is set"},
        {"pre_tokenizer", "{\"type\":\"Whitespace\"}", "pre_tokenizer 'Whitespace' is not offered"},
        {"pre_tokenizer", "null", "no ByteLevel step"},
        {"post_processor", "{\"type\":\"BertProcessing\"}", "post_processor 'BertProcessing' is not offered"},
        {"model", "{\"type\":\"Unigram\"}", "model.type is 'Unigram'"},
        {"model", "{\"type\":\"BPE\",\"dropout\":0.1}", "model.dropout is set"},
        {"model", "{\"type\":\"BPE\",\"byte_fallback\":true}", "byte_fallback is set"},
        {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0}}", "model.merges is missing"},
        {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}", "token 'a': token id -1 is out of range"},
        {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]}", "token id 99999999 is out of range"},
        {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}", "token id 0 is given twice"},
        {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}",
         "merges[0]: 'ab', which it makes"},
        {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a c\"]}",
         "merges[0]: 'c' is not in the vocabulary"},
        {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}", "merges[0]: it must be"},
        {"added_tokens", "[{\"id\":1,\"content\":\"\"}]", "added_tokens[0]: added token 1 is empty"},
        {"added_tokens", "[{\"id\":4294967297,\"content\":\"x\"}]", "added_tokens[0]: id 4294967297 is out of range"},
        {"added_tokens", "[{\"id\":1,\"content\":\"x\",\"single_word\":true}]", "single_word is set"},
        {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a[\"},\"behavior\":\"Isolated\"}",
         "pattern 'a['"},
        {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}",
         "classes"},
        {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Contiguous\"}",
         "'Contiguous'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root = json_load_file(DATA "bpe-gpt2.json", 0, NULL),
               *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(root);
        assert_non_null(value);
        json_object_set_new(root, cases[i].path, value);
        assert_int_equal(json_dump_file(root, file, 0), 0);
        json_decref(root);
        assert_int_equal(try_file(), CODE_BAD_INPUT);
        if (!strstr(failure(), cases[i].message))
            print_error("case %zu: %s\n", i, failure());
        assert_non_null(strstr(failure(), cases[i].message));
    }
    unlink(file);
}

/* The package's trainer made the committed files; ours makes the same of the same text, with any number of threads. */
static void training(void **state)
{
    (void)state;
    static const char *const names[] = {"<|endoftext|>", "<|padding|>"};
    char path[] = DATA "multilingual.txt", *paths[] = {path};
    for (int i = 0; i < 4; i++) {
        bool llama3 = i % 2;
        word_counts words;
        bpe_trained trained;
        word_sources from = {
            .paths = paths, .count = 1, .pattern = llama3 ? pattern_llama3 : pattern_gpt2, .threads = i < 2 ? 1 : 3};
        bpe_plan plan = {.size = 420, .least = 2, .special = names, .n_special = 2};
        assert_int_equal(words_count(&from, &words), 0);
        assert_int_equal(bpe_train(&words, &plan, &trained), 0);
        assert_int_equal(tokenizer_write(file, &trained, &plan, llama3), 0);
        bpe_trained_free(&trained);
        plan.size = 257;
        assert_int_equal(bpe_train(&words, &plan, &trained), CODE_USAGE);
        words_free(&words);
        assert_int_equal(try_file(), 0);
        json_t *ours = json_load_file(file, 0, NULL);
        json_t *theirs = json_load_file(llama3 ? DATA "bpe-llama3.json" : DATA "bpe-gpt2.json", 0, NULL);
        assert_non_null(ours);
        assert_non_null(theirs);
        for (int k = 0; k < 2; k++) {
            const char *part = k ? "merges" : "vocab";
            assert_true(json_equal(json_object_get(json_object_get(ours, "model"), part),
                                   json_object_get(json_object_get(theirs, "model"), part)));
        }
        assert_true(json_equal(json_object_get(ours, "pre_tokenizer"), json_object_get(theirs, "pre_tokenizer")));
        json_decref(ours);
        json_decref(theirs);
    }
    unlink(file);
}

static void alphabet(void **state)
{
    (void)state;
    bool seen[0x144] = {false};
    for (int b = 0; b < 256; b++) {
        uint32_t point = byte_to_point((uint8_t)b);
        assert_true(point < 0x144 && !seen[point]);
        seen[point] = true;
        assert_int_equal(point_to_byte(point), b);
    }
    assert_int_equal(byte_to_point(' '), 0x120);
    assert_int_equal(byte_to_point('\n'), 0x10a);
    assert_int_equal(byte_to_point(0xad), 0x143);
    assert_int_equal(point_to_byte(0x144), -1);
    assert_int_equal(point_to_byte(' '), -1);
    for (uint32_t c = 0; c < 0x110000; c++) {
        uint8_t text[4];
        size_t wrong, n = utf8_put(text, c);
        assert_int_equal(utf8_sequence(text, n, &wrong), c >= 0xd800 && c < 0xe000 ? 0 : n);
        assert_int_equal(utf8_point(text), c);
    }
}

int main(void)
{
    oracle = json_load_file(DATA "ids.json", JSON_ALLOW_NUL, NULL);
    if (!oracle || !mkdtemp(folder))
        return 1;
    snprintf(file, sizeof file, "%s/tokenizer", folder);
    const struct CMUnitTest tests[] = {cmocka_unit_test(packages),     cmocka_unit_test(special),
                                       cmocka_unit_test(lengths),      cmocka_unit_test(two_files),
                                       cmocka_unit_test(corrupt_json), cmocka_unit_test(corrupt_tiktoken),
                                       cmocka_unit_test(refused),      cmocka_unit_test(normal_forms),
                                       cmocka_unit_test(training),     cmocka_unit_test(alphabet)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(oracle);
    rmdir(folder);
    return failed;
}
