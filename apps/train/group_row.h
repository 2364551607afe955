/* SPDX-License-Identifier: MIT */
/* What a row of groups brings: everything else is built on one exchange of bytes (group.c). */
#ifndef RINGX_TRAIN_GROUP_ROW_H
#define RINGX_TRAIN_GROUP_ROW_H

#include "train/group.h"

typedef struct group_piece {
    void *data; /* may be NULL where bytes is 0 */
    size_t bytes;
} group_piece;

typedef struct group_ops {
    /* Sends send[r] to rank r and receives receive[r] from rank r, for all r, this rank itself included; what one
     * sends is as long as what the other receives.  send and receive do not overlap, but that receive[rank] may be
     * send[rank]. */
    int (*exchange)(group *g, const group_piece *send, const group_piece *receive);
    int (*split)(group *g, int color, int key, group **part);
    int (*comm)(group *g, ringx_comm **comm);
    void (*destroy)(group *g);
} group_ops;

struct rank_group { /* each row's struct begins with it */
    const group_ops *ops;
    int rank, ranks;
    double timeout; /* seconds */
    ringx_comm *comm;
    struct group_gpus *gpus; /* group_nccl.c's; NULL: device memory goes through host memory */
};

#endif
