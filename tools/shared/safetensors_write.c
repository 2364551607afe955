/* SPDX-License-Identifier: MIT */
/* The safetensors writer: a temporary file beside the path, synced, then renamed over it. */
#include "shared/safetensors.h"
#include "shared/report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct st_output {
    int fd;
    char *path, *temporary;
    json_t *header, *metadata;
    uint64_t declared, written; /* bytes of data */
    bool begun;                 /* the header is in the file */
};

static int cannot(const st_output *o, const char *what)
{
    return fail(CODE_CANNOT_WRITE, "%s: cannot %s: %s", o->path, what, strerror(errno));
}

void st_abandon(st_output *o)
{
    if (!o)
        return;
    if (o->fd >= 0) {
        close(o->fd);
        unlink(o->temporary);
    }
    json_decref(o->header);
    json_decref(o->metadata);
    free(o->temporary);
    free(o->path);
    free(o);
}

int st_create(st_output **result, const char *path)
{
    *result = NULL;
    struct stat status;
    st_output *o = allocate(sizeof *o);
    if (!o)
        return CODE_NO_MEMORY;
    *o = (st_output){.fd = -1, .header = json_object(), .metadata = json_object()};
    o->path = realpath(path, NULL); /* a link keeps pointing to what is replaced */
    if (!o->path)
        o->path = strdup(path);
    size_t room = (o->path ? strlen(o->path) : 0) + 32;
    o->temporary = allocate(room);
    int code = o->path && o->temporary && o->header && o->metadata
                   ? CODE_GOOD
                   : fail(CODE_NO_MEMORY, "%s: no memory to write it", path);
    if (!code && stat(o->path, &status) == 0 && !S_ISREG(status.st_mode))
        code = fail(CODE_CANNOT_WRITE, "%s: is not a regular file", path);
    if (!code) {
        snprintf(o->temporary, room, "%s.XXXXXX", o->path);
        o->fd = mkostemp(o->temporary, O_CLOEXEC);
        if (o->fd < 0)
            code = cannot(o, "be created");
    }
    if (code) {
        st_abandon(o);
        return code;
    }
    *result = o;
    return CODE_GOOD;
}

int st_declare(st_output *o, const char *name, st_dtype dtype, int rank, const int64_t *shape)
{
    json_t *sizes = json_array();
    size_t bytes = st_dtype_bytes(dtype);
    for (int i = 0; i < rank; i++) {
        json_array_append_new(sizes, json_integer(shape[i]));
        if (!multiply(bytes, (size_t)shape[i], &bytes))
            bytes = SIZE_MAX;
    }
    uint64_t end = o->declared + bytes;
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", st_dtype_names[dtype], "shape", sizes, "data_offsets",
                              (json_int_t)o->declared, (json_int_t)end);
    o->declared = end;
    return json_object_set_new(o->header, name, entry) == 0
               ? CODE_GOOD
               : fail(CODE_NO_MEMORY, "%s: no memory for its header", o->path);
}

int st_describe(st_output *o, const char *key, const char *value)
{
    return json_object_set_new(o->metadata, key, json_string(value)) == 0
               ? CODE_GOOD
               : fail(CODE_NO_MEMORY, "%s: no memory for its header", o->path);
}

static int write_fully(st_output *o, const void *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t put = write(o->fd, (const char *)data + done, bytes - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return cannot(o, "be written");
        done += (size_t)put;
    }
    return CODE_GOOD;
}

/* Metadata first; spaces up to a multiple of 8, so that data are aligned. */
static int write_header(st_output *o)
{
    json_t *all = json_object();
    json_object_set(all, "__metadata__", o->metadata);
    json_object_update(all, o->header);
    char *text = json_dumps(all, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(all);
    if (!text)
        return fail(CODE_NO_MEMORY, "%s: no memory for its header", o->path);
    size_t n = strlen(text), padded = (n + 7) / 8 * 8;
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(padded >> 8 * i);
    int code = write_fully(o, length, 8);
    if (!code)
        code = write_fully(o, text, n);
    if (!code)
        code = write_fully(o, "       ", padded - n);
    free(text);
    o->begun = true;
    return code;
}

int st_write(st_output *o, const void *data, size_t bytes)
{
    int code = o->begun ? CODE_GOOD : write_header(o);
    o->written += bytes;
    return code ? code : write_fully(o, data, bytes);
}

/* The rename itself must reach the disk: sync the directory. */
static int sync_directory(const st_output *o)
{
    char *folder = strdup(o->path);
    if (!folder)
        return fail(CODE_NO_MEMORY, "%s: no memory to finish writing it", o->path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return CODE_GOOD; /* written and renamed; a directory that cannot be read cannot be synced */
    int failed = fsync(fd);
    close(fd);
    return failed && errno != EINVAL ? cannot(o, "have its directory synced") : CODE_GOOD;
}

int st_commit(st_output *o)
{
    mode_t mask = umask(0);
    umask(mask);
    int code = st_write(o, "", 0);
    if (!code && o->written != o->declared)
        code = fail(CODE_INTERNAL, "%s: %llu bytes were declared, %llu written", o->path,
                    (unsigned long long)o->declared, (unsigned long long)o->written);
    if (!code && fchmod(o->fd, 0666 & ~mask) != 0)
        code = cannot(o, "be given its permissions");
    if (!code && fsync(o->fd) != 0)
        code = cannot(o, "be synced");
    if (!code) {
        int failed = close(o->fd);
        o->fd = -1;
        if (failed)
            code = cannot(o, "be closed");
        else if (rename(o->temporary, o->path) != 0)
            code = cannot(o, "be renamed from its temporary file");
        if (code)
            unlink(o->temporary);
        else
            code = sync_directory(o);
    }
    st_abandon(o);
    return code;
}
