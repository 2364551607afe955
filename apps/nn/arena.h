/* SPDX-License-Identifier: MIT */
/* Places of buffers in one block of memory: a function that takes them is called twice, first to count their bytes and,
 * once there is a block of so many, to place them. */
#ifndef NN_ARENA_H
#define NN_ARENA_H

#include "nn/operators.h"

typedef struct arena {
    char *base;    /* NULL: count only */
    size_t used;   /* bytes taken so far */
    size_t *items; /* what of it is for what: bytes are added to items[item] */
    int item;
} arena;

/* The next place, a multiple of 128 bytes from base; NULL where bytes are only counted. */
void *arena_take(arena *a, size_t bytes);
/* [rows][columns] without gaps. */
nn_array arena_take_matrix(arena *a, int64_t rows, int64_t columns, ringx_dtype dtype);

#endif
