/* SPDX-License-Identifier: MIT */
/* Lays out and draws panels: map, frame, degrees, colour bar. */
#include "vit/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vit/picture_canvas.h"

/* Of a panel 1800 pixels wide; everything scales with its width. */
#define PANEL        1800
#define LEFT         170
#define RIGHT        60
#define TITLES       230 /* above the panels' titles: the picture's own, two lines */
#define PANEL_TITLE  100
#define BELOW        290 /* the map: degrees, colour bar, its numbers, unit */
#define LETTERS      34  /* height of capitals */
#define BAR_GAP      120
#define BAR_HEIGHT   44
#define LEAST_ASPECT 0.35 /* of a map: height over width */
#define MOST_ASPECT  1.3

static const uint8_t white[3] = {255, 255, 255}, dark[3] = {20, 20, 20};

typedef struct drawing {
    const picture *p;
    canvas c;
    double scale; /* pixels of one of the units above */
} drawing;

static double spacing(const double *values, int64_t count)
{
    return count > 1 ? fabs(values[count - 1] - values[0]) / (double)(count - 1) : 1;
}

/* Degrees from edge to edge: height over width. */
static double aspect(const picture *p)
{
    double height = spacing(p->latitudes, p->rows) * (double)p->rows;
    double width = spacing(p->longitudes, p->columns) * (double)p->columns;
    return fmin(MOST_ASPECT, fmax(LEAST_ASPECT, width > 0 ? height / width : 1));
}

static double titles(const picture *p)
{
    return (*p->subtitle ? TITLES : *p->title ? TITLES - 80 : 40) + PANEL_TITLE;
}

void picture_size(const picture *p, int *width, int *height)
{
    *width = p->width ? p->width : PANEL * p->n_panels;
    double scale = (double)*width / p->n_panels / PANEL;
    double map = (PANEL - LEFT - RIGHT) * aspect(p);
    *height = p->height ? p->height : (int)lround((titles(p) + map + BELOW) * scale);
}

picture_box picture_map_box(const picture *p, int panel)
{
    int width, height;
    picture_size(p, &width, &height);
    double cell = (double)width / p->n_panels, scale = cell / PANEL;
    double room[2] = {cell - (LEFT + RIGHT) * scale, height - (titles(p) + BELOW) * scale};
    double across = fmin(room[0], room[1] / aspect(p)), down = across * aspect(p);
    return (picture_box){.x = (int)lround(panel * cell + LEFT * scale + (room[0] - across) / 2),
                         .y = (int)lround(titles(p) * scale + (room[1] - down) / 2),
                         .width = (int)fmax(1, round(across)),
                         .height = (int)fmax(1, round(down))};
}

/* ---- numbers ---- */

/* A step of 1, 2 or 5 times a power of ten that gives at most `most` steps. */
static double nice_step(double range, int most)
{
    double power = pow(10, floor(log10(range / most)));
    static const double factors[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (range / (factors[i] * power) <= most)
            return factors[i] * power;
    return 10 * power;
}

static double degree_step(double range, int most)
{
    static const double steps[] = {0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90};
    size_t i = 0;
    while (i + 1 < sizeof steps / sizeof *steps && range / steps[i] > most)
        i++;
    return steps[i];
}

static void degree_text(double value, bool latitude, char text[32])
{
    double shown = latitude ? value : fmod(fmod(value, 360) + 540, 360) - 180;
    const char *side = latitude ? (shown > 0 ? "N" : "S") : shown > 0 ? "E" : "W";
    if (fabs(shown) < 1e-9 || (!latitude && fabs(fabs(shown) - 180) < 1e-9))
        side = "";
    snprintf(text, 32, "%g°%s", fabs(round(shown * 1e6) / 1e6), side);
}

/* ---- parts of a panel ---- */

/* The ends of a panel's colour bar. */
static void range_of(const picture *p, const picture_panel *panel, double *low, double *high)
{
    *low = panel->low, *high = panel->high;
    if (*low != *high)
        return;
    double least = INFINITY, most = -INFINITY;
    for (int64_t i = 0; i < p->rows * p->columns; i++)
        if (isfinite(panel->values[i])) {
            least = fmin(least, (double)panel->values[i]);
            most = fmax(most, (double)panel->values[i]);
        }
    if (!(least <= most))
        least = most = 0;
    if (panel->map == COLOURS_BALANCE) {
        most = fmax(fabs(least), fabs(most));
        least = -most;
    }
    double slack = most > least ? 0 : fmax(fabs(most) * 1e-3, 1e-6); /* a constant field */
    *low = least - slack, *high = most + slack;
}

static void draw_map(drawing *d, const picture_panel *panel, picture_box b, double low, double high)
{
    const picture *p = d->p;
    uint8_t rgb[3];
    for (int y = 0; y < b.height; y++)
        for (int x = 0; x < b.width; x++) {
            int64_t row = (int64_t)y * p->rows / b.height, column = (int64_t)x * p->columns / b.width;
            colour_of(panel->map, ((double)panel->values[row * p->columns + column] - low) / (high - low), rgb);
            canvas_box(&d->c, b.x + x, b.y + y, 1, 1, rgb);
        }
}

static void draw_frame(drawing *d, picture_box b)
{
    int thick = (int)fmax(1, round(3 * d->scale));
    canvas_box(&d->c, b.x - thick, b.y - thick, b.width + 2 * thick, thick, dark);
    canvas_box(&d->c, b.x - thick, b.y + b.height, b.width + 2 * thick, thick, dark);
    canvas_box(&d->c, b.x - thick, b.y, thick, b.height, dark);
    canvas_box(&d->c, b.x + b.width, b.y, thick, b.height, dark);
}

/* Ticks with degrees along one side of the map. */
static void draw_degrees(drawing *d, picture_box b, bool latitude)
{
    const double *values = latitude ? d->p->latitudes : d->p->longitudes, s = d->scale;
    int64_t count = latitude ? d->p->rows : d->p->columns;
    double apart = count > 1 ? (values[count - 1] - values[0]) / (double)(count - 1) : 1;
    double first = values[0] - apart / 2, range = apart * (double)count;
    double step = degree_step(fabs(range), latitude ? 5 : 6), low = fmin(first, first + range);
    for (double v = ceil(low / step - 1e-6) * step; v <= low + fabs(range) + 1e-6 * step; v += step) {
        double at = (v - first) / range;
        char text[32];
        degree_text(v, latitude, text);
        if (latitude) {
            int y = b.y + (int)lround(at * b.height);
            canvas_box(&d->c, b.x - (int)(16 * s), y - (int)(1.5 * s), (int)(16 * s), (int)fmax(1, 3 * s), dark);
            canvas_text(&d->c, b.x - 26 * s, y + LETTERS * s / 2, LETTERS * s, TEXT_RIGHT, text);
        } else {
            int x = b.x + (int)lround(at * b.width);
            canvas_box(&d->c, x - (int)(1.5 * s), b.y + b.height, (int)fmax(1, 3 * s), (int)(16 * s), dark);
            canvas_text(&d->c, x, b.y + b.height + (26 + LETTERS) * s, LETTERS * s, TEXT_CENTRE, text);
        }
    }
}

static bool has_gaps(const picture *p, const picture_panel *panel)
{
    for (int64_t i = 0; i < p->rows * p->columns; i++)
        if (isnan(panel->values[i]))
            return true;
    return false;
}

/* "□ missing" at the right of the bar, whose box becomes shorter. */
static void draw_gap_key(drawing *d, picture_box *bar)
{
    uint8_t grey[3];
    double s = d->scale, text = canvas_text_width(LETTERS * s, "missing");
    colour_of(COLOURS_TURBO, NAN, grey);
    int right = bar->x + bar->width, key = (int)(BAR_HEIGHT * s);
    picture_box square = {right - (int)text - (int)(20 * s) - key, bar->y, key, key};
    canvas_box(&d->c, square.x, square.y, key, key, grey);
    draw_frame(d, square);
    canvas_text(&d->c, right, bar->y + key / 2.0 + LETTERS * s / 2, LETTERS * s, TEXT_RIGHT, "missing");
    bar->width = square.x - bar->x - (int)(50 * s);
}

/* A number of a bar whose numbers are `step` apart, `most` the largest. */
static void number_text(double value, double step, double most, char text[40])
{
    int n = 0; /* digits after the point */
    while (n < 9 && fabs(step * pow(10, n) - round(step * pow(10, n))) > 1e-6 * step * pow(10, n))
        n++;
    if (most < 1e-4 || most >= 1e7)
        snprintf(text, 40, "%.3g", value);
    else
        snprintf(text, 40, "%.*f", n, value);
}

static void draw_bar(drawing *d, const picture_panel *panel, picture_box b, double low, double high)
{
    double s = d->scale;
    uint8_t rgb[3];
    picture_box bar = {b.x, b.y + b.height + (int)(BAR_GAP * s), b.width, (int)(BAR_HEIGHT * s)};
    if (has_gaps(d->p, panel))
        draw_gap_key(d, &bar);
    for (int x = 0; x < bar.width; x++) {
        colour_of(panel->map, (x + 0.5) / bar.width, rgb);
        canvas_box(&d->c, bar.x + x, bar.y, 1, bar.height, rgb);
    }
    draw_frame(d, bar);
    double step = nice_step(high - low, fmax(fabs(low), fabs(high)) / (high - low) > 100 ? 4 : 6);
    for (double v = ceil(low / step - 1e-9) * step; v <= high + 1e-9 * step; v += step) {
        int x = bar.x + (int)lround((v - low) / (high - low) * bar.width);
        char text[40];
        int y = bar.y + bar.height;
        number_text(fabs(v) < 1e-9 * step ? 0 : v, step, fmax(fabs(low), fabs(high)), text);
        canvas_box(&d->c, x - (int)(1.5 * s), y, (int)fmax(1, 3 * s), (int)(14 * s), dark);
        canvas_text(&d->c, x, y + (24 + LETTERS) * s, LETTERS * s, TEXT_CENTRE, text);
    }
    canvas_text(&d->c, bar.x + bar.width / 2.0, bar.y + bar.height + (44 + 2 * LETTERS) * s, LETTERS * s, TEXT_CENTRE,
                panel->unit);
}

/* ---- the whole ---- */

static void draw_panel(drawing *d, int number)
{
    const picture_panel *panel = &d->p->panels[number];
    picture_box b = picture_map_box(d->p, number);
    double low, high;
    range_of(d->p, panel, &low, &high);
    draw_map(d, panel, b, low, high);
    draw_frame(d, b);
    draw_degrees(d, b, true);
    draw_degrees(d, b, false);
    draw_bar(d, panel, b, low, high);
    canvas_text(&d->c, b.x + b.width / 2.0, b.y - 40 * d->scale, 1.2 * LETTERS * d->scale, TEXT_CENTRE, panel->title);
}

/* As large as it fits. */
static void draw_title(drawing *d, const char *text, double y, double size)
{
    double width = canvas_text_width(size, text), room = d->c.width * 0.96;
    canvas_text(&d->c, d->c.width / 2.0, y, width > room ? size * room / width : size, TEXT_CENTRE, text);
}

int picture_encode(const picture *p, unsigned char **png, size_t *bytes)
{
    drawing d = {.p = p};
    size_t pixels;
    if (p->n_panels < 1 || p->n_panels > PICTURE_MAX_PANELS || p->rows < 1 || p->columns < 1)
        return fail(CODE_INTERNAL, "a picture of %d panels of %lld rows and %lld columns", p->n_panels,
                    (long long)p->rows, (long long)p->columns);
    picture_size(p, &d.c.width, &d.c.height);
    if (d.c.width < 100 || d.c.height < 100 || d.c.width > 30000 || d.c.height > 30000)
        return fail(CODE_USAGE, "a picture of %d x %d pixels; each side must be from 100 to 30000", d.c.width,
                    d.c.height);
    if (!multiply((size_t)d.c.width * 3, (size_t)d.c.height, &pixels) || !(d.c.rgb = allocate(pixels)))
        return CODE_NO_MEMORY;
    d.scale = (double)d.c.width / p->n_panels / PANEL;
    canvas_box(&d.c, 0, 0, d.c.width, d.c.height, white);
    double top = picture_map_box(p, 0).y - titles(p) * d.scale;
    draw_title(&d, p->title, top + 110 * d.scale, 1.6 * LETTERS * d.scale);
    draw_title(&d, p->subtitle, top + 190 * d.scale, 1.2 * LETTERS * d.scale);
    for (int i = 0; i < p->n_panels; i++)
        draw_panel(&d, i);
    int code = canvas_png(&d.c, p->title, png, bytes);
    free(d.c.rgb);
    return code;
}

int picture_write(const picture *p, const char *path)
{
    unsigned char *png;
    size_t bytes;
    text_file f;
    int code = picture_encode(p, &png, &bytes);
    if (code)
        return code;
    code = text_create(&f, path);
    if (!code) {
        fwrite(png, 1, bytes, f.to);
        code = text_finish(&f, CODE_GOOD);
    }
    free(png);
    return code;
}
