/* SPDX-License-Identifier: MIT */
/* The NCCL transport, inside: communicators that are polled, and end together. */
#ifndef RINGX_COMM_NCCL_LIFE_H
#define RINGX_COMM_NCCL_LIFE_H

#include <ringx/ringx_nccl.h>

#include "comm/failure.h"
#include "comm/verbs.h"

struct ringx_group {
    ncclComm_t nccl; /* NULL after a failure */
    int members, index;
    ringx_group *next; /* of the communicator's */
};

typedef struct ringx_nccl {
    ringx_comm base;
    ringx_comm *host;
    ncclComm_t nccl; /* NULL after a failure */
    bool owns;       /* it was made here */
    int ctas;        /* most thread blocks of one collective; 0: NCCL's choice */
    ringx_group *groups;
    ringx_failure failure;
} ringx_nccl;

/* The failure there is: this rank's, the host's (another rank's), or one that NCCL has found meanwhile. */
ringx_status ringx__nccl_poll(ringx_comm *comm);
/* The first failure kills the NCCL communicators, here and, through the host, on the other ranks. */
ringx_status ringx__nccl_fail(ringx_nccl *c, ringx_status status, const char *what, const char *why);
void ringx__nccl_abort(ringx_comm *comm, int culprit, ringx_status status, const char *message);
/* Waits until what was enqueued is accepted. */
ringx_status ringx__nccl_accepted(ringx_nccl *c, ncclComm_t nccl, ncclResult_t result, const char *what,
                                  double deadline_s);

ringx_status ringx__nccl_split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call);
void ringx__nccl_group_destroy(ringx_comm *comm, ringx_group *group);
void ringx__nccl_destroy(ringx_comm *comm);

#endif
