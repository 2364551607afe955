/* SPDX-License-Identifier: MIT */
/* Device memory by way of host memory, or by NCCL where the group has it. */
#include "train/device_data.h"

#include "train/group_nccl.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 26) /* of host memory at a time */

static int copy(ringx_device device, void *to, const void *from, size_t bytes)
{
    return bytes ? fail_status(ringx_memory_copy(device, to, from, bytes), "copying %zu bytes", bytes) : CODE_GOOD;
}

int device_walk(ringx_device device, float *values, size_t count, bool back, device_visit *visit, void *context)
{
    if (device == RINGX_CPU)
        return count ? visit(context, values, 0, count) : CODE_GOOD;
    size_t most = PIECE_BYTES / sizeof(float);
    most = count < most ? count : most;
    float *host = allocate(most * sizeof *host);
    int code = host ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t at = 0; at < count && !code; at += most) {
        size_t n = count - at < most ? count - at : most;
        code = copy(device, host, values + at, n * sizeof *host);
        if (!code)
            code = visit(context, host, at, n);
        if (!code && back)
            code = copy(device, values + at, host, n * sizeof *host);
    }
    free(host);
    return code;
}

/* ---- which device ---- */

/* How many ranks before this one are on the same machine. */
static int local_rank(group *world, int *rank)
{
    struct host_name {
        char text[256];
    } mine = {{0}}, *all = allocate((size_t)group_ranks(world) * sizeof *all);
    int code = all ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code && gethostname(mine.text, sizeof mine.text - 1) != 0)
        code = fail(CODE_INTERNAL, "this machine has no name");
    code = group_agree(world, code);
    if (!code)
        code = group_gather(world, &mine, sizeof mine, all);
    *rank = 0;
    for (int r = 0; r < group_rank(world) && !code; r++)
        *rank += strcmp(all[r].text, mine.text) == 0;
    free(all);
    return code;
}

/* Streams of the operators, of the library's lanes and of sums beside them must not share a queue of the hardware: a
 * kernel that waits for a free processor would hold up what the kernels on the processors wait for. */
static void ask_for_queues(void)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0); /* the most there are; read when the process first uses CUDA */
}

int device_choose(group *world, ringx_device device)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int rank, count = 0;
    if (device == RINGX_CPU)
        return CODE_GOOD;
    pthread_once(&once, ask_for_queues);
    int code = local_rank(world, &rank);
    if (code)
        return code;
    code = fail_status(ringx_device_count(device, &count), "devices of this machine");
    if (!code && count < 1)
        code = fail(CODE_CONFIGURATION,
                    "device is cuda, but this machine has no GPU or this build no CUDA; it must be cpu");
    if (!code)
        code = fail_status(ringx_device_use(device, rank % count), "device %d", rank % count);
    return group_agree(world, code);
}

/* ---- groups ---- */

typedef struct reduction {
    group *g;
    group_op op;
} reduction;

static int reduce_piece(void *context, float *values, size_t first, size_t count)
{
    (void)first;
    const reduction *r = context;
    return group_all_reduce(r->g, r->op, GROUP_F32, values, count);
}

int device_all_reduce(group *g, ringx_device device, group_op op, float *data, size_t count)
{
    reduction r = {g, op};
    if (device == RINGX_CUDA && g->gpus)
        return gpus_all_reduce(g, op, data, count);
    return group_ranks(g) == 1 ? CODE_GOOD : device_walk(device, data, count, true, reduce_piece, &r);
}

int device_max(void *among, float *values, size_t count)
{
    const device_group *d = among;
    return device_all_reduce(d->g, d->device, GROUP_MAX, values, count);
}

int device_sum(void *among, float *values, size_t count)
{
    const device_group *d = among;
    return device_all_reduce(d->g, d->device, GROUP_SUM, values, count);
}

/* What rounds of every rank's share go through: host memory with the shares of a round one after the other. */
typedef struct rounds {
    group *g;
    ringx_device device;
    const size_t *bounds; /* of what is on the device, in bytes */
    size_t most, longest; /* bytes of a share in a round; of the largest share */
    size_t *here;         /* bounds of the round */
    char *host;
} rounds;

static int rounds_begin(rounds *r, group *g, ringx_device device, const size_t *bounds)
{
    int n = group_ranks(g);
    *r = (rounds){.g = g, .device = device, .bounds = bounds};
    for (int i = 0; i < n; i++)
        r->longest = bounds[i + 1] - bounds[i] > r->longest ? bounds[i + 1] - bounds[i] : r->longest;
    r->most = (PIECE_BYTES / (size_t)n + 64) / 64 * 64;
    r->most = r->longest < r->most ? r->longest : r->most;
    r->here = allocate(((size_t)n + 1) * sizeof *r->here);
    r->host = allocate((size_t)n * r->most);
    return group_agree(g, r->here && r->host ? CODE_GOOD : CODE_NO_MEMORY);
}

static void rounds_end(rounds *r)
{
    free(r->here);
    free(r->host);
}

/* Bounds of the round that begins `at` bytes into each share. */
static void rounds_cut(rounds *r, size_t at)
{
    for (int i = 0; i < group_ranks(r->g); i++) {
        size_t share = r->bounds[i + 1] - r->bounds[i], left = share > at ? share - at : 0;
        r->here[i + 1] = r->here[i] + (left < r->most ? left : r->most);
    }
}

/* The round's part of rank i's share, between the device (at base) and host memory. */
static int rounds_copy(const rounds *r, char *base, size_t at, int i, bool to_host)
{
    char *there = base + r->bounds[i] + at, *host = r->host + r->here[i];
    size_t bytes = r->here[i + 1] - r->here[i];
    return to_host ? copy(r->device, host, there, bytes) : copy(r->device, there, host, bytes);
}

static int scatter_round(rounds *r, char *data, float *mine, size_t at)
{
    int code = CODE_GOOD, rank = group_rank(r->g), n = group_ranks(r->g);
    rounds_cut(r, at);
    for (int i = 0; i < n && !code; i++)
        code = rounds_copy(r, data, at, i, true);
    size_t own = r->here[rank], bytes = r->here[rank + 1] - own;
    for (int i = 0; i <= n; i++)
        r->here[i] /= sizeof(float);
    if (!code)
        code = group_reduce_scatter(r->g, GROUP_SUM, GROUP_F32, r->host, r->here, r->host + own);
    return code ? code : copy(r->device, (char *)mine + at, r->host + own, bytes);
}

int device_reduce_scatter(group *g, ringx_device device, const float *data, const size_t *bounds, float *mine)
{
    if (device == RINGX_CPU)
        return group_reduce_scatter(g, GROUP_SUM, GROUP_F32, data, bounds, mine);
    if (g->gpus)
        return gpus_reduce_scatter(g, data, bounds, mine);
    if (group_ranks(g) == 1)
        return mine == data + bounds[0] ? CODE_GOOD
                                        : copy(device, mine, data + bounds[0], (bounds[1] - bounds[0]) * sizeof *mine);
    rounds r;
    size_t *bytes = allocate(((size_t)group_ranks(g) + 1) * sizeof *bytes);
    for (int i = 0; bytes && i <= group_ranks(g); i++)
        bytes[i] = bounds[i] * sizeof(float);
    int code = group_agree(g, bytes ? CODE_GOOD : CODE_NO_MEMORY);
    if (!code) {
        code = rounds_begin(&r, g, device, bytes);
        for (size_t at = 0; at < r.longest && !code; at += r.most)
            code = scatter_round(&r, (char *)(uintptr_t)data, mine, at);
        rounds_end(&r);
    }
    free(bytes);
    return code;
}

static int gather_round(rounds *r, char *data, size_t at)
{
    int rank = group_rank(r->g), n = group_ranks(r->g);
    rounds_cut(r, at);
    int code = rounds_copy(r, data, at, rank, true);
    if (!code)
        code = group_all_gather(r->g, r->host, r->here);
    for (int i = 0; i < n && !code; i++)
        code = i == rank ? CODE_GOOD : rounds_copy(r, data, at, i, false);
    return code;
}

int device_all_gather(group *g, ringx_device device, void *data, const size_t *bounds)
{
    if (device == RINGX_CUDA && g->gpus)
        return gpus_all_gather(g, data, bounds);
    if (device == RINGX_CPU || group_ranks(g) == 1)
        return group_ranks(g) == 1 ? CODE_GOOD : group_all_gather(g, data, bounds);
    rounds r;
    int code = rounds_begin(&r, g, device, bounds);
    for (size_t at = 0; at < r.longest && !code; at += r.most)
        code = gather_round(&r, data, at);
    rounds_end(&r);
    return code;
}

int device_wait(group *g, ringx_device device, unsigned behind)
{
    return device == RINGX_CUDA && g->gpus ? gpus_wait(g, behind) : CODE_GOOD;
}
