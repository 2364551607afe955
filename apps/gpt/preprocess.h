/* SPDX-License-Identifier: MIT */
/* Texts to token files: one process reads and writes, others parse and encode. */
#ifndef RINGX_GPT_PREPROCESS_H
#define RINGX_GPT_PREPROCESS_H

#include "gpt/documents.h"
#include "gpt/tokenizer.h"

#include <sys/types.h>

#define MAX_KEYS    32
#define MAX_WORKERS 256

typedef struct preprocess_plan {
    char **inputs;
    size_t n_inputs;
    bool txt_lines;
    const char *keys[MAX_KEYS]; /* of .jsonl; each gives a pair of files */
    size_t n_keys;
    const char *prefix; /* files are PREFIX_KEY_document.bin and .idx */
    const tokenizer *tokenizer;
    encode_options encoding;
    int32_t eod; /* -1: none is appended */
    size_t workers;
    int64_t total, log_interval; /* documents: for the progress line, and for lines on standard output (0: none) */
} preprocess_plan;

/* Documents come in the order of the input, whatever the number of workers. */
int preprocess(const preprocess_plan *plan);

/* ---- preprocess_worker.c ---- */

typedef struct worker {
    pid_t pid;
    int to, from; /* pipes; -1: closed */
    bool busy;    /* it owes an answer */
} worker;

int worker_start(worker *w, const preprocess_plan *plan, const worker *others, size_t n_others);
/* A batch of records: worker_pack appends one, worker_send sends them and empties the batch. */
int worker_pack(byte_list *batch, const text_record *record);
int worker_send(worker *w, byte_list *batch);
/* For each record and key a count of ids, 32 bits, and the ids. Fails with the worker's message. */
int worker_receive(worker *w, id_list *into);
void worker_stop(worker *w);

extern volatile sig_atomic_t preprocess_stopped; /* by a signal */

#endif
