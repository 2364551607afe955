/* SPDX-License-Identifier: MIT */
/* Finding added tokens in text: the leftmost match, of those that begin there the longest. */
#include "gpt/tokenizer_parts.h"
#include "gpt/utf8.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

int added_put(added_tokens *added, added_token token)
{
    int code = CODE_GOOD;
    if (token.text.count == 0)
        code = fail(CODE_BAD_INPUT, "added token %d is empty", token.id);
    else if (added->count == MAX_ADDED)
        code = fail(CODE_BAD_INPUT, "there are more than %d added tokens", MAX_ADDED);
    if (!code && added->count == added->room) {
        size_t room = added->room ? 2 * added->room : 64;
        added_token *items = realloc(added->items, room * sizeof *items);
        if (items) {
            added->items = items;
            added->room = room;
        } else {
            code = fail(CODE_NO_MEMORY, "out of memory: room for %zu added tokens was needed", room);
        }
    }
    if (code) {
        bytes_free(&token.text);
        return code;
    }
    if (added->count == 0 || token.id < added->least)
        added->least = token.id;
    if (added->count == 0 || token.id > added->most)
        added->most = token.id;
    added->items[added->count++] = token;
    return CODE_GOOD;
}

static int compare(const void *left, const void *right)
{
    const added_token *a = left, *b = right;
    if (a->text.items[0] != b->text.items[0])
        return a->text.items[0] < b->text.items[0] ? -1 : 1;
    if (a->text.count != b->text.count)
        return a->text.count > b->text.count ? -1 : 1;
    return memcmp(a->text.items, b->text.items, a->text.count);
}

void added_sort(added_tokens *added)
{
    if (added->count)
        qsort(added->items, added->count, sizeof *added->items, compare);
    size_t i = 0;
    for (size_t b = 0; b < 257; b++) {
        while (i < added->count && added->items[i].text.items[0] < b)
            i++;
        added->first[b] = i;
    }
}

const added_token *added_by_id(const added_tokens *added, int32_t id)
{
    if (added->count == 0 || id < added->least || id > added->most)
        return NULL;
    for (size_t i = 0; i < added->count; i++)
        if (added->items[i].id == id)
            return &added->items[i];
    return NULL;
}

const added_token *added_by_text(const added_tokens *added, const uint8_t *text, size_t count)
{
    for (size_t i = 0; i < added->count; i++)
        if (added->items[i].text.count == count && memcmp(added->items[i].text.items, text, count) == 0)
            return &added->items[i];
    return NULL;
}

void added_free(added_tokens *added)
{
    for (size_t i = 0; i < added->count; i++)
        bytes_free(&added->items[i].text);
    free(added->items);
    *added = (added_tokens){0};
}

/* White_Space of Unicode. */
static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static size_t spaces_end(const uint8_t *text, size_t count, size_t at)
{
    size_t wrong, length;
    while (at < count && (length = utf8_sequence(text + at, count - at, &wrong)) && is_space(utf8_point(text + at)))
        at += length;
    return at;
}

static size_t spaces_begin(const uint8_t *text, size_t from, size_t at)
{
    while (at > from) {
        size_t before = at - 1;
        while (before > from && (text[before] & 0xc0) == 0x80)
            before--;
        if (!is_space(utf8_point(text + before)))
            break;
        at = before;
    }
    return at;
}

/* The longest token of this pass that begins at text[at]. */
static const added_token *match_here(const added_tokens *added, bool normalized, const uint8_t *text, size_t count)
{
    for (size_t i = added->first[text[0]]; i < added->first[text[0] + 1]; i++) {
        const added_token *token = &added->items[i];
        if (token->normalized == normalized && token->text.count <= count &&
            memcmp(token->text.items, text, token->text.count) == 0)
            return token;
    }
    return NULL;
}

added_match added_next(const added_tokens *added, int pass, bool special, const uint8_t *text, size_t count,
                       size_t from)
{
    for (size_t at = from; added->count && at < count; at++) {
        const added_token *token = match_here(added, pass == 1, text + at, count - at);
        if (!token)
            continue;
        size_t end = at + token->text.count;
        if (token->special && !special) {
            at = end - 1; /* goes on behind it, as the package does */
            continue;
        }
        return (added_match){.token = token,
                             .begin = token->left_strip ? spaces_begin(text, from, at) : at,
                             .end = token->right_strip ? spaces_end(text, count, end) : end};
    }
    return (added_match){.begin = count, .end = count};
}
