/* SPDX-License-Identifier: MIT */
/* The MPI transport: notes between ranks about failures, and about who is where when a wait has been too long.
 *
 * A rank whose deadline passes asks all others where they are.  Those that wait in a call answer with the ranks they
 * wait for; those that do not answer within a second are not in a call, or dead.  Following who waits for whom from the
 * asking rank ends at those who are late; if it ends nowhere, twice, the calls of the ranks cannot match. */
#include "comm/mpi_wire.h"
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FAILURE = 1, QUESTION, ANSWER };
enum { NOTE_TAG = 1 };

static const double grace_s = 1.0;    /* time to answer */
static const double farewell_s = 1.0; /* longest wait for notes to leave before the end */

static unsigned char *bitmap(ringx_note *note)
{
    return (unsigned char *)(note + 1);
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

static void reap(ringx_mpi *m)
{
    for (ringx_mail **at = &m->mail; *at;) {
        ringx_mail *mail = *at;
        int done = 0;
        if (MPI_Test(&mail->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done) {
            *at = mail->next;
            free(mail);
        } else {
            at = &mail->next;
        }
    }
}

/* Notes are small and leave at once; without memory for one, its receiver finds out by its own deadline. */
static void send_note(ringx_mpi *m, int rank, const ringx_note *note)
{
    size_t bytes = m->note_bytes;
    ringx_mail *mail = malloc(sizeof *mail - sizeof mail->note + bytes);
    if (!mail)
        return;
    memcpy(&mail->note, note, bytes);
    mail->note.from = m->base.rank;
    if (MPI_Isend(&mail->note, (int)bytes, MPI_BYTE, rank, NOTE_TAG, m->control, &mail->request) != MPI_SUCCESS) {
        free(mail);
        return;
    }
    mail->next = m->mail;
    m->mail = mail;
}

static void send_all(ringx_mpi *m, const ringx_note *note)
{
    for (int k = 1; k < m->base.ranks; k++)
        send_note(m, (m->base.rank + k) % m->base.ranks, note);
    reap(m);
}

void ringx__control_fail(ringx_mpi *m, int origin, int culprit, ringx_status status, const char *format, ...)
{
    char message[RINGX_MESSAGE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    if (!ringx__failure_set(&m->failure, origin, culprit, status, message))
        return;
    ringx_note *note = m->outbox;
    memset(note, 0, m->note_bytes);
    note->kind = FAILURE;
    note->origin = origin;
    note->culprit = culprit;
    note->status = (int32_t)m->failure.status;
    snprintf(note->message, sizeof note->message, "%s", message);
    send_all(m, note);
}

void ringx__control_fail_mpi(ringx_mpi *m, int error, int peer, const char *doing)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0, class = error;
    MPI_Error_string(error, text, &length);
    MPI_Error_class(error, &class);
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
    ringx_status status = class == MPI_ERR_TRUNCATE ? RINGX_MISMATCH : RINGX_COMM;
    int culprit = m->base.rank;
#ifdef MPIX_ERR_PROC_FAILED
    if (class == MPIX_ERR_PROC_FAILED) {
        status = RINGX_PEER_DIED;
        culprit = peer;
    }
#endif
    ringx__control_fail(m, status == RINGX_COMM ? culprit : RINGX_ALL_RANKS, culprit, status,
                        "%s: rank %d, %s rank %d: %s", m->what, m->base.rank, doing, peer, text);
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* Sets the bits of ranks that this rank's call waits for. */
static void list_needs(const ringx_mpi *m, unsigned char *bits)
{
    for (size_t i = 0; i < m->n_streams; i++) {
        const ringx_stream *s = &m->streams[i];
        if (s->posted > s->done)
            bits[s->peer / 8] |= (unsigned char)(1u << (s->peer % 8));
    }
}

static void fill_place(const ringx_mpi *m, ringx_note *note)
{
    memset(note, 0, m->note_bytes);
    note->kind = ANSWER;
    note->from = m->base.rank;
    note->waits = m->in_call;
    note->calls = m->calls;
    if (!m->in_call)
        return;
    note->verb = (int32_t)m->verb;
    snprintf(note->what, sizeof note->what, "%s", m->what);
    list_needs(m, bitmap(note));
}

static void keep_answer(ringx_mpi *m, const ringx_note *note)
{
    if (note->round != m->round || note->from < 0 || note->from >= m->base.ranks)
        return;
    ringx_note **slot = &m->answers[note->from];
    if (!*slot)
        *slot = malloc(m->note_bytes);
    if (*slot)
        memcpy(*slot, note, m->note_bytes);
}

static void handle(ringx_mpi *m, const ringx_note *note)
{
    switch (note->kind) {
    case FAILURE:
        ringx__failure_set(&m->failure, note->origin, note->culprit, (ringx_status)note->status, note->message);
        break;
    case QUESTION:
        fill_place(m, m->outbox);
        m->outbox->round = note->round;
        send_note(m, note->from, m->outbox);
        break;
    case ANSWER:
        keep_answer(m, note);
        break;
    }
}

static int listen_again(ringx_mpi *m)
{
    return MPI_Irecv(m->inbox, (int)m->note_bytes, MPI_BYTE, MPI_ANY_SOURCE, NOTE_TAG, m->control, &m->listen);
}

void ringx__control_poll(ringx_mpi *m)
{
    int came = 1, error = MPI_SUCCESS;
    while (came && m->listen != MPI_REQUEST_NULL) {
        error = MPI_Test(&m->listen, &came, MPI_STATUS_IGNORE);
        if (error == MPI_SUCCESS && came) {
            handle(m, m->inbox);
            error = listen_again(m);
        }
        if (error != MPI_SUCCESS) { /* some MPIs report a dead rank here */
            m->listen = MPI_REQUEST_NULL;
            ringx__control_fail_mpi(m, error, m->base.rank, "listening for failures on");
        }
    }
    if (m->mail)
        reap(m);
}

/* ---- blame ------------------------------------------------------------------------------------------------------ */

void ringx__control_ask(ringx_mpi *m)
{
    ringx_note *note = m->outbox;
    memset(note, 0, m->note_bytes);
    note->kind = QUESTION;
    note->round = ++m->round;
    m->asked = ringx__now();
    send_all(m, note);
}

static const ringx_note *answer_of(const ringx_mpi *m, int rank)
{
    const ringx_note *note = m->answers[rank];
    return note && note->round == m->round ? note : NULL;
}

static bool needs(const ringx_note *note, int rank)
{
    return bitmap((ringx_note *)note)[rank / 8] >> (rank % 8) & 1;
}

/* Sets m->flags[r] for those this rank waits for in the end; returns how many, and how many of them are silent.
 * m->flags[ranks + r]: reached. */
static int find_culprits(ringx_mpi *m, int *silent)
{
    int ranks = m->base.ranks, depth = 0, count = 0;
    bool *blame = m->flags, *seen = blame + ranks;
    memset(blame, 0, 2 * (size_t)ranks * sizeof *blame);
    *silent = 0;
    seen[m->base.rank] = true;
    m->stack[depth++] = m->base.rank;
    while (depth > 0) {
        const ringx_note *place = answer_of(m, m->stack[--depth]);
        for (int r = 0; r < ranks; r++) {
            if (seen[r] || !needs(place, r))
                continue;
            seen[r] = true;
            const ringx_note *its = answer_of(m, r);
            if (its && its->waits) {
                m->stack[depth++] = r;
            } else {
                blame[r] = true;
                *silent += !its;
                count++;
            }
        }
    }
    return count;
}

static void fail_late(ringx_mpi *m, double waited_s)
{
    char late[256];
    int culprit = 0;
    while (!m->flags[culprit])
        culprit++;
    ringx__ranks_text(m->flags, m->base.ranks, late, sizeof late);
    ringx__control_fail(m, RINGX_ALL_RANKS, culprit, RINGX_STALLED, "%s: waited %.3g s for %s", m->what, waited_s,
                        late);
}

/* Ranks that all wait: says where, beginning with the lowest. */
static void fail_circle(ringx_mpi *m)
{
    char text[RINGX_MESSAGE_BYTES] = "";
    int n = 0, culprit = -1;
    for (int r = 0; r < m->base.ranks && n >= 0 && (size_t)n < sizeof text - 1; r++) {
        if (!m->flags[m->base.ranks + r])
            continue;
        const ringx_note *place = answer_of(m, r);
        n += snprintf(text + n, sizeof text - (size_t)n, "%srank %d waits in \"%s\" (%s)", culprit < 0 ? "" : "; ", r,
                      place->what, ringx__verb_name((ringx_verb)place->verb));
        culprit = culprit < 0 ? r : culprit;
    }
    ringx__control_fail(m, RINGX_ALL_RANKS, culprit, RINGX_MISMATCH, "ranks make different calls: %s", text);
}

/* All reached ranks wait.  True if they did at the last round, in the same calls. */
static bool circle_stands(ringx_mpi *m)
{
    bool same = m->circle_before;
    for (int r = 0; r < m->base.ranks; r++) {
        const ringx_note *place = m->flags[m->base.ranks + r] ? answer_of(m, r) : NULL;
        uint64_t calls = place ? place->calls : 0;
        same = same && m->before[r] == calls;
        m->before[r] = calls;
    }
    m->circle_before = true;
    return same;
}

void ringx__control_judge(ringx_mpi *m, double waited_s)
{
    int silent, count;
    double since = ringx__now() - m->asked;
    fill_place(m, m->outbox);
    m->outbox->round = m->round;
    keep_answer(m, m->outbox);
    if (!answer_of(m, m->base.rank))
        return;
    count = find_culprits(m, &silent);
    if (silent > 0 && since < grace_s)
        return;
    if (count > 0)
        fail_late(m, waited_s);
    if (count > 0 || since < grace_s / 4) /* the second look is not too soon after the first */
        return;
    if (circle_stands(m)) {
        fail_circle(m);
    } else if (m->patience-- > 0) {
        ringx__control_ask(m);
    } else { /* the others move on and on, without this rank */
        for (int r = 0; r < m->base.ranks; r++)
            m->flags[r] = needs(answer_of(m, m->base.rank), r);
        fail_late(m, waited_s);
    }
}

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

ringx_status ringx__control_open(ringx_mpi *m)
{
    size_t ranks = (size_t)m->base.ranks;
    m->note_bytes = sizeof(ringx_note) + (ranks + 7) / 8;
    m->inbox = malloc(m->note_bytes);
    m->outbox = malloc(m->note_bytes);
    m->answers = calloc(ranks, sizeof *m->answers);
    m->before = calloc(ranks, sizeof *m->before);
    m->flags = calloc(2 * ranks, sizeof *m->flags);
    m->stack = calloc(ranks, sizeof *m->stack);
    if (!m->inbox || !m->outbox || !m->answers || !m->before || !m->flags || !m->stack)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %zu ranks", ranks);
    return RINGX_OK;
}

ringx_status ringx__control_listen(ringx_mpi *m)
{
    if (listen_again(m) != MPI_SUCCESS)
        RINGX_FAIL(RINGX_COMM, "MPI cannot receive on its duplicated communicator");
    return RINGX_OK;
}

void ringx__control_close(ringx_mpi *m, bool mpi_runs)
{
    if (mpi_runs) {
        for (double begin = ringx__now(); m->mail && ringx__now() - begin < farewell_s;) {
            ringx__control_poll(m);
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        }
        int done = 0;
        if (m->listen != MPI_REQUEST_NULL)
            MPI_Cancel(&m->listen);
        for (double begin = ringx__now(); m->listen != MPI_REQUEST_NULL && ringx__now() - begin < farewell_s;)
            MPI_Test(&m->listen, &done, MPI_STATUS_IGNORE);
    }
    bool settled = m->listen == MPI_REQUEST_NULL; /* else MPI may still write to the inbox: it is left to it */
    while (m->mail) {
        ringx_mail *next = m->mail->next;
        if (!mpi_runs)
            free(m->mail);
        m->mail = next;
    }
    for (int r = 0; m->answers && r < m->base.ranks; r++)
        free(m->answers[r]);
    if (settled || !mpi_runs)
        free(m->inbox);
    free(m->outbox);
    free(m->answers);
    free(m->before);
    free(m->flags);
    free(m->stack);
}
