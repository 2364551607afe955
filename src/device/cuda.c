/* SPDX-License-Identifier: MIT */
/* CUDA lanes: computation on the caller's stream, communication on one of the plan's own; waits are events.
 *
 * Which lane enqueues when is the CPU lanes' business (device/cpu.c): on one thread where the transport only enqueues
 * (NCCL), on two where it blocks the host (staged transports).  A step first makes its stream wait for the event of the
 * other lane's last step that it depends on.  The walk forks from the caller's stream and joins it again, so it can be
 * captured in a graph. */
#include <cuda_runtime.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"

extern const ringx_device_ops ringx__device_cpu;
extern const ringx_peer_ops ringx__peer_cuda;

enum { PASSES = 2 };

struct ringx_lanes {
    ringx_lanes *host;
    int device;
    cudaStream_t stream[RINGX_LANES];
    size_t steps;
    bool timed;
    cudaEvent_t *begin[PASSES], *end[PASSES], fork[PASSES]; /* by step; begin only if timed */
    ringx_walk walk[PASSES];                                /* the last one of each pass */
    bool pending[PASSES];                                   /* it is not settled */
    int recent;                                             /* the pass of the last one */
};

static ringx_status failed(cudaError_t error, const char *what)
{
    return ringx__fail(error == cudaErrorMemoryAllocation ? RINGX_NO_MEMORY : RINGX_DEVICE, "%s: %s (%s)", what,
                       cudaGetErrorString(error), cudaGetErrorName(error));
}

#define CUDA_TRY(call)                                                                                                 \
    do {                                                                                                               \
        cudaError_t cuda_error = (call);                                                                               \
        if (cuda_error != cudaSuccess)                                                                                 \
            return failed(cuda_error, #call);                                                                          \
    } while (0)

static ringx_status cuda_available(void)
{
    int count = 0, device = 0, major = 0, minor = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
        RINGX_FAIL(RINGX_UNSUPPORTED,
                   "no CUDA device: %s; use the CPU, or a machine with a GPU of compute capability 8.0",
                   error != cudaSuccess ? cudaGetErrorString(error) : "none found");
    CUDA_TRY(cudaGetDevice(&device));
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    CUDA_TRY(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    if (major < 8)
        RINGX_FAIL(RINGX_UNSUPPORTED, "CUDA device %d has compute capability %d.%d; 8.0 or later is needed", device,
                   major, minor);
    return RINGX_OK;
}

static int cuda_count(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess)
        return count;
    cudaGetLastError(); /* no driver, no GPU */
    return 0;
}

static ringx_status cuda_use(int index)
{
    CUDA_TRY(cudaSetDevice(index));
    return RINGX_OK;
}

static ringx_status make_events(ringx_lanes *lanes, int pass)
{
    unsigned flags = lanes->timed ? cudaEventDefault : cudaEventDisableTiming;
    lanes->end[pass] = calloc(lanes->steps + 1, sizeof(cudaEvent_t));
    lanes->begin[pass] = calloc(lanes->steps + 1, sizeof(cudaEvent_t));
    if (!lanes->end[pass] || !lanes->begin[pass])
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu events", lanes->steps);
    CUDA_TRY(cudaEventCreateWithFlags(&lanes->fork[pass], flags));
    for (size_t i = 0; i < lanes->steps; i++) {
        CUDA_TRY(cudaEventCreateWithFlags(&lanes->end[pass][i], flags));
        if (lanes->timed)
            CUDA_TRY(cudaEventCreateWithFlags(&lanes->begin[pass][i], flags));
    }
    return RINGX_OK;
}

static void free_events(ringx_lanes *lanes, int pass)
{
    for (size_t i = 0; i < lanes->steps; i++) {
        if (lanes->end[pass] && lanes->end[pass][i])
            cudaEventDestroy(lanes->end[pass][i]);
        if (lanes->begin[pass] && lanes->begin[pass][i])
            cudaEventDestroy(lanes->begin[pass][i]);
    }
    if (lanes->fork[pass])
        cudaEventDestroy(lanes->fork[pass]);
    free(lanes->end[pass]);
    free(lanes->begin[pass]);
}

static void cuda_lanes_destroy(ringx_lanes *lanes)
{
    if (!lanes)
        return;
    ringx__device_cpu.lanes_destroy(lanes->host);
    for (int pass = 0; pass < PASSES; pass++)
        free_events(lanes, pass);
    if (lanes->stream[RINGX_COMM_LANE])
        cudaStreamDestroy(lanes->stream[RINGX_COMM_LANE]);
    free(lanes);
}

static ringx_status fill_lanes(ringx_lanes *lanes, void *stream, bool one_lane)
{
    int least = 0, greatest = 0;
    CUDA_TRY(cudaGetDevice(&lanes->device));
    CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    CUDA_TRY(cudaStreamCreateWithPriority(&lanes->stream[RINGX_COMM_LANE], cudaStreamNonBlocking, greatest));
    lanes->stream[RINGX_COMPUTE_LANE] = (cudaStream_t)stream;
    for (int pass = 0; pass < PASSES; pass++)
        RINGX_TRY(make_events(lanes, pass));
    return ringx__device_cpu.lanes_create(&lanes->host, NULL, one_lane, lanes->steps, false);
}

static ringx_status cuda_lanes_create(ringx_lanes **lanes, void *stream, bool one_lane, size_t steps, bool timed)
{
    ringx_lanes *new = calloc(1, sizeof *new);
    if (!new)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu bytes of lanes", sizeof *new);
    new->steps = steps;
    new->timed = timed;
    ringx_status status = fill_lanes(new, stream, one_lane);
    if (status != RINGX_OK) {
        cuda_lanes_destroy(new);
        return status;
    }
    *lanes = new;
    return RINGX_OK;
}

/* Place of a step in its lane is not known here: the track is walked in order, so the lane's own counter is. */
typedef struct ringx_enqueue {
    ringx_lanes *lanes;
    const ringx_walk *walk;
    size_t next[RINGX_LANES];
} enqueue;

static ringx_status enqueue_step(void *context, uint32_t step, int lane, void *unused)
{
    (void)unused;
    enqueue *q = context;
    ringx_lanes *lanes = q->lanes;
    cudaEvent_t *begin = lanes->begin[q->walk->pass], *end = lanes->end[q->walk->pass];
    cudaStream_t stream = lanes->stream[lane];
    uint32_t wait = q->walk->track->wait[lane][q->next[lane]++];
    if (lane == RINGX_COMPUTE_LANE && q->next[lane] == 1 && q->walk->waits_ahead && wait < q->walk->ahead)
        wait = (uint32_t)q->walk->ahead;
    CUDA_TRY(cudaSetDevice(lanes->device));
    if (wait)
        CUDA_TRY(cudaStreamWaitEvent(stream, end[q->walk->track->step[1 - lane][wait - 1]], 0));
    if (lanes->timed)
        CUDA_TRY(cudaEventRecord(begin[step], stream));
    RINGX_TRY(q->walk->run(q->walk->context, step, lane, stream));
    /* The ends of transfers tell which one is stuck. */
    const uint8_t *awaited = q->walk->track->awaited;
    if (lane == RINGX_COMM_LANE || lanes->timed || !awaited || awaited[step])
        CUDA_TRY(cudaEventRecord(end[step], stream));
    return RINGX_OK;
}

static ringx_status cuda_walk(ringx_lanes *lanes, const ringx_walk *walk)
{
    enqueue q = {.lanes = lanes, .walk = walk};
    ringx_walk host = {.track = walk->track,
                       .run = enqueue_step,
                       .context = &q,
                       .one_lane = walk->one_lane,
                       .compute_first = walk->compute_first,
                       .ahead = walk->ahead};
    size_t transfers = walk->track->count[RINGX_COMM_LANE];
    CUDA_TRY(cudaEventRecord(lanes->fork[walk->pass], lanes->stream[RINGX_COMPUTE_LANE]));
    if (transfers)
        CUDA_TRY(cudaStreamWaitEvent(lanes->stream[RINGX_COMM_LANE], lanes->fork[walk->pass], 0));
    RINGX_TRY(ringx__device_cpu.walk(lanes->host, &host));
    if (transfers) {
        uint32_t last = walk->track->step[RINGX_COMM_LANE][transfers - 1];
        CUDA_TRY(cudaStreamWaitEvent(lanes->stream[RINGX_COMPUTE_LANE], lanes->end[walk->pass][last], 0));
    }
    lanes->walk[walk->pass] = *walk;
    lanes->pending[walk->pass] = true;
    lanes->recent = walk->pass;
    return RINGX_OK;
}

static double seconds(cudaEvent_t from, cudaEvent_t to)
{
    float ms = 0;
    return cudaEventElapsedTime(&ms, from, to) == cudaSuccess ? 1e-3 * (double)ms : 0;
}

/* Exposed: the time in which the compute lane had not finished and ran no step. */
static void measure(ringx_lanes *lanes, const ringx_walk *walk)
{
    cudaEvent_t fork = lanes->fork[walk->pass], *begin = lanes->begin[walk->pass], *end = lanes->end[walk->pass];
    ringx_timing timing = {.total_s = 0};
    double busy[RINGX_LANES] = {0, 0};
    for (int lane = 0; lane < RINGX_LANES; lane++)
        for (size_t i = 0; i < walk->track->count[lane]; i++) {
            uint32_t step = walk->track->step[lane][i];
            ringx_stamp stamp = {seconds(fork, begin[step]), seconds(fork, end[step])};
            busy[lane] += stamp.end - stamp.begin;
            timing.total_s = stamp.end > timing.total_s ? stamp.end : timing.total_s;
            if (walk->stamps)
                walk->stamps[step] = stamp;
        }
    timing.compute_s = busy[RINGX_COMPUTE_LANE];
    timing.transfer_s = busy[RINGX_COMM_LANE];
    timing.exposed_s = timing.total_s - timing.compute_s;
    if (walk->timing)
        *walk->timing = timing;
}

/* The first transfer whose end has not come, of the walk that was first. */
static int64_t first_unfinished(const ringx_lanes *lanes, int *pass)
{
    for (int i = 0; i < PASSES; i++) {
        *pass = i == 0 ? 1 - lanes->recent : lanes->recent;
        const ringx_track *track = lanes->pending[*pass] ? lanes->walk[*pass].track : NULL;
        for (size_t t = 0; track && t < track->count[RINGX_COMM_LANE]; t++) {
            uint32_t step = track->step[RINGX_COMM_LANE][t];
            if (cudaEventQuery(lanes->end[*pass][step]) == cudaErrorNotReady)
                return step;
        }
    }
    return -1;
}

static ringx_status cuda_settle(ringx_lanes *lanes, double deadline_s, ringx_status (*poll)(void *context),
                                void *context, int64_t *stuck, int *pass)
{
    double end = ringx__now() + deadline_s;
    cudaError_t error;
    *stuck = -1;
    *pass = lanes->recent;
    CUDA_TRY(cudaSetDevice(lanes->device));
    /* The compute stream joined the communication stream at the end of the walk. */
    while ((error = cudaStreamQuery(lanes->stream[RINGX_COMPUTE_LANE])) == cudaErrorNotReady) {
        ringx_status status = poll(context);
        if (status == RINGX_OK && ringx__now() > end)
            status = ringx__fail(RINGX_STALLED, "the device did not finish within %g s", deadline_s);
        if (status != RINGX_OK) {
            *stuck = first_unfinished(lanes, pass);
            return status;
        }
        sched_yield();
    }
    if (error != cudaSuccess)
        return failed(error, "a kernel or transfer of the last execute");
    for (int i = 0; i < PASSES; i++) {
        if (lanes->pending[i] && lanes->timed)
            measure(lanes, &lanes->walk[i]);
        lanes->pending[i] = false;
    }
    return RINGX_OK;
}

static ringx_status cuda_alloc(size_t bytes, void **memory)
{
    size_t free_bytes = 0, total = 0;
    cudaError_t error = cudaMalloc(memory, bytes ? bytes : 128);
    if (error == cudaSuccess)
        return RINGX_OK;
    *memory = NULL;
    cudaGetLastError();
    if (error != cudaErrorMemoryAllocation)
        return failed(error, "cudaMalloc");
    cudaMemGetInfo(&free_bytes, &total);
    RINGX_FAIL(RINGX_NO_MEMORY, "no device memory for %zu bytes: %zu of %zu are free", bytes, free_bytes, total);
}

static void cuda_free(void *memory)
{
    cudaFree(memory);
}

static ringx_status cuda_copy(void *to, const void *from, size_t bytes)
{
    if (bytes)
        CUDA_TRY(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
    return RINGX_OK;
}

static ringx_status cuda_host_alloc(size_t bytes, void **memory)
{
    *memory = NULL;
    CUDA_TRY(cudaHostAlloc(memory, bytes ? bytes : 128, cudaHostAllocDefault));
    return RINGX_OK;
}

static void cuda_host_free(void *memory)
{
    cudaFreeHost(memory);
}

static ringx_status cuda_copy_on(void *to, const void *from, size_t bytes, void *stream)
{
    if (bytes)
        CUDA_TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, (cudaStream_t)stream));
    return RINGX_OK;
}

static ringx_status cuda_drain(void *stream)
{
    CUDA_TRY(cudaStreamSynchronize((cudaStream_t)stream));
    return RINGX_OK;
}

static ringx_status cuda_usable(const char *name, const void *memory)
{
    int device = 0;
    struct cudaPointerAttributes attributes;
    CUDA_TRY(cudaGetDevice(&device));
    CUDA_TRY(cudaPointerGetAttributes(&attributes, memory));
    if (attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost)
        RINGX_FAIL(RINGX_INVALID, "%s is %p, host memory; with CUDA it must be memory of device %d", name, memory,
                   device);
    if (attributes.type == cudaMemoryTypeDevice && attributes.device != device)
        RINGX_FAIL(RINGX_INVALID, "%s is %p, memory of device %d; it must be of the current device %d", name, memory,
                   attributes.device, device);
    return RINGX_OK;
}

const ringx_device_ops ringx__device_cuda = {
    .name = "cuda",
    .device = RINGX_CUDA,
    .available = cuda_available,
    .count = cuda_count,
    .use = cuda_use,
    .lanes_create = cuda_lanes_create,
    .lanes_destroy = cuda_lanes_destroy,
    .walk = cuda_walk,
    .settle = cuda_settle,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .copy = cuda_copy,
    .host_alloc = cuda_host_alloc,
    .host_free = cuda_host_free,
    .copy_on = cuda_copy_on,
    .drain = cuda_drain,
    .usable = cuda_usable,
    .peer = &ringx__peer_cuda,
};
