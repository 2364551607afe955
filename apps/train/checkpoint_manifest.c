/* SPDX-License-Identifier: MIT */
/* The manifest of a checkpoint: which pieces lie in which rank's file, and checksums of all. */
#include "train/checkpoint.h"

#include "train/crc32c.h"

#include <stdlib.h>
#include <string.h>

#define FORMAT    "ringx checkpoint 1"
#define MOST_SIZE ((json_int_t)1 << 48) /* rows or columns of a tensor */

void manifest_file_name(char name[40], size_t rank)
{
    snprintf(name, 40, "rank_%05zu.safetensors", rank);
}

json_t *manifest_of_rank(int rank, const checkpoint_piece *pieces, const uint32_t *crcs, size_t count)
{
    json_t *list = json_array();
    char name[40];
    for (size_t i = 0; i < count; i++) {
        const checkpoint_piece *p = &pieces[i];
        json_array_append_new(
            list, json_pack("{s:s, s:[I,I], s:[I,I,I,I], s:[I,I], s:I}", "name", p->name, "shape", (json_int_t)p->rows,
                            (json_int_t)p->columns, "block", (json_int_t)p->first_row, (json_int_t)p->block_rows,
                            (json_int_t)p->first_column, (json_int_t)p->block_columns, "range", (json_int_t)p->begin,
                            (json_int_t)p->count, "crc32c", (json_int_t)crcs[i]));
    }
    manifest_file_name(name, (size_t)rank);
    return json_pack("{s:s, s:o}", "file", name, "tensors", list);
}

/* The text that a manifest's checksum is of: the same however the file is laid out. */
static char *plain_text(const json_t *manifest)
{
    return json_dumps(manifest, JSON_COMPACT | JSON_SORT_KEYS);
}

char *manifest_text(json_t *manifest)
{
    json_object_set_new(manifest, "format", json_string(FORMAT));
    char *plain = plain_text(manifest), *text = NULL;
    json_t *all =
        plain ? json_pack("{s:I, s:O}", "crc32c", (json_int_t)crc32c(0, plain, strlen(plain)), "manifest", manifest)
              : NULL;
    if (all)
        text = json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS);
    json_decref(all);
    free(plain);
    return text;
}

size_t manifest_ranks(const json_t *manifest)
{
    return json_array_size(json_object_get(manifest, "ranks"));
}

static const json_t *tensors_of(const json_t *manifest, size_t rank)
{
    return json_object_get(json_array_get(json_object_get(manifest, "ranks"), rank), "tensors");
}

size_t manifest_pieces(const json_t *manifest, size_t rank)
{
    return json_array_size(tensors_of(manifest, rank));
}

static int64_t number(const json_t *entry, const char *key, size_t i)
{
    return json_integer_value(json_array_get(json_object_get(entry, key), i));
}

void manifest_piece(const json_t *manifest, size_t rank, size_t i, checkpoint_piece *piece, uint32_t *crc)
{
    const json_t *entry = json_array_get(tensors_of(manifest, rank), i);
    *piece = (checkpoint_piece){.name = json_string_value(json_object_get(entry, "name")),
                                .rows = number(entry, "shape", 0),
                                .columns = number(entry, "shape", 1),
                                .first_row = number(entry, "block", 0),
                                .block_rows = number(entry, "block", 1),
                                .first_column = number(entry, "block", 2),
                                .block_columns = number(entry, "block", 3),
                                .begin = number(entry, "range", 0),
                                .count = number(entry, "range", 1)};
    *crc = (uint32_t)json_integer_value(json_object_get(entry, "crc32c"));
}

/* Sizes that make sense: no product overflows, and every place lies in the whole. */
static bool sound(const checkpoint_piece *p)
{
    return p->name && p->rows >= 0 && p->columns >= 0 && p->rows <= MOST_SIZE && p->columns <= MOST_SIZE &&
           p->first_row >= 0 && p->block_rows >= 0 && p->first_row <= p->rows &&
           p->block_rows <= p->rows - p->first_row && p->first_column >= 0 && p->block_columns >= 0 &&
           p->first_column <= p->columns && p->block_columns <= p->columns - p->first_column &&
           (p->block_columns == 0 || p->block_rows <= INT64_MAX / 4 / p->block_columns) && p->begin >= 0 &&
           p->count >= 0 && p->begin <= p->block_rows * p->block_columns &&
           p->count <= p->block_rows * p->block_columns - p->begin;
}

static int check(const json_t *manifest, const char *path)
{
    const char *format = json_string_value(json_object_get(manifest, "format"));
    if (!format || strcmp(format, FORMAT) != 0)
        return fail(CODE_BAD_INPUT, "%s: format is '%s'; it must be '%s'", path, format ? format : "", FORMAT);
    if (!json_is_integer(json_object_get(manifest, "iteration")) || manifest_ranks(manifest) == 0)
        return fail(CODE_BAD_INPUT, "%s: has no iteration or no ranks", path);
    for (size_t r = 0; r < manifest_ranks(manifest); r++)
        for (size_t i = 0; i < manifest_pieces(manifest, r); i++) {
            checkpoint_piece piece;
            uint32_t crc;
            manifest_piece(manifest, r, i, &piece, &crc);
            if (!sound(&piece))
                return fail(CODE_BAD_INPUT, "%s: rank %zu, tensor %zu (%s): its place is not in its shape", path, r, i,
                            piece.name ? piece.name : "no name");
        }
    return CODE_GOOD;
}

int manifest_parse(const char *text, size_t bytes, const char *path, json_t **manifest)
{
    json_error_t error;
    json_t *all = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    *manifest = json_incref(json_object_get(all, "manifest"));
    const json_t *crc = json_object_get(all, "crc32c");
    char *plain = *manifest && crc ? plain_text(*manifest) : NULL;
    int code = CODE_GOOD;
    if (!all)
        code = fail(CODE_BAD_INPUT, "%s: line %d: is not JSON: %s", path, error.line, error.text);
    else if (!plain || json_integer_value(crc) != (json_int_t)crc32c(0, plain, strlen(plain)))
        code = fail(CODE_BAD_INPUT, "%s: its checksum is not that of its contents", path);
    else
        code = check(*manifest, path);
    free(plain);
    json_decref(all);
    if (code) {
        json_decref(*manifest);
        *manifest = NULL;
    }
    return code;
}
