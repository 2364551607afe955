/* SPDX-License-Identifier: MIT */
/* ringx over NCCL: the only public header that needs nccl.h. */
#ifndef RINGX_NCCL_H
#define RINGX_NCCL_H

#include <nccl.h>
#include <ringx/ringx.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Collective over host, with ranks as threads or as processes.  Makes an NCCL communicator of the same ranks, each on
 * its current CUDA device, which no other of them may use; plans made with the result move device memory by NCCL and
 * agree through host (self, threads, MPI, the environment's).  Destroying it destroys host; if it cannot be made, host
 * stays the caller's.  RINGX_NCCL_CTAS, the same on all ranks, limits the thread blocks of a transfer (1 … 64). */
RINGX_API ringx_status ringx_comm_nccl(ringx_comm *host, ringx_comm **comm);

/* Collective over host.  The same over the caller's communicator of the same ranks in the same order, which must be
 * used for nothing else while a plan executes; destroying the result leaves it alone, and destroys host.  After a
 * failure it has been aborted (ncclCommAbort), which frees it: it must not be used or destroyed any more. */
RINGX_API ringx_status ringx_comm_from_nccl(ncclComm_t nccl, ringx_comm *host, ringx_comm **comm);

#ifdef __cplusplus
}
#endif
#endif
