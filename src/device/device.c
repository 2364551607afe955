/* SPDX-License-Identifier: MIT */
/* The table of devices, and the clock. */
#include "device/device.h"

#include <time.h>

extern const ringx_device_ops ringx__device_cpu;
#ifdef RINGX_HAVE_CUDA
extern const ringx_device_ops ringx__device_cuda;
#endif

const ringx_device_ops *ringx__device(ringx_device device)
{
    switch (device) {
    case RINGX_CPU:
        return &ringx__device_cpu;
#ifdef RINGX_HAVE_CUDA
    case RINGX_CUDA:
        return &ringx__device_cuda;
#endif
    default:
        return NULL;
    }
}

ringx_status ringx_device_count(ringx_device device, int *count)
{
    const ringx_device_ops *ops = ringx__device(device);
    if (device != RINGX_CPU && device != RINGX_CUDA)
        RINGX_FAIL(RINGX_INVALID, "device is %d; it must be RINGX_CPU or RINGX_CUDA", (int)device);
    if (!count)
        RINGX_FAIL(RINGX_INVALID, "count is NULL; it must point to an int");
    *count = ops ? ops->count() : 0;
    return RINGX_OK;
}

ringx_status ringx_device_use(ringx_device device, int index)
{
    int count;
    RINGX_TRY(ringx_device_count(device, &count));
    if (count == 0)
        RINGX_FAIL(RINGX_UNSUPPORTED, "there is no CUDA device for this process");
    if (index < 0 || index >= count)
        RINGX_FAIL(RINGX_INVALID, "index is %d; %s it must be 0 … %d", index,
                   device == RINGX_CPU ? "of the CPU" : "of the CUDA devices that this process sees", count - 1);
    return ringx__device(device)->use(index);
}

double ringx__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
