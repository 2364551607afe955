/* SPDX-License-Identifier: MIT */
/* How long one operation of a communicator takes: what forecasts are calibrated with.  Host memory. */
#include "comm/verbs.h"
#include "core/shape.h"
#include "device/device.h"

#include <stdlib.h>

typedef struct bench {
    ringx_comm *comm;
    ringx_comm_op op;
    size_t bytes, count; /* count: floats, of reductions */
    void *from, *to;
    size_t *sizes, *offsets; /* [ranks] each */
    double *mine, *all;      /* [repeats], [ranks · repeats] seconds */
    ringx_call call;
} bench;

static ringx_status run(const bench *b)
{
    ringx_comm *comm = b->comm;
    const ringx_comm_ops *ops = comm->ops;
    int next = (comm->rank + 1) % comm->ranks, previous = (comm->rank + comm->ranks - 1) % comm->ranks;
    ringx_message send = {next, b->from, b->bytes}, receive = {previous, b->to, b->bytes};
    switch (b->op) {
    case RINGX_OP_BROADCAST:
        return ops->broadcast(comm, NULL, b->from, comm->rank == 0 ? NULL : b->to, b->bytes, 0, &b->call);
    case RINGX_OP_EXCHANGE:
        return ops->exchange(comm, &send, 1, &receive, 1, &b->call);
    case RINGX_OP_ALLGATHER:
        return ops->allgather(comm, NULL, b->from, b->to, b->sizes, b->offsets, &b->call);
    case RINGX_OP_REDUCE:
        return ops->reduce(comm, NULL, b->from, b->to, b->count, RINGX_F32, 0, &b->call);
    case RINGX_OP_REDUCE_SCATTER:
        return ops->reduce_scatter(comm, NULL, b->from, b->to, b->sizes, b->offsets, RINGX_F32, &b->call);
    }
    RINGX_FAIL(RINGX_INTERNAL, "operation %d has no case", (int)b->op);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Repeat 0 is the warm-up.  Every repeat starts together (agree) and counts as long as its slowest rank took. */
static ringx_status measure(bench *b, int repeats, double *seconds)
{
    const ringx_comm_ops *ops = b->comm->ops;
    size_t n = (size_t)repeats, ranks = (size_t)b->comm->ranks;
    char ready = 1, everyone[ranks];
    for (size_t i = 0; i <= n; i++) {
        RINGX_TRY(ops->agree(b->comm, &ready, 1, everyone, &b->call));
        double begin = ringx__now();
        RINGX_TRY(run(b));
        if (i > 0)
            b->mine[i - 1] = ringx__now() - begin;
    }
    RINGX_TRY(ops->agree(b->comm, b->mine, n * sizeof *b->mine, b->all, &b->call));
    for (size_t r = 0; r < ranks; r++)
        for (size_t i = 0; i < n; i++)
            if (b->all[r * n + i] > b->mine[i])
                b->mine[i] = b->all[r * n + i];
    qsort(b->mine, n, sizeof *b->mine, compare);
    *seconds = n % 2 ? b->mine[n / 2] : (b->mine[n / 2 - 1] + b->mine[n / 2]) / 2;
    return RINGX_OK;
}

static void fill_sizes(bench *b)
{
    size_t ranks = (size_t)b->comm->ranks;
    for (size_t r = 0; r < ranks; r++) {
        b->sizes[r] = b->bytes;
        b->offsets[r] = r * b->bytes;
        if (b->op == RINGX_OP_REDUCE_SCATTER) {
            b->offsets[r] = b->count / ranks * r;
            b->sizes[r] = r + 1 == ranks ? b->count - b->offsets[r] : b->count / ranks;
        }
    }
}

/* Memory for it all; a rank without enough fails all of them. */
static ringx_status prepare(bench *b, int repeats)
{
    size_t n = (size_t)repeats, ranks = (size_t)b->comm->ranks, to_bytes = b->bytes, times;
    bool fits = ringx__multiply(n * sizeof(double), ranks, &times);
    if (b->op == RINGX_OP_ALLGATHER)
        fits = ringx__multiply(b->bytes, ranks, &to_bytes) && fits;
    if (fits && to_bytes < PTRDIFF_MAX) {
        b->from = calloc(b->bytes + 1, 1);
        b->to = calloc(to_bytes + 1, 1);
        b->sizes = calloc(2 * ranks, sizeof *b->sizes);
        b->mine = calloc(n, sizeof *b->mine);
        b->all = malloc(times);
    }
    bool good = b->from && b->to && b->sizes && b->mine && b->all, everyone[ranks];
    RINGX_TRY(b->comm->ops->agree(b->comm, &good, sizeof good, everyone, &b->call));
    for (size_t r = 0; r < ranks; r++)
        if (!everyone[r])
            RINGX_FAIL(RINGX_NO_MEMORY, "rank %zu has no memory to time an operation of %zu bytes", r, b->bytes);
    b->offsets = b->sizes + ranks;
    fill_sizes(b);
    return RINGX_OK;
}

ringx_status ringx_comm_time(ringx_comm *comm, ringx_comm_op op, size_t bytes, int repeats, double *seconds)
{
    if (!comm || !seconds)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must not be", comm ? "seconds" : "comm");
    if ((int)op < RINGX_OP_BROADCAST || op > RINGX_OP_REDUCE_SCATTER)
        RINGX_FAIL(RINGX_INVALID, "op is %d; it must be one of ringx_comm_op", (int)op);
    if (repeats < 1)
        RINGX_FAIL(RINGX_INVALID, "repeats is %d; it must be at least 1", repeats);
    bench b = {.comm = comm,
               .op = op,
               .bytes = bytes,
               .count = bytes / sizeof(float),
               .call = {.what = "timing of the communicator", .deadline_s = ringx__comm_timeout()}};
    ringx_status status = prepare(&b, repeats);
    if (status == RINGX_OK)
        status = measure(&b, repeats, seconds);
    free(b.from);
    free(b.to);
    free(b.sizes);
    free(b.mine);
    free(b.all);
    return status;
}
