/* SPDX-License-Identifier: MIT */
/* What pictures are drawn on: red, green, blue bytes, and text of strokes. */
#ifndef RINGX_VIT_PICTURE_CANVAS_H
#define RINGX_VIT_PICTURE_CANVAS_H

#include <stddef.h>
#include <stdint.h>

typedef struct canvas {
    int width, height;
    uint8_t *rgb; /* [height][width][3] */
} canvas;

typedef enum text_place { TEXT_LEFT, TEXT_CENTRE, TEXT_RIGHT } text_place; /* of x in the text */

void canvas_box(canvas *c, int x, int y, int width, int height, const uint8_t rgb[3]); /* filled; clipped */
/* A round-ended line, with smooth edges. */
void canvas_line(canvas *c, const double from[2], const double to[2], double thickness, const uint8_t rgb[3]);

/* y: the foot of capital letters; size: their height in pixels.  UTF-8; letters without a shape are boxes. */
void canvas_text(canvas *c, double x, double y, double size, text_place place, const char *text);
double canvas_text_width(double size, const char *text);

/* picture_png.c: the file's bytes, to be freed.  title: its tEXt entry. */
int canvas_png(const canvas *c, const char *title, unsigned char **png, size_t *bytes);

#endif
