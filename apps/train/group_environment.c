/* SPDX-License-Identifier: MIT */
/* Groups whose ranks are processes that a launcher told their places by RANK and WORLD_SIZE, as torchrun does: no MPI.
 *
 * All goes through the library's communicator from the environment, whose gather brings everyone's bytes to all.  So a
 * rank receives what is meant for others, too: right for few ranks, and for GPUs, whose data go by NCCL.  A group's own
 * communicator is made by meeting once more, at a port that its first rank has found free; the environment then says
 * where. */
#include "train/group_row.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUND_BYTES ((size_t)1 << 26) /* that a rank has of all ranks' pieces in a round */

typedef struct environment_group {
    group base;
    ringx_comm *carrier;
} environment_group;

typedef struct door { /* where ranks can meet this one */
    char host[256];
    int32_t port, color, key, rank;
} door;

/* ---- meeting ---- */

static int set(const char *name, const char *value)
{
    return setenv(name, value, 1) == 0 ? CODE_GOOD : CODE_NO_MEMORY;
}

static int set_number(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    return set(name, text);
}

/* Collective over the ranks that are told the same place. */
static int meet(const char *host, int port, int rank, int ranks, ringx_comm **comm)
{
    int code = set("MASTER_ADDR", host);
    code = code ? code : set_number("RINGX_PORT", port);
    code = code ? code : set_number("RANK", rank);
    code = code ? code : set_number("WORLD_SIZE", ranks);
    return code ? code : fail_status(ringx_comm_from_environment(comm), "the ranks of a group meet");
}

static bool is_free(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = s >= 0 && bind(s, (const struct sockaddr *)&at, sizeof at) == 0;
    if (s >= 0)
        close(s);
    return bound;
}

/* A port below those that systems give to anyone: another connection would take one of these before the ranks meet.
 * Processes begin at places of their own, and try another one each time. */
static int find_door(door *d)
{
    enum { FIRST = 20000, PORTS = 12000, APART = 16 };
    static unsigned turn;
    memset(d, 0, sizeof *d);
    if (gethostname(d->host, sizeof d->host - 1) != 0)
        return fail(CODE_INTERNAL, "this machine has no name");
    for (int tries = 0; tries < PORTS && d->port == 0; tries++) {
        int port = FIRST + (int)(((unsigned)getpid() * APART + turn++) % PORTS);
        d->port = is_free(port) ? port : 0;
    }
    return d->port ? CODE_GOOD : fail(CODE_INTERNAL, "no free port to meet at, of %d to %d", FIRST, FIRST + PORTS - 1);
}

/* Everyone's door; fails on all ranks or on none. */
static int gather_doors(environment_group *g, int color, int key, door **doors)
{
    door mine;
    int ranks = g->base.ranks, code;
    *doors = allocate((size_t)ranks * sizeof **doors);
    code = group_agree(&g->base, *doors ? find_door(&mine) : CODE_NO_MEMORY);
    mine.color = color, mine.key = key, mine.rank = g->base.rank;
    if (!code)
        code = group_gather(&g->base, &mine, sizeof mine, *doors);
    if (code) {
        free(*doors);
        *doors = NULL;
    }
    return code;
}

static int by_key(const void *a, const void *b)
{
    int32_t x = ((const door *)a)->key, y = ((const door *)b)->key;
    return (x > y) - (x < y);
}

/* Keeps those of a color, in the order of their keys.  Their number. */
static int keep_color(door *doors, int ranks, int color)
{
    int n = 0;
    for (int r = 0; r < ranks; r++)
        if (doors[r].color == color)
            doors[n++] = doors[r];
    qsort(doors, (size_t)n, sizeof *doors, by_key);
    return n;
}

/* Meets the first of them.  On one machine its name need not be known to anyone. */
static int meet_at(const door *doors, int ranks, int world_rank, ringx_comm **comm, int *rank)
{
    bool together = true;
    *rank = 0;
    for (int r = 0; r < ranks; r++) {
        *rank = doors[r].rank == world_rank ? r : *rank;
        together = together && strcmp(doors[r].host, doors[0].host) == 0;
    }
    return meet(together ? "127.0.0.1" : doors[0].host, doors[0].port, *rank, ranks, comm);
}

/* ---- the row ---- */

typedef struct pieces { /* of an exchange: sizes[from][to], and how far it is */
    size_t *sizes, at, most;
    int ranks;
} pieces;

static size_t in_round(const pieces *p, int from, int to)
{
    size_t all = p->sizes[from * p->ranks + to];
    return p->at >= all ? 0 : all - p->at < p->most ? all - p->at : p->most;
}

static size_t round_bytes(const pieces *p, int from)
{
    size_t sum = 0;
    for (int to = 0; to < p->ranks; to++)
        sum += in_round(p, from, to);
    return sum;
}

/* room: what one rank sends in a round, then what all send. */
static int exchange_round(environment_group *g, const pieces *p, const group_piece *send, const group_piece *receive,
                          char *room)
{
    size_t longest = 0, used = 0;
    int rank = g->base.rank;
    for (int r = 0; r < p->ranks; r++)
        longest = round_bytes(p, r) > longest ? round_bytes(p, r) : longest;
    for (int to = 0; to < p->ranks; to++) {
        size_t n = in_round(p, rank, to);
        if (n)
            memcpy(room + used, (const char *)send[to].data + p->at, n);
        used += n;
    }
    char *all = room + longest;
    memset(room + used, 0, longest - used);
    int code = fail_status(ringx_comm_gather(g->carrier, room, longest, all), "an exchange");
    for (int from = 0; from < p->ranks && !code; from++) {
        const char *theirs = all + (size_t)from * longest;
        for (int to = 0; to < rank; to++)
            theirs += in_round(p, from, to);
        if (in_round(p, from, rank))
            memcpy((char *)receive[from].data + p->at, theirs, in_round(p, from, rank));
    }
    return code;
}

static int exchange(group *base, const group_piece *send, const group_piece *receive)
{
    environment_group *g = (environment_group *)base;
    size_t ranks = (size_t)base->ranks, longest = 0;
    size_t *mine = allocate((ranks + 1) * ranks * sizeof *mine);
    if (!mine)
        return CODE_NO_MEMORY;
    for (size_t to = 0; to < ranks; to++)
        mine[to] = send[to].bytes;
    pieces p = {.ranks = base->ranks, .most = ROUND_BYTES / (ranks * ranks) + 1, .sizes = mine + ranks};
    int code = fail_status(ringx_comm_gather(g->carrier, mine, ranks * sizeof *mine, p.sizes), "an exchange");
    for (size_t i = 0; i < ranks * ranks && !code; i++)
        longest = p.sizes[i] > longest ? p.sizes[i] : longest;
    p.most = longest < p.most ? longest : p.most;
    char *room = code ? NULL : allocate((ranks + 1) * ranks * p.most);
    code = code || room ? code : CODE_NO_MEMORY;
    for (; p.at < longest && !code; p.at += p.most)
        code = exchange_round(g, &p, send, receive, room);
    free(room);
    free(mine);
    return code;
}

static int wrap(ringx_comm *carrier, group **result);

static int split(group *base, int color, int key, group **part)
{
    door *doors;
    ringx_comm *carrier = NULL;
    int rank, code = gather_doors((environment_group *)base, color, key, &doors);
    if (code)
        return code;
    int ranks = keep_color(doors, base->ranks, color);
    code = ranks == 1 ? group_self(part) : meet_at(doors, ranks, base->rank, &carrier, &rank);
    free(doors);
    return code || ranks == 1 ? code : wrap(carrier, part);
}

static int new_comm(group *base, ringx_comm **comm)
{
    door *doors;
    int rank, code = gather_doors((environment_group *)base, 0, base->rank, &doors);
    if (!code)
        code = meet_at(doors, base->ranks, base->rank, comm, &rank);
    free(doors);
    return code;
}

static void destroy(group *base)
{
    ringx_comm_destroy(((environment_group *)base)->carrier);
    free(base);
}

static const group_ops environment_ops = {.exchange = exchange, .split = split, .comm = new_comm, .destroy = destroy};

/* Takes carrier over. */
static int wrap(ringx_comm *carrier, group **result)
{
    environment_group *g = allocate(sizeof *g);
    if (!g) {
        ringx_comm_destroy(carrier);
        return CODE_NO_MEMORY;
    }
    *g = (environment_group){.base = {.ops = &environment_ops, .timeout = 1800}, .carrier = carrier};
    g->base.rank = ringx_comm_rank(carrier), g->base.ranks = ringx_comm_ranks(carrier);
    *result = &g->base;
    return CODE_GOOD;
}

int group_environment(group **g)
{
    ringx_comm *carrier;
    *g = NULL;
    int code = fail_status(ringx_comm_from_environment(&carrier), "the ranks that RANK and WORLD_SIZE name");
    /* There from now on, they are only replaced later: other threads may be reading the environment then. */
    code = code ? code : set("MASTER_ADDR", getenv("MASTER_ADDR") ? getenv("MASTER_ADDR") : "127.0.0.1");
    code = code ? code : set("RINGX_PORT", getenv("RINGX_PORT") ? getenv("RINGX_PORT") : "1");
    return code ? code : wrap(carrier, g);
}
