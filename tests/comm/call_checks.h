/* SPDX-License-Identifier: MIT */
/* What a transport is put through whatever its ranks are, threads or processes: groups, random sequences, calls in a
 * fixed order until one fails and after it, calls that do not match.  As in op_checks.h a check returns false and
 * leaves a message. */
#ifndef RINGX_TESTS_CALL_CHECKS_H
#define RINGX_TESTS_CALL_CHECKS_H

#include "comm/op_checks.h"

/* All ranks of comm. */
static inline op_check whole(ringx_comm *comm, double deadline_s)
{
    return (op_check){.comm = comm,
                      .members = comm->ranks,
                      .index = comm->rank,
                      .exact = true,
                      .call = {.what = "step under test", .deadline_s = deadline_s},
                      .seed = 21};
}

/* ---- many calls ------------------------------------------------------------------------------------------------- */

enum { MOST_SPLITS = 4 };

/* Splits the ranks by colour(0 … splits-1, rank); calls of the groups (each: every operation first) and of all ranks in
 * turn, in one order everywhere. */
static inline bool check_groups(op_check *c, int splits, int (*colour)(int split, int rank), bool each, int turns)
{
    op_check sub[MOST_SPLITS], *at = c; /* at: whose call it is */
    int colours[64], rank_of[MOST_SPLITS][64], made = 0;
    bool good = true;
    for (; made < splits && good; made += good) {
        for (int r = 0; r < c->comm->ranks; r++)
            colours[r] = colour(made, r);
        good = check_split(c, colours, &sub[made], rank_of[made]);
    }
    for (int s = 0; s < splits && good && each; s++) {
        at = &sub[s];
        good = check_each(at, 12 + (uint64_t)s);
    }
    for (int i = 0; i < turns && good; i++) {
        at = &sub[i % splits];
        good = check_one(at, 1000 + (uint64_t)i, 500);
        if (!good)
            break;
        at = c;
        good = check_one(at, 2000 + (uint64_t)i, 500);
    }
    if (!good && at != c)
        memcpy(c->message, at->message, sizeof c->message);
    for (int s = 0; s < made; s++)
        c->comm->ops->group_destroy(c->comm, sub[s].group);
    return good;
}

/* Calls drawn from the seed, which ranks come to at different times. */
static inline bool check_random(op_check *c, uint64_t seed, int calls, size_t most)
{
    uint64_t mine = mix(seed, (uint64_t)c->comm->rank);
    bool good = true;
    for (int i = 0; i < calls && good; i++) {
        if (draw(&mine, 40) == 0)
            sleep_s(1e-6 * (double)draw(&mine, 1500));
        good = check_one(c, mix(seed, (uint64_t)i), most);
    }
    return good;
}

/* ---- failures --------------------------------------------------------------------------------------------------- */

enum { DATA_CALLS = 7, ALL_CALLS = 9 }; /* ALL_CALLS: with split and nodes */

static inline bool check_call(op_check *c, int call)
{
    int zeros[64] = {0}, ranks[64], nodes[64];
    op_check sub;
    switch (call) {
    case 0:
        return check_broadcast(c, 300, 1 % c->members, false);
    case 1:
        return check_allgather(c, 100, false, true);
    case 2:
        return check_reduce(c, 100, RINGX_F32, 0, false);
    case 3:
        return check_reduce_scatter(c, 100, RINGX_BF16, true);
    case 4:
        return check_allreduce_max(c, 100, false, false);
    case 5:
        return check_exchange(c, 200);
    case 6:
        return check_agree(c, 40);
    case 7:
        if (!check_split(c, zeros, &sub, ranks))
            return false;
        c->comm->ops->group_destroy(c->comm, sub.group);
        return true;
    default:
        return c->comm->ops->nodes(c->comm, nodes, &c->call) == RINGX_OK;
    }
}

/* All calls in turn until one fails.  Small ones end without others: the last ones' failures show at the end. */
static inline bool check_calls(op_check *c, int calls, int rounds)
{
    bool good = true;
    for (int i = 0; i < rounds * calls && good; i++)
        good = check_call(c, i % calls);
    return good && check_agree(c, 8);
}

/* After a failure every call fails, with the same status and message. */
static inline bool check_stays_failed(op_check *c, int calls, ringx_status status, const char *message)
{
    for (int call = 0; call < calls; call++)
        if (check_call(c, call) || c->comm->ops->poll(c->comm) != status || strcmp(ringx_last_error(), message) != 0) {
            snprintf(c->message, sizeof c->message, "call %d after the failure: %s", call, ringx_last_error());
            return false;
        }
    return true;
}

/* Large calls until one fails, as they must when a rank is lost. */
static inline void call_until_failure(op_check *c)
{
    while (check_allgather(c, 300000, false, false) && check_reduce(c, 100000, RINGX_F32, 0, true))
        ;
}

enum { QUARRELS = 4 };

/* Rank 1 makes another call than the others, or one of another size.  Returns what a rank learns of it, now or at a
 * later call. */
static inline ringx_status call_at_odds(ringx_comm *comm, int which, double deadline_s)
{
    char x[64] = "", y[64 * 8];
    float f[64] = {0}, g[64];
    const ringx_comm_ops *o = comm->ops;
    ringx_call call = {.what = "quarrel", .deadline_s = deadline_s};
    ringx_message send = {(comm->rank + 1) % comm->ranks, x, 6};
    ringx_message receive = {(comm->rank + comm->ranks - 1) % comm->ranks, y, 6};
    bool odd = comm->rank == 1;
    ringx_status status;
    if (odd && which > 1)
        receive.bytes = which == 2 ? 5 : 7;
    if (which == 0) /* of equal sizes: only the kind of call differs */
        status = odd ? o->allreduce_max(comm, NULL, f, g, 16, &call) : o->agree(comm, x, 64, y, &call);
    else if (which == 1)
        status = o->agree(comm, x, odd ? 40 : 50, y, &call);
    else
        status = o->exchange(comm, &send, 1, &receive, 1, &call);
    while (status == RINGX_OK)
        status = o->agree(comm, x, 1, y, &call);
    return status;
}

#endif
