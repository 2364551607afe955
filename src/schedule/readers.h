/* SPDX-License-Identifier: MIT */
/* The readers of schedules that need no hardware: prove, forecast, draw. */
#ifndef RINGX_SCHEDULE_READERS_H
#define RINGX_SCHEDULE_READERS_H

#include "schedule/machine.h"
#include "schedule/schedule.h"
#include <ringx/ringx_study.h>

/* Closed schedules of all ranks, in rank order, of one direction.  RINGX_INTERNAL names direction, rank, step, reason.
 */
ringx_status ringx__prove(const ringx_schedule *const *schedules, int ranks, ringx_proof *proof);

/* stamps: NULL, or for each rank NULL or room for its n_steps stamps. */
ringx_status ringx__forecast(const ringx_schedule *const *schedules, int ranks, const ringx_machine *machine,
                             ringx_forecast *forecast, ringx_stamp *const *stamps);

/* ---- drawing: plain data, so that measured boxes can travel between ranks ---- */

enum { RINGX_SEVERAL = -2 };

typedef struct ringx_box {            /* one step of one rank */
    int32_t rank, step, owner, slice; /* owner: RINGX_SEVERAL, or -1 if none; slice: -1 if there is only one */
    uint8_t lane, op, kind, unused[5];
    double begin, end; /* seconds */
} ringx_box;

typedef struct ringx_panel { /* one picture above or below others, with its own time axis */
    const char *title;
    const ringx_box *boxes; /* in any order */
    size_t count;
    int ranks;
} ringx_panel;

/* boxes[0 … n_steps-1] from a rank's schedule and stamps. */
void ringx__boxes(const ringx_schedule *schedule, const ringx_stamp *stamps, ringx_box *boxes);
/* By the ending of path: .svg, or .json (Chrome trace).  The file is complete or not there. */
ringx_status ringx__draw(const char *path, const char *title, const ringx_panel *panels, size_t count);

#endif
