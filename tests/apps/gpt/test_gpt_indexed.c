/* SPDX-License-Identifier: MIT */
/* Token files: the bytes of the layout, and files that are cut off or changed anywhere. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpt/indexed.h"
#include "shared/numbers.h"
#include "shared/report.h"

#include <cmocka.h> /* last: it has a macro called fail */

static char folder[] = "/tmp/gpt_indexed.XXXXXX", prefix[64], bin[80], idx[80];

static const int32_t document_a[] = {1, 2, 300}, document_b[] = {65499, 0};

static void write_pair(size_t vocabulary)
{
    indexed_writer w;
    assert_int_equal(indexed_create(&w, prefix, vocabulary), 0);
    assert_int_equal(indexed_append(&w, document_a, 3), 0);
    assert_int_equal(indexed_append(&w, document_b, 2), 0);
    assert_int_equal(indexed_finish(&w, 0), 0);
}

static size_t slurp(const char *path, uint8_t bytes[256])
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, 256, f);
    fclose(f);
    return n;
}

static void spill(const char *path, const uint8_t *bytes, size_t count)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, count, f), count);
    assert_int_equal(fclose(f), 0);
}

static void layout(void **state)
{
    (void)state;
    static const uint8_t index_narrow[] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0,
                                           0,   0,   0,   0,   0,   3,   0,   0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0,
                                           0,   0,   0,   0,   0,   0,   0,   0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                           0,   0,   0,   1,   0,   0,   0,   0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t narrow[] = {1, 0, 2, 0, 0x2c, 1, 0xdb, 0xff, 0, 0};
    static const uint8_t wide[] = {1, 0, 0, 0, 2, 0, 0, 0, 0x2c, 1, 0, 0, 0xdb, 0xff, 0, 0, 0, 0, 0, 0};
    uint8_t bytes[256];
    write_pair(65499); /* the ids themselves are the caller's business */
    assert_int_equal(slurp(idx, bytes), sizeof index_narrow);
    assert_memory_equal(bytes, index_narrow, sizeof index_narrow);
    assert_int_equal(slurp(bin, bytes), sizeof narrow);
    assert_memory_equal(bytes, narrow, sizeof narrow);
    write_pair(65500);
    assert_int_equal(slurp(bin, bytes), sizeof wide);
    assert_memory_equal(bytes, wide, sizeof wide);
    assert_int_equal(slurp(idx, bytes), sizeof index_narrow);
    assert_int_equal(bytes[17], 4);
    assert_int_equal(bytes[50], 12);
}

static void reading(void **state)
{
    (void)state;
    for (size_t vocabulary = 65499; vocabulary <= 65500; vocabulary++) {
        indexed d;
        int32_t ids[3] = {-1, -1, -1};
        write_pair(vocabulary);
        assert_int_equal(indexed_open(&d, prefix), 0);
        assert_int_equal(d.sequences, 2);
        assert_int_equal(d.documents, 2);
        assert_int_equal(d.tokens, 5);
        assert_int_equal(indexed_read(&d, 0, 0, 3, 65500, ids), 0);
        assert_memory_equal(ids, document_a, sizeof document_a);
        assert_int_equal(indexed_read(&d, 0, 1, 2, 65500, ids), 0);
        assert_int_equal(ids[1], 300);
        assert_int_equal(indexed_read(&d, 1, 0, 2, 65499, ids), CODE_BAD_INPUT);
        assert_non_null(strstr(failure(), ".bin: document 1, token 0 (byte "));
        assert_non_null(strstr(failure(), "id 65499; it must be 0 … 65498"));
        assert_int_equal(indexed_read(&d, 1, 1, 2, 65500, ids), CODE_INTERNAL);
        assert_int_equal(indexed_read(&d, 2, 0, 1, 65500, ids), CODE_INTERNAL);
        indexed_close(&d);
    }
}

static int open_and_read(void)
{
    indexed d;
    int32_t ids[256];
    int code = indexed_open(&d, prefix);
    if (code) {
        assert_non_null(strstr(failure(), folder)); /* the file is named */
        return code;
    }
    for (uint64_t i = 0; !code && i < d.sequences; i++)
        code = indexed_read(&d, i, 0, indexed_length(&d, i), 1 << 24, ids);
    indexed_close(&d);
    return code;
}

static void cut_off(void **state)
{
    (void)state;
    uint8_t bytes[257];
    write_pair(1000);
    for (int which = 0; which < 2; which++) {
        const char *path = which ? bin : idx;
        size_t n = slurp(path, bytes);
        bytes[n] = 0;
        for (size_t kept = 0; kept <= n + 1; kept++) {
            spill(path, bytes, kept);
            assert_int_equal(open_and_read(), kept == n ? CODE_GOOD : CODE_BAD_INPUT);
        }
        spill(path, bytes, n);
        unlink(path);
        assert_int_equal(open_and_read(), CODE_MISSING);
        spill(path, bytes, n);
    }
}

static void changed(void **state)
{
    (void)state;
    uint8_t bytes[256];
    write_pair(1000);
    size_t n = slurp(idx, bytes);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        spill(idx, bytes, n);
        int code = open_and_read();
        if (bit / 8 < 34 + 12 * 2) /* all but the document index says everything twice */
            assert_int_equal(code, CODE_BAD_INPUT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    random_stream random = {.key = 42};
    for (int trial = 0; trial < 2000; trial++) {
        uint8_t copy[256];
        memcpy(copy, bytes, n);
        for (uint64_t k = 1 + random_below(&random, 6); k > 0; k--)
            copy[random_below(&random, n)] = (uint8_t)random_below(&random, 256);
        spill(idx, copy, n);
        open_and_read();
    }
    memcpy(bytes, "TNTIDX\0", 8);
    spill(idx, bytes, n);
    assert_int_equal(open_and_read(), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "older"));
}

/* A failure leaves nothing new, and what was there stays. */
static void failing(void **state)
{
    (void)state;
    uint8_t before[256], after[256];
    write_pair(1000);
    size_t n = slurp(idx, before);
    indexed_writer w;
    assert_int_equal(indexed_create(&w, prefix, 10), 0);
    assert_int_equal(indexed_append(&w, document_b, 2), 0);
    assert_int_equal(indexed_finish(&w, CODE_BAD_INPUT), CODE_BAD_INPUT);
    assert_int_equal(slurp(idx, after), n);
    assert_memory_equal(before, after, n);
    assert_int_equal(open_and_read(), 0);
    assert_int_equal(indexed_create(&w, "/nowhere/at/all", 10), CODE_CANNOT_WRITE);
    assert_non_null(strstr(failure(), "/nowhere/at/all.bin"));
    unlink(bin);
    unlink(idx);
    assert_int_equal(rmdir(folder), 0); /* no temporary file is left */
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    snprintf(prefix, sizeof prefix, "%s/text_document", folder);
    snprintf(bin, sizeof bin, "%s.bin", prefix);
    snprintf(idx, sizeof idx, "%s.idx", prefix);
    const struct CMUnitTest tests[] = {cmocka_unit_test(layout), cmocka_unit_test(reading), cmocka_unit_test(cut_off),
                                       cmocka_unit_test(changed), cmocka_unit_test(failing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
