/* SPDX-License-Identifier: MIT */
/* The TCP transport: a rank's number and where the ranks meet, from the environment. */
#include "comm/tcp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_set(const char *name)
{
    const char *text = getenv(name);
    return text && *text;
}

static ringx_status whole_number(const char *name, long least, long most, int *value)
{
    const char *text = getenv(name);
    char *end;
    errno = 0;
    long x = text ? strtol(text, &end, 10) : 0;
    if (!text || !*text)
        RINGX_FAIL(RINGX_INVALID, "%s is not set; it must be a number, %ld … %ld", name, least, most);
    if (errno || *end || end == text || x < least || x > most)
        RINGX_FAIL(RINGX_INVALID, "%s is \"%.80s\"; it must be a number, %ld … %ld", name, text, least, most);
    *value = (int)x;
    return RINGX_OK;
}

bool ringx__first_host(const char *list, char *host, size_t bytes)
{
    size_t n = 0;
    bool skip = false; /* the rest of a bracket */
    for (const char *c = list; *c && n + 1 < bytes; c++) {
        bool inside = strchr(c, ']') && (!strchr(c, '[') || strchr(c, ']') < strchr(c, '['));
        if (*c == ']')
            skip = false;
        else if (*c == ',' && !inside)
            break;
        else if (inside && (*c == ',' || *c == '-'))
            skip = true;
        else if (*c != '[' && !skip)
            host[n++] = *c;
    }
    host[n] = 0;
    return n > 0;
}

/* FNV-1a of the values that a launcher gives all ranks of a job. */
static uint64_t job_number(void)
{
    static const char *const names[] = {"SLURM_JOB_ID", "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID", "RINGX_JOB"};
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *c = is_set(names[i]) ? getenv(names[i]) : "";
        for (; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
        hash = (hash ^ 0xff) * 0x100000001b3u;
    }
    return hash;
}

static ringx_status find_rank(ringx_meeting *m, bool slurm)
{
    const char *rank = slurm ? "SLURM_PROCID" : "RANK", *ranks = slurm ? "SLURM_NTASKS" : "WORLD_SIZE";
    RINGX_TRY(whole_number(ranks, 1, RINGX_MOST_TCP_RANKS, &m->ranks));
    return whole_number(rank, 0, m->ranks - 1, &m->rank);
}

static ringx_status find_host(ringx_meeting *m, bool slurm)
{
    if (is_set("MASTER_ADDR")) {
        snprintf(m->host, sizeof m->host, "%s", getenv("MASTER_ADDR"));
        return RINGX_OK;
    }
    if (!slurm)
        RINGX_FAIL(RINGX_INVALID, "MASTER_ADDR is not set; it must be the host of rank 0");
    const char *list = is_set("SLURM_STEP_NODELIST") ? getenv("SLURM_STEP_NODELIST") : getenv("SLURM_JOB_NODELIST");
    if (!list || !ringx__first_host(list, m->host, sizeof m->host))
        RINGX_FAIL(RINGX_INVALID, "neither MASTER_ADDR nor SLURM_STEP_NODELIST nor SLURM_JOB_NODELIST is set; one of "
                                  "them must name the host of rank 0");
    return RINGX_OK;
}

/* torchrun itself listens on MASTER_PORT. */
static ringx_status find_port(ringx_meeting *m, bool slurm)
{
    const char *agent = getenv("TORCHELASTIC_USE_AGENT_STORE");
    if (is_set("RINGX_PORT"))
        return whole_number("RINGX_PORT", 1, 65535, &m->port);
    if (is_set("MASTER_PORT") || !slurm) {
        RINGX_TRY(whole_number("MASTER_PORT", 1, 65534, &m->port));
        m->port += agent && strcmp(agent, "True") == 0;
        return RINGX_OK;
    }
    int job = 0;
    RINGX_TRY(ringx__context(whole_number("SLURM_JOB_ID", 0, INT32_MAX, &job), "a port of its own for the job"));
    m->port = 20000 + job % 12000; /* below those that systems give to anyone */
    return RINGX_OK;
}

ringx_status ringx__meeting_from_environment(ringx_meeting *m)
{
    bool torch = is_set("RANK") || is_set("WORLD_SIZE"), slurm = !torch && is_set("SLURM_PROCID");
    *m = (ringx_meeting){.job = job_number()};
    if (!torch && !slurm)
        RINGX_FAIL(RINGX_INVALID,
                   "the environment names no ranks: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT must be "
                   "set, or SLURM_PROCID, SLURM_NTASKS, SLURM_JOB_NODELIST and SLURM_JOB_ID");
    RINGX_TRY(find_rank(m, slurm));
    if (m->ranks == 1)
        return RINGX_OK;
    RINGX_TRY(find_host(m, slurm));
    return find_port(m, slurm);
}
