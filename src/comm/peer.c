/* SPDX-License-Identifier: MIT */
/* The calls of ranks that reach each other's memory, made of parcels (peer_parcels.c). */
#include "comm/peer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "comm/verbs.h"
#include "core/shape.h"

enum { MOST_FROM_ONE = 3 };

static const double release_s = 5.0; /* for a stream to leave waits that nobody will end */

struct ringx_group {
    ringx_group *inner;
    int members, index;
    int rank[];
};

static int members_of(const ringx_comm *comm, const ringx_group *group)
{
    return group ? group->members : comm->ranks;
}

static int index_of(const ringx_comm *comm, const ringx_group *group)
{
    return group ? group->index : comm->rank;
}

static int rank_of(const ringx_group *group, int index)
{
    return group ? group->rank[index] : index;
}

static ringx_group *inner_of(const ringx_group *group)
{
    return group ? group->inner : NULL;
}

static bool reaches(const ringx_peer *c, int rank)
{
    return (c->attached || c->recording) && c->reach[c->base.rank * c->base.ranks + rank];
}

/* Do all members reach each other?  All of them come to the same answer. */
static bool all_reach(const ringx_peer *c, const ringx_group *group)
{
    int n = members_of(&c->base, group);
    if (!c->attached && !c->recording)
        return false;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (i != j && !c->reach[rank_of(group, i) * c->base.ranks + rank_of(group, j)])
                return false;
    return true;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static ringx_peer *begin(ringx_comm *comm, const ringx_call *call)
{
    ringx_peer *c = (ringx_peer *)comm;
    c->stream = call->stream;
    c->word_ops = 0; /* a call that failed may have left some */
    return c;
}

static uint32_t *arrivals(const ringx_peer *c)
{
    return c->words + RINGX_WORDS * (size_t)c->base.ranks;
}

/* What is left of a call's words goes into the stream, and with it the word that says that it is done. */
static ringx_status end(ringx_peer *c, const ringx_call *call)
{
    int word = c->announced;
    c->announced = 0;
    if (word && !c->recording)
        RINGX_TRY(ringx__parcel_word(c, arrivals(c) + word - 1, RINGX_WORD_SET, call->stream));
    return ringx__peer_told(c, ringx__parcel_flush(c, call->stream));
}

/* One rank's bytes leave it once for each other: beyond a few, a chain through all of them is faster. */
static bool from_one(const ringx_peer *c, const ringx_group *group)
{
    return members_of(&c->base, group) <= MOST_FROM_ONE && all_reach(c, group);
}

static ringx_status broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes, int root,
                              const ringx_call *call)
{
    ringx_peer *c = begin(comm, call);
    int n = members_of(comm, group);
    if (!from_one(c, group))
        return c->recording ? RINGX_OK
                            : c->inner->ops->broadcast(c->inner, inner_of(group), from, to, bytes, root, call);
    if (bytes == 0)
        return RINGX_OK;
    if (root != index_of(comm, group)) {
        RINGX_TRY(ringx__parcel_open(c, rank_of(group, root), to, false, call));
        RINGX_TRY(ringx__parcel_close(c, rank_of(group, root), false, call));
        return end(c, call);
    }
    for (int i = 0; i < n; i++)
        if (i != root)
            RINGX_TRY(ringx__parcel_send(c, rank_of(group, i), from, bytes, call));
    if (to)
        RINGX_TRY(ringx__parcel_own(c, to, from, bytes, call));
    return end(c, call);
}

/* The messages that inner carries, sends before receives. */
static ringx_status through_inner(ringx_peer *c, const ringx_message *sends, size_t n_sends,
                                  const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    size_t n[2] = {0, 0}, all = 0;
    for (size_t i = 0; i < n_sends + n_receives && !c->recording; i++) {
        const ringx_message *m = i < n_sends ? &sends[i] : &receives[i - n_sends];
        if (reaches(c, m->peer))
            continue;
        if (all == c->messages)
            RINGX_FAIL(RINGX_INTERNAL, "an exchange has more than the %zu messages that were planned", c->messages);
        c->message[all++] = *m;
        n[i >= n_sends]++;
    }
    if (all == 0)
        return RINGX_OK;
    RINGX_TRY(ringx__peer_told(c, ringx__parcel_flush(c, call->stream)));
    return c->inner->ops->exchange(c->inner, c->message, n[0], c->message + n[0], n[1], call);
}

/* Is this message the turn-th of its pair?  count: of its pair's messages so far, by rank. */
static bool is_turn(const ringx_peer *c, const ringx_message *m, size_t *count, size_t turn)
{
    return m->bytes && reaches(c, m->peer) && count[m->peer]++ == turn;
}

static void forget_turns(const ringx_peer *c)
{
    memset(c->turns, 0, (size_t)c->base.ranks * sizeof *c->turns);
}

/* The turn-th messages of all pairs; *more: there were any. */
static ringx_status exchange_turn(ringx_peer *c, const ringx_message *sends, size_t n_sends,
                                  const ringx_message *receives, size_t n_receives, size_t turn, bool *more,
                                  const ringx_call *call)
{
    *more = false;
    forget_turns(c);
    for (size_t i = 0; i < n_receives; i++)
        if (is_turn(c, &receives[i], c->turns, turn)) {
            *more = true;
            RINGX_TRY(ringx__parcel_open(c, receives[i].peer, receives[i].data, false, call));
        }
    forget_turns(c);
    for (size_t i = 0; i < n_sends; i++)
        if (is_turn(c, &sends[i], c->turns, turn)) {
            *more = true;
            RINGX_TRY(ringx__parcel_send(c, sends[i].peer, sends[i].data, sends[i].bytes, call));
        }
    forget_turns(c);
    for (size_t i = 0; i < n_receives; i++)
        if (is_turn(c, &receives[i], c->turns, turn))
            RINGX_TRY(ringx__parcel_close(c, receives[i].peer, false, call));
    return RINGX_OK;
}

static ringx_status exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                             const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    ringx_peer *c = begin(comm, call);
    bool more = true;
    if (!c->attached && !c->recording)
        return c->inner->ops->exchange(c->inner, sends, n_sends, receives, n_receives, call);
    for (size_t turn = 0; more; turn++)
        RINGX_TRY(exchange_turn(c, sends, n_sends, receives, n_receives, turn, &more, call));
    RINGX_TRY(through_inner(c, sends, n_sends, receives, n_receives, call));
    return end(c, call);
}

/* Members in turn from the one after this: no two send to the same one at a time, if they keep step. */
static int member_after(const ringx_comm *comm, const ringx_group *group, int i)
{
    return (index_of(comm, group) + i) % members_of(comm, group);
}

static ringx_status allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to, const size_t *bytes,
                              const size_t *offsets, const ringx_call *call)
{
    ringx_peer *c = begin(comm, call);
    int n = members_of(comm, group), own = index_of(comm, group);
    if (!all_reach(c, group))
        return c->recording ? RINGX_OK
                            : c->inner->ops->allgather(c->inner, inner_of(group), from, to, bytes, offsets, call);
    for (int i = 0; i < n; i++)
        if (i != own && bytes[i])
            RINGX_TRY(ringx__parcel_open(c, rank_of(group, i), (char *)to + offsets[i], false, call));
    RINGX_TRY(ringx__parcel_own(c, (char *)to + offsets[own], from, bytes[own], call));
    for (int i = 1; i < n && bytes[own]; i++)
        RINGX_TRY(ringx__parcel_send(c, rank_of(group, member_after(comm, group, i)), from, bytes[own], call));
    for (int i = 0; i < n; i++)
        if (i != own && bytes[i])
            RINGX_TRY(ringx__parcel_close(c, rank_of(group, i), false, call));
    return end(c, call);
}

static ringx_status reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                           ringx_dtype dtype, int root, const ringx_call *call)
{
    ringx_peer *c = begin(comm, call);
    int n = members_of(comm, group);
    if (dtype != RINGX_F32 || !from_one(c, group))
        return c->recording ? RINGX_OK
                            : c->inner->ops->reduce(c->inner, inner_of(group), from, to, count, dtype, root, call);
    if (count == 0)
        return RINGX_OK;
    if (root != index_of(comm, group)) {
        RINGX_TRY(ringx__parcel_open(c, rank_of(group, root), from, true, call));
        RINGX_TRY(ringx__parcel_close(c, rank_of(group, root), true, call));
        return end(c, call);
    }
    RINGX_TRY(ringx__parcel_own(c, to, from, count * sizeof(float), call));
    for (int i = 0; i < n; i++)
        if (i != root)
            RINGX_TRY(ringx__parcel_read(c, rank_of(group, i), to, count, true, call));
    return end(c, call);
}

/* What the others have for this rank: the first of them copied, this rank's own added, the rest added. */
static ringx_status take_sum(ringx_peer *c, const ringx_group *group, const float *own, float *to, size_t count,
                             const ringx_call *call)
{
    int n = members_of(&c->base, group);
    if (n == 1)
        return ringx__parcel_own(c, to, own, count * sizeof *own, call);
    for (int i = 1; i < n; i++) {
        RINGX_TRY(ringx__parcel_read(c, rank_of(group, member_after(&c->base, group, i)), to, count, i > 1, call));
        if (i == 1 && !c->recording)
            RINGX_TRY(ringx__peer_told(c, c->add(count, own, to, call->stream)));
    }
    return RINGX_OK;
}

static ringx_status reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                   const ringx_call *call)
{
    ringx_peer *c = begin(comm, call);
    int n = members_of(comm, group), own = index_of(comm, group);
    const float *parts = from;
    if (dtype != RINGX_F32 || !all_reach(c, group))
        return c->recording
                   ? RINGX_OK
                   : c->inner->ops->reduce_scatter(c->inner, inner_of(group), from, to, counts, offsets, dtype, call);
    for (int i = 1; i < n; i++) {
        int at = member_after(comm, group, i);
        if (counts[at])
            RINGX_TRY(ringx__parcel_open(c, rank_of(group, at), parts + offsets[at], true, call));
    }
    if (counts[own])
        RINGX_TRY(take_sum(c, group, parts + offsets[own], to, counts[own], call));
    for (int i = 1; i < n; i++) {
        int at = member_after(comm, group, i);
        if (counts[at])
            RINGX_TRY(ringx__parcel_close(c, rank_of(group, at), true, call));
    }
    return end(c, call);
}

static ringx_status allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                  const ringx_call *call)
{
    ringx_peer *c = begin(comm, call);
    return c->recording ? RINGX_OK : c->inner->ops->allreduce_max(c->inner, inner_of(group), from, to, count, call);
}

/* ---- what inner does --------------------------------------------------------------------------------------------- */

static ringx_status agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    ringx_comm *inner = ((ringx_peer *)comm)->inner;
    return inner->ops->agree(inner, mine, bytes, all, call);
}

static ringx_status split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    ringx_comm *inner = ((ringx_peer *)comm)->inner;
    size_t ranks = (size_t)comm->ranks;
    int *colours = malloc(ranks * sizeof *colours);
    ringx_group *new = calloc(1, sizeof *new + ranks * sizeof *new->rank);
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
            new->rank[new->members++] = r;
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
    ringx_comm *inner = ((ringx_peer *)comm)->inner;
    if (group)
        inner->ops->group_destroy(inner, group->inner);
    free(group);
}

static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    ringx_comm *inner = ((ringx_peer *)comm)->inner;
    return inner->ops->nodes(inner, node_of_rank, call);
}

/* After a failure nobody ends the waits in this rank's stream, nor those of a kernel that fills the GPU.  The others
 * are told before; the communicator beneath ends after, which may need the GPU. */
static void release(ringx_peer *c)
{
    if (!c->attached || c->released || !c->words)
        return;
    c->released = true;
    c->device->peer->release(c->words, ringx__word_count(c), c->stream, release_s);
}

static void abort_all(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx_peer *c = (ringx_peer *)comm;
    ringx_comm *host = ringx__comm_host(c->inner);
    host->ops->abort(host, culprit, status, message);
    release(c);
    c->inner->ops->abort(c->inner, culprit, status, message);
}

/* Releases nothing, so that who asks can still see which transfer is stuck; what follows a failure is abort.  Where
 * nothing goes through inner, it is not asked: it would end on a failure, and wait for the GPU. */
static ringx_status poll_failure(ringx_comm *comm)
{
    ringx_peer *c = (ringx_peer *)comm;
    ringx_comm *host = ringx__comm_host(c->inner);
    RINGX_TRY(host->ops->poll(host));
    return c->attached && all_reach(c, NULL) ? RINGX_OK : c->inner->ops->poll(c->inner);
}

static ringx_comm *host_of(ringx_comm *comm)
{
    return ringx__comm_host(((ringx_peer *)comm)->inner);
}

ringx_status ringx__peer_begin(ringx_comm *peer, int pass)
{
    ringx_peer *c = (ringx_peer *)peer;
    c->pass = pass;
    c->announced = 0;
    for (int r = 0; r < peer->ranks; r++)
        c->others[r].next = 0;
    if (!c->released)
        return RINGX_OK;
    ringx_status status = c->inner->ops->poll(c->inner);
    return status != RINGX_OK ? status
                              : ringx__fail(RINGX_PEER_DIED, "the ranks' memory is out of use after a failure");
}

uint32_t *ringx__peer_words(const ringx_comm *peer)
{
    return arrivals((const ringx_peer *)peer);
}

uint64_t *ringx__peer_waited(const ringx_comm *peer)
{
    return (uint64_t *)(void *)(arrivals((const ringx_peer *)peer) + RINGX_ARRIVALS);
}

ringx_status ringx__peer_expect(ringx_comm *peer, void *stream)
{
    ringx_peer *c = (ringx_peer *)peer;
    size_t more = c->pass == 0 ? 2 : 0; /* a forward's time may not have been read yet */
    return ringx__peer_told(c, c->device->peer->clear(arrivals(c), RINGX_ARRIVALS + more, stream));
}

ringx_status ringx__peer_hold(ringx_comm *peer, int word, void *stream)
{
    ringx_peer *c = (ringx_peer *)peer;
    ringx_word_op op = {.word = arrivals(c) + word, .use = RINGX_WORD_AWAIT};
    return ringx__peer_told(c, c->device->peer->words(&op, 1, stream));
}

void ringx__peer_announce(ringx_comm *peer, int word)
{
    ((ringx_peer *)peer)->announced = word + 1;
}

bool ringx__peer_reaches(const ringx_comm *peer)
{
    const ringx_peer *c = (const ringx_peer *)peer;
    bool any = false;
    for (int r = 0; r < peer->ranks; r++)
        any = any || reaches(c, r);
    return any;
}

bool ringx__peer_carries(const ringx_comm *peer, bool broadcasts)
{
    const ringx_peer *c = (const ringx_peer *)peer;
    return broadcasts ? from_one(c, NULL) : all_reach(c, NULL);
}

bool ringx__peer_runs_beside(const ringx_comm *peer, void *stream)
{
    const ringx_peer *c = (const ringx_peer *)peer;
    return ringx__peer_carries(peer, false) && !c->shares && !c->device->peer->serial(stream);
}

static void destroy(ringx_comm *comm)
{
    ringx_peer *c = (ringx_peer *)comm;
    if (c->attached && poll_failure(comm) != RINGX_OK)
        release(c);
    if (c->others)
        ringx__peer_detach(c);
    free(c->others);
    free(c->reach);
    free(c->turns);
    free(c->message);
    free(c->parcels);
    free(c);
}

static const ringx_comm_ops ops = {
    .name = "peer",
    .text = "GPUs that reach each other's memory: copy engines",
    .device_memory = true,
    .overlaps = false,
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
    .abort = abort_all,
    .poll = poll_failure,
    .host = host_of,
    .destroy = destroy,
};

ringx_status ringx__comm_peer(ringx_comm *inner, ringx_comm *keeper, const ringx_device_ops *device, ringx_peer_add add,
                              size_t messages, ringx_comm **peer)
{
    size_t ranks = (size_t)inner->ranks;
    ringx_peer *c = calloc(1, sizeof *c);
    if (!c)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu bytes of a communicator", sizeof *c);
    *c = (ringx_peer){.base = {.ops = &ops, .rank = inner->rank, .ranks = inner->ranks},
                      .inner = inner,
                      .keeper = keeper,
                      .device = device,
                      .add = add,
                      .message = calloc(messages + 1, sizeof(ringx_message)),
                      .messages = messages,
                      .others = calloc(ranks, sizeof(ringx_other)),
                      .reach = calloc(ranks, ranks),
                      .turns = calloc(ranks, sizeof(size_t))};
    if (!c->message || !c->others || !c->reach || !c->turns) {
        destroy(&c->base);
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %zu ranks", ranks);
    }
    *peer = &c->base;
    return RINGX_OK;
}
