/* SPDX-License-Identifier: MIT */
/* ringx plan --sweep: forecasts over all combinations of some sizes. */
#ifndef RINGX_COMMAND_PLAN_SWEEP_H
#define RINGX_COMMAND_PLAN_SWEEP_H

#include "command.h"

int plan_sweep(const settings *s);

/* cmd_plan.c: the study of one preset as s says; the caller destroys it. */
int study_open(const settings *s, const char *preset, ringx_study **study);

#endif
