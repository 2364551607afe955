/* SPDX-License-Identifier: MIT */
/* Maps of fields as PNG: panels side by side, each with a colour bar with ticks and axes in degrees, under one title.
 * Text is drawn with strokes of our own, so that no font need be installed. */
#ifndef RINGX_VIT_PICTURE_H
#define RINGX_VIT_PICTURE_H

#include "shared/report.h"
#include "vit/colours.h"

#define PICTURE_MAX_PANELS 4

typedef struct picture_panel {
    const char *title;
    const float *values; /* [rows][columns], row 0 on top; NaN: grey */
    colour_map map;
    double low, high; /* ends of the colour bar; low = high: the values' own, around 0 for a diverging map */
    const char *unit; /* beside the colour bar; "" for none */
} picture_panel;

typedef struct picture {
    int64_t rows, columns;
    const double *latitudes, *longitudes; /* degrees, of rows and columns */
    const char *title, *subtitle;         /* "" for none */
    picture_panel panels[PICTURE_MAX_PANELS];
    int n_panels;
    int width, height; /* pixels; 0: 1800 a panel, and what its map needs (the original's picture: 3600 x 1800) */
} picture;

/* Where a panel's map lies, in pixels: for tests and for whoever reads the picture back. */
typedef struct picture_box {
    int x, y, width, height;
} picture_box;
picture_box picture_map_box(const picture *p, int panel);
void picture_size(const picture *p, int *width, int *height);

int picture_write(const picture *p, const char *path);
/* The file's bytes in memory, to be freed. */
int picture_encode(const picture *p, unsigned char **png, size_t *bytes);

#endif
