/* SPDX-License-Identifier: MIT */
/* Merging: short pieces by scanning for the least rank, long ones with a heap of candidates over a linked list. */
#include "gpt/bpe.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

#define SHORT 48 /* bytes up to which scanning costs less than a heap */

void bpe_find_bytes(bpe_model *model)
{
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        model->byte_ids[b] = vocabulary_find(&model->words, &byte, 1);
    }
}

void bpe_free(bpe_model *model)
{
    vocabulary_free(&model->words);
    merges_free(&model->merges);
}

void bpe_scratch_free(bpe_scratch *scratch)
{
    free(scratch->links);
    free(scratch->heap);
    *scratch = (bpe_scratch){0};
}

static int no_token(uint8_t byte)
{
    return fail(CODE_BAD_INPUT, "byte 0x%02x of the text is no token of the vocabulary, and in none alone", byte);
}

/* ---- short pieces ---- */

static int merge_short(const bpe_model *model, const uint8_t *bytes, size_t count, id_list *into)
{
    int32_t ids[SHORT];
    const merge *pairs[SHORT]; /* of ids i and i+1 */
    for (size_t i = 0; i < count; i++)
        if ((ids[i] = model->byte_ids[bytes[i]]) < 0)
            return no_token(bytes[i]);
    for (size_t i = 0; i + 1 < count; i++)
        pairs[i] = merges_find(&model->merges, ids[i], ids[i + 1]);
    while (count > 1) {
        size_t best = count;
        for (size_t i = 0; i + 1 < count; i++)
            if (pairs[i] && (best == count || pairs[i]->rank < pairs[best]->rank))
                best = i;
        if (best == count)
            break;
        ids[best] = pairs[best]->made;
        count--;
        for (size_t i = best + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            pairs[i - 1] = pairs[i];
        }
        if (best > 0)
            pairs[best - 1] = merges_find(&model->merges, ids[best - 1], ids[best]);
        if (best + 1 < count)
            pairs[best] = merges_find(&model->merges, ids[best], ids[best + 1]);
    }
    int code = ids_reserve(into, count);
    if (!code) {
        memcpy(into->items + into->count, ids, count * sizeof *ids);
        into->count += count;
    }
    return code;
}

/* ---- long pieces ---- */

static bool earlier(const bpe_candidate *a, const bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(bpe_scratch *s, bpe_candidate candidate)
{
    size_t at = s->heap_count++;
    while (at > 0 && earlier(&candidate, &s->heap[(at - 1) / 2])) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = candidate;
}

static bpe_candidate heap_pop(bpe_scratch *s)
{
    bpe_candidate top = s->heap[0], last = s->heap[--s->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < s->heap_count && earlier(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (child >= s->heap_count || !earlier(&s->heap[child], &last))
            break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return top;
}

/* Queues the pair that begins at link `at`, if it merges. */
static void consider(const bpe_model *model, bpe_scratch *s, int32_t at)
{
    if (at < 0 || s->links[at].after < 0)
        return;
    const merge *m = merges_find(&model->merges, s->links[at].id, s->links[s->links[at].after].id);
    if (m)
        heap_push(s, (bpe_candidate){.rank = m->rank, .at = at, .left = m->left, .right = m->right, .made = m->made});
}

/* Every merge takes one candidate and queues at most two: 3·count is room for all. */
static int long_room(bpe_scratch *s, size_t count)
{
    if (count > INT32_MAX / 4)
        return fail(CODE_BAD_INPUT, "a piece of %zu bytes without a place to split it is too long; at most %d", count,
                    INT32_MAX / 4);
    if (s->links_room < count) {
        bpe_scratch_free(s);
        s->links = allocate(count * sizeof *s->links);
        s->heap = allocate(3 * count * sizeof *s->heap);
        if (!s->links || !s->heap)
            return CODE_NO_MEMORY;
        s->links_room = count;
        s->heap_room = 3 * count;
    }
    s->heap_count = 0;
    return CODE_GOOD;
}

static int merge_long(const bpe_model *model, bpe_scratch *s, const uint8_t *bytes, size_t count, id_list *into)
{
    int code = long_room(s, count);
    if (code)
        return code;
    int32_t last = (int32_t)count - 1;
    for (int32_t i = 0; i <= last; i++) {
        s->links[i] = (bpe_link){.id = model->byte_ids[bytes[i]], .before = i - 1, .after = i < last ? i + 1 : -1};
        if (s->links[i].id < 0)
            return no_token(bytes[i]);
    }
    for (int32_t i = 0; i < last; i++)
        consider(model, s, i);
    while (s->heap_count) {
        bpe_candidate best = heap_pop(s);
        bpe_link *left = &s->links[best.at];
        if (left->id != best.left || left->after < 0 || s->links[left->after].id != best.right)
            continue; /* one of the two has been merged since */
        bpe_link *right = &s->links[left->after];
        left->id = best.made;
        left->after = right->after;
        if (right->after >= 0)
            s->links[right->after].before = best.at;
        right->id = -1;
        consider(model, s, left->before);
        consider(model, s, best.at);
    }
    for (int32_t i = 0; !code && i >= 0; i = s->links[i].after)
        code = ids_append(into, s->links[i].id);
    return code;
}

int bpe_piece(const bpe_model *model, bpe_scratch *scratch, const uint8_t *bytes, size_t count, id_list *into)
{
    if (count == 0)
        return CODE_GOOD;
    int32_t whole = model->whole_first ? vocabulary_find(&model->words, bytes, count) : -1;
    if (whole >= 0)
        return ids_append(into, whole);
    return count <= SHORT ? merge_short(model, bytes, count, into) : merge_long(model, scratch, bytes, count, into);
}
