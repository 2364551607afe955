/* SPDX-License-Identifier: MIT */
/* A problem that has been validated, defaults resolved: what every room below the API works from. */
#ifndef RINGX_CORE_SHAPE_H
#define RINGX_CORE_SHAPE_H

#include "core/mask.h"

typedef struct ringx_shape {
    int64_t batch, tokens;
    int64_t q_heads, kv_heads, group; /* group = q_heads / kv_heads */
    int64_t head_dim, value_dim;
    ringx_dtype dtype;
    double scale, softcap, dropout;
    uint64_t seed;
    bool causal;
    ringx_mask mask;
} ringx_shape;

enum { RINGX_MOST_STATES = 4 };  /* of the same rows, that are folded together at once */
enum { RINGX_MOST_SUMMED = 12 }; /* blocks that are added up at once */

/* Validates problem (a message names the field) and fills shape.  shape->mask.starts is a copy owned by shape. */
ringx_status ringx__shape_create(ringx_shape *shape, const ringx_problem *problem);
void ringx__shape_destroy(ringx_shape *shape);

/* 4·d flops per live (query, key, query head) of the forward pass: scores head_dim, values value_dim. */
double ringx__shape_flops(const ringx_shape *shape, double area);

size_t ringx__dtype_bytes(ringx_dtype dtype);
const char *ringx__dtype_name(ringx_dtype dtype);

/* Checked: false if a·b does not fit. */
bool ringx__multiply(size_t a, size_t b, size_t *product);

#endif
