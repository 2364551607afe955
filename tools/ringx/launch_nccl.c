/* SPDX-License-Identifier: MIT */
/* A rank's communicator over NCCL.  The only file of the command that names it. */
#include "launch.h"

#ifdef RINGX_HAVE_NCCL

#include <ringx/ringx_nccl.h>

const bool launch_has_nccl = true;

ringx_status launch_nccl(ringx_comm *host, ringx_comm **comm)
{
    return ringx_comm_nccl(host, comm);
}

#else

const bool launch_has_nccl = false;

/* Never asked for: launch_has_nccl says so. */
ringx_status launch_nccl(ringx_comm *host, ringx_comm **comm)
{
    *comm = host;
    return RINGX_UNSUPPORTED;
}

#endif
