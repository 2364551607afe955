/* SPDX-License-Identifier: MIT */
/* Many small jobs, each on a crew of its own size. */
#include "pool.h"

#include <stdlib.h>

typedef struct team { /* threads of one crew member each; crews[n]: the crew of n ranks */
    const settings *settings;
    const pool *pool;
    uint64_t first, step; /* jobs first, first + step, … are this team's */
    crew *crews[MAX_CREW + 1];
} team;

typedef struct member {
    team *team;
    int rank, code;
} member;

/* In all crews that this member is of; the verdict is the whole team's. */
static int use_devices(member *m)
{
    const pool *p = m->team->pool;
    int code = CODE_GOOD;
    for (int64_t n = p->ranks[0]; n <= p->ranks[1]; n++) {
        int its = m->rank < n ? crew_use_device(&m->team->crews[n][m->rank], m->team->settings) : CODE_GOOD;
        code = code ? code : its;
    }
    return crew_agree(&m->team->crews[p->ranks[1]][m->rank], code);
}

/* Every member walks the same jobs in the same order and takes part in those large enough to need it. */
static void work(void *job)
{
    member *m = job;
    const pool *p = m->team->pool;
    m->code = use_devices(m);
    for (uint64_t i = m->team->first; i < p->count && !m->code; i += m->team->step) {
        int ranks = p->ranks_of(p->context, i);
        if (m->rank < ranks)
            p->run(&m->team->crews[ranks][m->rank], p->context, i);
    }
    for (int64_t n = p->ranks[0]; n <= p->ranks[1]; n++)
        if (m->rank < n)
            crew_leave(&m->team->crews[n][m->rank]);
}

int pool_ranks(const settings *s, int64_t ranks[2])
{
    comm_kind kind = launch_kind(s);
    ranks[0] = s->ranks[0];
    ranks[1] = s->ranks[1];
    if (kind == COMM_THREADS)
        return CODE_GOOD;
    int fixed;
    int code = launch_ranks(s, &fixed);
    ranks[0] = ranks[1] = fixed;
    return code;
}

static void team_destroy(team *t, int64_t most)
{
    for (int64_t n = 1; t && n <= most; n++)
        crew_threads_destroy(t->crews[n]);
    free(t);
}

static int team_create(const settings *s, const pool *p, team **result)
{
    team *t = allocate(sizeof *t);
    int code = t ? CODE_GOOD : CODE_NO_MEMORY;
    for (int64_t n = p->ranks[0]; n <= p->ranks[1] && !code; n++)
        code = crew_threads_create(launch_kind(s), (int)n, s->fault, &t->crews[n]);
    if (code) {
        team_destroy(t, p->ranks[1]);
        return code;
    }
    t->settings = s;
    t->pool = p;
    *result = t;
    return CODE_GOOD;
}

static int run_teams(const settings *s, const pool *p)
{
    /* Communicators of NCCL that share a GPU are never used at the same time. */
    uint64_t wanted = launch_threads_use_nccl(s, p->ranks[1]) ? 1 : (uint64_t)core_count();
    size_t teams = (size_t)(wanted < p->count ? wanted : p->count), size = (size_t)p->ranks[1];
    team **team_of = allocate(teams * sizeof(team *));
    member *members = allocate(teams * size * sizeof *members);
    int code = team_of && members ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t i = 0; i < teams && !code; i++) {
        code = team_create(s, p, &team_of[i]);
        for (size_t r = 0; r < size && !code; r++)
            members[i * size + r] = (member){team_of[i], (int)r, CODE_GOOD};
        if (!code) {
            team_of[i]->first = i;
            team_of[i]->step = teams;
        }
    }
    if (!code && teams)
        code = run_together(teams * size, work, members, sizeof *members);
    if (!code && teams)
        code = members[0].code; /* that of this thread, and alike in all teams */
    for (size_t i = 0; i < teams && team_of; i++)
        team_destroy(team_of[i], p->ranks[1]);
    free(team_of);
    free(members);
    return code;
}

static int run_all(crew *c, void *context)
{
    const pool *p = context;
    for (uint64_t i = 0; i < p->count; i++)
        p->run(c, p->context, i);
    return CODE_GOOD;
}

int pool_run(const settings *s, const pool *p)
{
    pool copy = *p;
    return launch_in_processes(s) ? launch_processes(s, run_all, &copy) : run_teams(s, p);
}
