/* SPDX-License-Identifier: MIT */
/* Ranks as threads: waiting for others, and finding out who is to blame when that takes too long.
 *
 * A rank that waits needs certain others to do something.  Following "needs" from a waiting rank to ranks that wait
 * themselves, and so on, ends at ranks that do not wait: those are late, the ones in between are innocent.  If it ends
 * nowhere, the ranks wait for each other and their calls cannot match. */
#include "comm/threads.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const double first_look_s = 0.05, last_look_s = 1.0; /* between looks for circles */

/* ---- waking ----------------------------------------------------------------------------------------------------- */

void ringx__seat_signal(ringx_world *world, int rank)
{
    pthread_cond_signal(&world->seats[rank].wake);
}

void ringx__world_signal(ringx_world *world)
{
    for (int r = 0; r < world->ranks; r++)
        ringx__seat_signal(world, r);
}

ringx_status ringx__world_fail(ringx_world *world, int culprit, ringx_status status, const char *format, ...)
{
    char message[RINGX_MESSAGE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    if (ringx__failure_set(&world->failure, RINGX_ALL_RANKS, culprit, status, message))
        ringx__world_signal(world);
    return world->failure.status;
}

/* ---- who needs whom --------------------------------------------------------------------------------------------- */

static bool messages_ripe(const ringx_world *world, int rank)
{
    const ringx_seat *seat = &world->seats[rank];
    if (seat->unread == 0 && seat->expected == 0)
        return true;
    for (int p = 0; p < world->ranks; p++)
        if (seat->next[p] != RINGX_NO_MESSAGE && world->seats[p].offer[rank] != RINGX_NO_MESSAGE)
            return true;
    return false;
}

bool ringx__seat_ripe(const ringx_world *world, int rank)
{
    const ringx_seat *seat = &world->seats[rank];
    const ringx_post *post = &seat->post;
    switch (seat->wait) {
    case RINGX_AWAY:
    case RINGX_BUSY:
        return true;
    case RINGX_FOR_ALL:
        return ringx__post_complete(post, post->group->entered);
    case RINGX_FOR_ROOT:
        return post->group->entered[post->root] > post->number;
    case RINGX_FOR_DONE:
        return ringx__post_complete(post, post->group->done);
    case RINGX_FOR_MESSAGES:
        return messages_ripe(world, rank);
    }
    return true;
}

/* Does `rank`, which waits, need `other` to do something? */
static bool needs(const ringx_world *world, int rank, int other)
{
    const ringx_seat *seat = &world->seats[rank];
    const ringx_post *post = &seat->post;
    if (seat->wait == RINGX_AWAY || seat->wait == RINGX_BUSY)
        return false;
    if (seat->wait == RINGX_FOR_MESSAGES)
        return seat->offer[other] != RINGX_NO_MESSAGE ||
               (seat->next[other] != RINGX_NO_MESSAGE && world->seats[other].offer[rank] == RINGX_NO_MESSAGE);
    int i = post->group->index_of[other];
    if (i < 0 || (seat->wait == RINGX_FOR_ROOT && i != post->root))
        return false;
    const uint64_t *count = seat->wait == RINGX_FOR_DONE ? post->group->done : post->group->entered;
    return count[i] <= post->number;
}

/* ---- blame ------------------------------------------------------------------------------------------------------ */

/* Sets world->flags[r] for the ranks that `rank` waits for in the end; returns how many. */
static int find_culprits(ringx_world *world, int rank)
{
    bool *blame = world->flags, *seen = blame + world->ranks;
    int *stack = world->stack, depth = 0, count = 0;
    memset(world->flags, 0, 2 * (size_t)world->ranks * sizeof *world->flags);
    seen[rank] = true;
    stack[depth++] = rank;
    while (depth > 0) {
        int a = stack[--depth];
        for (int b = 0; b < world->ranks; b++) {
            if (seen[b] || !needs(world, a, b))
                continue;
            seen[b] = true;
            if (!ringx__seat_ripe(world, b)) {
                stack[depth++] = b;
            } else {
                blame[b] = true;
                count++;
            }
        }
    }
    return count;
}

static int first_needed(const ringx_world *world, int rank)
{
    int b = 0;
    while (b < world->ranks - 1 && !needs(world, rank, b))
        b++;
    return b;
}

/* All that `rank` needs, directly or not, wait: names one circle. */
static void fail_circle(ringx_world *world, int rank)
{
    char text[RINGX_MESSAGE_BYTES] = "";
    int start = rank, n = 0;
    for (int i = 0; i < world->ranks; i++) /* after so many steps we are in the circle */
        start = first_needed(world, start);
    int a = start, culprit = start;
    do {
        int b = first_needed(world, a);
        if (n >= 0 && (size_t)n < sizeof text)
            n += snprintf(text + n, sizeof text - (size_t)n, "%srank %d waits in \"%s\" (%s) for rank %d",
                          a == start ? "" : "; ", a, world->seats[a].post.what,
                          ringx__verb_name(world->seats[a].post.verb), b);
        culprit = a < culprit ? a : culprit;
        a = b;
    } while (a != start);
    ringx__world_fail(world, culprit, RINGX_MISMATCH, "ranks make different calls: %s", text);
}

static void fail_late(ringx_world *world, int rank)
{
    const bool *blame = world->flags;
    const ringx_seat *seat = &world->seats[rank];
    char late[256], via[256] = "";
    int culprit = 0, between = rank;
    while (!blame[culprit])
        culprit++;
    if (!needs(world, rank, culprit))
        for (between = 0; between == rank || ringx__seat_ripe(world, between) || !needs(world, between, culprit);)
            between++;
    if (between != rank)
        snprintf(via, sizeof via, ", needed by rank %d in \"%.150s\"", between, world->seats[between].post.what);
    ringx__ranks_text(blame, world->ranks, late, sizeof late);
    ringx__world_fail(world, culprit, RINGX_STALLED, "%s: waited %.3g s for %s%s", seat->post.what, seat->seconds, late,
                      via);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static void fail_if_gone(ringx_world *world, int rank)
{
    for (int b = 0; b < world->ranks; b++)
        if (world->seats[b].gone && needs(world, rank, b)) {
            ringx__world_fail(world, b, RINGX_PEER_DIED, "%s: rank %d has destroyed its communicator",
                              world->seats[rank].post.what, b);
            return;
        }
}

static struct timespec later(double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    time_t whole = (time_t)seconds;
    t.tv_sec += whole;
    t.tv_nsec += (long)((seconds - (double)whole) * 1e9);
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    return t;
}

static bool before(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

void ringx__seat_deadline(ringx_seat *seat, double seconds)
{
    seat->seconds = seconds;
    seat->deadline = later(seconds);
}

ringx_status ringx__seat_wait(ringx_world *world, int rank, ringx_wait wait)
{
    ringx_seat *seat = &world->seats[rank];
    double interval = first_look_s;
    struct timespec look = later(interval);
    seat->wait = wait;
    for (;;) {
        if (world->failure.status != RINGX_OK || ringx__seat_ripe(world, rank))
            break;
        fail_if_gone(world, rank);
        if (world->failure.status != RINGX_OK)
            break;
        bool final = !before(look, seat->deadline);
        const struct timespec *until = final ? &seat->deadline : &look;
        if (pthread_cond_timedwait(&seat->wake, &world->lock, until) != ETIMEDOUT ||
            world->failure.status != RINGX_OK || ringx__seat_ripe(world, rank))
            continue;
        if (find_culprits(world, rank) == 0)
            fail_circle(world, rank);
        else if (final)
            fail_late(world, rank);
        interval = interval < last_look_s / 2 ? 2 * interval : last_look_s;
        look = later(interval);
    }
    seat->wait = RINGX_BUSY;
    return world->failure.status;
}
