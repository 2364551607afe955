/* SPDX-License-Identifier: MIT */
/* A rank's own tensors as a hostile caller lays them out: odd strides, NaN in every byte that is no element, guard
 * bytes on both sides. */
#ifndef RINGX_COMMAND_FIELD_H
#define RINGX_COMMAND_FIELD_H

#include "shared/numbers.h"

#define FIELD_GUARD 256 /* bytes on either side of a tensor */

typedef struct field {
    ringx_tensor tensor; /* what the library gets; data may be NULL where there are no elements */
    int64_t batch, tokens, heads, dim;
    size_t element_bytes;
    unsigned char *memory; /* guards included */
    size_t bytes;
} field;

typedef enum field_style {
    FIELD_PACKED,      /* strides 0: the library's default */
    FIELD_EXPLICIT,    /* packed, strides written out */
    FIELD_GAPS,        /* gaps between heads, tokens and batches */
    FIELD_HEADS_FIRST, /* [batch][head][token][dim] in memory */
    FIELD_STYLES
} field_style;

/* Poisoned all over.  gap: elements left free at each level of FIELD_GAPS. */
int field_create(field *f, const int64_t sizes[4], ringx_dtype dtype, field_style style, int64_t gap);
void field_destroy(field *f);
void field_load(field *f, const void *packed);  /* from [batch][token][head][dim] */
void field_store(const field *f, void *packed); /* to it */
bool field_intact(const field *f);              /* no byte outside the elements has changed */

/* A block between guards, aligned to 128 bytes. */
typedef struct guarded {
    unsigned char *memory, *data;
    size_t bytes;
} guarded;
int guarded_create(guarded *g, size_t bytes);
void guarded_destroy(guarded *g);
bool guarded_intact(const guarded *g);

#endif
