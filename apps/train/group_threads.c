/* SPDX-License-Identifier: MIT */
/* Groups whose ranks are threads of one process: what tests and sanitizers run on. */
#include "train/group_row.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct meeting { /* what the ranks of a group share */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int ranks, here, left; /* how many came to this turn; how many destroyed their group */
    bool broken;           /* a rank waited in vain: turns mean nothing any more */
    unsigned long turn;
    const group_piece **send; /* [rank]: valid between two turns */
} meeting;

typedef struct thread_group {
    group base;
    meeting *all;
} thread_group;

static void meeting_free(meeting *m)
{
    if (!m)
        return;
    pthread_cond_destroy(&m->moved);
    pthread_mutex_destroy(&m->lock);
    free(m->send);
    free(m);
}

static meeting *meeting_create(int ranks)
{
    pthread_condattr_t clock;
    meeting *m = allocate(sizeof *m);
    if (!m)
        return NULL;
    m->ranks = ranks;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->moved, &clock);
    pthread_condattr_destroy(&clock);
    m->send = allocate((size_t)ranks * sizeof(group_piece *));
    if (m->send)
        return m;
    meeting_free(m);
    return NULL;
}

static struct timespec deadline_in(double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)seconds;
    t.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* Returns when all ranks are here, or when it is known that they will not be.  send: NULL leaves what the others may
 * still be reading. */
static int meet(thread_group *g, const group_piece *send)
{
    meeting *m = g->all;
    int code = CODE_GOOD, late = 0;
    struct timespec deadline = deadline_in(g->base.timeout);
    pthread_mutex_lock(&m->lock);
    unsigned long turn = m->turn;
    if (send)
        m->send[g->base.rank] = send;
    if (!m->left && !m->broken && ++m->here == m->ranks) {
        m->here = 0;
        m->turn++;
        pthread_cond_broadcast(&m->moved);
    }
    while (m->turn == turn && !m->left && !m->broken && late != ETIMEDOUT)
        late = pthread_cond_timedwait(&m->moved, &m->lock, &deadline);
    if (m->turn == turn) {
        code = m->left || m->broken ? fail(CODE_PEER_DIED, "another of %d ranks ended", m->ranks)
                                    : fail(CODE_STALLED, "rank %d of %d waited %g s for the others", g->base.rank,
                                           m->ranks, g->base.timeout);
        m->broken = true;
        pthread_cond_broadcast(&m->moved);
    }
    pthread_mutex_unlock(&m->lock);
    return code;
}

static int thread_exchange(group *base, const group_piece *send, const group_piece *receive)
{
    thread_group *g = (thread_group *)base;
    int code = meet(g, send);
    for (int r = 0; r < base->ranks && !code; r++) {
        const group_piece *from = &g->all->send[r][base->rank], *to = &receive[r];
        if (from->bytes != to->bytes)
            code = fail(CODE_DISAGREE, "rank %d sends %zu bytes to rank %d, which expects %zu", r, from->bytes,
                        base->rank, to->bytes);
        else if (to->bytes && to->data != from->data)
            memcpy(to->data, from->data, to->bytes);
    }
    int met = meet(g, NULL); /* nobody's data are overwritten while others read them */
    return code ? code : met;
}

static int wrap(meeting *m, int rank, group **result);

typedef struct place {
    int color, key;
} place;

/* Everyone learns everyone's color and key; the first rank of a color makes the meeting and hands it to the others. */
static int thread_split(group *g, int color, int key, group **part)
{
    place mine = {color, key}, *places = allocate((size_t)g->ranks * sizeof *places);
    meeting **made = allocate((size_t)g->ranks * sizeof(meeting *));
    int code = places && made ? group_gather(g, &mine, sizeof mine, places) : CODE_NO_MEMORY;
    if (code) {
        free(made);
        free(places);
        return code;
    }
    int rank = 0, ranks = 0, first = -1;
    for (int r = 0; r < g->ranks; r++) {
        bool ours = places[r].color == color;
        ranks += ours;
        rank += ours && places[r].key < key;
        first = ours && first < 0 ? r : first;
    }
    meeting *m = first == g->rank ? meeting_create(ranks) : NULL;
    code = group_gather(g, &m, sizeof(meeting *), made);
    if (!code && !made[first])
        code = fail(CODE_NO_MEMORY, "no memory for a group of %d ranks", ranks);
    if (!code)
        code = wrap(made[first], rank, part);
    free(made);
    free(places);
    return code;
}

static int thread_comm(group *g, ringx_comm **comm)
{
    ringx_comm **comms = allocate((size_t)g->ranks * sizeof(ringx_comm *));
    int code = comms ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code && g->rank == 0)
        code = fail_status(ringx_comm_threads(g->ranks, comms), "communicator of %d threads", g->ranks);
    code = group_agree(g, code);
    if (!code)
        code = group_broadcast(g, comms, (size_t)g->ranks * sizeof(ringx_comm *), 0);
    if (!code)
        *comm = comms[g->rank];
    free(comms);
    return code;
}

static void thread_destroy(group *base)
{
    thread_group *g = (thread_group *)base;
    meeting *m = g->all;
    pthread_mutex_lock(&m->lock);
    bool last = ++m->left == m->ranks;
    pthread_cond_broadcast(&m->moved);
    pthread_mutex_unlock(&m->lock);
    if (last)
        meeting_free(m);
    free(g);
}

static const group_ops thread_ops = {
    .exchange = thread_exchange, .split = thread_split, .comm = thread_comm, .destroy = thread_destroy};

static int wrap(meeting *m, int rank, group **result)
{
    thread_group *g = allocate(sizeof *g);
    if (!g)
        return CODE_NO_MEMORY;
    *g = (thread_group){.base = {.ops = &thread_ops, .rank = rank, .ranks = m->ranks, .timeout = 1800}, .all = m};
    *result = &g->base;
    return CODE_GOOD;
}

int group_threads(int ranks, group **gs)
{
    meeting *m = meeting_create(ranks);
    int code = m ? CODE_GOOD : CODE_NO_MEMORY, made = 0;
    while (!code && made < ranks) {
        code = wrap(m, made, &gs[made]);
        made += !code;
    }
    if (!code)
        return CODE_GOOD;
    for (int r = 0; r < made; r++)
        free(gs[r]);
    meeting_free(m);
    return code;
}
