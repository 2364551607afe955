/* SPDX-License-Identifier: MIT */
/* A rank's own tensors as a hostile caller lays them out. */
#include "field.h"
#include "command.h"

#include <stdlib.h>
#include <string.h>

#define GUARD_BYTE          0xa5
#define WORKSPACE_ALIGNMENT 128

int guarded_create(guarded *g, size_t bytes)
{
    size_t whole;
    *g = (guarded){.bytes = bytes};
    if (__builtin_add_overflow(bytes, 2 * FIELD_GUARD + WORKSPACE_ALIGNMENT, &whole))
        return fail(CODE_NO_MEMORY, "out of memory: %zu bytes do not fit", bytes);
    whole -= whole % WORKSPACE_ALIGNMENT;
    g->memory = aligned_alloc(WORKSPACE_ALIGNMENT, whole);
    if (!g->memory)
        return fail(CODE_NO_MEMORY, "out of memory: %zu bytes of workspace were needed", bytes);
    g->data = g->memory + FIELD_GUARD;
    memset(g->memory, GUARD_BYTE, FIELD_GUARD);
    memset(g->data + bytes, GUARD_BYTE, FIELD_GUARD);
    poison(g->data, bytes);
    return CODE_GOOD;
}

void guarded_destroy(guarded *g)
{
    free(g->memory);
    *g = (guarded){0};
}

static bool all_bytes(const unsigned char *from, size_t bytes, unsigned char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (from[i] != value)
            return false;
    return true;
}

bool guarded_intact(const guarded *g)
{
    return all_bytes(g->memory, FIELD_GUARD, GUARD_BYTE) && all_bytes(g->data + g->bytes, FIELD_GUARD, GUARD_BYTE);
}

/* ---- fields ---- */

static void choose_strides(field *f, field_style style, int64_t gap, int64_t stride[3])
{
    int64_t g = style == FIELD_GAPS ? gap : 0;
    if (style == FIELD_HEADS_FIRST) {
        stride[1] = f->dim;
        stride[2] = f->tokens * f->dim;
        stride[0] = f->heads * stride[2];
    } else {
        stride[2] = f->dim + g;
        stride[1] = f->heads * stride[2] + g;
        stride[0] = f->tokens * stride[1] + g;
    }
}

static int64_t elements(const field *f)
{
    return f->batch * f->tokens * f->heads * f->dim;
}

static void actual_strides(const field *f, int64_t stride[3])
{
    memcpy(stride, f->tensor.stride, 3 * sizeof *stride);
    if (!stride[0] && !stride[1] && !stride[2]) {
        stride[2] = f->dim;
        stride[1] = f->heads * f->dim;
        stride[0] = f->tokens * stride[1];
    }
}

int field_create(field *f, const int64_t sizes[4], ringx_dtype dtype, field_style style, int64_t gap)
{
    *f = (field){
        .batch = sizes[0], .tokens = sizes[1], .heads = sizes[2], .dim = sizes[3], .element_bytes = dtype_bytes(dtype)};
    int64_t stride[3], extent = 0;
    choose_strides(f, style, gap, stride);
    if (elements(f) > 0)
        extent = (f->batch - 1) * stride[0] + (f->tokens - 1) * stride[1] + (f->heads - 1) * stride[2] + f->dim;
    if (style != FIELD_PACKED && elements(f) > 0)
        memcpy(f->tensor.stride, stride, sizeof stride);
    f->bytes = (size_t)extent * f->element_bytes;
    f->memory = allocate(f->bytes + 2 * FIELD_GUARD);
    if (!f->memory)
        return CODE_NO_MEMORY;
    poison(f->memory, f->bytes + 2 * FIELD_GUARD);
    f->tensor.data = extent ? f->memory + FIELD_GUARD : NULL;
    return CODE_GOOD;
}

void field_destroy(field *f)
{
    free(f->memory);
    *f = (field){0};
}

typedef void (*row_visit)(unsigned char *row, size_t bytes, void *context);

/* Rows of dim elements in the order [batch][token][head]. */
static void each_row(const field *f, row_visit visit, void *context)
{
    int64_t stride[3];
    actual_strides(f, stride);
    size_t bytes = (size_t)f->dim * f->element_bytes;
    for (int64_t b = 0; b < f->batch; b++)
        for (int64_t t = 0; t < f->tokens; t++)
            for (int64_t h = 0; h < f->heads; h++) {
                int64_t at = b * stride[0] + t * stride[1] + h * stride[2];
                visit(f->memory + FIELD_GUARD + (size_t)at * f->element_bytes, bytes, context);
            }
}

static void load_row(unsigned char *row, size_t bytes, void *context)
{
    const unsigned char **from = context;
    memcpy(row, *from, bytes);
    *from += bytes;
}

static void store_row(unsigned char *row, size_t bytes, void *context)
{
    unsigned char **to = context;
    memcpy(*to, row, bytes);
    *to += bytes;
}

void field_load(field *f, const void *packed)
{
    const unsigned char *from = packed;
    each_row(f, load_row, &from);
}

void field_store(const field *f, void *packed)
{
    unsigned char *to = packed;
    each_row(f, store_row, &to);
}

/* Every byte outside the rows is counted: the poisoned bytes in all, less those inside rows. */
static void count_poison(unsigned char *row, size_t bytes, void *context)
{
    size_t *inside = context;
    for (size_t i = 0; i < bytes; i++)
        *inside += row[i] == POISON;
}

bool field_intact(const field *f)
{
    size_t inside = 0, all = 0, whole = f->bytes + 2 * FIELD_GUARD;
    each_row(f, count_poison, &inside);
    for (size_t i = 0; i < whole; i++)
        all += f->memory[i] == POISON;
    return all - inside == whole - (size_t)elements(f) * f->element_bytes;
}
