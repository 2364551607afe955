/* SPDX-License-Identifier: MIT */
/* Rules that say which call of which rank goes wrong, and how. */
#ifndef RINGX_COMM_FAULTY_H
#define RINGX_COMM_FAULTY_H

#include "core/status.h"

typedef enum ringx_fault { RINGX_FAULT_ERROR, RINGX_FAULT_DELAY, RINGX_FAULT_DROP } ringx_fault;

typedef struct ringx_rule {
    int rank;     /* -1: every rank */
    int64_t call; /* -1: every call */
    ringx_fault fault;
    double seconds; /* of a delay */
} ringx_rule;

/* Reads "rank=R|*,call=N|*,kind=error|delay:SECONDS|drop; …".  *rules is to be freed, also if there are none. */
ringx_status ringx__rules_parse(const char *plan, int ranks, ringx_rule **rules, size_t *count);

#endif
