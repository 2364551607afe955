/* SPDX-License-Identifier: MIT */
/* NCCL communicators: how they are made, how they are seen to fail, and how they end. */
#include "comm/nccl_life.h"
#include "device/device.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST_VERSION NCCL_VERSION(2, 18, 0) /* ncclCommSplit */

static const double last_word_s = 1.0; /* for the host to learn which peer NCCL has lost */
static const double farewell_s = 5.0;  /* for what was enqueued to leave before the end */

/* ---- failures --------------------------------------------------------------------------------------------------- */

/* Frees the device of what waits for ranks that will not come. */
static void kill_all(ringx_nccl *c)
{
    for (ringx_group *g = c->groups; g; g = g->next) {
        if (g->nccl)
            ncclCommAbort(g->nccl);
        g->nccl = NULL;
    }
    if (c->nccl)
        ncclCommAbort(c->nccl);
    c->nccl = NULL;
}

ringx_status ringx__nccl_fail(ringx_nccl *c, ringx_status status, const char *what, const char *why)
{
    char message[RINGX_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%.200s: %.800s", what, why);
    ringx__nccl_abort(&c->base, c->base.rank, status, message);
    return ringx__failure_report(&c->failure, c->base.rank);
}

void ringx__nccl_abort(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx_nccl *c = (ringx_nccl *)comm;
    if (!ringx__failure_set(&c->failure, comm->rank, culprit, status, message))
        return;
    c->host->ops->abort(c->host, culprit, status, message);
    kill_all(c);
}

/* The host knows which rank is gone, if it is: that is the better message. */
static ringx_status host_failure(ringx_nccl *c)
{
    ringx_status status = c->host->ops->poll(c->host);
    if (status != RINGX_OK)
        kill_all(c);
    return status;
}

static ringx_status lost(ringx_nccl *c, ncclComm_t nccl, ncclResult_t result, const char *what)
{
    char why[RINGX_MESSAGE_BYTES];
    snprintf(why, sizeof why, "NCCL: %s", nccl ? ncclGetLastError(nccl) : ncclGetErrorString(result));
    if (result != ncclRemoteError)
        return ringx__nccl_fail(c, RINGX_COMM, what, why);
    for (double begin = ringx__now(); ringx__now() - begin < last_word_s; sched_yield())
        RINGX_TRY(host_failure(c));
    return ringx__nccl_fail(c, RINGX_PEER_DIED, what, why);
}

static ringx_status check_async(ringx_nccl *c, ncclComm_t nccl)
{
    ncclResult_t result = ncclSuccess, asked = nccl ? ncclCommGetAsyncError(nccl, &result) : ncclSuccess;
    result = asked != ncclSuccess ? asked : result;
    return result == ncclSuccess || result == ncclInProgress ? RINGX_OK : lost(c, nccl, result, "a transfer");
}

ringx_status ringx__nccl_poll(ringx_comm *comm)
{
    ringx_nccl *c = (ringx_nccl *)comm;
    RINGX_TRY(ringx__failure_report(&c->failure, comm->rank));
    RINGX_TRY(host_failure(c));
    RINGX_TRY(check_async(c, c->nccl));
    for (ringx_group *g = c->groups; g; g = g->next)
        RINGX_TRY(check_async(c, g->nccl));
    return RINGX_OK;
}

ringx_status ringx__nccl_accepted(ringx_nccl *c, ncclComm_t nccl, ncclResult_t result, const char *what,
                                  double deadline_s)
{
    double end = ringx__now() + deadline_s;
    while (result == ncclInProgress) {
        ncclResult_t asked = ncclCommGetAsyncError(nccl, &result);
        if (asked != ncclSuccess)
            result = asked;
        if (result != ncclInProgress)
            break;
        RINGX_TRY(host_failure(c));
        if (ringx__now() > end) {
            ringx__comm_roll_call(&c->base, what);
            RINGX_TRY(host_failure(c));
            return ringx__nccl_fail(c, RINGX_STALLED, what, "NCCL made no progress before the deadline");
        }
        sched_yield();
    }
    return result == ncclSuccess ? RINGX_OK : lost(c, nccl, result, what);
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

static ncclConfig_t configuration(const ringx_nccl *c)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (c->ctas)
        config.maxCTAs = c->ctas;
    return config;
}

/* NCCL's colours are not negative: a group's is its lowest rank. */
static ringx_status find_members(ringx_nccl *c, int colour, ringx_group *group, int *lowest, const ringx_call *call)
{
    int ranks = c->base.ranks, *all = malloc((size_t)ranks * sizeof *all);
    ringx_status status = RINGX_OK;
    if (!all)
        return ringx__nccl_fail(c, RINGX_NO_MEMORY, ringx__call_what(call, RINGX_VERB_SPLIT), "no memory for a group");
    status = c->host->ops->agree(c->host, &colour, sizeof colour, all, call);
    for (int r = ranks - 1; r >= 0 && status == RINGX_OK; r--) {
        if (all[r] != colour)
            continue;
        *lowest = r;
        group->members++;
        group->index += r < c->base.rank;
    }
    free(all);
    return status;
}

ringx_status ringx__nccl_split(ringx_comm *comm, int colour, ringx_group **group, const ringx_call *call)
{
    ringx_nccl *c = (ringx_nccl *)comm;
    const char *what = ringx__call_what(call, RINGX_VERB_SPLIT);
    int lowest = 0;
    RINGX_TRY(ringx__nccl_poll(comm));
    ringx_group *new = calloc(1, sizeof *new);
    if (!new)
        return ringx__nccl_fail(c, RINGX_NO_MEMORY, what, "no memory for a group");
    ringx_status status = find_members(c, colour, new, &lowest, call);
    if (status != RINGX_OK) {
        free(new);
        return status;
    }
    new->next = c->groups; /* a failure ends it as well */
    c->groups = new;
    ncclConfig_t config = configuration(c);
    ncclResult_t r = ncclCommSplit(c->nccl, lowest, comm->rank, &new->nccl, &config);
    status = ringx__nccl_accepted(c, c->nccl, r, what, ringx__call_seconds(call));
    if (status == RINGX_OK)
        status = ringx__nccl_accepted(c, new->nccl, ncclInProgress, what, ringx__call_seconds(call));
    if (status != RINGX_OK) {
        ringx__nccl_group_destroy(comm, new);
        return status;
    }
    *group = new;
    return RINGX_OK;
}

/* ---- ending ----------------------------------------------------------------------------------------------------- */

/* What was enqueued leaves; a peer that does not let it must not hold this rank. */
static void finish(ncclComm_t nccl)
{
    ncclResult_t result = ncclCommFinalize(nccl);
    for (double begin = ringx__now(); result == ncclInProgress && ringx__now() - begin < farewell_s; sched_yield())
        if (ncclCommGetAsyncError(nccl, &result) != ncclSuccess)
            result = ncclInternalError;
    if (result == ncclSuccess)
        ncclCommDestroy(nccl);
    else
        ncclCommAbort(nccl);
}

void ringx__nccl_group_destroy(ringx_comm *comm, ringx_group *group)
{
    ringx_nccl *c = (ringx_nccl *)comm;
    if (!group)
        return;
    for (ringx_group **at = &c->groups; *at; at = &(*at)->next)
        if (*at == group) {
            *at = group->next;
            break;
        }
    if (group->nccl)
        finish(group->nccl);
    free(group);
}

void ringx__nccl_destroy(ringx_comm *comm)
{
    ringx_nccl *c = (ringx_nccl *)comm;
    while (c->groups)
        ringx__nccl_group_destroy(comm, c->groups);
    if (c->owns && c->nccl)
        finish(c->nccl);
    ringx_comm_destroy(c->host);
    free(c);
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

typedef struct card { /* what ranks tell each other before */
    ncclUniqueId id;  /* rank 0's */
    int32_t version, ctas, status;
    char message[RINGX_MESSAGE_BYTES];
} card;

static ringx_status read_ctas(int *ctas)
{
    const char *text = getenv("RINGX_NCCL_CTAS");
    char *end;
    *ctas = 0;
    if (!text || !*text)
        return RINGX_OK;
    errno = 0;
    long x = strtol(text, &end, 10);
    if (errno || *end || x < 1 || x > 64)
        RINGX_FAIL(RINGX_INVALID, "RINGX_NCCL_CTAS is \"%.80s\"; it must be a number of thread blocks, 1 … 64", text);
    *ctas = (int)x;
    return RINGX_OK;
}

static ringx_status fill_card(ringx_nccl *c, card *mine)
{
    int version = 0;
    ncclResult_t r = ncclGetVersion(&version);
    if (r != ncclSuccess || version < OLDEST_VERSION)
        RINGX_FAIL(RINGX_UNSUPPORTED, "NCCL's version is %d; %d (2.18.0) or later is needed", version, OLDEST_VERSION);
    RINGX_TRY(read_ctas(&c->ctas));
    mine->version = version;
    mine->ctas = c->ctas;
    r = c->base.rank == 0 && c->owns ? ncclGetUniqueId(&mine->id) : ncclSuccess;
    if (r != ncclSuccess)
        RINGX_FAIL(RINGX_COMM, "ncclGetUniqueId: %s", ncclGetErrorString(r));
    return RINGX_OK;
}

/* The same verdict on all ranks: nobody waits in NCCL for one that cannot come. */
static ringx_status compare_cards(const card *all, int ranks, int rank)
{
    for (int r = 0; r < ranks; r++)
        if (all[r].status != RINGX_OK && r == rank)
            RINGX_FAIL((ringx_status)all[r].status, "%s", all[r].message);
        else if (all[r].status != RINGX_OK)
            RINGX_FAIL((ringx_status)all[r].status, "rank %d: %s", r, all[r].message);
    for (int r = 1; r < ranks; r++) {
        if (all[r].version != all[0].version)
            RINGX_FAIL(RINGX_MISMATCH, "rank %d has NCCL %d, rank 0 has %d: they must be the same", r, all[r].version,
                       all[0].version);
        if (all[r].ctas != all[0].ctas)
            RINGX_FAIL(RINGX_MISMATCH, "rank %d has RINGX_NCCL_CTAS %d, rank 0 has %d: they must be the same", r,
                       all[r].ctas, all[0].ctas);
    }
    return RINGX_OK;
}

static ringx_status exchange_cards(ringx_nccl *c, ncclUniqueId *id)
{
    ringx_comm *host = c->host;
    ringx_call call = {.what = "ringx_comm_nccl: sharing the unique id", .deadline_s = ringx__comm_timeout()};
    card mine, *all = calloc((size_t)host->ranks, sizeof *all);
    memset(&mine, 0, sizeof mine);
    if (!all) {
        ringx_status status = ringx__fail(RINGX_NO_MEMORY, "no memory for the ids of %d ranks", host->ranks);
        host->ops->abort(host, host->rank, status, ringx_last_error());
        return status;
    }
    mine.status = (int32_t)fill_card(c, &mine);
    if (mine.status != RINGX_OK)
        ringx__error_take(mine.message, sizeof mine.message);
    ringx_status status = host->ops->agree(host, &mine, sizeof mine, all, &call);
    if (status == RINGX_OK)
        status = compare_cards(all, host->ranks, host->rank);
    *id = all[0].id;
    free(all);
    return status;
}

static ringx_status make(ringx_nccl *c)
{
    ncclUniqueId id;
    RINGX_TRY(exchange_cards(c, &id));
    if (!c->owns)
        return RINGX_OK;
    ncclConfig_t config = configuration(c);
    ncclResult_t r = ncclCommInitRankConfig(&c->nccl, c->base.ranks, id, c->base.rank, &config);
    return ringx__nccl_accepted(c, c->nccl, r, "ncclCommInitRank", ringx__comm_timeout());
}

static ringx_status create(ncclComm_t nccl, ringx_comm *host, ringx_comm **comm)
{
    if (!host || !comm)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must be a communicator", host ? "comm" : "host");
    *comm = NULL;
    ringx_nccl *c = calloc(1, sizeof *c);
    if (!c) {
        ringx_status status = ringx__fail(RINGX_NO_MEMORY, "no memory for %zu bytes of a communicator", sizeof *c);
        host->ops->abort(host, host->rank, status, ringx_last_error());
        return status;
    }
    *c = (ringx_nccl){.base = {.ops = &ringx__comm_nccl, .rank = host->rank, .ranks = host->ranks},
                      .host = host,
                      .nccl = nccl,
                      .owns = nccl == NULL};
    ringx_status status = make(c);
    if (status != RINGX_OK) {
        if (c->owns)
            kill_all(c);
        free(c);
        return status;
    }
    *comm = &c->base;
    return RINGX_OK;
}

ringx_status ringx_comm_nccl(ringx_comm *host, ringx_comm **comm)
{
    return create(NULL, host, comm);
}

ringx_status ringx_comm_from_nccl(ncclComm_t nccl, ringx_comm *host, ringx_comm **comm)
{
    int ranks = 0, rank = 0;
    if (!nccl || !host)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must be a communicator", nccl ? "host" : "nccl");
    if (ncclCommCount(nccl, &ranks) != ncclSuccess || ncclCommUserRank(nccl, &rank) != ncclSuccess ||
        ranks != host->ranks || rank != host->rank)
        RINGX_FAIL(RINGX_INVALID,
                   "the NCCL communicator is rank %d of %d; host is rank %d of %d: they must be the same", rank, ranks,
                   host->rank, host->ranks);
    return create(nccl, host, comm);
}
