/* SPDX-License-Identifier: MIT */
/* Device memory over a host transport: copy out, call, copy in, through one pinned buffer. */
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "core/shape.h"
#include "device/device.h"

typedef struct staged_comm {
    ringx_comm base;
    ringx_comm *inner;
    const ringx_device_ops *device;
    char *host;
    size_t bytes, used;
    ringx_message *message; /* room for the largest exchange */
    size_t messages;
} staged_comm;

struct ringx_group {
    ringx_group *inner;
    int members, index;
};

static int members_of(const ringx_comm *comm, const ringx_group *group)
{
    return group ? group->members : comm->ranks;
}

static ringx_group *inner_of(const ringx_group *group)
{
    return group ? group->inner : NULL;
}

static staged_comm *begin(ringx_comm *comm)
{
    staged_comm *c = (staged_comm *)comm;
    c->used = 0;
    return c;
}

/* Room in the host buffer for a piece of device memory. */
static ringx_status room(staged_comm *c, size_t bytes, char **at)
{
    size_t padded = (bytes + 127) / 128 * 128;
    *at = c->host + c->used;
    if (padded > c->bytes - c->used)
        RINGX_FAIL(RINGX_INTERNAL, "a call stages %zu bytes; %zu were planned", c->used + padded, c->bytes);
    c->used += padded;
    return RINGX_OK;
}

static ringx_status out(staged_comm *c, const void *from, size_t bytes, char **at, const ringx_call *call)
{
    RINGX_TRY(room(c, bytes, at));
    return c->device->copy_on(*at, from, bytes, call->stream);
}

/* Work on the stream that comes before, and the copies out, must be done before the host reads. */
static ringx_status drain(staged_comm *c, const ringx_call *call)
{
    return c->device->drain(call->stream);
}

static ringx_status in(staged_comm *c, void *to, const char *at, size_t bytes, const ringx_call *call)
{
    return c->device->copy_on(to, at, bytes, call->stream);
}

static ringx_status broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes, int root,
                              const ringx_call *call)
{
    staged_comm *c = begin(comm);
    char *at = NULL;
    bool sends = root == (group ? group->index : comm->rank);
    RINGX_TRY(sends ? out(c, from, bytes, &at, call) : room(c, bytes, &at));
    RINGX_TRY(drain(c, call));
    RINGX_TRY(c->inner->ops->broadcast(c->inner, inner_of(group), at, at, bytes, root, call));
    if (sends && (!to || to == from))
        return RINGX_OK;
    RINGX_TRY(in(c, to, at, bytes, call));
    return drain(c, call);
}

static ringx_status exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                             const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    staged_comm *c = begin(comm);
    ringx_message *staged = c->message;
    if (n_sends + n_receives > c->messages)
        RINGX_FAIL(RINGX_INTERNAL, "an exchange has %zu messages; %zu were planned", n_sends + n_receives, c->messages);
    ringx_status status = RINGX_OK;
    for (size_t i = 0; i < n_sends + n_receives && status == RINGX_OK; i++) {
        char *at = NULL;
        staged[i] = i < n_sends ? sends[i] : receives[i - n_sends];
        status = i < n_sends ? out(c, staged[i].data, staged[i].bytes, &at, call) : room(c, staged[i].bytes, &at);
        staged[i].data = at;
    }
    if (status == RINGX_OK)
        status = drain(c, call);
    if (status == RINGX_OK)
        status = c->inner->ops->exchange(c->inner, staged, n_sends, staged + n_sends, n_receives, call);
    for (size_t i = 0; i < n_receives && status == RINGX_OK; i++)
        status = in(c, receives[i].data, staged[n_sends + i].data, receives[i].bytes, call);
    return status == RINGX_OK ? drain(c, call) : status;
}

static ringx_status allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                              const size_t *offsets, const ringx_call *call)
{
    staged_comm *c = begin(comm);
    int n = members_of(comm, group), own = group ? group->index : comm->rank;
    size_t end = 0;
    char *base = NULL;
    for (int i = 0; i < n; i++)
        end = offsets[i] + bytes[i] > end ? offsets[i] + bytes[i] : end;
    RINGX_TRY(room(c, end, &base));
    RINGX_TRY(c->device->copy_on(base + offsets[own], from, bytes[own], call->stream));
    RINGX_TRY(drain(c, call));
    RINGX_TRY(c->inner->ops->allgather(c->inner, inner_of(group), base + offsets[own], base, bytes, offsets, call));
    for (int i = 0; i < n; i++)
        RINGX_TRY(in(c, (char *)to + offsets[i], base + offsets[i], bytes[i], call));
    return drain(c, call);
}

static ringx_status reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                           ringx_dtype dtype, int root, const ringx_call *call)
{
    staged_comm *c = begin(comm);
    size_t bytes = count * ringx__dtype_bytes(dtype);
    char *at = NULL;
    RINGX_TRY(out(c, from, bytes, &at, call));
    RINGX_TRY(drain(c, call));
    RINGX_TRY(c->inner->ops->reduce(c->inner, inner_of(group), at, at, count, dtype, root, call));
    if (root != (group ? group->index : comm->rank))
        return RINGX_OK;
    RINGX_TRY(in(c, to, at, bytes, call));
    return drain(c, call);
}

static ringx_status reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                   const ringx_call *call)
{
    staged_comm *c = begin(comm);
    int n = members_of(comm, group), own = group ? group->index : comm->rank;
    size_t end = 0, element = ringx__dtype_bytes(dtype);
    char *base = NULL, *sum = NULL;
    for (int i = 0; i < n; i++)
        end = offsets[i] + counts[i] > end ? offsets[i] + counts[i] : end;
    RINGX_TRY(out(c, from, end * element, &base, call));
    RINGX_TRY(room(c, counts[own] * element, &sum));
    RINGX_TRY(drain(c, call));
    RINGX_TRY(c->inner->ops->reduce_scatter(c->inner, inner_of(group), base, sum, counts, offsets, dtype, call));
    RINGX_TRY(in(c, to, sum, counts[own] * element, call));
    return drain(c, call);
}

static ringx_status allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                  const ringx_call *call)
{
    staged_comm *c = begin(comm);
    char *at = NULL, *top = NULL;
    RINGX_TRY(out(c, from, count * sizeof(float), &at, call));
    RINGX_TRY(room(c, count * sizeof(float), &top));
    RINGX_TRY(drain(c, call));
    RINGX_TRY(c->inner->ops->allreduce_max(c->inner, inner_of(group), (float *)(void *)at, (float *)(void *)top, count,
                                           call));
    RINGX_TRY(in(c, to, top, count * sizeof(float), call));
    return drain(c, call);
}

static ringx_status agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    ringx_comm *inner = ((staged_comm *)comm)->inner;
    return inner->ops->agree(inner, mine, bytes, all, call);
}

static ringx_status split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    ringx_comm *inner = ((staged_comm *)comm)->inner;
    int *colours = malloc((size_t)comm->ranks * sizeof *colours);
    ringx_group *new = calloc(1, sizeof *new);
    ringx_status status = RINGX_OK;
    if (!colours || !new)
        status = ringx__fail(RINGX_NO_MEMORY, "no memory for a group of %d ranks", comm->ranks);
    if (status == RINGX_OK)
        status = inner->ops->agree(inner, &colour, sizeof colour, colours, call);
    if (status == RINGX_OK)
        status = inner->ops->split(inner, colour, &new->inner, call);
    for (int r = 0; r < comm->ranks && status == RINGX_OK; r++)
        if (colours[r] == colour) {
            new->index = r == comm->rank ? new->members : new->index;
            new->members++;
        }
    free(colours);
    if (status != RINGX_OK) {
        free(new);
        return status;
    }
    *group = new;
    return RINGX_OK;
}

static void group_destroy(ringx_comm *comm, ringx_group *group)
{
    ringx_comm *inner = ((staged_comm *)comm)->inner;
    if (group)
        inner->ops->group_destroy(inner, group->inner);
    free(group);
}

static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    ringx_comm *inner = ((staged_comm *)comm)->inner;
    return inner->ops->nodes(inner, node_of_rank, call);
}

static void abort_all(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx_comm *inner = ((staged_comm *)comm)->inner;
    inner->ops->abort(inner, culprit, status, message);
}

static ringx_status poll_failure(ringx_comm *comm)
{
    ringx_comm *inner = ((staged_comm *)comm)->inner;
    return inner->ops->poll(inner);
}

static void destroy(ringx_comm *comm)
{
    staged_comm *c = (staged_comm *)comm;
    c->device->host_free(c->host);
    free(c->message);
    free(c);
}

#define STAGED(can_overlap)                                                                                            \
    {                                                                                                                  \
        .name = "staged", .text = "device memory through a host transport", .overlaps = (can_overlap),                 \
        .broadcast = broadcast, .exchange = exchange, .allgather = allgather, .reduce = reduce,                        \
        .reduce_scatter = reduce_scatter, .allreduce_max = allreduce_max, .agree = agree, .split = split,              \
        .group_destroy = group_destroy, .nodes = nodes, .abort = abort_all, .poll = poll_failure, .destroy = destroy   \
    }

static const ringx_comm_ops with_overlap = STAGED(true), without_overlap = STAGED(false);

ringx_status ringx__comm_staged(ringx_comm *inner, const ringx_device_ops *device, size_t bytes, size_t messages,
                                ringx_comm **staged)
{
    staged_comm *c = calloc(1, sizeof *c);
    ringx_message *message = calloc(messages + 1, sizeof *message);
    void *host = NULL;
    ringx_status status = RINGX_OK;
    if (!c || !message)
        status = ringx__fail(RINGX_NO_MEMORY, "no memory for a staged communicator of %zu messages", messages);
    if (status == RINGX_OK)
        status = ringx__context(device->host_alloc(bytes, &host), "staging buffer of %zu bytes", bytes);
    if (status != RINGX_OK) {
        free(message);
        free(c);
        return status;
    }
    *c = (staged_comm){.base = {.ops = inner->ops->overlaps ? &with_overlap : &without_overlap,
                                .rank = inner->rank,
                                .ranks = inner->ranks},
                       .inner = inner,
                       .device = device,
                       .host = host,
                       .bytes = bytes,
                       .message = message,
                       .messages = messages};
    *staged = &c->base;
    return RINGX_OK;
}
