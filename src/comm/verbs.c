/* SPDX-License-Identifier: MIT */
/* What every transport checks of the arguments of its calls. */
#include "comm/verbs.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[RINGX_VERBS] = {
    [RINGX_VERB_BROADCAST] = "broadcast",
    [RINGX_VERB_EXCHANGE] = "exchange",
    [RINGX_VERB_ALLGATHER] = "allgather",
    [RINGX_VERB_REDUCE] = "reduce",
    [RINGX_VERB_REDUCE_SCATTER] = "reduce_scatter",
    [RINGX_VERB_ALLREDUCE_MAX] = "allreduce_max",
    [RINGX_VERB_AGREE] = "agree",
    [RINGX_VERB_SPLIT] = "split",
    [RINGX_VERB_NODES] = "nodes",
};

const char *ringx__verb_name(ringx_verb verb)
{
    return names[verb];
}

const char *ringx__call_what(const ringx_call *call, ringx_verb verb)
{
    return call && call->what ? call->what : names[verb];
}

double ringx__comm_timeout(void)
{
    const char *text = getenv("RINGX_TIMEOUT");
    double seconds = text ? strtod(text, NULL) : 0;
    return seconds > 0 ? seconds : 300;
}

double ringx__call_seconds(const ringx_call *call)
{
    const double longest = 1e9;
    double seconds = call ? call->deadline_s : 0;
    if (!(seconds > 0))
        return 0;
    return seconds < longest ? seconds : longest;
}

ringx_status ringx__check_root(const char *what, int root, int members)
{
    if (root < 0 || root >= members)
        RINGX_FAIL(RINGX_INVALID, "%s: root %d is not a member; it must be 0 … %d", what, root, members - 1);
    return RINGX_OK;
}

ringx_status ringx__check_dtype(const char *what, ringx_dtype dtype)
{
    if (dtype != RINGX_F32 && dtype != RINGX_BF16 && dtype != RINGX_F16)
        RINGX_FAIL(RINGX_INVALID, "%s: dtype %d is unknown; it must be RINGX_F32, RINGX_BF16 or RINGX_F16", what,
                   (int)dtype);
    return RINGX_OK;
}

ringx_status ringx__check_data(const char *what, const char *name, const void *data, size_t bytes)
{
    if (!data && bytes)
        RINGX_FAIL(RINGX_INVALID, "%s: %s is NULL; it must point to %zu bytes", what, name, bytes);
    return RINGX_OK;
}

ringx_status ringx__check_messages(const char *what, const ringx_message *messages, size_t count, int ranks)
{
    for (size_t i = 0; i < count; i++) {
        if (messages[i].peer < 0 || messages[i].peer >= ranks)
            RINGX_FAIL(RINGX_INVALID, "%s: peer %d of message %zu is not a rank; it must be 0 … %d", what,
                       messages[i].peer, i, ranks - 1);
        RINGX_TRY(ringx__check_data(what, "a message's data", messages[i].data, messages[i].bytes));
    }
    return RINGX_OK;
}

/* Index of the first non-empty message to peer at or after i; count if there is none. */
static size_t next_message(const ringx_message *messages, size_t count, size_t i, int peer)
{
    while (i < count && (messages[i].peer != peer || messages[i].bytes == 0))
        i++;
    return i;
}

ringx_status ringx__exchange_self(const char *what, int rank, const ringx_message *sends, size_t n_sends,
                                  const ringx_message *receives, size_t n_receives)
{
    size_t s = next_message(sends, n_sends, 0, rank), r = next_message(receives, n_receives, 0, rank);
    while (s < n_sends && r < n_receives) {
        if (sends[s].bytes != receives[r].bytes)
            RINGX_FAIL(RINGX_MISMATCH, "%s: rank %d sends itself %zu bytes and expects %zu", what, rank, sends[s].bytes,
                       receives[r].bytes);
        memmove(receives[r].data, sends[s].data, sends[s].bytes);
        s = next_message(sends, n_sends, s + 1, rank);
        r = next_message(receives, n_receives, r + 1, rank);
    }
    if (s < n_sends)
        RINGX_FAIL(RINGX_MISMATCH, "%s: rank %d sends itself %zu bytes that it does not receive", what, rank,
                   sends[s].bytes);
    if (r < n_receives)
        RINGX_FAIL(RINGX_MISMATCH, "%s: rank %d expects %zu bytes from itself that it does not send", what, rank,
                   receives[r].bytes);
    return RINGX_OK;
}
