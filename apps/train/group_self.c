/* SPDX-License-Identifier: MIT */
/* The group of one rank, the choice of the group that the launcher made, and a program's run on it. */
#include "train/group_row.h"

#include <stdlib.h>
#include <string.h>

static int self_exchange(group *g, const group_piece *send, const group_piece *receive)
{
    (void)g;
    if (send->bytes && send->data != receive->data)
        memcpy(receive->data, send->data, send->bytes);
    return CODE_GOOD;
}

static int self_split(group *g, int color, int key, group **part)
{
    (void)g, (void)color, (void)key;
    return group_self(part);
}

static int self_comm(group *g, ringx_comm **comm)
{
    (void)g;
    return fail_status(ringx_comm_self(comm), "communicator of one rank");
}

static void self_destroy(group *g)
{
    free(g);
}

static const group_ops self_ops = {
    .exchange = self_exchange, .split = self_split, .comm = self_comm, .destroy = self_destroy};

int group_self(group **g)
{
    *g = allocate(sizeof **g);
    if (!*g)
        return CODE_NO_MEMORY;
    **g = (group){.ops = &self_ops, .ranks = 1, .timeout = 1800};
    return CODE_GOOD;
}

int group_world(group **g)
{
    static const char *const signs[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", NULL};
    for (int i = 0; signs[i]; i++)
        if (getenv(signs[i]))
            return group_mpi(g);
    const char *ranks = getenv("WORLD_SIZE");
    return getenv("RANK") && ranks && strcmp(ranks, "1") != 0 ? group_environment(g) : group_self(g);
}

int group_world_run(group_body *body, void *context)
{
    group *world;
    int code = group_world(&world);
    if (code)
        return code;
    code = body(world, context);
    if (group_rank(world) != 0)
        failure_set(""); /* rank 0 says it */
    group_destroy(world);
    group_mpi_finish();
    return code;
}
