/* SPDX-License-Identifier: MIT */
/* The TCP transport: making and ending a communicator of processes that a launcher started. */
#include "comm/tcp.h"
#include "device/device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- ending ----------------------------------------------------------------------------------------------------- */

static void hang_up(int socket)
{
    if (socket < 0)
        return;
    shutdown(socket, SHUT_WR); /* what was said arrives before the end */
    close(socket);
}

static void free_link(ringx_link *l)
{
    hang_up(l->data);
    hang_up(l->control);
    while (l->letters) {
        ringx_letter *next = l->letters->next;
        free(l->letters);
        l->letters = next;
    }
    free(l->owed.at);
    free(l->granted.at);
    free(l->inbox);
}

static void destroy(ringx_comm *comm)
{
    ringx_tcp *t = (ringx_tcp *)comm;
    pthread_mutex_lock(&t->wire.lock);
    ringx__tcp_leave(t);
    pthread_mutex_unlock(&t->wire.lock);
    for (int r = 0; r < comm->ranks; r++)
        free_link(&t->links[r]);
    free(t->links);
    free(t->look);
    free(t->wait);
    ringx__wire_close(&t->wire);
    free(t);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

/* Ranks of one host name are on one node. */
static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    enum { NAME = 256 };
    char own[NAME] = "", *all = malloc((size_t)comm->ranks * NAME);
    gethostname(own, NAME - 1);
    if (!all)
        return ringx__wire_refuse((ringx_wire *)comm,
                                  ringx__fail(RINGX_NO_MEMORY, "no memory for %d names of hosts", comm->ranks));
    ringx_status status = ringx__wire_agree(comm, own, NAME, all, call);
    for (int r = 0; r < comm->ranks && status == RINGX_OK; r++) {
        node_of_rank[r] = 0;
        while (memcmp(all + (size_t)node_of_rank[r] * NAME, all + (size_t)r * NAME, NAME) != 0)
            node_of_rank[r]++;
    }
    if (status == RINGX_OK)
        ringx__number_nodes(node_of_rank, comm->ranks);
    free(all);
    return status;
}

const ringx_comm_ops ringx__comm_tcp = {
    .name = "tcp",
    .text = "ranks are processes that find each other by their environment",
    .overlaps = true,
    .broadcast = ringx__wire_broadcast,
    .exchange = ringx__wire_exchange,
    .allgather = ringx__wire_allgather,
    .reduce = ringx__wire_reduce,
    .reduce_scatter = ringx__wire_reduce_scatter,
    .allreduce_max = ringx__wire_allreduce_max,
    .agree = ringx__wire_agree,
    .split = ringx__wire_split,
    .group_destroy = ringx__wire_group_destroy,
    .nodes = nodes,
    .abort = ringx__wire_abort,
    .poll = ringx__wire_poll,
    .destroy = destroy,
};

/* ---- making one ------------------------------------------------------------------------------------------------- */

static ringx_status allocate(ringx_tcp *t)
{
    size_t ranks = (size_t)t->wire.base.ranks;
    RINGX_TRY(ringx__wire_open(&t->wire, &ringx__carrier_tcp));
    t->look = calloc(2 * ranks, sizeof *t->look);
    t->wait = calloc(2 * ranks, sizeof *t->wait);
    bool good = t->look && t->wait;
    for (size_t r = 0; r < ranks && good; r++)
        good = (t->links[r].inbox = malloc(t->wire.note_bytes)) != NULL;
    if (!good)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %zu ranks", ranks);
    return RINGX_OK;
}

static ringx_status connect_all(ringx_tcp *t, const ringx_meeting *meeting)
{
    int *sockets = calloc(2 * (size_t)meeting->ranks, sizeof *sockets);
    if (!sockets)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the connections of %d ranks", meeting->ranks);
    ringx_status status = ringx__tcp_meet(meeting, ringx__comm_timeout(), sockets, sockets + meeting->ranks);
    for (int r = 0; r < meeting->ranks && status == RINGX_OK; r++) {
        t->links[r].data = sockets[r];
        t->links[r].control = sockets[meeting->ranks + r];
    }
    free(sockets);
    return status;
}

ringx_status ringx_comm_from_environment(ringx_comm **comm)
{
    ringx_meeting meeting;
    if (!comm)
        RINGX_FAIL(RINGX_INVALID, "comm is NULL; it must say where the communicator is to be put");
    RINGX_TRY(ringx__meeting_from_environment(&meeting));
    ringx_tcp *t = calloc(1, sizeof *t);
    ringx_link *links = calloc((size_t)meeting.ranks, sizeof *links);
    if (!t || !links) {
        free(t);
        free(links);
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %d ranks", meeting.ranks);
    }
    t->wire.base = (ringx_comm){.ops = &ringx__comm_tcp, .rank = meeting.rank, .ranks = meeting.ranks};
    t->links = links;
    for (int r = 0; r < meeting.ranks; r++)
        links[r].data = links[r].control = -1;
    ringx_status status = allocate(t);
    if (status == RINGX_OK && meeting.ranks > 1)
        status = connect_all(t, &meeting);
    if (status != RINGX_OK) {
        destroy(&t->wire.base);
        return status;
    }
    *comm = &t->wire.base;
    return RINGX_OK;
}
