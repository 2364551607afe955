/* SPDX-License-Identifier: MIT */
/* Attention on whole tensors by a crew: split, planned, executed, joined.  Whole tensors are packed
 * [batch][token][head][dim] (lse: [batch][head][token]) and in memory that every rank can read. */
#ifndef RINGX_COMMAND_TRIAL_H
#define RINGX_COMMAND_TRIAL_H

#include "field.h"
#include "launch.h"

typedef enum tensor_id { T_Q, T_K, T_V, T_DOUT, T_OUT, T_DQ, T_DK, T_DV, T_LSE, TENSORS } tensor_id;
extern const char *const tensor_names[TENSORS];

/* batch, tokens, heads, dim; lse: batch, 1, heads, tokens. */
void tensor_sizes(const ringx_problem *p, tensor_id id, int64_t tokens, int64_t sizes[4]);
size_t tensor_elements(const ringx_problem *p, tensor_id id);
size_t tensor_bytes(const ringx_problem *p, tensor_id id); /* lse is always float */

typedef struct whole { /* NULL: not there */
    void *data[TENSORS];
} whole;

/* T_OUT … T_LSE (without gradients: T_OUT and T_LSE), poisoned. */
int whole_results_create(whole *w, const ringx_problem *p, bool backward);
void whole_destroy(whole *w);

typedef struct trial {
    ringx_problem problem;
    ringx_options options;
    const whole *inputs;   /* dout NULL: forward only */
    whole *results;        /* used on rank 0 */
    uint64_t style_key;    /* draws each rank's strides; 0: packed */
    bool repeat;           /* execute twice and compare every bit */
    ringx_plan_info *info; /* NULL, or gets this rank's; its names are only good while the plan lives: set to NULL */
} trial;

/* Collective; all ranks return the same code.  CODE_WRONG: memory was written outside the results, a result was not
 * repeatable, or the plan's positions are wrong. */
int trial_run(crew *c, const trial *t);

#endif
