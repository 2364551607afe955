/* SPDX-License-Identifier: MIT */
/* Lines and files of text, plain and compressed; compressed files that are cut off or changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#include "gpt/documents.h"
#include "shared/numbers.h"
#include "shared/report.h"

#include <cmocka.h> /* last: it has a macro called fail */

static char folder[] = "/tmp/gpt_documents.XXXXXX", path[64];

static void spill(const char *name, const void *bytes, size_t count)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, count, f), count);
    assert_int_equal(fclose(f), 0);
}

/* All records, each with line, offset and a bar behind it. */
static int collect(bool lines, byte_list *all)
{
    documents d;
    text_record record;
    char *paths[] = {path}, head[64];
    all->count = 0;
    int code = documents_open(&d, paths, 1, lines);
    while (!code && !(code = documents_next(&d, &record)) && record.bytes) {
        int n = snprintf(head, sizeof head, "%llu@%llu:", (unsigned long long)record.line,
                         (unsigned long long)record.offset);
        assert_int_equal(bytes_append(all, head, (size_t)n), 0);
        assert_int_equal(bytes_append(all, record.bytes, record.count), 0);
        assert_int_equal(bytes_append(all, "|", 1), 0);
    }
    documents_close(&d);
    if (code)
        assert_non_null(strstr(failure(), path));
    return code;
}

static void expect(bool lines, const char *text)
{
    byte_list all = {0};
    assert_int_equal(collect(lines, &all), 0);
    assert_int_equal(all.count, strlen(text));
    if (all.count)
        assert_memory_equal(all.items, text, all.count);
    bytes_free(&all);
}

static void plain(void **state)
{
    (void)state;
    spill("a.jsonl", "{}\n \t\r\n\n{1}\r\n{22}", 17);
    expect(false, "1@0:{}|4@8:{1}\r|5@13:{22}|");
    spill("a.txt", "one\n\n two\n", 10);
    expect(false, "1@0:one\n\n two\n|");
    expect(true, "1@0:one|3@5: two|");
    spill("a.txt", "", 0);
    expect(false, "");
    spill("a.jsonl", "\n\n", 2);
    expect(false, "");
    spill("a.csv", "x", 1);
    byte_list all = {0};
    assert_int_equal(collect(false, &all), CODE_USAGE);
    unlink(path);
    assert_int_equal(collect(false, &all), CODE_USAGE);
    snprintf(path, sizeof path, "%s/none.txt", folder);
    assert_int_equal(collect(false, &all), CODE_MISSING);
    bytes_free(&all);
}

/* Lines longer than what is read at once, and shorter ones, come back whole. */
static void long_lines(void **state)
{
    (void)state;
    byte_list text = {0}, want = {0}, got = {0};
    random_stream random = {.key = 11};
    for (int line = 1; line <= 60; line++) {
        char head[64];
        size_t count = 1 + random_below(&random, line % 9 == 0 ? 700000 : 3000);
        int n = snprintf(head, sizeof head, "%d@%zu:", line, text.count);
        assert_int_equal(bytes_append(&want, head, (size_t)n), 0);
        assert_int_equal(bytes_reserve(&text, count + 1), 0);
        memset(text.items + text.count, 'a' + line % 26, count);
        assert_int_equal(bytes_append(&want, text.items + text.count, count), 0);
        assert_int_equal(bytes_append(&want, "|", 1), 0);
        text.count += count;
        assert_int_equal(bytes_append(&text, "\n", 1), 0);
    }
    spill("b.txt", text.items, text.count);
    assert_int_equal(collect(true, &got), 0);
    assert_int_equal(got.count, want.count);
    assert_memory_equal(got.items, want.items, want.count);
    size_t room = ZSTD_compressBound(text.count);
    uint8_t *packed = malloc(room);
    size_t n = ZSTD_compress(packed, room, text.items, text.count, 1);
    assert_false(ZSTD_isError(n));
    spill("b.txt.zst", packed, n);
    assert_int_equal(collect(true, &got), 0);
    assert_int_equal(got.count, want.count);
    assert_memory_equal(got.items, want.items, want.count);
    free(packed);
    bytes_free(&text);
    bytes_free(&want);
    bytes_free(&got);
}

static size_t pack(uint8_t *to, size_t room, const char *text)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    assert_non_null(context);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    size_t n = ZSTD_compress2(context, to, room, text, strlen(text));
    assert_false(ZSTD_isError(n));
    ZSTD_freeCCtx(context);
    return n;
}

static void packed_lines(void **state)
{
    (void)state;
    static const char first[] = "{\"text\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n{\"te",
                      second[] = "xt\": \"b\"}\n{}";
    static const char want[] = "1@0:{\"text\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}|2@47:{\"text\": \"b\"}|3@61:{}|";
    uint8_t bytes[512];
    size_t one = pack(bytes, sizeof bytes, first), n = one + pack(bytes + one, sizeof bytes - one, second);
    byte_list all = {0};
    spill("c.jsonl.zst", bytes, n); /* two frames, as from zstd -c a b */
    expect(false, want);
    for (size_t kept = 1; kept < n; kept++) {
        spill("c.jsonl.zst", bytes, kept);
        int code = collect(false, &all);
        assert_int_equal(code, kept == one ? CODE_GOOD : CODE_BAD_INPUT); /* between the frames nothing is missing */
    }
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        spill("c.jsonl.zst", bytes, n);
        if (collect(false, &all) == CODE_GOOD) { /* only a bit without a meaning may go unnoticed */
            assert_int_equal(all.count, strlen(want));
            assert_memory_equal(all.items, want, all.count);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    bytes_free(&all);
}

static int clean(void **state)
{
    (void)state;
    static const char *const names[] = {"a.jsonl", "a.txt", "a.csv", "b.txt", "b.txt.zst", "c.jsonl.zst"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(long_lines),
                                       cmocka_unit_test(packed_lines)};
    return cmocka_run_group_tests(tests, NULL, clean);
}
