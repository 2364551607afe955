/* SPDX-License-Identifier: MIT */
/* The MPI transport: streams, and the loop that moves them. */
#include "comm/mpi_wire.h"
#include "device/device.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

size_t ringx__mpi_cut = (size_t)1 << 30;
size_t ringx__mpi_small = (size_t)64 << 10;

static const int most_rounds = 40;   /* of asking where the others are */
static const double give_up_s = 0.2; /* longest wait for requests of a failed call */

/* ---- streams ---------------------------------------------------------------------------------------------------- */

static bool grow(ringx_mpi *m, size_t streams)
{
    size_t requests = streams * RINGX_STREAM_WIDTH;
    if (streams <= m->capacity)
        return true;
    void *s = realloc(m->streams, streams * sizeof *m->streams);
    if (s)
        m->streams = s;
    void *r = realloc(m->requests, requests * sizeof *m->requests);
    if (r)
        m->requests = r;
    if (!s || !r)
        return false;
    m->capacity = streams;
    return true;
}

ringx_status ringx__wire_begin(ringx_mpi *m, ringx_verb verb, const ringx_call *call, size_t streams)
{
    pthread_mutex_lock(&m->lock);
    ringx_status status = ringx__failure_report(&m->failure, m->base.rank);
    if (status == RINGX_OK && !grow(m, streams)) {
        ringx__control_fail(m, m->base.rank, m->base.rank, RINGX_NO_MEMORY, "%s: no memory for %zu messages",
                            ringx__call_what(call, verb), streams);
        status = ringx__failure_report(&m->failure, m->base.rank);
    }
    m->verb = verb;
    snprintf(m->what, sizeof m->what, "%s", ringx__call_what(call, verb));
    m->n_streams = m->unfinished = 0;
    m->calls++;
    pthread_mutex_unlock(&m->lock);
    return status;
}

ringx_status ringx__wire_refuse(ringx_mpi *m, ringx_status status)
{
    char message[RINGX_MESSAGE_BYTES];
    ringx__error_take(message, sizeof message);
    m->base.ops->abort(&m->base, m->base.rank, status, message);
    return m->base.ops->poll(&m->base);
}

size_t ringx__wire_add(ringx_mpi *m, bool send, int peer, int tag, const void *data, size_t bytes, size_t segment,
                       size_t ready)
{
    if (bytes == 0 || peer == m->base.rank)
        return RINGX_NO_STREAM;
    if (segment == 0 || segment > ringx__mpi_cut)
        segment = ringx__mpi_cut;
    size_t i = m->n_streams++;
    m->streams[i] = (ringx_stream){.peer = peer,
                                   .tag = tag,
                                   .send = send,
                                   .data = (unsigned char *)data,
                                   .bytes = bytes,
                                   .segment = segment,
                                   .ring = SIZE_MAX,
                                   .segments = (bytes - 1) / segment + 1,
                                   .ready = ready};
    for (size_t k = 0; k < RINGX_STREAM_WIDTH; k++)
        m->requests[i * RINGX_STREAM_WIDTH + k] = MPI_REQUEST_NULL;
    m->unfinished++;
    return i;
}

int ringx__wire_tag(const ringx_mpi *m, const ringx_group *group, int kind)
{
    const uint64_t calls = 1024; /* exchanges have the tags below 8192; all are below the smallest MPI_TAG_UB */
    uint64_t call = (group->number + 977 * (uint64_t)group->id) % calls;
    return (int)(8192 + (call * RINGX_VERBS + (uint64_t)m->verb) * 2) + kind;
}

/* ---- posting and testing ---------------------------------------------------------------------------------------- */

static size_t segment_bytes(const ringx_stream *s, size_t i)
{
    return i + 1 == s->segments ? s->bytes - i * s->segment : s->segment;
}

static void post(ringx_mpi *m, size_t index)
{
    ringx_stream *s = &m->streams[index];
    while (s->posted < s->segments && s->posted < s->ready && s->posted - s->done < RINGX_STREAM_WIDTH) {
        size_t slot = s->posted % RINGX_STREAM_WIDTH;
        unsigned char *data = s->data + s->posted % s->ring * s->segment;
        int bytes = (int)segment_bytes(s, s->posted);
        MPI_Request *request = &m->requests[index * RINGX_STREAM_WIDTH + slot];
        int error = s->send ? MPI_Isend(data, bytes, MPI_BYTE, s->peer, s->tag, m->data, request)
                            : MPI_Irecv(data, bytes, MPI_BYTE, s->peer, s->tag, m->data, request);
        if (error != MPI_SUCCESS) {
            *request = MPI_REQUEST_NULL;
            ringx__control_fail_mpi(m, error, s->peer, s->send ? "sending to" : "receiving from");
            return;
        }
        s->finished[slot] = false;
        s->posted++;
    }
}

static void post_all(ringx_mpi *m)
{
    for (size_t i = 0; i < m->n_streams && m->failure.status == RINGX_OK; i++)
        post(m, i);
}

/* A request is done: is what came what was expected? */
static void finish(ringx_mpi *m, size_t request, const MPI_Status *status, int error)
{
    size_t index = request / RINGX_STREAM_WIDTH, slot = request % RINGX_STREAM_WIDTH;
    ringx_stream *s = &m->streams[index];
    size_t segment = s->done;
    while (segment % RINGX_STREAM_WIDTH != slot)
        segment++;
    if (error != MPI_SUCCESS) {
        ringx__control_fail_mpi(m, error, s->peer, s->send ? "sending to" : "receiving from");
        return;
    }
    int got = 0;
    if (!s->send)
        MPI_Get_count(status, MPI_BYTE, &got);
    if (!s->send && (size_t)got != segment_bytes(s, segment)) {
        ringx__control_fail(m, RINGX_ALL_RANKS, s->peer, RINGX_MISMATCH,
                            "%s: rank %d expects %zu bytes from rank %d, which sends %d", m->what, m->base.rank,
                            segment_bytes(s, segment), s->peer, got);
        return;
    }
    s->finished[slot] = true;
    while (s->done < s->posted && s->finished[s->done % RINGX_STREAM_WIDTH]) {
        s->finished[s->done % RINGX_STREAM_WIDTH] = false;
        s->done++;
    }
    if (s->done == s->segments)
        m->unfinished--;
}

/* Returns whether any request was done. */
static bool test(ringx_mpi *m)
{
    bool any = false;
    for (size_t k = 0; k < m->n_streams * RINGX_STREAM_WIDTH; k++) {
        int done = 0;
        MPI_Status status;
        if (m->requests[k] == MPI_REQUEST_NULL)
            continue;
        int error = MPI_Test(&m->requests[k], &done, &status);
        if (error == MPI_SUCCESS && !done)
            continue;
        finish(m, k, &status, error);
        if (m->failure.status != RINGX_OK)
            return true;
        any = true;
    }
    return any;
}

/* After a failure: receives are cancelled so that nothing is written any more; what cannot be had back is let go. */
static void abandon(ringx_mpi *m)
{
    size_t requests = m->n_streams * RINGX_STREAM_WIDTH;
    int left = 1, done;
    for (size_t k = 0; k < requests; k++)
        if (m->requests[k] != MPI_REQUEST_NULL && !m->streams[k / RINGX_STREAM_WIDTH].send)
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

/* ---- the loop --------------------------------------------------------------------------------------------------- */

double ringx__wire_pause(double idle_s)
{
    const double spin = 20e-6, shortest = 10e-6, longest = 200e-6;
    if (idle_s < spin)
        return 0;
    double pause = idle_s / 8;
    return pause < shortest ? shortest : pause > longest ? longest : pause;
}

static void rest(double seconds)
{
    struct timespec t = {.tv_nsec = (long)(seconds * 1e9)};
    if (seconds > 0)
        nanosleep(&t, NULL);
    else
        sched_yield();
}

static ringx_status end(ringx_mpi *m)
{
    if (m->failure.status != RINGX_OK)
        abandon(m);
    m->in_call = false;
    m->n_streams = 0;
    ringx_status status = ringx__failure_report(&m->failure, m->base.rank);
    ringx__errors_restore();
    pthread_mutex_unlock(&m->lock);
    return status;
}

ringx_status ringx__wire_run(ringx_mpi *m, const ringx_call *call, void (*moved)(ringx_mpi *, void *), void *context)
{
    double begin = ringx__now(), busy = begin, limit = ringx__call_seconds(call);
    bool asked = false;
    pthread_mutex_lock(&m->lock);
    ringx__errors_return();
    m->in_call = true;
    m->circle_before = false;
    m->patience = most_rounds;
    post_all(m);
    for (;;) {
        ringx__control_poll(m);
        bool any = m->failure.status == RINGX_OK && test(m);
        if (any && m->failure.status == RINGX_OK) {
            if (moved)
                moved(m, context);
            post_all(m);
        }
        if (m->unfinished == 0 || m->failure.status != RINGX_OK)
            return end(m);
        double now = ringx__now();
        if (any)
            busy = now;
        if (now - begin > limit && !asked) {
            ringx__control_ask(m);
            asked = true;
        } else if (asked) {
            ringx__control_judge(m, now - begin);
        }
        pthread_mutex_unlock(&m->lock);
        if (!any)
            rest(ringx__wire_pause(now - busy));
        pthread_mutex_lock(&m->lock);
    }
}
