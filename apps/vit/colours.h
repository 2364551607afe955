/* SPDX-License-Identifier: MIT */
/* Colour maps: 0 … 1 to red, green, blue. */
#ifndef RINGX_VIT_COLOURS_H
#define RINGX_VIT_COLOURS_H

#include <stdint.h>

typedef enum colour_map {
    COLOURS_TURBO,   /* rainbow with even steps of lightness: the original's */
    COLOURS_VIRIDIS, /* perceptually uniform, dark to light */
    COLOURS_BALANCE, /* diverging: blue, white, red, even steps of lightness on either side */
    COLOUR_MAPS
} colour_map;

extern const char *const colour_map_names[COLOUR_MAPS + 1];   /* "turbo", …, NULL */
void colour_of(colour_map map, double value, uint8_t rgb[3]); /* below 0 and above 1: the ends; NaN: grey */

#endif
