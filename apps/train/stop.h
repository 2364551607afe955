/* SPDX-License-Identifier: MIT */
/* Signals that end a run: the first SIGTERM or SIGUSR1 asks, a second SIGTERM ends at once. */
#ifndef RINGX_TRAIN_STOP_H
#define RINGX_TRAIN_STOP_H

#include "train/group.h"

#define CODE_STOPPED 75 /* state is saved: run again to go on */

void stop_watch(void);
/* Collective: whether any rank was asked to stop.  The same answer everywhere. */
int stop_asked(group *world, bool *asked);

#endif
