/* SPDX-License-Identifier: MIT */
/* The process that reads documents, hands them out in turn, and writes what comes back in the same turn. */
#include "gpt/preprocess.h"
#include "gpt/indexed.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

#define BATCH ((size_t)1 << 20) /* bytes of text a worker gets at once; a longer document goes alone */

volatile sig_atomic_t preprocess_stopped;

typedef struct run {
    const preprocess_plan *plan;
    documents in;
    worker workers[MAX_WORKERS];
    size_t n_workers;
    indexed_writer writers[MAX_KEYS];
    size_t n_writers;
    id_list answer;
    int64_t documents, written; /* read; not empty, of all keys */
    uint64_t bytes, tokens;
    double begin;
} run;

static void stopped(int signal)
{
    preprocess_stopped = signal;
}

static int start(run *r)
{
    const preprocess_plan *plan = r->plan;
    int code = documents_open(&r->in, plan->inputs, plan->n_inputs, plan->txt_lines);
    r->in.stop = &preprocess_stopped;
    while (!code && r->n_writers < plan->n_keys) {
        size_t room = strlen(plan->prefix) + strlen(plan->keys[r->n_writers]) + 16;
        char *prefix = allocate(room);
        if (!prefix)
            return CODE_NO_MEMORY;
        snprintf(prefix, room, "%s_%s_document", plan->prefix, plan->keys[r->n_writers]);
        code = indexed_create(&r->writers[r->n_writers], prefix, tokenizer_size(plan->tokenizer));
        r->n_writers += !code;
        free(prefix);
    }
    while (!code && r->n_workers < plan->workers) {
        code = worker_start(&r->workers[r->n_workers], plan, r->workers, r->n_workers);
        r->n_workers += !code;
    }
    return code;
}

/* Fills the batch; it stays empty at the end of the input. */
static int fill(run *r, byte_list *batch)
{
    text_record record = {0};
    int code = CODE_GOOD;
    do {
        code = documents_next(&r->in, &record);
        if (!code && record.bytes) {
            code = worker_pack(batch, &record);
            r->bytes += record.count;
        }
    } while (!code && record.bytes && batch->count < BATCH);
    return code;
}

static void report(const run *r)
{
    double spent = seconds_now() - r->begin;
    printf("%lld documents, %llu tokens, %.1f documents/s, %.2f MB/s\n", (long long)r->documents,
           (unsigned long long)r->tokens, (double)r->documents / spent, (double)r->bytes / 1e6 / spent);
    fflush(stdout);
}

static int receive(run *r, worker *w)
{
    int code = worker_receive(w, &r->answer);
    for (size_t at = 0, k = 0; !code && at < r->answer.count; k = (k + 1) % r->n_writers) {
        size_t count = (size_t)r->answer.items[at++];
        if (count > 0) {
            code = indexed_append(&r->writers[k], r->answer.items + at, count);
            r->written++;
        }
        at += count;
        r->tokens += count;
        if (k + 1 < r->n_writers)
            continue;
        r->documents++;
        if (r->plan->log_interval && r->documents % r->plan->log_interval == 0)
            report(r);
    }
    if (r->plan->total > 0)
        progress_step((size_t)r->documents, NULL);
    return code;
}

static int go(run *r)
{
    byte_list batch = {0};
    size_t next = 0; /* worker: they are sent to and received from in the same order */
    int code = CODE_GOOD;
    for (;;) {
        code = preprocess_stopped ? CODE_IO : fill(r, &batch);
        if (code || batch.count == 0)
            break;
        worker *w = &r->workers[next];
        if (w->busy && (code = receive(r, w)))
            break;
        if ((code = worker_send(w, &batch)))
            break;
        next = (next + 1) % r->n_workers;
    }
    for (size_t i = 0; !code && i < r->n_workers; i++)
        if (r->workers[(next + i) % r->n_workers].busy)
            code = receive(r, &r->workers[(next + i) % r->n_workers]);
    bytes_free(&batch);
    if (!code && r->written == 0)
        code = fail(CODE_BAD_INPUT, "the input holds no document that is not empty");
    return code;
}

static int finish(run *r, int code)
{
    for (size_t i = 0; i < r->n_workers; i++)
        worker_stop(&r->workers[i]);
    documents_close(&r->in);
    for (size_t i = 0; i < r->n_writers; i++) {
        int written = indexed_finish(&r->writers[i], code);
        code = code ? code : written;
    }
    ids_free(&r->answer);
    return code;
}

int preprocess(const preprocess_plan *plan)
{
    run *r = allocate(sizeof *r);
    if (!r)
        return CODE_NO_MEMORY;
    r->plan = plan;
    r->in.fd = -1;
    r->begin = seconds_now();
    struct sigaction stop = {.sa_handler = stopped}, ignore = {.sa_handler = SIG_IGN}, kept[3];
    sigaction(SIGINT, &stop, &kept[0]);
    sigaction(SIGTERM, &stop, &kept[1]);
    sigaction(SIGPIPE, &ignore, &kept[2]);
    progress_begin("documents", (size_t)plan->total);
    int code = start(r);
    code = code ? code : go(r);
    progress_end();
    if (code && preprocess_stopped)
        fail(code, "stopped by signal %d; nothing has been written", (int)preprocess_stopped);
    code = finish(r, code);
    sigaction(SIGINT, &kept[0], NULL);
    sigaction(SIGTERM, &kept[1], NULL);
    sigaction(SIGPIPE, &kept[2], NULL);
    if (!code)
        report(r);
    free(r);
    return code;
}
