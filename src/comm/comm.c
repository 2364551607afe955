/* SPDX-License-Identifier: MIT */
/* The table of transports, and what is the same for all of them. */
#include "comm/verbs.h"

#include <stdlib.h>

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
    if (!comm)
        return;
    if (comm->kept)
        comm->forget(comm->kept);
    comm->ops->destroy(comm);
}

ringx_status ringx__comm_roll_call(ringx_comm *comm, const char *what)
{
    ringx_comm *host = ringx__comm_host(comm);
    ringx_call call = {.what = what, .deadline_s = 2};
    char here = 1, *all = host == comm ? NULL : malloc((size_t)comm->ranks);
    if (!all)
        return RINGX_OK;
    ringx_status status = host->ops->agree(host, &here, sizeof here, all, &call);
    free(all);
    return status;
}

static ringx_status check_comm(const ringx_comm *comm)
{
    if (!comm)
        RINGX_FAIL(RINGX_INVALID, "comm is NULL; it must be a communicator");
    return RINGX_OK;
}

ringx_status ringx_comm_gather(ringx_comm *comm, const void *mine, size_t bytes, void *all)
{
    ringx_call call = {.what = "ringx_comm_gather", .deadline_s = ringx__comm_timeout()};
    RINGX_TRY(check_comm(comm));
    ringx_comm *host = ringx__comm_host(comm);
    return host->ops->agree(host, mine, bytes, all, &call);
}

ringx_status ringx_comm_broadcast(ringx_comm *comm, void *data, size_t bytes, int root)
{
    ringx_call call = {.what = "ringx_comm_broadcast", .deadline_s = ringx__comm_timeout()};
    RINGX_TRY(check_comm(comm));
    ringx_comm *host = ringx__comm_host(comm);
    return host->ops->broadcast(host, NULL, data, data, bytes, root, &call);
}
