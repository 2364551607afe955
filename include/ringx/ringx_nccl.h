/* SPDX-License-Identifier: MIT */
/* ringx over NCCL: the only public header that needs nccl.h. */
#ifndef RINGX_NCCL_H
#define RINGX_NCCL_H

#include <nccl.h>
#include <ringx/ringx.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Collective over host.  Makes an NCCL communicator of the same ranks, each on its current CUDA device; plans made with
 * the result move device memory by NCCL and agree through host (self, threads, MPI).  Destroying it destroys host. */
RINGX_API ringx_status ringx_comm_nccl(ringx_comm *host, ringx_comm **comm);

/* Collective over host.  The same over the caller's communicator of the same ranks in the same order, which must be
 * used for nothing else while a plan executes; destroying the result leaves it alone, and destroys host. */
RINGX_API ringx_status ringx_comm_from_nccl(ncclComm_t nccl, ringx_comm *host, ringx_comm **comm);

#ifdef __cplusplus
}
#endif
#endif
