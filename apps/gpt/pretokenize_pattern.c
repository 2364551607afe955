/* SPDX-License-Identifier: MIT */
/* Patterns as `tokenizers` (Oniguruma) and `tiktoken` (Rust) read them, rewritten for PCRE2: \s, \p{L} and \p{N} become
 * explicit where PCRE2 differs.  PCRE2 10.42 knows the letters of Unicode 14 and takes U+180E for a space; the packages
 * know Unicode 16. */
#include "gpt/pretokenize.h"
#include "shared/report.h"

#include <string.h>

const char pattern_gpt2[] = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char pattern_llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                              " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* What Unicode 15 and 16 added. */
static const char more_letters[] =
    "\\x{1c89}\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d65}"
    "\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}"
    "\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}"
    "\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}"
    "\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}"
    "\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}";
static const char more_numbers[] =
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}"
    "\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}";
/* White_Space, and everything else. */
static const char spaces[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
                             "\\x{205f}\\x{3000}";
static const char non_spaces[] = "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}"
                                 "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}"
                                 "\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";

typedef struct replacement {
    const char *from, *outside, *inside; /* of a class; more follows inside of the brackets */
    const char *more;
} replacement;

static const replacement replacements[] = {
    {"\\s", "[", "", spaces},
    {"\\S", "[", "", non_spaces},
    {"\\p{L}", "[\\p{L}", "\\p{L}", more_letters},
    {"\\pL", "[\\p{L}", "\\p{L}", more_letters},
    {"\\p{Letter}", "[\\p{L}", "\\p{L}", more_letters},
    {"\\p{N}", "[\\p{N}", "\\p{N}", more_numbers},
    {"\\pN", "[\\p{N}", "\\p{N}", more_numbers},
    {"\\p{Number}", "[\\p{N}", "\\p{N}", more_numbers},
};

static int put(byte_list *into, const char *text)
{
    return bytes_append(into, text, strlen(text));
}

static int wrong(const char *pattern, const char *at, const char *what)
{
    return fail(CODE_BAD_INPUT, "pattern, byte %lld: %s, found '%.8s'", (long long)(at - pattern), what, at);
}

/* At a backslash: copies or replaces what it begins, and moves past it. */
static int escape(const char *pattern, const char **at, bool in_class, byte_list *into)
{
    if ((*at)[1] == '\0')
        return wrong(pattern, *at, "nothing follows the backslash");
    if (strchr("hHkKgGCXRuU", (*at)[1]))
        return wrong(pattern, *at, "this escape means different things to different engines");
    for (size_t i = 0; i < sizeof replacements / sizeof *replacements; i++) {
        const replacement *r = &replacements[i];
        if (strncmp(*at, r->from, strlen(r->from)) != 0)
            continue;
        int code = put(into, in_class ? r->inside : r->outside);
        code = code ? code : put(into, r->more);
        *at += strlen(r->from);
        return code || in_class ? code : put(into, "]");
    }
    *at += 2;
    return bytes_append(into, *at - 2, 2);
}

int pattern_translate(const char *pattern, byte_list *into)
{
    bool in_class = false;
    int code = CODE_GOOD;
    for (const char *at = pattern; !code && *at;) {
        if (*at == '\\') {
            code = escape(pattern, &at, in_class, into);
            continue;
        }
        if (in_class && (*at == '[' || strncmp(at, "&&", 2) == 0))
            return wrong(pattern, at, "classes inside classes are not offered");
        if (!in_class && strncmp(at, "}+", 2) == 0)
            return wrong(pattern, at, "'+' after a counted repetition means different things to different engines");
        bool opens = !in_class && *at == '[';
        if (in_class && *at == ']')
            in_class = false;
        code = bytes_append(into, at++, 1);
        if (opens) { /* a ] that comes first is a character of the class */
            in_class = true;
            for (int i = 0; i < 2 && !code && (*at == (i ? ']' : '^')); i++)
                code = bytes_append(into, at++, 1);
        }
    }
    return code ? code : (code = bytes_append(into, "", 1)) ? code : (into->count--, CODE_GOOD);
}
