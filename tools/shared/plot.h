/* SPDX-License-Identifier: MIT */
/* A line plot as SVG: series over a common horizontal axis, both axes logarithmic where that helps. */
#ifndef RINGX_SHARED_PLOT_H
#define RINGX_SHARED_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#define PLOT_MAX_SERIES 64

typedef struct plot_series {
    char name[96];
    double *y; /* NaN: no point */
} plot_series;

typedef struct plot {
    const char *title, *x_label, *y_label;
    const double *x;
    size_t points;
    plot_series series[PLOT_MAX_SERIES];
    size_t n_series;
    bool share; /* y is a share of 1: linear from 0 */
} plot;

int plot_write(const plot *p, const char *path);

#endif
