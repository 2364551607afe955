/* SPDX-License-Identifier: MIT */
/* A line plot as SVG. */
#include "shared/plot.h"
#include "shared/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH  900
#define HEIGHT 520
#define LEFT   90
#define RIGHT  230
#define TOP    50
#define BOTTOM 70

/* Okabe and Ito's palette: told apart by everyone. */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"};
static const char *const dashes[] = {"none", "6 3", "2 3"};
#define COLOURS (sizeof colours / sizeof *colours)

typedef struct axis {
    double low, high;
    bool log;
} axis;

static double place(const axis *a, double value)
{
    if (a->log)
        return (log(value) - log(a->low)) / (log(a->high) - log(a->low));
    return (value - a->low) / (a->high - a->low);
}

static double x_of(const axis *a, double value)
{
    return LEFT + place(a, value) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const axis *a, double value)
{
    return HEIGHT - BOTTOM - place(a, value) * (HEIGHT - TOP - BOTTOM);
}

static void include(axis *a, double value)
{
    if (!isfinite(value) || (a->log && value <= 0))
        return;
    a->low = value < a->low ? value : a->low;
    a->high = value > a->high ? value : a->high;
}

static void widen(axis *a)
{
    if (!(a->low <= a->high))
        *a = (axis){0.1, 1, a->log};
    if (a->low == a->high) {
        a->low = a->log ? a->low / 2 : a->low - 0.5;
        a->high = a->log ? a->high * 2 : a->high + 0.5;
    }
}

static void escape(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '&' || *text == '<' || *text == '>')
            fprintf(to, "&#%d;", *text);
        else
            fputc(*text, to);
    }
}

static void text_at(FILE *to, double x, double y, const char *anchor, const char *text)
{
    fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    escape(to, text);
    fputs("</text>\n", to);
}

static void number_text(double value, char *text, size_t bytes)
{
    static const char units[] = " kMG";
    int unit = 0;
    while (fabs(value) >= 10240 && unit < 3 && fmod(value, 1024) == 0) {
        value /= 1024;
        unit++;
    }
    snprintf(text, bytes, "%.4g%.*s", value, unit ? 1 : 0, units + unit);
}

static void draw_x_axis(FILE *to, const plot *p, const axis *a)
{
    double last = -1e9;
    for (size_t i = 0; i < p->points; i++) {
        double x = x_of(a, p->x[i]);
        char text[32];
        fprintf(to, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", x, TOP, x, HEIGHT - BOTTOM);
        number_text(p->x[i], text, sizeof text);
        if (fabs(x - last) > 45)
            text_at(to, x, HEIGHT - BOTTOM + 20, "middle", text);
        last = fabs(x - last) > 45 ? x : last;
    }
    text_at(to, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 20, "middle", p->x_label);
}

static void draw_y_line(FILE *to, const axis *a, double value)
{
    char text[32];
    double y = y_of(a, value);
    fprintf(to, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", LEFT, y, WIDTH - RIGHT, y);
    snprintf(text, sizeof text, "%.4g", value);
    text_at(to, LEFT - 8, y + 4, "end", text);
}

static void draw_y_axis(FILE *to, const plot *p, const axis *a)
{
    if (a->log) {
        static const double steps[] = {1, 2, 5};
        bool wide = log10(a->high / a->low) > 4;
        for (double decade = pow(10, floor(log10(a->low))); decade <= a->high; decade *= 10)
            for (int i = 0; i < (wide ? 1 : 3); i++)
                if (decade * steps[i] >= a->low * 0.999 && decade * steps[i] <= a->high * 1.001)
                    draw_y_line(to, a, decade * steps[i]);
    } else {
        for (int i = 0; i <= 5; i++)
            draw_y_line(to, a, a->low + (a->high - a->low) * i / 5);
    }
    fprintf(to, "<text transform=\"translate(22 %d) rotate(-90)\" text-anchor=\"middle\">",
            (HEIGHT - BOTTOM + TOP) / 2);
    escape(to, p->y_label);
    fputs("</text>\n", to);
}

static void draw_series(FILE *to, const plot *p, size_t which, const axis *x, const axis *y)
{
    const plot_series *s = &p->series[which];
    const char *colour = colours[which % COLOURS], *dash = dashes[which / COLOURS % 3];
    double key = TOP + 10 + 18 * (double)which;
    fprintf(to, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\" points=\"", colour,
            dash);
    for (size_t i = 0; i < p->points; i++)
        if (isfinite(s->y[i]) && (!y->log || s->y[i] > 0))
            fprintf(to, "%.1f,%.1f ", x_of(x, p->x[i]), y_of(y, s->y[i]));
    fputs("\"/>\n", to);
    for (size_t i = 0; i < p->points; i++)
        if (isfinite(s->y[i]) && (!y->log || s->y[i] > 0))
            fprintf(to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x_of(x, p->x[i]), y_of(y, s->y[i]),
                    colour);
    fprintf(to,
            "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"2\" "
            "stroke-dasharray=\"%s\"/>\n",
            WIDTH - RIGHT + 15, key, WIDTH - RIGHT + 45, key, colour, dash);
    text_at(to, WIDTH - RIGHT + 52, key + 4, "start", s->name);
}

static void draw(FILE *to, const plot *p)
{
    axis x = {INFINITY, 0, p->points > 2 && p->x[0] > 0}, y = {INFINITY, -INFINITY, !p->share};
    for (size_t i = 0; i < p->points; i++) {
        include(&x, p->x[i]);
        for (size_t s = 0; s < p->n_series; s++)
            include(&y, p->series[s].y[i]);
    }
    if (p->share)
        y = (axis){0, y.high > 1 ? y.high : 1, false};
    y.log = y.log && y.high >= 3 * y.low; /* else few of 1, 2, 5 times a power of ten would lie in it */
    widen(&x);
    widen(&y);
    int height = TOP + 20 + 18 * (int)p->n_series;
    fprintf(
        to,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\">\n"
        "<style>.grid{stroke:#ddd}</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        WIDTH, height > HEIGHT ? height : HEIGHT);
    fputs("<g font-weight=\"bold\">", to);
    text_at(to, LEFT, 28, "start", p->title);
    fputs("</g>\n", to);
    draw_x_axis(to, p, &x);
    draw_y_axis(to, p, &y);
    for (size_t s = 0; s < p->n_series; s++)
        draw_series(to, p, s, &x, &y);
    fputs("</svg>\n", to);
}

int plot_write(const plot *p, const char *path)
{
    text_file f;
    int code = text_create(&f, path);
    if (code)
        return code;
    draw(f.to, p);
    return text_finish(&f, CODE_GOOD);
}
