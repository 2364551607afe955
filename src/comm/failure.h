/* SPDX-License-Identifier: MIT */
/* The failure of a communicator: there is one, the first, and every rank reports it naming the same culprit. */
#ifndef RINGX_COMM_FAILURE_H
#define RINGX_COMM_FAILURE_H

#include "core/status.h"

enum { RINGX_ALL_RANKS = -1 }; /* origin: the message reads the same on all ranks */

typedef struct ringx_failure {
    ringx_status status; /* RINGX_OK: none */
    int origin;          /* rank that told of it, or RINGX_ALL_RANKS */
    int culprit;
    char message[RINGX_MESSAGE_BYTES];
} ringx_failure;

/* The first one stays; returns whether this was the first. */
bool ringx__failure_set(ringx_failure *failure, int origin, int culprit, ringx_status status, const char *message);

/* Sets this thread's last error and returns the status as `rank` sees it: its own failure keeps its status, that of
 * another rank is RINGX_PEER_DIED, and stalls and mismatches are the same everywhere.  RINGX_OK if there is none. */
ringx_status ringx__failure_report(const ringx_failure *failure, int rank);

/* "rank 2", "ranks 2 and 5", "ranks 0, 1 and 4": those whose flag is set. */
void ringx__ranks_text(const bool *flag, int ranks, char *text, size_t bytes);

#endif
