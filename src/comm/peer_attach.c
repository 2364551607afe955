/* SPDX-License-Identifier: MIT */
/* Attaching ranks to each other's memory: cards, what can be opened, who reaches whom, and the lists of what comes. */
#include "comm/peer_parts.h"

#include <stdlib.h>
#include <string.h>

ringx_status ringx__peer_told(ringx_peer *c, ringx_status status)
{
    char message[RINGX_MESSAGE_BYTES];
    if (status == RINGX_OK)
        return RINGX_OK;
    ringx__error_take(message, sizeof message);
    c->base.ops->abort(&c->base, c->base.rank, status, message);
    ringx__error_put(message);
    return status;
}

void ringx__peer_detach(ringx_peer *c)
{
    c->attached = false;
    for (int r = 0; r < c->base.ranks; r++) {
        ringx_other *o = &c->others[r];
        for (int i = 0; i < 2; i++)
            if (o->opened[i])
                c->device->peer->close(o->opened[i]);
        free(o->offset[0]);
        *o = (ringx_other){.workspace = NULL};
    }
}

typedef struct card { /* what a rank tells the others of itself */
    ringx_reach workspace, words;
    int32_t status;
    char message[RINGX_MESSAGE_BYTES / 2];
} card;

typedef struct kept_words { /* of a communicator, for all its plans, which run one after the other */
    const ringx_device_ops *device;
    uint32_t *words;
} kept_words;

static void forget_words(void *kept)
{
    kept_words *k = kept;
    if (k->words)
        k->device->free(k->words);
    free(k);
}

/* The words stay with the communicator: a rank that frees memory which another has still open breaks what that one
 * opens next.  They are zeros between plans. */
static ringx_status make_words(ringx_peer *c)
{
    size_t bytes = ringx__word_count(c) * sizeof *c->words;
    kept_words *k = c->keeper->kept;
    if (!k) {
        void *memory = NULL;
        uint32_t *zeros = calloc(1, bytes);
        k = calloc(1, sizeof *k);
        ringx_status status = k && zeros ? c->device->alloc(bytes, &memory)
                                         : ringx__fail(RINGX_NO_MEMORY, "no memory for %zu bytes of zeros", bytes);
        if (status == RINGX_OK)
            status = c->device->copy(memory, zeros, bytes);
        free(zeros);
        if (status != RINGX_OK) {
            if (memory)
                c->device->free(memory);
            free(k);
            return status;
        }
        *k = (kept_words){.device = c->device, .words = memory};
        c->keeper->kept = k;
        c->keeper->forget = forget_words;
    }
    c->words = k->words;
    return RINGX_OK;
}

static ringx_status fill_card(ringx_peer *c, void *workspace, card *mine)
{
    RINGX_TRY(make_words(c));
    RINGX_TRY(c->device->peer->share(c->words, &mine->words));
    return workspace ? c->device->peer->share(workspace, &mine->workspace) : RINGX_OK;
}

static ringx_status exchange_cards(ringx_peer *c, void *workspace, card *all, const ringx_call *call)
{
    int rank = c->base.rank;
    card *mine = calloc(1, sizeof *mine);
    if (!mine)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu bytes of a card", sizeof *mine);
    mine->status = (int32_t)fill_card(c, workspace, mine);
    if (mine->status != RINGX_OK)
        ringx__error_take(mine->message, sizeof mine->message);
    ringx_status status = c->inner->ops->agree(c->inner, mine, sizeof *mine, all, call);
    free(mine);
    for (int r = 0; r < c->base.ranks && status == RINGX_OK; r++)
        if (all[r].status != RINGX_OK)
            status = r == rank ? ringx__fail((ringx_status)all[r].status, "%s", all[r].message)
                               : ringx__fail((ringx_status)all[r].status, "rank %d: %s", r, all[r].message);
    return status;
}

static ringx_status open_others(ringx_peer *c, const card *all)
{
    c->shares = false;
    for (int r = 0; r < c->base.ranks; r++) {
        ringx_other *o = &c->others[r];
        void *memory = NULL;
        if (r == c->base.rank || !all[r].workspace.process)
            continue;
        RINGX_TRY(c->device->peer->open(&all[r].words, &memory, &o->opened[1]));
        o->words = memory;
        if (o->words)
            RINGX_TRY(c->device->peer->open(&all[r].workspace, &memory, &o->opened[0]));
        o->workspace = o->words ? memory : NULL;
        c->shares = c->shares || (o->workspace && memcmp(all[r].workspace.unit, all[c->base.rank].workspace.unit,
                                                         sizeof all[r].workspace.unit) == 0);
    }
    return RINGX_OK;
}

/* Two ranks reach each other if each does. */
static ringx_status agree_reach(ringx_peer *c, ringx_status status, const ringx_call *call)
{
    size_t ranks = (size_t)c->base.ranks;
    unsigned char *mine = calloc(ranks, 1), *seen = calloc(ranks, ranks);
    if (mine && seen) {
        for (size_t r = 0; r < ranks && status == RINGX_OK; r++)
            mine[r] = c->others[r].workspace != NULL;
        ringx_status told = c->inner->ops->agree(c->inner, mine, ranks, seen, call);
        status = status == RINGX_OK ? told : status;
        for (size_t i = 0; i < ranks; i++)
            for (size_t j = 0; j < ranks; j++)
                c->reach[i * ranks + j] = seen[i * ranks + j] && seen[j * ranks + i];
    } else {
        status = ringx__fail(RINGX_NO_MEMORY, "no memory for what %zu ranks reach", ranks);
    }
    free(mine);
    free(seen);
    return status;
}

/* Of one rank's list, what is for this one. */
static ringx_status keep_parcels(ringx_peer *c, int from, const ringx_parcel *list, size_t count)
{
    ringx_other *o = &c->others[from];
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += list[i].by == c->base.rank;
    int64_t *at = malloc((n + 1) * sizeof *at);
    if (!at)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a list of %zu transfers", n);
    free(o->offset[0]);
    o->offset[0] = at;
    for (int pass = 0; pass < RINGX_PEER_PASSES; pass++) {
        o->offset[pass] = at;
        o->count[pass] = 0;
        for (size_t i = 0; i < count; i++)
            if (list[i].by == c->base.rank && list[i].pass == pass)
                o->offset[pass][o->count[pass]++] = list[i].offset;
        at += o->count[pass];
    }
    return RINGX_OK;
}

/* Every rank's number of parcels; a rank that could not record fails all. */
static ringx_status count_parcels(ringx_peer *c, int64_t *counts, const ringx_call *call)
{
    int64_t mine = c->status == RINGX_OK ? (int64_t)c->n_parcels : -1;
    RINGX_TRY(c->inner->ops->agree(c->inner, &mine, sizeof mine, counts, call));
    for (int r = 0; r < c->base.ranks; r++)
        if (counts[r] < 0)
            return r == c->base.rank ? c->status
                                     : ringx__fail(RINGX_NO_MEMORY, "rank %d: no memory for a list of transfers", r);
    return RINGX_OK;
}

static ringx_status exchange_parcels(ringx_peer *c, const int64_t *counts, const ringx_call *call)
{
    size_t most = 1, ranks = (size_t)c->base.ranks;
    for (size_t r = 0; r < ranks; r++)
        most = (size_t)counts[r] > most ? (size_t)counts[r] : most;
    ringx_parcel *mine = calloc(most, sizeof *mine), *lists = calloc(ranks * most, sizeof *lists);
    ringx_status status = RINGX_OK;
    if (!mine || !lists)
        status = ringx__fail(RINGX_NO_MEMORY, "no memory for the lists of %zu transfers of %zu ranks", most, ranks);
    if (status == RINGX_OK && c->n_parcels)
        memcpy(mine, c->parcels, c->n_parcels * sizeof *mine);
    if (status == RINGX_OK)
        status = c->inner->ops->agree(c->inner, mine, most * sizeof *mine, lists, call);
    for (size_t r = 0; r < ranks && status == RINGX_OK; r++)
        status = keep_parcels(c, (int)r, lists + r * most, (size_t)counts[r]);
    free(mine);
    free(lists);
    return status;
}

ringx_status ringx__peer_open(ringx_comm *peer, void *workspace, const ringx_call *call)
{
    ringx_peer *c = (ringx_peer *)peer;
    card *all = calloc((size_t)peer->ranks, sizeof *all);
    ringx__peer_detach(c);
    if (!all)
        return ringx__peer_told(c, ringx__fail(RINGX_NO_MEMORY, "no memory for the cards of %d ranks", peer->ranks));
    ringx_status status = exchange_cards(c, workspace, all, call);
    if (status == RINGX_OK)
        status = agree_reach(c, ringx__peer_told(c, open_others(c, all)), call);
    free(all);
    c->n_parcels = 0;
    c->status = RINGX_OK;
    c->recording = status == RINGX_OK;
    c->base_of_record = workspace;
    return status;
}

ringx_status ringx__peer_attach(ringx_comm *peer, const ringx_call *call)
{
    ringx_peer *c = (ringx_peer *)peer;
    int64_t *counts = calloc((size_t)peer->ranks, sizeof *counts);
    c->recording = false;
    if (!counts)
        return ringx__peer_told(
            c, ringx__fail(RINGX_NO_MEMORY, "no memory for the numbers of transfers of %d ranks", peer->ranks));
    ringx_status status = count_parcels(c, counts, call);
    if (status == RINGX_OK)
        status = ringx__peer_told(c, exchange_parcels(c, counts, call));
    free(counts);
    c->attached = status == RINGX_OK;
    return status;
}
