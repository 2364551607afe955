/* SPDX-License-Identifier: MIT */
/* Ranks that send messages: calls that copy. */
#include "comm/wire.h"

#include <stdlib.h>
#include <string.h>

static ringx_group *group_of(ringx_wire *w, ringx_group *group)
{
    return group ? group : w->all;
}

static void copy(void *to, const void *from, size_t bytes)
{
    if (bytes && to && to != from)
        memmove(to, from, bytes);
}

/* ---- broadcast -------------------------------------------------------------------------------------------------- */

/* A large broadcast: the root sends each other member one piece, and each passes its piece on to the rest while it
 * arrives, so that no rank sends or receives more than the whole once. */
typedef struct spread {
    size_t in;                       /* the stream of the own piece; RINGX_NO_STREAM: none */
    size_t first_onward, end_onward; /* streams that pass it on */
} spread;

static void pass_on(ringx_wire *w, void *context)
{
    const spread *s = context;
    if (s->in == RINGX_NO_STREAM)
        return;
    for (size_t i = s->first_onward; i < s->end_onward; i++)
        w->streams[i].ready = w->streams[s->in].done;
}

static void cut_pieces(size_t bytes, size_t pieces, size_t *sizes, size_t *offsets)
{
    const size_t line = 64;
    for (size_t i = 0; i < pieces; i++)
        offsets[i] = bytes / pieces * i / line * line;
    for (size_t i = 0; i < pieces; i++)
        sizes[i] = (i + 1 < pieces ? offsets[i + 1] : bytes) - offsets[i];
}

static size_t spread_segment(size_t piece)
{
    const size_t least = 16 << 10, most = 512 << 10;
    return piece / 8 < least ? least : piece / 8 > most ? most : piece / 8;
}

static spread add_spread(ringx_wire *w, const ringx_group *g, unsigned char *data, size_t bytes, int root, int tag)
{
    size_t pieces = (size_t)g->members - 1, segment = spread_segment(bytes / pieces);
    spread s = {.in = RINGX_NO_STREAM};
    int me = g->index_of_me, mine = me - (me > root); /* pieces are numbered without the root */
    cut_pieces(bytes, pieces, w->sizes, w->offsets);
    if (me != root)
        s.in = ringx__wire_add(w, false, g->rank_of[root], tag, data + w->offsets[mine], w->sizes[mine], segment,
                               SIZE_MAX);
    s.first_onward = w->n_streams;
    for (int k = 1; k < g->members && me != root; k++) {
        int i = (me + k) % g->members;
        if (i != root)
            ringx__wire_add(w, true, g->rank_of[i], tag, data + w->offsets[mine], w->sizes[mine], segment, 0);
    }
    s.end_onward = w->n_streams;
    for (int k = 1; k < g->members; k++) {
        int i = (me + k) % g->members, its = i - (i > root);
        if (i != root)
            ringx__wire_add(w, me == root, g->rank_of[i], tag, data + w->offsets[its], w->sizes[its], segment,
                            SIZE_MAX);
    }
    return s;
}

ringx_status ringx__wire_broadcast(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t bytes,
                                   int root, const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    ringx_group *g = group_of(w, group);
    const char *what = ringx__call_what(call, RINGX_VERB_BROADCAST);
    bool is_root = g->index_of_me == root;
    RINGX_TRY_WIRE(w, ringx__check_root(what, root, g->members));
    RINGX_TRY_WIRE(w, ringx__check_data(what, is_root ? "from" : "to", is_root ? from : to, bytes));
    RINGX_TRY(ringx__wire_begin(w, RINGX_VERB_BROADCAST, call, 2 * (size_t)g->members));
    g->number++;
    int tag = ringx__wire_tag(w, g, 0);
    unsigned char *data = is_root ? (unsigned char *)from : to;
    spread s = {.in = RINGX_NO_STREAM};
    if (bytes > ringx__wire_small && g->members > 2) {
        s = add_spread(w, g, data, bytes, root, tag);
    } else if (is_root) {
        for (int k = 1; k < g->members; k++)
            ringx__wire_add(w, true, g->rank_of[(root + k) % g->members], tag, data, bytes, 0, SIZE_MAX);
    } else {
        ringx__wire_add(w, false, g->rank_of[root], tag, data, bytes, 0, SIZE_MAX);
    }
    if (is_root)
        copy(to, from, bytes);
    return ringx__wire_run(w, call, pass_on, &s);
}

/* ---- exchange --------------------------------------------------------------------------------------------------- */

/* The n-th message between two ranks has the same tag on both. */
static int message_tag(uint32_t *count)
{
    return (int)((*count)++ % 8192);
}

ringx_status ringx__wire_exchange(ringx_comm *comm, const ringx_message *sends, size_t n_sends,
                                  const ringx_message *receives, size_t n_receives, const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    const char *what = ringx__call_what(call, RINGX_VERB_EXCHANGE);
    RINGX_TRY_WIRE(w, ringx__check_messages(what, sends, n_sends, comm->ranks));
    RINGX_TRY_WIRE(w, ringx__check_messages(what, receives, n_receives, comm->ranks));
    RINGX_TRY(ringx__wire_begin(w, RINGX_VERB_EXCHANGE, call, n_sends + n_receives));
    for (size_t i = 0; i < n_receives; i++) {
        const ringx_message *r = &receives[i];
        if (r->bytes && r->peer != comm->rank)
            ringx__wire_add(w, false, r->peer, message_tag(&w->received[r->peer]), r->data, r->bytes, 0, SIZE_MAX);
    }
    for (size_t i = 0; i < n_sends; i++) {
        const ringx_message *s = &sends[i];
        if (s->bytes && s->peer != comm->rank)
            ringx__wire_add(w, true, s->peer, message_tag(&w->sent[s->peer]), s->data, s->bytes, 0, SIZE_MAX);
    }
    RINGX_TRY_WIRE(w, ringx__exchange_self(what, comm->rank, sends, n_sends, receives, n_receives));
    return ringx__wire_run(w, call, NULL, NULL);
}

/* ---- allgather, agree ------------------------------------------------------------------------------------------- */

/* Everyone's part goes straight to everyone. */
static ringx_status gather(ringx_wire *w, ringx_group *g, const void *from, unsigned char *to, const size_t *bytes,
                           const size_t *offsets, ringx_verb verb, const ringx_call *call)
{
    RINGX_TRY(ringx__wire_begin(w, verb, call, 2 * (size_t)g->members));
    g->number++;
    int me = g->index_of_me, tag = ringx__wire_tag(w, g, 0);
    for (int k = 1; k < g->members; k++) {
        int i = (me + g->members - k) % g->members;
        ringx__wire_add(w, false, g->rank_of[i], tag, to + offsets[i], bytes[i], 0, SIZE_MAX);
    }
    for (int k = 1; k < g->members; k++)
        ringx__wire_add(w, true, g->rank_of[(me + k) % g->members], tag, from, bytes[me], 0, SIZE_MAX);
    copy(to + offsets[me], from, bytes[me]);
    return ringx__wire_run(w, call, NULL, NULL);
}

ringx_status ringx__wire_allgather(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                   const size_t *bytes, const size_t *offsets, const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    ringx_group *g = group_of(w, group);
    const char *what = ringx__call_what(call, RINGX_VERB_ALLGATHER);
    size_t total = 0;
    for (int i = 0; i < g->members; i++)
        total += bytes[i];
    RINGX_TRY_WIRE(w, ringx__check_data(what, "to", to, total));
    RINGX_TRY_WIRE(w, ringx__check_data(what, "from", from, bytes[g->index_of_me]));
    return total ? gather(w, g, from, to, bytes, offsets, RINGX_VERB_ALLGATHER, call) : comm->ops->poll(comm);
}

ringx_status ringx__wire_agree(ringx_comm *comm, const void *mine, size_t bytes, void *all, const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    const char *what = ringx__call_what(call, RINGX_VERB_AGREE);
    RINGX_TRY_WIRE(w, ringx__check_data(what, "mine", mine, bytes));
    RINGX_TRY_WIRE(w, ringx__check_data(what, "all", all, bytes));
    for (int r = 0; r < comm->ranks; r++) {
        w->sizes[r] = bytes;
        w->offsets[r] = (size_t)r * bytes;
    }
    return bytes ? gather(w, w->all, mine, all, w->sizes, w->offsets, RINGX_VERB_AGREE, call) : comm->ops->poll(comm);
}

/* ---- groups and nodes ------------------------------------------------------------------------------------------- */

/* Groups are lists of ranks: no communicator of the carrier's, whose making could not be given up. */
ringx_status ringx__wire_split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    size_t ranks = (size_t)comm->ranks;
    int *colours = malloc(ranks * sizeof *colours);
    ringx_group *g = malloc(sizeof *g + ranks * sizeof *g->rank_of);
    ringx_status status = RINGX_OK;
    *group = NULL;
    if (!colours || !g)
        status = ringx__wire_refuse(w, ringx__fail(RINGX_NO_MEMORY, "no memory for a group of %zu ranks", ranks));
    else
        status = ringx__wire_agree(comm, &colour, sizeof colour, colours, call);
    if (status == RINGX_OK) {
        *g = (ringx_group){.id = ++w->splits};
        for (int r = 0; r < comm->ranks; r++) {
            if (colours[r] != colour)
                continue;
            if (r == comm->rank)
                g->index_of_me = g->members;
            g->rank_of[g->members++] = r;
        }
        *group = g;
        g = NULL;
    }
    free(g);
    free(colours);
    return status;
}

void ringx__wire_group_destroy(ringx_comm *comm, ringx_group *group)
{
    (void)comm;
    free(group);
}

void ringx__number_nodes(int *lowest, int ranks)
{
    int nodes = 0;
    for (int r = 0; r < ranks; r++) /* a node's lowest rank comes first and numbers it */
        lowest[r] = lowest[r] == r ? nodes++ : lowest[lowest[r]];
}
