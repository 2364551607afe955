/* SPDX-License-Identifier: MIT */
/* Reads bands of fields, and what stands beside them. */
#include "vit/fields_parts.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT 4096

const char *fields_path(const fields *f)
{
    return f->path;
}

const fields_size *fields_sizes(const fields *f)
{
    return &f->size;
}

bool fields_fill(const fields *f, float *fill)
{
    *fill = f->fill;
    return f->has_fill;
}

int fields_read(fields *f, int64_t step, vit_band band, int64_t longitudes, float *to)
{
    const fields_size *n = &f->size;
    if (step < 0 || step >= n->steps || band.first < 0 || band.count < 0 || band.first + band.count > n->latitudes ||
        longitudes > n->longitudes)
        return fail(CODE_INTERNAL, "%s: step %lld, rows %lld and on are outside of the fields", f->path,
                    (long long)step, (long long)band.first);
    if (band.count == 0)
        return CODE_GOOD;
    hsize_t start[4] = {(hsize_t)step, 0, (hsize_t)band.first, 0};
    hsize_t count[4] = {1, (hsize_t)n->channels, (hsize_t)band.count, (hsize_t)longitudes};
    int code = CODE_GOOD;
    hdf5_enter();
    hid_t from = H5Dget_space(f->set), into = H5Screate_simple(4, count, NULL);
    if (H5Sselect_hyperslab(from, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dread(f->set, H5T_NATIVE_FLOAT, into, from, H5P_DEFAULT, to) < 0) {
        char what[80];
        snprintf(what, sizeof what, "fields[%lld] cannot be read", (long long)step);
        code = hdf5_fail(CODE_IO, f->path, what);
    }
    H5Sclose(from);
    H5Sclose(into);
    hdf5_leave();
    return code;
}

/* Opens dataset `name` if it is there, and checks that it is a list of `count` elements. */
static int open_list(fields *f, const char *name, int64_t count, hid_t *set, bool *there)
{
    *there = H5Lexists(f->file, name, H5P_DEFAULT) > 0;
    if (!*there)
        return CODE_GOOD;
    int code = fields_dataset(f, name, set);
    if (code)
        return code;
    hid_t space = H5Dget_space(*set);
    if (H5Sget_simple_extent_ndims(space) != 1 || H5Sget_simple_extent_npoints(space) != count)
        code = fail(CODE_BAD_INPUT, "%s: the dataset '%s' must have one dimension of %lld values, as 'fields' has",
                    f->path, name, (long long)count);
    H5Sclose(space);
    if (code)
        H5Dclose(*set);
    return code;
}

static int read_list(fields *f, const char *name, int64_t count, hid_t type, void *values, bool *there)
{
    hid_t set;
    hdf5_enter();
    int code = open_list(f, name, count, &set, there);
    if (!code && *there) {
        if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
            code = hdf5_fail(CODE_BAD_INPUT, f->path, "a list beside the fields cannot be read as numbers");
        H5Dclose(set);
    }
    hdf5_leave();
    return code;
}

int fields_numbers(fields *f, const char *name, int64_t count, double *values, bool *there)
{
    return read_list(f, name, count, H5T_NATIVE_DOUBLE, values, there);
}

int fields_times(fields *f, int64_t *seconds, bool *there)
{
    return read_list(f, "time", f->size.steps, H5T_NATIVE_INT64, seconds, there);
}

/* One text of at most VIT_NAME - 1 bytes, all of them printable. */
static void take_text(char *to, const char *from, size_t bytes)
{
    size_t n = 0;
    for (; n < bytes && from[n] && n < VIT_NAME - 1; n++)
        to[n] = (char)((unsigned char)from[n] < 32 || from[n] == 127 ? '?' : from[n]);
    to[n] = '\0';
    while (n && to[n - 1] == ' ')
        to[--n] = '\0';
}

static int read_texts(fields *f, hid_t set, int64_t count, char (*texts)[VIT_NAME])
{
    hid_t type = H5Dget_type(set), space = H5Dget_space(set);
    bool text = H5Tget_class(type) == H5T_STRING, variable = text && H5Tis_variable_str(type) > 0;
    size_t each = variable ? sizeof(char *) : H5Tget_size(type), bytes = 0;
    char *buffer = text && each && each <= MAX_TEXT && multiply((size_t)count, each, &bytes) ? allocate(bytes) : NULL;
    int code = CODE_GOOD;
    if (!text || each > MAX_TEXT)
        code = fail(CODE_BAD_INPUT, "%s: names of channels must be short texts", f->path);
    else if (!buffer)
        code = CODE_NO_MEMORY;
    else if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer) < 0)
        code = hdf5_fail(CODE_BAD_INPUT, f->path, "names of channels cannot be read");
    for (int64_t i = 0; i < count && !code; i++) {
        const char *item = buffer + (size_t)i * each;
        if (variable)
            memcpy(&item, buffer + (size_t)i * each, sizeof item);
        take_text(texts[i], item ? item : "", variable ? VIT_NAME : each);
    }
    if (!code && variable)
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, buffer);
    free(buffer);
    H5Sclose(space);
    H5Tclose(type);
    return code;
}

int fields_texts(fields *f, const char *name, int64_t count, char (*texts)[VIT_NAME], bool *there)
{
    hid_t set;
    hdf5_enter();
    int code = open_list(f, name, count, &set, there);
    if (!code && *there) {
        code = read_texts(f, set, count, texts);
        H5Dclose(set);
    }
    hdf5_leave();
    return code;
}
