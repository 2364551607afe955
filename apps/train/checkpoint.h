/* SPDX-License-Identifier: MIT */
/* Checkpoints: <folder>/global_step<n>/ with one safetensors file a rank, manifest.json and copies of the
 * configuration; and <folder>/latest, for scripts: it is never trusted.  Programs may have another word for global_step
 * (the prefix): epoch_<n>, for one.
 *
 * A checkpoint is written as global_step<n>.tmp, synced, and renamed when all of it is there; an older one is removed
 * by renaming it first.  Whatever carries that name is whole, unless it rotted: the manifest has a checksum of itself
 * and of every tensor.  A save that fails, or is killed, leaves the older ones as they were.
 *
 * Tensors are stored as pieces, by name, global shape and place, so that any layout of ranks can load them. */
#ifndef RINGX_TRAIN_CHECKPOINT_H
#define RINGX_TRAIN_CHECKPOINT_H

#include "train/group.h"

#include <jansson.h>

/* Elements begin … begin+count-1, row by row, of a block of a matrix. */
typedef struct checkpoint_piece {
    const char *name;
    int64_t rows, columns;         /* of the whole */
    int64_t first_row, block_rows; /* the block, which this piece is a part of */
    int64_t first_column, block_columns;
    int64_t begin, count;
    float *values;
    ringx_device device; /* whose memory values are in */
} checkpoint_piece;

#define CHECKPOINT_PREFIX "global_step"

typedef struct checkpoint_save_info {
    const char *folder;
    const char *prefix; /* NULL: CHECKPOINT_PREFIX.  With another one `latest` holds the number alone */
    int64_t iteration;
    json_t *state;            /* rank 0's: anything; borrowed */
    const char *const *files; /* rank 0's: configuration files to copy, ended by NULL; NULL: none */
    const checkpoint_piece *pieces;
    size_t n_pieces; /* every element of every tensor in one piece of one rank */
    int64_t keep;    /* checkpoints that are kept; 0: all */
} checkpoint_save_info;

/* Collective.  CODE_CANNOT_WRITE on all ranks, and nothing changed, if any rank could not write its part. */
int checkpoint_save(group *world, const checkpoint_save_info *s);

typedef struct checkpoint {
    char path[4096];
    int64_t iteration;           /* -1: the folder holds none */
    json_t *manifest;            /* "state" is what was saved */
    char refused[MESSAGE_BYTES]; /* why newer ones were passed over; "" if none were */
} checkpoint;

/* Collective.  The newest one that is whole and whose every checksum holds; or, with iteration >= 0, that one and no
 * other.  CODE_BAD_INPUT naming what is wrong if there are some but none is good. */
int checkpoint_find(group *world, const char *folder, int64_t iteration, checkpoint *found);
/* The same under another prefix. */
int checkpoint_find_named(group *world, const char *folder, const char *prefix, int64_t iteration, checkpoint *found);
void checkpoint_close(checkpoint *c);
/* Fills the pieces, however they were cut when they were saved.  Local; agree after it. */
int checkpoint_load(const checkpoint *c, const checkpoint_piece *pieces, size_t count);

/* ---- checkpoint_manifest.c ---- */

/* {"file": …, "tensors": […]} of one rank's pieces; crcs: of their values. */
json_t *manifest_of_rank(int rank, const checkpoint_piece *pieces, const uint32_t *crcs, size_t count);
char *manifest_text(json_t *manifest); /* with a checksum of itself; malloc'ed; NULL: out of memory */
/* Parses and checks it; path is for messages. */
int manifest_parse(const char *text, size_t bytes, const char *path, json_t **manifest);
size_t manifest_ranks(const json_t *manifest);
void manifest_file_name(char name[40], size_t rank);
size_t manifest_pieces(const json_t *manifest, size_t rank);
/* Piece i of a rank's file, without values; its name lives in the manifest. */
void manifest_piece(const json_t *manifest, size_t rank, size_t i, checkpoint_piece *piece, uint32_t *crc);

/* ---- checkpoint_folder.c: what is done to folders; all fail with CODE_CANNOT_WRITE or CODE_IO ---- */

int folder_make(const char *path);   /* with its parents */
int folder_remove(const char *path); /* with all it holds; fine if it is not there */
/* Every <prefix><n>.tmp in it: of saves and removals that were cut. */
int folder_remove_cut(const char *path, const char *prefix);
int folder_sync(const char *path);
int folder_write_text(const char *path, const char *text); /* whole or not at all, synced */
int folder_copy_file(const char *from, const char *to);
int folder_read_text(const char *path, char **text, size_t *bytes); /* text is malloc'ed and ends in 0 */
/* Numbers of the <prefix><n> in folder, highest first; *iterations is malloc'ed. */
int folder_steps(const char *folder, const char *prefix, int64_t **iterations, size_t *count);

#endif
