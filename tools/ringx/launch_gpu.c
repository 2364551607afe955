/* SPDX-License-Identifier: MIT */
/* Which device each rank of a crew uses, and what moves its memory: NCCL where every rank has a GPU of its own, else
 * copies staged through host memory. */
#include "launch.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const transport_names[] = {"default", "nccl", "staged", NULL};

/* ---- a rank's device -------------------------------------------------------------------------------------------- */

/* Item i of a comma-separated list, or false. */
static bool list_item(const char *list, int i, char *item, size_t bytes)
{
    for (; i > 0 && list; i--) {
        list = strchr(list, ',');
        list = list ? list + 1 : NULL;
    }
    if (!list || !*list)
        return false;
    snprintf(item, bytes, "%.*s", (int)strcspn(list, ","), list);
    return true;
}

int gpu_of_rank(const settings *s, int local, int count, int *index)
{
    int items = 1;
    char item[16], *end;
    if (count < 1)
        return fail(CODE_CONFIGURATION, "--device cuda: there is no GPU for this process (see ringx info)");
    *index = local % count;
    if (!s->gpus)
        return CODE_GOOD;
    for (const char *c = s->gpus; *c; c++)
        items += *c == ',';
    long x = list_item(s->gpus, local % items, item, sizeof item) ? strtol(item, &end, 10) : -1;
    if (x < 0 || x >= count || *end || end == item)
        return fail(CODE_USAGE, "--gpu %s: item %d must be a number of a GPU, 0 to %d", s->gpus, local % items + 1,
                    count - 1);
    *index = (int)x;
    return CODE_GOOD;
}

/* ---- what moves its memory -------------------------------------------------------------------------------------- */

typedef struct seat { /* of a rank: two ranks of one seat share a GPU */
    char host[192], gpu[64];
} seat;

static seat find_seat(int index)
{
    seat mine = {.host = ""};
    gethostname(mine.host, sizeof mine.host - 1);
    if (!list_item(getenv("CUDA_VISIBLE_DEVICES"), index, mine.gpu, sizeof mine.gpu))
        snprintf(mine.gpu, sizeof mine.gpu, "%d", index);
    return mine;
}

/* Ranks on the fullest seat, and which it is. */
static int fullest_seat(const seat *seats, int ranks, int *which)
{
    int most = 0;
    for (int a = 0; a < ranks; a++) {
        int here = 0;
        for (int b = 0; b < ranks; b++)
            here += memcmp(&seats[a], &seats[b], sizeof *seats) == 0;
        if (here > most) {
            most = here;
            *which = a;
        }
    }
    return most;
}

bool launch_may_use_nccl(const settings *s)
{
    return s->device == RINGX_CUDA && s->transport != TRANSPORT_STAGED && launch_has_nccl && !s->fault;
}

bool launch_threads_use_nccl(const settings *s, int64_t ranks)
{
    int gpus = 0;
    if (!launch_may_use_nccl(s) || ranks < 2)
        return false;
    return s->transport == TRANSPORT_NCCL || (ringx_device_count(RINGX_CUDA, &gpus) == RINGX_OK && gpus > 1);
}

const char *gpu_transport(int ranks, int gpus)
{
    if (ranks < 2 || gpus == 0)
        return "none";
    return transport_names[launch_has_nccl && ranks <= gpus ? TRANSPORT_NCCL : TRANSPORT_STAGED];
}

static int check_forced(const settings *s)
{
    if (s->transport == TRANSPORT_DEFAULT)
        return CODE_GOOD;
    if (s->device != RINGX_CUDA)
        return fail(CODE_USAGE, "--transport %s moves memory of GPUs; add --device cuda",
                    transport_names[s->transport]);
    if (s->transport == TRANSPORT_NCCL && !launch_has_nccl)
        return fail(CODE_CONFIGURATION, "--transport nccl: this build has no NCCL; use --transport staged");
    if (s->transport == TRANSPORT_NCCL && s->fault)
        return fail(CODE_USAGE, "--fault breaks host transports; use it with --transport staged");
    return CODE_GOOD;
}

/* Collective, with the same verdict on all ranks. */
static int choose_transport(crew *c, const settings *s, int index)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    seat mine = find_seat(index), *all = allocate((size_t)c->ranks * sizeof *all);
    int which = 0, code = crew_agree(c, all ? CODE_GOOD : CODE_NO_MEMORY);
    if (!code)
        c->ops->gather(c, &mine, sizeof mine, all);
    int most = code ? 0 : fullest_seat(all, c->ranks, &which);
    bool forced = s->transport == TRANSPORT_NCCL;
    if (!code && forced && most > 1)
        code = fail(CODE_CONFIGURATION, "--transport nccl: %d ranks share GPU %s; NCCL needs one for each", most,
                    all[which].gpu);
    c->attach = s->transport == TRANSPORT_DEFAULT;
    c->nccl = !code && launch_may_use_nccl(s) && (forced || (c->ranks > 1 && most == 1));
    if (!code && most > 1 && c->rank == 0 && launch_may_use_nccl(s) && !atomic_flag_test_and_set(&said))
        fprintf(
            stderr,
            "%d ranks share GPU %s: NCCL cannot be used; what GPUs do not copy themselves goes through host memory\n",
            most, all[which].gpu);
    free(all);
    return code;
}

/* Puts NCCL over the crew's communicator if it is to be used. */
static int wrap(crew *c)
{
    int code = CODE_GOOD;
    if (!c->nccl)
        return code;
    ringx_comm *over = NULL;
    ringx_status status = launch_nccl(c->comm, &over);
    if (status == RINGX_OK)
        c->comm = over;
    else
        code = fail_status(status, "NCCL for %d ranks", c->ranks);
    return crew_agree(c, code);
}

int crew_use_device(crew *c, const settings *s)
{
    int count = 0, index = 0, code = check_forced(s);
    if (code || s->device == RINGX_CPU)
        return code;
    ringx_status status = ringx_device_count((ringx_device)s->device, &count);
    code = status == RINGX_OK ? gpu_of_rank(s, c->local, count, &index) : fail_status(status, "--device cuda");
    if (!code && (status = ringx_device_use((ringx_device)s->device, index)) != RINGX_OK)
        code = fail_status(status, "GPU %d", index);
    code = crew_agree(c, code);
    if (!code)
        code = choose_transport(c, s, index);
    return code ? code : wrap(c);
}

int crew_renew(crew *c)
{
    int code = c->ops->renew(c);
    return code ? code : wrap(c);
}
