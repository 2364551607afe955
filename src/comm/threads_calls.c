/* SPDX-License-Identifier: MIT */
/* Ranks as threads: coming to a call and leaving it. */
#include "comm/threads.h"
#include "core/shape.h"

#include <string.h>

/* ---- entering and leaving --------------------------------------------------------------------------------------- */

ringx_world *ringx__threads_world(ringx_comm *comm)
{
    return ((ringx_threads *)comm)->world;
}

/* A wrong argument on this rank, told to all. */
ringx_status ringx__threads_refuse(ringx_comm *comm, ringx_status status)
{
    char message[RINGX_MESSAGE_BYTES];
    ringx__error_take(message, sizeof message);
    comm->ops->abort(comm, comm->rank, status, message);
    return comm->ops->poll(comm);
}

static size_t part(const ringx_post *post, int i)
{
    return post->sizes ? post->sizes[i] : 0;
}

/* Fails the world if two posts of one call of one group differ. */
static void compare(ringx_world *w, int rank, int other)
{
    const ringx_post *a = &w->seats[rank].post, *b = &w->seats[other].post;
    if (a->verb != b->verb) {
        ringx__world_fail(w, rank, RINGX_MISMATCH, "%s: rank %d calls %s, rank %d calls %s (\"%.200s\")", a->what, rank,
                          ringx__verb_name(a->verb), other, ringx__verb_name(b->verb), b->what);
        return;
    }
    const char *verb = ringx__verb_name(a->verb);
    if (a->root != b->root)
        ringx__world_fail(w, rank, RINGX_MISMATCH, "%s: root of %s: rank %d has %d, rank %d has %d", a->what, verb,
                          rank, a->root, other, b->root);
    else if (a->dtype != b->dtype)
        ringx__world_fail(w, rank, RINGX_MISMATCH, "%s: dtype of %s: rank %d has %s, rank %d has %s", a->what, verb,
                          rank, ringx__dtype_name(a->dtype), other, ringx__dtype_name(b->dtype));
    else if (a->size != b->size)
        ringx__world_fail(w, rank, RINGX_MISMATCH, "%s: size of %s: rank %d has %zu, rank %d has %zu", a->what, verb,
                          rank, a->size, other, b->size);
    for (int i = 0; i < a->group->members; i++)
        if (part(a, i) != part(b, i)) {
            ringx__world_fail(w, rank, RINGX_MISMATCH, "%s: part %d of %s: rank %d has %zu, rank %d has %zu", a->what,
                              i, verb, rank, part(a, i), other, part(b, i));
            return;
        }
}

/* Comparing with any one member that is in the same call is enough: that one was compared with another before it. */
static void join(ringx_world *w, int rank)
{
    ringx_post *post = &w->seats[rank].post;
    ringx_group *g = post->group;
    post->index = g->index_of[rank];
    if (post->index < 0) {
        ringx__world_fail(w, rank, RINGX_INVALID, "%s: rank %d is not a member of the group", post->what, rank);
        return;
    }
    post->number = g->entered[post->index]++;
    for (int i = 0; i < g->members; i++) {
        int r = g->rank_of[i];
        const ringx_seat *seat = &w->seats[r];
        if (r != rank && seat->wait != RINGX_AWAY && seat->post.group == g && seat->post.number == post->number) {
            compare(w, rank, r);
            return;
        }
    }
}

/* Takes the lock and posts.  If false, the next thing to do is ringx__threads_leave(). */
bool ringx__threads_enter(ringx_comm *comm, const ringx_post *post, const ringx_call *call)
{
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    pthread_mutex_lock(&w->lock);
    if (w->failure.status != RINGX_OK)
        return false;
    ringx__seat_deadline(seat, ringx__call_seconds(call));
    seat->post = *post;
    seat->post.what = ringx__call_what(call, post->verb);
    if (post->verb == RINGX_VERB_EXCHANGE) {
        seat->post.group = NULL;
    } else {
        if (!seat->post.group)
            seat->post.group = w->all;
        join(w, comm->rank);
    }
    seat->wait = RINGX_BUSY;
    return w->failure.status == RINGX_OK;
}

/* Waits for those who use this rank's memory (they copy, they do not wait), and gives the lock back. */
ringx_status ringx__threads_leave(ringx_comm *comm)
{
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    seat->leaving = true;
    while (seat->users > 0)
        pthread_cond_wait(&seat->wake, &w->lock);
    seat->leaving = false;
    seat->wait = RINGX_AWAY;
    ringx_status status = ringx__failure_report(&w->failure, comm->rank);
    pthread_mutex_unlock(&w->lock);
    return status;
}

void ringx__seat_hold(ringx_world *w, int rank)
{
    w->seats[rank].users++;
}

void ringx__seat_release(ringx_world *w, int rank)
{
    ringx_seat *seat = &w->seats[rank];
    if (--seat->users == 0 && seat->leaving)
        ringx__seat_signal(w, rank);
}

void ringx__group_signal(ringx_world *w, const ringx_group *g, int rank)
{
    for (int i = 0; i < g->members; i++)
        if (g->rank_of[i] != rank)
            ringx__seat_signal(w, g->rank_of[i]);
}

/* Is this call counted by every member? */
bool ringx__post_complete(const ringx_post *post, const uint64_t *count)
{
    for (int i = 0; i < post->group->members; i++)
        if (count[i] <= post->number)
            return false;
    return true;
}

void ringx__copy(void *to, const void *from, size_t bytes)
{
    if (bytes && to != from)
        memcpy(to, from, bytes);
}

int ringx__members_of(ringx_comm *comm, const ringx_group *group)
{
    return group ? group->members : comm->ranks;
}

int ringx__index_in(ringx_comm *comm, const ringx_group *group)
{
    return group ? group->index_of[comm->rank] : comm->rank;
}
