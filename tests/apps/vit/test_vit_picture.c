/* SPDX-License-Identifier: MIT */
/* Pictures are decoded: size, colours at their places, panels that vary and correlate with the data, text, missing
 * values. */
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vit/picture.h"
#include "vit/picture_canvas.h"

#include <cmocka.h>

#define ROWS    12
#define COLUMNS 24

static double latitudes[ROWS], longitudes[COLUMNS];
static float field[ROWS * COLUMNS], other[ROWS * COLUMNS];

static int make_fields(void **state)
{
    (void)state;
    for (int j = 0; j < ROWS; j++)
        latitudes[j] = 82.5 - 15 * j;
    for (int i = 0; i < COLUMNS; i++)
        longitudes[i] = 15 * i;
    for (int j = 0; j < ROWS; j++)
        for (int i = 0; i < COLUMNS; i++) {
            field[j * COLUMNS + i] = (float)(280 + 20 * sin(0.5 * j) * cos(0.3 * i) + i);
            other[j * COLUMNS + i] = (float)(280 + 20 * sin(0.5 * j + 0.2) * cos(0.3 * i) + i);
        }
    return 0;
}

static picture two_panels(void)
{
    return (picture){.rows = ROWS,
                     .columns = COLUMNS,
                     .latitudes = latitudes,
                     .longitudes = longitudes,
                     .title = "t2m, 1996-01-05 06:00",
                     .subtitle = "6 h ahead: RMSE 2.1 K",
                     .panels = {{.title = "truth", .values = field, .map = COLOURS_VIRIDIS, .unit = "K"},
                                {.title = "prediction", .values = other, .map = COLOURS_VIRIDIS, .unit = "K"}},
                     .n_panels = 2,
                     .width = 900,
                     .height = 450};
}

/* Red, green, blue of a PNG in memory. */
static uint8_t *decode(const void *png, size_t bytes, int *width, int *height)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(&image, png, bytes));
    image.format = PNG_FORMAT_RGB;
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(image));
    assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    *width = (int)image.width, *height = (int)image.height;
    return pixels;
}

static uint8_t *draw(const picture *p, int *width, int *height)
{
    unsigned char *png;
    size_t bytes;
    if (picture_encode(p, &png, &bytes))
        fail_msg("%s", failure());
    uint8_t *pixels = decode(png, bytes, width, height);
    free(png);
    return pixels;
}

/* Where on the map's scale the colour is nearest, 0 … 1. */
static double value_of(colour_map map, const uint8_t *rgb)
{
    double best = 0, least = INFINITY;
    for (int k = 0; k <= 1000; k++) {
        uint8_t c[3];
        colour_of(map, k / 1000.0, c);
        double d = hypot(hypot(c[0] - rgb[0], c[1] - rgb[1]), c[2] - rgb[2]);
        if (d < least)
            least = d, best = k / 1000.0;
    }
    return best;
}

/* The correlation of a panel's colours, at the middles of its cells, with values; fails if the panel does not vary. */
static double correlation(const picture *p, int panel, const uint8_t *pixels, int width, const float *values)
{
    picture_box b = picture_map_box(p, panel);
    double n = ROWS * COLUMNS, sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0;
    for (int j = 0; j < ROWS; j++)
        for (int i = 0; i < COLUMNS; i++) {
            int x = b.x + (2 * i + 1) * b.width / (2 * COLUMNS), y = b.y + (2 * j + 1) * b.height / (2 * ROWS);
            double got = value_of(p->panels[panel].map, pixels + (y * width + x) * 3),
                   v = (double)values[j * COLUMNS + i];
            sx += got, sy += v, sxx += got * got, syy += v * v, sxy += got * v;
        }
    double variance = sxx / n - sx * sx / n / n;
    assert_true(variance > 0.02);
    return (sxy / n - sx * sy / n / n) / sqrt(variance * (syy / n - sy * sy / n / n));
}

static void panels_show_the_data(void **state)
{
    (void)state;
    for (int map = 0; map < COLOUR_MAPS; map++) {
        picture p = two_panels();
        int width, height;
        p.panels[0].map = p.panels[1].map = (colour_map)map;
        if (map == COLOURS_BALANCE)
            for (int i = 0; i < 2; i++)
                p.panels[i].low = 250, p.panels[i].high = 330;
        uint8_t *pixels = draw(&p, &width, &height);
        assert_int_equal(width, 900);
        assert_int_equal(height, 450);
        assert_true(correlation(&p, 0, pixels, width, field) > 0.999);
        assert_true(correlation(&p, 1, pixels, width, other) > 0.999);
        assert_true(correlation(&p, 1, pixels, width, field) < 0.999);
        free(pixels);
    }
}

/* The part of pixels in a box that are darker than a letter's edge. */
static double darkness(const uint8_t *pixels, int width, picture_box b)
{
    int dark = 0;
    for (int y = b.y; y < b.y + b.height; y++)
        for (int x = b.x; x < b.x + b.width; x++)
            dark += pixels[(y * width + x) * 3] < 100 && pixels[(y * width + x) * 3 + 1] < 100;
    return (double)dark / (b.width * b.height);
}

/* Title above, degrees at the left and below, numbers under the colour bar; nothing outside of the picture. */
static void text_is_where_it_belongs(void **state)
{
    picture p = two_panels();
    int width, height;
    (void)state;
    uint8_t *pixels = draw(&p, &width, &height);
    picture_box m = picture_map_box(&p, 0), n = picture_map_box(&p, 1);
    assert_true(m.x + m.width < 450 && n.x > 450 && m.y == n.y && m.width == n.width);
    assert_true(fabs((double)m.width / m.height - 2) < 0.02); /* a globe */
    assert_true(darkness(pixels, width, (picture_box){300, 0, 300, m.y - 10}) > 0.01);
    assert_true(darkness(pixels, width, (picture_box){0, m.y, m.x - 8, m.height}) > 0.01);
    assert_true(darkness(pixels, width, (picture_box){m.x, m.y + m.height + 6, m.width, 12}) > 0.02);
    int bar = m.y + m.height + 30;
    assert_true(value_of(COLOURS_VIRIDIS, pixels + ((bar + 5) * width + m.x + 1) * 3) < 0.01);
    assert_true(value_of(COLOURS_VIRIDIS, pixels + ((bar + 5) * width + m.x + m.width - 2) * 3) > 0.99);
    assert_true(darkness(pixels, width, (picture_box){m.x, bar + 15, m.width, 12}) > 0.01);
    for (int x = 0; x < width; x++)
        assert_true(pixels[x * 3] == 255 && pixels[((height - 1) * width + x) * 3] == 255);
    free(pixels);
}

static void missing_values_are_grey(void **state)
{
    picture p = two_panels();
    int width, height, grey = 0;
    float gaps[ROWS * COLUMNS];
    (void)state;
    memcpy(gaps, field, sizeof gaps);
    gaps[5 * COLUMNS + 7] = NAN;
    p.panels[1].values = gaps;
    uint8_t *pixels = draw(&p, &width, &height);
    picture_box b = picture_map_box(&p, 1);
    for (int y = b.y; y < b.y + b.height; y++)
        for (int x = b.x; x < b.x + b.width; x++)
            grey += pixels[(y * width + x) * 3] == 170 && pixels[(y * width + x) * 3 + 1] == 170;
    double cell = (double)b.width * b.height / (ROWS * COLUMNS);
    assert_true(grey > 0.7 * cell && grey < 1.3 * cell);
    free(pixels);
}

/* Constant fields, one row, all missing, huge and tiny numbers: a picture comes out; too large or small ones are
 * refused. */
static void odd_pictures(void **state)
{
    static const float values[][2] = {{0, 0},           {NAN, NAN},    {1e30f, -1e30f},
                                      {1e-20f, 2e-20f}, {INFINITY, 0}, {101325, 101325.5f}};
    int width, height;
    unsigned char *png;
    size_t bytes;
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (int map = 0; map < COLOUR_MAPS; map++) {
            picture p = {.rows = 1,
                         .columns = 2,
                         .latitudes = (double[]){10},
                         .longitudes = (double[]){-170, 170},
                         .title = "\xc3\x28 \xff \xe2\x88\x92 \xc2\xb0",
                         .subtitle = "",
                         .panels = {{.title = "", .values = values[i], .map = (colour_map)map, .unit = ""}},
                         .n_panels = 1,
                         .width = 300};
            free(draw(&p, &width, &height));
            assert_int_equal(width, 300);
        }
    picture p = two_panels();
    p.width = 99;
    assert_int_equal(picture_encode(&p, &png, &bytes), CODE_USAGE);
    p.width = p.height = 0;
    picture_size(&p, &width, &height);
    assert_int_equal(width, 3600);
    assert_in_range(height, 1000, 1800);
}

static double lightness(const uint8_t rgb[3])
{
    double y = 0;
    static const double share[] = {0.2126, 0.7152, 0.0722};
    for (int i = 0; i < 3; i++)
        y += share[i] * (rgb[i] <= 10 ? rgb[i] / 255.0 / 12.92 : pow((rgb[i] / 255.0 + 0.055) / 1.055, 2.4));
    return 116 * cbrt(y) - 16;
}

/* Viridis grows lighter; balance grows lighter to its white middle and darker behind it, alike on both sides; turbo has
 * the colours of its table. */
static void colour_maps_keep_their_word(void **state)
{
    uint8_t c[3], last[3], mirror[3];
    (void)state;
    colour_of(COLOURS_VIRIDIS, 0, last);
    for (int k = 1; k <= 32; k++, memcpy(last, c, 3)) {
        colour_of(COLOURS_VIRIDIS, k / 32.0, c);
        assert_true(lightness(c) > lightness(last) + 1);
    }
    colour_of(COLOURS_BALANCE, 0, last);
    for (int k = 1; k <= 16; k++, memcpy(last, c, 3)) {
        colour_of(COLOURS_BALANCE, k / 32.0, c);
        colour_of(COLOURS_BALANCE, 1 - k / 32.0, mirror);
        assert_true(lightness(c) > lightness(last) + 2 && fabs(lightness(c) - lightness(mirror)) < 2);
    }
    assert_true(c[0] > 240 && c[1] > 240 && c[2] > 240);
    colour_of(COLOURS_TURBO, 1, c);
    assert_true(c[0] == 122 && c[1] == 4 && c[2] == 3);
    colour_of(COLOURS_TURBO, 128 / 255.0, c);
    assert_true(abs(c[0] - 164) < 4 && abs(c[1] - 252) < 4 && abs(c[2] - 60) < 4);
    colour_of(COLOURS_TURBO, NAN, c);
    assert_true(c[0] == 170 && c[1] == 170 && c[2] == 170);
    colour_of(COLOURS_TURBO, -3, c);
    assert_true(c[0] == 48 && c[1] == 18 && c[2] == 59);
}

/* Every printable letter of ASCII that a title may hold has a shape of its own, and takes the place that width says. */
static void letters(void **state)
{
    static const char text[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,:;-+=/()[]%_'\"!?|<>*";
    static uint8_t images[sizeof text][60 * 40 * 3];
    (void)state;
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        canvas c = {.width = 40, .height = 60, .rgb = images[i]};
        memset(images[i], 255, sizeof images[i]);
        canvas_text(&c, 5, 40, 30, TEXT_LEFT, (char[]){text[i], 0});
        double width = canvas_text_width(30, (char[]){text[i], 0});
        for (int y = 0; y < 60; y++)
            for (int x = 0; x < 40; x++)
                if (images[i][(y * 40 + x) * 3] != 255 && (x < 2 || x > 8 + width))
                    fail_msg("'%c' is drawn at %d; its width is %g", text[i], x, width);
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(images[i], images[k], sizeof images[i]);
    }
}

static void a_file_is_written(void **state)
{
    char path[] = "/tmp/ringx_picture_XXXXXX";
    picture p = two_panels();
    int width, height, fd = mkstemp(path);
    (void)state;
    close(fd);
    assert_int_equal(picture_write(&p, path), CODE_GOOD);
    FILE *f = fopen(path, "r");
    static char bytes[1 << 20];
    size_t count = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    unlink(path);
    free(decode(bytes, count, &width, &height));
    assert_int_equal(width, 900);
    assert_int_equal(picture_write(&p, "/nowhere/x.png"), CODE_CANNOT_WRITE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_show_the_data),
        cmocka_unit_test(text_is_where_it_belongs),
        cmocka_unit_test(missing_values_are_grey),
        cmocka_unit_test(odd_pictures),
        cmocka_unit_test(letters),
        cmocka_unit_test(colour_maps_keep_their_word),
        cmocka_unit_test(a_file_is_written),
    };
    return cmocka_run_group_tests(tests, make_fields, NULL);
}
