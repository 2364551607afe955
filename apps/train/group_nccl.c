/* SPDX-License-Identifier: MIT */
/* NCCL for groups.  A call returns when this rank's part is done on the device, or, beside, once it is enqueued; no
 * wait of the host is longer than the group's timeout, and a failure or an expiry aborts the communicator, which frees
 * the others. */
#include "train/group_nccl.h"

#ifdef RINGX_HAVE_NCCL

#include <ringx/ringx_nccl.h>

#include <cuda_runtime.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double farewell_s = 5; /* for the others to end, too */

enum {
    PENDING = 4,          /* calls whose ends are told apart */
    BESIDE_PROCESSORS = 4 /* each moves some 20 GB/s; what computes meanwhile keeps the others */
};

struct group_gpus {
    ncclComm_t nccl; /* NULL after a failure */
    cudaStream_t stream;
    cudaStream_t before; /* beside: whose work each call begins after; `stream` is the group's own */
    bool beside;
    cudaEvent_t begun;         /* beside */
    cudaEvent_t done[PENDING]; /* of the last calls, in turn */
    uint64_t calls;
};

static int lost(group *g, int code, const char *what, const char *why)
{
    if (g->gpus->nccl)
        ncclCommAbort(g->gpus->nccl);
    g->gpus->nccl = NULL;
    return fail(code, "rank %d of %d: %s: %s", g->rank, g->ranks, what, why);
}

static int lost_to_cuda(group *g, const char *what, cudaError_t error)
{
    return lost(g, CODE_INTERNAL, what, cudaGetErrorString(error));
}

/* Asks until NCCL has enqueued what it was called for. */
static int enqueue(group *g, ncclResult_t result, const char *what)
{
    struct group_gpus *p = g->gpus;
    for (double deadline = seconds_now() + g->timeout; result == ncclInProgress; sched_yield()) {
        ncclResult_t asked = ncclCommGetAsyncError(p->nccl, &result);
        result = asked != ncclSuccess ? asked : result;
        if (result == ncclInProgress && seconds_now() > deadline)
            return lost(g, CODE_STALLED, what, "the others did not come before the deadline");
    }
    if (result != ncclSuccess)
        return lost(g, CODE_PEER_DIED, what, ncclGetLastError(p->nccl));
    cudaError_t error = cudaEventRecord(p->done[p->calls % PENDING], p->stream);
    if (error != cudaSuccess)
        return lost_to_cuda(g, what, error);
    p->calls++;
    return CODE_GOOD;
}

/* Asks until the device has nothing left to do of all calls but the last `behind`. */
static int wait_for(group *g, unsigned behind, const char *what)
{
    struct group_gpus *p = g->gpus;
    behind = behind < PENDING ? behind : PENDING - 1;
    if (p->calls <= behind)
        return CODE_GOOD;
    cudaEvent_t done = p->done[(p->calls - 1 - behind) % PENDING];
    for (double deadline = seconds_now() + g->timeout;; sched_yield()) {
        ncclResult_t result = ncclSuccess, asked = ncclCommGetAsyncError(p->nccl, &result);
        result = asked != ncclSuccess ? asked : result;
        if (result != ncclSuccess && result != ncclInProgress)
            return lost(g, CODE_PEER_DIED, what, ncclGetLastError(p->nccl));
        cudaError_t state = cudaEventQuery(done);
        if (state == cudaSuccess)
            return CODE_GOOD;
        if (state != cudaErrorNotReady)
            return lost_to_cuda(g, what, state);
        if (seconds_now() > deadline)
            return lost(g, CODE_STALLED, what, "the others did not come before the deadline");
    }
}

static int finish(group *g, ncclResult_t result, const char *what)
{
    int code = enqueue(g, result, what);
    return code || g->gpus->beside ? code : wait_for(g, 0, what);
}

static int failed_before(const char *what)
{
    return fail(CODE_PEER_DIED, "%s: the group's NCCL communicator has failed before", what);
}

/* Before a call. */
static int ready(group *g, const char *what)
{
    struct group_gpus *p = g->gpus;
    if (!p->nccl)
        return failed_before(what);
    if (!p->beside)
        return CODE_GOOD;
    cudaError_t error = cudaEventRecord(p->begun, p->before);
    if (error == cudaSuccess)
        error = cudaStreamWaitEvent(p->stream, p->begun, 0);
    return error == cudaSuccess ? CODE_GOOD : lost_to_cuda(g, what, error);
}

int gpus_wait(group *g, unsigned behind)
{
    static const char what[] = "sums over GPUs";
    return g->gpus->nccl ? wait_for(g, behind, what) : failed_before(what);
}

int gpus_all_reduce(group *g, group_op op, float *data, size_t count)
{
    int code = ready(g, "a sum");
    if (code || count == 0)
        return code;
    ncclResult_t r = ncclAllReduce(data, data, count, ncclFloat, op == GROUP_SUM ? ncclSum : ncclMax, g->gpus->nccl,
                                   g->gpus->stream);
    return finish(g, r, op == GROUP_SUM ? "a sum over GPUs" : "a maximum over GPUs");
}

static bool goes_on(ncclResult_t r)
{
    return r == ncclSuccess || r == ncclInProgress;
}

/* Shares may be of any lengths: one reduction for each owner, as one group of calls. */
int gpus_reduce_scatter(group *g, const float *data, const size_t *bounds, float *mine)
{
    int code = ready(g, "a sum by shares");
    if (code)
        return code;
    ncclResult_t r = ncclGroupStart();
    for (int i = 0; i < g->ranks && goes_on(r); i++)
        if (bounds[i + 1] > bounds[i])
            r = ncclReduce(data + bounds[i], mine, bounds[i + 1] - bounds[i], ncclFloat, ncclSum, i, g->gpus->nccl,
                           g->gpus->stream);
    ncclResult_t end = ncclGroupEnd();
    return finish(g, goes_on(r) ? end : r, "a sum by shares over GPUs");
}

int gpus_all_gather(group *g, void *data, const size_t *bounds)
{
    int code = ready(g, "a gather");
    if (code)
        return code;
    ncclResult_t r = ncclGroupStart();
    for (int i = 0; i < g->ranks && goes_on(r); i++) {
        char *share = (char *)data + bounds[i];
        if (bounds[i + 1] > bounds[i])
            r = ncclBroadcast(share, share, bounds[i + 1] - bounds[i], ncclChar, i, g->gpus->nccl, g->gpus->stream);
    }
    ncclResult_t end = ncclGroupEnd();
    return finish(g, goes_on(r) ? end : r, "a gather over GPUs");
}

/* Of its own: the library uses it while plans execute, and frees it where they fail. */
int gpus_comm(group *g, ringx_comm *host, ringx_comm **comm)
{
    return fail_status(ringx_comm_nccl(host, comm), "communicator of %d GPUs", g->ranks);
}

/* A rank that does not come must not hold this one. */
static void leave(ncclComm_t nccl)
{
    ncclResult_t result = ncclCommFinalize(nccl);
    for (double begin = seconds_now(); result == ncclInProgress && seconds_now() - begin < farewell_s; sched_yield())
        if (ncclCommGetAsyncError(nccl, &result) != ncclSuccess)
            result = ncclInternalError;
    if (result == ncclSuccess)
        ncclCommDestroy(nccl);
    else
        ncclCommAbort(nccl);
}

void gpus_destroy(group *g)
{
    struct group_gpus *p = g->gpus;
    if (!p)
        return;
    if (p->nccl)
        leave(p->nccl);
    for (int i = 0; i < PENDING; i++)
        if (p->done[i])
            cudaEventDestroy(p->done[i]);
    if (p->begun)
        cudaEventDestroy(p->begun);
    if (p->beside && p->stream)
        cudaStreamDestroy(p->stream);
    free(p);
    g->gpus = NULL;
}

/* ---- making ---- */

typedef struct gpu_place { /* which GPU a rank has, in the whole machine */
    char host[256], bus[32];
} gpu_place;

static int find_place(gpu_place *at)
{
    int device = 0;
    memset(at, 0, sizeof *at);
    if (gethostname(at->host, sizeof at->host - 1) != 0)
        return fail(CODE_INTERNAL, "this machine has no name");
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetPCIBusId(at->bus, sizeof at->bus, device);
    return error == cudaSuccess ? CODE_GOOD : fail(CODE_INTERNAL, "the GPU: %s", cudaGetErrorString(error));
}

/* Whether no two ranks have the same one. */
static int all_apart(group *g, bool *apart)
{
    gpu_place mine, *all = allocate((size_t)g->ranks * sizeof *all);
    int code = group_agree(g, all ? find_place(&mine) : CODE_NO_MEMORY);
    if (!code)
        code = group_gather(g, &mine, sizeof mine, all);
    *apart = true;
    for (int i = 0; i < g->ranks && !code; i++)
        for (int j = 0; j < i; j++)
            *apart = *apart && memcmp(&all[i], &all[j], sizeof mine) != 0;
    free(all);
    return code;
}

/* A stream that nothing waits for unasked, whose kernels get the next free processors; and the events. */
static cudaError_t make_queue(struct group_gpus *p, cudaStream_t stream, bool beside)
{
    int least, greatest;
    cudaError_t error = cudaSuccess;
    p->stream = beside ? NULL : stream, p->before = stream, p->beside = beside;
    for (int i = 0; i < PENDING && error == cudaSuccess; i++)
        error = cudaEventCreateWithFlags(&p->done[i], cudaEventDisableTiming);
    if (!beside || error != cudaSuccess)
        return error;
    error = cudaEventCreateWithFlags(&p->begun, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    return error == cudaSuccess ? cudaStreamCreateWithPriority(&p->stream, cudaStreamNonBlocking, greatest) : error;
}

static int make(group *g, cudaStream_t stream, bool beside)
{
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    ncclResult_t r = g->rank == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    int code = group_agree(g, r == ncclSuccess ? CODE_GOOD : fail(CODE_INTERNAL, "NCCL: %s", ncclGetErrorString(r)));
    if (!code)
        code = group_broadcast(g, &id, sizeof id, 0);
    if (code)
        return code;
    cudaError_t error = make_queue(g->gpus, stream, beside);
    if (error != cudaSuccess)
        return fail(CODE_NO_MEMORY, "events and streams of the device: %s", cudaGetErrorString(error));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (beside)
        config.maxCTAs = BESIDE_PROCESSORS;
    r = ncclCommInitRankConfig(&g->gpus->nccl, g->ranks, id, g->rank, &config);
    return finish(g, r, "making an NCCL communicator");
}

int group_use_gpus(group *g, void *stream, bool beside, bool *used)
{
    int code = all_apart(g, used);
    if (code || !*used)
        return code;
    g->gpus = allocate(sizeof *g->gpus);
    code = group_agree(g, g->gpus ? CODE_GOOD : CODE_NO_MEMORY);
    code = code ? code : group_agree(g, make(g, stream, beside));
    if (code)
        gpus_destroy(g);
    *used = !code;
    return code;
}

#else

int group_use_gpus(group *g, void *stream, bool beside, bool *used)
{
    (void)g, (void)stream, (void)beside;
    *used = false;
    return CODE_GOOD;
}

static int none(void)
{
    return fail(CODE_INTERNAL, "this build has no NCCL");
}

int gpus_all_reduce(group *g, group_op op, float *data, size_t count)
{
    (void)g, (void)op, (void)data, (void)count;
    return none();
}

int gpus_reduce_scatter(group *g, const float *data, const size_t *bounds, float *mine)
{
    (void)g, (void)data, (void)bounds, (void)mine;
    return none();
}

int gpus_all_gather(group *g, void *data, const size_t *bounds)
{
    (void)g, (void)data, (void)bounds;
    return none();
}

int gpus_wait(group *g, unsigned behind)
{
    (void)g, (void)behind;
    return none();
}

int gpus_comm(group *g, ringx_comm *host, ringx_comm **comm)
{
    (void)g, (void)host, (void)comm;
    return none();
}

void gpus_destroy(group *g)
{
    (void)g;
}

#endif

int parallel_use_gpus(const parallel *p, void *stream, bool *used)
{
    group *const groups[] = {p->tensor, p->context, p->gradient};
    int code = CODE_GOOD;
    *used = true;
    for (int i = 0; i < 3 && !code; i++) {
        bool one = true;
        if (group_ranks(groups[i]) > 1)
            code = group_use_gpus(groups[i], stream, false, &one);
        *used = *used && one;
    }
    return group_agree(p->world, code);
}
