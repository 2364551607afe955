/* SPDX-License-Identifier: MIT */
/* Finds the newest whole checkpoint, and brings its pieces to any layout. */
#include "train/checkpoint.h"

#include "shared/safetensors.h"
#include "train/crc32c.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- finding ---- */

/* Rank 0 reads the manifest, all parse it. */
static int read_manifest(group *world, checkpoint *c)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%.4000s/manifest.json", c->path);
    int code = group_rank(world) == 0 ? folder_read_text(path, &text, &bytes) : CODE_GOOD;
    code = group_agree(world, code);
    if (!code)
        code = group_broadcast(world, &bytes, sizeof bytes, 0);
    if (!code && group_rank(world) != 0) {
        text = allocate(bytes + 1);
        code = text ? CODE_GOOD : CODE_NO_MEMORY;
    }
    code = group_agree(world, code);
    if (!code)
        code = group_broadcast(world, text, bytes, 0);
    if (!code)
        code = manifest_parse(text, bytes, path, &c->manifest);
    free(text);
    code = group_agree(world, code);
    if (!code && json_integer_value(json_object_get(c->manifest, "iteration")) != c->iteration)
        code = fail(CODE_BAD_INPUT, "%s: is of another iteration than its folder", path);
    return code;
}

/* Opens a rank's file; every tensor of the manifest must be in it, and nothing else. */
static int open_file(const checkpoint *c, size_t rank, st_file *f, char path[PATH_MAX])
{
    char name[40];
    manifest_file_name(name, rank);
    snprintf(path, PATH_MAX, "%.4000s/%s", c->path, name);
    int code = st_open(f, path);
    if (code)
        return code;
    if (f->n_tensors != manifest_pieces(c->manifest, rank)) {
        code = fail(CODE_BAD_INPUT, "%s: has %zu tensors; the manifest names %zu", path, f->n_tensors,
                    manifest_pieces(c->manifest, rank));
        st_close(f);
    }
    return code;
}

/* Reads a piece into fresh memory, and compares its checksum. */
static int read_piece(const st_file *f, const checkpoint_piece *p, uint32_t crc, float **values)
{
    const st_tensor *t = st_find(f, p->name);
    *values = NULL;
    if (!t || t->dtype != ST_F32 || t->rank != 1 || t->shape[0] != p->count)
        return fail(CODE_BAD_INPUT, "%s: tensor %s is not there, or not %lld numbers in F32", f->path, p->name,
                    (long long)p->count);
    size_t bytes = (size_t)p->count * sizeof(float);
    *values = allocate(bytes);
    int code = *values ? st_read(f, t, *values) : CODE_NO_MEMORY;
    if (!code && crc32c(0, *values, bytes) != crc)
        code = fail(CODE_BAD_INPUT, "%s: tensor %s is damaged: its checksum is not that of the manifest", f->path,
                    p->name);
    if (code) {
        free(*values);
        *values = NULL;
    }
    return code;
}

static int verify_file(const checkpoint *c, size_t rank)
{
    st_file f;
    char path[PATH_MAX];
    int code = open_file(c, rank, &f, path);
    if (code)
        return code;
    for (size_t i = 0; i < f.n_tensors && !code; i++) {
        checkpoint_piece piece;
        uint32_t crc;
        float *values;
        manifest_piece(c->manifest, rank, i, &piece, &crc);
        code = read_piece(&f, &piece, crc, &values);
        free(values);
    }
    st_close(&f);
    return code;
}

static int verify(group *world, checkpoint *c)
{
    int code = read_manifest(world, c);
    size_t files = code ? 0 : manifest_ranks(c->manifest), step = (size_t)group_ranks(world);
    for (size_t r = (size_t)group_rank(world); r < files && !code; r += step)
        code = verify_file(c, r);
    code = group_agree(world, code);
    if (code)
        checkpoint_close(c);
    return code;
}

/* Rank 0's list of iterations, on all ranks. */
static int list_steps(group *world, const char *folder, int64_t **steps, size_t *count)
{
    *steps = NULL;
    *count = 0;
    int code = group_rank(world) == 0 ? folder_steps(folder, steps, count) : CODE_GOOD;
    code = group_agree(world, code);
    if (!code)
        code = group_broadcast(world, count, sizeof *count, 0);
    if (!code && group_rank(world) != 0) {
        *steps = allocate(*count * sizeof **steps);
        code = *steps ? CODE_GOOD : CODE_NO_MEMORY;
    }
    code = group_agree(world, code);
    return code ? code : group_broadcast(world, *steps, *count * sizeof **steps, 0);
}

int checkpoint_find(group *world, const char *folder, int64_t iteration, checkpoint *found)
{
    int64_t *steps;
    size_t count;
    *found = (checkpoint){.iteration = -1};
    int code = list_steps(world, folder, &steps, &count), good = 0, first_bad = CODE_GOOD;
    for (size_t i = 0; i < count && !code && !good; i++) {
        if (iteration >= 0 && steps[i] != iteration)
            continue;
        found->iteration = steps[i];
        snprintf(found->path, sizeof found->path, "%.3900s/global_step%lld", folder, (long long)steps[i]);
        int bad = verify(world, found);
        good = !bad;
        if (bad && !first_bad) {
            first_bad = bad;
            failure_copy(found->refused);
        }
    }
    free(steps);
    if (!code && !good && first_bad) {
        failure_set(found->refused);
        code = first_bad;
    } else if (!code && !good && iteration >= 0) {
        code = fail(CODE_MISSING, "%s: holds no global_step%lld", folder, (long long)iteration);
    }
    if (code || !good)
        found->iteration = -1;
    return code;
}

void checkpoint_close(checkpoint *c)
{
    json_decref(c->manifest);
    c->manifest = NULL;
}

/* ---- loading ---- */

/* Copies of columns low … high-1 (of the whole) of one row what `from` has of it; the number of elements. */
static int64_t copy_row(const checkpoint_piece *from, int64_t row, int64_t low, int64_t high, float *to)
{
    int64_t r = row - from->first_row, start = r * from->block_columns; /* of the row, in from's block */
    if (r < 0 || r >= from->block_rows)
        return 0;
    int64_t a = low - from->first_column, b = high - from->first_column; /* columns in the block */
    int64_t first = from->begin - start, last = from->begin + from->count - start;
    a = a > first ? a : first;
    a = a > 0 ? a : 0;
    b = b < last ? b : last;
    b = b < from->block_columns ? b : from->block_columns;
    if (a >= b)
        return 0;
    memcpy(to + (a + from->first_column - low), from->values + (start + a - from->begin), (size_t)(b - a) * sizeof *to);
    return b - a;
}

/* What `from` has of `to`; the number of elements. */
static int64_t copy_piece(const checkpoint_piece *from, const checkpoint_piece *to)
{
    int64_t copied = 0, columns = to->block_columns;
    for (int64_t at = to->begin; at < to->begin + to->count;) {
        int64_t row = at / columns, column = at % columns, left = to->begin + to->count - at;
        int64_t n = columns - column < left ? columns - column : left;
        int64_t low = to->first_column + column;
        copied += copy_row(from, to->first_row + row, low, low + n, to->values + (at - to->begin));
        at += n;
    }
    return copied;
}

static bool meet(const checkpoint_piece *a, const checkpoint_piece *b)
{
    return strcmp(a->name, b->name) == 0 && a->count && b->count && a->first_row < b->first_row + b->block_rows &&
           b->first_row < a->first_row + a->block_rows && a->first_column < b->first_column + b->block_columns &&
           b->first_column < a->first_column + a->block_columns;
}

/* Stored piece i of a file, to all pieces that it meets. */
static int load_stored(const st_file *f, checkpoint_piece *stored, uint32_t crc, const checkpoint_piece *pieces,
                       size_t count, int64_t *copied)
{
    int code = CODE_GOOD;
    float *values = NULL;
    for (size_t j = 0; j < count && !code; j++) {
        if (strcmp(stored->name, pieces[j].name) == 0 &&
            (stored->rows != pieces[j].rows || stored->columns != pieces[j].columns))
            return fail(CODE_BAD_INPUT, "%s: tensor %s is [%lld, %lld]; this model's is [%lld, %lld]", f->path,
                        stored->name, (long long)stored->rows, (long long)stored->columns, (long long)pieces[j].rows,
                        (long long)pieces[j].columns);
        if (!meet(stored, &pieces[j]))
            continue;
        if (!values)
            code = read_piece(f, stored, crc, &values);
        stored->values = values;
        if (!code)
            copied[j] += copy_piece(stored, &pieces[j]);
    }
    free(values);
    return code;
}

int checkpoint_load(const checkpoint *c, const checkpoint_piece *pieces, size_t count)
{
    int64_t *copied = allocate(count * sizeof *copied);
    int code = copied ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t r = 0; !code && r < manifest_ranks(c->manifest); r++) {
        st_file f;
        char path[PATH_MAX];
        code = open_file(c, r, &f, path);
        if (code)
            break;
        for (size_t i = 0; i < f.n_tensors && !code; i++) {
            checkpoint_piece stored;
            uint32_t crc;
            manifest_piece(c->manifest, r, i, &stored, &crc);
            code = load_stored(&f, &stored, crc, pieces, count, copied);
        }
        st_close(&f);
    }
    for (size_t j = 0; j < count && !code; j++)
        if (copied[j] != pieces[j].count)
            code = fail(CODE_BAD_INPUT, "%s: has %lld of %lld elements of tensor %s", c->path, (long long)copied[j],
                        (long long)pieces[j].count, pieces[j].name);
    free(copied);
    return code;
}
