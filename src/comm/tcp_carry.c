/* SPDX-License-Identifier: MIT */
/* The TCP transport: segments and notes over connections.
 *
 * The receiver of a segment grants it, the sender answers with a frame and the bytes: both directions of all
 * connections move in turn, a megabyte at a time. */
#include "comm/tcp.h"
#include "device/device.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { GRANT = 1, SEGMENT };
enum { GOODBYE = 100 };                    /* a note's kind, beside those of wire_control.c */
static const size_t most_bytes = 1 << 20;  /* at once */
static const double latest_look_s = 0.002; /* another thread of this rank may have failed meanwhile */
static const double hear_out_s = 0.2;      /* of those who still talk when this rank has failed */
static const double last_word_s = 1.0;     /* between the end of a data connection and the reason why */

static ringx_tcp *tcp_of(ringx_wire *w)
{
    return (ringx_tcp *)w;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* ---- frames ----------------------------------------------------------------------------------------------------- */

static bool push_frame(ringx_frames *f, ringx_frame frame)
{
    if (f->first == f->end)
        f->first = f->end = 0;
    if (f->end == f->room) {
        size_t room = 2 * f->room + 16;
        ringx_frame *at = realloc(f->at, room * sizeof *at);
        if (!at)
            return false;
        f->at = at;
        f->room = room;
    }
    f->at[f->end++] = frame;
    return true;
}

static void fail_memory(ringx_wire *w)
{
    ringx__control_fail(w, w->base.rank, w->base.rank, RINGX_NO_MEMORY, "%s: no memory for a message", w->what);
}

static bool post(ringx_wire *w, size_t index, size_t segment)
{
    const ringx_stream *s = &w->streams[index];
    ringx_frame grant = {.kind = GRANT, .tag = s->tag, .segment = segment};
    if (s->send || push_frame(&tcp_of(w)->links[s->peer].owed, grant))
        return true;
    fail_memory(w);
    return false;
}

/* The stream whose next segment the frame is about. */
static size_t stream_of(const ringx_wire *w, int peer, bool send, const ringx_frame *frame)
{
    for (size_t i = 0; i < w->n_streams; i++) {
        const ringx_stream *s = &w->streams[i];
        if (s->peer == peer && s->send == send && s->tag == frame->tag && s->done == frame->segment &&
            s->done < s->posted)
            return i;
    }
    return RINGX_NO_STREAM;
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

/* The next frame to send: grants first; then a segment that is granted and ready. */
static bool next_frame(ringx_wire *w, int peer)
{
    ringx_link *l = &tcp_of(w)->links[peer];
    l->out_sent = 0;
    l->out_left = 0;
    if (l->owed.first < l->owed.end) {
        l->out = l->owed.at[l->owed.first++];
        return true;
    }
    for (size_t g = l->granted.first; g < l->granted.end; g++) {
        size_t index = stream_of(w, peer, true, &l->granted.at[g]);
        if (index == RINGX_NO_STREAM)
            continue;
        const ringx_stream *s = &w->streams[index];
        l->out = (ringx_frame){SEGMENT, s->tag, s->done, ringx__segment_bytes(s, s->done)};
        l->out_stream = index;
        l->out_left = l->out.bytes;
        memmove(l->granted.at + g, l->granted.at + g + 1, (l->granted.end - g - 1) * sizeof *l->granted.at);
        l->granted.end--;
        return true;
    }
    return false;
}

/* What is left of the frame and its bytes, at most most_bytes of these. */
static ssize_t send_some(const ringx_wire *w, ringx_link *l)
{
    struct iovec part[2] = {{.iov_base = (char *)&l->out + l->out_sent, .iov_len = sizeof l->out - l->out_sent}};
    struct msghdr message = {.msg_iov = part, .msg_iovlen = 1};
    if (l->out_left) {
        const ringx_stream *s = &w->streams[l->out_stream];
        part[1].iov_base = ringx__segment_data(s, l->out.segment) + (l->out.bytes - l->out_left);
        part[1].iov_len = l->out_left < most_bytes ? (size_t)l->out_left : most_bytes;
        message.msg_iovlen = 2;
    }
    return sendmsg(l->data, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void lose_data(ringx_link *l)
{
    l->no_data = true;
    l->lost = ringx__now();
}

/* Returns whether anything was sent. */
static bool push(ringx_wire *w, int peer)
{
    ringx_link *l = &tcp_of(w)->links[peer];
    bool any = false, full = false;
    for (size_t budget = most_bytes; budget > 0 && !full && !l->no_data;) {
        l->sending = l->sending || next_frame(w, peer);
        if (!l->sending)
            break;
        ssize_t n = send_some(w, l);
        if (n < 0 && !would_block())
            lose_data(l);
        full = n <= 0;
        if (n <= 0)
            continue;
        size_t head = sizeof l->out - l->out_sent, sent = (size_t)n;
        head = head < sent ? head : sent;
        l->out_sent += head;
        l->out_left -= sent - head;
        budget -= sent < budget ? sent : budget;
        any = true;
        if (l->out_sent < sizeof l->out || l->out_left)
            continue;
        l->sending = false;
        if (l->out.kind == SEGMENT)
            ringx__wire_finish(w, l->out_stream, l->out.segment, 0);
    }
    return any;
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* A whole frame is there. */
static void take_frame(ringx_wire *w, int peer)
{
    ringx_link *l = &tcp_of(w)->links[peer];
    if (l->in.kind == GRANT) {
        l->in_got = 0;
        if (!push_frame(&l->granted, l->in))
            fail_memory(w);
        return;
    }
    l->in_stream = stream_of(w, peer, false, &l->in);
    if (l->in.kind != SEGMENT || l->in_stream == RINGX_NO_STREAM) {
        ringx__control_fail(w, w->base.rank, peer, RINGX_COMM, "%s: rank %d sends what nobody asked it for", w->what,
                            peer);
        return;
    }
    if (l->in.bytes != ringx__segment_bytes(&w->streams[l->in_stream], (size_t)l->in.segment))
        ringx__wire_finish(w, l->in_stream, (size_t)l->in.segment, (size_t)l->in.bytes); /* which fails */
    l->in_left = l->in.bytes;
}

static ssize_t receive_some(const ringx_wire *w, ringx_link *l)
{
    if (l->in_got < sizeof l->in)
        return recv(l->data, (char *)&l->in + l->in_got, sizeof l->in - l->in_got, MSG_DONTWAIT);
    const ringx_stream *s = &w->streams[l->in_stream];
    unsigned char *to = ringx__segment_data(s, (size_t)l->in.segment) + (l->in.bytes - l->in_left);
    return recv(l->data, to, l->in_left < most_bytes ? (size_t)l->in_left : most_bytes, MSG_DONTWAIT);
}

/* Returns whether anything came. */
static bool pull(ringx_wire *w, int peer)
{
    ringx_link *l = &tcp_of(w)->links[peer];
    bool any = false, empty = false;
    for (size_t budget = most_bytes; budget > 0 && !empty && !l->no_data && w->failure.status == RINGX_OK;) {
        ssize_t n = receive_some(w, l);
        if (n == 0 || (n < 0 && !would_block()))
            lose_data(l);
        empty = n <= 0;
        if (n <= 0)
            continue;
        any = true;
        budget -= (size_t)n < budget ? (size_t)n : budget;
        if (l->in_got < sizeof l->in) {
            l->in_got += (size_t)n;
            if (l->in_got == sizeof l->in)
                take_frame(w, peer);
            continue;
        }
        l->in_left -= (size_t)n;
        if (l->in_left)
            continue;
        l->in_got = 0;
        ringx__wire_finish(w, l->in_stream, (size_t)l->in.segment, (size_t)l->in.bytes);
    }
    return any;
}

/* ---- moving on -------------------------------------------------------------------------------------------------- */

/* A stream that can move no more fails the call.  One that waits for somebody who waits for the rank that has gone
 * hears of it; a call that needs nothing of that rank any more ends well. */
static void check_lost(ringx_wire *w)
{
    for (size_t i = 0; i < w->n_streams && w->failure.status == RINGX_OK; i++) {
        const ringx_stream *s = &w->streams[i];
        const ringx_link *l = &tcp_of(w)->links[s->peer];
        if (!l->no_data || s->done == s->segments)
            continue;
        if (l->ended)
            ringx__control_fail(w, RINGX_ALL_RANKS, s->peer, RINGX_PEER_DIED,
                                "%s: rank %d has destroyed its communicator", w->what, s->peer);
        else if (l->no_control)
            ringx__control_fail(w, RINGX_ALL_RANKS, s->peer, RINGX_PEER_DIED,
                                "%s: rank %d has died: its connection is closed", w->what, s->peer);
        else if (ringx__now() - l->lost > last_word_s)
            ringx__control_fail(w, RINGX_ALL_RANKS, s->peer, RINGX_PEER_DIED,
                                "%s: the connection of rank %d to rank %d has broken", w->what, w->base.rank, s->peer);
    }
}

/* What a rest waits for: something to read, room for what is to be sent. */
static void plan_rest(ringx_tcp *t)
{
    for (int r = 0; r < t->wire.base.ranks; r++) {
        const ringx_link *l = &t->links[r];
        t->wait[2 * r] =
            (struct pollfd){.fd = l->no_data ? -1 : l->data, .events = (short)(POLLIN | (l->sending ? POLLOUT : 0))};
        t->wait[2 * r + 1] = (struct pollfd){.fd = l->no_control ? -1 : l->control,
                                             .events = (short)(POLLIN | (l->letters ? POLLOUT : 0))};
    }
}

static bool test(ringx_wire *w)
{
    ringx_tcp *t = tcp_of(w);
    bool any = false, lost = false;
    for (int r = 0; r < w->base.ranks && w->failure.status == RINGX_OK; r++) {
        if (t->links[r].data < 0)
            continue;
        any = push(w, r) || any;
        if (t->look[2 * r].revents && w->failure.status == RINGX_OK)
            any = pull(w, r) || any;
        lost = lost || t->links[r].no_data;
    }
    if (lost && w->failure.status == RINGX_OK)
        check_lost(w);
    if (!any)
        plan_rest(t);
    return any || w->failure.status != RINGX_OK;
}

static void rest(ringx_wire *w, double seconds)
{
    ringx_tcp *t = tcp_of(w);
    struct timespec most = {.tv_nsec = seconds > 0 ? (long)(latest_look_s * 1e9) : 0};
    ppoll(t->wait, 2 * (nfds_t)w->base.ranks, &most, NULL);
    if (seconds <= 0)
        sched_yield();
}

/* ---- notes ------------------------------------------------------------------------------------------------------ */

static void post_letters(const ringx_wire *w, ringx_link *l)
{
    while (l->letters && !l->no_control) {
        ringx_letter *letter = l->letters;
        ssize_t n = send(l->control, (char *)&letter->note + letter->sent, w->note_bytes - letter->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0) /* that it has gone is seen when reading */
            return;
        letter->sent += (size_t)n;
        if (letter->sent < w->note_bytes)
            continue;
        l->letters = letter->next;
        free(letter);
    }
}

static void send_note(ringx_wire *w, int rank, const ringx_note *note)
{
    ringx_link *l = &tcp_of(w)->links[rank];
    ringx_letter **last = &l->letters, *letter = malloc(sizeof *letter - sizeof letter->note + w->note_bytes);
    if (!letter)
        return;
    memcpy(&letter->note, note, w->note_bytes);
    letter->note.from = w->base.rank;
    letter->next = NULL;
    letter->sent = 0;
    while (*last)
        last = &(*last)->next;
    *last = letter;
    post_letters(w, l);
}

/* Reads all notes of a rank. */
static void read_notes(ringx_wire *w, int rank)
{
    ringx_link *l = &tcp_of(w)->links[rank];
    while (!l->no_control) {
        ssize_t n = recv(l->control, (char *)l->inbox + l->inbox_got, w->note_bytes - l->inbox_got, MSG_DONTWAIT);
        if (n < 0 && would_block())
            return;
        if (n <= 0) {
            l->no_control = true;
            return;
        }
        l->inbox_got += (size_t)n;
        if (l->inbox_got < w->note_bytes)
            continue;
        l->inbox_got = 0;
        l->inbox->from = rank;
        bool good = w->failure.status == RINGX_OK;
        if (l->inbox->kind == GOODBYE)
            l->ended = true;
        else
            ringx__control_handle(w, l->inbox);
        if (good && w->failure.status != RINGX_OK) /* all must know why before this rank leaves */
            ringx__control_tell(w);
    }
}

/* All notes are read before a rank that has gone is judged: another's may say why. */
static void take_notes(ringx_wire *w)
{
    ringx_tcp *t = tcp_of(w);
    for (int r = 0; r < w->base.ranks; r++) {
        const ringx_link *l = &t->links[r];
        t->look[2 * r] = (struct pollfd){.fd = l->no_data ? -1 : l->data, .events = POLLIN};
        t->look[2 * r + 1] = (struct pollfd){.fd = l->no_control ? -1 : l->control, .events = POLLIN};
    }
    poll(t->look, 2 * (nfds_t)w->base.ranks, 0);
    for (int r = 0; r < w->base.ranks; r++) {
        post_letters(w, &t->links[r]);
        if (t->look[2 * r + 1].revents)
            read_notes(w, r);
    }
    for (int r = 0; r < w->base.ranks && !w->in_call; r++)
        if (t->links[r].no_control && !t->links[r].ended && w->failure.status == RINGX_OK)
            ringx__control_fail(w, RINGX_ALL_RANKS, r, RINGX_PEER_DIED, "rank %d has died: its connection is closed",
                                r);
}

/* ---- leaving ---------------------------------------------------------------------------------------------------- */

static bool letters_left(const ringx_tcp *t)
{
    for (int r = 0; r < t->wire.base.ranks; r++)
        if (t->links[r].letters && !t->links[r].no_control)
            return true;
    return false;
}

static bool anyone_there(const ringx_tcp *t)
{
    for (int r = 0; r < t->wire.base.ranks; r++)
        if (t->links[r].control >= 0 && !t->links[r].no_control)
            return true;
    return false;
}

/* Reads what comes until all have gone: a connection that ends with something unread may take back what was said. */
static void hear_them_out(ringx_tcp *t)
{
    for (int r = 0; r < t->wire.base.ranks; r++)
        if (t->links[r].control >= 0)
            shutdown(t->links[r].control, SHUT_WR);
    for (double begin = ringx__now(); anyone_there(t) && ringx__now() - begin < hear_out_s;) {
        take_notes(&t->wire);
        ringx__wire_rest(50e-6);
    }
}

void ringx__tcp_leave(ringx_tcp *t)
{
    ringx_wire *w = &t->wire;
    ringx_note *note = w->outbox;
    bool failed = w->failure.status != RINGX_OK;
    if (!t->look || !note)
        return;
    memset(note, 0, w->note_bytes);
    note->kind = GOODBYE;
    for (int r = 0; r < w->base.ranks && !failed; r++)
        if (t->links[r].control >= 0)
            send_note(w, r, note);
    for (double begin = ringx__now(); letters_left(t) && ringx__now() - begin < last_word_s;) {
        for (int r = 0; r < w->base.ranks; r++)
            post_letters(w, &t->links[r]);
        ringx__wire_rest(50e-6);
    }
    if (failed)
        hear_them_out(t);
}

const ringx_carrier ringx__carrier_tcp = {
    .post = post,
    .test = test,
    .rest = rest,
    .send_note = send_note,
    .take_notes = take_notes,
};
