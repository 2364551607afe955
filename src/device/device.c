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

double ringx__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
