/* SPDX-License-Identifier: MIT */
/* Formulas of the operators that are the same on every device: RoPE's frequencies, clipping, LAMB's trust. */
#ifndef NN_FORMULAS_H
#define NN_FORMULAS_H

#include <stdint.h>

/* Scaling of RoPE as in Llama 3.1: wavelengths over original/low are divided by factor, those below original/high stay,
 * between them it is interpolated.  factor 0: none. */
typedef struct nn_rope_scaling {
    double factor, low, high, original;
} nn_rope_scaling;

/* frequencies[i] = theta^(−2i/dim), scaled; i < dim/2. */
void nn_rope_frequencies(double theta, int64_t dim, const nn_rope_scaling *scaling, double *frequencies);

/* What gradients of this global norm are multiplied by; clip 0: no clipping. */
double nn_clip_factor(double norm, double clip);

/* ‖w‖/‖u‖ in low … high (DeepSpeed: 0.01 … 10), 1 if either is 0; from the sums of squares of the whole tensor. */
double nn_lamb_trust(double weight_squares, double update_squares, double low, double high);

#endif
