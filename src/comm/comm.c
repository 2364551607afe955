/* SPDX-License-Identifier: MIT */
/* The table of transports, and what is the same for all of them. */
#include "comm/comm.h"

static const ringx_comm_ops *const table[] = {
#define RINGX_TRANSPORT(name) &ringx__comm_##name,
#include "comm/comms.def"
#undef RINGX_TRANSPORT
};

const ringx_comm_ops *ringx__comm_ops_at(size_t i)
{
    return i < sizeof table / sizeof *table ? table[i] : NULL;
}

int ringx_comm_rank(const ringx_comm *comm)
{
    return comm->rank;
}

int ringx_comm_ranks(const ringx_comm *comm)
{
    return comm->ranks;
}

void ringx_comm_destroy(ringx_comm *comm)
{
    if (comm)
        comm->ops->destroy(comm);
}
