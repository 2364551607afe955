/* SPDX-License-Identifier: MIT */
/* Failures, exit codes, memory, time, and the progress line. */
#include "shared/report.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static _Thread_local char message[MESSAGE_BYTES];

int fail(int code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    return code;
}

int status_code(ringx_status status)
{
    switch (status) {
    case RINGX_OK:
        return CODE_GOOD;
    case RINGX_INVALID:
        return CODE_USAGE;
    case RINGX_UNSUPPORTED:
        return CODE_CONFIGURATION;
    case RINGX_NO_MEMORY:
        return CODE_NO_MEMORY;
    case RINGX_MISMATCH:
        return CODE_DISAGREE;
    case RINGX_PEER_DIED:
        return CODE_PEER_DIED;
    case RINGX_STALLED:
        return CODE_STALLED;
    case RINGX_COMM:
    case RINGX_DEVICE:
    case RINGX_IO:
        return CODE_IO;
    case RINGX_BAD_FILE:
        return CODE_BAD_INPUT;
    case RINGX_INTERNAL:
        break;
    }
    return CODE_INTERNAL;
}

int fail_status(ringx_status status, const char *format, ...)
{
    if (status == RINGX_OK)
        return CODE_GOOD;
    char what[256];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    const char *why = ringx_last_error();
    return fail(status_code(status), "%s: %s", what, *why ? why : ringx_status_name(status));
}

const char *failure(void)
{
    return message;
}

void failure_copy(char to[MESSAGE_BYTES])
{
    memcpy(to, message, MESSAGE_BYTES);
}

void failure_set(const char *text)
{
    snprintf(message, sizeof message, "%s", text);
}

void *allocate(size_t bytes)
{
    void *memory = calloc(bytes ? bytes : 1, 1);
    if (!memory)
        fail(CODE_NO_MEMORY, "out of memory: %zu bytes were needed", bytes);
    return memory;
}

bool multiply(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int cannot_write(const char *path)
{
    return fail(CODE_CANNOT_WRITE, "%s: cannot be written: %s", path, strerror(errno));
}

int text_create(text_file *f, const char *path)
{
    struct stat status;
    bool special = stat(path, &status) == 0 && !S_ISREG(status.st_mode); /* a terminal, a pipe: not to be replaced */
    size_t room = strlen(path) + 8;
    *f = (text_file){.path = path};
    if (special) {
        f->to = fopen(path, "w");
        return f->to ? CODE_GOOD : cannot_write(path);
    }
    f->temporary = allocate(room);
    if (!f->temporary)
        return CODE_NO_MEMORY;
    snprintf(f->temporary, room, "%s.XXXXXX", path);
    int fd = mkstemp(f->temporary);
    f->to = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f->to)
        return CODE_GOOD;
    int code = cannot_write(path);
    if (fd >= 0) {
        close(fd);
        unlink(f->temporary);
    }
    free(f->temporary);
    return code;
}

int text_finish(text_file *f, int code)
{
    mode_t mask = umask(0);
    umask(mask);
    if (f->temporary)
        fchmod(fileno(f->to), 0666 & ~mask);
    bool bad = ferror(f->to) != 0;
    if ((fclose(f->to) != 0 || bad) && !code)
        code = cannot_write(f->path);
    if (f->temporary && !code && rename(f->temporary, f->path) != 0)
        code = cannot_write(f->path);
    if (f->temporary && code)
        unlink(f->temporary);
    free(f->temporary);
    return code;
}

/* ---- progress ---- */

static struct {
    pthread_mutex_t lock;
    const char *what;
    size_t total;
    double begin, shown; /* shown: when the line was last drawn, 0: never */
    bool active;
} progress = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define SILENT_S  2.0
#define REFRESH_S 0.2

void progress_begin(const char *what, size_t total)
{
    pthread_mutex_lock(&progress.lock);
    progress.what = what;
    progress.total = total;
    progress.begin = seconds_now();
    progress.shown = 0;
    progress.active = isatty(STDERR_FILENO) != 0;
    pthread_mutex_unlock(&progress.lock);
}

void progress_step(size_t done, const char *note)
{
    if (!progress.active)
        return;
    pthread_mutex_lock(&progress.lock);
    double now = seconds_now(), spent = now - progress.begin;
    if (progress.active && spent > SILENT_S && now - progress.shown > REFRESH_S && done && progress.total) {
        double share = (double)done / (double)progress.total;
        double left = spent * (1 - share) / share;
        fprintf(stderr, "\r\033[K%s %zu of %zu (%.0f %%), %.0f s left%s%s", progress.what, done, progress.total,
                100 * share, left, note ? ", " : "", note ? note : "");
        fflush(stderr);
        progress.shown = now;
    }
    pthread_mutex_unlock(&progress.lock);
}

void progress_clear(void)
{
    pthread_mutex_lock(&progress.lock);
    if (progress.active && progress.shown > 0)
        fputs("\r\033[K", stderr);
    pthread_mutex_unlock(&progress.lock);
}

void progress_end(void)
{
    pthread_mutex_lock(&progress.lock);
    if (progress.active && progress.shown > 0)
        fputs("\r\033[K", stderr);
    progress.active = false;
    progress.shown = 0;
    pthread_mutex_unlock(&progress.lock);
}
