/* SPDX-License-Identifier: MIT */
/* Ranks that send messages: streams, and the loop that moves them. */
#include "comm/wire.h"
#include "device/device.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

size_t ringx__wire_cut = (size_t)1 << 30;
size_t ringx__wire_small = (size_t)64 << 10;

static const int most_rounds = 40; /* of asking where the others are */

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

ringx_status ringx__wire_open(ringx_wire *w, const ringx_carrier *carrier)
{
    size_t ranks = (size_t)w->base.ranks;
    w->carrier = carrier;
    pthread_mutex_init(&w->lock, NULL);
    w->all = malloc(sizeof *w->all + ranks * sizeof *w->all->rank_of);
    w->scratch = malloc(ringx__fold_scratch(w->base.ranks));
    w->sent = calloc(2 * ranks, sizeof *w->sent);
    w->sizes = calloc(6 * ranks, sizeof *w->sizes);
    w->sources = calloc(ranks, sizeof *w->sources);
    if (!w->all || !w->scratch || !w->sent || !w->sizes || !w->sources)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %zu ranks", ranks);
    w->received = w->sent + ranks;
    w->offsets = w->sizes + ranks;
    w->places = w->offsets + ranks;
    *w->all = (ringx_group){.members = w->base.ranks, .index_of_me = w->base.rank};
    for (int r = 0; r < w->base.ranks; r++)
        w->all->rank_of[r] = r;
    return ringx__control_open(w);
}

void ringx__wire_close(ringx_wire *w)
{
    ringx__control_close(w);
    pthread_mutex_destroy(&w->lock);
    free(w->all);
    free(w->scratch);
    free(w->sent);
    free(w->sizes);
    free(w->sources);
    free(w->streams);
}

/* ---- streams ---------------------------------------------------------------------------------------------------- */

static bool grow(ringx_wire *w, size_t streams)
{
    if (streams <= w->capacity)
        return true;
    void *s = realloc(w->streams, streams * sizeof *w->streams);
    if (s)
        w->streams = s;
    if (!s || (w->carrier->grow && !w->carrier->grow(w, streams)))
        return false;
    w->capacity = streams;
    return true;
}

ringx_status ringx__wire_begin(ringx_wire *w, ringx_verb verb, const ringx_call *call, size_t streams)
{
    pthread_mutex_lock(&w->lock);
    ringx_status status = ringx__failure_report(&w->failure, w->base.rank);
    if (status == RINGX_OK && !grow(w, streams)) {
        ringx__control_fail(w, w->base.rank, w->base.rank, RINGX_NO_MEMORY, "%s: no memory for %zu messages",
                            ringx__call_what(call, verb), streams);
        status = ringx__failure_report(&w->failure, w->base.rank);
    }
    w->verb = verb;
    snprintf(w->what, sizeof w->what, "%s", ringx__call_what(call, verb));
    w->n_streams = w->unfinished = 0;
    w->calls++;
    pthread_mutex_unlock(&w->lock);
    return status;
}

ringx_status ringx__wire_refuse(ringx_wire *w, ringx_status status)
{
    char message[RINGX_MESSAGE_BYTES];
    ringx__error_take(message, sizeof message);
    w->base.ops->abort(&w->base, w->base.rank, status, message);
    return w->base.ops->poll(&w->base);
}

size_t ringx__wire_add(ringx_wire *w, bool send, int peer, int tag, const void *data, size_t bytes, size_t segment,
                       size_t ready)
{
    if (bytes == 0 || peer == w->base.rank)
        return RINGX_NO_STREAM;
    if (segment == 0 || segment > ringx__wire_cut)
        segment = ringx__wire_cut;
    size_t i = w->n_streams++;
    w->streams[i] = (ringx_stream){.peer = peer,
                                   .tag = tag,
                                   .send = send,
                                   .data = (unsigned char *)data,
                                   .bytes = bytes,
                                   .segment = segment,
                                   .ring = SIZE_MAX,
                                   .segments = (bytes - 1) / segment + 1,
                                   .ready = ready};
    w->unfinished++;
    return i;
}

int ringx__wire_tag(const ringx_wire *w, const ringx_group *group, int kind)
{
    const uint64_t calls = 1024; /* exchanges have the tags below 8192; all are below the smallest MPI_TAG_UB */
    uint64_t call = (group->number + 977 * (uint64_t)group->id) % calls;
    return (int)(8192 + (call * RINGX_VERBS + (uint64_t)w->verb) * 2) + kind;
}

unsigned char *ringx__segment_data(const ringx_stream *s, size_t segment)
{
    return s->data + segment % s->ring * s->segment;
}

size_t ringx__segment_bytes(const ringx_stream *s, size_t segment)
{
    return segment + 1 == s->segments ? s->bytes - segment * s->segment : s->segment;
}

/* ---- posting and finishing -------------------------------------------------------------------------------------- */

static void post(ringx_wire *w, size_t index)
{
    ringx_stream *s = &w->streams[index];
    while (s->posted < s->segments && s->posted < s->ready && s->posted - s->done < RINGX_STREAM_WIDTH) {
        if (!w->carrier->post(w, index, s->posted))
            return;
        s->finished[s->posted % RINGX_STREAM_WIDTH] = false;
        s->posted++;
    }
}

static void post_all(ringx_wire *w)
{
    for (size_t i = 0; i < w->n_streams && w->failure.status == RINGX_OK; i++)
        post(w, i);
}

/* Is what came what was expected? */
void ringx__wire_finish(ringx_wire *w, size_t index, size_t segment, size_t got)
{
    ringx_stream *s = &w->streams[index];
    if (!s->send && got != ringx__segment_bytes(s, segment)) {
        ringx__control_fail(w, RINGX_ALL_RANKS, s->peer, RINGX_MISMATCH,
                            "%s: rank %d expects %zu bytes from rank %d, which sends %zu", w->what, w->base.rank,
                            ringx__segment_bytes(s, segment), s->peer, got);
        return;
    }
    s->finished[segment % RINGX_STREAM_WIDTH] = true;
    while (s->done < s->posted && s->finished[s->done % RINGX_STREAM_WIDTH]) {
        s->finished[s->done % RINGX_STREAM_WIDTH] = false;
        s->done++;
    }
    if (s->done == s->segments)
        w->unfinished--;
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

void ringx__wire_rest(double seconds)
{
    struct timespec t = {.tv_nsec = (long)(seconds * 1e9)};
    if (seconds > 0)
        nanosleep(&t, NULL);
    else
        sched_yield();
}

static void enter(const ringx_wire *w)
{
    if (w->carrier->enter)
        w->carrier->enter();
}

static void leave(const ringx_wire *w)
{
    if (w->carrier->leave)
        w->carrier->leave();
}

static ringx_status end(ringx_wire *w)
{
    if (w->failure.status != RINGX_OK && w->carrier->abandon)
        w->carrier->abandon(w);
    w->in_call = false;
    w->n_streams = 0;
    ringx_status status = ringx__failure_report(&w->failure, w->base.rank);
    leave(w);
    pthread_mutex_unlock(&w->lock);
    return status;
}

ringx_status ringx__wire_run(ringx_wire *w, const ringx_call *call, void (*moved)(ringx_wire *, void *), void *context)
{
    double begin = ringx__now(), busy = begin, limit = ringx__call_seconds(call);
    bool asked = false;
    pthread_mutex_lock(&w->lock);
    enter(w);
    w->in_call = true;
    w->circle_before = false;
    w->patience = most_rounds;
    post_all(w);
    for (;;) {
        ringx__control_poll(w);
        bool any = w->failure.status == RINGX_OK && w->carrier->test(w);
        if (any && w->failure.status == RINGX_OK) {
            if (moved)
                moved(w, context);
            post_all(w);
        }
        if (w->unfinished == 0 || w->failure.status != RINGX_OK)
            return end(w);
        double now = ringx__now();
        if (any)
            busy = now;
        if (now - begin > limit && !asked) {
            ringx__control_ask(w);
            asked = true;
        } else if (asked) {
            ringx__control_judge(w, now - begin);
        }
        pthread_mutex_unlock(&w->lock);
        if (!any)
            w->carrier->rest(w, ringx__wire_pause(now - busy));
        pthread_mutex_lock(&w->lock);
    }
}

/* ---- failures from outside -------------------------------------------------------------------------------------- */

void ringx__wire_abort(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx_wire *w = (ringx_wire *)comm;
    pthread_mutex_lock(&w->lock);
    ringx__control_fail(w, comm->rank, culprit, status, "%s", message ? message : "no message");
    pthread_mutex_unlock(&w->lock);
}

ringx_status ringx__wire_poll(ringx_comm *comm)
{
    ringx_wire *w = (ringx_wire *)comm;
    pthread_mutex_lock(&w->lock);
    enter(w);
    ringx__control_poll(w);
    leave(w);
    ringx_status status = ringx__failure_report(&w->failure, comm->rank);
    pthread_mutex_unlock(&w->lock);
    return status;
}
