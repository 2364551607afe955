/* SPDX-License-Identifier: MIT */
/* The communicator of ranks that reach each other's memory, inside: calls (peer.c) and attaching (peer_attach.c). */
#ifndef RINGX_COMM_PEER_PARTS_H
#define RINGX_COMM_PEER_PARTS_H

#include "comm/peer.h"

enum { RINGX_PEER_PASSES = 2 };

typedef struct ringx_parcel {
    int32_t to, pass;
    int64_t offset;
} ringx_parcel;

typedef struct ringx_other {            /* another rank, as this one sees it */
    char *workspace;                    /* NULL: out of reach */
    uint32_t *words;                    /* its offered and taken */
    void *opened[2];                    /* for close */
    int64_t *offset[RINGX_PEER_PASSES]; /* of what it gives this rank, in order; in one block */
    size_t given[RINGX_PEER_PASSES], next;
} ringx_other;

typedef struct ringx_peer {
    ringx_comm base;
    ringx_comm *inner;
    const ringx_device_ops *device;
    ringx_peer_add add;
    ringx_message *message; /* room for the part of an exchange that goes through inner */
    size_t messages;
    ringx_other *others;
    unsigned char *reach;  /* [ranks][ranks]: do these two reach each other? */
    uint32_t *words;       /* this rank's: offered[ranks], taken[ranks] */
    ringx_parcel *parcels; /* recorded */
    size_t n_parcels, room;
    const char *base_of_record; /* the workspace, while recording */
    bool recording, attached, released;
    ringx_status status; /* of recording */
    size_t *turns;       /* [ranks] */
    int pass;
    void *stream; /* of the last call */
} ringx_peer;

/* A rank that fails alone tells the others, who would wait for it; returns status. */
ringx_status ringx__peer_told(ringx_peer *c, ringx_status status);

/* Closes what is open, and forgets what the others give. */
void ringx__peer_detach(ringx_peer *c);

#endif
