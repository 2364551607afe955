/* SPDX-License-Identifier: MIT */
/* Tokens and merges in tables with open addressing, at most half full. */
#include "gpt/vocabulary.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

uint64_t hash_word(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

uint64_t hash_bytes(const uint8_t *bytes, size_t length)
{
    uint64_t hash = hash_word(length);
    for (; length >= 8; bytes += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        hash = hash_word(hash ^ word);
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < length; i++)
        rest |= (uint64_t)bytes[i] << 8 * i;
    return hash_word(hash ^ rest);
}

/* ---- tokens ---- */

const uint8_t *vocabulary_token(const vocabulary *v, int64_t id, size_t *length)
{
    if (id < 0 || (uint64_t)id >= v->count || v->tokens[id].length == 0)
        return NULL;
    *length = v->tokens[id].length;
    return v->bytes.items + v->tokens[id].at;
}

/* The slot of these bytes, or the free one where they would go. */
static size_t find_slot(const vocabulary *v, const uint8_t *bytes, size_t length)
{
    size_t slot = hash_bytes(bytes, length) & (v->n_slots - 1);
    for (; v->slots[slot] >= 0; slot = (slot + 1) & (v->n_slots - 1)) {
        const token_bytes *token = &v->tokens[v->slots[slot]];
        if (token->length == length && memcmp(v->bytes.items + token->at, bytes, length) == 0)
            break;
    }
    return slot;
}

static int more_slots(vocabulary *v)
{
    vocabulary larger = *v;
    larger.n_slots = v->n_slots ? 2 * v->n_slots : 1024;
    larger.slots = allocate(larger.n_slots * sizeof *larger.slots);
    if (!larger.slots)
        return CODE_NO_MEMORY;
    memset(larger.slots, 0xff, larger.n_slots * sizeof *larger.slots);
    for (size_t i = 0; i < v->n_slots; i++) {
        if (v->slots[i] < 0)
            continue;
        const token_bytes *token = &v->tokens[v->slots[i]];
        larger.slots[find_slot(&larger, v->bytes.items + token->at, token->length)] = v->slots[i];
    }
    free(v->slots);
    *v = larger;
    return CODE_GOOD;
}

static int more_ids(vocabulary *v, size_t id)
{
    if (id >= v->room) {
        size_t room = id < 512 ? 1024 : 2 * id;
        token_bytes *tokens = realloc(v->tokens, room * sizeof *tokens);
        if (!tokens)
            return fail(CODE_NO_MEMORY, "out of memory: room for %zu tokens was needed", room);
        memset(tokens + v->room, 0, (room - v->room) * sizeof *tokens);
        v->tokens = tokens;
        v->room = room;
    }
    if (id >= v->count)
        v->count = id + 1;
    return CODE_GOOD;
}

int vocabulary_add(vocabulary *v, int64_t id, const uint8_t *bytes, size_t length, bool byte_level)
{
    if (id < 0 || (uint64_t)id >= MAX_TOKENS)
        return fail(CODE_BAD_INPUT, "token id %lld is out of range; ids must be 0 … %zu", (long long)id,
                    MAX_TOKENS - 1);
    if (length == 0 || length > UINT32_MAX)
        return fail(CODE_BAD_INPUT, "token %lld has %zu bytes; it must have at least one", (long long)id, length);
    size_t taken;
    if (vocabulary_token(v, id, &taken))
        return fail(CODE_BAD_INPUT, "token id %lld is given twice", (long long)id);
    int32_t twin = byte_level ? vocabulary_find(v, bytes, length) : -1;
    if (twin >= 0)
        return fail(CODE_BAD_INPUT, "tokens %d and %lld have the same bytes", twin, (long long)id);
    int code = more_ids(v, (size_t)id);
    if (!code && byte_level && 2 * v->used >= v->n_slots)
        code = more_slots(v);
    token_bytes token = {.at = v->bytes.count, .length = (uint32_t)length, .byte_level = byte_level};
    if (!code)
        code = bytes_append(&v->bytes, bytes, length);
    if (code)
        return code;
    v->tokens[id] = token;
    if (byte_level) {
        v->slots[find_slot(v, v->bytes.items + token.at, length)] = (int32_t)id;
        v->used++;
    }
    return CODE_GOOD;
}

int32_t vocabulary_find(const vocabulary *v, const uint8_t *bytes, size_t length)
{
    return v->n_slots ? v->slots[find_slot(v, bytes, length)] : -1;
}

void vocabulary_free(vocabulary *v)
{
    bytes_free(&v->bytes);
    free(v->tokens);
    free(v->slots);
    *v = (vocabulary){0};
}

/* ---- pairs ---- */

static merge *merge_slot(const merge_table *table, int32_t left, int32_t right)
{
    size_t slot = hash_word((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & (table->n_slots - 1);
    while (table->slots[slot].left >= 0 && (table->slots[slot].left != left || table->slots[slot].right != right))
        slot = (slot + 1) & (table->n_slots - 1);
    return &table->slots[slot];
}

static int more_merges(merge_table *table)
{
    merge_table larger = {.n_slots = table->n_slots ? 2 * table->n_slots : 1024, .used = table->used};
    larger.slots = allocate(larger.n_slots * sizeof *larger.slots);
    if (!larger.slots)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < larger.n_slots; i++)
        larger.slots[i].left = -1;
    for (size_t i = 0; i < table->n_slots; i++)
        if (table->slots[i].left >= 0)
            *merge_slot(&larger, table->slots[i].left, table->slots[i].right) = table->slots[i];
    free(table->slots);
    *table = larger;
    return CODE_GOOD;
}

int merges_put(merge_table *table, merge entry)
{
    int code = 2 * table->used >= table->n_slots ? more_merges(table) : CODE_GOOD;
    if (code)
        return code;
    merge *slot = merge_slot(table, entry.left, entry.right);
    table->used += slot->left < 0;
    *slot = entry;
    return CODE_GOOD;
}

const merge *merges_find(const merge_table *table, int32_t left, int32_t right)
{
    if (table->n_slots == 0)
        return NULL;
    const merge *slot = merge_slot(table, left, right);
    return slot->left < 0 ? NULL : slot;
}

void merges_free(merge_table *table)
{
    free(table->slots);
    *table = (merge_table){0};
}
