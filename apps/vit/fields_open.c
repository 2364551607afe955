/* SPDX-License-Identifier: MIT */
/* What libhdf5 may do, and which datasets are accepted. */
#include "vit/fields_parts.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK_CACHE_BYTES ((size_t)32 << 20)
#define CHUNK_SLOTS       12421

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool closed_doors;

void hdf5_enter(void)
{
    pthread_mutex_lock(&lock);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* this thread's */
    if (closed_doors)
        return;
    closed_doors = true;
    H5PLset_loading_state(0);
    H5Lunregister(H5L_TYPE_EXTERNAL);
}

void hdf5_leave(void)
{
    H5Eclear2(H5E_DEFAULT);
    pthread_mutex_unlock(&lock);
}

void fields_close_doors(void)
{
    hdf5_enter();
    hdf5_leave();
}

static herr_t keep_reason(unsigned n, const H5E_error2_t *error, void *context)
{
    (void)n;
    snprintf(context, 200, "%s", error->desc ? error->desc : "");
    return 1; /* the innermost is enough */
}

int hdf5_fail(int code, const char *path, const char *what)
{
    char reason[200] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_reason, reason);
    return fail(code, "%s: %s%s%s%s", path, what, *reason ? " (" : "", reason, *reason ? ")" : "");
}

static int refuse(const fields *f, const char *what)
{
    return fail(CODE_BAD_INPUT, "%s: the dataset 'fields' %s", f->path, what);
}

static int check_link(const fields *f, const char *name)
{
    H5L_info_t info;
    if (H5Lget_info(f->file, name, &info, H5P_DEFAULT) < 0)
        return fail(CODE_BAD_INPUT, "%s: has no dataset '%s'", f->path, name);
    if (info.type != H5L_TYPE_HARD)
        return fail(CODE_BAD_INPUT, "%s: '%s' is a link to elsewhere; it must be a dataset of this file", f->path,
                    name);
    return CODE_GOOD;
}

/* Layout, raw data and filters of a dataset. */
static int check_storage(const fields *f, const char *name, hid_t set)
{
    hid_t created = H5Dget_create_plist(set);
    const char *what = NULL;
    if (created < 0)
        return hdf5_fail(CODE_BAD_INPUT, f->path, "a dataset's properties cannot be read");
    if (H5Pget_layout(created) == H5D_VIRTUAL)
        what = "is a virtual dataset, with its values in other files";
    else if (H5Pget_external_count(created) != 0)
        what = "has its values in external files";
    for (int i = 0, n = H5Pget_nfilters(created); i < n && !what; i++) {
        size_t values = 0;
        unsigned flags, how;
        H5Z_filter_t filter = H5Pget_filter2(created, (unsigned)i, &flags, &values, NULL, 0, NULL, &how);
        if (filter < 0 || filter >= H5Z_FILTER_RESERVED || H5Zfilter_avail(filter) <= 0)
            what = "is packed with a filter that libhdf5 itself does not have";
    }
    H5Pclose(created);
    return what ? fail(CODE_BAD_INPUT, "%s: the dataset '%s' %s; it must be stored in the file itself", f->path, name,
                       what)
                : CODE_GOOD;
}

int fields_dataset(const fields *f, const char *name, hid_t *set)
{
    int code = check_link(f, name);
    if (code)
        return code;
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access, CHUNK_SLOTS, CHUNK_CACHE_BYTES, 0.75);
    *set = H5Dopen2(f->file, name, access);
    H5Pclose(access);
    if (*set < 0)
        return hdf5_fail(CODE_BAD_INPUT, f->path, "an object cannot be opened as a dataset");
    code = check_storage(f, name, *set);
    if (code)
        H5Dclose(*set);
    return code;
}

/* Rank, type and shape of `fields`. */
static int check_shape(fields *f)
{
    hsize_t shape[4] = {0};
    hid_t space = H5Dget_space(f->set), type = H5Dget_type(f->set);
    int rank = H5Sget_simple_extent_ndims(space), code = CODE_GOOD;
    if (rank != 4)
        code = fail(CODE_BAD_INPUT,
                    "%s: the dataset 'fields' has %d dimensions; it must have 4: time, channel, latitude, "
                    "longitude",
                    f->path, rank);
    else if (H5Tget_class(type) != H5T_FLOAT)
        code = refuse(f, "does not hold floating-point numbers; float32 is expected");
    else
        H5Sget_simple_extent_dims(space, shape, NULL);
    for (int i = 0; i < 4 && !code; i++)
        if (shape[i] == 0 || shape[i] > INT32_MAX)
            code = refuse(f, "is empty, or larger than a field can be");
    f->size = (fields_size){(int64_t)shape[0], (int64_t)shape[1], (int64_t)shape[2], (int64_t)shape[3]};
    H5Sclose(space);
    H5Tclose(type);
    return code;
}

static void read_fill(fields *f)
{
    static const char *const names[] = {"_FillValue", "missing_value"};
    for (size_t i = 0; i < 2 && !f->has_fill; i++) {
        if (H5Aexists(f->set, names[i]) <= 0)
            continue;
        hid_t attribute = H5Aopen(f->set, names[i], H5P_DEFAULT);
        hid_t space = H5Aget_space(attribute);
        if (H5Sget_simple_extent_npoints(space) == 1)
            f->has_fill = H5Aread(attribute, H5T_NATIVE_FLOAT, &f->fill) >= 0;
        H5Sclose(space);
        H5Aclose(attribute);
    }
}

static int open_file(fields *f)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, false, true); /* as the original's HDF5_USE_FILE_LOCKING=FALSE */
    f->file = H5Fopen(f->path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (f->file < 0)
        return hdf5_fail(CODE_BAD_INPUT, f->path, "is not an HDF5 file");
    int code = fields_dataset(f, "fields", &f->set);
    if (!code) {
        code = check_shape(f);
        read_fill(f);
    } else {
        f->set = H5I_INVALID_HID;
    }
    return code;
}

int fields_open(fields **result, const char *path)
{
    struct stat status;
    fields *f = allocate(sizeof *f);
    *result = NULL;
    if (!f)
        return CODE_NO_MEMORY;
    f->file = f->set = H5I_INVALID_HID;
    f->path = strdup(path);
    int code = f->path ? CODE_GOOD : fail(CODE_NO_MEMORY, "out of memory for a path");
    if (!code && stat(path, &status) != 0)
        code = fail(errno == ENOENT ? CODE_MISSING : CODE_IO, "%s: cannot be read: %s", path, strerror(errno));
    else if (!code && !S_ISREG(status.st_mode))
        code = fail(CODE_BAD_INPUT, "%s: must be a regular file", path);
    if (!code) {
        hdf5_enter();
        code = open_file(f);
        hdf5_leave();
    }
    if (code)
        fields_close(f);
    else
        *result = f;
    return code;
}

void fields_close(fields *f)
{
    if (!f)
        return;
    hdf5_enter();
    if (f->set >= 0)
        H5Dclose(f->set);
    if (f->file >= 0)
        H5Fclose(f->file);
    hdf5_leave();
    free(f->path);
    free(f);
}
