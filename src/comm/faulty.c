/* SPDX-License-Identifier: MIT */
/* Wraps another transport and makes chosen calls fail, come late, or never reach it. */
#include "comm/faulty.h"
#include "comm/verbs.h"
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct faulty_comm {
    ringx_comm base;
    ringx_comm_ops ops; /* own: overlaps as the inner one does */
    ringx_comm *inner;
    ringx_rule *rules;
    size_t n_rules;
    int64_t calls;
} faulty_comm;

static ringx_comm *inner_of(ringx_comm *comm)
{
    return ((faulty_comm *)comm)->inner;
}

/* Ends early, with its failure, if the inner communicator fails. */
static ringx_status sleep_for(faulty_comm *f, double seconds)
{
    const double slice = 2e-3;
    double end = ringx__now() + seconds;
    for (double left = seconds; left > 0; left = end - ringx__now()) {
        RINGX_TRY(f->inner->ops->poll(f->inner));
        struct timespec t = {.tv_nsec = (long)((left < slice ? left : slice) * 1e9)};
        nanosleep(&t, NULL);
    }
    return RINGX_OK;
}

/* Makes it the inner communicator's failure; if that has one already, that one is reported. */
static ringx_status fail(faulty_comm *f, ringx_status status, const char *message)
{
    f->inner->ops->abort(f->inner, f->base.rank, status, message);
    RINGX_TRY(f->inner->ops->poll(f->inner));
    RINGX_FAIL(status, "%s", message);
}

/* What happens before a call may pass on. */
static ringx_status meddle(ringx_comm *comm, ringx_verb verb, const ringx_call *call)
{
    faulty_comm *f = (faulty_comm *)comm;
    int64_t number = f->calls++;
    char message[RINGX_MESSAGE_BYTES];
    for (size_t i = 0; i < f->n_rules; i++) {
        const ringx_rule *rule = &f->rules[i];
        if ((rule->rank >= 0 && rule->rank != comm->rank) || (rule->call >= 0 && rule->call != number))
            continue;
        snprintf(message, sizeof message, "%s: fault injected: call %lld (%s) of rank %d %s",
                 ringx__call_what(call, verb), (long long)number, ringx__verb_name(verb), comm->rank,
                 rule->fault == RINGX_FAULT_DROP ? "is dropped" : "fails");
        switch (rule->fault) {
        case RINGX_FAULT_DELAY:
            RINGX_TRY(sleep_for(f, rule->seconds));
            break;
        case RINGX_FAULT_ERROR:
            return fail(f, RINGX_COMM, message);
        case RINGX_FAULT_DROP:
            RINGX_TRY(sleep_for(f, ringx__call_seconds(call)));
            return fail(f, RINGX_STALLED, message);
        }
    }
    return RINGX_OK;
}

static ringx_status broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes, int root,
                              const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_BROADCAST, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->broadcast(inner, group, from, to, bytes, root, call);
}

static ringx_status exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                             const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_EXCHANGE, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->exchange(inner, sends, n_sends, receives, n_receives, call);
}

static ringx_status allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                              const size_t *offsets, const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_ALLGATHER, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->allgather(inner, group, from, to, bytes, offsets, call);
}

static ringx_status reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                           ringx_dtype dtype, int root, const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_REDUCE, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->reduce(inner, group, from, to, count, dtype, root, call);
}

static ringx_status reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                   const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_REDUCE_SCATTER, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->reduce_scatter(inner, group, from, to, counts, offsets, dtype, call);
}

static ringx_status allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                  const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_ALLREDUCE_MAX, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->allreduce_max(inner, group, from, to, count, call);
}

static ringx_status agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_AGREE, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->agree(inner, mine, bytes, all, call);
}

static ringx_status split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    *group = NULL;
    RINGX_TRY(meddle(comm, RINGX_VERB_SPLIT, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->split(inner, colour, group, call);
}

static void group_destroy(ringx_comm *comm, ringx_group *group)
{
    ringx_comm *inner = inner_of(comm);
    inner->ops->group_destroy(inner, group);
}

static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    RINGX_TRY(meddle(comm, RINGX_VERB_NODES, call));
    ringx_comm *inner = inner_of(comm);
    return inner->ops->nodes(inner, node_of_rank, call);
}

static void tell(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx_comm *inner = inner_of(comm);
    inner->ops->abort(inner, culprit, status, message);
}

static ringx_status sticky(ringx_comm *comm)
{
    ringx_comm *inner = inner_of(comm);
    return inner->ops->poll(inner);
}

static ringx_comm *host(ringx_comm *comm)
{
    ringx_comm *inner = inner_of(comm);
    return inner->ops->host ? inner->ops->host(inner) : comm;
}

static void destroy(ringx_comm *comm)
{
    faulty_comm *f = (faulty_comm *)comm;
    ringx_comm_destroy(f->inner);
    free(f->rules);
    free(f);
}

const ringx_comm_ops ringx__comm_faulty = {
    .name = "faulty",
    .text = "another transport, made to fail, for tests",
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
    .host = host,
    .destroy = destroy,
};

ringx_status ringx_comm_faulty(ringx_comm *inner, const char *plan, ringx_comm **comm)
{
    if (!inner || !comm)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must be a communicator", inner ? "comm" : "inner");
    faulty_comm *f = malloc(sizeof *f);
    if (!f)
        RINGX_FAIL(RINGX_NO_MEMORY, "a communicator needs %zu bytes", sizeof *f);
    *f = (faulty_comm){.base = {.ops = &f->ops, .rank = inner->rank, .ranks = inner->ranks},
                       .ops = ringx__comm_faulty,
                       .inner = inner};
    f->ops.overlaps = inner->ops->overlaps;
    ringx_status status = ringx__rules_parse(plan, inner->ranks, &f->rules, &f->n_rules);
    if (status != RINGX_OK) {
        free(f);
        return status;
    }
    *comm = &f->base;
    return RINGX_OK;
}
