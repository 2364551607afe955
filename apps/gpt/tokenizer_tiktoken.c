/* SPDX-License-Identifier: MIT */
/* tiktoken files (lines of base64 and rank) with the pattern and the special tokens of Llama-3; and GPT-2's pair of
 * files, vocab.json and merges.txt. */
#include "gpt/json_fields.h"
#include "gpt/tokenizer_parts.h"
#include "shared/report.h"

#include <stdio.h>
#include <string.h>

#define LLAMA3_SPECIAL 256

/* ---- base64 ---- */

static int sextet(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padded base64 of `count` characters; false if it is none. */
static bool decode64(const uint8_t *text, size_t count, byte_list *into, int *code)
{
    if (count == 0 || count % 4 != 0 || (*code = bytes_reserve(into, count / 4 * 3)))
        return false;
    size_t padding = text[count - 1] != '=' ? 0 : text[count - 2] != '=' ? 1 : 2;
    for (size_t at = 0; at < count; at += 4) {
        bool last = at + 4 == count;
        uint32_t word = 0;
        for (size_t i = 0; i < 4; i++) {
            int six = last && i >= 4 - padding ? 0 : sextet(text[at + i]);
            if (six < 0)
                return false;
            word = word << 6 | (uint32_t)six;
        }
        for (size_t i = 0; i < 3 - (last ? padding : 0); i++)
            into->items[into->count++] = (uint8_t)(word >> (16 - 8 * i));
        if (last && padding && (word & (padding == 1 ? 0xff : 0xffff)) != 0)
            return false;
    }
    return true;
}

/* ---- Llama-3's special tokens ---- */

static void llama3_name(size_t i, char name[64])
{
    static const char *const names[] = {"begin_of_text",
                                        "end_of_text",
                                        "reserved_special_token_0",
                                        "reserved_special_token_1",
                                        "finetune_right_pad_id",
                                        "step_id",
                                        "start_header_id",
                                        "end_header_id",
                                        "eom_id",
                                        "eot_id",
                                        "python_tag"};
    const size_t known = sizeof names / sizeof *names;
    if (i < known)
        snprintf(name, 64, "<|%s|>", names[i]);
    else
        snprintf(name, 64, "<|reserved_special_token_%zu|>", i - known + 2);
}

static int add_llama3_special(tokenizer *t)
{
    size_t first = t->model.words.count;
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < LLAMA3_SPECIAL; i++) {
        char name[64];
        llama3_name(i, name);
        added_token token = {.id = (int32_t)(first + i), .special = true};
        code = bytes_append(&token.text, name, strlen(name));
        code = code ? code : added_put(&t->added, token);
    }
    t->before[0] = (int32_t)first; /* <|begin_of_text|> */
    t->n_before = 1;
    return code;
}

/* ---- the file ---- */

/* "base64 rank", of `count` bytes. */
static int load_line(tokenizer *t, const uint8_t *line, size_t count, byte_list *bytes)
{
    const uint8_t *space = memchr(line, ' ', count);
    size_t length = space ? (size_t)(space - line) : 0;
    int64_t rank = 0;
    int code = CODE_GOOD;
    bytes->count = 0;
    if (!space || count - length - 1 == 0 || count - length - 1 > 8 || !decode64(line, length, bytes, &code))
        return code ? code : fail(CODE_BAD_INPUT, "it must be a token in base64, a space and its rank");
    for (const uint8_t *digit = space + 1; digit < line + count; digit++) {
        if (*digit < '0' || *digit > '9')
            return fail(CODE_BAD_INPUT, "its rank is not a whole number");
        rank = rank * 10 + (*digit - '0');
    }
    return vocabulary_add(&t->model.words, rank, bytes->items, bytes->count, true);
}

/* Every way to put a token together from two others, so that merging by pairs is merging by the rank of what is made.
 */
static int pair_merges(tokenizer *t)
{
    const vocabulary *v = &t->model.words;
    int code = CODE_GOOD;
    for (size_t id = 0; !code && id < v->count; id++) {
        size_t length = 0;
        const uint8_t *bytes = vocabulary_token(v, (int64_t)id, &length);
        for (size_t cut = 1; !code && bytes && cut < length; cut++) {
            merge m = {.left = vocabulary_find(v, bytes, cut),
                       .right = vocabulary_find(v, bytes + cut, length - cut),
                       .rank = (uint32_t)id,
                       .made = (int32_t)id};
            if (m.left >= 0 && m.right >= 0)
                code = merges_put(&t->model.merges, m);
        }
    }
    return code;
}

#define LONGEST_TOKEN 4096 /* bytes; Llama-3's longest has 128 */

int tokenizer_load_tiktoken(tokenizer *t, const char *path, const byte_list *text)
{
    byte_list bytes = {0};
    int code = CODE_GOOD;
    size_t line = 1;
    for (size_t at = 0, end; !code && at < text->count; at = end + 1, line++) {
        const uint8_t *newline = memchr(text->items + at, '\n', text->count - at);
        end = newline ? (size_t)(newline - text->items) : text->count;
        size_t count = end - at - (end > at && text->items[end - 1] == '\r');
        if (count == 0)
            continue;
        code = in_file(load_line(t, text->items + at, count, &bytes), path, "line %zu", line);
        if (!code && bytes.count > LONGEST_TOKEN)
            code = fail(CODE_BAD_INPUT, "%s: line %zu: the token has %zu bytes; at most %d are taken", path, line,
                        bytes.count, LONGEST_TOKEN);
    }
    bytes_free(&bytes);
    bpe_find_bytes(&t->model);
    for (int b = 0; !code && b < 256; b++)
        if (t->model.byte_ids[b] < 0)
            code = fail(CODE_BAD_INPUT, "%s: no token is byte 0x%02x alone; a tiktoken file has all 256", path, b);
    code = code ? code : pair_merges(t);
    code = code ? code : in_file(pretokenizer_add(&t->cuts, SPLIT_MATCHES, pattern_llama3, false), path, "pattern");
    t->model.whole_first = true;
    return code ? code : add_llama3_special(t);
}

/* ---- GPT-2's files ---- */

static int load_merge_lines(tokenizer *t, const char *path, const byte_list *text)
{
    int code = CODE_GOOD;
    size_t line = 1, rank = 0;
    for (size_t at = 0, end; !code && at < text->count; at = end + 1, line++) {
        const uint8_t *newline = memchr(text->items + at, '\n', text->count - at);
        end = newline ? (size_t)(newline - text->items) : text->count;
        const char *begin = (const char *)text->items + at;
        size_t count = end - at - (end > at && text->items[end - 1] == '\r');
        const char *space = memchr(begin, ' ', count);
        if (count == 0 || (line == 1 && count >= 8 && memcmp(begin, "#version", 8) == 0))
            continue;
        code = space ? tokenizer_add_merge(t, rank++, begin, (size_t)(space - begin), space + 1,
                                           count - (size_t)(space - begin) - 1)
                     : fail(CODE_BAD_INPUT, "it must be two tokens with a space between");
        code = in_file(code, path, "line %zu", line);
    }
    return code;
}

/* GPT-2's one special token is in its vocabulary. */
static int add_end_of_text(tokenizer *t)
{
    static const char name[] = "<|endoftext|>";
    added_token token = {.id = vocabulary_find(&t->model.words, (const uint8_t *)name, strlen(name)), .special = true};
    if (token.id < 0)
        return CODE_GOOD;
    int code = bytes_append(&token.text, name, strlen(name));
    return code ? code : added_put(&t->added, token);
}

int tokenizer_load_gpt2(tokenizer *t, const char *path, const byte_list *text, const char *merges)
{
    json_t *root, *id;
    byte_list lines;
    const char *token;
    int code = json_parse(path, text, &root);
    if (code)
        return code;
    json_object_foreach(root, token, id)
    {
        if (!code)
            code = json_is_integer(id) ? tokenizer_add_text(t, json_integer_value(id), token, strlen(token))
                                       : fail(CODE_BAD_INPUT, "the id is not a whole number");
        if (code) {
            code = in_file(code, path, "token '%.80s'", token);
            break;
        }
    }
    json_decref(root);
    if (code || (code = file_read(merges, MAX_FILE, &lines)))
        return code;
    code = load_merge_lines(t, merges, &lines);
    bytes_free(&lines);
    code = code ? code : in_file(pretokenizer_add(&t->cuts, SPLIT_ISOLATE, pattern_gpt2, true), path, "pattern");
    return code ? code : add_end_of_text(t);
}
