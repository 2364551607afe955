/* SPDX-License-Identifier: MIT */
/* Training state in a device's memory: its way through host memory, in bounded pieces, and the groups' data functions
 * on it.  On CPUs these are the plain functions: nothing is copied. */
#ifndef RINGX_TRAIN_DEVICE_DATA_H
#define RINGX_TRAIN_DEVICE_DATA_H

#include "train/group.h"

/* Collective over world: of the devices of this machine, the ranks here take one each, in turn if there are fewer; the
 * calling thread's current device from now on.  CPUs: nothing to do. */
int device_choose(group *world, ringx_device device);

/* Calls visit on host memory that holds values[0 … count-1], piece by piece in their order; `back`: pieces are copied
 * back after it.  first: the piece's place.  Ends at the first code that is not CODE_GOOD. */
typedef int device_visit(void *context, float *values, size_t first, size_t count);
int device_walk(ringx_device device, float *values, size_t count, bool back, device_visit *visit, void *context);

/* As the group's functions, on memory of the device, once all work of its blocking streams that was enqueued before is
 * done.  Sums over GPUs by NCCL (group_nccl.h) are in NCCL's order. */
int device_all_reduce(group *g, ringx_device device, group_op op, float *data, size_t count);
/* Sums; mine may be data + bounds[rank]. */
int device_reduce_scatter(group *g, ringx_device device, const float *data, const size_t *bounds, float *mine);
int device_all_gather(group *g, ringx_device device, void *data, const size_t *bounds); /* bounds in bytes */
/* For groups whose calls return once enqueued (group_use_gpus, beside): until all but the last `behind` are done. */
int device_wait(group *g, ringx_device device, unsigned behind);

/* device_all_reduce as operators call it (nn_reduce); among: a device_group. */
typedef struct device_group {
    group *g;
    ringx_device device;
} device_group;
int device_max(void *among, float *values, size_t count);
int device_sum(void *among, float *values, size_t count);

#endif
