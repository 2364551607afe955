/* SPDX-License-Identifier: MIT */
/* How a job is cut into pieces of work.  The cut of the keys (forward) and of keys and queries (backward) depends on
 * the job's slices alone, never on its heads or threads: that makes results bitwise equal for any number of them. */
#ifndef RINGX_KERNEL_CPU_TASKS_H
#define RINGX_KERNEL_CPU_TASKS_H

#include "kernel/kernel.h"

enum { RINGX_UNIT = 192 }; /* tokens in the unit of work; a unit never crosses a slice */

typedef struct ringx_range { /* [begin, end) */
    int64_t begin, end;
} ringx_range;

typedef struct ringx_piece { /* tokens [begin, end) of one slice */
    size_t slice;
    int64_t begin, end;
} ringx_piece;

/* Members of the run whose positions lie in the interval; {0, 0} if there are none. */
ringx_range ringx__members(const ringx_run *run, ringx_interval interval);

/* The job's threads, or fewer where starting them would cost more than it gains. */
int ringx__useful_threads(const ringx_job *job);

/* Backward: units of the job's queries (keys) and the chunks of whole units they form. */
typedef struct ringx_grid {
    int64_t query_units, key_units;
    int64_t query_chunks, key_chunks;
} ringx_grid;

enum { RINGX_MAX_CHUNKS = 128 };

ringx_grid ringx__grid(const ringx_job *job);
/* Units of chunk c. */
ringx_range ringx__chunk(int64_t units, int64_t chunks, int64_t c);
/* Tokens of a unit. */
ringx_piece ringx__query_unit(const ringx_job *job, int64_t unit);
ringx_piece ringx__key_unit(const ringx_job *job, int64_t unit);
/* May a query of q see a key of k?  Queries' intervals are non-decreasing, so the first and the last tell. */
bool ringx__pieces_live(const ringx_job *job, ringx_piece q, ringx_piece k);

#endif
