/* SPDX-License-Identifier: MIT */
/* Sums and maxima over ranks: in the order given, in float, rounded once at the end. */
#ifndef RINGX_COMM_COMBINE_H
#define RINGX_COMM_COMBINE_H

#include <ringx/ringx.h>

/* to[k] = from[0][k] + from[1][k] + …; `to` may be one of them.  sources >= 1. */
void ringx__combine_sum(const void *const *from, int sources, size_t count, ringx_dtype dtype, void *to);

/* The same for the largest; NaN wins. */
void ringx__combine_max(const float *const *from, int sources, size_t count, float *to);

#endif
