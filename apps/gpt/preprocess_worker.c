/* SPDX-License-Identifier: MIT */
/* Worker processes: a batch of records comes through a pipe, ids or a message go back through another. */
#include "gpt/preprocess.h"
#include "shared/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

typedef struct record_head { /* before each record of a batch */
    uint64_t line, offset, count;
    uint32_t file, json;
} record_head;

typedef struct answer_head {
    int32_t code, unused;
    uint64_t bytes; /* of ids, or of the message */
} answer_head;

/* ---- pipes ---- */

static bool read_whole(int fd, void *into, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = read(fd, (char *)into + done, count - done);
        if (n == 0 || (n < 0 && (errno != EINTR || preprocess_stopped)))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool write_whole(int fd, const void *from, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = write(fd, (const char *)from + done, count - done);
        if (n < 0 && (errno != EINTR || preprocess_stopped))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* ---- in the worker ---- */

typedef struct working {
    const preprocess_plan *plan;
    encoder *encoder;
    id_list ids;
} working;

static int where(int code, const working *w, const record_head *head, const char *key)
{
    char why[MESSAGE_BYTES];
    failure_copy(why);
    return fail(code, "%s: line %llu (byte %llu)%s%s: %s", w->plan->inputs[head->file], (unsigned long long)head->line,
                (unsigned long long)head->offset, key ? ", key " : "", key ? key : "", why);
}

/* A document's count and ids, with the end of document if it is not empty. */
static int encode_document(working *w, const char *text, size_t count)
{
    size_t place = w->ids.count;
    int code = ids_append(&w->ids, 0);
    code = code ? code : encoder_encode(w->encoder, text, count, &w->plan->encoding, &w->ids);
    size_t found = code ? 0 : w->ids.count - place - 1;
    if (!code && found > 0 && w->plan->eod >= 0) {
        code = ids_append(&w->ids, w->plan->eod);
        found++;
    }
    if (!code && found > INT32_MAX)
        code = fail(CODE_BAD_INPUT, "the document has %zu tokens; at most %d fit the .idx file", found, INT32_MAX);
    if (!code)
        w->ids.items[place] = (int32_t)found;
    return code;
}

static int encode_line(working *w, const record_head *head, const char *line)
{
    json_error_t error;
    json_t *root = json_loadb(line, head->count, JSON_ALLOW_NUL, &error);
    if (!root) {
        fail(CODE_BAD_INPUT, "byte %d of the line: %s", error.position, error.text);
        return where(CODE_BAD_INPUT, w, head, NULL);
    }
    int code = CODE_GOOD;
    for (size_t k = 0; !code && k < w->plan->n_keys; k++) {
        json_t *text = json_object_get(root, w->plan->keys[k]);
        if (json_is_string(text))
            code = encode_document(w, json_string_value(text), json_string_length(text));
        else
            code = fail(CODE_BAD_INPUT, text ? "it is not a text" : "there is no such key");
        if (code)
            code = where(code, w, head, w->plan->keys[k]);
    }
    json_decref(root);
    return code;
}

static int encode_batch(working *w, const byte_list *batch)
{
    int code = CODE_GOOD;
    w->ids.count = 0;
    for (size_t at = 0; !code && at < batch->count;) {
        record_head head;
        memcpy(&head, batch->items + at, sizeof head);
        const char *text = (const char *)batch->items + at + sizeof head;
        at += sizeof head + head.count;
        if (head.json)
            code = encode_line(w, &head, text);
        else if ((code = encode_document(w, text, head.count)))
            code = where(code, w, &head, NULL);
    }
    return code;
}

static int answer(working *w, int to, int code)
{
    answer_head head = {.code = code, .bytes = code ? strlen(failure()) : w->ids.count * sizeof *w->ids.items};
    const void *bytes = code ? (const void *)failure() : w->ids.items;
    return write_whole(to, &head, sizeof head) && write_whole(to, bytes, head.bytes) ? CODE_GOOD : CODE_IO;
}

static int work(const preprocess_plan *plan, int from, int to)
{
    working w = {.plan = plan};
    byte_list batch = {0};
    uint64_t count = 0;
    int code = encoder_open(&w.encoder, plan->tokenizer);
    while (!code && read_whole(from, &count, sizeof count)) {
        batch.count = 0;
        if ((code = bytes_reserve(&batch, count)) || !read_whole(from, batch.items, count))
            break;
        batch.count = count;
        code = answer(&w, to, encode_batch(&w, &batch));
    }
    encoder_close(w.encoder);
    ids_free(&w.ids);
    bytes_free(&batch);
    return code;
}

/* ---- in the parent ---- */

static void close_pipes(const worker *w)
{
    if (w->to >= 0)
        close(w->to);
    if (w->from >= 0)
        close(w->from);
}

int worker_start(worker *w, const preprocess_plan *plan, const worker *others, size_t n_others)
{
    int down[2], up[2] = {-1, -1};
    *w = (worker){.to = -1, .from = -1};
    if (pipe2(down, O_CLOEXEC) != 0)
        return fail(CODE_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t parent = getpid();
    if (pipe2(up, O_CLOEXEC) != 0 || (w->pid = fork()) < 0) {
        int code = fail(CODE_IO, "cannot start a worker process: %s", strerror(errno));
        close(down[0]);
        close(down[1]);
        if (up[0] >= 0) {
            close(up[0]);
            close(up[1]);
        }
        w->pid = 0;
        return code;
    }
    if (w->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* no worker outlives its parent */
        if (getppid() != parent)
            _exit(CODE_IO);
        signal(SIGINT, SIG_IGN); /* the parent tells */
        signal(SIGTERM, SIG_DFL);
        close(down[1]);
        close(up[0]);
        for (size_t i = 0; i < n_others; i++)
            close_pipes(&others[i]);
        _exit(work(plan, down[0], up[1]));
    }
    close(down[0]);
    close(up[1]);
    w->to = down[1];
    w->from = up[0];
    return CODE_GOOD;
}

int worker_pack(byte_list *batch, const text_record *record)
{
    record_head head = {.line = record->line,
                        .offset = record->offset,
                        .count = record->count,
                        .file = record->file,
                        .json = record->json};
    int code = bytes_append(batch, &head, sizeof head);
    return code ? code : bytes_append(batch, record->bytes, record->count);
}

/* Why a pipe broke: a signal to this process, or the worker's end. */
static int broken(worker *w)
{
    int status = 0;
    if (preprocess_stopped)
        return CODE_IO; /* preprocess says so */
    close_pipes(w);
    w->to = w->from = -1;
    pid_t pid = w->pid;
    w->pid = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        return fail(CODE_PEER_DIED, "worker process %ld died of signal %d", (long)pid, WTERMSIG(status));
    return fail(CODE_PEER_DIED, "worker process %ld ended with code %d", (long)pid, WEXITSTATUS(status));
}

int worker_send(worker *w, byte_list *batch)
{
    uint64_t count = batch->count;
    batch->count = 0;
    if (!write_whole(w->to, &count, sizeof count) || !write_whole(w->to, batch->items, count))
        return broken(w);
    w->busy = true;
    return CODE_GOOD;
}

int worker_receive(worker *w, id_list *into)
{
    answer_head head;
    char message[MESSAGE_BYTES];
    w->busy = false;
    into->count = 0;
    if (!read_whole(w->from, &head, sizeof head))
        return broken(w);
    if (head.code) {
        size_t count = head.bytes < sizeof message ? head.bytes : sizeof message - 1;
        if (!read_whole(w->from, message, count))
            return broken(w);
        message[count] = '\0';
        return fail(head.code, "%s", message);
    }
    int code = ids_reserve(into, head.bytes / sizeof *into->items);
    if (code)
        return code;
    if (!read_whole(w->from, into->items, head.bytes))
        return broken(w);
    into->count = head.bytes / sizeof *into->items;
    return CODE_GOOD;
}

void worker_stop(worker *w)
{
    close_pipes(w);
    if (w->pid > 0) {
        if (w->busy)
            kill(w->pid, SIGKILL);
        waitpid(w->pid, NULL, 0);
    }
    *w = (worker){.to = -1, .from = -1};
}
