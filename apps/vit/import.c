/* SPDX-License-Identifier: MIT */
/* Imports fields: statistics of the training part first, then the yearly files of all parts. */
#include "vit/import.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vit/fields.h"
#include "vit/statistics.h"
#include "vit/vit_dates.h"

const char *const import_parts[PARTS] = {"train", "valid", "test"};

typedef struct importer {
    const import_options *o;
    import_sources from;
    import_result *r;
    int64_t rows[2], columns[2]; /* of the crop, first and last */
    float *whole;                /* one channel of one step */
    float *step;                 /* [channel][latitude][longitude] of the crop */
} importer;

static import_part part_of(const importer *m, int64_t step)
{
    const import_options *o = m->o;
    int64_t year = date_year(m->from.seconds[step]), left = m->from.steps - step;
    for (import_part p = PART_TEST; p > PART_TRAIN; p--) {
        if (o->split_years[p] && year >= o->years[p][0] && year <= o->years[p][1])
            return p;
        if (left <= o->last[p])
            return p;
        left -= o->last[p];
    }
    return PART_TRAIN;
}

/* All channels of a step, cropped. */
static int read_step(importer *m, int64_t step)
{
    int64_t columns = m->r->longitudes;
    float *to = m->step;
    for (size_t c = 0; c < m->from.n_channels; c++) {
        int code = import_sources_read(&m->from, c, step, m->whole);
        if (code)
            return code;
        for (int64_t j = m->rows[0]; j <= m->rows[1]; j++, to += columns)
            memcpy(to, m->whole + j * m->from.longitudes + m->columns[0], (size_t)columns * sizeof *to);
    }
    return CODE_GOOD;
}

/* ---- statistics ---- */

typedef struct sums {
    double count, mean, squares; /* Σ (value − mean)²: Welford's way, so that nothing cancels */
} sums;

static int measure_step(importer *m, int64_t step, sums *of)
{
    char date[VIT_NAME];
    int64_t plane = m->r->latitudes * m->r->longitudes;
    int code = read_step(m, step);
    bool train = part_of(m, step) == PART_TRAIN;
    for (size_t c = 0; c < m->from.n_channels && !code; c++)
        for (int64_t i = 0; i < plane && !code; i++) {
            double value = (double)m->step[(int64_t)c * plane + i];
            if (isnan(value)) {
                m->r->missing[c]++;
                if (m->o->missing != IMPORT_REFUSE)
                    continue;
                date_text(m->from.seconds[step], date, sizeof date);
                code = fail(CODE_BAD_INPUT,
                            "channel '%s' of %s has a missing value at row %lld from the north, column %lld; "
                            "--missing keep or mean would take it",
                            m->from.channels[c].name, date, (long long)(i / m->r->longitudes),
                            (long long)(i % m->r->longitudes));
            } else if (train) {
                double apart = value - of[c].mean;
                of[c].mean += apart / ++of[c].count;
                of[c].squares += apart * (value - of[c].mean);
            }
        }
    return code;
}

static int measure(importer *m)
{
    int64_t channels = m->r->n_channels;
    sums *of = allocate((size_t)channels * sizeof *of);
    int code = of ? CODE_GOOD : CODE_NO_MEMORY;
    progress_begin("measuring", (size_t)m->from.steps);
    for (int64_t t = 0; t < m->from.steps && !code; t++) {
        code = measure_step(m, t, of);
        progress_step((size_t)t + 1, "");
    }
    progress_end();
    for (int64_t c = 0; c < channels && !code; c++) {
        vit_channel *to = &m->r->channels[c];
        to->mean = of[c].mean;
        to->std = of[c].count > 0 ? sqrt(of[c].squares / of[c].count) : 0;
        if (!((float)to->std > 0))
            code = fail(CODE_BAD_INPUT,
                        "channel '%s' has %.0f values in the training part, with the standard deviation %g; it "
                        "must vary",
                        to->name, of[c].count, to->std);
    }
    free(of);
    return code;
}

/* ---- files ---- */

static int make_folder(const char *path)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return CODE_GOOD;
    return fail(CODE_CANNOT_WRITE, "%s: the folder cannot be made: %s", path, strerror(errno));
}

static int write_statistics(importer *m)
{
    char *path = NULL;
    double *values = allocate((size_t)m->r->n_channels * sizeof *values);
    int code = values ? CODE_GOOD : CODE_NO_MEMORY;
    for (int which = 0; which < 2 && !code; which++) {
        if (asprintf(&path, "%s/stats/%s.npy", m->o->output, which ? "global_stds" : "global_means") < 0)
            code = fail(CODE_NO_MEMORY, "out of memory for a path");
        for (int64_t c = 0; c < m->r->n_channels && !code; c++)
            values[c] = which ? m->r->channels[c].std : m->r->channels[c].mean;
        if (!code)
            code = statistics_write(path, m->r->n_channels, values);
        free(path);
        path = NULL;
    }
    free(values);
    return code;
}

static int write_step(importer *m, fields_output *to, int64_t step, int64_t number)
{
    int64_t plane = m->r->latitudes * m->r->longitudes;
    int code = read_step(m, step);
    for (int64_t i = 0; i < plane * m->r->n_channels && !code && m->o->missing == IMPORT_MEAN; i++)
        if (isnan(m->step[i]))
            m->step[i] = (float)m->r->channels[i / plane].mean;
    return code ? code : fields_write(to, number, m->step);
}

/* Steps [first, end), of one year and part, as a file. */
static int write_file(importer *m, int64_t first, int64_t end, import_part part)
{
    char *path = NULL;
    fields_output *to;
    const import_sources *s = &m->from;
    fields_size size = {end - first, m->r->n_channels, m->r->latitudes, m->r->longitudes};
    fields_axes axes = {s->latitude + m->rows[0], s->longitude + m->columns[0], s->seconds + first, m->r->channels};
    if (asprintf(&path, "%s/%s/%04lld.h5", m->o->output, import_parts[part], (long long)date_year(s->seconds[first])) <
        0)
        return fail(CODE_NO_MEMORY, "out of memory for a path");
    int code = fields_create(&to, path, &size, &axes);
    free(path);
    if (code)
        return code;
    for (int64_t t = first; t < end && !code; t++)
        code = write_step(m, to, t, t - first);
    if (code)
        fields_abandon(to);
    else
        code = fields_commit(to);
    m->r->files[part]++;
    m->r->steps[part] += end - first;
    return code;
}

static int write_files(importer *m)
{
    char path[4096];
    bool used[PARTS + 1] = {[PARTS] = true}; /* the last: statistics */
    int code = make_folder(m->o->output);
    for (int64_t t = 0; t < m->from.steps; t++)
        used[part_of(m, t)] = true;
    for (import_part p = PART_TRAIN; p <= PARTS && !code; p++) {
        int n = snprintf(path, sizeof path, "%s/%s", m->o->output, p < PARTS ? import_parts[p] : "stats");
        code = n < (int)sizeof path ? CODE_GOOD : fail(CODE_USAGE, "output is too long a path");
        if (!code && used[p])
            code = make_folder(path);
    }
    if (!code)
        code = write_statistics(m);
    for (int64_t first = 0, end; first < m->from.steps && !code; first = end) {
        import_part part = part_of(m, first);
        int64_t year = date_year(m->from.seconds[first]);
        for (end = first; end < m->from.steps && part_of(m, end) == part && date_year(m->from.seconds[end]) == year;)
            end++;
        code = write_file(m, first, end, part);
    }
    return code;
}

/* ---- all of it ---- */

static int crop(const char *what, bool given, const int64_t wanted[2], int64_t count, int64_t kept[2])
{
    kept[0] = given ? wanted[0] : 0;
    kept[1] = given ? wanted[1] : count - 1;
    if (kept[0] < 0 || kept[0] > kept[1] || kept[1] >= count)
        return fail(CODE_USAGE, "%s is %lld-%lld; it must lie in 0-%lld", what, (long long)kept[0], (long long)kept[1],
                    (long long)count - 1);
    return CODE_GOOD;
}

/* The units that were given, in the order of the channels. */
static int name_units(importer *m)
{
    const char *at = m->o->units;
    for (int64_t c = 0; c < m->r->n_channels && at; c++) {
        size_t length = strcspn(at, ",");
        bool last = c + 1 == m->r->n_channels;
        if (length >= VIT_NAME || (at[length] == '\0') != last)
            return fail(CODE_USAGE, "units is '%s'; it must be %lld short texts with commas between them", m->o->units,
                        (long long)m->r->n_channels);
        snprintf(m->r->channels[c].unit, VIT_NAME, "%.*s", (int)length, at);
        at += length + !last;
    }
    return CODE_GOOD;
}

static int prepare(importer *m)
{
    const import_sources *s = &m->from;
    import_result *r = m->r;
    int code = crop("rows", m->o->crop_rows, m->o->rows, s->latitudes, m->rows);
    if (!code)
        code = crop("columns", m->o->crop_columns, m->o->columns, s->longitudes, m->columns);
    if (code)
        return code;
    r->n_channels = (int64_t)s->n_channels;
    r->latitudes = m->rows[1] - m->rows[0] + 1, r->longitudes = m->columns[1] - m->columns[0] + 1;
    r->channels = allocate(s->n_channels * sizeof *r->channels);
    r->missing = allocate(s->n_channels * sizeof *r->missing);
    m->whole = allocate((size_t)(s->latitudes * s->longitudes) * sizeof(float));
    m->step = allocate(s->n_channels * (size_t)(r->latitudes * r->longitudes) * sizeof(float));
    if (!r->channels || !r->missing || !m->whole || !m->step)
        return CODE_NO_MEMORY;
    for (size_t c = 0; c < s->n_channels; c++) {
        memcpy(r->channels[c].name, s->channels[c].name, VIT_NAME);
        memcpy(r->channels[c].unit, s->channels[c].unit, VIT_NAME);
    }
    return name_units(m);
}

int import_fields(const import_options *o, import_result *r)
{
    importer m = {.o = o, .r = r};
    *r = (import_result){.channels = NULL};
    if (!o->output)
        return fail(CODE_USAGE, "output is missing; it names the folder to write into");
    int code = import_sources_open(&m.from, o);
    if (code)
        return code;
    code = prepare(&m);
    if (!code)
        code = measure(&m);
    if (!code)
        code = write_files(&m);
    free(m.whole);
    free(m.step);
    import_sources_close(&m.from);
    if (code)
        import_result_free(r);
    return code;
}

void import_result_free(import_result *r)
{
    free(r->channels);
    free(r->missing);
    *r = (import_result){.channels = NULL};
}
