/* SPDX-License-Identifier: MIT */
/* Parameters whose gradients become final together, of a model whose gradients are split. */
#ifndef RINGX_TRAIN_ZERO_UNIT_H
#define RINGX_TRAIN_ZERO_UNIT_H

#include <stddef.h>

typedef struct zero_unit {
    size_t first; /* element */
    size_t place; /* of that element, in gradients: the beginning of the unit's window */
    size_t after; /* the window is free when gradients from this element on are summed; all elements: it always is */
} zero_unit;

#endif
