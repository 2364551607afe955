/* SPDX-License-Identifier: MIT */
/* Counting pieces of text: one table a thread, added up and sorted. */
#include "gpt/bpe_train.h"
#include "gpt/pretokenize.h"
#include "gpt/utf8.h"
#include "shared/report.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT    ((size_t)1 << 36) /* bytes of one file */
#define MAX_THREADS 256

static size_t find_slot(const word_counts *w, const uint8_t *bytes, size_t length)
{
    size_t slot = hash_bytes(bytes, length) & (w->n_slots - 1);
    for (; w->slots[slot]; slot = (slot + 1) & (w->n_slots - 1)) {
        const word *found = &w->words[w->slots[slot] - 1];
        if (found->length == length && memcmp(w->bytes.items + found->at, bytes, length) == 0)
            break;
    }
    return slot;
}

static int more_slots(word_counts *w)
{
    size_t n = w->n_slots ? 2 * w->n_slots : 4096;
    free(w->slots);
    w->slots = allocate(n * sizeof *w->slots);
    w->n_slots = w->slots ? n : 0;
    for (size_t i = 0; w->slots && i < w->count; i++)
        w->slots[find_slot(w, w->bytes.items + w->words[i].at, w->words[i].length)] = (uint32_t)i + 1;
    return w->slots ? CODE_GOOD : CODE_NO_MEMORY;
}

int words_add(word_counts *w, const uint8_t *bytes, size_t length, int64_t count)
{
    int code = 2 * w->count >= w->n_slots ? more_slots(w) : CODE_GOOD;
    if (code)
        return code;
    size_t slot = find_slot(w, bytes, length);
    if (w->slots[slot]) {
        w->words[w->slots[slot] - 1].count += count;
        return CODE_GOOD;
    }
    if (length > INT32_MAX || w->count >= UINT32_MAX - 1)
        return fail(CODE_BAD_INPUT, "the texts have a piece of over 2^31 bytes, or over 2^32 different pieces");
    if (w->count == w->room) {
        size_t room = w->room ? 2 * w->room : 4096;
        word *words = realloc(w->words, room * sizeof *words);
        if (!words)
            return fail(CODE_NO_MEMORY, "out of memory: room for %zu words was needed", room);
        w->words = words;
        w->room = room;
    }
    w->words[w->count] = (word){.at = w->bytes.count, .length = (uint32_t)length, .count = count};
    if ((code = bytes_append(&w->bytes, bytes, length)))
        return code;
    w->slots[slot] = (uint32_t)++w->count;
    return CODE_GOOD;
}

void words_free(word_counts *w)
{
    bytes_free(&w->bytes);
    free(w->words);
    free(w->slots);
    *w = (word_counts){0};
}

/* ---- threads ---- */

typedef struct counting {
    const word_sources *from;
    pretokenizer cuts;
    atomic_size_t next;
} counting;

typedef struct counter { /* a thread's */
    counting *shared;
    word_counts words;
    int code;
    size_t failed; /* the file */
    char message[MESSAGE_BYTES];
    pthread_t thread;
} counter;

static int count_piece(void *user, const uint8_t *piece, size_t length)
{
    return words_add(user, piece, length, 1);
}

static int count_file(counter *c, const char *path, split_scratch *scratch)
{
    byte_list text, replaced = {0};
    int code = file_read(path, MAX_TEXT, &text);
    if (code)
        return code;
    const byte_list *from = &text;
    size_t good = utf8_valid(text.items, text.count);
    if (good < text.count && c->shared->from->invalid == INVALID_ERROR)
        code = fail(CODE_BAD_INPUT, "%s: byte %zu (0x%02x) begins no well-formed UTF-8", path, good, text.items[good]);
    else if (good < text.count) {
        code = utf8_replace(text.items, text.count, &replaced);
        from = &replaced;
    }
    code = code ? code : pretokenize(&c->shared->cuts, scratch, from->items, from->count, count_piece, &c->words);
    bytes_free(&text);
    bytes_free(&replaced);
    return code;
}

static void *count_files(void *user)
{
    counter *c = user;
    split_scratch scratch = {0};
    for (;;) {
        size_t i = atomic_fetch_add(&c->shared->next, 1);
        if (i >= c->shared->from->count || c->code)
            break;
        if ((c->code = count_file(c, c->shared->from->paths[i], &scratch))) {
            c->failed = i;
            failure_copy(c->message);
        }
    }
    split_scratch_free(&scratch);
    return NULL;
}

static int run_threads(counter *counters, size_t threads)
{
    size_t started = 1;
    while (started < threads && pthread_create(&counters[started].thread, NULL, count_files, &counters[started]) == 0)
        started++;
    count_files(&counters[0]);
    for (size_t i = 1; i < started; i++)
        pthread_join(counters[i].thread, NULL);
    const counter *first = NULL; /* the failure of the first file, whatever the threads did */
    for (size_t i = 0; i < started; i++)
        if (counters[i].code && (!first || counters[i].failed < first->failed))
            first = &counters[i];
    if (first)
        failure_set(first->message);
    return first ? first->code : CODE_GOOD;
}

static const uint8_t *sorting; /* the bytes of the words that are sorted: qsort takes no argument */

static int compare(const void *left, const void *right)
{
    const word *a = left, *b = right;
    size_t common = a->length < b->length ? a->length : b->length;
    int order = memcmp(sorting + a->at, sorting + b->at, common);
    return order ? order : a->length < b->length ? -1 : a->length > b->length;
}

int words_count(const word_sources *from, word_counts *into)
{
    size_t threads = from->threads < 1 ? 1 : from->threads > MAX_THREADS ? MAX_THREADS : from->threads;
    counting shared = {.from = from};
    counter *counters = allocate(threads * sizeof *counters);
    if (!counters)
        return CODE_NO_MEMORY;
    int code = pretokenizer_add(&shared.cuts, SPLIT_ISOLATE, from->pattern, false);
    for (size_t i = 0; i < threads; i++)
        counters[i].shared = &shared;
    code = code ? code : run_threads(counters, threads);
    *into = (word_counts){0};
    for (size_t i = 0; i < threads; i++) {
        const word_counts *w = &counters[i].words;
        for (size_t k = 0; !code && k < w->count; k++)
            code = words_add(into, w->bytes.items + w->words[k].at, w->words[k].length, w->words[k].count);
        words_free(&counters[i].words);
    }
    free(counters);
    pretokenizer_free(&shared.cuts);
    sorting = into->bytes.items;
    if (!code && into->count)
        qsort(into->words, into->count, sizeof *into->words, compare);
    free(into->slots); /* they named places before sorting */
    into->slots = NULL;
    into->n_slots = 0;
    return code;
}
