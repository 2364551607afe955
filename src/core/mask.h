/* SPDX-License-Identifier: MIT */
/* What is live: every mask is one thing, query position p sees the keys [lo(p), hi(p)), both non-decreasing in p. */
#ifndef RINGX_CORE_MASK_H
#define RINGX_CORE_MASK_H

#include "core/layout.h"

typedef struct ringx_mask {
    int64_t tokens;
    int64_t left, right;   /* reach to each side, already limited by causal; tokens: unlimited */
    const int64_t *starts; /* documents + 1 bounds; NULL: one document */
    size_t documents;
} ringx_mask;

typedef struct ringx_interval { /* empty where lo >= hi */
    int64_t lo, hi;
} ringx_interval;

ringx_interval ringx__mask_keys(const ringx_mask *mask, int64_t query);

/* Queries that see the key: [lo, hi). */
ringx_interval ringx__mask_queries(const ringx_mask *mask, int64_t key);

/* May any query of q see any key of k?  false is certain; true may be cautious for strided runs. */
bool ringx__mask_live(const ringx_mask *mask, const ringx_run *q, const ringx_run *k);

/* Number of live (query, key) pairs of two runs, for forecasts: exact up to 512 queries and for linear masks. */
double ringx__mask_area(const ringx_mask *mask, const ringx_run *q, const ringx_run *k);

#endif
