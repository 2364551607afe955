/* SPDX-License-Identifier: MIT */
/* Reading and writing weights as safetensors files. */
#include "vit/vit_weights.h"

#include "shared/numbers.h"
#include "shared/report.h"
#include "shared/safetensors.h"

#include <stdlib.h>
#include <string.h>

#define MOST_DIMENSIONS 4
#define ROUND           4096 /* values that are converted at a time */

/* The shape that a parameter has in a file of one device; its rank. */
static int shape_of(const vit_shape *s, const vit_parameter *p, int64_t shape[MOST_DIMENSIONS])
{
    if (p->vector) {
        shape[0] = p->columns;
        return 1;
    }
    if (strcmp(p->name, "patch_embed.proj.weight") == 0) {
        shape[0] = s->embed, shape[1] = s->channels_in, shape[2] = shape[3] = s->patch;
        return 4;
    }
    bool positions = strcmp(p->name, "pos_embed") == 0;
    shape[0] = 1;
    shape[positions] = p->rows, shape[positions + 1] = p->columns;
    return 2 + positions;
}

/* ---- reading ---- */

typedef struct reading {
    vit_model *m;
    size_t *files_with; /* [parameters] */
    int64_t at, files;
    bool spread;
} reading;

/* Where a file's part of a parameter lies in the whole. */
typedef struct place {
    int64_t first_row, rows, first_column, columns;
} place;

/* Without what the original puts into names at several ranks. */
static void plain_name(const char *stored, char *name, size_t bytes, bool *spread)
{
    snprintf(name, bytes, "%s", strncmp(stored, "module.", 7) == 0 ? stored + 7 : stored);
    for (char *c = strstr(name, ".norm."); c; c = strstr(c + 1, ".norm.")) {
        bool block = c - name >= 5 && (strncmp(c - 5, "norm1", 5) == 0 || strncmp(c - 5, "norm2", 5) == 0);
        if (block) {
            memmove(c, c + 5, strlen(c + 5) + 1);
            *spread = true;
            return;
        }
    }
}

static int wrong_shape(const reading *r, const st_file *f, const st_tensor *t, const vit_parameter *p)
{
    char is[128], right[128];
    st_tensor expected = {.rank = shape_of(vit_model_shape(r->m), p, expected.shape)};
    return fail(CODE_BAD_INPUT, "%s: tensor %s has shape %s; it must be %s%s", f->path, t->name,
                st_shape_text(t, is, sizeof is), st_shape_text(&expected, right, sizeof right),
                p->split && r->files > 1 ? ", cut over the files along one dimension" : "");
}

/* Leading ones do not matter. */
static int find_place(const reading *r, const st_file *f, const st_tensor *t, const vit_parameter *p, place *where)
{
    int64_t right[MOST_DIMENSIONS];
    int rank = shape_of(vit_model_shape(r->m), p, right), skip = 0, before = 0, cut = -1;
    while (rank - before > 1 && right[before] == 1)
        before++;
    while (t->rank - skip > rank - before && t->shape[skip] == 1)
        skip++;
    if (t->rank - skip != rank - before)
        return wrong_shape(r, f, t, p);
    for (int i = 0; i < rank - before; i++) {
        int64_t is = t->shape[skip + i], whole = right[before + i];
        bool part = is != whole && p->split && cut < 0 && is * r->files == whole;
        if (is != whole && !part)
            return wrong_shape(r, f, t, p);
        cut = part ? i : cut;
    }
    if (p->split && r->files > 1 && cut < 0)
        return wrong_shape(r, f, t, p);
    bool by_rows = cut == 0 && !p->vector, by_columns = cut >= 0 && !by_rows;
    where->rows = by_rows ? p->rows / r->files : p->rows;
    where->columns = by_columns ? p->columns / r->files : p->columns;
    where->first_row = by_rows ? r->at * where->rows : 0;
    where->first_column = by_columns ? r->at * where->columns : 0;
    return CODE_GOOD;
}

static void to_floats(ringx_dtype dtype, const void *from, float *to, size_t count)
{
    double values[ROUND];
    for (size_t at = 0; at < count; at += ROUND) {
        size_t n = count - at < ROUND ? count - at : ROUND;
        to_doubles(dtype, (const char *)from + at * dtype_bytes(dtype), values, n);
        for (size_t i = 0; i < n; i++)
            to[at + i] = (float)values[i];
    }
}

/* The file's part into the model; what is whole in several files must be the same in all of them. */
static int keep(const reading *r, const st_file *f, const st_tensor *t, const vit_parameter *p, const place *where,
                const float *part)
{
    float *whole = (float *)vit_model_weights(r->m) + p->offset;
    size_t bytes = (size_t)where->columns * sizeof *part;
    for (int64_t i = 0; i < where->rows; i++) {
        float *to = whole + (where->first_row + i) * p->columns + where->first_column;
        const float *from = part + i * where->columns;
        if (r->at > 0 && !p->split && memcmp(to, from, bytes) != 0)
            return fail(CODE_BAD_INPUT, "%s: tensor %s is not that of the first file, and every rank has the whole",
                        f->path, t->name);
        memcpy(to, from, bytes);
    }
    return CODE_GOOD;
}

static int read_tensor(reading *r, const st_file *f, const st_tensor *t)
{
    char name[256];
    const vit_parameter *all;
    size_t n = vit_model_parameters(r->m, &all), i = 0;
    plain_name(t->name, name, sizeof name, &r->spread);
    while (i < n && strcmp(all[i].name, name) != 0)
        i++;
    if (i == n)
        return fail(CODE_BAD_INPUT, "%s: tensor %s is not part of this model", f->path, t->name);
    if (r->files_with[i] > (size_t)r->at)
        return fail(CODE_BAD_INPUT, "%s: tensor %s is there twice", f->path, name);
    r->files_with[i]++;
    ringx_dtype dtype = t->dtype == ST_BF16 ? RINGX_BF16 : t->dtype == ST_F16 ? RINGX_F16 : RINGX_F32;
    if (dtype == RINGX_F32 && t->dtype != ST_F32)
        return fail(CODE_BAD_INPUT, "%s: tensor %s is %s; it must be F32, BF16 or F16", f->path, t->name,
                    st_dtype_names[t->dtype]);
    place where = {0};
    int code = find_place(r, f, t, &all[i], &where);
    if (code)
        return code;
    size_t count = (size_t)(where.rows * where.columns);
    void *stored = allocate(count * dtype_bytes(dtype));
    float *part = allocate(count * sizeof *part);
    code = stored && part ? st_read(f, t, stored) : CODE_NO_MEMORY;
    if (!code) {
        to_floats(dtype, stored, part, count);
        code = keep(r, f, t, &all[i], &where, part);
    }
    free(stored);
    free(part);
    return code;
}

static int read_file(reading *r, const char *path)
{
    st_file f;
    const vit_parameter *all;
    size_t n = vit_model_parameters(r->m, &all);
    int code = st_open(&f, path);
    if (code)
        return code;
    for (size_t i = 0; i < f.n_tensors && !code; i++)
        code = read_tensor(r, &f, &f.tensors[i]);
    st_close(&f);
    for (size_t i = 0; i < n && !code; i++)
        if (r->files_with[i] == (size_t)r->at)
            code = fail(CODE_BAD_INPUT, "%s: tensor %s is missing", path, all[i].name);
    return code;
}

int vit_weights_read(vit_model *m, char *const *files, size_t count, bool *spread)
{
    const vit_parameter *all;
    reading r = {
        .m = m, .files_with = allocate(vit_model_parameters(m, &all) * sizeof *r.files_with), .files = (int64_t)count};
    int code = r.files_with ? vit_check_shape(vit_model_shape(m), r.files) : CODE_NO_MEMORY;
    for (; r.at < r.files && !code; r.at++)
        code = read_file(&r, files[r.at]);
    *spread = r.spread;
    free(r.files_with);
    return code;
}

/* ---- writing ---- */

static int write_values(st_output *o, ringx_dtype dtype, const float *values, size_t count)
{
    uint16_t halves[ROUND];
    int code = dtype == RINGX_F32 ? st_write(o, values, count * sizeof *values) : CODE_GOOD;
    for (size_t at = 0; at < count && dtype != RINGX_F32 && !code; at += ROUND) {
        size_t n = count - at < ROUND ? count - at : ROUND;
        for (size_t i = 0; i < n; i++)
            halves[i] = float_to_half(dtype, values[at + i]);
        code = st_write(o, halves, n * sizeof *halves);
    }
    return code;
}

int vit_weights_write(vit_model *m, ringx_dtype dtype, const char *path)
{
    static const st_dtype stored[] = {[RINGX_F32] = ST_F32, [RINGX_BF16] = ST_BF16, [RINGX_F16] = ST_F16};
    const vit_parameter *all;
    const float *values = vit_model_weights(m);
    size_t n = vit_model_parameters(m, &all);
    st_output *o;
    int code = st_create(&o, path);
    if (code)
        return code;
    for (size_t i = 0; i < n && !code; i++) {
        int64_t shape[MOST_DIMENSIONS];
        int rank = shape_of(vit_model_shape(m), &all[i], shape);
        code = st_declare(o, all[i].name, stored[dtype], rank, shape);
    }
    if (!code)
        code = st_describe(o, "format", "pt");
    for (size_t i = 0; i < n && !code; i++)
        code = write_values(o, dtype, values + all[i].offset, all[i].count);
    if (!code)
        return st_commit(o);
    st_abandon(o);
    return code;
}
