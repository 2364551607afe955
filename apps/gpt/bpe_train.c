/* SPDX-License-Identifier: MIT */
/* Merging: counts of pairs are kept up to date in the words that a merge touches; a heap gives the most frequent. */
#include "gpt/bpe_train.h"
#include "gpt/byte_alphabet.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

typedef struct pair {
    int32_t left, right;
    int64_t count;
    uint32_t *where; /* words it is, or was, in */
    size_t n_where, room;
    bool merged, touched;
} pair;

typedef struct queued {
    int64_t count;
    uint32_t pair;
} queued;

typedef struct training {
    const word_counts *words;
    bpe_trained *made;
    int32_t *symbols; /* of all words, each at the place of its bytes */
    uint32_t *lengths;
    pair *pairs;
    size_t n_pairs, pairs_room;
    merge_table index; /* (left, right) → pair, as its rank */
    queued *heap;
    size_t n_heap, heap_room;
    uint32_t *touched; /* pairs that have become more frequent in this round */
    size_t n_touched, touched_room;
} training;

static int room_for(void *list, size_t *room, size_t count, size_t size)
{
    void **items = list;
    if (count < *room)
        return CODE_GOOD;
    size_t next = *room ? 2 * *room : 8;
    void *memory = realloc(*items, next * size);
    if (!memory)
        return fail(CODE_NO_MEMORY, "out of memory: %zu bytes were needed", next * size);
    *items = memory;
    *room = next;
    return CODE_GOOD;
}

/* ---- the heap: most frequent first, then lower ids ---- */

static bool before(const training *t, queued a, queued b)
{
    const pair *p = &t->pairs[a.pair], *q = &t->pairs[b.pair];
    if (a.count != b.count)
        return a.count > b.count;
    return p->left != q->left ? p->left < q->left : p->right < q->right;
}

static int push(training *t, queued item)
{
    int code = room_for(&t->heap, &t->heap_room, t->n_heap, sizeof *t->heap);
    if (code)
        return code;
    size_t at = t->n_heap++;
    for (; at > 0 && before(t, item, t->heap[(at - 1) / 2]); at = (at - 1) / 2)
        t->heap[at] = t->heap[(at - 1) / 2];
    t->heap[at] = item;
    return CODE_GOOD;
}

static queued pop(training *t)
{
    queued top = t->heap[0], last = t->heap[--t->n_heap];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < t->n_heap; at = child) {
        if (child + 1 < t->n_heap && before(t, t->heap[child + 1], t->heap[child]))
            child++;
        if (!before(t, t->heap[child], last))
            break;
        t->heap[at] = t->heap[child];
    }
    t->heap[at] = last;
    return top;
}

/* ---- pairs ---- */

static int find_pair(training *t, int32_t left, int32_t right, uint32_t *index)
{
    const merge *known = merges_find(&t->index, left, right);
    if (known) {
        *index = known->rank;
        return CODE_GOOD;
    }
    int code = room_for(&t->pairs, &t->pairs_room, t->n_pairs, sizeof *t->pairs);
    if (code)
        return code;
    *index = (uint32_t)t->n_pairs;
    t->pairs[t->n_pairs++] = (pair){.left = left, .right = right};
    return merges_put(&t->index, (merge){.left = left, .right = right, .rank = *index});
}

/* The pair occurs `count` times more (or less) in this word. */
static int change(training *t, int32_t left, int32_t right, int64_t count, uint32_t in)
{
    uint32_t index = 0;
    int code = find_pair(t, left, right, &index);
    if (code)
        return code;
    pair *p = &t->pairs[index];
    p->count += count;
    if (count < 0)
        return CODE_GOOD;
    if (!p->touched) {
        if ((code = room_for(&t->touched, &t->touched_room, t->n_touched, sizeof *t->touched)))
            return code;
        t->touched[t->n_touched++] = index;
        p->touched = true;
    }
    if (p->n_where && p->where[p->n_where - 1] == in)
        return CODE_GOOD;
    code = room_for(&p->where, &p->room, p->n_where, sizeof *p->where);
    if (!code)
        p->where[p->n_where++] = in;
    return code;
}

static int queue_touched(training *t)
{
    int code = CODE_GOOD;
    for (size_t i = 0; i < t->n_touched; i++) {
        pair *p = &t->pairs[t->touched[i]];
        p->touched = false;
        if (!code && p->count > 0)
            code = push(t, (queued){.count = p->count, .pair = t->touched[i]});
    }
    t->n_touched = 0;
    return code;
}

/* Merges (left, right) to `made` in one word, from the left. */
static int merge_word(training *t, uint32_t in, int32_t left, int32_t right, int32_t made)
{
    int32_t *s = t->symbols + t->words->words[in].at;
    int64_t times = t->words->words[in].count;
    size_t length = t->lengths[in], kept = 0;
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < length; i++) {
        if (s[i] != left || i + 1 == length || s[i + 1] != right) {
            s[kept++] = s[i];
            continue;
        }
        if (kept > 0) {
            code = change(t, s[kept - 1], left, -times, in);
            code = code ? code : change(t, s[kept - 1], made, times, in);
        }
        if (!code && i + 2 < length) {
            code = change(t, right, s[i + 2], -times, in);
            code = code ? code : change(t, made, s[i + 2], times, in);
        }
        s[kept++] = made;
        i++;
    }
    if (!code)
        t->lengths[in] = (uint32_t)kept;
    return code;
}

/* ---- training ---- */

static int begin_words(training *t, const bpe_plan *plan)
{
    int32_t ids[256];
    vocabulary *v = &t->made->words;
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < plan->n_special; i++)
        code = vocabulary_add(v, (int64_t)i, (const uint8_t *)plan->special[i], strlen(plan->special[i]), false);
    for (uint32_t point = 0x21, id = (uint32_t)plan->n_special; !code && point <= 0x143; point++) {
        int b = point_to_byte(point);
        uint8_t byte = (uint8_t)b;
        if (b < 0)
            continue;
        ids[b] = (int32_t)id;
        code = vocabulary_add(v, id++, &byte, 1, true);
    }
    for (uint32_t w = 0; !code && w < t->words->count; w++) {
        const word *from = &t->words->words[w];
        t->lengths[w] = from->length;
        for (size_t i = 0; i < from->length; i++)
            t->symbols[from->at + i] = ids[t->words->bytes.items[from->at + i]];
        for (size_t i = 0; !code && i + 1 < from->length; i++)
            code = change(t, t->symbols[from->at + i], t->symbols[from->at + i + 1], from->count, w);
    }
    return code ? code : queue_touched(t);
}

/* The token of a pair: a new one, or one that has the same bytes already. */
static int make_token(training *t, const pair *p, int32_t *made)
{
    vocabulary *v = &t->made->words;
    size_t left, right;
    const uint8_t *a = vocabulary_token(v, p->left, &left), *b = vocabulary_token(v, p->right, &right);
    byte_list both = {0};
    int code = bytes_append(&both, a, left);
    code = code ? code : bytes_append(&both, b, right);
    *made = code ? -1 : vocabulary_find(v, both.items, both.count);
    if (!code && *made < 0) {
        *made = (int32_t)v->count;
        code = vocabulary_add(v, *made, both.items, both.count, true);
    }
    bytes_free(&both);
    return code;
}

static int merge_pair(training *t, uint32_t index)
{
    pair *p = &t->pairs[index];
    int32_t left = p->left, right = p->right, made = -1;
    int code = make_token(t, p, &made);
    if (!code && !p->merged) {
        code = room_for(&t->made->merges, &t->made->room, t->made->n_merges, sizeof *t->made->merges);
        if (!code)
            t->made->merges[t->made->n_merges++] = (merge){.left = left, .right = right, .made = made};
    }
    p->merged = true;
    uint32_t *where = p->where;
    size_t count = p->n_where;
    p->where = NULL; /* p moves when pairs are added */
    p->n_where = p->room = 0;
    for (size_t i = 0; !code && i < count; i++)
        code = merge_word(t, where[i], left, right, made);
    free(where);
    t->pairs[index].count = 0;
    return code ? code : queue_touched(t);
}

static int merge_all(training *t, const bpe_plan *plan)
{
    int code = CODE_GOOD;
    progress_begin("tokens", plan->size);
    while (!code && t->made->words.count < plan->size && t->n_heap) {
        queued top = pop(t);
        int64_t now = t->pairs[top.pair].count;
        if (top.count != now) { /* it has become rarer since */
            if (now > 0)
                code = push(t, (queued){.count = now, .pair = top.pair});
            continue;
        }
        if (now < 1 || now < plan->least)
            break;
        code = merge_pair(t, top.pair);
        progress_step(t->made->words.count, NULL);
    }
    progress_end();
    return code;
}

int bpe_train(const word_counts *words, const bpe_plan *plan, bpe_trained *made)
{
    *made = (bpe_trained){0};
    if (plan->size < plan->n_special + 256 || plan->size > MAX_TOKENS)
        return fail(CODE_USAGE, "vocab-size is %zu; it must be %zu (256 bytes and %zu special tokens) … %zu",
                    plan->size, plan->n_special + 256, plan->n_special, MAX_TOKENS);
    training t = {.words = words, .made = made};
    t.symbols = allocate(words->bytes.count * sizeof *t.symbols);
    t.lengths = allocate(words->count * sizeof *t.lengths);
    int code = t.symbols && t.lengths ? begin_words(&t, plan) : CODE_NO_MEMORY;
    code = code ? code : merge_all(&t, plan);
    for (size_t i = 0; i < t.n_pairs; i++)
        free(t.pairs[i].where);
    free(t.pairs);
    free(t.heap);
    free(t.touched);
    free(t.symbols);
    free(t.lengths);
    merges_free(&t.index);
    return code;
}

void bpe_trained_free(bpe_trained *made)
{
    vocabulary_free(&made->words);
    free(made->merges);
    *made = (bpe_trained){0};
}
