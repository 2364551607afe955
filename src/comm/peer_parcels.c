/* SPDX-License-Identifier: MIT */
/* Transfers between ranks that reach each other's memory.
 *
 * Every transfer is made of parcels: bytes that one rank has and another needs.  A parcel is sent, by a copy of who has
 * it into the workspace of who needs it; or read, where it is added to something.  For each ordered pair of ranks four
 * words tell how far they are, two of either kind; all are 0 between parcels, and a rank that waits for one clears it:
 *
 *     sent    sender                     wait free, copy, say sent
 *             receiver       say free                               wait sent
 *     read    owner          say readable                           wait read
 *             reader                     wait readable, add, say read
 *
 * The words wait in the streams, never in the host, so a pass can be captured in a graph.  Where parcels lie in the
 * other's workspace is known before: those of a pair come in the order in which they were recorded. */
#include "comm/peer_parts.h"

#include <stdlib.h>

#include "comm/verbs.h"

/* Memory of this workspace that rank `by` will write or read. */
static void note(ringx_peer *c, int by, const void *at)
{
    if (c->n_parcels == c->room && c->status == RINGX_OK) {
        size_t room = c->room ? 2 * c->room : 64;
        ringx_parcel *bigger = realloc(c->parcels, room * sizeof *bigger);
        if (!bigger) {
            c->status = ringx__fail(RINGX_NO_MEMORY, "no memory for a list of %zu transfers", room);
            return;
        }
        c->parcels = bigger;
        c->room = room;
    }
    if (c->status == RINGX_OK)
        c->parcels[c->n_parcels++] =
            (ringx_parcel){.by = by, .pass = c->pass, .offset = (const char *)at - c->base_of_record};
}

/* Words of one rank: four from each other one. */
static uint32_t *word_of(const ringx_peer *c, uint32_t *words, ringx_word word, int other)
{
    return words + (int)word * c->base.ranks + other;
}

ringx_status ringx__parcel_flush(ringx_peer *c, void *stream)
{
    size_t n = c->word_ops;
    c->word_ops = 0;
    return n ? c->device->peer->words(c->word_op, n, stream) : RINGX_OK;
}

ringx_status ringx__parcel_word(ringx_peer *c, uint32_t *word, ringx_word_use use, void *stream)
{
    if (c->word_ops == RINGX_MOST_WORD_OPS)
        RINGX_TRY(ringx__parcel_flush(c, stream));
    c->word_op[c->word_ops++] = (ringx_word_op){word, use};
    return RINGX_OK;
}

static ringx_status say(ringx_peer *c, int rank, ringx_word word, const ringx_call *call)
{
    return ringx__parcel_word(c, word_of(c, c->others[rank].words, word, c->base.rank), RINGX_WORD_SET, call->stream);
}

static ringx_status hear(ringx_peer *c, int rank, ringx_word word, const ringx_call *call)
{
    return ringx__parcel_word(c, word_of(c, c->words, word, rank), RINGX_WORD_AWAIT, call->stream);
}

/* Lets another rank write or read memory of this one, which it will do in turn. */
ringx_status ringx__parcel_open(ringx_peer *c, int rank, const void *at, bool reads, const ringx_call *call)
{
    if (c->recording) {
        note(c, rank, at);
        return c->status;
    }
    return ringx__peer_told(c, say(c, rank, reads ? RINGX_READABLE : RINGX_FREE, call));
}

/* Waits until it has. */
ringx_status ringx__parcel_close(ringx_peer *c, int rank, bool reads, const ringx_call *call)
{
    if (c->recording)
        return RINGX_OK;
    return ringx__peer_told(c, hear(c, rank, reads ? RINGX_READ : RINGX_SENT, call));
}

/* Where in another rank's workspace its next parcel lies. */
static ringx_status next_parcel(ringx_peer *c, int rank, char **at, const ringx_call *call)
{
    ringx_other *o = &c->others[rank];
    if (o->next == o->count[c->pass])
        RINGX_FAIL(RINGX_INTERNAL, "%s: rank %d opens %zu blocks, not more",
                   ringx__call_what(call, RINGX_VERB_EXCHANGE), rank, o->next);
    *at = o->workspace + o->offset[c->pass][o->next++];
    return RINGX_OK;
}

static ringx_status copy_out(const ringx_peer *c, char *to, const void *block, size_t bytes, const ringx_call *call)
{
    const ringx_scattered *s = call->scattered;
    if (!s || s->block != block)
        return c->device->copy_on(to, block, bytes, call->stream);
    for (size_t i = 0; i < s->pieces; i++)
        RINGX_TRY(c->device->peer->copy_rows(to + s->piece[i].offset, s->piece[i].data, s->piece[i].width,
                                             s->piece[i].pitch, s->piece[i].rows, call->stream));
    return RINGX_OK;
}

static ringx_status send_now(ringx_peer *c, int rank, const void *block, size_t bytes, const ringx_call *call)
{
    char *at = NULL;
    RINGX_TRY(next_parcel(c, rank, &at, call));
    RINGX_TRY(hear(c, rank, RINGX_FREE, call));
    RINGX_TRY(ringx__parcel_flush(c, call->stream));
    RINGX_TRY(copy_out(c, at, block, bytes, call));
    return say(c, rank, RINGX_SENT, call);
}

ringx_status ringx__parcel_send(ringx_peer *c, int rank, const void *block, size_t bytes, const ringx_call *call)
{
    return c->recording ? RINGX_OK : ringx__peer_told(c, send_now(c, rank, block, bytes, call));
}

static ringx_status read_now(ringx_peer *c, int rank, float *to, size_t count, bool adds, const ringx_call *call)
{
    char *at = NULL;
    RINGX_TRY(next_parcel(c, rank, &at, call));
    RINGX_TRY(hear(c, rank, RINGX_READABLE, call));
    RINGX_TRY(ringx__parcel_flush(c, call->stream));
    if (adds)
        RINGX_TRY(c->add(count, (const float *)(const void *)at, to, call->stream));
    else
        RINGX_TRY(c->device->copy_on(to, at, count * sizeof *to, call->stream));
    return say(c, rank, RINGX_READ, call);
}

/* Another rank's next parcel, added to memory of this one or copied there. */
ringx_status ringx__parcel_read(ringx_peer *c, int rank, float *to, size_t count, bool adds, const ringx_call *call)
{
    return c->recording ? RINGX_OK : ringx__peer_told(c, read_now(c, rank, to, count, adds, call));
}

static ringx_status own_now(ringx_peer *c, void *to, const void *from, size_t bytes, const ringx_call *call)
{
    RINGX_TRY(ringx__parcel_flush(c, call->stream));
    return c->device->copy_on(to, from, bytes, call->stream);
}

ringx_status ringx__parcel_own(ringx_peer *c, void *to, const void *from, size_t bytes, const ringx_call *call)
{
    if (c->recording || to == from || (call->scattered && call->scattered->block == from))
        return RINGX_OK;
    return ringx__peer_told(c, own_now(c, to, from, bytes, call));
}
