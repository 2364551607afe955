/* SPDX-License-Identifier: MIT */
/* Places of buffers in one block of memory, each a multiple of 128 bytes from its beginning. */
#include "nn/arena.h"

#include "shared/numbers.h"

void *arena_take(arena *a, size_t bytes)
{
    void *at = a->base ? a->base + a->used : NULL;
    size_t whole = (bytes + 127) / 128 * 128;
    a->used += whole;
    a->items[a->item] += whole;
    return at;
}

nn_array arena_take_matrix(arena *a, int64_t rows, int64_t columns, ringx_dtype dtype)
{
    return (nn_array){arena_take(a, (size_t)(rows * columns) * dtype_bytes(dtype)), dtype, columns};
}
