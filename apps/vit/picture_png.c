/* SPDX-License-Identifier: MIT */
/* PNG through libpng, into memory. */
#include "vit/picture_canvas.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "shared/report.h"

#define PIXELS_A_METRE 11811 /* 300 dpi */

typedef struct growing {
    unsigned char *bytes;
    size_t count, room;
} growing;

static void append(png_structp png, png_bytep bytes, size_t count)
{
    growing *to = png_get_io_ptr(png);
    if (to->count + count > to->room) {
        size_t room = 2 * (to->count + count);
        unsigned char *more = realloc(to->bytes, room);
        if (!more)
            png_error(png, "out of memory");
        to->bytes = more;
        to->room = room;
    }
    memcpy(to->bytes + to->count, bytes, count);
    to->count += count;
}

static void no_flush(png_structp png)
{
    (void)png;
}

static void keep_error(png_structp png, png_const_charp message)
{
    fail(CODE_INTERNAL, "the picture cannot be written: libpng says: %s", message);
    png_longjmp(png, 1);
}

static void no_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* What libpng may jump out of; nothing here is changed after setjmp. */
static int write_image(const canvas *c, const char *title, png_structp png, png_infop info, growing *to)
{
    char key[] = "Title", software[] = "Software", name[] = "ringx-vit", text[400];
    if (setjmp(png_jmpbuf(png)))
        return CODE_INTERNAL;
    png_set_write_fn(png, to, append, no_flush);
    png_set_IHDR(png, info, (png_uint_32)c->width, (png_uint_32)c->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_pHYs(png, info, PIXELS_A_METRE, PIXELS_A_METRE, PNG_RESOLUTION_METER);
    snprintf(text, sizeof text, "%s", title);
    png_text words[2] = {
        {.compression = PNG_TEXT_COMPRESSION_NONE, .key = key, .text = text, .text_length = strlen(text)},
        {.compression = PNG_TEXT_COMPRESSION_NONE, .key = software, .text = name, .text_length = strlen(name)}};
    png_set_text(png, info, words, 2);
    png_write_info(png, info);
    for (int y = 0; y < c->height; y++)
        png_write_row(png, c->rgb + (size_t)y * (size_t)c->width * 3);
    png_write_end(png, info);
    return CODE_GOOD;
}

int canvas_png(const canvas *c, const char *title, unsigned char **png_bytes, size_t *bytes)
{
    growing to = {.bytes = NULL};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, keep_error, no_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    int code = info ? write_image(c, title, png, info, &to) : fail(CODE_NO_MEMORY, "out of memory for a picture");
    png_destroy_write_struct(&png, &info);
    if (code) {
        free(to.bytes);
        to = (growing){.bytes = NULL};
    }
    *png_bytes = to.bytes;
    *bytes = to.count;
    return code;
}
