/* SPDX-License-Identifier: MIT */
/* The failure of a communicator, kept and reported. */
#include "comm/failure.h"

#include <stdio.h>

bool ringx__failure_set(ringx_failure *failure, int origin, int culprit, ringx_status status, const char *message)
{
    if (failure->status != RINGX_OK)
        return false;
    failure->status = status == RINGX_OK ? RINGX_INTERNAL : status;
    failure->origin = origin;
    failure->culprit = culprit;
    snprintf(failure->message, sizeof failure->message, "%s", message ? message : "no message");
    return true;
}

ringx_status ringx__failure_report(const ringx_failure *failure, int rank)
{
    ringx_status status = failure->status;
    if (status == RINGX_OK)
        return RINGX_OK;
    if (failure->origin == RINGX_ALL_RANKS || failure->origin == rank)
        RINGX_FAIL(status, "%s", failure->message);
    if (status != RINGX_STALLED && status != RINGX_MISMATCH)
        status = RINGX_PEER_DIED;
    RINGX_FAIL(status, "rank %d failed: %s", failure->culprit, failure->message);
}

void ringx__ranks_text(const bool *flag, int ranks, char *text, size_t bytes)
{
    int count = 0, left;
    for (int r = 0; r < ranks; r++)
        count += flag[r];
    int n = snprintf(text, bytes, count == 1 ? "rank" : "ranks");
    left = count;
    for (int r = 0; r < ranks && n >= 0 && (size_t)n < bytes; r++) {
        if (!flag[r])
            continue;
        const char *before = left == count ? " " : left == 1 ? " and " : ", ";
        n += snprintf(text + n, bytes - (size_t)n, "%s%d", before, r);
        left--;
    }
}
