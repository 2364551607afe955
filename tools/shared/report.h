/* SPDX-License-Identifier: MIT */
/* What all programs share: exit codes, failures, memory, text files that appear whole or not at all, progress. */
#ifndef RINGX_SHARED_REPORT_H
#define RINGX_SHARED_REPORT_H

#include <ringx/ringx.h>
#include <stdio.h>

/* Exit codes; functions of the command return them. */
typedef enum exit_code {
    CODE_GOOD = 0,
    CODE_WRONG = 1, /* a wrong result */
    CODE_USAGE = 64,
    CODE_BAD_INPUT = 65,
    CODE_MISSING = 66,
    CODE_PEER_DIED = 69,
    CODE_INTERNAL = 70,
    CODE_NO_MEMORY = 71,
    CODE_CANNOT_WRITE = 73,
    CODE_IO = 74,
    CODE_DISAGREE = 76,
    CODE_CONFIGURATION = 78,
    CODE_STALLED = 79
} exit_code;

#define MESSAGE_BYTES 1400

/* Keeps the message (this thread's) for main to print, and returns code. */
int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a library status: "format: the library's last error".  RINGX_OK gives CODE_GOOD. */
int fail_status(ringx_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
int status_code(ringx_status status);
const char *failure(void); /* this thread's message, "" for none */
void failure_copy(char to[MESSAGE_BYTES]);
void failure_set(const char *message);

void *allocate(size_t bytes); /* zeroed; NULL with fail(CODE_NO_MEMORY) kept; never NULL for 0 bytes */
bool multiply(size_t a, size_t b, size_t *product); /* false if it does not fit */
double seconds_now(void);                           /* monotonic */

/* A text file that appears under its path when it is finished without failure, and not before. */
typedef struct text_file {
    FILE *to;
    const char *path;
    char *temporary; /* NULL: the path is a terminal, a pipe, … */
} text_file;
int text_create(text_file *f, const char *path);
int text_finish(text_file *f, int code); /* with a code: removes it; returns code, or that of writing */

/* A line on standard error, if that is a terminal and the work lasts over two seconds.  Safe from any thread. */
void progress_begin(const char *what, size_t total);
void progress_step(size_t done, const char *note);
void progress_clear(void); /* before another line is printed */
void progress_end(void);

#endif
