/* SPDX-License-Identifier: MIT */
/* netCDF through libnetcdf: which dimension is which, by the CF conventions and, failing these, by name. */
#include "vit/netcdf_fields.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <netcdf.h>

#include "vit/fields.h"

#define MAX_TEXT 4096

struct netcdf_file {
    char *path;
    int id;
    bool open;
};

typedef enum role { ROLE_TIME, ROLE_LATITUDE, ROLE_LONGITUDE, ROLE_LEVEL } role;

static int failed(const netcdf_file *f, const char *what, int status)
{
    return fail(CODE_BAD_INPUT, "%s: %s: %s", f->path, what, nc_strerror(status));
}

int netcdf_open(netcdf_file **result, const char *path)
{
    struct stat status;
    *result = NULL;
    if (stat(path, &status) != 0)
        return fail(errno == ENOENT ? CODE_MISSING : CODE_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return fail(CODE_BAD_INPUT, "%s: must be a regular file", path);
    netcdf_file *f = allocate(sizeof *f);
    if (!f)
        return CODE_NO_MEMORY;
    f->path = strdup(path);
    int code = f->path ? CODE_GOOD : fail(CODE_NO_MEMORY, "out of memory for a path");
    if (!code) {
        fields_close_doors();
        int opened = nc_open(path, NC_NOWRITE, &f->id);
        f->open = opened == NC_NOERR;
        code = f->open ? CODE_GOOD : failed(f, "cannot be opened as netCDF", opened);
    }
    if (code)
        netcdf_close(f);
    else
        *result = f;
    return code;
}

void netcdf_close(netcdf_file *f)
{
    if (!f)
        return;
    if (f->open)
        nc_close(f->id);
    free(f->path);
    free(f);
}

const char *netcdf_path(const netcdf_file *f)
{
    return f->path;
}

/* ---- attributes ---- */

/* A text attribute, "" if there is none. */
static void text_attribute(const netcdf_file *f, int variable, const char *name, char *text, size_t bytes)
{
    nc_type type;
    size_t length;
    char *whole;
    text[0] = '\0';
    if (nc_inq_att(f->id, variable, name, &type, &length) != NC_NOERR || length == 0 || length > MAX_TEXT)
        return;
    if (type == NC_STRING && length == 1 && nc_get_att_string(f->id, variable, name, &whole) == NC_NOERR) {
        snprintf(text, bytes, "%s", whole ? whole : "");
        nc_free_string(1, &whole);
    } else if (type == NC_CHAR) {
        char buffer[MAX_TEXT + 1];
        if (nc_get_att_text(f->id, variable, name, buffer) != NC_NOERR)
            return;
        buffer[length] = '\0';
        snprintf(text, bytes, "%.*s", (int)bytes - 1, buffer); /* a long one is cut */
    }
}

/* A number attribute; false if there is none. */
static bool number_attribute(const netcdf_file *f, int variable, const char *name, double *value)
{
    nc_type type;
    size_t length;
    return nc_inq_att(f->id, variable, name, &type, &length) == NC_NOERR && length == 1 && type != NC_CHAR &&
           type != NC_STRING && nc_get_att_double(f->id, variable, name, value) == NC_NOERR;
}

/* ---- dimensions ---- */

static bool one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcasecmp(text, *words) == 0)
            return true;
    return false;
}

/* What a dimension stands for: by its variable's units or axis, then by name, then by being without limit. */
static role role_of(const netcdf_file *f, int dimension)
{
    static const char *const north[] = {"degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", NULL};
    static const char *const east[] = {"degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", NULL};
    static const char *const latitudes[] = {"lat", "latitude", "y", "rlat", "nlat", NULL};
    static const char *const longitudes[] = {"lon", "longitude", "x", "rlon", "nlon", NULL};
    static const char *const times[] = {"time", "t", "timestep", "step", "record", "valid_time", NULL};
    char name[NC_MAX_NAME + 1] = "", unit[256] = "", axis[16] = "";
    int variable, limitless = -1;
    nc_inq_dimname(f->id, dimension, name);
    if (nc_inq_varid(f->id, name, &variable) == NC_NOERR) {
        text_attribute(f, variable, "units", unit, sizeof unit);
        text_attribute(f, variable, "axis", axis, sizeof axis);
    }
    nc_inq_unlimdim(f->id, &limitless);
    if (one_of(unit, north) || strcasecmp(axis, "Y") == 0)
        return ROLE_LATITUDE;
    if (one_of(unit, east) || strcasecmp(axis, "X") == 0)
        return ROLE_LONGITUDE;
    if (strstr(unit, " since ") || strcasecmp(axis, "T") == 0)
        return ROLE_TIME;
    if (one_of(name, latitudes))
        return ROLE_LATITUDE;
    if (one_of(name, longitudes))
        return ROLE_LONGITUDE;
    return one_of(name, times) || dimension == limitless ? ROLE_TIME : ROLE_LEVEL;
}

/* Whether a variable is over (time[, level], latitude, longitude); fills in dimensions and sizes. */
static bool is_field(netcdf_field *v)
{
    const netcdf_file *f = v->file;
    int rank, dimensions[NC_MAX_VAR_DIMS];
    nc_type type;
    size_t length[4] = {0};
    if (nc_inq_vartype(f->id, v->id, &type) != NC_NOERR || type == NC_CHAR || type >= NC_STRING ||
        nc_inq_varndims(f->id, v->id, &rank) != NC_NOERR || (rank != 3 && rank != 4) ||
        nc_inq_vardimid(f->id, v->id, dimensions) != NC_NOERR)
        return false;
    for (int i = 0; i < rank; i++)
        if (nc_inq_dimlen(f->id, dimensions[i], &length[i]) != NC_NOERR || length[i] == 0 || length[i] > INT32_MAX)
            return false;
    if (role_of(f, dimensions[0]) != ROLE_TIME || role_of(f, dimensions[rank - 2]) != ROLE_LATITUDE ||
        role_of(f, dimensions[rank - 1]) != ROLE_LONGITUDE || (rank == 4 && role_of(f, dimensions[1]) != ROLE_LEVEL))
        return false;
    v->time = dimensions[0], v->latitude = dimensions[rank - 2], v->longitude = dimensions[rank - 1];
    v->level = rank == 4 ? dimensions[1] : -1;
    v->steps = (int64_t)length[0], v->levels = rank == 4 ? (int64_t)length[1] : 0;
    v->latitudes = (int64_t)length[rank - 2], v->longitudes = (int64_t)length[rank - 1];
    return true;
}

int netcdf_fields(netcdf_file *f, char (**names)[NETCDF_NAME], size_t *count)
{
    int variables = 0;
    int status = nc_inq_nvars(f->id, &variables);
    if (status != NC_NOERR)
        return failed(f, "its variables cannot be listed", status);
    *names = allocate((size_t)variables * NETCDF_NAME);
    *count = 0;
    if (!*names)
        return CODE_NO_MEMORY;
    for (int i = 0; i < variables; i++) {
        netcdf_field v = {.file = f, .id = i};
        if (is_field(&v) && nc_inq_varname(f->id, i, (*names)[*count]) == NC_NOERR)
            ++*count;
    }
    if (*count)
        return CODE_GOOD;
    free(*names);
    return fail(CODE_BAD_INPUT,
                "%s: has no variable over (time, latitude, longitude) or (time, level, latitude, longitude)", f->path);
}

/* Values of the variable named as its dimension. */
static int axis_values(const netcdf_file *f, int dimension, double *values, int *variable)
{
    char name[NC_MAX_NAME + 1] = "";
    size_t length = 0;
    int rank = 0, own = -1;
    nc_inq_dim(f->id, dimension, name, &length);
    *variable = -1;
    for (size_t i = 0; i < length; i++)
        values[i] = (double)i;
    if (nc_inq_varid(f->id, name, variable) != NC_NOERR)
        return CODE_GOOD;
    if (nc_inq_varndims(f->id, *variable, &rank) != NC_NOERR || rank != 1 ||
        nc_inq_vardimid(f->id, *variable, &own) != NC_NOERR || own != dimension)
        return fail(CODE_BAD_INPUT, "%s: the variable '%s' must be over its own dimension", f->path, name);
    int status = nc_get_var_double(f->id, *variable, values);
    return status == NC_NOERR ? CODE_GOOD : failed(f, name, status);
}

/* As axis_values, unpacked: CF packs coordinates, too. */
static int axis(const netcdf_field *v, int dimension, double *values, int *variable)
{
    double scale = 1, offset = 0;
    size_t length = 0;
    int code = axis_values(v->file, dimension, values, variable);
    if (code || *variable < 0)
        return code;
    (void)number_attribute(v->file, *variable, "scale_factor", &scale);
    (void)number_attribute(v->file, *variable, "add_offset", &offset);
    nc_inq_dimlen(v->file->id, dimension, &length);
    for (size_t i = 0; i < length; i++)
        values[i] = values[i] * scale + offset;
    return CODE_GOOD;
}

int netcdf_longitudes(const netcdf_field *v, double *values)
{
    int variable;
    return axis(v, v->longitude, values, &variable);
}

int netcdf_latitudes(const netcdf_field *v, double *values)
{
    int variable;
    int code = axis(v, v->latitude, values, &variable);
    for (int64_t i = 0, k = v->latitudes - 1; i < k && !v->southward; i++, k--) {
        double kept = values[i];
        values[i] = values[k];
        values[k] = kept;
    }
    return code;
}

int netcdf_levels(const netcdf_field *v, double *values, char unit[64])
{
    int variable;
    int code = axis(v, v->level, values, &variable);
    unit[0] = '\0';
    if (!code && variable >= 0)
        text_attribute(v->file, variable, "units", unit, 64);
    return code;
}

int netcdf_times(const netcdf_field *v, double *values, char unit[128], char calendar[64])
{
    int variable;
    int code = axis(v, v->time, values, &variable);
    unit[0] = calendar[0] = '\0';
    if (!code && variable >= 0) {
        text_attribute(v->file, variable, "units", unit, 128);
        text_attribute(v->file, variable, "calendar", calendar, 64);
    }
    return code;
}

/* ---- one field ---- */

static int read_direction(netcdf_field *v)
{
    int variable;
    double *values = allocate((size_t)v->latitudes * sizeof *values);
    int code = values ? axis(v, v->latitude, values, &variable) : CODE_NO_MEMORY;
    if (!code) {
        v->southward = v->latitudes > 1 && values[1] < values[0];
        for (int64_t i = 1; i < v->latitudes && !code; i++)
            if (!(v->southward ? values[i] < values[i - 1] : values[i] > values[i - 1]))
                code = fail(CODE_BAD_INPUT, "%s: latitudes must rise or fall throughout; number %lld is %g after %g",
                            v->file->path, (long long)i, values[i], values[i - 1]);
    }
    free(values);
    return code;
}

int netcdf_field_open(netcdf_file *f, const char *name, netcdf_field *v)
{
    *v = (netcdf_field){.file = f, .scale = 1};
    snprintf(v->name, sizeof v->name, "%s", name);
    int status = nc_inq_varid(f->id, name, &v->id);
    if (status != NC_NOERR)
        return failed(f, name, status);
    if (!is_field(v))
        return fail(CODE_BAD_INPUT,
                    "%s: the variable '%s' must be numbers over (time, latitude, longitude) or (time, level, "
                    "latitude, longitude)",
                    f->path, name);
    text_attribute(f, v->id, "units", v->unit, sizeof v->unit);
    (void)number_attribute(f, v->id, "scale_factor", &v->scale);
    (void)number_attribute(f, v->id, "add_offset", &v->offset);
    v->n_fills += number_attribute(f, v->id, "_FillValue", &v->fills[v->n_fills]);
    v->n_fills += number_attribute(f, v->id, "missing_value", &v->fills[v->n_fills]);
    return read_direction(v);
}

static float value_of(const netcdf_field *v, double stored)
{
    for (int i = 0; i < v->n_fills; i++)
        if (stored == v->fills[i])
            return NAN;
    double value = stored * v->scale + v->offset;
    return isfinite(value) && fabs(value) <= (double)__FLT_MAX__ ? (float)value : NAN;
}

int netcdf_read(const netcdf_field *v, int64_t step, int64_t level, float *to)
{
    size_t start[4] = {(size_t)step, (size_t)level, 0, 0},
           count[4] = {1, 1, (size_t)v->latitudes, (size_t)v->longitudes};
    size_t cells = count[2] * count[3];
    if (!v->levels)
        start[1] = 0, count[1] = count[2], count[2] = count[3];
    double *stored = allocate(cells * sizeof *stored);
    if (!stored)
        return CODE_NO_MEMORY;
    int status = nc_get_vara_double(v->file->id, v->id, start, count, stored);
    for (int64_t j = 0; j < v->latitudes && status == NC_NOERR; j++)
        for (int64_t i = 0; i < v->longitudes; i++)
            to[(v->southward ? j : v->latitudes - 1 - j) * v->longitudes + i] =
                value_of(v, stored[j * v->longitudes + i]);
    free(stored);
    return status == NC_NOERR ? CODE_GOOD : failed(v->file, v->name, status);
}
