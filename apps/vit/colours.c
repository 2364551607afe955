/* SPDX-License-Identifier: MIT */
/* Colour maps: points of turbo (Mikhailov, 2019), a polynomial for viridis (van der Walt and Smith's map, Zucker's fit,
 * 2019), and a diverging map that is straight in CIELAB. */
#include "vit/colours.h"

#include <math.h>
#include <stddef.h>

const char *const colour_map_names[COLOUR_MAPS + 1] = {"turbo", "viridis", "balance", NULL};

#define DEGREE 6
#define GREY   170 /* of what is missing */

/* Every eighth entry of its table; straight lines between them are within two of it. */
static const uint8_t turbo[][3] = {
    {48, 18, 59},    {57, 42, 115},  {64, 64, 161},  {68, 86, 199},  {70, 107, 227}, {70, 127, 246}, {66, 147, 255},
    {55, 167, 250},  {41, 187, 236}, {29, 205, 216}, {24, 220, 195}, {30, 232, 176}, {49, 242, 153}, {76, 249, 126},
    {107, 253, 100}, {138, 255, 77}, {163, 253, 60}, {184, 247, 53}, {204, 237, 52}, {222, 224, 55}, {237, 208, 58},
    {248, 192, 58},  {253, 174, 53}, {254, 152, 44}, {251, 128, 34}, {245, 104, 23}, {236, 82, 15},  {224, 64, 9},
    {210, 49, 5},    {192, 35, 2},   {172, 23, 1},   {149, 13, 1},   {122, 4, 3}};
#define TURBO (sizeof turbo / sizeof *turbo)

/* Σ c[k] x^k for red, green, blue; within four of the map's table. */
static const double viridis[DEGREE + 1][3] = {
    {0.2777273272234177, 0.005407344544966578, 0.3340998053353061},
    {0.1050930431085774, 1.404613529898575, 1.384590162594685},
    {-0.3308618287255563, 0.214847559468213, 0.09509516302823659},
    {-4.634230498983486, -5.799100973351585, -19.33244095627987},
    {6.228269936347081, 14.17993336680509, 56.69055260068105},
    {4.776384997670288, -13.74514537774601, -65.35303263337234},
    {-5.435455855934631, 4.645852612178535, 26.3124352495832},
};

static uint8_t to_byte(double value)
{
    return (uint8_t)lround(255 * fmin(1, fmax(0, value)));
}

static void polynomial(double x, uint8_t rgb[3])
{
    for (int i = 0; i < 3; i++) {
        double sum = 0;
        for (int k = DEGREE; k >= 0; k--)
            sum = sum * x + viridis[k][i];
        rgb[i] = to_byte(sum);
    }
}

static void between(double x, uint8_t rgb[3])
{
    double place = x * (TURBO - 1);
    size_t at = place < TURBO - 2 ? (size_t)place : TURBO - 2;
    double part = place - (double)at;
    for (int i = 0; i < 3; i++)
        rgb[i] = (uint8_t)lround(turbo[at][i] + part * (turbo[at + 1][i] - turbo[at][i]));
}

static double inverse_lab(double t)
{
    return t > 6.0 / 29 ? t * t * t : 3 * 36.0 / 841 * (t - 4.0 / 29);
}

/* CIELAB (D65) to sRGB. */
static void from_lab(double l, double a, double b, uint8_t rgb[3])
{
    static const double to_rgb[3][3] = {
        {3.2404542, -1.5371385, -0.4985314}, {-0.9692660, 1.8760108, 0.0415560}, {0.0556434, -0.2040259, 1.0572252}};
    double y = (l + 16) / 116;
    double xyz[3] = {0.95047 * inverse_lab(y + a / 500), inverse_lab(y), 1.08883 * inverse_lab(y - b / 200)};
    for (int i = 0; i < 3; i++) {
        double linear = to_rgb[i][0] * xyz[0] + to_rgb[i][1] * xyz[1] + to_rgb[i][2] * xyz[2];
        rgb[i] = to_byte(linear <= 0.0031308 ? 12.92 * linear : 1.055 * pow(linear, 1 / 2.4) - 0.055);
    }
}

/* Blue (L 32) to white (L 97) to red (L 32): lightness in even steps, colour rising with the root so that small
 * differences show. */
static void balance(double x, uint8_t rgb[3])
{
    double side = 2 * x - 1, size = fabs(side), strength = pow(size, 0.8);
    if (side < 0)
        from_lab(97 - 65 * size, 14 * strength, -46 * strength, rgb);
    else
        from_lab(97 - 65 * size, 52 * strength, 34 * strength, rgb);
}

void colour_of(colour_map map, double value, uint8_t rgb[3])
{
    if (isnan(value)) {
        rgb[0] = rgb[1] = rgb[2] = GREY;
        return;
    }
    double x = fmin(1, fmax(0, value));
    if (map == COLOURS_BALANCE)
        balance(x, rgb);
    else if (map == COLOURS_VIRIDIS)
        polynomial(x, rgb);
    else
        between(x, rgb);
}
