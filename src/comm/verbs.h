/* SPDX-License-Identifier: MIT */
/* The calls of a communicator by name, and what every transport checks of their arguments. */
#ifndef RINGX_COMM_VERBS_H
#define RINGX_COMM_VERBS_H

#include "comm/comm.h"

typedef enum ringx_verb {
    RINGX_VERB_BROADCAST,
    RINGX_VERB_EXCHANGE,
    RINGX_VERB_ALLGATHER,
    RINGX_VERB_REDUCE,
    RINGX_VERB_REDUCE_SCATTER,
    RINGX_VERB_ALLREDUCE_MAX,
    RINGX_VERB_AGREE,
    RINGX_VERB_SPLIT,
    RINGX_VERB_NODES,
    RINGX_VERBS
} ringx_verb;

const char *ringx__verb_name(ringx_verb verb);

/* What a call says of itself, never NULL. */
const char *ringx__call_what(const ringx_call *call, ringx_verb verb);

/* Seconds to wait for other ranks where no caller says: RINGX_TIMEOUT, else 300. */
double ringx__comm_timeout(void);

/* The call's deadline as monotonic seconds to wait, in 0 … 1e9. */
double ringx__call_seconds(const ringx_call *call);

ringx_status ringx__check_root(const char *what, int root, int members);
ringx_status ringx__check_dtype(const char *what, ringx_dtype dtype);
ringx_status ringx__check_data(const char *what, const char *name, const void *data, size_t bytes);
ringx_status ringx__check_messages(const char *what, const ringx_message *messages, size_t count, int ranks);

/* Copies this rank's messages to itself, in order; their number and sizes must match. */
ringx_status ringx__exchange_self(const char *what, int rank, const ringx_message *sends, size_t n_sends,
                                  const ringx_message *receives, size_t n_receives);

#endif
