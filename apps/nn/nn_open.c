/* SPDX-License-Identifier: MIT */
/* Contexts of operators: which row of the table serves a device. */
#include "nn/nn_cuda.h"
#include "shared/report.h"

#ifndef RINGX_NN_CUDA
int nn_cuda_open(nn_context *on)
{
    (void)on;
    return fail(CODE_CONFIGURATION, "the device is cuda, but this build has no CUDA; it must be cpu");
}

void nn_cuda_close(nn_context *on)
{
    (void)on;
}
#endif

int nn_open(nn_context *on, ringx_device device)
{
    *on = (nn_context){.ops = NULL};
    switch (device) {
    case RINGX_CPU:
        on->ops = &nn_cpu;
        return CODE_GOOD;
    case RINGX_CUDA:
        return nn_cuda_open(on);
    }
    return fail(CODE_USAGE, "the device is %d; it must be RINGX_CPU or RINGX_CUDA", (int)device);
}

void nn_close(nn_context *on)
{
    if (on->internal)
        nn_cuda_close(on);
    *on = (nn_context){.ops = NULL};
}

int64_t nn_tile(ringx_device device)
{
    return device == RINGX_CUDA ? 8192 : NN_TILE;
}

int64_t nn_loss_tile(ringx_device device)
{
    return device == RINGX_CUDA ? 4096 : NN_TILE;
}
