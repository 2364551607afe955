/* SPDX-License-Identifier: MIT */
/* Documents of files of text: .jsonl (a document a line), .txt (a document a file, or a line), and .zst of both. */
#ifndef RINGX_GPT_DOCUMENTS_H
#define RINGX_GPT_DOCUMENTS_H

#include "gpt/buffers.h"

#include <signal.h>

#define MAX_DOCUMENT INT32_MAX /* bytes, and so tokens, of one document: its length must fit the .idx file */

typedef struct text_record { /* a line, or a whole file; not yet parsed */
    uint32_t file;           /* in documents.paths */
    bool json;
    uint64_t line, offset; /* from 1; bytes of text before it, decompressed */
    const uint8_t *bytes;  /* until the next call; NULL: there is none left */
    size_t count;
} text_record;

typedef struct documents {
    char **paths;
    size_t count;
    bool txt_lines;                    /* .txt: a document a line */
    const volatile sig_atomic_t *stop; /* NULL, or: reading fails when it is not 0 */
    size_t file;                       /* the one being read */
    int fd;                            /* -1: none is open */
    void *zstd;                        /* of a .zst, else NULL */
    bool json, whole, ended;
    bool in_frame; /* of a .zst: more must come */
    byte_list raw; /* read, not yet decompressed: from raw_at on */
    size_t raw_at;
    uint64_t raw_offset; /* in the file, of the end of raw */
    byte_list text;      /* not yet given away: from text_at on */
    size_t text_at;
    uint64_t line, offset;
} documents;

/* Looks at all names first. */
int documents_open(documents *d, char **paths, size_t count, bool txt_lines);
/* The next line or file that is not empty. */
int documents_next(documents *d, text_record *record);
void documents_close(documents *d);

#endif
