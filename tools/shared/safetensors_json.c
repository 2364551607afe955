/* SPDX-License-Identifier: MIT */
/* The JSON of a safetensors header: only what the format uses, in one pass, strings decoded in place.
 *
 *     { "__metadata__": { "key": "value", … }, "name": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] }, …
 * }
 *
 * Everything is checked as it is met; nesting is fixed by this grammar, and recursion does not occur. */
#include "shared/safetensors.h"
#include "shared/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cursor {
    st_file *file;
    char *begin, *at, *end; /* *end is 0 */
} cursor;

static int wrong(const cursor *c, const char *at, const char *what)
{
    unsigned char found = (unsigned char)*at;
    char text[16] = "the end";
    if (at < c->end)
        snprintf(text, sizeof text, found > 32 && found < 127 ? "'%c'" : "byte 0x%02x", found);
    return fail(CODE_BAD_INPUT, "%s: header byte %lld: %s, found %s", c->file->path, (long long)(at - c->begin), what,
                text);
}

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static int expect(cursor *c, char symbol, const char *what)
{
    skip_space(c);
    if (c->at == c->end || *c->at != symbol)
        return wrong(c, c->at, what);
    c->at++;
    return CODE_GOOD;
}

static bool next_is(cursor *c, char symbol)
{
    skip_space(c);
    if (c->at == c->end || *c->at != symbol)
        return false;
    c->at++;
    return true;
}

/* ---- strings ---- */

static int hex4(const cursor *c, const char *at, unsigned *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        char h = at + i < c->end ? at[i] : '\0';
        unsigned digit = h >= '0' && h <= '9'   ? (unsigned)(h - '0')
                         : h >= 'a' && h <= 'f' ? (unsigned)(h - 'a') + 10
                         : h >= 'A' && h <= 'F' ? (unsigned)(h - 'A') + 10
                                                : 16;
        if (digit == 16)
            return wrong(c, at + i, "\\u needs four hexadecimal digits");
        *value = *value << 4 | digit;
    }
    return CODE_GOOD;
}

static char *put_utf8(char *to, unsigned point)
{
    if (point < 0x80) {
        *to++ = (char)point;
    } else if (point < 0x800) {
        *to++ = (char)(0xc0 | point >> 6);
        *to++ = (char)(0x80 | (point & 63));
    } else if (point < 0x10000) {
        *to++ = (char)(0xe0 | point >> 12);
        *to++ = (char)(0x80 | (point >> 6 & 63));
        *to++ = (char)(0x80 | (point & 63));
    } else {
        *to++ = (char)(0xf0 | point >> 18);
        *to++ = (char)(0x80 | (point >> 12 & 63));
        *to++ = (char)(0x80 | (point >> 6 & 63));
        *to++ = (char)(0x80 | (point & 63));
    }
    return to;
}

/* At a backslash; the decoded form is never longer than the escape. */
static int unescape(cursor *c, char **to)
{
    static const char plain[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    char kind = c->at + 1 < c->end ? c->at[1] : '\0';
    const char *known = kind ? strchr(plain, kind) : NULL;
    if (known) {
        *(*to)++ = means[known - plain];
        c->at += 2;
        return CODE_GOOD;
    }
    unsigned point, low;
    if (kind != 'u')
        return wrong(c, c->at + 1, "unknown escape");
    int code = hex4(c, c->at + 2, &point);
    if (code)
        return code;
    char *after = c->at + 6;
    if (point >= 0xd800 && point < 0xdc00) {
        if (c->end - after < 6 || after[0] != '\\' || after[1] != 'u')
            return wrong(c, after, "a high surrogate needs a low one after it");
        if ((code = hex4(c, after + 2, &low)))
            return code;
        if (low < 0xdc00 || low > 0xdfff)
            return wrong(c, after, "a high surrogate needs a low one after it");
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        after += 6;
    } else if (point >= 0xdc00 && point < 0xe000) {
        return wrong(c, c->at, "a low surrogate stands alone");
    }
    if (point == 0)
        return wrong(c, c->at, "a string must not contain \\u0000");
    *to = put_utf8(*to, point);
    c->at = after;
    return CODE_GOOD;
}

/* Length of the well-formed UTF-8 sequence at `at`, 0 if it is none. */
static int utf8_length(const cursor *c, const char *at)
{
    const unsigned char *s = (const unsigned char *)at;
    long left = c->end - at;
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : s[0] >= 0xe0 && s[0] <= 0xef ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool beyond = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || beyond ? 0 : n;
}

static int read_string(cursor *c, const char **string, const char *what)
{
    int code = expect(c, '"', what);
    if (code)
        return code;
    char *to = c->at;
    *string = to;
    while (c->at < c->end && *c->at != '"') {
        if (*c->at == '\\') {
            if ((code = unescape(c, &to)))
                return code;
            continue;
        }
        if ((unsigned char)*c->at < 32)
            return wrong(c, c->at, "a string must not contain control characters");
        int n = utf8_length(c, c->at);
        if (n == 0)
            return wrong(c, c->at, "a string must be UTF-8");
        memmove(to, c->at, (size_t)n);
        to += n;
        c->at += n;
    }
    if (c->at == c->end)
        return wrong(c, c->at, "a string has no closing quote");
    *to = '\0'; /* at or before the closing quote */
    c->at++;
    return CODE_GOOD;
}

/* ---- numbers ---- */

static int read_number(cursor *c, uint64_t *value, const char *what)
{
    skip_space(c);
    const char *first = c->at;
    *value = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        uint64_t digit = (uint64_t)(*c->at - '0');
        if (*value > ((uint64_t)INT64_MAX - digit) / 10)
            return wrong(c, first, "a number must be below 2^63");
        *value = *value * 10 + digit;
        c->at++;
    }
    if (c->at == first)
        return wrong(c, first, what);
    if (*first == '0' && c->at > first + 1)
        return wrong(c, first, "a number must not begin with 0");
    return CODE_GOOD;
}

/* [a, b, …] of at most `most` numbers. */
static int read_numbers(cursor *c, uint64_t *values, int most, int *count, const char *what)
{
    int code = expect(c, '[', what);
    *count = 0;
    if (code || next_is(c, ']'))
        return code;
    do {
        if (*count == most)
            return wrong(c, c->at, most == 2 ? "data_offsets must be two numbers" : "a shape has at most 8 sizes");
        if ((code = read_number(c, &values[*count], "expected a whole number >= 0")))
            return code;
        ++*count;
    } while (next_is(c, ','));
    return expect(c, ']', "expected ',' or ']'");
}

/* ---- entries ---- */

static int read_dtype(cursor *c, st_tensor *t)
{
    const char *name;
    int code = read_string(c, &name, "expected a dtype in quotes");
    for (int i = 0; i < ST_DTYPES && !code; i++) {
        if (strcmp(st_dtype_names[i], name) == 0) {
            t->dtype = (st_dtype)i;
            return CODE_GOOD;
        }
    }
    return code ? code
                : fail(CODE_BAD_INPUT,
                       "%s: tensor '%.200s': dtype '%.40s' is unknown; it must be F64, F32, BF16, F16, "
                       "I64 … BOOL",
                       c->file->path, t->name, name);
}

static int read_field(cursor *c, st_tensor *t, const char *key, unsigned *seen)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    uint64_t numbers[ST_MAX_RANK] = {0};
    int which = 0, count = 0;
    while (which < 3 && strcmp(fields[which], key) != 0)
        which++;
    if (which == 3)
        return fail(CODE_BAD_INPUT,
                    "%s: tensor '%.200s': field '%.40s' is unknown; there are dtype, shape, data_offsets",
                    c->file->path, t->name, key);
    if (*seen & 1u << which)
        return fail(CODE_BAD_INPUT, "%s: tensor '%.200s': field '%s' is there twice", c->file->path, t->name, key);
    *seen |= 1u << which;
    if (which == 0)
        return read_dtype(c, t);
    int code = read_numbers(c, numbers, which == 1 ? ST_MAX_RANK : 2, &count, "expected '['");
    if (code)
        return code;
    if (which == 1) {
        t->rank = count;
        for (int i = 0; i < count; i++)
            t->shape[i] = (int64_t)numbers[i];
        return CODE_GOOD;
    }
    if (count != 2)
        return wrong(c, c->at - 1, "data_offsets must be two numbers");
    t->begin = numbers[0];
    t->end = numbers[1];
    return CODE_GOOD;
}

static int read_tensor(cursor *c, st_tensor *t)
{
    unsigned seen = 0;
    int code = expect(c, '{', "expected '{' after a tensor's name");
    if (code || next_is(c, '}'))
        return code ? code : fail(CODE_BAD_INPUT, "%s: tensor '%.200s' is empty", c->file->path, t->name);
    do {
        const char *key;
        if ((code = read_string(c, &key, "expected a field name in quotes")) ||
            (code = expect(c, ':', "expected ':'")) || (code = read_field(c, t, key, &seen)))
            return code;
    } while (next_is(c, ','));
    if ((code = expect(c, '}', "expected ',' or '}'")))
        return code;
    if (seen != 7)
        return fail(CODE_BAD_INPUT, "%s: tensor '%.200s' lacks %s", c->file->path, t->name,
                    !(seen & 1)   ? "dtype"
                    : !(seen & 2) ? "shape"
                                  : "data_offsets");
    return CODE_GOOD;
}

/* Room for one more item, doubled up to `most`. */
static int make_room(cursor *c, void **items, size_t used, size_t item_bytes, size_t most, const char *what)
{
    if (used == most)
        return fail(CODE_BAD_INPUT, "%s: more than %zu %s", c->file->path, most, what);
    if (used && (used & (used - 1)))
        return CODE_GOOD;
    size_t room = used ? 2 * used : 1;
    void *larger = realloc(*items, room * item_bytes);
    if (!larger)
        return fail(CODE_NO_MEMORY, "%s: no memory for %zu %s", c->file->path, room, what);
    *items = larger;
    return CODE_GOOD;
}

static int read_metadata(cursor *c)
{
    st_file *f = c->file;
    int code = expect(c, '{', "expected '{' after \"__metadata__\"");
    if (code || next_is(c, '}'))
        return code;
    do {
        void *items = f->pairs;
        if ((code = make_room(c, &items, f->n_pairs, sizeof *f->pairs, ST_MAX_PAIRS, "metadata keys")))
            return code;
        f->pairs = items;
        st_pair *pair = &f->pairs[f->n_pairs];
        if ((code = read_string(c, &pair->key, "expected a metadata key in quotes")) ||
            (code = expect(c, ':', "expected ':'")) ||
            (code = read_string(c, &pair->value, "metadata values must be strings")))
            return code;
        f->n_pairs++;
    } while (next_is(c, ','));
    return expect(c, '}', "expected ',' or '}'");
}

static int read_entry(cursor *c, bool *metadata)
{
    st_file *f = c->file;
    const char *name;
    int code = read_string(c, &name, "expected a tensor's name in quotes");
    if (code || (code = expect(c, ':', "expected ':'")))
        return code;
    if (strcmp(name, "__metadata__") == 0) {
        if (*metadata)
            return fail(CODE_BAD_INPUT, "%s: \"__metadata__\" is there twice", f->path);
        *metadata = true;
        return read_metadata(c);
    }
    void *items = f->tensors;
    if ((code = make_room(c, &items, f->n_tensors, sizeof *f->tensors, ST_MAX_TENSORS, "tensors")))
        return code;
    f->tensors = items;
    f->tensors[f->n_tensors] = (st_tensor){.name = name};
    if ((code = read_tensor(c, &f->tensors[f->n_tensors])))
        return code;
    f->n_tensors++;
    return CODE_GOOD;
}

int st_parse_header(st_file *f, uint64_t n)
{
    cursor c = {.file = f, .begin = f->header, .at = f->header, .end = f->header + n};
    bool metadata = false;
    if (*c.at != '{')
        return wrong(&c, c.at, "a header begins with '{'");
    c.at++;
    if (!next_is(&c, '}')) {
        do {
            int code = read_entry(&c, &metadata);
            if (code)
                return code;
        } while (next_is(&c, ','));
        int code = expect(&c, '}', "expected ',' or '}'");
        if (code)
            return code;
    }
    while (c.at < c.end && *c.at == ' ')
        c.at++;
    return c.at == c.end ? CODE_GOOD : wrong(&c, c.at, "only spaces may follow the header");
}
