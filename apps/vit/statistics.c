/* SPDX-License-Identifier: MIT */
/* .npy (versions 1 to 3): "\x93NUMPY", version, length, a Python dict {descr, fortran_order, shape}, data.
 * Source: NumPy's numpy/lib/format.py. */
#include "vit/statistics.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_HEADER 65536
#define MAX_RANK   8

typedef struct array { /* what the header says */
    char kind[8];      /* "<f4" */
    int rank;
    int64_t shape[MAX_RANK];
} array;

static int bad(const char *path, const char *what)
{
    return fail(CODE_BAD_INPUT, "%s: %s; it must be a .npy file of float32 or float64, shape [1, channels, 1, 1]", path,
                what);
}

/* What stands behind 'key': in the dict; NULL: nothing. */
static const char *value_of(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *at = strstr(header, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    at += strspn(at, " ");
    if (*at++ != ':')
        return NULL;
    return at + strspn(at, " ");
}

static int read_shape(const char *path, const char *text, array *a)
{
    if (!text || *text++ != '(')
        return bad(path, "has no shape");
    while (*(text += strspn(text, " ,")) != ')') {
        char *end;
        if (!isdigit((unsigned char)*text) || a->rank == MAX_RANK)
            return bad(path, "has a shape that is none");
        errno = 0;
        a->shape[a->rank] = strtoll(text, &end, 10);
        if (errno || a->shape[a->rank++] > INT32_MAX)
            return bad(path, "has too large a shape");
        text = end;
    }
    return CODE_GOOD;
}

static int read_header(FILE *from, const char *path, array *a)
{
    unsigned char start[12];
    if (fread(start, 1, 10, from) != 10 || memcmp(start, "\x93NUMPY", 6) != 0 || start[6] < 1 || start[6] > 3)
        return bad(path, "does not begin as one");
    size_t length = start[8] | (size_t)start[9] << 8;
    if (start[6] > 1) {
        if (fread(start + 10, 1, 2, from) != 2)
            return bad(path, "ends in its header");
        length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
    }
    char *header = length <= MAX_HEADER ? allocate(length + 1) : NULL;
    if (length > MAX_HEADER)
        return bad(path, "has too long a header");
    if (!header)
        return CODE_NO_MEMORY;
    int code = fread(header, 1, length, from) == length ? CODE_GOOD : bad(path, "ends in its header");
    const char *kind = value_of(header, "descr"), *order = value_of(header, "fortran_order");
    if (!code && (!kind || *kind != '\'' || strcspn(kind + 1, "'") >= sizeof a->kind))
        code = bad(path, "has no type of numbers");
    if (!code)
        snprintf(a->kind, sizeof a->kind, "%.*s", (int)strcspn(kind + 1, "'"), kind + 1);
    if (!code)
        code = read_shape(path, value_of(header, "shape"), a);
    if (!code && (!order || strncmp(order, "False", 5) != 0))
        code = bad(path, "is in Fortran's order");
    free(header);
    return code;
}

/* The next number of the file. */
static bool read_value(FILE *from, const char *kind, double *value)
{
    unsigned char bytes[8];
    size_t size = kind[2] == '8' ? 8 : 4;
    uint64_t word = 0;
    float narrow;
    if (fread(bytes, 1, size, from) != size)
        return false;
    for (size_t i = 0; i < size; i++)
        word |= (uint64_t)bytes[kind[0] == '>' ? size - 1 - i : i] << 8 * i;
    uint32_t low = (uint32_t)word;
    memcpy(&narrow, &low, sizeof narrow);
    memcpy(value, &word, sizeof *value);
    if (size == 4)
        *value = (double)narrow;
    return true;
}

static int read_values(FILE *from, const char *path, int64_t channels, double *values)
{
    array a = {.rank = 0};
    char text[160];
    int code = read_header(from, path, &a);
    if (code)
        return code;
    if (strcmp(a.kind, "<f4") != 0 && strcmp(a.kind, "<f8") != 0 && strcmp(a.kind, ">f4") != 0 &&
        strcmp(a.kind, ">f8") != 0) {
        snprintf(text, sizeof text, "holds numbers of type '%s'", a.kind);
        return bad(path, text);
    }
    int64_t others = 1; /* of one element of the first axis, beside the channels */
    for (int i = 2; i < a.rank; i++)
        others *= a.shape[i] == 1 ? 1 : 0;
    int64_t count = a.rank > 1 ? a.shape[1] : 0;
    if (a.rank != 4 || a.shape[0] < 1 || others != 1 || (count != channels && count != 1)) {
        int used = snprintf(text, sizeof text, "has shape [");
        for (int i = 0; i < a.rank; i++)
            used += snprintf(text + used, sizeof text - (size_t)used, "%s%lld", i ? ", " : "", (long long)a.shape[i]);
        snprintf(text + used, sizeof text - (size_t)used, "] for %lld channels", (long long)channels);
        return bad(path, text);
    }
    for (int64_t c = 0; c < channels; c++)
        if (c >= count)
            values[c] = values[0];
        else if (!read_value(from, a.kind, &values[c]))
            return bad(path, "ends in its data");
    return CODE_GOOD;
}

int statistics_read(const char *path, int64_t channels, double *values)
{
    struct stat status;
    FILE *from = fopen(path, "rbe");
    if (!from)
        return fail(errno == ENOENT ? CODE_MISSING : CODE_IO, "%s: the statistics cannot be read: %s", path,
                    strerror(errno));
    int code = fstat(fileno(from), &status) == 0 && S_ISREG(status.st_mode) ? CODE_GOOD : bad(path, "is no file");
    if (!code)
        code = read_values(from, path, channels, values);
    fclose(from);
    for (int64_t c = 0; c < channels && !code; c++)
        if (!isfinite(values[c]))
            code = fail(CODE_BAD_INPUT, "%s: the value of channel %lld is %g; it must be finite", path, (long long)c,
                        values[c]);
    return code;
}

int statistics_write(const char *path, int64_t channels, const double *values)
{
    char dict[160];
    text_file f;
    int n = snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, %lld, 1, 1), }",
                     (long long)channels);
    int code = text_create(&f, path);
    if (code)
        return code;
    int length = (10 + n + 1 + 63) / 64 * 64 - 10; /* data begin at a multiple of 64 */
    fwrite("\x93NUMPY\1", 1, 8, f.to);
    fputc(length & 255, f.to);
    fputc(length >> 8, f.to);
    fprintf(f.to, "%-*s\n", length - 1, dict);
    for (int64_t c = 0; c < channels; c++) {
        float value = (float)values[c];
        uint32_t word;
        memcpy(&word, &value, sizeof word);
        for (int i = 0; i < 4; i++)
            fputc((int)(word >> 8 * i & 255), f.to);
    }
    return text_finish(&f, CODE_GOOD);
}
