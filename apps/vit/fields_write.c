/* SPDX-License-Identifier: MIT */
/* Writes a file of fields: contiguous float32, beside it axes, times and names, so that the file says what it is. */
#include "vit/fields_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fields_output {
    char *path, *temporary;
    hid_t file, set;
    fields_size size;
};

/* Creates, writes and closes a list; attributes: up to two pairs of name and text, ended by NULL. */
static int put_list(fields_output *o, const char *name, hid_t type, int64_t count, const void *values,
                    const char *const *attributes)
{
    hsize_t length = (hsize_t)count;
    hid_t space = H5Screate_simple(1, &length, NULL);
    hid_t set = H5Dcreate2(o->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    bool good = set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
    for (; good && *attributes; attributes += 2) {
        hid_t text = H5Tcopy(H5T_C_S1), one = H5Screate(H5S_SCALAR);
        H5Tset_size(text, strlen(attributes[1]) + 1);
        hid_t attribute = H5Acreate2(set, attributes[0], text, one, H5P_DEFAULT, H5P_DEFAULT);
        good = attribute >= 0 && H5Awrite(attribute, text, attributes[1]) >= 0;
        if (attribute >= 0)
            H5Aclose(attribute);
        H5Sclose(one);
        H5Tclose(text);
    }
    if (set >= 0)
        H5Dclose(set);
    H5Sclose(space);
    return good ? CODE_GOOD : hdf5_fail(CODE_CANNOT_WRITE, o->path, "a list beside the fields cannot be written");
}

static int put_texts(fields_output *o, const char *name, const vit_channel *channels, size_t at)
{
    static const char *const none[] = {NULL};
    char *texts = allocate((size_t)o->size.channels * VIT_NAME);
    if (!texts)
        return CODE_NO_MEMORY;
    for (int64_t c = 0; c < o->size.channels; c++)
        memcpy(texts + c * VIT_NAME, (const char *)&channels[c] + at, VIT_NAME);
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, VIT_NAME);
    int code = put_list(o, name, type, o->size.channels, texts, none);
    H5Tclose(type);
    free(texts);
    return code;
}

static int put_axes(fields_output *o, const fields_axes *axes)
{
    static const char *const north[] = {"units", "degrees_north", NULL}, *const east[] = {"units", "degrees_east",
                                                                                          NULL};
    static const char *const since[] = {"units", "seconds since 1970-01-01 00:00:00", "calendar", "proleptic_gregorian",
                                        NULL};
    int code = put_list(o, "latitude", H5T_NATIVE_DOUBLE, o->size.latitudes, axes->latitudes, north);
    if (!code)
        code = put_list(o, "longitude", H5T_NATIVE_DOUBLE, o->size.longitudes, axes->longitudes, east);
    if (!code && axes->seconds)
        code = put_list(o, "time", H5T_NATIVE_INT64, o->size.steps, axes->seconds, since);
    if (!code)
        code = put_texts(o, "channel_names", axes->channels, offsetof(vit_channel, name));
    if (!code)
        code = put_texts(o, "channel_units", axes->channels, offsetof(vit_channel, unit));
    return code;
}

static int create(fields_output *o, const fields_axes *axes)
{
    hsize_t shape[4] = {(hsize_t)o->size.steps, (hsize_t)o->size.channels, (hsize_t)o->size.latitudes,
                        (hsize_t)o->size.longitudes};
    o->file = H5Fcreate(o->temporary, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (o->file < 0)
        return hdf5_fail(CODE_CANNOT_WRITE, o->path, "cannot be written");
    hid_t space = H5Screate_simple(4, shape, NULL);
    o->set = H5Dcreate2(o->file, "fields", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Sclose(space);
    return o->set < 0 ? hdf5_fail(CODE_CANNOT_WRITE, o->path, "the fields cannot be written") : put_axes(o, axes);
}

int fields_create(fields_output **result, const char *path, const fields_size *size, const fields_axes *axes)
{
    fields_output *o = allocate(sizeof *o);
    *result = NULL;
    if (!o)
        return CODE_NO_MEMORY;
    o->file = o->set = H5I_INVALID_HID;
    o->size = *size;
    o->path = strdup(path);
    if (!o->path || asprintf(&o->temporary, "%s.%d.part", path, (int)getpid()) < 0) {
        free(o->path);
        free(o);
        return fail(CODE_NO_MEMORY, "out of memory for a path");
    }
    hdf5_enter();
    int code = create(o, axes);
    hdf5_leave();
    if (code)
        fields_abandon(o);
    else
        *result = o;
    return code;
}

int fields_write(fields_output *o, int64_t step, const float *from)
{
    hsize_t start[4] = {(hsize_t)step, 0, 0, 0};
    hsize_t count[4] = {1, (hsize_t)o->size.channels, (hsize_t)o->size.latitudes, (hsize_t)o->size.longitudes};
    int code = CODE_GOOD;
    hdf5_enter();
    hid_t into = H5Dget_space(o->set), memory = H5Screate_simple(4, count, NULL);
    if (H5Sselect_hyperslab(into, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dwrite(o->set, H5T_NATIVE_FLOAT, memory, into, H5P_DEFAULT, from) < 0)
        code = hdf5_fail(CODE_CANNOT_WRITE, o->path, "the fields cannot be written");
    H5Sclose(into);
    H5Sclose(memory);
    hdf5_leave();
    return code;
}

/* Closes what is open; false if the library could not write all of it. */
static bool finish(fields_output *o)
{
    hdf5_enter();
    bool good = o->set < 0 || H5Dclose(o->set) >= 0;
    good = (o->file < 0 || (H5Fflush(o->file, H5F_SCOPE_GLOBAL) >= 0 && H5Fclose(o->file) >= 0)) && good;
    hdf5_leave();
    return good;
}

static void release(fields_output *o)
{
    free(o->path);
    free(o->temporary);
    free(o);
}

int fields_commit(fields_output *o)
{
    int code = finish(o) ? CODE_GOOD : fail(CODE_CANNOT_WRITE, "%s: cannot be written to its end", o->path);
    if (!code && rename(o->temporary, o->path) != 0)
        code = fail(CODE_CANNOT_WRITE, "%s: cannot be put in its place: %s", o->path, strerror(errno));
    if (code)
        unlink(o->temporary);
    release(o);
    return code;
}

void fields_abandon(fields_output *o)
{
    if (!o)
        return;
    (void)finish(o);
    unlink(o->temporary);
    release(o);
}
