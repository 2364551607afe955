/* SPDX-License-Identifier: MIT */
/* NCCL: device memory moves on the call's stream; agreement goes through a host communicator of the same ranks.
 *
 * Communicators are non-blocking: every call is followed by polling for its state, with the call's deadline, so that a
 * rank that is gone cannot hold the others.  On failure all communicators are aborted and the host one is told. */
#include "comm/nccl_life.h"
#include "core/shape.h"

static ncclComm_t of(ringx_comm *comm, const ringx_group *group)
{
    return group ? group->nccl : ((ringx_nccl *)comm)->nccl;
}

static int index_of(const ringx_comm *comm, const ringx_group *group)
{
    return group ? group->index : comm->rank;
}

static int members_of(const ringx_comm *comm, const ringx_group *group)
{
    return group ? group->members : comm->ranks;
}

/* Of calls in a group: a non-blocking communicator may say that one is under way. */
static bool going_on(ncclResult_t result)
{
    return result == ncclSuccess || result == ncclInProgress;
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
    RINGX_TRY(ringx__nccl_poll(comm));
    if (bytes == 0)
        return RINGX_OK;
    void *buffer = root == index_of(comm, group) && !to ? (void *)(uintptr_t)from : to;
    ncclResult_t r = ncclBroadcast(from, buffer, bytes, ncclChar, root, of(comm, group), call->stream);
    return ringx__nccl_accepted((ringx_nccl *)comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ncclResult_t post(ncclComm_t nccl, int rank, const ringx_message *sends, size_t n_sends,
                         const ringx_message *receives, size_t n_receives, cudaStream_t stream)
{
    ncclResult_t r = ncclGroupStart();
    for (size_t i = 0; i < n_sends && going_on(r); i++)
        if (sends[i].bytes && sends[i].peer != rank)
            r = ncclSend(sends[i].data, sends[i].bytes, ncclChar, sends[i].peer, nccl, stream);
    for (size_t i = 0; i < n_receives && going_on(r); i++)
        if (receives[i].bytes && receives[i].peer != rank)
            r = ncclRecv(receives[i].data, receives[i].bytes, ncclChar, receives[i].peer, nccl, stream);
    ncclResult_t end = ncclGroupEnd();
    return going_on(r) ? end : r;
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
    RINGX_TRY(ringx__nccl_poll(comm));
    cudaError_t error = copy_self(comm->rank, sends, n_sends, receives, n_receives, call->stream);
    if (error != cudaSuccess)
        return ringx__nccl_fail((ringx_nccl *)comm, RINGX_DEVICE, what, cudaGetErrorString(error));
    ncclComm_t nccl = of(comm, NULL);
    return ringx__nccl_accepted((ringx_nccl *)comm, nccl,
                                post(nccl, comm->rank, sends, n_sends, receives, n_receives, call->stream), what,
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
    for (int i = 0; i < n && going_on(r); i++)
        if (bytes[i])
            r = ncclBroadcast(i == own ? from : to + offsets[i], to + offsets[i], bytes[i], ncclChar, i, nccl, stream);
    ncclResult_t end = ncclGroupEnd();
    return going_on(r) ? end : r;
}

static ringx_status allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                              const size_t *offsets, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_ALLGATHER);
    RINGX_TRY(ringx__nccl_poll(comm));
    ncclResult_t r =
        gather(of(comm, group), members_of(comm, group), index_of(comm, group), from, to, bytes, offsets, call->stream);
    return ringx__nccl_accepted((ringx_nccl *)comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ringx_status reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                           ringx_dtype dtype, int root, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE);
    RINGX_TRY(ringx__nccl_poll(comm));
    if (count == 0)
        return RINGX_OK;
    ncclResult_t r = ncclReduce(from, to, count, type_of(dtype), ncclSum, root, of(comm, group), call->stream);
    return ringx__nccl_accepted((ringx_nccl *)comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ncclResult_t scatter(ncclComm_t nccl, int n, const char *from, void *to, const size_t *counts,
                            const size_t *offsets, ringx_dtype dtype, cudaStream_t stream)
{
    if (even(counts, offsets, n))
        return ncclReduceScatter(from, to, counts[0], type_of(dtype), ncclSum, nccl, stream);
    ncclResult_t r = ncclGroupStart();
    for (int i = 0; i < n && going_on(r); i++)
        if (counts[i])
            r = ncclReduce(from + offsets[i] * ringx__dtype_bytes(dtype), to, counts[i], type_of(dtype), ncclSum, i,
                           nccl, stream);
    ncclResult_t end = ncclGroupEnd();
    return going_on(r) ? end : r;
}

static ringx_status reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                   const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE_SCATTER);
    RINGX_TRY(ringx__nccl_poll(comm));
    ncclResult_t r = scatter(of(comm, group), members_of(comm, group), from, to, counts, offsets, dtype, call->stream);
    return ringx__nccl_accepted((ringx_nccl *)comm, of(comm, group), r, what, ringx__call_seconds(call));
}

static ringx_status allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                  const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_ALLREDUCE_MAX);
    RINGX_TRY(ringx__nccl_poll(comm));
    if (count == 0)
        return RINGX_OK;
    ncclResult_t r = ncclAllReduce(from, to, count, ncclFloat, ncclMax, of(comm, group), call->stream);
    return ringx__nccl_accepted((ringx_nccl *)comm, of(comm, group), r, what, ringx__call_seconds(call));
}

/* ---- what the host does ---- */

static ringx_comm *host_of(ringx_comm *comm)
{
    return ((ringx_nccl *)comm)->host;
}

static ringx_status agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    RINGX_TRY(ringx__nccl_poll(comm));
    return host_of(comm)->ops->agree(host_of(comm), mine, bytes, all, call);
}

static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    RINGX_TRY(ringx__nccl_poll(comm));
    return host_of(comm)->ops->nodes(host_of(comm), node_of_rank, call);
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
    .split = ringx__nccl_split,
    .group_destroy = ringx__nccl_group_destroy,
    .nodes = nodes,
    .abort = ringx__nccl_abort,
    .poll = ringx__nccl_poll,
    .host = host_of,
    .destroy = ringx__nccl_destroy,
};
