/* SPDX-License-Identifier: MIT */
/* One rank, alone: every call is a copy. */
#include "comm/failure.h"
#include "comm/verbs.h"
#include "core/shape.h"

#include <stdlib.h>
#include <string.h>

typedef struct self_comm {
    ringx_comm base;
    ringx_failure failure;
} self_comm;

/* Makes a failure of this thread's last error the communicator's. */
static ringx_status settle(ringx_comm *comm, ringx_status status)
{
    if (status != RINGX_OK)
        ringx__failure_set(&((self_comm *)comm)->failure, 0, 0, status, ringx_last_error());
    return status;
}

static ringx_status sticky(ringx_comm *comm)
{
    return ringx__failure_report(&((self_comm *)comm)->failure, 0);
}

static ringx_status copy(ringx_comm *comm, const char *what, const void *from, void *to, size_t bytes)
{
    RINGX_TRY(settle(comm, ringx__check_data(what, "from", from, bytes)));
    RINGX_TRY(settle(comm, ringx__check_data(what, "to", to, bytes)));
    if (bytes)
        memmove(to, from, bytes);
    return RINGX_OK;
}

static ringx_status broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes, int root,
                              const ringx_call *call)
{
    (void)group;
    const char *what = ringx__call_what(call, RINGX_VERB_BROADCAST);
    RINGX_TRY(sticky(comm));
    RINGX_TRY(settle(comm, ringx__check_root(what, root, 1)));
    return to ? copy(comm, what, from, to, bytes) : settle(comm, ringx__check_data(what, "from", from, bytes));
}

static ringx_status exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                             const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_EXCHANGE);
    RINGX_TRY(sticky(comm));
    RINGX_TRY(settle(comm, ringx__check_messages(what, sends, n_sends, 1)));
    RINGX_TRY(settle(comm, ringx__check_messages(what, receives, n_receives, 1)));
    return settle(comm, ringx__exchange_self(what, 0, sends, n_sends, receives, n_receives));
}

static ringx_status allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                              const size_t *offsets, const ringx_call *call)
{
    (void)group;
    RINGX_TRY(sticky(comm));
    void *own = to ? (char *)to + offsets[0] : NULL;
    return copy(comm, ringx__call_what(call, RINGX_VERB_ALLGATHER), from, own, bytes[0]);
}

static ringx_status reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                           ringx_dtype dtype, int root, const ringx_call *call)
{
    (void)group;
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE);
    RINGX_TRY(sticky(comm));
    RINGX_TRY(settle(comm, ringx__check_root(what, root, 1)));
    RINGX_TRY(settle(comm, ringx__check_dtype(what, dtype)));
    return copy(comm, what, from, to, count * ringx__dtype_bytes(dtype));
}

static ringx_status reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                   const ringx_call *call)
{
    (void)group;
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE_SCATTER);
    RINGX_TRY(sticky(comm));
    RINGX_TRY(settle(comm, ringx__check_dtype(what, dtype)));
    size_t width = ringx__dtype_bytes(dtype);
    const void *own = from ? (const char *)from + offsets[0] * width : NULL;
    return copy(comm, what, own, to, counts[0] * width);
}

static ringx_status allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                  const ringx_call *call)
{
    (void)group;
    RINGX_TRY(sticky(comm));
    return copy(comm, ringx__call_what(call, RINGX_VERB_ALLREDUCE_MAX), from, to, count * sizeof *to);
}

static ringx_status agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    RINGX_TRY(sticky(comm));
    return copy(comm, ringx__call_what(call, RINGX_VERB_AGREE), mine, all, bytes);
}

static ringx_status split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    (void)colour;
    (void)call;
    *group = NULL;
    return sticky(comm);
}

static void group_destroy(ringx_comm *comm, ringx_group *group)
{
    (void)comm;
    (void)group;
}

static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    (void)call;
    node_of_rank[0] = 0;
    return sticky(comm);
}

static void tell(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx__failure_set(&((self_comm *)comm)->failure, 0, culprit, status, message);
}

static void destroy(ringx_comm *comm)
{
    free(comm);
}

const ringx_comm_ops ringx__comm_self = {
    .name = "self",
    .text = "one rank, alone",
    .overlaps = true,
    .broadcast = broadcast,
    .exchange = exchange,
    .allgather = allgather,
    .reduce = reduce,
    .reduce_scatter = reduce_scatter,
    .allreduce_max = allreduce_max,
    .agree = agree,
    .split = split,
    .group_destroy = group_destroy,
    .nodes = nodes,
    .abort = tell,
    .poll = sticky,
    .destroy = destroy,
};

ringx_status ringx_comm_self(ringx_comm **comm)
{
    if (!comm)
        RINGX_FAIL(RINGX_INVALID, "comm is NULL; it must say where the communicator is to be put");
    self_comm *self = calloc(1, sizeof *self);
    if (!self)
        RINGX_FAIL(RINGX_NO_MEMORY, "a communicator of one rank needs %zu bytes", sizeof *self);
    self->base = (ringx_comm){.ops = &ringx__comm_self, .rank = 0, .ranks = 1};
    *comm = &self->base;
    return RINGX_OK;
}
