/* SPDX-License-Identifier: MIT */
/* Moments of a data set, and normalised fields. */
#include "vit/dataset_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vit/vit_dates.h"

int64_t vit_dataset_samples(const vit_dataset *d)
{
    return d->samples;
}

int64_t vit_dataset_dt(const vit_dataset *d)
{
    return d->options.dt;
}

int64_t vit_dataset_years(const vit_dataset *d)
{
    return d->years;
}

void vit_dataset_shape(const vit_dataset *d, int64_t *channels, int64_t *rows, int64_t *columns)
{
    *channels = d->options.channels, *rows = d->options.latitudes, *columns = d->options.longitudes;
}

const char *vit_dataset_file(const vit_dataset *d, int64_t y)
{
    return d->names[y];
}

int64_t vit_dataset_steps(const vit_dataset *d, int64_t y)
{
    return d->items[y].steps;
}

const vit_channel *vit_dataset_channels(const vit_dataset *d)
{
    return d->channels;
}

const double *vit_dataset_latitudes(const vit_dataset *d)
{
    return d->latitudes;
}

const double *vit_dataset_longitudes(const vit_dataset *d)
{
    return d->longitudes;
}

const double *vit_dataset_weights(const vit_dataset *d)
{
    return d->weights;
}

int vit_dataset_channel(const vit_dataset *d, const char *text, int64_t *channel)
{
    char list[600] = "", *end;
    long long number = strtoll(text, &end, 10);
    if (*text && !*end && number >= 0 && number < d->options.channels) {
        *channel = number;
        return CODE_GOOD;
    }
    for (int64_t c = 0; c < d->options.channels; c++) {
        if (strcmp(d->channels[c].name, text) == 0) {
            *channel = c;
            return CODE_GOOD;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", c ? ", " : "", d->channels[c].name);
    }
    return fail(CODE_USAGE, "there is no channel '%s'; it must be a number below %lld or one of %s", text,
                (long long)d->options.channels, list);
}

/* ---- moments ---- */

/* The original's rule; sample 0 of a year is never an input, and a pair never crosses years. */
vit_moment vit_dataset_sample(const vit_dataset *d, int64_t sample)
{
    int64_t y = 0, dt = d->options.dt;
    while (y + 1 < d->years && sample >= d->items[y + 1].first)
        y++;
    int64_t step = (sample - d->items[y].first) % (d->items[y].steps - dt);
    return (vit_moment){.year = y, .step = step < dt ? step + dt : step};
}

bool vit_dataset_seconds(const vit_dataset *d, vit_moment m, int64_t *seconds)
{
    const year *at = &d->items[m.year];
    *seconds = at->seconds ? at->seconds[m.step] : 0;
    return at->seconds != NULL;
}

/* The last four characters of the file's stem. */
static const char *year_text(const vit_dataset *d, int64_t y, char text[8])
{
    const char *name = d->names[y], *slash = strrchr(name, '/');
    const char *stem = slash ? slash + 1 : name;
    size_t length = strlen(stem) - 3;
    snprintf(text, 8, "%.*s", (int)(length < 4 ? length : 4), stem + (length < 4 ? 0 : length - 4));
    return text;
}

const char *vit_dataset_date(const vit_dataset *d, vit_moment m, char text[VIT_NAME])
{
    int64_t seconds;
    char of_year[8];
    if (vit_dataset_seconds(d, m, &seconds))
        date_text(seconds, text, VIT_NAME);
    else
        snprintf(text, VIT_NAME, "%s, step %lld", year_text(d, m.year, of_year), (long long)m.step);
    return text;
}

/* "1996, step 5" or "1996": of the first file of that year. */
static bool find_step(const vit_dataset *d, const char *date, vit_moment *m)
{
    size_t length = strcspn(date, ", ");
    const char *at = strstr(date, "step ");
    char *end = NULL;
    long long step = at ? strtoll(at + 5, &end, 10) : 0;
    for (int64_t y = 0; y < d->years; y++) {
        char text[8];
        if (strlen(year_text(d, y, text)) != length || strncmp(text, date, length) != 0)
            continue;
        *m = (vit_moment){.year = y, .step = step};
        return (at ? !*end : !date[length]) && step >= 0 && step < d->items[y].steps;
    }
    return false;
}

/* The first moment whose date begins with the text. */
static bool find_prefix(const vit_dataset *d, const char *date, vit_moment *m)
{
    char text[VIT_NAME];
    for (int64_t y = 0; y < d->years; y++)
        for (int64_t t = 0; t < d->items[y].steps && d->items[y].seconds; t++) {
            *m = (vit_moment){.year = y, .step = t};
            if (strncmp(vit_dataset_date(d, *m, text), date, strlen(date)) == 0)
                return true;
        }
    return false;
}

int vit_dataset_find(const vit_dataset *d, const char *date, vit_moment *m)
{
    char first[VIT_NAME], last[VIT_NAME];
    int64_t wanted;
    bool dated = date_parse(date, &wanted);
    for (int64_t y = 0; y < d->years && dated; y++)
        for (int64_t t = 0; t < d->items[y].steps && d->items[y].seconds; t++)
            if (d->items[y].seconds[t] == wanted) {
                *m = (vit_moment){.year = y, .step = t};
                return CODE_GOOD;
            }
    if (find_step(d, date, m) || (dated && find_prefix(d, date, m)))
        return CODE_GOOD;
    vit_moment end = {.year = d->years - 1, .step = d->items[d->years - 1].steps - 1};
    return fail(CODE_USAGE, "the fields have no date '%s'; they go from %s to %s", date,
                vit_dataset_date(d, (vit_moment){0}, first), vit_dataset_date(d, end, last));
}

/* ---- fields ---- */

vit_band vit_band_of_tokens(const vit_config *c, int64_t first, int64_t count)
{
    int64_t across = c->img_size[1] / c->patch_size;
    int64_t top = first / across, bottom = count ? (first + count - 1) / across + 1 : top;
    return (vit_band){.first = top * c->patch_size, .count = (bottom - top) * c->patch_size};
}

typedef struct gap { /* missing values of one channel of a band */
    int64_t count, first;
} gap;

static bool is_missing(bool has_fill, float fill, float value)
{
    return !isfinite(value) || (has_fill && value == fill);
}

/* (value − mean) / std in place; missing values become 0 and are counted. */
static gap normalise(const vit_channel *channel, bool has_fill, float fill, float *values, int64_t count)
{
    gap g = {0};
    float mean = (float)channel->mean, std = (float)channel->std;
    for (int64_t i = 0; i < count; i++) {
        if (!is_missing(has_fill, fill, values[i])) {
            values[i] = (values[i] - mean) / std;
            continue;
        }
        g.first = g.count++ ? g.first : i;
        values[i] = 0;
    }
    return g;
}

static int read_band(vit_dataset *d, vit_moment m, vit_band band, float *to, int64_t *missing)
{
    int64_t columns = d->options.longitudes, plane = band.count * columns;
    float fill = 0;
    bool has_fill = fields_fill(d->items[m.year].file, &fill);
    int code = fields_read(d->items[m.year].file, m.step, band, columns, to);
    for (int64_t c = 0; c < d->options.channels && !code; c++) {
        gap g = normalise(&d->channels[c], has_fill, fill, to + c * plane, plane);
        *missing += g.count;
        if (g.count && d->options.missing == VIT_MISSING_REFUSE)
            code =
                fail(CODE_BAD_INPUT,
                     "%s: fields[%lld], channel %lld (%s): %lld of %lld values are missing (NaN, infinite or the fill "
                     "value), the first at row %lld, column %lld; missing_values: mean would fill them",
                     d->names[m.year], (long long)m.step, (long long)c, d->channels[c].name, (long long)g.count,
                     (long long)plane, (long long)(band.first + g.first / columns), (long long)(g.first % columns));
    }
    return code;
}

int vit_dataset_read(vit_dataset *d, vit_moment m, vit_band band, float *to)
{
    int64_t missing = 0;
    return read_band(d, m, band, to, &missing);
}

int vit_dataset_gaps(const vit_dataset *d, vit_moment m, vit_band band, uint8_t *to)
{
    size_t count = (size_t)(d->options.channels * band.count * d->options.longitudes);
    float fill = 0, *values = allocate(count * sizeof *values);
    bool has_fill = fields_fill(d->items[m.year].file, &fill);
    int code =
        values ? fields_read(d->items[m.year].file, m.step, band, d->options.longitudes, values) : CODE_NO_MEMORY;
    for (size_t i = 0; i < count && !code; i++)
        to[i] = is_missing(has_fill, fill, values[i]);
    free(values);
    return code;
}

int vit_dataset_mask(const vit_dataset *d, vit_moment m, float *values)
{
    const vit_band all = {.first = 0, .count = d->options.latitudes};
    size_t count = (size_t)(d->options.channels * all.count * d->options.longitudes);
    uint8_t *gaps = allocate(count);
    int code = gaps ? vit_dataset_gaps(d, m, all, gaps) : CODE_NO_MEMORY;
    for (size_t i = 0; i < count && !code; i++)
        if (gaps[i])
            values[i] = NAN;
    free(gaps);
    return code;
}

int vit_dataset_scan(vit_dataset *d, int part, int parts, size_t most_bytes, vit_scan *scan)
{
    const vit_band all = {.first = 0, .count = d->options.latitudes};
    size_t plane = (size_t)d->options.channels * (size_t)d->options.latitudes * (size_t)d->options.longitudes;
    int64_t total = d->items[d->years - 1].first + d->items[d->years - 1].steps;
    int code = CODE_GOOD;
    int64_t most = (int64_t)(most_bytes / (plane * sizeof(float))), stride = 1;
    if (most * parts < total)
        stride = most ? (total + most * parts - 1) / (most * parts) : total;
    float *values = allocate(plane * sizeof *values);
    *scan = (vit_scan){0};
    if (!values)
        return CODE_NO_MEMORY;
    for (int64_t i = part * stride; i < total && !code; i += parts * stride) {
        vit_moment m = {0};
        while (m.year + 1 < d->years && i >= d->items[m.year + 1].first)
            m.year++;
        m.step = i - d->items[m.year].first;
        code = read_band(d, m, all, values, &scan->missing);
        scan->steps++;
        scan->values += (int64_t)plane;
    }
    free(values);
    return code;
}
