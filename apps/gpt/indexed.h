/* SPDX-License-Identifier: MIT */
/* Token files: PREFIX.bin, ids back to back, and PREFIX.idx, where each sequence lies (Megatron's "mmap" form).
 *
 *     .idx, little-endian, packed, 34 + 12n + 8m bytes:
 *      0  9    "MMIDIDX", 0, 0          26  8    m, entries of the document index
 *      9  8    version, 1               34  4n   tokens of each sequence, i32
 *     17  1    dtype of an id           ..  8n   where it begins in .bin, in bytes, i64
 *     18  8    n, sequences             ..  8m   0, then the number of sequences after each document, i64
 *
 * The reader believes nothing: sizes, sums and bounds are checked when the files are opened, ids when they are read. */
#ifndef RINGX_GPT_INDEXED_H
#define RINGX_GPT_INDEXED_H

#include "gpt/buffers.h"

#include <stdio.h>

typedef struct indexed { /* read-only once open: any number of threads */
    char *bin, *idx;     /* paths */
    int fd;
    const uint8_t *map; /* .idx */
    size_t map_bytes;
    uint8_t dtype; /* code in the file */
    size_t width;  /* bytes of an id */
    uint64_t sequences, documents, tokens;
} indexed;

/* Fails with one line that names file, field or sequence, and offset. */
int indexed_open(indexed *d, const char *prefix);
void indexed_close(indexed *d);
uint32_t indexed_length(const indexed *d, uint64_t sequence); /* tokens; sequence < sequences */
/* Ids first … first+count-1 of a sequence; each must be below `vocabulary`, or the message names document and offset.
 */
int indexed_read(const indexed *d, uint64_t sequence, uint64_t first, size_t count, size_t vocabulary, int32_t *into);

/* ---- indexed_write.c ---- */

/* Files that appear under their names when they are finished without failure, and not before. */
typedef struct indexed_writer {
    char *bin, *idx, *bin_temporary, *idx_temporary;
    FILE *to;
    size_t width;
    id_list lengths;
    uint64_t tokens;
} indexed_writer;

/* Ids take two bytes if the vocabulary has less than 65,500 tokens, else four. */
int indexed_create(indexed_writer *w, const char *prefix, size_t vocabulary);
int indexed_append(indexed_writer *w, const int32_t *ids, size_t count); /* one document */
/* With a code: removes what was written and returns the code. */
int indexed_finish(indexed_writer *w, int code);

#endif
