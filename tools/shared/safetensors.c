/* SPDX-License-Identifier: MIT */
/* The safetensors reader: the file, and whether the tensors cover it. */
#include "shared/safetensors.h"
#include "shared/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const st_dtype_names[ST_DTYPES + 1] = {
    [ST_BOOL] = "BOOL", [ST_U8] = "U8",   [ST_I8] = "I8",   [ST_F8_E5M2] = "F8_E5M2", [ST_F8_E4M3] = "F8_E4M3",
    [ST_I16] = "I16",   [ST_U16] = "U16", [ST_F16] = "F16", [ST_BF16] = "BF16",       [ST_I32] = "I32",
    [ST_U32] = "U32",   [ST_F32] = "F32", [ST_F64] = "F64", [ST_I64] = "I64",         [ST_U64] = "U64"};

size_t st_dtype_bytes(st_dtype dtype)
{
    if (dtype < ST_I16)
        return 1;
    if (dtype < ST_I32)
        return 2;
    return dtype < ST_F64 ? 4 : 8;
}

const char *st_shape_text(const st_tensor *t, char *text, size_t bytes)
{
    size_t at = (size_t)snprintf(text, bytes, "[");
    for (int i = 0; i < t->rank && at < bytes; i++)
        at += (size_t)snprintf(text + at, bytes - at, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    if (at < bytes)
        snprintf(text + at, bytes - at, "]");
    return text;
}

/* Exactly bytes from offset, whatever pread returns at once. */
static int read_fully(const st_file *f, void *into, uint64_t bytes, uint64_t offset, const char *what)
{
    uint64_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(f->fd, (char *)into + done, (size_t)(bytes - done), (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(CODE_IO, "%s: cannot read %s at byte %llu: %s", f->path, what,
                        (unsigned long long)(offset + done), strerror(errno));
        if (got == 0)
            return fail(CODE_BAD_INPUT, "%s: ends at byte %llu, inside %s, which needs %llu bytes from byte %llu",
                        f->path, (unsigned long long)(offset + done), what, (unsigned long long)bytes,
                        (unsigned long long)offset);
        done += (uint64_t)got;
    }
    return CODE_GOOD;
}

static int by_place(const void *a, const void *b)
{
    const st_tensor *x = *(const st_tensor *const *)a, *y = *(const st_tensor *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* dtype × shape must be the tensor's bytes; no product may overflow. */
static int check_size(const st_file *f, const st_tensor *t)
{
    char shape[256];
    size_t bytes = st_dtype_bytes(t->dtype);
    for (int i = 0; i < t->rank; i++)
        if (!multiply(bytes, (size_t)t->shape[i], &bytes))
            return fail(CODE_BAD_INPUT, "%s: tensor '%s': shape %s overflows 64 bits", f->path, t->name,
                        st_shape_text(t, shape, sizeof shape));
    if (t->end < t->begin || t->end - t->begin != bytes)
        return fail(CODE_BAD_INPUT,
                    "%s: tensor '%s': data_offsets [%llu, %llu] hold %lld bytes, but %s %s is %zu bytes", f->path,
                    t->name, (unsigned long long)t->begin, (unsigned long long)t->end, (long long)(t->end - t->begin),
                    st_dtype_names[t->dtype], st_shape_text(t, shape, sizeof shape), bytes);
    return CODE_GOOD;
}

static int check_cover(const st_file *f, uint64_t data_bytes)
{
    const st_tensor **order = allocate(f->n_tensors * sizeof *order);
    if (!order)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < f->n_tensors; i++)
        order[i] = &f->tensors[i];
    qsort(order, f->n_tensors, sizeof *order, by_place);
    uint64_t at = 0;
    int code = CODE_GOOD;
    for (size_t i = 0; i < f->n_tensors && !code; i++) {
        if (order[i]->begin != at)
            code = fail(CODE_BAD_INPUT, "%s: tensor '%s' begins at data byte %llu; %s, so it must be %llu", f->path,
                        order[i]->name, (unsigned long long)order[i]->begin,
                        order[i]->begin < at ? "the one before it overlaps" : "there is a hole before it",
                        (unsigned long long)at);
        at = order[i]->end;
    }
    free(order);
    if (!code && at != data_bytes)
        code = fail(CODE_BAD_INPUT, "%s: the tensors cover %llu bytes, but the file holds %llu bytes of data", f->path,
                    (unsigned long long)at, (unsigned long long)data_bytes);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const st_tensor *const *)a)->name, (*(const st_tensor *const *)b)->name);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const st_pair *)a)->key, ((const st_pair *)b)->key);
}

static int check_names(const st_file *f)
{
    const st_tensor **order = allocate(f->n_tensors * sizeof *order);
    if (!order)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < f->n_tensors; i++)
        order[i] = &f->tensors[i];
    qsort(order, f->n_tensors, sizeof *order, by_name);
    int code = CODE_GOOD;
    for (size_t i = 1; i < f->n_tensors && !code; i++)
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            code = fail(CODE_BAD_INPUT, "%s: tensor '%s' is there twice", f->path, order[i]->name);
    free(order);
    if (f->n_pairs)
        qsort(f->pairs, f->n_pairs, sizeof *f->pairs, by_key);
    for (size_t i = 1; i < f->n_pairs && !code; i++)
        if (strcmp(f->pairs[i - 1].key, f->pairs[i].key) == 0)
            code = fail(CODE_BAD_INPUT, "%s: metadata key '%s' is there twice", f->path, f->pairs[i].key);
    return code;
}

static int read_header(st_file *f, uint64_t size)
{
    unsigned char length[8];
    uint64_t n = 0;
    if (size < 8)
        return fail(CODE_BAD_INPUT, "%s: %llu bytes are no safetensors file; the header length alone takes 8", f->path,
                    (unsigned long long)size);
    int code = read_fully(f, length, 8, 0, "the header length");
    if (code)
        return code;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | length[i];
    if (n > ST_MAX_HEADER || n > size - 8 || n < 2)
        return fail(CODE_BAD_INPUT, "%s: the header length is %llu; it must be 2 … %llu", f->path,
                    (unsigned long long)n, (unsigned long long)(size - 8 < ST_MAX_HEADER ? size - 8 : ST_MAX_HEADER));
    f->header = allocate(n + 1);
    if (!f->header)
        return CODE_NO_MEMORY;
    f->data = 8 + n;
    code = read_fully(f, f->header, n, 8, "the header");
    return code ? code : st_parse_header(f, n);
}

int st_open_descriptor(st_file *f, int fd, const char *path)
{
    struct stat status;
    *f = (st_file){.fd = fd, .path = path};
    int code = CODE_GOOD;
    if (fstat(fd, &status) != 0)
        code = fail(CODE_IO, "%s: cannot be examined: %s", path, strerror(errno));
    else if (!S_ISREG(status.st_mode))
        code = fail(CODE_BAD_INPUT, "%s: is not a regular file", path);
    if (!code)
        code = read_header(f, (uint64_t)status.st_size);
    for (size_t i = 0; i < f->n_tensors && !code; i++)
        code = check_size(f, &f->tensors[i]);
    if (!code)
        code = check_names(f);
    if (!code)
        code = check_cover(f, (uint64_t)status.st_size - f->data);
    if (code)
        st_close(f);
    return code;
}

int st_open(st_file *f, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make us wait */
    if (fd >= 0)
        return st_open_descriptor(f, fd, path);
    *f = (st_file){.fd = -1};
    if (errno == ENOENT || errno == ENOTDIR)
        return fail(CODE_MISSING, "%s: there is no such file", path);
    return fail(CODE_IO, "%s: cannot be opened: %s", path, strerror(errno));
}

void st_close(st_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->header);
    free(f->tensors);
    free(f->pairs);
    *f = (st_file){.fd = -1};
}

const st_tensor *st_find(const st_file *f, const char *name)
{
    for (size_t i = 0; i < f->n_tensors; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

const char *st_metadata(const st_file *f, const char *key)
{
    for (size_t i = 0; i < f->n_pairs; i++)
        if (strcmp(f->pairs[i].key, key) == 0)
            return f->pairs[i].value;
    return NULL;
}

int st_read(const st_file *f, const st_tensor *t, void *into)
{
    char what[300];
    snprintf(what, sizeof what, "tensor '%.200s'", t->name);
    return read_fully(f, into, t->end - t->begin, f->data + t->begin, what);
}
