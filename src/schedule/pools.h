/* SPDX-License-Identifier: MIT */
/* Pools of workspace slots by name, used in turn. */
#ifndef RINGX_POOLS_H
#define RINGX_POOLS_H

#include "schedule/schedule.h"

/* Index of the buffer that is the pool's next slot; the pool has `slots` of them (the largest asked for so far). */
ringx_status ringx__pools_next(ringx_schedule *s, const char *pool, int slots, int32_t *buffer);
void ringx__pools_free(ringx_schedule *s);

/* The first step of a backward: delta of all this rank's heads. */
void ringx__emit_delta(ringx_schedule *s);

#endif
