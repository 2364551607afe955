/* SPDX-License-Identifier: MIT */
/* safetensors files: a strict reader for files of any origin, and an atomic writer.
 *
 * The reader accepts a subset of the format: 8 bytes of header length n (at most 100 MB and what the file holds), n
 * bytes of JSON that begin with '{', trailing spaces allowed, then data that the tensors cover without holes or
 * overlaps.  Regular files only, read with pread; memory at most the header and 1 MiB.  Failures are CODE_BAD_INPUT
 * (CODE_MISSING, CODE_IO) with one line: file, tensor or offset, what is wrong, what would be right. */
#ifndef RINGX_SHARED_SAFETENSORS_H
#define RINGX_SHARED_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ST_MAX_RANK    8
#define ST_MAX_TENSORS 4096
#define ST_MAX_PAIRS   1024 /* of metadata */
#define ST_MAX_HEADER  ((uint64_t)100000000)

typedef enum st_dtype {
    ST_BOOL,
    ST_U8,
    ST_I8,
    ST_F8_E5M2,
    ST_F8_E4M3,
    ST_I16,
    ST_U16,
    ST_F16,
    ST_BF16,
    ST_I32,
    ST_U32,
    ST_F32,
    ST_F64,
    ST_I64,
    ST_U64,
    ST_DTYPES
} st_dtype;
extern const char *const st_dtype_names[ST_DTYPES + 1];
size_t st_dtype_bytes(st_dtype dtype);

typedef struct st_tensor {
    const char *name;
    st_dtype dtype;
    int rank;
    int64_t shape[ST_MAX_RANK];
    uint64_t begin, end; /* bytes, from the end of the header */
} st_tensor;

typedef struct st_pair {
    const char *key, *value;
} st_pair;

typedef struct st_file {
    int fd;
    const char *path; /* the caller's */
    char *header;     /* names, keys and values point into it */
    uint64_t data;    /* where tensors begin */
    st_tensor *tensors;
    st_pair *pairs;
    size_t n_tensors, n_pairs;
} st_file;

int st_open(st_file *f, const char *path);
int st_open_descriptor(st_file *f, int fd, const char *path); /* takes fd over, also when it fails */
void st_close(st_file *f);
const st_tensor *st_find(const st_file *f, const char *name);  /* NULL: not there */
const char *st_metadata(const st_file *f, const char *key);    /* NULL: not there */
int st_read(const st_file *f, const st_tensor *t, void *into); /* the whole tensor */
/* "[2, 96, 8, 64]" */
const char *st_shape_text(const st_tensor *t, char *text, size_t bytes);

/* safetensors_json.c: fills tensors and pairs from the n bytes at f->header (one more byte follows, 0). */
int st_parse_header(st_file *f, uint64_t n);

/* ---- writer: nothing appears under the path until st_commit, and then all of it ---- */

typedef struct st_output st_output;
/* Fails at once if the path cannot be written. */
int st_create(st_output **result, const char *path);
int st_declare(st_output *o, const char *name, st_dtype dtype, int rank, const int64_t *shape);
int st_describe(st_output *o, const char *key, const char *value);
int st_write(st_output *o, const void *data, size_t bytes); /* in the order declared; any pieces */
int st_commit(st_output *o);                                /* frees o, also when it fails */
void st_abandon(st_output *o);                              /* NULL is fine */

#endif
