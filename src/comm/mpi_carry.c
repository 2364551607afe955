/* SPDX-License-Identifier: MIT */
/* The MPI transport: segments and notes are MPI's messages. */
#include "comm/mpi_carry.h"
#include "device/device.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NOTE_TAG = 1 };

static const double give_up_s = 0.2;  /* longest wait for requests of a failed call */
static const double farewell_s = 1.0; /* longest wait for notes to leave before the end */

void ringx__mpi_fail(ringx_mpi *m, int error, int peer, const char *doing)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0, class = error;
    MPI_Error_string(error, text, &length);
    MPI_Error_class(error, &class);
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
    ringx_status status = class == MPI_ERR_TRUNCATE ? RINGX_MISMATCH : RINGX_COMM;
    int culprit = m->wire.base.rank;
#ifdef MPIX_ERR_PROC_FAILED
    if (class == MPIX_ERR_PROC_FAILED) {
        status = RINGX_PEER_DIED;
        culprit = peer;
    }
#endif
    ringx__control_fail(&m->wire, status == RINGX_COMM ? culprit : RINGX_ALL_RANKS, culprit, status,
                        "%s: rank %d, %s rank %d: %s", m->wire.what, m->wire.base.rank, doing, peer, text);
}

static void fail_stream(ringx_mpi *m, int error, const ringx_stream *s)
{
    ringx__mpi_fail(m, error, s->peer, s->send ? "sending to" : "receiving from");
}

/* ---- segments --------------------------------------------------------------------------------------------------- */

/* Requests of a call that has ended are null. */
static bool grow(ringx_wire *w, size_t streams)
{
    ringx_mpi *m = (ringx_mpi *)w;
    size_t room = streams * RINGX_STREAM_WIDTH;
    MPI_Request *requests = realloc(m->requests, room * sizeof *requests);
    if (!requests)
        return false;
    m->requests = requests;
    while (m->room < room)
        m->requests[m->room++] = MPI_REQUEST_NULL;
    return true;
}

static bool post(ringx_wire *w, size_t index, size_t segment)
{
    ringx_mpi *m = (ringx_mpi *)w;
    const ringx_stream *s = &w->streams[index];
    unsigned char *data = ringx__segment_data(s, segment);
    int bytes = (int)ringx__segment_bytes(s, segment);
    MPI_Request *request = &m->requests[index * RINGX_STREAM_WIDTH + segment % RINGX_STREAM_WIDTH];
    int error = s->send ? MPI_Isend(data, bytes, MPI_BYTE, s->peer, s->tag, m->data, request)
                        : MPI_Irecv(data, bytes, MPI_BYTE, s->peer, s->tag, m->data, request);
    if (error == MPI_SUCCESS)
        return true;
    *request = MPI_REQUEST_NULL;
    fail_stream(m, error, s);
    return false;
}

static void finish(ringx_mpi *m, size_t request, const MPI_Status *status, int error)
{
    size_t index = request / RINGX_STREAM_WIDTH, slot = request % RINGX_STREAM_WIDTH;
    const ringx_stream *s = &m->wire.streams[index];
    size_t segment = s->done;
    while (segment % RINGX_STREAM_WIDTH != slot)
        segment++;
    if (error != MPI_SUCCESS) {
        fail_stream(m, error, s);
        return;
    }
    int got = 0;
    if (!s->send)
        MPI_Get_count(status, MPI_BYTE, &got);
    ringx__wire_finish(&m->wire, index, segment, (size_t)got);
}

static bool test(ringx_wire *w)
{
    ringx_mpi *m = (ringx_mpi *)w;
    bool any = false;
    for (size_t k = 0; k < w->n_streams * RINGX_STREAM_WIDTH; k++) {
        int done = 0;
        MPI_Status status;
        if (m->requests[k] == MPI_REQUEST_NULL)
            continue;
        int error = MPI_Test(&m->requests[k], &done, &status);
        if (error == MPI_SUCCESS && !done)
            continue;
        finish(m, k, &status, error);
        if (w->failure.status != RINGX_OK)
            return true;
        any = true;
    }
    return any;
}

/* Receives are cancelled so that nothing is written any more; what cannot be had back is let go. */
static void abandon(ringx_wire *w)
{
    ringx_mpi *m = (ringx_mpi *)w;
    size_t requests = w->n_streams * RINGX_STREAM_WIDTH;
    int left = 1, done;
    for (size_t k = 0; k < requests; k++)
        if (m->requests[k] != MPI_REQUEST_NULL && !w->streams[k / RINGX_STREAM_WIDTH].send)
            MPI_Cancel(&m->requests[k]);
    for (double begin = ringx__now(); left && ringx__now() - begin < give_up_s;) {
        left = 0;
        for (size_t k = 0; k < requests; k++)
            if (m->requests[k] != MPI_REQUEST_NULL)
                left += MPI_Test(&m->requests[k], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done;
    }
    for (size_t k = 0; k < requests; k++)
        if (m->requests[k] != MPI_REQUEST_NULL)
            MPI_Request_free(&m->requests[k]);
}

static void rest(ringx_wire *w, double seconds)
{
    (void)w;
    ringx__wire_rest(seconds);
}

/* ---- notes ------------------------------------------------------------------------------------------------------ */

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

/* Notes are small and leave at once. */
static void send_note(ringx_wire *w, int rank, const ringx_note *note)
{
    ringx_mpi *m = (ringx_mpi *)w;
    size_t bytes = w->note_bytes;
    ringx_mail *mail = malloc(sizeof *mail - sizeof mail->note + bytes);
    if (!mail)
        return;
    memcpy(&mail->note, note, bytes);
    mail->note.from = w->base.rank;
    if (MPI_Isend(&mail->note, (int)bytes, MPI_BYTE, rank, NOTE_TAG, m->control, &mail->request) != MPI_SUCCESS) {
        free(mail);
        return;
    }
    mail->next = m->mail;
    m->mail = mail;
    reap(m);
}

static int listen_again(ringx_mpi *m)
{
    return MPI_Irecv(m->inbox, (int)m->wire.note_bytes, MPI_BYTE, MPI_ANY_SOURCE, NOTE_TAG, m->control, &m->listen);
}

static void take_notes(ringx_wire *w)
{
    ringx_mpi *m = (ringx_mpi *)w;
    int came = 1, error = MPI_SUCCESS;
    while (came && m->listen != MPI_REQUEST_NULL) {
        error = MPI_Test(&m->listen, &came, MPI_STATUS_IGNORE);
        if (error == MPI_SUCCESS && came) {
            ringx__control_handle(w, m->inbox);
            error = listen_again(m);
        }
        if (error != MPI_SUCCESS) { /* some MPIs report a dead rank here */
            m->listen = MPI_REQUEST_NULL;
            ringx__mpi_fail(m, error, w->base.rank, "listening for failures on");
        }
    }
    if (m->mail)
        reap(m);
}

ringx_status ringx__mpi_listen(ringx_mpi *m)
{
    m->inbox = malloc(m->wire.note_bytes);
    if (!m->inbox)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a note of %zu bytes", m->wire.note_bytes);
    if (listen_again(m) != MPI_SUCCESS)
        RINGX_FAIL(RINGX_COMM, "MPI cannot receive on its duplicated communicator");
    return RINGX_OK;
}

void ringx__mpi_hang_up(ringx_mpi *m, bool mpi_runs)
{
    if (mpi_runs) {
        for (double begin = ringx__now(); m->mail && ringx__now() - begin < farewell_s;) {
            ringx__control_poll(&m->wire);
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
    if (settled || !mpi_runs)
        free(m->inbox);
    free(m->requests);
}

const ringx_carrier ringx__carrier_mpi = {
    .enter = ringx__errors_return,
    .leave = ringx__errors_restore,
    .grow = grow,
    .post = post,
    .test = test,
    .abandon = abandon,
    .rest = rest,
    .send_note = send_note,
    .take_notes = take_notes,
};
