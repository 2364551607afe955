/* SPDX-License-Identifier: MIT */
/* Ranks as threads: calls in which ranks wait only for those they hear from or speak to. */
#include "comm/threads.h"

#include <string.h>

/* ---- broadcast -------------------------------------------------------------------------------------------------- */

static ringx_status broadcast_root(ringx_comm *comm)
{
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    const ringx_post *post = &seat->post;
    ringx__group_signal(w, post->group, comm->rank);
    pthread_mutex_unlock(&w->lock);
    if (post->to)
        ringx__copy(post->to, post->from, post->size);
    pthread_mutex_lock(&w->lock);
    post->group->done[post->index] = post->number + 1;
    ringx__seat_wait(w, comm->rank, RINGX_FOR_DONE);
    return ringx__threads_leave(comm);
}

static ringx_status broadcast_reader(ringx_comm *comm)
{
    ringx_world *w = ringx__threads_world(comm);
    const ringx_post *post = &w->seats[comm->rank].post;
    if (ringx__seat_wait(w, comm->rank, RINGX_FOR_ROOT) != RINGX_OK)
        return ringx__threads_leave(comm);
    int root = post->group->rank_of[post->root];
    const void *from = w->seats[root].post.from;
    ringx__seat_hold(w, root);
    pthread_mutex_unlock(&w->lock);
    ringx__copy(post->to, from, post->size);
    pthread_mutex_lock(&w->lock);
    ringx__seat_release(w, root);
    post->group->done[post->index] = post->number + 1;
    if (ringx__post_complete(post, post->group->done))
        ringx__seat_signal(w, root);
    return ringx__threads_leave(comm);
}

ringx_status ringx__threads_broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes,
                                      int root, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_BROADCAST);
    bool is_root = root == ringx__index_in(comm, group);
    RINGX_TRY_OWN(comm, ringx__check_root(what, root, ringx__members_of(comm, group)));
    RINGX_TRY_OWN(comm, ringx__check_data(what, is_root ? "from" : "to", is_root ? from : to, bytes));
    ringx_post post = {
        .verb = RINGX_VERB_BROADCAST, .group = group, .root = root, .size = bytes, .from = from, .to = to};
    if (!ringx__threads_enter(comm, &post, call))
        return ringx__threads_leave(comm);
    return is_root ? broadcast_root(comm) : broadcast_reader(comm);
}

/* ---- exchange --------------------------------------------------------------------------------------------------- */

/* Index of the first non-empty message to peer at or after i. */
static size_t find_message(const ringx_message *messages, size_t count, size_t i, int peer)
{
    for (; i < count; i++)
        if (messages[i].peer == peer && messages[i].bytes)
            return i;
    return RINGX_NO_MESSAGE;
}

/* Sets first[peer] for every peer that has a non-empty message; returns how many messages there are. */
static size_t list_messages(const ringx_message *messages, size_t count, int rank, size_t *first)
{
    size_t n = 0;
    for (size_t i = count; i-- > 0;)
        if (messages[i].bytes && messages[i].peer != rank) {
            first[messages[i].peer] = i;
            n++;
        }
    return n;
}

/* Copies the next message from peer, which is there. */
static void take(ringx_world *w, int rank, int peer)
{
    ringx_seat *mine = &w->seats[rank], *its = &w->seats[peer];
    const ringx_message *send = &its->post.sends[its->offer[rank]];
    const ringx_message *receive = &mine->post.receives[mine->next[peer]];
    if (send->bytes != receive->bytes) {
        ringx__world_fail(w, rank, RINGX_MISMATCH, "%s: rank %d expects %zu bytes from rank %d, which sends %zu",
                          mine->post.what, rank, receive->bytes, peer, send->bytes);
        return;
    }
    ringx__seat_hold(w, peer);
    pthread_mutex_unlock(&w->lock);
    memcpy(receive->data, send->data, send->bytes);
    pthread_mutex_lock(&w->lock);
    its->offer[rank] = find_message(its->post.sends, its->post.n_sends, its->offer[rank] + 1, rank);
    mine->next[peer] = find_message(mine->post.receives, mine->post.n_receives, mine->next[peer] + 1, peer);
    mine->expected--;
    if (--its->unread == 0)
        ringx__seat_signal(w, peer);
    ringx__seat_release(w, peer);
}

static void exchange_others(ringx_world *w, int rank)
{
    ringx_seat *seat = &w->seats[rank];
    for (;;) {
        for (int p = 0; p < w->ranks; p++)
            while (w->failure.status == RINGX_OK && seat->next[p] != RINGX_NO_MESSAGE &&
                   w->seats[p].offer[rank] != RINGX_NO_MESSAGE)
                take(w, rank, p);
        if (seat->unread == 0 && seat->expected == 0)
            return;
        if (ringx__seat_wait(w, rank, RINGX_FOR_MESSAGES) != RINGX_OK)
            return;
    }
}

ringx_status ringx__threads_exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                                     const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_EXCHANGE);
    RINGX_TRY_OWN(comm, ringx__check_messages(what, sends, n_sends, comm->ranks));
    RINGX_TRY_OWN(comm, ringx__check_messages(what, receives, n_receives, comm->ranks));
    ringx_post post = {.verb = RINGX_VERB_EXCHANGE,
                       .sends = sends,
                       .receives = receives,
                       .n_sends = n_sends,
                       .n_receives = n_receives};
    if (!ringx__threads_enter(comm, &post, call))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    seat->unread = list_messages(sends, n_sends, comm->rank, seat->offer);
    seat->expected = list_messages(receives, n_receives, comm->rank, seat->next);
    for (int p = 0; p < w->ranks; p++)
        if (seat->offer[p] != RINGX_NO_MESSAGE && w->seats[p].next[comm->rank] != RINGX_NO_MESSAGE)
            ringx__seat_signal(w, p);
    pthread_mutex_unlock(&w->lock);
    ringx_status own = ringx__exchange_self(what, comm->rank, sends, n_sends, receives, n_receives);
    pthread_mutex_lock(&w->lock);
    if (own != RINGX_OK)
        ringx__world_fail(w, comm->rank, own, "%s", ringx_last_error());
    exchange_others(w, comm->rank);
    return ringx__threads_leave(comm);
}
