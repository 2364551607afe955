/* SPDX-License-Identifier: MIT */
/* Ranks that send messages: notes between ranks about failures, and about who is where when a wait has been too long.
 *
 * A rank whose deadline passes asks all others where they are.  Those that wait in a call answer with the ranks they
 * wait for; those that do not answer within a second are not in a call, or dead.  Following who waits for whom from the
 * asking rank ends at those who are late; if it ends nowhere, twice, the calls of the ranks cannot match. */
#include "comm/wire.h"
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILURE = 1, QUESTION, ANSWER };

static const double grace_s = 1.0; /* time to answer */

static unsigned char *bitmap(ringx_note *note)
{
    return (unsigned char *)(note + 1);
}

/* ---- telling ---------------------------------------------------------------------------------------------------- */

static void send_all(ringx_wire *w, const ringx_note *note)
{
    for (int k = 1; k < w->base.ranks; k++)
        w->carrier->send_note(w, (w->base.rank + k) % w->base.ranks, note);
}

void ringx__control_tell(ringx_wire *w)
{
    ringx_note *note = w->outbox;
    memset(note, 0, w->note_bytes);
    note->kind = FAILURE;
    note->origin = w->failure.origin;
    note->culprit = w->failure.culprit;
    note->status = (int32_t)w->failure.status;
    snprintf(note->message, sizeof note->message, "%s", w->failure.message);
    send_all(w, note);
}

void ringx__control_fail(ringx_wire *w, int origin, int culprit, ringx_status status, const char *format, ...)
{
    char message[RINGX_MESSAGE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    if (ringx__failure_set(&w->failure, origin, culprit, status, message))
        ringx__control_tell(w);
}

/* ---- hearing ---------------------------------------------------------------------------------------------------- */

/* Sets the bits of ranks that this rank's call waits for. */
static void list_needs(const ringx_wire *w, unsigned char *bits)
{
    for (size_t i = 0; i < w->n_streams; i++) {
        const ringx_stream *s = &w->streams[i];
        if (s->posted > s->done)
            bits[s->peer / 8] |= (unsigned char)(1u << (s->peer % 8));
    }
}

static void fill_place(const ringx_wire *w, ringx_note *note)
{
    memset(note, 0, w->note_bytes);
    note->kind = ANSWER;
    note->from = w->base.rank;
    note->waits = w->in_call;
    note->calls = w->calls;
    if (!w->in_call)
        return;
    note->verb = (int32_t)w->verb;
    snprintf(note->what, sizeof note->what, "%s", w->what);
    list_needs(w, bitmap(note));
}

static void keep_answer(ringx_wire *w, const ringx_note *note)
{
    if (note->round != w->round || note->from < 0 || note->from >= w->base.ranks)
        return;
    ringx_note **slot = &w->answers[note->from];
    if (!*slot)
        *slot = malloc(w->note_bytes);
    if (*slot)
        memcpy(*slot, note, w->note_bytes);
}

void ringx__control_handle(ringx_wire *w, const ringx_note *note)
{
    switch (note->kind) {
    case FAILURE:
        ringx__failure_set(&w->failure, note->origin, note->culprit, (ringx_status)note->status, note->message);
        break;
    case QUESTION:
        fill_place(w, w->outbox);
        w->outbox->round = note->round;
        w->carrier->send_note(w, note->from, w->outbox);
        break;
    case ANSWER:
        keep_answer(w, note);
        break;
    }
}

void ringx__control_poll(ringx_wire *w)
{
    w->carrier->take_notes(w);
}

/* ---- blame ------------------------------------------------------------------------------------------------------ */

void ringx__control_ask(ringx_wire *w)
{
    ringx_note *note = w->outbox;
    memset(note, 0, w->note_bytes);
    note->kind = QUESTION;
    note->round = ++w->round;
    w->asked = ringx__now();
    send_all(w, note);
}

static const ringx_note *answer_of(const ringx_wire *w, int rank)
{
    const ringx_note *note = w->answers[rank];
    return note && note->round == w->round ? note : NULL;
}

static bool needs(const ringx_note *note, int rank)
{
    return bitmap((ringx_note *)note)[rank / 8] >> (rank % 8) & 1;
}

/* Sets w->flags[r] for those this rank waits for in the end; returns how many, and how many of them are silent.
 * w->flags[ranks + r]: reached. */
static int find_culprits(ringx_wire *w, int *silent)
{
    int ranks = w->base.ranks, depth = 0, count = 0;
    bool *blame = w->flags, *seen = blame + ranks;
    memset(blame, 0, 2 * (size_t)ranks * sizeof *blame);
    *silent = 0;
    seen[w->base.rank] = true;
    w->stack[depth++] = w->base.rank;
    while (depth > 0) {
        const ringx_note *place = answer_of(w, w->stack[--depth]);
        for (int r = 0; r < ranks; r++) {
            if (seen[r] || !needs(place, r))
                continue;
            seen[r] = true;
            const ringx_note *its = answer_of(w, r);
            if (its && its->waits) {
                w->stack[depth++] = r;
            } else {
                blame[r] = true;
                *silent += !its;
                count++;
            }
        }
    }
    return count;
}

static void fail_late(ringx_wire *w, double waited_s)
{
    char late[256];
    int culprit = 0;
    while (!w->flags[culprit])
        culprit++;
    ringx__ranks_text(w->flags, w->base.ranks, late, sizeof late);
    ringx__control_fail(w, RINGX_ALL_RANKS, culprit, RINGX_STALLED, "%s: waited %.3g s for %s", w->what, waited_s,
                        late);
}

/* Ranks that all wait: says where, beginning with the lowest. */
static void fail_circle(ringx_wire *w)
{
    char text[RINGX_MESSAGE_BYTES] = "";
    int n = 0, culprit = -1;
    for (int r = 0; r < w->base.ranks && n >= 0 && (size_t)n < sizeof text - 1; r++) {
        if (!w->flags[w->base.ranks + r])
            continue;
        const ringx_note *place = answer_of(w, r);
        n += snprintf(text + n, sizeof text - (size_t)n, "%srank %d waits in \"%s\" (%s)", culprit < 0 ? "" : "; ", r,
                      place->what, ringx__verb_name((ringx_verb)place->verb));
        culprit = culprit < 0 ? r : culprit;
    }
    ringx__control_fail(w, RINGX_ALL_RANKS, culprit, RINGX_MISMATCH, "ranks make different calls: %s", text);
}

/* All reached ranks wait.  True if they did at the last round, in the same calls. */
static bool circle_stands(ringx_wire *w)
{
    bool same = w->circle_before;
    for (int r = 0; r < w->base.ranks; r++) {
        const ringx_note *place = w->flags[w->base.ranks + r] ? answer_of(w, r) : NULL;
        uint64_t calls = place ? place->calls : 0;
        same = same && w->before[r] == calls;
        w->before[r] = calls;
    }
    w->circle_before = true;
    return same;
}

void ringx__control_judge(ringx_wire *w, double waited_s)
{
    int silent, count;
    double since = ringx__now() - w->asked;
    fill_place(w, w->outbox);
    w->outbox->round = w->round;
    keep_answer(w, w->outbox);
    if (!answer_of(w, w->base.rank))
        return;
    count = find_culprits(w, &silent);
    if (silent > 0 && since < grace_s)
        return;
    if (count > 0)
        fail_late(w, waited_s);
    if (count > 0 || since < grace_s / 4) /* the second look is not too soon after the first */
        return;
    if (circle_stands(w)) {
        fail_circle(w);
    } else if (w->patience-- > 0) {
        ringx__control_ask(w);
    } else { /* the others move on and on, without this rank */
        for (int r = 0; r < w->base.ranks; r++)
            w->flags[r] = needs(answer_of(w, w->base.rank), r);
        fail_late(w, waited_s);
    }
}

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

ringx_status ringx__control_open(ringx_wire *w)
{
    size_t ranks = (size_t)w->base.ranks;
    w->note_bytes = sizeof(ringx_note) + (ranks + 7) / 8;
    w->outbox = malloc(w->note_bytes);
    w->answers = calloc(ranks, sizeof *w->answers);
    w->before = calloc(ranks, sizeof *w->before);
    w->flags = calloc(2 * ranks, sizeof *w->flags);
    w->stack = calloc(ranks, sizeof *w->stack);
    if (!w->outbox || !w->answers || !w->before || !w->flags || !w->stack)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %zu ranks", ranks);
    return RINGX_OK;
}

void ringx__control_close(ringx_wire *w)
{
    for (int r = 0; w->answers && r < w->base.ranks; r++)
        free(w->answers[r]);
    free(w->outbox);
    free(w->answers);
    free(w->before);
    free(w->flags);
    free(w->stack);
}
