/* SPDX-License-Identifier: MIT */
/* From normalised fields to panels. */
#include "vit/vit_figure.h"

#include "vit/picture.h"

#include <math.h>
#include <stdlib.h>

static void to_physical(const vit_figure *f, const float *from, float *to)
{
    const vit_channel *c = &vit_dataset_channels(f->data)[f->channel];
    for (int64_t i = 0; i < f->rows * f->columns; i++)
        to[i] = (float)((double)from[i] * c->std + c->mean);
}

/* One scale for all values of two fields. */
static void share_scale(picture_panel *a, picture_panel *b, int64_t n)
{
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        low = fmin(low, fmin((double)a->values[i], (double)b->values[i])); /* fmin leaves NaN out */
        high = fmax(high, fmax((double)a->values[i], (double)b->values[i]));
    }
    if (low < high)
        a->low = b->low = low, a->high = b->high = high;
}

/* The values of its panels, three fields for the caller to free; NULL: out of memory.  p refers to title. */
static float *make_panels(const vit_figure *f, char title[32], picture *p)
{
    int64_t n = f->rows * f->columns;
    float *values = allocate(3 * (size_t)n * sizeof *values);
    if (!values)
        return NULL;
    const char *unit = vit_dataset_channels(f->data)[f->channel].unit;
    *p = (picture){.rows = f->rows,
                   .columns = f->columns,
                   .latitudes = vit_dataset_latitudes(f->data),
                   .longitudes = vit_dataset_longitudes(f->data),
                   .title = f->title,
                   .subtitle = f->subtitle,
                   .width = f->width,
                   .height = f->height};
    snprintf(title, 32, "ViT prediction (patch=%lld)", (long long)f->patch);
    to_physical(f, f->prediction, values + n);
    if (f->truth) {
        to_physical(f, f->truth, values);
        p->panels[p->n_panels++] = (picture_panel){"truth", values, COLOURS_TURBO, 0, 0, unit};
    }
    p->panels[p->n_panels++] = (picture_panel){title, values + n, COLOURS_TURBO, 0, 0, unit};
    if (!f->truth || !f->difference)
        return values;
    share_scale(&p->panels[0], &p->panels[1], n);
    for (int64_t i = 0; i < n; i++)
        values[2 * n + i] = values[n + i] - values[i];
    p->panels[p->n_panels++] = (picture_panel){"prediction - truth", values + 2 * n, COLOURS_BALANCE, 0, 0, unit};
    return values;
}

int vit_figure_write(const vit_figure *f, const char *path)
{
    picture p;
    char title[32];
    float *values = make_panels(f, title, &p);
    if (!values)
        return CODE_NO_MEMORY;
    int code = picture_write(&p, path);
    free(values);
    return code;
}

int vit_figure_encode(const vit_figure *f, unsigned char **png, size_t *bytes, int size[2])
{
    picture p;
    char title[32];
    float *values = make_panels(f, title, &p);
    if (!values)
        return CODE_NO_MEMORY;
    picture_size(&p, &size[0], &size[1]);
    int code = picture_encode(&p, png, bytes);
    free(values);
    return code;
}
