/* SPDX-License-Identifier: MIT */
/* NCCL: device memory moves on the call's stream; agreement goes through a host communicator of the same ranks.
 *
 * Communicators are non-blocking: every call is followed by polling for its state, with the call's deadline, so that a
 * rank that is gone cannot hold the others.  On failure all communicators are aborted and the host one is told. */
#include <ringx/ringx_nccl.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/failure.h"
#include "comm/verbs.h"
#include "core/shape.h"
#include "device/device.h"

#define OLDEST_VERSION NCCL_VERSION(2, 18, 0) /* ncclCommSplit */

struct ringx_group {
    ncclComm_t nccl;
    int members, index;
};

typedef struct nccl_comm {
    ringx_comm base;
    ringx_comm *host;
    ncclComm_t nccl;
    bool owns; /* the NCCL communicator was made here */
    ringx_failure failure;
} nccl_comm;

static ncclComm_t of(ringx_comm *comm, const ringx_group *group)
{
    return group ? group->nccl : ((nccl_comm *)comm)->nccl;
}

static int index_of(const ringx_comm *comm, const ringx_group *group)
{
    return group ? group->index : comm->rank;
}

static int members_of(const ringx_comm *comm, const ringx_group *group)
{
    return group ? group->members : comm->ranks;
}

static ringx_status sticky(ringx_comm *comm)
{
    nccl_comm *c = (nccl_comm *)comm;
    RINGX_TRY(ringx__failure_report(&c->failure, comm->rank));
    return c->host->ops->poll(c->host);
}

/* The first failure kills the communicators, here and, through the host, on the other ranks. */
static ringx_status fail(ringx_comm *comm, ringx_status status, const char *what, const char *why)
{
    nccl_comm *c = (nccl_comm *)comm;
    char message[RINGX_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s: %s", what, why);
    if (ringx__failure_set(&c->failure, comm->rank, comm->rank, status, message)) {
        c->host->ops->abort(c->host, comm->rank, status, message);
        ncclCommAbort(c->nccl);
        c->nccl = NULL;
    }
    return ringx__failure_report(&c->failure, comm->rank);
}

/* Waits until what was enqueued is accepted. */
static ringx_status accepted(ringx_comm *comm, ncclComm_t nccl, ncclResult_t result, const char *what,
                             double deadline_s)
{
    double end = ringx__now() + deadline_s;
    while (result == ncclInProgress) {
        ncclResult_t asked = ncclCommGetAsyncError(nccl, &result);
        if (asked != ncclSuccess)
            result = asked;
        if (result != ncclInProgress)
            break;
        RINGX_TRY(sticky(comm));
        if (ringx__now() > end)
            return fail(comm, RINGX_STALLED, what, "NCCL made no progress before the deadline; a peer is late or gone");
        sched_yield();
    }
    if (result != ncclSuccess)
        return fail(comm, RINGX_COMM, what, nccl ? ncclGetLastError(nccl) : ncclGetErrorString(result));
    return RINGX_OK;
}

static ncclDataType_t type_of(ringx_dtype dtype)
{
    return dtype == RINGX_F32 ? ncclFloat : dtype == RINGX_BF16 ? ncclBfloat16 : ncclHalf;
}

/* ---- calls ---- */

static ringx_status broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes, int root,
                              const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_BROADCAST);
    RINGX_TRY(sticky(comm));
    if (bytes == 0)
        return RINGX_OK;
    void *buffer = root == index_of(comm, group) && !to ? (void *)(uintptr_t)from : to;
    ncclResult_t r = ncclBroadcast(from, buffer, bytes, ncclChar, root, of(comm, group), call->stream);
    return accepted(comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ncclResult_t post(ncclComm_t nccl, int rank, const ringx_message *sends, size_t n_sends,
                         const ringx_message *receives, size_t n_receives, cudaStream_t stream)
{
    ncclResult_t r = ncclGroupStart();
    for (size_t i = 0; i < n_sends && r == ncclSuccess; i++)
        if (sends[i].bytes && sends[i].peer != rank)
            r = ncclSend(sends[i].data, sends[i].bytes, ncclChar, sends[i].peer, nccl, stream);
    for (size_t i = 0; i < n_receives && r == ncclSuccess; i++)
        if (receives[i].bytes && receives[i].peer != rank)
            r = ncclRecv(receives[i].data, receives[i].bytes, ncclChar, receives[i].peer, nccl, stream);
    ncclResult_t end = ncclGroupEnd();
    return r == ncclSuccess || r == ncclInProgress ? end : r;
}

/* This rank's messages to itself, in order. */
static cudaError_t copy_self(int rank, const ringx_message *sends, size_t n_sends, const ringx_message *receives,
                             size_t n_receives, cudaStream_t stream)
{
    cudaError_t error = cudaSuccess;
    for (size_t i = 0, j = 0; i < n_sends && error == cudaSuccess; i++) {
        if (sends[i].peer != rank || !sends[i].bytes)
            continue;
        while (j < n_receives && (receives[j].peer != rank || !receives[j].bytes))
            j++;
        if (j == n_receives || receives[j].bytes != sends[i].bytes)
            return cudaErrorInvalidValue;
        error = cudaMemcpyAsync(receives[j++].data, sends[i].data, sends[i].bytes, cudaMemcpyDeviceToDevice, stream);
    }
    return error;
}

static ringx_status exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                             const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_EXCHANGE);
    RINGX_TRY(sticky(comm));
    cudaError_t error = copy_self(comm->rank, sends, n_sends, receives, n_receives, call->stream);
    if (error != cudaSuccess)
        return fail(comm, RINGX_DEVICE, what, cudaGetErrorString(error));
    ncclComm_t nccl = of(comm, NULL);
    return accepted(comm, nccl, post(nccl, comm->rank, sends, n_sends, receives, n_receives, call->stream), what,
                    ringx__call_seconds(call));
}

static bool even(const size_t *bytes, const size_t *offsets, int n)
{
    for (int i = 0; i < n; i++)
        if (bytes[i] != bytes[0] || offsets[i] != (size_t)i * bytes[0])
            return false;
    return true;
}

/* Equal parts in order are NCCL's own collective; else one broadcast a member, grouped. */
static ncclResult_t gather(ncclComm_t nccl, int n, int own, const void *from, char *to, const size_t *bytes,
                           const size_t *offsets, cudaStream_t stream)
{
    if (even(bytes, offsets, n))
        return ncclAllGather(from, to, bytes[0], ncclChar, nccl, stream);
    ncclResult_t r = ncclGroupStart();
    for (int i = 0; i < n && (r == ncclSuccess || r == ncclInProgress); i++)
        if (bytes[i])
            r = ncclBroadcast(i == own ? from : to + offsets[i], to + offsets[i], bytes[i], ncclChar, i, nccl, stream);
    ncclResult_t end = ncclGroupEnd();
    return r == ncclSuccess || r == ncclInProgress ? end : r;
}

static ringx_status allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                              const size_t *offsets, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_ALLGATHER);
    RINGX_TRY(sticky(comm));
    ncclResult_t r =
        gather(of(comm, group), members_of(comm, group), index_of(comm, group), from, to, bytes, offsets, call->stream);
    return accepted(comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ringx_status reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                           ringx_dtype dtype, int root, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE);
    RINGX_TRY(sticky(comm));
    if (count == 0)
        return RINGX_OK;
    ncclResult_t r = ncclReduce(from, to, count, type_of(dtype), ncclSum, root, of(comm, group), call->stream);
    return accepted(comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ncclResult_t scatter(ncclComm_t nccl, int n, const char *from, void *to, const size_t *counts,
                            const size_t *offsets, ringx_dtype dtype, cudaStream_t stream)
{
    if (even(counts, offsets, n))
        return ncclReduceScatter(from, to, counts[0], type_of(dtype), ncclSum, nccl, stream);
    ncclResult_t r = ncclGroupStart();
    for (int i = 0; i < n && (r == ncclSuccess || r == ncclInProgress); i++)
        if (counts[i])
            r = ncclReduce(from + offsets[i] * ringx__dtype_bytes(dtype), to, counts[i], type_of(dtype), ncclSum, i,
                           nccl, stream);
    ncclResult_t end = ncclGroupEnd();
    return r == ncclSuccess || r == ncclInProgress ? end : r;
}

static ringx_status reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                   const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE_SCATTER);
    RINGX_TRY(sticky(comm));
    ncclResult_t r = scatter(of(comm, group), members_of(comm, group), from, to, counts, offsets, dtype, call->stream);
    return accepted(comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ringx_status allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                  const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_ALLREDUCE_MAX);
    RINGX_TRY(sticky(comm));
    if (count == 0)
        return RINGX_OK;
    ncclResult_t r = ncclAllReduce(from, to, count, ncclFloat, ncclMax, of(comm, group), call->stream);
    return accepted(comm, of(comm, group), r, what, ringx__call_seconds(call));
}

/* ---- what the host does ---- */

static ringx_comm *host_of(ringx_comm *comm)
{
    return ((nccl_comm *)comm)->host;
}

static ringx_status agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    RINGX_TRY(sticky(comm));
    return host_of(comm)->ops->agree(host_of(comm), mine, bytes, all, call);
}

static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    RINGX_TRY(sticky(comm));
    return host_of(comm)->ops->nodes(host_of(comm), node_of_rank, call);
}

static ringx_status split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_SPLIT);
    RINGX_TRY(sticky(comm));
    ringx_group *new = calloc(1, sizeof *new);
    if (!new)
        return fail(comm, RINGX_NO_MEMORY, what, "no memory for a group");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t r = ncclCommSplit(of(comm, NULL), colour, comm->rank, &new->nccl, &config);
    ringx_status status = accepted(comm, of(comm, NULL), r, what, ringx__call_seconds(call));
    if (status == RINGX_OK)
        status = accepted(comm, new->nccl, ncclInProgress, what, ringx__call_seconds(call));
    if (status == RINGX_OK && (ncclCommCount(new->nccl, &new->members) != ncclSuccess ||
                               ncclCommUserRank(new->nccl, &new->index) != ncclSuccess))
        status = fail(comm, RINGX_COMM, what, "the group cannot be asked for its size");
    if (status != RINGX_OK) {
        free(new);
        return status;
    }
    *group = new;
    return RINGX_OK;
}

static void group_destroy(ringx_comm *comm, ringx_group *group)
{
    if (!group)
        return;
    if (((nccl_comm *)comm)->failure.status == RINGX_OK)
        ncclCommDestroy(group->nccl);
    else
        ncclCommAbort(group->nccl);
    free(group);
}

static void abort_all(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    nccl_comm *c = (nccl_comm *)comm;
    if (!ringx__failure_set(&c->failure, comm->rank, culprit, status, message))
        return;
    c->host->ops->abort(c->host, culprit, status, message);
    ncclCommAbort(c->nccl);
    c->nccl = NULL;
}

static void destroy(ringx_comm *comm)
{
    nccl_comm *c = (nccl_comm *)comm;
    if (c->owns && c->nccl)
        ncclCommDestroy(c->nccl);
    ringx_comm_destroy(c->host);
    free(c);
}

const ringx_comm_ops ringx__comm_nccl = {
    .name = "nccl",
    .text = "GPUs over NVLink and networks; agreement through a host transport",
    .device_memory = true,
    .overlaps = false, /* calls only enqueue: the lanes need no second thread */
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
    .abort = abort_all,
    .poll = sticky,
    .host = host_of,
    .destroy = destroy,
};

/* ---- making ---- */

#define INIT_DEADLINE_S 300.0

static ringx_status check_version(void)
{
    int version = 0;
    if (ncclGetVersion(&version) != ncclSuccess || version < OLDEST_VERSION)
        RINGX_FAIL(RINGX_UNSUPPORTED, "NCCL's version is %d; %d (2.18.0) or later is needed", version, OLDEST_VERSION);
    return RINGX_OK;
}

static ringx_status make(nccl_comm *c)
{
    ringx_comm *host = c->host;
    ringx_call call = {.what = "ringx_comm_nccl: sharing the unique id", .deadline_s = INIT_DEADLINE_S};
    ncclUniqueId id, *all = calloc((unsigned)host->ranks, sizeof *all);
    memset(&id, 0, sizeof id);
    if (!all)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the ids of %d ranks", host->ranks);
    ncclResult_t r = host->rank == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    ringx_status status = host->ops->agree(host, &id, sizeof id, all, &call);
    if (status == RINGX_OK && r != ncclSuccess)
        status = ringx__fail(RINGX_COMM, "ncclGetUniqueId: %s", ncclGetErrorString(r));
    if (status == RINGX_OK) {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        r = ncclCommInitRankConfig(&c->nccl, host->ranks, all[0], host->rank, &config);
        status = accepted(&c->base, c->nccl, r, "ncclCommInitRank", INIT_DEADLINE_S);
    }
    free(all);
    return status;
}

static ringx_status create(ncclComm_t nccl, ringx_comm *host, ringx_comm **comm)
{
    if (!host || !comm)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must be a communicator", host ? "comm" : "host");
    *comm = NULL;
    RINGX_TRY(check_version());
    nccl_comm *c = calloc(1, sizeof *c);
    if (!c)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu bytes of a communicator", sizeof *c);
    *c = (nccl_comm){.base = {.ops = &ringx__comm_nccl, .rank = host->rank, .ranks = host->ranks},
                     .host = host,
                     .nccl = nccl,
                     .owns = nccl == NULL};
    ringx_status status = nccl ? RINGX_OK : make(c);
    if (status != RINGX_OK) {
        free(c);
        return status;
    }
    *comm = &c->base;
    return RINGX_OK;
}

ringx_status ringx_comm_nccl(ringx_comm *host, ringx_comm **comm)
{
    return create(NULL, host, comm);
}

ringx_status ringx_comm_from_nccl(ncclComm_t nccl, ringx_comm *host, ringx_comm **comm)
{
    int ranks = 0, rank = 0;
    if (!nccl || !host)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must be a communicator", nccl ? "host" : "nccl");
    if (ncclCommCount(nccl, &ranks) != ncclSuccess || ncclCommUserRank(nccl, &rank) != ncclSuccess ||
        ranks != host->ranks || rank != host->rank)
        RINGX_FAIL(RINGX_INVALID,
                   "the NCCL communicator is rank %d of %d; host is rank %d of %d: they must be the same", rank, ranks,
                   host->rank, host->ranks);
    return create(nccl, host, comm);
}
