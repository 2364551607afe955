/* SPDX-License-Identifier: MIT */
/* The TCP transport: connections that come.  Whoever does not say at once that it belongs here is turned away. */
#include "comm/tcp.h"
#include "device/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const double patience_s = 5; /* for what a connection says of itself */
static const char magic[8] = "ringxtcp";
enum { PROTOCOL = 1, ORDER = 0x01020304 };

void ringx__hello_fill(ringx_hello *hello, const ringx_meeting *meeting, ringx_knock kind)
{
    memset(hello, 0, sizeof *hello);
    memcpy(hello->magic, magic, sizeof magic);
    hello->order = ORDER;
    hello->protocol = PROTOCOL;
    hello->kind = (int32_t)kind;
    hello->rank = meeting->rank;
    hello->ranks = meeting->ranks;
    hello->job = meeting->job;
    snprintf(hello->version, sizeof hello->version, "%s", ringx_version());
    gethostname(hello->host, sizeof hello->host - 1);
}

static void turn_away(ringx_door *door, int i)
{
    close(door->waiting[i].socket);
    door->waiting[i] = door->waiting[--door->n];
}

static void let_in(ringx_door *door)
{
    int socket = ringx__socket_accept(door->listener);
    if (socket < 0)
        return;
    door->waiting[door->n].socket = socket;
    door->waiting[door->n].since = ringx__now();
    door->waiting[door->n++].got = 0;
}

/* Reads on.  True: all of it is there, and it is ours (its place is free again, the socket the caller's). */
static bool hear(ringx_door *door, int i, ringx_hello *who, int *socket)
{
    ringx_hello *hello = &door->waiting[i].hello;
    size_t got = door->waiting[i].got;
    ssize_t n = recv(door->waiting[i].socket, (char *)hello + got, sizeof *hello - got, MSG_DONTWAIT);
    if (n > 0)
        door->waiting[i].got = got += (size_t)n;
    size_t known = got < sizeof magic ? got : sizeof magic;
    bool gone = n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
    bool ours = !gone && memcmp(hello->magic, magic, known) == 0;
    if (ours && got < sizeof *hello)
        return false;
    if (!ours || hello->order != ORDER || hello->protocol != PROTOCOL) {
        turn_away(door, i);
        return false;
    }
    *who = *hello;
    who->version[sizeof who->version - 1] = who->host[sizeof who->host - 1] = 0;
    *socket = door->waiting[i].socket;
    door->waiting[i] = door->waiting[--door->n];
    return true;
}

static void drop_the_slow(ringx_door *door)
{
    for (int i = door->n - 1; i >= 0; i--)
        if (ringx__now() - door->waiting[i].since > patience_s)
            turn_away(door, i);
}

ringx_event ringx__door_wait(ringx_door *door, const int *watched, int n_watched, double end, ringx_hello *who,
                             int *socket, int *which)
{
    struct pollfd fds[1 + RINGX_DOOR_PLACES], w;
    for (;;) {
        if (ringx__now() > end)
            return RINGX_LATE;
        bool full = door->n == RINGX_DOOR_PLACES; /* others wait outside until a place is free */
        fds[0] = (struct pollfd){.fd = full ? -1 : door->listener, .events = POLLIN};
        for (int i = 0; i < door->n; i++)
            fds[1 + i] = (struct pollfd){.fd = door->waiting[i].socket, .events = POLLIN};
        int n = door->n;
        poll(fds, (nfds_t)(1 + n), 2);
        for (int i = n - 1; i >= 0; i--) /* places after i may have been given up */
            if (fds[1 + i].revents && hear(door, i, who, socket))
                return RINGX_CAME;
        if (fds[0].revents)
            let_in(door);
        for (int i = 0; i < n_watched; i++) {
            w = (struct pollfd){.fd = watched[i], .events = POLLIN};
            if (watched[i] >= 0 && poll(&w, 1, 0) > 0) {
                *which = i;
                return RINGX_WATCHED;
            }
        }
        drop_the_slow(door);
    }
}

void ringx__door_close(ringx_door *door)
{
    while (door->n > 0)
        turn_away(door, 0);
    if (door->listener >= 0)
        close(door->listener);
    door->listener = -1;
}
