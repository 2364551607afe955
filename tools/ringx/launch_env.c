/* SPDX-License-Identifier: MIT */
/* Crews whose ranks are processes that torchrun, srun or the like started, without MPI. */
#include "launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE ((size_t)64 << 20) /* of a broadcast: no wait for others is longer than one takes */

static ringx_comm *channel; /* ours: results and agreement go on when the library's communicator has failed */
static bool alone;          /* the ranks have not met: this one must speak for itself */

static int begin(void)
{
    if (channel)
        return CODE_GOOD;
    ringx_status status = ringx_comm_from_environment(&channel);
    alone = status != RINGX_OK;
    return alone ? fail_status(status, "--comm env") : CODE_GOOD;
}

/* Ranks that cannot agree on what to do next cannot go on.  What this rank was about to tell them is said first: it
 * names the step. */
static void must(const crew *c, ringx_status status)
{
    if (status == RINGX_OK)
        return;
    if (c->telling)
        fprintf(stderr, "ringx: %s\n", failure());
    int code = fail_status(status, "ranks cannot agree");
    fprintf(stderr, "ringx: %s\n", failure());
    fflush(NULL);
    _exit(code);
}

static void env_gather(crew *c, const void *mine, size_t bytes, void *all)
{
    must(c, ringx_comm_gather(channel, mine, bytes, all));
}

static void env_barrier(crew *c)
{
    char here = 0, all[MAX_CREW];
    env_gather(c, &here, sizeof here, all);
}

static int env_share(crew *c, void **memory, size_t bytes)
{
    int code = crew_room(c, memory, bytes);
    for (size_t at = 0; at < bytes && !code; at += PIECE)
        must(c, ringx_comm_broadcast(channel, (char *)*memory + at, bytes - at < PIECE ? bytes - at : PIECE, 0));
    return code;
}

static int make_comm(crew *c)
{
    ringx_comm *plain = NULL;
    ringx_status status = ringx_comm_from_environment(&plain);
    return status == RINGX_OK ? crew_equip(c, plain) : fail_status(status, "communicator over TCP");
}

static int env_renew(crew *c)
{
    crew_leave(c);
    return crew_agree(c, make_comm(c));
}

static const crew_ops env_ops = {
    .barrier = env_barrier, .gather = env_gather, .share = env_share, .release = crew_room_free, .renew = env_renew};

/* Ranks of this node, and this one among them, as the launcher says or by the names of hosts. */
static void find_neighbours(crew *c)
{
    enum { NAME = 256 };
    char own[NAME] = "", *all = calloc((size_t)c->ranks, NAME);
    const char *local = getenv("LOCAL_RANK") ? getenv("LOCAL_RANK") : getenv("SLURM_LOCALID");
    gethostname(own, NAME - 1);
    int have[MAX_CREW], has = all != NULL;
    env_gather(c, &has, sizeof has, have);
    for (int r = 0; r < c->ranks; r++)
        has = has && have[r];
    c->ranks_here = 1;
    if (has) {
        env_gather(c, own, NAME, all);
        c->ranks_here = 0;
        for (int r = 0; r < c->ranks; r++) {
            bool here = memcmp(own, all + (size_t)r * NAME, NAME) == 0;
            c->ranks_here += here;
            c->local += here && r < c->rank;
        }
    }
    if (local)
        c->local = atoi(local) > 0 ? atoi(local) : 0;
    free(all);
}

int launch_env_ranks(int *ranks)
{
    int code = begin();
    if (!code)
        *ranks = ringx_comm_ranks(channel);
    return code;
}

int launch_env(const settings *s, crew_work work, void *context)
{
    int code = begin();
    if (code)
        return code;
    crew c = {.ops = &env_ops,
              .rank = ringx_comm_rank(channel),
              .ranks = ringx_comm_ranks(channel),
              .leads_process = true,
              .fault = s->fault};
    find_neighbours(&c);
    return crew_run(&c, crew_agree(&c, make_comm(&c)), s, work, context);
}

void launch_env_finish(void)
{
    ringx_comm_destroy(channel);
    channel = NULL;
}

bool launch_under_env(void)
{
    return getenv("RANK") && getenv("WORLD_SIZE");
}

bool launch_env_speaks(void)
{
    if (channel)
        return ringx_comm_rank(channel) == 0;
    return alone || !launch_under_env() || strcmp(getenv("RANK"), "0") == 0;
}
