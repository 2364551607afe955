/* SPDX-License-Identifier: MIT */
/* CPU lanes: computation on the caller's thread, communication on a thread of the plan's own, so that transfers move
 * while tiles are computed.  Lanes tell each other how many steps they have done. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"

struct ringx_lanes {
    bool threaded;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const ringx_walk *walk; /* set: the communication lane has work */
    bool quit;
    bool idle; /* the communication lane has finished the walk */
    size_t done[RINGX_LANES];
    ringx_status failed;
    char message[RINGX_MESSAGE_BYTES];
    double start, waited[RINGX_LANES], busy[RINGX_LANES];
};

static void fail(ringx_lanes *lanes, ringx_status status)
{
    if (lanes->failed != RINGX_OK)
        return;
    lanes->failed = status;
    ringx__error_take(lanes->message, sizeof lanes->message);
}

/* Runs the next step of a lane; the caller holds the mutex, which is released meanwhile. */
static void run_step(ringx_lanes *lanes, const ringx_walk *walk, int lane)
{
    uint32_t step = walk->track->step[lane][lanes->done[lane]];
    pthread_mutex_unlock(&lanes->mutex);
    double begin = ringx__now();
    ringx_status status = walk->run(walk->context, step, lane, NULL);
    double end = ringx__now();
    if (walk->stamps)
        walk->stamps[step] = (ringx_stamp){begin - lanes->start, end - lanes->start};
    pthread_mutex_lock(&lanes->mutex);
    lanes->busy[lane] += end - begin;
    if (status != RINGX_OK)
        fail(lanes, status);
    else
        lanes->done[lane]++;
    pthread_cond_broadcast(&lanes->changed);
}

static bool ready(const ringx_lanes *lanes, const ringx_walk *walk, int lane)
{
    return walk->track->wait[lane][lanes->done[lane]] <= lanes->done[1 - lane];
}

static bool finished(const ringx_lanes *lanes, const ringx_walk *walk, int lane)
{
    return lanes->failed != RINGX_OK || lanes->done[lane] == walk->track->count[lane];
}

/* Holds the mutex on entry and exit. */
static void run_lane(ringx_lanes *lanes, const ringx_walk *walk, int lane)
{
    while (!finished(lanes, walk, lane)) {
        if (ready(lanes, walk, lane)) {
            run_step(lanes, walk, lane);
            continue;
        }
        double begin = ringx__now();
        pthread_cond_wait(&lanes->changed, &lanes->mutex);
        lanes->waited[lane] += ringx__now() - begin;
    }
}

/* Both lanes on one thread: transfers first, as far as they can go, or computation. */
static void run_both(ringx_lanes *lanes, const ringx_walk *walk)
{
    while (!finished(lanes, walk, RINGX_COMM_LANE) || !finished(lanes, walk, RINGX_COMPUTE_LANE)) {
        bool begun = lanes->done[RINGX_COMM_LANE] >= walk->ahead;
        int first = walk->compute_first && begun ? RINGX_COMPUTE_LANE : RINGX_COMM_LANE;
        bool can = !finished(lanes, walk, first) && ready(lanes, walk, first);
        run_step(lanes, walk, can ? first : 1 - first);
    }
    lanes->waited[RINGX_COMPUTE_LANE] = lanes->busy[RINGX_COMM_LANE];
}

static void *comm_lane(void *argument)
{
    ringx_lanes *lanes = argument;
    pthread_mutex_lock(&lanes->mutex);
    for (;;) {
        while (!lanes->quit && (!lanes->walk || lanes->idle))
            pthread_cond_wait(&lanes->changed, &lanes->mutex);
        if (lanes->quit)
            break;
        run_lane(lanes, lanes->walk, RINGX_COMM_LANE);
        lanes->idle = true;
        pthread_cond_broadcast(&lanes->changed);
    }
    pthread_mutex_unlock(&lanes->mutex);
    return NULL;
}

static void begin_walk(ringx_lanes *lanes)
{
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        lanes->done[lane] = 0;
        lanes->waited[lane] = lanes->busy[lane] = 0;
    }
    lanes->failed = RINGX_OK;
    lanes->start = ringx__now();
}

static ringx_status cpu_walk(ringx_lanes *lanes, const ringx_walk *walk)
{
    pthread_mutex_lock(&lanes->mutex);
    begin_walk(lanes);
    if (walk->one_lane || !lanes->threaded) {
        run_both(lanes, walk);
    } else {
        lanes->idle = walk->track->count[RINGX_COMM_LANE] == 0;
        lanes->walk = walk;
        if (!lanes->idle)
            pthread_cond_broadcast(&lanes->changed);
        run_lane(lanes, walk, RINGX_COMPUTE_LANE);
        double begin = ringx__now();
        while (!lanes->idle)
            pthread_cond_wait(&lanes->changed, &lanes->mutex);
        lanes->waited[RINGX_COMPUTE_LANE] += ringx__now() - begin;
        lanes->walk = NULL;
    }
    ringx_status status = lanes->failed;
    if (status != RINGX_OK)
        ringx__error_put(lanes->message);
    if (walk->timing)
        *walk->timing = (ringx_timing){.total_s = ringx__now() - lanes->start,
                                       .exposed_s = lanes->waited[RINGX_COMPUTE_LANE],
                                       .compute_s = lanes->busy[RINGX_COMPUTE_LANE],
                                       .transfer_s = lanes->busy[RINGX_COMM_LANE]};
    pthread_mutex_unlock(&lanes->mutex);
    return status;
}

static ringx_status cpu_available(void)
{
    return RINGX_OK;
}

static int cpu_count(void)
{
    return 1;
}

static ringx_status cpu_use(int index)
{
    (void)index;
    return RINGX_OK;
}

static ringx_status cpu_lanes_create(ringx_lanes **lanes, void *stream, bool one_lane, size_t steps, bool timed)
{
    (void)stream;
    (void)steps;
    (void)timed;
    ringx_lanes *new = calloc(1, sizeof *new);
    if (!new)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu bytes of lanes", sizeof *new);
    pthread_mutex_init(&new->mutex, NULL);
    pthread_cond_init(&new->changed, NULL);
    new->threaded = !one_lane;
    if (new->threaded && pthread_create(&new->thread, NULL, comm_lane, new) != 0) {
        free(new);
        RINGX_FAIL(RINGX_NO_MEMORY, "the communication lane's thread cannot be created");
    }
    *lanes = new;
    return RINGX_OK;
}

static void cpu_lanes_destroy(ringx_lanes *lanes)
{
    if (!lanes)
        return;
    if (lanes->threaded) {
        pthread_mutex_lock(&lanes->mutex);
        lanes->quit = true;
        pthread_cond_broadcast(&lanes->changed);
        pthread_mutex_unlock(&lanes->mutex);
        pthread_join(lanes->thread, NULL);
    }
    pthread_cond_destroy(&lanes->changed);
    pthread_mutex_destroy(&lanes->mutex);
    free(lanes);
}

static ringx_status cpu_settle(ringx_lanes *lanes, double deadline_s, ringx_status (*poll)(void *context),
                               void *context, int64_t *stuck, int *pass)
{
    (void)lanes;
    (void)deadline_s;
    (void)poll;
    (void)context;
    *stuck = -1;
    *pass = 0;
    return RINGX_OK;
}

static ringx_status cpu_alloc(size_t bytes, void **memory)
{
    if (posix_memalign(memory, 128, bytes ? bytes : 128) == 0)
        return RINGX_OK;
    *memory = NULL;
    RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu bytes", bytes);
}

static void cpu_free(void *memory)
{
    free(memory);
}

static ringx_status cpu_copy(void *to, const void *from, size_t bytes)
{
    if (bytes)
        memcpy(to, from, bytes);
    return RINGX_OK;
}

static ringx_status cpu_copy_on(void *to, const void *from, size_t bytes, void *stream)
{
    (void)stream;
    return cpu_copy(to, from, bytes);
}

static ringx_status cpu_drain(void *stream)
{
    (void)stream;
    return RINGX_OK;
}

static ringx_status cpu_usable(const char *name, const void *memory)
{
    (void)name;
    (void)memory;
    return RINGX_OK;
}

const ringx_device_ops ringx__device_cpu = {
    .name = "cpu",
    .device = RINGX_CPU,
    .available = cpu_available,
    .count = cpu_count,
    .use = cpu_use,
    .lanes_create = cpu_lanes_create,
    .lanes_destroy = cpu_lanes_destroy,
    .walk = cpu_walk,
    .settle = cpu_settle,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .copy = cpu_copy,
    .host_alloc = cpu_alloc,
    .host_free = cpu_free,
    .copy_on = cpu_copy_on,
    .drain = cpu_drain,
    .usable = cpu_usable,
};
