/* SPDX-License-Identifier: MIT */
/* The lines of a training run that scripts parse, as the original prints them, and the live line on a terminal. */
#ifndef RINGX_TRAIN_LOG_H
#define RINGX_TRAIN_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* *log: standard output, or with a folder what goes both there and, appended, to <folder>/train.log. */
int log_open(FILE **log, const char *folder);
void log_close(FILE *log);

typedef struct log_step { /* since the last line */
    int64_t iteration, iterations;
    double samples_per_s, iteration_ms, lr;
    double flops_per_rank; /* a second */
    double mfu, hfu;       /* shares of the peak; NaN: no peak is known, the fields are left out */
    double lm_loss;        /* mean */
    double loss_scale;     /* NaN: not in fp16, left out */
    int64_t skipped, not_finite;
} log_step;
void log_step_print(FILE *to, const log_step *s);

typedef struct log_timer {
    const char *name;
    double ms;
} log_timer;
void log_timers_print(FILE *to, const log_timer *timers, size_t count);
/* Of this process, by the system's count: now and at most. */
void log_memory_print(FILE *to, int64_t iterations);
double memory_mb(bool most);

/* "validation results at iteration 100" with loss and exp(loss), between lines of dashes.  chart: "validation", "test"
 */
void log_evaluation_print(FILE *to, const char *chart, int64_t iteration, double loss);

/* Floating point operations of one step, forward and backward, by the formula of the original's log: full attention,
 * neither grouped heads nor gated inner layers; `actual` counts recomputation. */
typedef struct flop_shape {
    double layers, width, heads, kv_heads, head_dim, inner, vocabulary, tokens, batch;
    bool recompute, keep_attention; /* the second: all but the attention is computed again */
} flop_shape;
double flops_as_logged(const flop_shape *f);
/* By exact count: 6 for each weight of a matrix product and token, causal attention counted once. */
double flops_exact(const flop_shape *f, bool with_recompute);

/* One line on standard error, if that is a terminal: drawn over at each call, removed by live_clear. */
void live_line(int64_t iteration, int64_t iterations, double loss, double tokens_per_s, double mfu, double left_s);
void live_clear(void);

#endif
