/* SPDX-License-Identifier: MIT */
/* The TCP transport: how ranks meet.
 *
 *     the others                     rank 0
 *     JOINS, my listener's port ───► until all have come
 *                               ◄─── verdict, everyone's place
 *     each connects twice (data, control) to every lower rank, and lets the higher ones in
 *     verdict                   ───► until all have said theirs
 *                               ◄─── verdict
 *
 * A verdict that is not good ends the meeting on all ranks that have come. */
#include "comm/tcp.h"
#include "device/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double grace_s = 2;    /* for rank 0 to tell the others that it is too late */
static const double attempt_s = 5;  /* of one connection */
static const double pause_s = 0.02; /* between attempts */
static const char magic[8] = "verdict";

typedef struct verdict {
    char magic[8];
    int32_t status, origin, culprit, unused;
    uint64_t meeting;
    char message[RINGX_MESSAGE_BYTES];
} verdict;

typedef struct place {
    ringx_address address;
    uint16_t beside_rank_0; /* its address is one that means itself: take that of rank 0 */
} place;

typedef struct meet {
    const ringx_meeting *m;
    double begin, end;
    ringx_door door;
    int port; /* of the door */
    uint64_t number;
    place *places;       /* [ranks] */
    char (*hosts)[64];   /* [ranks] */
    bool *flags;         /* [ranks] */
    int *joined;         /* rank 0: [ranks], -1: not yet; else [1], the one to rank 0 */
    int *data, *control; /* [ranks] results */
    int wanted;          /* connections yet to come */
    ringx_failure failure;
} meet;

static void fail(meet *t, int origin, int culprit, ringx_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void fail(meet *t, int origin, int culprit, ringx_status status, const char *format, ...)
{
    char message[RINGX_MESSAGE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    ringx__failure_set(&t->failure, origin, culprit, status, message);
}

static bool good(const meet *t)
{
    return t->failure.status == RINGX_OK;
}

static double waited(const meet *t)
{
    return ringx__now() - t->begin;
}

/* ---- verdicts --------------------------------------------------------------------------------------------------- */

/* This rank's, so far. */
static bool say(const meet *t, int socket)
{
    verdict v = {.status = (int32_t)t->failure.status,
                 .origin = t->failure.origin,
                 .culprit = t->failure.culprit,
                 .meeting = t->number};
    memcpy(v.magic, magic, sizeof magic);
    snprintf(v.message, sizeof v.message, "%s", t->failure.message);
    return ringx__socket_send(socket, &v, sizeof v, t->end + grace_s);
}

/* Another's becomes this rank's if it is bad.  False: none came (errno). */
static bool hear(meet *t, int socket, double end)
{
    verdict v;
    if (!ringx__socket_receive(socket, &v, sizeof v, end))
        return false;
    v.message[sizeof v.message - 1] = 0;
    if (memcmp(v.magic, magic, sizeof magic) != 0) {
        errno = EPROTO;
        return false;
    }
    if (v.status != RINGX_OK)
        ringx__failure_set(&t->failure, v.origin, v.culprit, (ringx_status)v.status, v.message);
    t->number = v.meeting;
    return true;
}

/* ---- rank 0 ----------------------------------------------------------------------------------------------------- */

/* Somebody of this job, who may be one too many. */
static void judge(meet *t, const ringx_hello *who)
{
    const ringx_meeting *m = t->m;
    if (who->ranks != m->ranks)
        fail(t, RINGX_ALL_RANKS, who->rank, RINGX_MISMATCH,
             "rank %d of %s was told that there are %d ranks, rank 0 that there are %d: they must be told the same",
             who->rank, who->host, who->ranks, m->ranks);
    else if (strcmp(who->version, ringx_version()) != 0)
        fail(t, RINGX_ALL_RANKS, who->rank, RINGX_MISMATCH,
             "rank %d of %s has version %s of the library, rank 0 has %s: they must be the same", who->rank, who->host,
             who->version, ringx_version());
    else if (who->rank < 0 || who->rank >= m->ranks)
        fail(t, RINGX_ALL_RANKS, 0, RINGX_INVALID, "a process of %s says it is rank %d of %d", who->host, who->rank,
             m->ranks);
    else if (who->rank == 0 || t->joined[who->rank] >= 0)
        fail(t, RINGX_ALL_RANKS, who->rank, RINGX_MISMATCH,
             "there are two of rank %d, one of %s and one of %s: every process must have a rank of its own", who->rank,
             t->hosts[who->rank], who->host);
}

static void admit(meet *t, const ringx_hello *who, int socket)
{
    if (who->kind != RINGX_JOINS || who->job != t->m->job) { /* it hears why, and nobody else is concerned */
        meet other = {.m = t->m, .end = ringx__now()};
        fail(&other, RINGX_ALL_RANKS, 0, RINGX_MISMATCH,
             "rank %d of %s belongs to another job than the rank 0 that listens on port %d", who->rank, who->host,
             t->port);
        say(&other, socket);
        close(socket);
        return;
    }
    judge(t, who);
    if (!good(t)) {
        say(t, socket);
        close(socket);
        return;
    }
    int r = who->rank;
    t->joined[r] = socket;
    t->wanted--;
    t->places[r].address = ringx__socket_peer(socket);
    t->places[r].beside_rank_0 = ringx__address_is_loopback(&t->places[r].address);
    t->places[r].address.port = (uint16_t)who->port;
    memcpy(t->hosts[r], who->host, sizeof who->host);
}

static void fail_late(meet *t, const char *doing)
{
    char late[256];
    int culprit = 0;
    while (culprit < t->m->ranks - 1 && !t->flags[culprit])
        culprit++;
    ringx__ranks_text(t->flags, t->m->ranks, late, sizeof late);
    fail(t, RINGX_ALL_RANKS, culprit, RINGX_STALLED, "%s on port %d: waited %.3g s for %s", doing, t->port, waited(t),
         late);
}

static void gather(meet *t)
{
    ringx_hello who;
    int socket, r;
    t->wanted = t->m->ranks - 1;
    while (t->wanted > 0 && good(t)) {
        switch (ringx__door_wait(&t->door, t->joined, t->m->ranks, t->end, &who, &socket, &r)) {
        case RINGX_CAME:
            admit(t, &who, socket);
            break;
        case RINGX_WATCHED:
            fail(t, RINGX_ALL_RANKS, r, RINGX_PEER_DIED, "rank %d of %s ended before all ranks had met", r,
                 t->hosts[r]);
            break;
        case RINGX_LATE:
            for (int i = 1; i < t->m->ranks; i++)
                t->flags[i] = t->joined[i] < 0;
            fail_late(t, "the ranks meet");
            break;
        }
    }
    for (int i = 1; i < t->m->ranks; i++)
        if (t->joined[i] >= 0 && (!say(t, t->joined[i]) ||
                                  (good(t) && !ringx__socket_send(t->joined[i], t->places,
                                                                  (size_t)t->m->ranks * sizeof *t->places, t->end))))
            fail(t, RINGX_ALL_RANKS, i, RINGX_PEER_DIED, "rank %d of %s cannot be told where the others are: %s", i,
                 t->hosts[i], strerror(errno));
}

/* ---- the others ------------------------------------------------------------------------------------------------- */

static int knock(meet *t, const ringx_address *address, ringx_knock kind, double end)
{
    ringx_hello hello;
    ringx__hello_fill(&hello, t->m, kind);
    hello.port = t->port;
    hello.meeting = t->number;
    int socket = ringx__socket_connect(address, end);
    if (socket < 0 || ringx__socket_send(socket, &hello, sizeof hello, end))
        return socket;
    int error = errno;
    close(socket);
    errno = error;
    return -1;
}

/* One attempt at an address of rank 0.  False: nothing is decided yet (errno). */
static bool try_to_join(meet *t, const ringx_address *address)
{
    double soon = ringx__now() + attempt_s;
    int socket = knock(t, address, RINGX_JOINS, soon < t->end ? soon : t->end);
    if (socket < 0)
        return false;
    if (!hear(t, socket, t->end + grace_s)) {
        int error = errno;
        close(socket);
        errno = error;
        return false;
    }
    t->joined[0] = socket;
    if (!good(t))
        return true;
    if (!ringx__socket_receive(socket, t->places, (size_t)t->m->ranks * sizeof *t->places, t->end + grace_s))
        fail(t, RINGX_ALL_RANKS, 0, RINGX_PEER_DIED, "rank 0 ended before all ranks had met: %s", strerror(errno));
    t->places[0].address = *address;
    return true;
}

static void join(meet *t)
{
    enum { MOST = 8 };
    ringx_address addresses[MOST];
    int found, error = ETIMEDOUT;
    char why[RINGX_MESSAGE_BYTES];
    ringx_status status = ringx__socket_resolve(t->m->host, t->m->port, addresses, MOST, &found);
    if (status != RINGX_OK) {
        ringx__error_take(why, sizeof why);
        fail(t, t->m->rank, t->m->rank, status, "%s", why);
    }
    while (good(t) && t->joined[0] < 0) {
        for (int i = 0; i < found && t->joined[0] < 0; i++)
            if (!try_to_join(t, &addresses[i]) && errno != ETIMEDOUT)
                error = errno;
        if (t->joined[0] < 0 && ringx__now() > t->end)
            fail(t, t->m->rank, 0, RINGX_STALLED, "rank %d cannot meet rank 0 at %s, port %d: tried for %.3g s: %s",
                 t->m->rank, t->m->host, t->m->port, waited(t), strerror(error));
        if (t->joined[0] < 0)
            ringx__wire_rest(pause_s);
    }
}

/* ---- every two -------------------------------------------------------------------------------------------------- */

static void connect_to_lower(meet *t)
{
    for (int r = 0; r < t->m->rank && good(t); r++) {
        ringx_address address = t->places[r].address;
        if (t->places[r].beside_rank_0)
            memcpy(address.bytes, t->places[0].address.bytes, sizeof address.bytes);
        t->data[r] = knock(t, &address, RINGX_DATA, t->end);
        if (t->data[r] >= 0)
            t->control[r] = knock(t, &address, RINGX_CONTROL, t->end);
        if (t->control[r] < 0)
            fail(t, t->m->rank, r, RINGX_COMM, "rank %d cannot connect to rank %d, port %d: %s", t->m->rank, r,
                 address.port, strerror(errno));
    }
}

static void let_in(meet *t, const ringx_hello *who, int socket)
{
    bool ours = who->meeting == t->number && who->rank > t->m->rank && who->rank < t->m->ranks;
    int *slot = !ours                        ? NULL
                : who->kind == RINGX_DATA    ? &t->data[who->rank]
                : who->kind == RINGX_CONTROL ? &t->control[who->rank]
                                             : NULL;
    if (!slot || *slot >= 0) {
        close(socket);
        return;
    }
    *slot = socket;
    t->wanted--;
}

/* Rank 0: until all are connected, and all have said so. */
static void collect(meet *t)
{
    ringx_hello who;
    int socket, r, silent = t->m->ranks - 1;
    for (int i = 1; i < t->m->ranks; i++)
        t->flags[i] = true;
    while ((t->wanted > 0 || silent > 0) && good(t)) {
        switch (ringx__door_wait(&t->door, t->joined, t->m->ranks, t->end, &who, &socket, &r)) {
        case RINGX_CAME:
            let_in(t, &who, socket);
            break;
        case RINGX_WATCHED:
            if (!hear(t, t->joined[r], t->end)) /* the second time there is nothing to hear but its end */
                fail(t, RINGX_ALL_RANKS, r, RINGX_PEER_DIED, "rank %d of %s ended before all ranks had met", r,
                     t->hosts[r]);
            silent -= t->flags[r];
            t->flags[r] = false;
            break;
        case RINGX_LATE:
            fail_late(t, "the ranks connect to each other");
            break;
        }
    }
}

/* The others: the same, but rank 0 has the last word. */
static void confirm(meet *t)
{
    ringx_hello who;
    int socket, which;
    bool said = false, decided = false;
    while (!decided) {
        if (!said && (t->wanted == 0 || !good(t))) {
            said = say(t, t->joined[0]);
            decided = !good(t) || !said;
            continue;
        }
        switch (ringx__door_wait(&t->door, t->joined, 1, t->end + grace_s, &who, &socket, &which)) {
        case RINGX_CAME:
            let_in(t, &who, socket);
            break;
        case RINGX_WATCHED:
            said = said && hear(t, t->joined[0], t->end + grace_s);
            decided = true;
            break;
        case RINGX_LATE:
            fail(t, t->m->rank, 0, RINGX_STALLED, "rank %d waited %.3g s for rank 0 to say that all are connected",
                 t->m->rank, waited(t));
            decided = true;
            break;
        }
    }
    if (!said)
        fail(t, RINGX_ALL_RANKS, 0, RINGX_PEER_DIED, "rank 0 ended before all ranks had met");
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */

static void meet_as_rank_0(meet *t)
{
    ringx_hello own;
    ringx__hello_fill(&own, t->m, RINGX_JOINS);
    memcpy(t->hosts[0], own.host, sizeof own.host);
    memcpy(&t->number, &t->begin, sizeof t->number); /* connections of an earlier meeting have another */
    t->number = t->number * 0x9E3779B97F4A7C15u ^ (uint64_t)getpid();
    gather(t);
    if (!good(t))
        return;
    t->wanted = 2 * (t->m->ranks - 1);
    collect(t);
    ringx__door_close(&t->door); /* who meets anew finds it closed, or the new one */
    for (int r = 1; r < t->m->ranks; r++)
        say(t, t->joined[r]);
}

static void meet_rank_0(meet *t)
{
    join(t);
    if (!good(t))
        return;
    t->wanted = 2 * (t->m->ranks - 1 - t->m->rank);
    connect_to_lower(t);
    confirm(t);
}

static void close_all(int *sockets, int n)
{
    for (int i = 0; i < n; i++) {
        if (sockets[i] >= 0)
            close(sockets[i]);
        sockets[i] = -1;
    }
}

ringx_status ringx__tcp_meet(const ringx_meeting *m, double timeout_s, int *data, int *control)
{
    size_t ranks = (size_t)m->ranks;
    double now = ringx__now();
    meet t = {.m = m, .begin = now, .end = now + timeout_s, .data = data, .control = control, .door.listener = -1};
    t.places = calloc(ranks, sizeof *t.places);
    t.hosts = calloc(ranks, sizeof *t.hosts);
    t.flags = calloc(ranks, sizeof *t.flags);
    t.joined = malloc(ranks * sizeof *t.joined);
    for (size_t r = 0; r < ranks; r++) {
        data[r] = control[r] = -1;
        if (t.joined)
            t.joined[r] = -1;
    }
    t.port = m->rank == 0 ? m->port : 0;
    ringx_status status = RINGX_OK;
    if (!t.places || !t.hosts || !t.flags || !t.joined)
        status = ringx__fail(RINGX_NO_MEMORY, "no memory for a meeting of %zu ranks", ranks);
    else
        status = ringx__socket_listen(&t.port, &t.door.listener);
    if (status == RINGX_OK) {
        m->rank == 0 ? meet_as_rank_0(&t) : meet_rank_0(&t);
        close_all(t.joined, m->ranks);
        if (!good(&t)) {
            close_all(data, m->ranks);
            close_all(control, m->ranks);
        }
        status = ringx__failure_report(&t.failure, m->rank);
    }
    ringx__door_close(&t.door);
    free(t.places);
    free(t.hosts);
    free(t.flags);
    free(t.joined);
    return status;
}
