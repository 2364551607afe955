/* SPDX-License-Identifier: MIT */
/* Lists of the pieces of a checkpoint, and the optimizer's states as such. */
#ifndef RINGX_TRAIN_PIECES_H
#define RINGX_TRAIN_PIECES_H

#include "train/checkpoint.h"

#define PIECE_NAME 104 /* bytes: kind, slash, a tensor's name */

typedef struct piece_list { /* zeros: empty */
    checkpoint_piece *items;
    char (*names)[PIECE_NAME];
    size_t count;
} piece_list;

int pieces_create(piece_list *l, size_t most); /* an empty one; to be freed also if it fails */
void pieces_free(piece_list *l);
void pieces_add(piece_list *l, const char *kind, const checkpoint_piece *piece); /* as <kind>/<its name> */

enum { STATE_KINDS = 3 }; /* weight, m, v */

/* The first `kinds` kinds of states that this rank has of each tensor; saving: of those each element on one rank only.
 * parts: [tensors of the model], name and place of this rank's part of each, without values.  As pieces_create. */
struct zero;
int pieces_of_states(piece_list *l, const struct zero *z, const checkpoint_piece *parts, int kinds, bool saving);

#endif
