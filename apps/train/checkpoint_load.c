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
static int list_steps(group *world, const char *folder, const char *prefix, int64_t **steps, size_t *count)
{
    *steps = NULL;
    *count = 0;
    int code = group_rank(world) == 0 ? folder_steps(folder, prefix, steps, count) : CODE_GOOD;
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
    return checkpoint_find_named(world, folder, CHECKPOINT_PREFIX, iteration, found);
}

int checkpoint_find_named(group *world, const char *folder, const char *prefix, int64_t iteration, checkpoint *found)
{
    int64_t *steps;
    size_t count;
    *found = (checkpoint){.iteration = -1};
    int code = list_steps(world, folder, prefix, &steps, &count), good = 0, first_bad = CODE_GOOD;
    for (size_t i = 0; i < count && !code && !good; i++) {
        if (iteration >= 0 && steps[i] != iteration)
            continue;
        found->iteration = steps[i];
        snprintf(found->path, sizeof found->path, "%.3900s/%.60s%lld", folder, prefix, (long long)steps[i]);
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
        code = fail(CODE_MISSING, "%s: holds no %s%lld", folder, prefix, (long long)iteration);
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

/* What copies elements into a piece: their number, and the first error. */
typedef struct filling {
    const checkpoint_piece *to;
    int64_t copied;
    int code;
} filling;

/* Elements at … at+n-1 of the piece's block. */
static void fill(filling *f, int64_t at, const float *values, int64_t n)
{
    float *to = f->to->values + (at - f->to->begin);
    if (!f->code)
        f->code =
            fail_status(ringx_memory_copy(f->to->device, to, values, (size_t)n * sizeof *to), "tensor %s", f->to->name);
    f->copied += n;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Of n elements of one row of the piece's block, the first at `at`: those that `from` has. */
static void fill_row(filling *f, const checkpoint_piece *from, int64_t at, int64_t n)
{
    const checkpoint_piece *to = f->to;
    int64_t row = to->first_row + at / to->block_columns - from->first_row, start = row * from->block_columns;
    int64_t low = to->first_column + at % to->block_columns - from->first_column; /* its column in from's block */
    int64_t a = larger(larger(low, from->begin - start), 0);
    int64_t b = smaller(smaller(low + n, from->begin + from->count - start), from->block_columns);
    if (row >= 0 && row < from->block_rows && a < b)
        fill(f, at + a - low, from->values + (start + a - from->begin), b - a);
}

/* Both are parts of blocks of the same rows of memory: one range of elements. */
static void fill_range(filling *f, const checkpoint_piece *from)
{
    int64_t shift = (f->to->first_row - from->first_row) * from->block_columns; /* from to's places to from's */
    int64_t a = larger(f->to->begin, larger(from->begin, 0) - shift);
    int64_t b = smaller(f->to->begin + f->to->count, from->begin + from->count - shift);
    if (a < b)
        fill(f, a, from->values + (a + shift - from->begin), b - a);
}

static void fill_piece(filling *f, const checkpoint_piece *from)
{
    const checkpoint_piece *to = f->to;
    if (from->first_column == to->first_column && from->block_columns == to->block_columns) {
        fill_range(f, from);
        return;
    }
    for (int64_t at = to->begin, n; at < to->begin + to->count; at += n) {
        n = smaller(to->block_columns - at % to->block_columns, to->begin + to->count - at);
        fill_row(f, from, at, n);
    }
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
        filling into = {.to = &pieces[j]};
        if (!code)
            fill_piece(&into, stored);
        copied[j] += into.copied;
        code = code ? code : into.code;
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
