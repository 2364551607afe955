/* SPDX-License-Identifier: MIT */
/* Timing of one plan by a crew, and a check of all it computed. */
#ifndef RINGX_COMMAND_BENCH_MEASURE_H
#define RINGX_COMMAND_BENCH_MEASURE_H

#include "judge.h"

enum { PASS_FORWARD, PASS_BACKWARD, PASSES };

typedef struct pass_figures {                    /* slowest rank; the same on every rank */
    double median_s, least_s, most_s, exposed_s; /* exposed: median */
    double flops;                                /* of all ranks */
    double wire_bytes, messages;                 /* of the rank that has most */
} pass_figures;

typedef struct measurement {
    char algorithm[32], layout[32], kernel[32], transport[32];
    int ranks, threads, lookahead, slices;
    pass_figures pass[PASSES];
    double workspace_bytes, peak_bytes; /* largest over ranks; of a process: what was in use at most */
    /* Of each result over all ranks: a random projection and the norm.  Two runs that agree have close projections. */
    double projection[TENSORS], norm[TENSORS];
} measurement;

/* A plan, its tensors and workspace, ready to be timed as often as is wanted.  Inputs are functions of the global
 * position, so that any split has the same. */
typedef struct timed timed;

/* All collective.  timed_create: *t is to be destroyed after an error, too.  timed_run: figures, those of results left
 * out.  timed_results: adds them. */
int timed_create(timed **t, crew *c, const settings *s, const ringx_options *o);
int timed_run(timed *t, measurement *m);
int timed_results(timed *t, measurement *m);
void timed_destroy(timed *t);

/* All of it once; of GPUs what is exposed by a plan with a timeline, which takes longer. */
int measure(crew *c, const settings *s, const ringx_options *o, measurement *m, const char *timeline);

/* CODE_WRONG unless all projections agree within the tolerance of the dtype. */
int measurements_agree(const settings *s, const measurement *a, const measurement *b, const char *what);

#endif
