/* SPDX-License-Identifier: MIT */
/* The communicator of ranks that reach each other's memory, inside: calls (peer.c), what they are made of
 * (peer_parcels.c), and attaching (peer_attach.c). */
#ifndef RINGX_COMM_PEER_PARTS_H
#define RINGX_COMM_PEER_PARTS_H

#include "comm/peer.h"

enum { RINGX_PEER_PASSES = 2 };

typedef enum ringx_word { RINGX_FREE, RINGX_SENT, RINGX_READABLE, RINGX_READ, RINGX_WORDS } ringx_word;

typedef struct ringx_parcel { /* memory of this workspace that rank `by` writes or reads */
    int32_t by, pass;
    int64_t offset;
} ringx_parcel;

typedef struct ringx_other {            /* another rank, as this one sees it */
    char *workspace;                    /* NULL: out of reach */
    uint32_t *words;                    /* its words */
    void *opened[2];                    /* for close */
    int64_t *offset[RINGX_PEER_PASSES]; /* of what this rank writes and reads there, in order; in one block */
    size_t count[RINGX_PEER_PASSES], next;
} ringx_other;

typedef struct ringx_peer {
    ringx_comm base;
    ringx_comm *inner, *keeper;
    const ringx_device_ops *device;
    ringx_peer_add add;
    ringx_message *message; /* room for the part of an exchange that goes through inner */
    size_t messages;
    ringx_other *others;
    unsigned char *reach;  /* [ranks][ranks]: do these two reach each other? */
    uint32_t *words;       /* this rank's: [RINGX_WORDS][ranks], RINGX_ARRIVALS, and two that are nanoseconds */
    ringx_parcel *parcels; /* recorded */
    size_t n_parcels, room;
    const char *base_of_record; /* the workspace, while recording */
    bool recording, attached, released;
    bool shares;                                /* its device with another rank that it reaches */
    ringx_status status;                        /* of recording */
    size_t *turns;                              /* [ranks] */
    ringx_word_op word_op[RINGX_MOST_WORD_OPS]; /* not in the stream yet: in a batch each takes the stream less */
    size_t word_ops;
    int announced; /* one more than the arrival word that the next call sets at its end; 0: none */
    int pass;
    void *stream; /* of the last call */
} ringx_peer;

static inline size_t ringx__word_count(const ringx_peer *c)
{
    return RINGX_WORDS * (size_t)c->base.ranks + RINGX_ARRIVALS + 2;
}

/* Lets another rank write, or read, memory of this one, which it will do in turn; waits until it has. */
ringx_status ringx__parcel_open(ringx_peer *c, int rank, const void *at, bool reads, const ringx_call *call);
ringx_status ringx__parcel_close(ringx_peer *c, int rank, bool reads, const ringx_call *call);
/* A block to another rank's next parcel; another's next parcel, added to memory of this rank or copied there. */
ringx_status ringx__parcel_send(ringx_peer *c, int rank, const void *block, size_t bytes, const ringx_call *call);
ringx_status ringx__parcel_read(ringx_peer *c, int rank, float *to, size_t count, bool adds, const ringx_call *call);
/* A block to where the others' come, unless it is there or nobody needs it there. */
ringx_status ringx__parcel_own(ringx_peer *c, void *to, const void *from, size_t bytes, const ringx_call *call);

/* What a call does with words waits for more of it, until something else must follow in the stream. */
ringx_status ringx__parcel_word(ringx_peer *c, uint32_t *word, ringx_word_use use, void *stream);
ringx_status ringx__parcel_flush(ringx_peer *c, void *stream);

/* A rank that fails alone tells the others, who would wait for it; returns status. */
ringx_status ringx__peer_told(ringx_peer *c, ringx_status status);

/* Closes what is open, and forgets what the others opened. */
void ringx__peer_detach(ringx_peer *c);

#endif
