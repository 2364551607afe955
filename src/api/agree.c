/* SPDX-License-Identifier: MIT */
/* Agreement: ranks exchange cards of named values and compare them field by field. */
#include "api/agree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t ringx__digest(uint64_t seed, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint64_t h = seed ? seed : UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

void ringx__card_begin(ringx_card *card, ringx_status status)
{
    memset(card, 0, sizeof *card);
    card->status = (int32_t)status;
    if (status != RINGX_OK)
        snprintf(card->message, sizeof card->message, "%.*s", (int)sizeof card->message - 1, ringx_last_error());
}

void ringx__card_text(ringx_card *card, const char *name, const char *format, ...)
{
    if (card->fields == RINGX_CARD_FIELDS)
        return;
    va_list list;
    va_start(list, format);
    snprintf(card->name[card->fields], sizeof card->name[0], "%s", name);
    vsnprintf(card->value[card->fields], sizeof card->value[0], format, list);
    va_end(list);
    card->fields++;
}

/* Index of the rank whose value most ranks share. */
static int common(const ringx_card *all, int ranks, int field)
{
    int best = 0, best_count = 0;
    for (int i = 0; i < ranks && best_count <= ranks / 2; i++) {
        int count = 0;
        for (int j = 0; j < ranks; j++)
            count += strcmp(all[i].value[field], all[j].value[field]) == 0;
        if (count > best_count) {
            best_count = count;
            best = i;
        }
    }
    return best;
}

static ringx_status compare(const ringx_card *all, int ranks, const char *what)
{
    for (int field = 0; field < all[0].fields; field++) {
        int same = 1;
        while (same < ranks && strcmp(all[same].value[field], all[0].value[field]) == 0)
            same++;
        if (same == ranks)
            continue;
        int usual = common(all, ranks, field), odd = 0;
        while (strcmp(all[odd].value[field], all[usual].value[field]) == 0)
            odd++;
        RINGX_FAIL(RINGX_MISMATCH, "%s: %s: rank %d passed %s, rank %d passed %s; all ranks must pass the same", what,
                   all[0].name[field], odd, all[odd].value[field], usual, all[usual].value[field]);
    }
    return RINGX_OK;
}

ringx_status ringx__tell(ringx_comm *comm, ringx_status status)
{
    char message[RINGX_MESSAGE_BYTES];
    ringx__error_take(message, sizeof message);
    if (comm->ranks > 1)
        comm->ops->abort(comm, comm->rank, status, message);
    ringx__error_put(message);
    return status;
}

ringx_status ringx__agree(ringx_comm *comm, const ringx_card *card, const char *what, double deadline_s,
                          int64_t *largest)
{
    ringx_call call = {.what = what, .deadline_s = deadline_s};
    ringx_card *all = malloc((size_t)comm->ranks * sizeof *all);
    if (!all)
        return ringx__tell(comm, ringx__fail(RINGX_NO_MEMORY, "no memory for the arguments of %d ranks", comm->ranks));
    ringx_status status = comm->ops->agree(comm, card, sizeof *card, all, &call);
    for (int r = 0; r < comm->ranks && status == RINGX_OK; r++)
        if (all[r].status != RINGX_OK)
            status = comm->ranks > 1 ? ringx__fail((ringx_status)all[r].status, "rank %d: %s", r, all[r].message)
                                     : ringx__fail((ringx_status)all[r].status, "%s", all[r].message);
    if (status == RINGX_OK)
        status = compare(all, comm->ranks, what);
    if (status == RINGX_OK && largest) {
        *largest = all[0].number;
        for (int r = 1; r < comm->ranks; r++)
            *largest = all[r].number > *largest ? all[r].number : *largest;
    }
    free(all);
    return status;
}

ringx_status ringx__agree_status(ringx_comm *comm, ringx_status status, const char *what, double deadline_s,
                                 int64_t number, int64_t *largest)
{
    ringx_card card;
    ringx__card_begin(&card, status);
    card.number = number;
    return ringx__agree(comm, &card, what, deadline_s, largest);
}
