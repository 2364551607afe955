/* SPDX-License-Identifier: MIT */
/* Predictions as netCDF-4 by the CF conventions. */
#include "vit/prediction_file.h"

#include <errno.h>
#include <math.h>
#include <netcdf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vit/vit_dates.h"

enum { DIM_LEAD, DIM_LATITUDE, DIM_LONGITUDE, DIMS };

struct prediction_file {
    char *path, *temporary;
    const vit_dataset *d;
    prediction_about about;
    int id;
    bool open;
    int dims[DIMS];
    int *prediction, *truth; /* [channels]: variables */
    int64_t channels, rows, columns;
    float *field; /* one channel, in physical units */
};

static int failed(const prediction_file *f, const char *what, int status)
{
    return fail(CODE_CANNOT_WRITE, "%s: %s cannot be written: %s", f->path, what, nc_strerror(status));
}

static int put_text(const prediction_file *f, int variable, const char *name, const char *text)
{
    int status = *text ? nc_put_att_text(f->id, variable, name, strlen(text), text) : NC_NOERR;
    return status == NC_NOERR ? CODE_GOOD : failed(f, name, status);
}

/* ---- coordinates ---- */

typedef struct coordinate {
    const char *name, *units, *standard_name, *calendar;
    int dimension; /* -1: a single value */
    nc_type type;
} coordinate;

static int define_coordinate(const prediction_file *f, const coordinate *c, int *variable)
{
    int status =
        nc_def_var(f->id, c->name, c->type, c->dimension >= 0, &f->dims[c->dimension < 0 ? 0 : c->dimension], variable);
    if (status != NC_NOERR)
        return failed(f, c->name, status);
    int code = put_text(f, *variable, "units", c->units);
    if (!code)
        code = put_text(f, *variable, "standard_name", c->standard_name);
    return code ? code : put_text(f, *variable, "calendar", c->calendar);
}

/* The lead's time: of the file's steps, or of the last step and on as the last two are apart. */
static bool lead_seconds(const prediction_file *f, int64_t lead, int64_t *seconds)
{
    vit_moment m = f->about.start;
    int64_t steps = vit_dataset_steps(f->d, m.year), ahead = m.step + lead, last, before;
    if (ahead < steps)
        return vit_dataset_seconds(f->d, (vit_moment){m.year, ahead}, seconds);
    if (!vit_dataset_seconds(f->d, (vit_moment){m.year, steps - 1}, &last) ||
        !vit_dataset_seconds(f->d, (vit_moment){m.year, steps - 2}, &before))
        return false;
    *seconds = last + (ahead - steps + 1) * (last - before);
    return true;
}

/* time, prediction_timedelta and valid_time, where the data have times; else lead in steps. */
static int put_times(const prediction_file *f)
{
    static const char since[] = "seconds since 1970-01-01 00:00:00", gregorian[] = "proleptic_gregorian";
    const coordinate rows[] = {{"time", since, "forecast_reference_time", gregorian, -1, NC_INT64},
                               {"prediction_timedelta", "seconds", "forecast_period", "", DIM_LEAD, NC_INT64},
                               {"valid_time", since, "time", gregorian, DIM_LEAD, NC_INT64}};
    int64_t start, seconds;
    int variables[3] = {0}, code = CODE_GOOD, status = NC_NOERR;
    bool dated = vit_dataset_seconds(f->d, f->about.start, &start);
    for (int i = 0; i < 3 && dated && !code; i++)
        code = define_coordinate(f, &rows[i], &variables[i]);
    if (dated && !code)
        code = put_text(f, variables[1], "dtype", "timedelta64[ns]"); /* what xarray makes of it */
    if (!dated)
        code =
            define_coordinate(f, &(coordinate){"prediction_timedelta", "", "", "", DIM_LEAD, NC_INT64}, &variables[1]);
    if (code || (status = nc_enddef(f->id)) != NC_NOERR)
        return code ? code : failed(f, "its head", status);
    if (dated)
        status = nc_put_var_longlong(f->id, variables[0], (long long[]){start});
    for (size_t k = 0; k < (size_t)f->about.leads && status == NC_NOERR; k++) {
        int64_t steps = ((int64_t)k + 1) * vit_dataset_dt(f->d);
        long long value[2] = {steps, 0};
        if (dated && lead_seconds(f, steps, &seconds))
            value[0] = seconds - start, value[1] = seconds;
        status = nc_put_var1_longlong(f->id, variables[1], &k, &value[0]);
        if (dated && status == NC_NOERR)
            status = nc_put_var1_longlong(f->id, variables[2], &k, &value[1]);
    }
    return status == NC_NOERR ? CODE_GOOD : failed(f, "times", status);
}

static int put_axes(const prediction_file *f)
{
    const coordinate rows[] = {{"latitude", "degrees_north", "latitude", "", DIM_LATITUDE, NC_DOUBLE},
                               {"longitude", "degrees_east", "longitude", "", DIM_LONGITUDE, NC_DOUBLE}};
    const double *values[] = {vit_dataset_latitudes(f->d), vit_dataset_longitudes(f->d)};
    int variable, code = CODE_GOOD;
    for (int i = 0; i < 2 && !code; i++) {
        code = define_coordinate(f, &rows[i], &variable);
        int status = code ? NC_NOERR : nc_put_var_double(f->id, variable, values[i]);
        if (status != NC_NOERR)
            code = failed(f, rows[i].name, status);
    }
    return code;
}

/* ---- channels ---- */

static int define_channel(const prediction_file *f, const vit_channel *c, bool truth, int *variable)
{
    char name[VIT_NAME + 8], long_name[VIT_NAME + 40];
    const float gap = NAN;
    vit_moment m = f->about.start;
    int64_t seconds;
    snprintf(name, sizeof name, "%s%s", c->name, truth ? "_truth" : "");
    snprintf(long_name, sizeof long_name, "%s, %s", c->name, truth ? "truth" : "predicted");
    for (char *at = name; *at; at++)
        if (*at == '/')
            *at = '_';
    int status = nc_def_var(f->id, name, NC_FLOAT, DIMS, f->dims, variable);
    if (status == NC_NOERR)
        status = nc_def_var_deflate(f->id, *variable, 1, 1, 1);
    if (status == NC_NOERR)
        status = nc_put_att_float(f->id, *variable, "_FillValue", NC_FLOAT, 1, &gap);
    if (status != NC_NOERR)
        return failed(f, name, status);
    int code = put_text(f, *variable, "units", c->unit);
    if (!code)
        code = put_text(f, *variable, "long_name", long_name);
    if (!code && vit_dataset_seconds(f->d, m, &seconds))
        code = put_text(f, *variable, "coordinates", "time valid_time");
    return code;
}

static int define_channels(prediction_file *f)
{
    const vit_channel *channels = vit_dataset_channels(f->d);
    int code = CODE_GOOD;
    for (int64_t c = 0; c < f->channels && !code; c++) {
        code = define_channel(f, &channels[c], false, &f->prediction[c]);
        if (!code && f->about.truth)
            code = define_channel(f, &channels[c], true, &f->truth[c]);
    }
    return code;
}

static int write_head(prediction_file *f)
{
    static const char *const names[DIMS] = {"prediction_timedelta", "latitude", "longitude"};
    const int64_t sizes[DIMS] = {f->about.leads, f->rows, f->columns};
    int status = nc_create(f->temporary, NC_NETCDF4 | NC_CLOBBER, &f->id), code = CODE_GOOD;
    f->open = status == NC_NOERR;
    for (int i = 0; i < DIMS && status == NC_NOERR; i++)
        status = nc_def_dim(f->id, names[i], (size_t)sizes[i], &f->dims[i]);
    if (status != NC_NOERR)
        return failed(f, "its head", status);
    code = put_text(f, NC_GLOBAL, "Conventions", "CF-1.8");
    if (!code)
        code = put_text(f, NC_GLOBAL, "title", "Prediction of a vision transformer");
    if (!code)
        code = put_text(f, NC_GLOBAL, "source", f->about.source ? f->about.source : "");
    if (!code)
        code = define_channels(f);
    if (!code)
        code = put_axes(f);
    return code ? code : put_times(f);
}

int prediction_create(prediction_file **result, const char *path, const vit_dataset *d, const prediction_about *about)
{
    prediction_file *f = allocate(sizeof *f);
    *result = NULL;
    if (!f)
        return CODE_NO_MEMORY;
    *f = (prediction_file){.d = d, .about = *about};
    vit_dataset_shape(d, &f->channels, &f->rows, &f->columns);
    f->prediction = allocate((size_t)f->channels * sizeof(int));
    f->truth = allocate((size_t)f->channels * sizeof(int));
    f->field = allocate((size_t)(f->rows * f->columns) * sizeof(float));
    f->path = strdup(path);
    if (asprintf(&f->temporary, "%s.%d.part", path, (int)getpid()) < 0)
        f->temporary = NULL;
    int code = CODE_GOOD;
    if (!f->prediction || !f->truth || !f->field || !f->path || !f->temporary)
        code = fail(CODE_NO_MEMORY, "out of memory for a prediction file");
    else if (about->leads < 1)
        code = fail(CODE_INTERNAL, "%s: a prediction of %lld lead times", path, (long long)about->leads);
    else
        code = write_head(f);
    if (code)
        prediction_abandon(f);
    else
        *result = f;
    return code;
}

static int write_field(prediction_file *f, const int *variables, int64_t lead, const float *values)
{
    const vit_channel *channels = vit_dataset_channels(f->d);
    size_t start[DIMS] = {(size_t)lead, 0, 0}, count[DIMS] = {1, (size_t)f->rows, (size_t)f->columns};
    for (int64_t c = 0; c < f->channels; c++) {
        size_t plane = (size_t)(f->rows * f->columns);
        for (size_t i = 0; i < plane; i++)
            f->field[i] = (float)((double)values[(size_t)c * plane + i] * channels[c].std + channels[c].mean);
        int status = nc_put_vara_float(f->id, variables[c], start, count, f->field);
        if (status != NC_NOERR)
            return failed(f, channels[c].name, status);
    }
    return CODE_GOOD;
}

/* The truth as the data have it: with its gaps. */
static int write_truth(prediction_file *f, int64_t lead, const float *truth)
{
    size_t count = (size_t)(f->channels * f->rows * f->columns);
    vit_moment m = {.year = f->about.start.year, .step = f->about.start.step + (lead + 1) * vit_dataset_dt(f->d)};
    float *values = allocate(count * sizeof *values);
    if (!values)
        return CODE_NO_MEMORY;
    memcpy(values, truth, count * sizeof *values);
    int code = m.step < vit_dataset_steps(f->d, m.year) ? vit_dataset_mask(f->d, m, values) : CODE_GOOD;
    if (!code)
        code = write_field(f, f->truth, lead, values);
    free(values);
    return code;
}

int prediction_write(prediction_file *f, int64_t lead, const float *prediction, const float *truth)
{
    int code = write_field(f, f->prediction, lead, prediction);
    return code || !truth || !f->about.truth ? code : write_truth(f, lead, truth);
}

static void release(prediction_file *f)
{
    free(f->prediction);
    free(f->truth);
    free(f->field);
    free(f->path);
    free(f->temporary);
    free(f);
}

int prediction_commit(prediction_file *f)
{
    int status = nc_close(f->id);
    int code = status == NC_NOERR ? CODE_GOOD : failed(f, "its end", status);
    if (!code && rename(f->temporary, f->path) != 0)
        code = fail(CODE_CANNOT_WRITE, "%s: cannot be put in its place: %s", f->path, strerror(errno));
    if (code)
        unlink(f->temporary);
    release(f);
    return code;
}

void prediction_abandon(prediction_file *f)
{
    if (!f)
        return;
    if (f->open)
        nc_close(f->id);
    if (f->temporary)
        unlink(f->temporary);
    release(f);
}
