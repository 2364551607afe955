/* SPDX-License-Identifier: MIT */
/* Results against the float64 definition, with the tolerances of docs/NUMERICS.md. */
#ifndef RINGX_COMMAND_JUDGE_H
#define RINGX_COMMAND_JUDGE_H

#include "trial.h"

typedef struct reference { /* whole tensors in double; data[T_DQ …] NULL without gradients */
    double *data[TENSORS];
} reference;

/* Converts the inputs and evaluates the definition. */
int reference_create(reference *r, const ringx_problem *p, const whole *inputs);
void reference_destroy(reference *r);

typedef struct verdict {
    bool good;
    double error[TENSORS]; /* relative Frobenius; lse: largest |difference|/(1 + |lse|) */
    double share[TENSORS]; /* of what is allowed that is used; NaN if an element is NaN */
    char why[200];         /* of what is not good */
} verdict;

typedef struct roundings { /* on the way to a result, besides that of the result itself */
    ringx_dtype wire;      /* partial results of `ranks` ranks travelled as this */
    int ranks;
    bool weights; /* weights and dS were rounded to the dtype before their products (matrix units of GPUs) */
} roundings;

/* NaN is never good; lse = -inf must match exactly, and rows without keys must be exactly zero. */
void judge(const ringx_problem *p, roundings how, const whole *results, const reference *r, verdict *v);

/* ‖x - r‖ / ‖r‖ of one tensor of results; NaN if any element is NaN, 0 if both are zero. */
double relative_error(const ringx_problem *p, tensor_id id, const void *result, const double *exact);

#endif
