/* SPDX-License-Identifier: MIT */
/* Who holds which tokens: contiguous, zigzag or striped; any length, any number of ranks, ranks may be empty.
 *
 * A rank's tokens are at most two runs of affine global positions, in ascending order:
 *   contiguous  rank r holds part r of N            zigzag  parts r and 2N-1-r of 2N            striped  r, r+N, r+2N,
 * … where part c of n is [c·tokens/n, (c+1)·tokens/n), rounded down. */
#ifndef RINGX_CORE_LAYOUT_H
#define RINGX_CORE_LAYOUT_H

#include <ringx/ringx.h>

typedef enum ringx_layout_kind_id { RINGX_CONTIGUOUS, RINGX_ZIGZAG, RINGX_STRIPED, RINGX_LAYOUT_KINDS } ringx_layout_id;

typedef struct ringx_layout {
    ringx_layout_id id;
    int ranks;
    int64_t tokens;
} ringx_layout;

typedef struct ringx_run { /* count tokens at global positions first, first + step, … */
    int64_t count, first, step;
} ringx_run;

#define RINGX_MAX_RUNS 2

/* The non-empty runs of a rank; returns how many. */
int ringx__layout_runs(const ringx_layout *layout, int rank, ringx_run runs[RINGX_MAX_RUNS]);
int64_t ringx__layout_count(const ringx_layout *layout, int rank);
const char *ringx__layout_name(ringx_layout_id id);
const char *ringx__layout_text(ringx_layout_id id);
ringx_status ringx__layout_find(const char *name, ringx_layout_id *id);

#endif
