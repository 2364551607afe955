/* SPDX-License-Identifier: MIT */
/* The picture of a prediction: truth and prediction side by side in physical units, maybe their difference. */
#ifndef RINGX_VIT_FIGURE_H
#define RINGX_VIT_FIGURE_H

#include "vit/dataset.h"

typedef struct vit_figure {
    const vit_dataset *data;
    int64_t rows, columns, channel, patch;
    const float *truth, *prediction; /* [rows][columns], normalised; truth NULL: not known */
    const char *title, *subtitle;    /* "" for none */
    bool difference;                 /* a third panel, and one scale for the first two; else each its own */
    int width, height;               /* pixels; 0: as pictures are */
} vit_figure;

int vit_figure_write(const vit_figure *f, const char *path);
/* The file's bytes, to be freed, and its size in pixels. */
int vit_figure_encode(const vit_figure *f, unsigned char **png, size_t *bytes, int size[2]);

#endif
