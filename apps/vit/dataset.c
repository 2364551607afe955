/* SPDX-License-Identifier: MIT */
/* A folder of yearly files: what is in it, and which moment sample i is. */
#include "vit/dataset_parts.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vit/statistics.h"
#include "vit/vit_dates.h"

/* The variables of FourCastNet, which are those of the original. */
static const struct {
    const char *name, *unit;
} era5[] = {{"u10m", "m/s"}, {"v10m", "m/s"},   {"t2m", "K"},     {"sp", "Pa"},       {"msl", "Pa"},
            {"t850", "K"},   {"u1000", "m/s"},  {"v1000", "m/s"}, {"z1000", "m2/s2"}, {"u850", "m/s"},
            {"v850", "m/s"}, {"z850", "m2/s2"}, {"u500", "m/s"},  {"v500", "m/s"},    {"z500", "m2/s2"},
            {"t500", "K"},   {"z50", "m2/s2"},  {"r500", "%"},    {"r850", "%"},      {"tcwv", "kg/m2"}};
#define ERA5 ((int64_t)(sizeof era5 / sizeof *era5))

/* ---- the files ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(vit_dataset *d, const char *folder, const char *name)
{
    char **names = realloc(d->names, (size_t)(d->years + 1) * sizeof *names);
    if (names)
        d->names = names;
    if (!names || asprintf(&names[d->years], "%s/%s", folder, name) < 0)
        return fail(CODE_NO_MEMORY, "out of memory for names of files");
    d->years++;
    return CODE_GOOD;
}

static int list_files(vit_dataset *d, const char *folder)
{
    DIR *list = opendir(folder);
    int code = CODE_GOOD;
    if (!list)
        return fail(errno == ENOENT ? CODE_MISSING : CODE_IO, "%s: the folder of yearly files cannot be read: %s",
                    folder, strerror(errno));
    for (struct dirent *entry; !code && (entry = readdir(list));) {
        size_t length = strlen(entry->d_name);
        if (length > 3 && entry->d_name[0] != '.' && strcmp(entry->d_name + length - 3, ".h5") == 0)
            code = add_name(d, folder, entry->d_name);
    }
    closedir(list);
    if (!code && d->years == 0)
        code = fail(CODE_MISSING, "%s: holds no yearly file, *.h5", folder);
    if (!code)
        qsort(d->names, (size_t)d->years, sizeof *d->names, compare_names);
    return code;
}

static int check_sizes(const fields *f, const vit_data_options *o)
{
    const fields_size *n = fields_sizes(f);
    if (n->channels != o->channels)
        return fail(CODE_BAD_INPUT, "%s: fields has %lld channels; the configuration's n_in_channels is %lld",
                    fields_path(f), (long long)n->channels, (long long)o->channels);
    if (n->latitudes < o->latitudes || n->longitudes < o->longitudes)
        return fail(CODE_BAD_INPUT,
                    "%s: fields has %lld latitudes and %lld longitudes; img_size needs at least %lld and %lld",
                    fields_path(f), (long long)n->latitudes, (long long)n->longitudes, (long long)o->latitudes,
                    (long long)o->longitudes);
    if (n->steps < 3 * o->dt)
        return fail(CODE_BAD_INPUT, "%s: fields has %lld time steps; with dt %lld it needs at least %lld",
                    fields_path(f), (long long)n->steps, (long long)o->dt, (long long)(3 * o->dt));
    return CODE_GOOD;
}

/* What the options leave open, from the first file. */
static int take_sizes(vit_dataset *d)
{
    fields *f;
    vit_data_options *o = &d->options;
    int code = fields_open(&f, d->names[0]);
    if (code)
        return code;
    o->channels = o->channels ? o->channels : fields_sizes(f)->channels;
    o->latitudes = o->latitudes ? o->latitudes : fields_sizes(f)->latitudes;
    o->longitudes = o->longitudes ? o->longitudes : fields_sizes(f)->longitudes;
    fields_close(f);
    return CODE_GOOD;
}

/* Opens file `y` of the sorted names, checks it, reads its times. */
static int open_year(vit_dataset *d, int64_t y)
{
    year *at = &d->items[y];
    int code = fields_open(&at->file, d->names[y]);
    if (!code)
        code = check_sizes(at->file, &d->options);
    if (code)
        return code;
    at->first = d->samples;
    at->steps = fields_sizes(at->file)->steps;
    d->samples += at->steps;
    at->seconds = allocate((size_t)at->steps * sizeof *at->seconds);
    if (!at->seconds)
        return CODE_NO_MEMORY;
    bool there = false;
    code = fields_times(at->file, at->seconds, &there);
    if (!there) {
        free(at->seconds);
        at->seconds = NULL;
    }
    return code;
}

/* ---- axes ---- */

static int read_axis(vit_dataset *d, const char *name, int64_t count, double *values, bool *there)
{
    double *all = allocate((size_t)count * sizeof *all);
    if (!all)
        return CODE_NO_MEMORY;
    int code = fields_numbers(d->items[0].file, name, count, all, there);
    int64_t kept = strcmp(name, "latitude") == 0 ? d->options.latitudes : d->options.longitudes;
    if (!code && *there)
        memcpy(values, all, (size_t)kept * sizeof *all);
    free(all);
    return code;
}

/* Sum: the number of rows.  3.1416 is the original's, kept so that scores are equal. */
static void weigh(vit_dataset *d, bool own)
{
    int64_t rows = d->options.latitudes;
    double sum = 0, spacing = rows > 1 ? fabs(d->latitudes[1] - d->latitudes[0]) : 180;
    bool globe = d->latitudes[0] >= 90 - spacing && d->latitudes[rows - 1] <= -90 + 1.5 * spacing;
    for (int64_t j = 0; j < rows; j++) {
        double latitude = own && !globe ? d->latitudes[j] : 90 - 180.0 * (double)j / (double)(rows > 1 ? rows - 1 : 1);
        d->weights[j] = rows > 1 ? fmax(0, cos(latitude * 3.1416 / 180)) : 1;
        sum += d->weights[j];
    }
    for (int64_t j = 0; j < rows; j++)
        d->weights[j] *= (double)rows / sum;
}

static int read_axes(vit_dataset *d)
{
    const fields_size *n = fields_sizes(d->items[0].file);
    int64_t rows = d->options.latitudes, columns = d->options.longitudes;
    bool own = false, east = false;
    d->latitudes = allocate((size_t)rows * sizeof(double));
    d->weights = allocate((size_t)rows * sizeof(double));
    d->longitudes = allocate((size_t)columns * sizeof(double));
    if (!d->latitudes || !d->weights || !d->longitudes)
        return CODE_NO_MEMORY;
    int code = read_axis(d, "latitude", n->latitudes, d->latitudes, &own);
    if (!code)
        code = read_axis(d, "longitude", n->longitudes, d->longitudes, &east);
    for (int64_t j = 0; j < rows && !own; j++)
        d->latitudes[j] = 90 - 180.0 * (double)j / (double)(n->latitudes > 1 ? n->latitudes - 1 : 1);
    for (int64_t i = 0; i < columns && !east; i++)
        d->longitudes[i] = 360.0 * (double)i / (double)n->longitudes;
    for (int64_t j = 0; j < rows && !code; j++)
        if (!(fabs(d->latitudes[j]) <= 90.001) || (j && !(d->latitudes[j] < d->latitudes[j - 1])))
            code = fail(CODE_BAD_INPUT, "%s: latitude[%lld] is %g; latitudes must fall from north to south",
                        d->names[0], (long long)j, d->latitudes[j]);
    if (!code)
        weigh(d, own);
    return code;
}

/* ---- channels ---- */

static int name_channels(vit_dataset *d)
{
    int64_t count = d->options.channels;
    bool named = false, united = false;
    char(*texts)[VIT_NAME] = allocate((size_t)count * VIT_NAME);
    if (!texts)
        return CODE_NO_MEMORY;
    int code = fields_texts(d->items[0].file, "channel_names", count, texts, &named);
    for (int64_t c = 0; c < count && !code; c++)
        if (named)
            memcpy(d->channels[c].name, texts[c], VIT_NAME);
        else if (count == ERA5)
            snprintf(d->channels[c].name, VIT_NAME, "%s", era5[c].name);
        else
            snprintf(d->channels[c].name, VIT_NAME, "channel_%lld", (long long)c);
    if (!code)
        code = fields_texts(d->items[0].file, "channel_units", count, texts, &united);
    for (int64_t c = 0; c < count && !code; c++)
        if (united)
            memcpy(d->channels[c].unit, texts[c], VIT_NAME);
        else if (!named && count == ERA5)
            snprintf(d->channels[c].unit, VIT_NAME, "%s", era5[c].unit);
    free(texts);
    return code;
}

static int read_channels(vit_dataset *d)
{
    const vit_data_options *o = &d->options;
    d->channels = allocate((size_t)o->channels * sizeof *d->channels);
    double *values = allocate((size_t)o->channels * sizeof *values);
    int code = d->channels && values ? name_channels(d) : CODE_NO_MEMORY;
    for (int64_t c = 0; c < o->channels && !code; c++)
        d->channels[c].std = 1;
    if (!code && o->means)
        code = statistics_read(o->means, o->channels, values);
    for (int64_t c = 0; c < o->channels && !code && o->means; c++)
        d->channels[c].mean = values[c];
    if (!code && o->stds)
        code = statistics_read(o->stds, o->channels, values);
    for (int64_t c = 0; c < o->channels && !code && o->stds; c++) {
        d->channels[c].std = values[c];
        if (!(values[c] > 0))
            code = fail(CODE_BAD_INPUT, "%s: the standard deviation of channel %lld (%s) is %g; it must be positive",
                        o->stds, (long long)c, d->channels[c].name, values[c]);
    }
    free(values);
    return code;
}

/* ---- all of it ---- */

static int open_all(vit_dataset *d)
{
    if (!d->options.folder)
        return fail(CODE_CONFIGURATION,
                    "the folder of the fields is not configured (train_data_path, valid_data_path)");
    int code = list_files(d, d->options.folder);
    if (!code)
        code = take_sizes(d);
    if (!code) {
        d->items = allocate((size_t)d->years * sizeof *d->items);
        code = d->items ? CODE_GOOD : CODE_NO_MEMORY;
    }
    for (int64_t y = 0; y < d->years && !code; y++)
        code = open_year(d, y);
    if (!code)
        code = read_axes(d);
    if (!code)
        code = read_channels(d);
    if (!code && d->options.limit && d->options.limit < d->samples)
        d->samples = d->options.limit;
    return code;
}

int vit_dataset_open(vit_dataset **result, const vit_data_options *o)
{
    vit_dataset *d = allocate(sizeof *d);
    *result = NULL;
    if (!d)
        return CODE_NO_MEMORY;
    d->options = *o;
    int code = open_all(d);
    if (code)
        vit_dataset_close(d);
    else
        *result = d;
    return code;
}

void vit_dataset_close(vit_dataset *d)
{
    if (!d)
        return;
    for (int64_t y = 0; y < d->years; y++) {
        if (d->items) {
            fields_close(d->items[y].file);
            free(d->items[y].seconds);
        }
        free(d->names[y]);
    }
    free(d->items);
    free(d->names);
    free(d->channels);
    free(d->latitudes);
    free(d->longitudes);
    free(d->weights);
    free(d);
}
