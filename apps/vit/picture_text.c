/* SPDX-License-Identifier: MIT */
/* Lines and letters with smooth edges.  Letters are strokes of our own on a grid: capitals from 0 down to 12, small
 * letters from 4, what hangs below down to 16. */
#include "vit/picture_canvas.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define CAPITAL 12.0 /* grid steps of a capital's height */
#define GAP     3.2  /* between letters */
#define SPACE   4.5
#define PEN     1.45 /* of strokes */
#define ROUND   8    /* pieces of a curve */

typedef struct glyph {
    uint32_t code;
    int width;
    /* Strokes, separated by spaces: points of two digits to base 36, x and y.  "~": a curve from the first point to the
     * last that the others pull (a quadratic B-spline); "@": a closed one; else straight lines. */
    const char *strokes;
} glyph;

static const glyph glyphs[] = {
    {'0', 8, "@00808c0c"},
    {'1', 7, "13404c 1c7c"},
    {'2', 8, "~030080850c 0c8c"},
    {'3', 8, "~0200808636 ~36868c0c0a"},
    {'4', 8, "6c600888"},
    {'5', 8, "701006 ~0634848c0c0a"},
    {'6', 8, "~71400008 @05858c0c"},
    {'7', 8, "00803c"},
    {'8', 8, "@10707616 @06868c0c"},
    {'9', 8, "@00808707 ~848c4c1b"},
    {'A', 8, "0c408c 1878"},
    {'B', 8, "000c ~00707606 ~06868c0c"},
    {'C', 8, "~8380000c8c89"},
    {'D', 8, "000c ~00808c0c"},
    {'E', 7, "70000c7c 0666"},
    {'F', 7, "70000c 0666"},
    {'G', 8, "~8380000c8c87 8747"},
    {'H', 8, "000c 808c 0686"},
    {'I', 4, "0040 202c 0c4c"},
    {'J', 6, "6068 ~686c0c09"},
    {'K', 8, "000c 8007 348c"},
    {'L', 7, "000c7c"},
    {'M', 9, "0c0048909c"},
    {'N', 8, "0c008c80"},
    {'O', 9, "@00909c0c"},
    {'P', 8, "000c ~00808707"},
    {'Q', 9, "@00909c0c 599d"},
    {'R', 8, "000c ~00808707 478c"},
    {'S', 8, "~82800006868c0c0a"},
    {'T', 8, "0080 404c"},
    {'U', 8, "0007 8087 ~070c8c87"},
    {'V', 8, "004c80"},
    {'W', 10, "002c528ca0"},
    {'X', 8, "008c 800c"},
    {'Y', 8, "004680 464c"},
    {'Z', 8, "00800c8c"},
    {'a', 7, "@04747c0c 747c"},
    {'b', 7, "000c @04747c0c"},
    {'c', 7, "~7674040c7c7a"},
    {'d', 7, "707c @04747c0c"},
    {'e', 7, "0878 ~7874040c7c6b"},
    {'f', 5, "~502024 242c 0444"},
    {'g', 7, "747c @04747c0c ~7c7g0g0f"},
    {'h', 7, "000c ~08047478 787c"},
    {'i', 2, "141c 1011"},
    {'j', 3, "343d ~3d3g0g 3031"},
    {'k', 6, "000c 6409 276c"},
    {'l', 2, "101c"},
    {'m', 10, "040c ~08045458 585c ~5854a4a8 a8ac"},
    {'n', 7, "040c ~08047478 787c"},
    {'o', 7, "@04747c0c"},
    {'p', 7, "040g @04747c0c"},
    {'q', 7, "747g @04747c0c"},
    {'r', 5, "040c ~080454"},
    {'s', 6, "~65640408686c0c0b"},
    {'t', 5, "2029 ~292c5c 0454"},
    {'u', 7, "0408 ~080c7c78 747c"},
    {'v', 6, "043c64"},
    {'w', 10, "042c558ca4"},
    {'x', 6, "046c 640c"},
    {'y', 6, "043c 641g"},
    {'z', 6, "04640c6c"},
    {'.', 1, "0b0c"},
    {',', 2, "1b0e"},
    {':', 1, "0506 0b0c"},
    {';', 2, "1506 1b0e"},
    {'-', 6, "0767"},
    {0x2212, 6, "0767"}, /* minus */
    {'+', 6, "0767 343a"},
    {'=', 6, "0565 0969"},
    {0xd7, 6, "046a 640a"}, /* times */
    {'/', 6, "0d60"},
    {'(', 3, "~30020a3c"},
    {')', 3, "~00323a0c"},
    {'[', 3, "30000c3c"},
    {']', 3, "00303c0c"},
    {'%', 9, "@00404404 @58989c5c 0c90"},
    {0xb0, 4, "@00404404"}, /* degrees */
    {'_', 8, "0d8d"},
    {'\'', 1, "0003"},
    {'"', 3, "0003 3033"},
    {'!', 1, "0008 0b0c"},
    {'?', 7, "~0200707638 3b3c"},
    {'|', 1, "000f"},
    {'<', 6, "62076c"},
    {'>', 6, "02670c"},
    {'*', 6, "3137 0264 6204"},
};
static const glyph box = {0, 8, "00808c0c00"};

void canvas_box(canvas *c, int x, int y, int width, int height, const uint8_t rgb[3])
{
    for (int j = y < 0 ? 0 : y; j < y + height && j < c->height; j++)
        for (int i = x < 0 ? 0 : x; i < x + width && i < c->width; i++)
            memcpy(c->rgb + ((size_t)j * (size_t)c->width + (size_t)i) * 3, rgb, 3);
}

/* Distance of a point from the line between two others. */
static double distance(const double at[2], const double from[2], const double to[2])
{
    double dx = to[0] - from[0], dy = to[1] - from[1], length = dx * dx + dy * dy;
    double t = length > 0 ? ((at[0] - from[0]) * dx + (at[1] - from[1]) * dy) / length : 0;
    t = fmin(1, fmax(0, t));
    return hypot(at[0] - from[0] - t * dx, at[1] - from[1] - t * dy);
}

void canvas_line(canvas *c, const double from[2], const double to[2], double thickness, const uint8_t rgb[3])
{
    double reach = thickness / 2 + 1;
    int first[2], last[2], limit[2] = {c->width - 1, c->height - 1};
    for (int k = 0; k < 2; k++) {
        first[k] = (int)fmax(0, floor(fmin(from[k], to[k]) - reach));
        last[k] = (int)fmin(limit[k], ceil(fmax(from[k], to[k]) + reach));
    }
    for (int y = first[1]; y <= last[1]; y++)
        for (int x = first[0]; x <= last[0]; x++) {
            double cover = thickness / 2 + 0.5 - distance((double[]){x + 0.5, y + 0.5}, from, to);
            uint8_t *to_rgb = c->rgb + ((size_t)y * (size_t)c->width + (size_t)x) * 3;
            cover = fmin(1, fmax(0, cover));
            for (int k = 0; k < 3; k++)
                to_rgb[k] = (uint8_t)lround(to_rgb[k] + cover * (rgb[k] - to_rgb[k]));
        }
}

/* ---- letters ---- */

/* The next letter of UTF-8 text; broken sequences are taken byte by byte. */
static uint32_t next_code(const char **text)
{
    const unsigned char *at = (const unsigned char *)*text;
    int more = at[0] >= 0xf0 ? 3 : at[0] >= 0xe0 ? 2 : at[0] >= 0xc0 ? 1 : 0;
    uint32_t code = more ? at[0] & (0x3fu >> more) : at[0];
    for (int i = 1; i <= more; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            more = 0;
            code = at[0];
            break;
        }
        code = code << 6 | (at[i] & 0x3f);
    }
    *text += 1 + more;
    return code;
}

static const glyph *find_glyph(uint32_t code)
{
    for (size_t i = 0; i < sizeof glyphs / sizeof *glyphs; i++)
        if (glyphs[i].code == code)
            return &glyphs[i];
    return &box;
}

typedef struct pen {
    canvas *c;
    double x, y, scale, thickness; /* of the grid's origin, and a step of it */
} pen;

static void point(const pen *p, const char *text, double at[2])
{
    for (int k = 0; k < 2; k++)
        at[k] = text[k] >= 'a' ? text[k] - 'a' + 10 : text[k] - '0';
    at[0] = p->x + at[0] * p->scale;
    at[1] = p->y + at[1] * p->scale;
}

static void ink(const pen *p, const double from[2], const double to[2])
{
    static const uint8_t black[3] = {20, 20, 20};
    canvas_line(p->c, from, to, p->thickness, black);
}

/* The quadratic curve from `from` to `to` that `pull` pulls. */
static void curve(const pen *p, const double from[2], const double pull[2], const double to[2])
{
    double last[2] = {from[0], from[1]}, next[2];
    for (int i = 1; i <= ROUND; i++) {
        double t = (double)i / ROUND, s = 1 - t;
        for (int k = 0; k < 2; k++)
            next[k] = s * s * from[k] + 2 * s * t * pull[k] + t * t * to[k];
        ink(p, last, next);
        memcpy(last, next, sizeof last);
    }
}

static void middle(const double a[2], const double b[2], double m[2])
{
    for (int k = 0; k < 2; k++)
        m[k] = (a[k] + b[k]) / 2;
}

/* One stroke of `length` characters. */
static void stroke(const pen *p, const char *text, size_t length)
{
    bool open = *text == '~', closed = *text == '@';
    size_t n = (length - (open || closed)) / 2;
    const char *first = text + (open || closed);
    double from[2], pull[2], to[2], after[2];
    for (size_t i = 0; i + 1 < n && !open && !closed; i++) {
        point(p, first + 2 * i, from);
        point(p, first + 2 * i + 2, to);
        ink(p, from, to);
    }
    for (size_t i = 0; i < n && closed; i++) {
        point(p, first + 2 * i, from);
        point(p, first + 2 * ((i + 1) % n), pull);
        point(p, first + 2 * ((i + 2) % n), after);
        middle(from, pull, from);
        middle(pull, after, to);
        curve(p, from, pull, to);
    }
    for (size_t i = 1; i + 1 < n && open; i++) {
        point(p, first + 2 * i - 2, from);
        point(p, first + 2 * i, pull);
        point(p, first + 2 * i + 2, to);
        if (i > 1)
            middle(from, pull, from);
        if (i + 2 < n)
            middle(pull, to, to);
        curve(p, from, pull, to);
    }
}

double canvas_text_width(double size, const char *text)
{
    double width = 0;
    while (*text) {
        uint32_t code = next_code(&text);
        width += code == ' ' ? SPACE : find_glyph(code)->width + GAP;
    }
    return fmax(0, width - GAP) * size / CAPITAL;
}

void canvas_text(canvas *c, double x, double y, double size, text_place place, const char *text)
{
    double scale = size / CAPITAL, width = canvas_text_width(size, text);
    x -= place == TEXT_CENTRE ? width / 2 : place == TEXT_RIGHT ? width : 0;
    while (*text) {
        uint32_t code = next_code(&text);
        const glyph *g = find_glyph(code);
        pen p = {c, x, y - size, scale, fmax(1, PEN * scale)};
        for (const char *at = g->strokes; code != ' ' && *at;) {
            size_t length = strcspn(at, " ");
            stroke(&p, at, length);
            at += length + (at[length] == ' ');
        }
        x += (code == ' ' ? SPACE : g->width + GAP) * scale;
    }
}
