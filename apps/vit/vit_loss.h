/* SPDX-License-Identifier: MIT */
/* The relative L2 loss ‖prediction − target‖ / ‖target‖ of a sample, over all channels and pixels, of a part of its
 * tokens: sums to be added over the ranks, and the gradient. */
#ifndef RINGX_VIT_LOSS_H
#define RINGX_VIT_LOSS_H

#include <stdint.h>

typedef struct vit_view { /* some tokens of each sample, in host memory */
    int64_t batch, tokens, channels, patch;
    int64_t across;           /* patches in a row of the image */
    const int64_t *positions; /* [tokens]: patches, row by row */
    const float *prediction;  /* [batch][tokens][patch row][patch column][channel] */
    const float *target;      /* [batch][tokens][channel][patch row][patch column] */
} vit_view;

/* sums: [batch][2]: Σ (prediction − target)², Σ target².  Exit code. */
int vit_loss_sums(const vit_view *v, double *sums);
/* gradient = factors[sample]·(prediction − target); in the order of the prediction, and may be it. */
void vit_loss_gradient(const vit_view *v, const double *factors, float *gradient);
/* From whole sums: losses [batch], and factors [batch] of the gradients of scale·loss; 0 where the difference is 0. */
void vit_loss_of_sums(int64_t batch, const double *sums, double scale, double *losses, double *factors);

#endif
