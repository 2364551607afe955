/* SPDX-License-Identifier: MIT */
/* The losses of a run over its iterations, as a picture. */
#ifndef RINGX_TRAIN_CURVE_H
#define RINGX_TRAIN_CURVE_H

#include <stddef.h>

typedef struct curve { /* one point an evaluation; zeros: none yet */
    double *values[3]; /* iteration, training loss, validation loss */
    size_t points, room;
} curve;

typedef struct curve_labels {
    const char *unit;      /* of the losses */
    const char *reference; /* what they are compared with */
} curve_labels;

/* CODE_NO_MEMORY leaves the points as they were. */
int curve_add(curve *c, double iteration, double train, double valid);
void curve_free(curve *c);
/* Writes SVG.  reference: its loss, a level line; NaN: without that line. */
int curve_plot(const curve *c, const curve_labels *labels, double reference, const char *path);

#endif
