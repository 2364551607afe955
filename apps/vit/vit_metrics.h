/* SPDX-License-Identifier: MIT */
/* Scores of a prediction by channel, weighted by latitude: root mean square error and anomaly correlation. */
#ifndef RINGX_VIT_METRICS_H
#define RINGX_VIT_METRICS_H

#include "vit/vit_loss.h"

typedef struct vit_sums { /* Σ over pixels of weight(latitude) times: */
    double error;         /* (prediction − target)² */
    double prediction;    /* prediction² */
    double target;        /* target² */
    double product;       /* prediction·target */
} vit_sums;

/* sums: [batch][channels] of the view's tokens; weights: of the image's rows.  Exit code. */
int vit_metric_sums(const vit_view *v, const double *weights, vit_sums *sums);
/* Of whole samples: √(mean over pixels of weight·error), where the weights of a column sum to its number of rows. */
double vit_rmse(const vit_sums *s, double pixels);
double vit_acc(const vit_sums *s); /* NaN where a field is 0 everywhere */

#endif
