/* SPDX-License-Identifier: MIT */
/* Ranks as threads: calls in which all members come together. */
#include "comm/combine.h"
#include "comm/threads.h"
#include "core/shape.h"

#include <string.h>

/* ---- coming together -------------------------------------------------------------------------------------------- */

/* All members come together; after it their posts may be read and their memory used, until unite_end. */
static bool unite(ringx_comm *comm)
{
    ringx_world *w = ringx__threads_world(comm);
    const ringx_post *post = &w->seats[comm->rank].post;
    if (ringx__post_complete(post, post->group->entered))
        ringx__group_signal(w, post->group, comm->rank);
    if (ringx__seat_wait(w, comm->rank, RINGX_FOR_ALL) != RINGX_OK)
        return false;
    for (int i = 0; i < post->group->members; i++)
        ringx__seat_hold(w, post->group->rank_of[i]);
    pthread_mutex_unlock(&w->lock);
    return true;
}

static ringx_status unite_end(ringx_comm *comm)
{
    ringx_world *w = ringx__threads_world(comm);
    const ringx_post *post = &w->seats[comm->rank].post;
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < post->group->members; i++)
        ringx__seat_release(w, post->group->rank_of[i]);
    post->group->done[post->index] = post->number + 1;
    if (ringx__post_complete(post, post->group->done))
        ringx__group_signal(w, post->group, comm->rank);
    ringx__seat_wait(w, comm->rank, RINGX_FOR_DONE);
    return ringx__threads_leave(comm);
}

static const ringx_post *post_of(const ringx_world *w, const ringx_group *g, int index)
{
    return &w->seats[g->rank_of[index]].post;
}

/* ---- calls in which all members come together ------------------------------------------------------------------- */

ringx_status ringx__threads_allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                      const size_t *bytes, const size_t *offsets, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_ALLGATHER);
    int members = ringx__members_of(comm, group), me = ringx__index_in(comm, group);
    size_t total = 0;
    for (int i = 0; i < members; i++)
        total += bytes[i];
    RINGX_TRY_OWN(comm, ringx__check_data(what, "to", to, total));
    RINGX_TRY_OWN(comm, ringx__check_data(what, "from", from, me < 0 ? 0 : bytes[me]));
    ringx_post post = {.verb = RINGX_VERB_ALLGATHER, .group = group, .sizes = bytes, .from = from};
    if (!ringx__threads_enter(comm, &post, call) || !unite(comm))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    const ringx_group *g = w->seats[comm->rank].post.group;
    for (int k = 0; k < members; k++) { /* starting with the own part, so that not all read from one at a time */
        int i = (me + k) % members;
        ringx__copy((char *)to + offsets[i], post_of(w, g, i)->from, bytes[i]);
    }
    return unite_end(comm);
}

/* Member i's share of count elements, in whole cache lines. */
static size_t share(size_t count, int i, int members)
{
    const size_t line = 32;
    if (i == members)
        return count;
    return count / (size_t)members * (size_t)i / line * line;
}

ringx_status ringx__threads_reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                                   ringx_dtype dtype, int root, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE);
    int members = ringx__members_of(comm, group), me = ringx__index_in(comm, group);
    RINGX_TRY_OWN(comm, ringx__check_dtype(what, dtype));
    RINGX_TRY_OWN(comm, ringx__check_root(what, root, members));
    RINGX_TRY_OWN(comm, ringx__check_data(what, "from", from, count * ringx__dtype_bytes(dtype)));
    RINGX_TRY_OWN(comm, ringx__check_data(what, "to", to, me == root ? count * ringx__dtype_bytes(dtype) : 0));
    ringx_post post = {
        .verb = RINGX_VERB_REDUCE, .group = group, .root = root, .dtype = dtype, .size = count, .from = from, .to = to};
    if (!ringx__threads_enter(comm, &post, call) || !unite(comm))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    const ringx_group *g = seat->post.group;
    size_t width = ringx__dtype_bytes(dtype), first = share(count, me, members), last = share(count, me + 1, members);
    if (first < last) { /* each sums its share, straight into the root's memory */
        for (int i = 0; i < members; i++)
            seat->sources[i] = (const char *)post_of(w, g, i)->from + first * width;
        ringx__combine_sum(seat->sources, members, last - first, dtype,
                           (char *)post_of(w, g, root)->to + first * width);
    }
    return unite_end(comm);
}

ringx_status ringx__threads_reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                           const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                           const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE_SCATTER);
    int members = ringx__members_of(comm, group), me = ringx__index_in(comm, group);
    size_t total = 0;
    for (int i = 0; i < members; i++)
        total += counts[i];
    RINGX_TRY_OWN(comm, ringx__check_dtype(what, dtype));
    RINGX_TRY_OWN(comm, ringx__check_data(what, "from", from, total * ringx__dtype_bytes(dtype)));
    RINGX_TRY_OWN(comm, ringx__check_data(what, "to", to, me < 0 ? 0 : counts[me] * ringx__dtype_bytes(dtype)));
    ringx_post post = {.verb = RINGX_VERB_REDUCE_SCATTER,
                       .group = group,
                       .dtype = dtype,
                       .sizes = counts,
                       .offsets = offsets,
                       .from = from};
    if (!ringx__threads_enter(comm, &post, call) || !unite(comm))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    size_t width = ringx__dtype_bytes(dtype);
    if (counts[me]) {
        for (int i = 0; i < members; i++) {
            const ringx_post *its = post_of(w, seat->post.group, i);
            seat->sources[i] = (const char *)its->from + its->offsets[me] * width;
        }
        ringx__combine_sum(seat->sources, members, counts[me], dtype, to);
    }
    return unite_end(comm);
}

ringx_status ringx__threads_allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to,
                                          size_t count, const ringx_call *call)
{
    enum { BLOCK = 1024 };
    const char *what = ringx__call_what(call, RINGX_VERB_ALLREDUCE_MAX);
    int members = ringx__members_of(comm, group), me = ringx__index_in(comm, group);
    RINGX_TRY_OWN(comm, ringx__check_data(what, "from", from, count * sizeof *to));
    RINGX_TRY_OWN(comm, ringx__check_data(what, "to", to, count));
    ringx_post post = {.verb = RINGX_VERB_ALLREDUCE_MAX, .group = group, .size = count, .from = from, .to = to};
    if (!ringx__threads_enter(comm, &post, call) || !unite(comm))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    const ringx_group *g = seat->post.group;
    float top[BLOCK];
    size_t last = share(count, me + 1, members);
    for (size_t first = share(count, me, members); first < last; first += BLOCK) { /* each its share, for everyone */
        size_t n = last - first < BLOCK ? last - first : BLOCK;
        for (int i = 0; i < members; i++)
            seat->sources[i] = (const float *)post_of(w, g, i)->from + first;
        ringx__combine_max((const float *const *)seat->sources, members, n, top);
        for (int i = 0; i < members; i++)
            memcpy((float *)post_of(w, g, i)->to + first, top, n * sizeof *top);
    }
    return unite_end(comm);
}

ringx_status ringx__threads_agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    const char *what = ringx__call_what(call, RINGX_VERB_AGREE);
    RINGX_TRY_OWN(comm, ringx__check_data(what, "mine", mine, bytes));
    RINGX_TRY_OWN(comm, ringx__check_data(what, "all", all, bytes));
    ringx_post post = {.verb = RINGX_VERB_AGREE, .size = bytes, .from = mine};
    if (!ringx__threads_enter(comm, &post, call) || !unite(comm))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    for (int r = 0; r < w->ranks; r++)
        ringx__copy((char *)all + (size_t)r * bytes, post_of(w, w->all, r)->from, bytes);
    return unite_end(comm);
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

/* All have come: makes the group of `rank`'s colour and gives each member a reference. */
static ringx_status make_group(ringx_world *w, int rank)
{
    int colour = w->seats[rank].post.colour, members = 0;
    for (int r = 0; r < w->ranks; r++)
        members += w->seats[r].post.colour == colour;
    ringx_group *g;
    RINGX_TRY(ringx__group_create(w, members, &g));
    int i = 0;
    for (int r = 0; r < w->ranks; r++) {
        if (w->seats[r].post.colour != colour)
            continue;
        g->rank_of[i] = r;
        g->index_of[r] = i++;
        w->seats[r].made = g;
    }
    return RINGX_OK;
}

/* Ends a call that needed no more than everyone's coming. */
static ringx_status meet_end(ringx_comm *comm)
{
    const ringx_post *post = &ringx__threads_world(comm)->seats[comm->rank].post;
    post->group->done[post->index] = post->number + 1;
    return ringx__threads_leave(comm);
}

ringx_status ringx__threads_split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    ringx_post post = {.verb = RINGX_VERB_SPLIT, .colour = colour};
    *group = NULL;
    if (!ringx__threads_enter(comm, &post, call))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    ringx_seat *seat = &w->seats[comm->rank];
    if (ringx__post_complete(&seat->post, w->all->entered)) {
        for (int r = 0; r < w->ranks; r++)
            if (!w->seats[r].made && make_group(w, r) != RINGX_OK)
                ringx__world_fail(w, comm->rank, RINGX_NO_MEMORY, "rank %d: %s", comm->rank, ringx_last_error());
        ringx__group_signal(w, w->all, comm->rank);
    }
    ringx__seat_wait(w, comm->rank, RINGX_FOR_ALL);
    ringx_group *made = seat->made;
    seat->made = NULL;
    if (w->failure.status != RINGX_OK)
        ringx__group_release(made);
    else
        *group = made;
    return meet_end(comm);
}

ringx_status ringx__threads_nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    ringx_post post = {.verb = RINGX_VERB_NODES};
    if (!ringx__threads_enter(comm, &post, call))
        return ringx__threads_leave(comm);
    ringx_world *w = ringx__threads_world(comm);
    if (ringx__post_complete(&w->seats[comm->rank].post, w->all->entered))
        ringx__group_signal(w, w->all, comm->rank);
    ringx__seat_wait(w, comm->rank, RINGX_FOR_ALL);
    for (int r = 0; r < w->ranks; r++)
        node_of_rank[r] = 0;
    return meet_end(comm);
}
