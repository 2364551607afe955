/* SPDX-License-Identifier: MIT */
/* A rank's tensors and workspace where its device can use them: on a CPU themselves, else copies in its memory. */
#ifndef RINGX_COMMAND_PLACED_H
#define RINGX_COMMAND_PLACED_H

#include "trial.h"

typedef struct placed_block {
    void *host, *there; /* the same on a CPU */
    size_t bytes;
} placed_block;

typedef struct placed {
    ringx_device device;
    placed_block field[TENSORS], workspace; /* guards included */
    ringx_args args;                        /* what ringx_forward and ringx_backward get */
} placed;

/* fields and workspace must outlive it.  Copies nothing. */
int placed_create(placed *p, ringx_device device, const field fields[TENSORS], const guarded *workspace);
void placed_destroy(placed *p);
int placed_upload(const placed *p);           /* everything goes to the device */
int placed_upload_workspace(const placed *p); /* only that */
int placed_download(const placed *p);         /* everything comes back */

#endif
