/* SPDX-License-Identifier: MIT */
/* What random cases and oracles have in common: counts, failures, what is printed. */
#ifndef RINGX_COMMAND_VERIFY_H
#define RINGX_COMMAND_VERIFY_H

#include "judge.h"

#include <jansson.h>
#include <pthread.h>

#define MAX_FAILURES 50 /* after these the rest is skipped */

typedef struct tally { /* shared by all ranks of this process; take the lock */
    const settings *settings;
    pthread_mutex_t lock;
    uint64_t passed, failed, skipped;
    int code; /* that with which all failures failed, CODE_WRONG if they differ */
    json_t *failures;
} tally;

void tally_begin(tally *t, const settings *s, const char *what, uint64_t total);
/* what: the case in words; why: NULL or what is wrong; reproduce: a command line. */
void tally_add(tally *t, int code, const char *title, const char *what, const char *why, const char *reproduce);
void tally_skip(tally *t);
bool tally_stopped(tally *t);
/* Prints the last line, or the JSON with more (taken over; may be NULL) in it; returns the exit code. */
int tally_end(tally *t, json_t *more);

/* The command line of this run without the options named (ended by NULL), with `more` after it. */
void verify_command_line(const settings *s, int ranks, const char *const *without, const char *more, char *text,
                         size_t bytes);

int verify_random(const settings *s); /* verify_random.c */
int verify_oracle(const settings *s); /* verify_oracle.c */

#endif
