/* SPDX-License-Identifier: MIT */
/* Ranks as threads of one process: making and freeing the world that they share. */
#include "comm/threads.h"

#include <stdlib.h>

enum { MOST_RANKS = 1024 };

/* ---- groups ----------------------------------------------------------------------------------------------------- */

ringx_status ringx__group_create(ringx_world *world, int members, ringx_group **group)
{
    size_t n = (size_t)members, ranks = (size_t)world->ranks;
    size_t bytes = sizeof(ringx_group) + 2 * n * sizeof(uint64_t) + (n + ranks) * sizeof(int);
    ringx_group *g = calloc(1, bytes);
    if (!g)
        RINGX_FAIL(RINGX_NO_MEMORY, "a group of %d of %d ranks needs %zu bytes", members, world->ranks, bytes);
    g->members = g->references = members;
    g->entered = (uint64_t *)(g + 1);
    g->done = g->entered + n;
    g->rank_of = (int *)(g->done + n);
    g->index_of = g->rank_of + n;
    for (size_t r = 0; r < ranks; r++)
        g->index_of[r] = -1;
    *group = g;
    return RINGX_OK;
}

void ringx__group_release(ringx_group *group)
{
    if (group && --group->references == 0)
        free(group);
}

static void group_destroy(ringx_comm *comm, ringx_group *group)
{
    ringx_world *w = ((ringx_threads *)comm)->world;
    pthread_mutex_lock(&w->lock);
    ringx__group_release(group);
    pthread_mutex_unlock(&w->lock);
}

/* ---- failures from outside -------------------------------------------------------------------------------------- */

static void tell(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx_world *w = ((ringx_threads *)comm)->world;
    pthread_mutex_lock(&w->lock);
    if (ringx__failure_set(&w->failure, comm->rank, culprit, status, message))
        ringx__world_signal(w);
    pthread_mutex_unlock(&w->lock);
}

static ringx_status sticky(ringx_comm *comm)
{
    ringx_world *w = ((ringx_threads *)comm)->world;
    pthread_mutex_lock(&w->lock);
    ringx_status status = ringx__failure_report(&w->failure, comm->rank);
    pthread_mutex_unlock(&w->lock);
    return status;
}

/* ---- the world -------------------------------------------------------------------------------------------------- */

static void world_free(ringx_world *w)
{
    for (int r = 0; r < w->ranks; r++) {
        pthread_cond_destroy(&w->seats[r].wake);
        free(w->seats[r].offer);
        free(w->seats[r].sources);
    }
    pthread_mutex_destroy(&w->lock);
    free(w->all);
    free(w->seats);
    free(w->flags);
    free(w->stack);
    free(w);
}

static bool seat_create(ringx_seat *seat, size_t ranks)
{
    seat->offer = malloc(2 * ranks * sizeof *seat->offer);
    seat->sources = malloc(ranks * sizeof *seat->sources);
    if (!seat->offer || !seat->sources)
        return false;
    seat->next = seat->offer + ranks;
    for (size_t r = 0; r < ranks; r++)
        seat->offer[r] = seat->next[r] = RINGX_NO_MESSAGE;
    return true;
}

/* Everything of the world that is memory; what was made is freed by world_free. */
static bool world_fill(ringx_world *w)
{
    size_t ranks = (size_t)w->ranks;
    w->flags = malloc(2 * ranks * sizeof *w->flags);
    w->stack = malloc(ranks * sizeof *w->stack);
    bool good = w->flags && w->stack && ringx__group_create(w, w->ranks, &w->all) == RINGX_OK;
    for (size_t r = 0; r < ranks && good; r++) {
        w->all->rank_of[r] = w->all->index_of[r] = (int)r;
        good = seat_create(&w->seats[r], ranks);
    }
    return good;
}

static ringx_world *world_create(int ranks)
{
    ringx_world *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->seats = calloc((size_t)ranks, sizeof *w->seats);
    if (!w->seats) {
        free(w);
        return NULL;
    }
    w->ranks = w->references = ranks;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    for (int r = 0; r < ranks; r++)
        pthread_cond_init(&w->seats[r].wake, &clock);
    pthread_condattr_destroy(&clock);
    if (world_fill(w))
        return w;
    world_free(w);
    return NULL;
}

static void destroy(ringx_comm *comm)
{
    ringx_world *w = ((ringx_threads *)comm)->world;
    pthread_mutex_lock(&w->lock);
    w->seats[comm->rank].gone = true;
    ringx__world_signal(w);
    bool last = --w->references == 0;
    pthread_mutex_unlock(&w->lock);
    if (last)
        world_free(w);
    free(comm);
}

const ringx_comm_ops ringx__comm_threads = {
    .name = "threads",
    .text = "ranks are threads of this process",
    .overlaps = true,
    .broadcast = ringx__threads_broadcast,
    .exchange = ringx__threads_exchange,
    .allgather = ringx__threads_allgather,
    .reduce = ringx__threads_reduce,
    .reduce_scatter = ringx__threads_reduce_scatter,
    .allreduce_max = ringx__threads_allreduce_max,
    .agree = ringx__threads_agree,
    .split = ringx__threads_split,
    .group_destroy = group_destroy,
    .nodes = ringx__threads_nodes,
    .abort = tell,
    .poll = sticky,
    .destroy = destroy,
};

ringx_status ringx_comm_threads(int ranks, ringx_comm **comms)
{
    if (ranks < 1 || ranks > MOST_RANKS)
        RINGX_FAIL(RINGX_INVALID, "ranks is %d; it must be 1 … %d", ranks, MOST_RANKS);
    if (!comms)
        RINGX_FAIL(RINGX_INVALID, "comms is NULL; it must have room for %d communicators", ranks);
    ringx_world *w = world_create(ranks);
    if (!w)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %d ranks", ranks);
    int made = 0;
    for (; made < ranks; made++) {
        ringx_threads *t = malloc(sizeof *t);
        if (!t)
            break;
        *t = (ringx_threads){.base = {.ops = &ringx__comm_threads, .rank = made, .ranks = ranks}, .world = w};
        comms[made] = &t->base;
    }
    if (made == ranks)
        return RINGX_OK;
    while (made > 0)
        free(comms[--made]);
    world_free(w);
    RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %d communicators", ranks);
}
