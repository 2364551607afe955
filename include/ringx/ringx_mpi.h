/* SPDX-License-Identifier: MIT */
/* ringx over MPI: the only public header that needs mpi.h. */
#ifndef RINGX_MPI_H
#define RINGX_MPI_H

#include <mpi.h>
#include <ringx/ringx.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Collective over mpi.  Duplicates mpi, so that messages never mix with the caller's; MPI errors are returned, not
 * fatal.  Transfers overlap computation if MPI was initialised with at least MPI_THREAD_SERIALIZED and the caller makes
 * no MPI call during ringx_forward and ringx_backward; else they run between the tiles of the calling thread. */
RINGX_API ringx_status ringx_comm_from_mpi(MPI_Comm mpi, ringx_comm **comm);

#ifdef __cplusplus
}
#endif
#endif
