/* SPDX-License-Identifier: MIT */
/* The safetensors reader against good, malformed and mutated files, and the writer against failures. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attention_file.h"
#include "shared/safetensors.h"

#include <cmocka.h> /* last: it has a macro called fail */

/* ---- files in memory ---- */

typedef struct image {
    unsigned char bytes[1 << 16];
    size_t size;
} image;

static void build(image *f, const char *header, size_t data_bytes)
{
    size_t n = strlen(header);
    assert_true(8 + n + data_bytes <= sizeof f->bytes);
    for (int i = 0; i < 8; i++)
        f->bytes[i] = (unsigned char)(n >> 8 * i);
    memcpy(f->bytes + 8, header, n);
    for (size_t i = 0; i < data_bytes; i++)
        f->bytes[8 + n + i] = (unsigned char)(i * 7);
    f->size = 8 + n + data_bytes;
}

static int descriptor_of(const unsigned char *bytes, size_t size)
{
    int fd = memfd_create("safetensors", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, 0), size);
    return fd;
}

static int open_image(st_file *f, const image *i)
{
    return st_open_descriptor(f, descriptor_of(i->bytes, i->size), "test.safetensors");
}

/* ---- what is accepted ---- */

static void accepts(const char *header, size_t data_bytes, size_t tensors)
{
    image i;
    st_file f;
    build(&i, header, data_bytes);
    int code = open_image(&f, &i);
    if (code)
        print_error("refused: %s\n  %s\n", header, failure());
    assert_int_equal(code, CODE_GOOD);
    assert_int_equal(f.n_tensors, tensors);
    for (size_t t = 0; t < f.n_tensors; t++) {
        uint64_t bytes = f.tensors[t].end - f.tensors[t].begin;
        unsigned char *into = malloc(bytes + 1);
        assert_int_equal(st_read(&f, &f.tensors[t], into), CODE_GOOD);
        if (bytes)
            assert_memory_equal(into, i.bytes + f.data + f.tensors[t].begin, bytes);
        free(into);
    }
    st_close(&f);
}

static void good_files(void **state)
{
    (void)state;
    accepts("{}", 0, 0);
    accepts("{}      ", 0, 0);
    accepts("{ \t\n\r}", 0, 0);
    accepts("{\"__metadata__\":{}}", 0, 0);
    accepts("{\"__metadata__\":{\"a\":\"b\",\"c\":\"\"}}", 0, 0);
    accepts("{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", 24, 1);
    accepts("{\"a\":{\"data_offsets\":[0,24],\"shape\":[2,3],\"dtype\":\"F32\"}}", 24, 1);
    accepts("{\"a\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8, 1);
    accepts("{\"a\":{\"dtype\":\"BF16\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, 1);
    accepts("{\"a\":{\"dtype\":\"BF16\",\"shape\":[5,0,7],\"data_offsets\":[0,0]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}",
            3, 2);
    accepts("{\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[3,7]},"
            "\"a\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[0,3]}}",
            7, 2);
    accepts("{\"a\":{\"dtype\":\"I64\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,8]}}", 8, 1);
    accepts("{\"\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1);
}

static void decoded_strings(void **state)
{
    (void)state;
    image i;
    st_file f;
    build(&i,
          "{\"__metadata__\":{\"k\":\"\\u00e9\\uD83D\\uDE00\\n\\\"\\\\\\/\"},"
          "\"t\\u0061b\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}",
          1);
    assert_int_equal(open_image(&f, &i), CODE_GOOD);
    assert_string_equal(st_metadata(&f, "k"), "\xc3\xa9\xf0\x9f\x98\x80\n\"\\/");
    assert_non_null(st_find(&f, "tab"));
    assert_null(st_find(&f, "ta"));
    assert_null(st_metadata(&f, "K"));
    st_close(&f);
}

/* ---- what is refused: each with a word of the reason ---- */

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define A(body)                  "{\"a\":" body "}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *reason;
} bad[] = {
    {"", 0, "header length"},
    {" {}", 0, "begins with '{'"},
    {"[]", 0, "begins with '{'"},
    {"{", 0, "header length"},
    {"{ ", 0, "quotes"},
    {"{}x", 0, "only spaces"},
    {"{}\n", 0, "only spaces"},
    {"{}{}", 0, "only spaces"},
    {"{,}", 0, "quotes"},
    {"{\"a\"}", 0, "':'"},
    {"{\"a\":}", 0, "'{'"},
    {"{\"a\":1}", 0, "'{'"},
    {"{\"a\":null}", 0, "'{'"},
    {A("{}"), 0, "is empty"},
    {A("{\"dtype\":\"F32\"}"), 0, "lacks shape"},
    {A("{\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "lacks dtype"},
    {A("{\"dtype\":\"F32\",\"shape\":[1]}"), 4, "lacks data_offsets"},
    {A("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}"), 4, "unknown"},
    {A("{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "twice"},
    {A(T("F33", "[1]", "[0,4]")), 4, "dtype 'F33'"},
    {A(T("f32", "[1]", "[0,4]")), 4, "dtype 'f32'"},
    {A(T("F32", "[-1]", "[0,4]")), 4, "whole number"},
    {A(T("F32", "[1.0]", "[0,4]")), 4, "',' or ']'"},
    {A(T("F32", "[1e0]", "[0,4]")), 4, "',' or ']'"},
    {A(T("F32", "[01]", "[0,4]")), 4, "begin with 0"},
    {A(T("F32", "[1,]", "[0,4]")), 4, "whole number"},
    {A(T("F32", "[\"1\"]", "[0,4]")), 4, "whole number"},
    {A(T("F32", "1", "[0,4]")), 4, "'['"},
    {A(T("F32", "[9223372036854775808]", "[0,4]")), 4, "2^63"},
    {A(T("F32", "[99999999999999999999999]", "[0,4]")), 4, "2^63"},
    {A(T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]")), 4, "at most 8"},
    {A(T("F32", "[4294967296,4294967296,4294967296]", "[0,4]")), 4, "overflows"},
    {A(T("F64", "[2305843009213693952]", "[0,0]")), 0, "overflows"},
    {A(T("F32", "[1]", "[0]")), 4, "two numbers"},
    {A(T("F32", "[1]", "[0,4,8]")), 4, "two numbers"},
    {A(T("F32", "[1]", "[]")), 4, "two numbers"},
    {A(T("F32", "[1]", "[4,0]")), 4, "data_offsets"},
    {A(T("F32", "[1]", "[0,3]")), 3, "is 4 bytes"},
    {A(T("F32", "[2]", "[0,4]")), 4, "is 8 bytes"},
    {A(T("F32", "[1]", "[1,5]")), 5, "hole"},
    {A(T("F32", "[1]", "[0,4]")), 5, "cover 4 bytes"},
    {A(T("F32", "[1]", "[0,4]")), 3, "cover 4 bytes"},
    {A(T("F32", "[1]", "[0,4]")), 0, "cover 4 bytes"},
    {"{}", 1, "cover 0 bytes"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[3,7]") "}", 7, "overlaps"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[0,4]") "}", 4, "overlaps"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[5,9]") "}", 9, "hole"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"a\":" T("U8", "[4]", "[4,8]") "}", 8, "twice"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"\\u0061\":" T("U8", "[4]", "[4,8]") "}", 8, "twice"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") ",}", 4, "quotes"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") "", 4, "',' or '}'"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "strings"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "strings"},
    {"{\"__metadata__\":[]}", 0, "'{'"},
    {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, "twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
    {"{\"a\n\":" T("U8", "[1]", "[0,1]") "}", 1, "control"},
    {"{\"a\\u0000\":" T("U8", "[1]", "[0,1]") "}", 1, "u0000"},
    {"{\"a\\x\":" T("U8", "[1]", "[0,1]") "}", 1, "escape"},
    {"{\"a\\u12g4\":" T("U8", "[1]", "[0,1]") "}", 1, "hexadecimal"},
    {"{\"a\\ud800\":" T("U8", "[1]", "[0,1]") "}", 1, "surrogate"},
    {"{\"a\\ud800\\u0041\":" T("U8", "[1]", "[0,1]") "}", 1, "surrogate"},
    {"{\"a\\udc00\":" T("U8", "[1]", "[0,1]") "}", 1, "surrogate"},
    {"{\"\xff\":" T("U8", "[1]", "[0,1]") "}", 1, "UTF-8"},
    {"{\"\xc0\x80\":" T("U8", "[1]", "[0,1]") "}", 1, "UTF-8"},
    {"{\"\xed\xa0\x80\":" T("U8", "[1]", "[0,1]") "}", 1, "UTF-8"},
    {"{\"\xf4\x90\x80\x80\":" T("U8", "[1]", "[0,1]") "}", 1, "UTF-8"},
    {"{\"a", 0, "closing quote"},
    {"{\"a\\", 0, "escape"},
    {"{\"a\\u00", 0, "hexadecimal"},
    {"{'a':" T("U8", "[1]", "[0,1]") "}", 1, "quotes"},
    {"{\"a\":[[[[[[[[[[[[[[[[[[[[", 0, "'{'"},
    {"{\"a\":{\"shape\":[[[[[[[[[[[[[", 0, "whole number"},
};

static void bad_files(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        image i;
        st_file f;
        build(&i, bad[k].header, bad[k].data_bytes);
        failure_set("");
        int code = open_image(&f, &i);
        if (code != CODE_BAD_INPUT || !strstr(failure(), bad[k].reason) || !strstr(failure(), "test.safetensors"))
            print_error("case %zu: %s\n  code %d: %s\n  (expected: %s)\n", k, bad[k].header, code, failure(),
                        bad[k].reason);
        assert_int_equal(code, CODE_BAD_INPUT);
        assert_non_null(strstr(failure(), bad[k].reason));
        assert_non_null(strstr(failure(), "test.safetensors"));
    }
}

static void refused(const unsigned char *bytes, size_t size)
{
    st_file f;
    int code = st_open_descriptor(&f, descriptor_of(bytes, size), "test.safetensors");
    assert_int_equal(code, CODE_BAD_INPUT);
    assert_int_equal(f.fd, -1);
}

static void bad_lengths(void **state)
{
    (void)state;
    unsigned char bytes[64] = {0};
    for (size_t size = 0; size < 10; size++)
        refused(bytes, size);
    memset(bytes, 0xff, 8); /* 2^64 - 1 */
    refused(bytes, sizeof bytes);
    memcpy(bytes, "\x01\xe1\xf5\x05\0\0\0\0", 8); /* 100,000,001 */
    refused(bytes, sizeof bytes);
    memcpy(bytes, "\x39\0\0\0\0\0\0\0", 8); /* one more than there is */
    memset(bytes + 8, ' ', 56);
    bytes[8] = '{';
    bytes[9] = '}';
    refused(bytes, sizeof bytes);
    bytes[0] = 0x38;
    st_file f;
    assert_int_equal(st_open_descriptor(&f, descriptor_of(bytes, sizeof bytes), "test"), CODE_GOOD);
    st_close(&f);
}

/* ---- limits ---- */

static char *many(const char *entry, size_t count, const char *before, const char *after)
{
    size_t room = (strlen(entry) + 24) * count + strlen(before) + strlen(after) + 1, at = strlen(before);
    char *text = malloc(room);
    strcpy(text, before);
    for (size_t i = 0; i < count; i++) {
        at += (size_t)snprintf(text + at, room - at, "%s\"%zu\":", i ? "," : "", i);
        at += (size_t)snprintf(text + at, room - at, "%s", entry);
    }
    strcpy(text + at, after);
    return text;
}

static int open_header(st_file *f, const char *header)
{
    size_t n = strlen(header);
    unsigned char *bytes = malloc(8 + n);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(n >> 8 * i);
    memcpy(bytes + 8, header, n);
    int code = st_open_descriptor(f, descriptor_of(bytes, 8 + n), "test");
    free(bytes);
    return code;
}

static void caps(void **state)
{
    (void)state;
    st_file f;
    const char *empty = "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    char *header = many(empty, ST_MAX_TENSORS, "{", "}");
    assert_int_equal(open_header(&f, header), CODE_GOOD);
    assert_int_equal(f.n_tensors, ST_MAX_TENSORS);
    st_close(&f);
    free(header);
    header = many(empty, ST_MAX_TENSORS + 1, "{", "}");
    assert_int_equal(open_header(&f, header), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "more than 4096 tensors"));
    free(header);
    header = many("\"v\"", ST_MAX_PAIRS + 1, "{\"__metadata__\":{", "}}");
    assert_int_equal(open_header(&f, header), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "more than 1024 metadata keys"));
    free(header);
}

/* ---- every truncation, every changed byte ---- */

static const char small_header[] =
    "{\"__metadata__\":{\"causal\":\"1\",\"window_left\":\"2\",\"softcap\":\"0.5\",\"cu_seqlens\":\"0,1,3\"},"
    "\"q\":{\"dtype\":\"F32\",\"shape\":[1,3,2,1],\"data_offsets\":[0,24]},"
    "\"k\":{\"dtype\":\"BF16\",\"shape\":[1,3,1,1],\"data_offsets\":[24,30]},"
    "\"v\":{\"dtype\":\"F64\",\"shape\":[1,3,1,2],\"data_offsets\":[30,78]},"
    "\"\\u0064out\":{\"dtype\":\"F16\",\"shape\":[1,3,2,2],\"data_offsets\":[78,102]}}  ";

/* Accepts and reads all, or refuses with CODE_BAD_INPUT and one line. */
static bool probe(const unsigned char *bytes, size_t size)
{
    attention_file a;
    failure_set("");
    int fd = descriptor_of(bytes, size);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int code = attention_open(&a, path);
    if (code) {
        assert_int_equal(code, CODE_BAD_INPUT);
        assert_true(*failure());
        close(fd);
        return false;
    }
    for (tensor_id id = T_Q; id <= T_DOUT; id++) {
        void *data = NULL;
        if (!a.tensors[id])
            continue;
        code = attention_load(&a, id, a.problem.dtype, &data);
        assert_true(code == CODE_GOOD || code == CODE_BAD_INPUT); /* a double may be too large for a float */
        free(data);
    }
    attention_close(&a);
    close(fd);
    return true;
}

static void mutations(void **state)
{
    (void)state;
    image i, changed;
    build(&i, small_header, 102);
    assert_true(probe(i.bytes, i.size));
    size_t accepted = 0;
    for (size_t size = 0; size < i.size; size++)
        assert_false(probe(i.bytes, size));
    for (size_t extra = 1; extra < 20; extra++)
        assert_false(probe(i.bytes, i.size + extra));
    changed = i;
    for (size_t at = 0; at < i.size; at++) {
        bool data = at >= 8 + strlen(small_header);
        for (int value = 0; value < 256; value += data ? 17 : 1) { /* data bytes are not looked at */
            changed.bytes[at] = (unsigned char)value;
            accepted += probe(changed.bytes, changed.size);
        }
        changed.bytes[at] = i.bytes[at];
    }
    assert_true(accepted > i.size); /* the original, data bytes, letters of names and metadata */
}

/* ---- what is not a file, and files that change ---- */

static void not_files(void **state)
{
    char path[256];
    st_file f;
    snprintf(path, sizeof path, "%s/missing", (char *)*state);
    assert_int_equal(st_open(&f, path), CODE_MISSING);
    assert_int_equal(st_open(&f, (char *)*state), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "not a regular file"));
    assert_int_equal(st_open(&f, "/dev/zero"), CODE_BAD_INPUT);
    snprintf(path, sizeof path, "%s/fifo", (char *)*state);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(st_open(&f, path), CODE_BAD_INPUT); /* and does not wait */
    unlink(path);
}

static void cut_while_reading(void **state)
{
    (void)state;
    image i;
    st_file f;
    unsigned char into[24];
    build(&i, A(T("F32", "[2,3]", "[0,24]")), 24);
    int fd = descriptor_of(i.bytes, i.size), other = dup(fd);
    assert_int_equal(st_open_descriptor(&f, fd, "test.safetensors"), CODE_GOOD);
    assert_int_equal(ftruncate(other, (off_t)i.size - 1), 0);
    assert_int_equal(st_read(&f, st_find(&f, "a"), into), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "ends at byte"));
    st_close(&f);
    close(other);
}

/* ---- writing ---- */

static int write_example(const char *path, const double *values)
{
    st_output *o;
    int64_t shape[] = {2, 3};
    int code = st_create(&o, path);
    if (code)
        return code;
    assert_int_equal(st_declare(o, "x", ST_F64, 2, shape), CODE_GOOD);
    assert_int_equal(st_declare(o, "n\xc3\xa9\"", ST_U8, 1, (int64_t[]){5}), CODE_GOOD);
    assert_int_equal(st_describe(o, "key", "a \"quoted\"\nvalue"), CODE_GOOD);
    code = st_write(o, values, 24);
    if (!code)
        code = st_write(o, values + 3, 24);
    if (!code)
        code = st_write(o, "abcde", 5);
    if (!code)
        return st_commit(o);
    st_abandon(o);
    return code;
}

static size_t files_in(const char *folder)
{
    char command[300], text[32] = "";
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(fgets(text, sizeof text, pipe));
    pclose(pipe);
    return strtoul(text, NULL, 10);
}

static void round_trip(void **state)
{
    char path[256];
    const double values[] = {1, -2, 0.5, 1e300, -0.0, 3};
    double back[6];
    char letters[5];
    st_file f;
    struct stat status;
    snprintf(path, sizeof path, "%s/out.safetensors", (char *)*state);
    umask(022);
    assert_int_equal(write_example(path, values), CODE_GOOD);
    assert_int_equal(write_example(path, values), CODE_GOOD); /* over the first */
    assert_int_equal(files_in(*state), 1);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);
    assert_int_equal(st_open(&f, path), CODE_GOOD);
    assert_int_equal(f.data % 8, 0);
    assert_string_equal(st_metadata(&f, "key"), "a \"quoted\"\nvalue");
    assert_int_equal(st_read(&f, st_find(&f, "x"), back), CODE_GOOD);
    assert_memory_equal(back, values, sizeof values);
    assert_int_equal(st_read(&f, st_find(&f, "n\xc3\xa9\""), letters), CODE_GOOD);
    assert_memory_equal(letters, "abcde", 5);
    st_close(&f);
    unlink(path);
}

static void cannot_write(void **state)
{
    char path[256];
    double values[6] = {0};
    assert_int_equal(write_example("/nonexistent/folder/x", values), CODE_CANNOT_WRITE);
    assert_int_equal(write_example("/dev/null", values), CODE_CANNOT_WRITE);
    assert_int_equal(write_example(*state, values), CODE_CANNOT_WRITE);

    snprintf(path, sizeof path, "%s/out.safetensors", (char *)*state);
    assert_int_equal(write_example(path, values), CODE_GOOD);
    struct rlimit old, tiny;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    values[0] = 7;
    for (rlim_t limit = 0; limit < 200; limit += 10) { /* no more room, at any point of the file */
        tiny = (struct rlimit){limit, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &tiny);
        int code = write_example(path, values);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(code, CODE_CANNOT_WRITE);
        assert_int_equal(files_in(*state), 1); /* the old one; nothing half written beside it */
    }
    st_file f;
    double back[6];
    assert_int_equal(st_open(&f, path), CODE_GOOD);
    assert_int_equal(st_read(&f, st_find(&f, "x"), back), CODE_GOOD);
    assert_true(back[0] == 0);
    st_close(&f);
    unlink(path);
}

static void too_little_written(void **state)
{
    char path[256];
    st_output *o;
    snprintf(path, sizeof path, "%s/out.safetensors", (char *)*state);
    assert_int_equal(st_create(&o, path), CODE_GOOD);
    assert_int_equal(st_declare(o, "x", ST_U8, 1, (int64_t[]){5}), CODE_GOOD);
    assert_int_equal(st_write(o, "abcd", 4), CODE_GOOD);
    assert_int_equal(st_commit(o), CODE_INTERNAL);
    assert_int_equal(files_in(*state), 0);
}

/* ---- the files that oracles come in ---- */

static void oracle_files(void **state)
{
    (void)state;
    static const char *const names[] = {"mha_full",       "mha_causal",    "odd_causal",   "window_full",
                                        "softcap_causal", "window_causal", "packed_causal"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        attention_file a;
        double *lse = NULL;
        void *bf16 = NULL, *f32 = NULL;
        snprintf(path, sizeof path, "%s/attention/%s.safetensors", RINGX_TEST_DATA, names[i]);
        assert_int_equal(attention_open(&a, path), CODE_GOOD);
        assert_int_equal(a.problem.causal, strstr(names[i], "causal") != NULL);
        assert_int_equal(a.problem.documents, strcmp(names[i], "packed_causal") == 0 ? 4 : 0);
        assert_int_equal(attention_load_double(&a, T_LSE, &lse), CODE_GOOD);
        assert_int_equal(attention_load(&a, T_Q, RINGX_BF16, &bf16), CODE_GOOD);
        assert_int_equal(attention_load(&a, T_Q, RINGX_F32, &f32), CODE_GOOD);
        for (size_t k = 0; k < tensor_elements(&a.problem, T_Q); k++) /* they are representable */
            assert_true(half_to_float(RINGX_BF16, ((uint16_t *)bf16)[k]) == ((float *)f32)[k]);
        free(lse);
        free(bf16);
        free(f32);
        attention_close(&a);
    }
}

static int make_folder(void **state)
{
    static char folder[64];
    strcpy(folder, "/tmp/ringx-test-XXXXXX");
    *state = mkdtemp(folder);
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    return rmdir(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files),
        cmocka_unit_test(decoded_strings),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(bad_lengths),
        cmocka_unit_test(caps),
        cmocka_unit_test(mutations),
        cmocka_unit_test_setup_teardown(not_files, make_folder, remove_folder),
        cmocka_unit_test(cut_while_reading),
        cmocka_unit_test_setup_teardown(round_trip, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(cannot_write, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(too_little_written, make_folder, remove_folder),
        cmocka_unit_test(oracle_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
