/* SPDX-License-Identifier: MIT */
/* Agreement across ranks: all succeed or all fail, and differences are named. */
#ifndef RINGX_AGREE_H
#define RINGX_AGREE_H

#include "comm/comm.h"

/* A card lists what every rank must have in common, as text. */
enum { RINGX_CARD_FIELDS = 40, RINGX_CARD_TEXT = 40 };

typedef struct ringx_card {
    int32_t status;
    int32_t fields;
    int64_t number; /* the largest over ranks comes back: e.g. slices */
    char message[256];
    char name[RINGX_CARD_FIELDS][24];
    char value[RINGX_CARD_FIELDS][RINGX_CARD_TEXT];
} ringx_card;

void ringx__card_begin(ringx_card *card, ringx_status status);
void ringx__card_text(ringx_card *card, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Collective.  If any rank's status is not RINGX_OK, all ranks fail with the lowest such rank's status and message; if
 * a field differs, all fail with RINGX_MISMATCH naming the rank, the field and both values.  largest may be NULL. */
ringx_status ringx__agree(ringx_comm *comm, const ringx_card *card, const char *what, double deadline_s,
                          int64_t *largest);

/* Collective.  The same for a status alone, and the largest of a number over ranks (may be NULL). */
ringx_status ringx__agree_status(ringx_comm *comm, ringx_status status, const char *what, double deadline_s,
                                 int64_t number, int64_t *largest);

/* Tells the other ranks, which would wait for this one, of this thread's last error; returns status. */
ringx_status ringx__tell(ringx_comm *comm, ringx_status status);

/* 64-bit FNV-1a, for digests of arrays and schedules. */
uint64_t ringx__digest(uint64_t seed, const void *data, size_t bytes);

#endif
