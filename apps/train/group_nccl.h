/* SPDX-License-Identifier: MIT */
/* Groups whose ranks have a GPU each: device memory moves by NCCL instead of through host memory. */
#ifndef RINGX_TRAIN_GROUP_NCCL_H
#define RINGX_TRAIN_GROUP_NCCL_H

#include "train/group_row.h"

/* Collective, before any other use of the group's device functions and of group_comm.  With CUDA's current device of
 * each rank: where no two ranks share one, the functions of device_data.h and the library's plans go by NCCL on this
 * stream; else, and in builds without NCCL, all stays as it was.  *used: which of the two, the same on all ranks.
 * beside: on a stream of the group's own, on few of the GPU's processors: each call begins when all that this stream
 * had before is done, and returns once it is enqueued; device_wait tells when it is done. */
int group_use_gpus(group *g, void *stream, bool beside, bool *used);

/* The same for all groups of a layout that carry device memory.  *used: false if any of them goes through host memory.
 */
int parallel_use_gpus(const parallel *p, void *stream, bool *used);

/* What device_data.c and group.c call of a group that has NCCL. */
int gpus_all_reduce(group *g, group_op op, float *data, size_t count);
int gpus_reduce_scatter(group *g, const float *data, const size_t *bounds, float *mine);
int gpus_all_gather(group *g, void *data, const size_t *bounds);
int gpus_wait(group *g, unsigned behind);
int gpus_comm(group *g, ringx_comm *host, ringx_comm **comm); /* takes host over, unless it fails */
void gpus_destroy(group *g);                                  /* fine without NCCL */

#endif
