/* SPDX-License-Identifier: MIT */
/* The tables of kernels and row operations. */
#include "kernel/kernel.h"

#define RINGX_KERNEL(name) extern const ringx_kernel ringx__kernel_##name;
#include "kernel/kernels.def"
#undef RINGX_KERNEL

extern const ringx_rowops ringx__rowops_cpu;
#ifdef RINGX_HAVE_CUDA
extern const ringx_rowops ringx__rowops_cuda;
#endif

const ringx_kernel *ringx__kernel_at(size_t i)
{
    static const ringx_kernel *const table[] = {
#define RINGX_KERNEL(name) &ringx__kernel_##name,
#include "kernel/kernels.def"
#undef RINGX_KERNEL
    };
    return i < sizeof table / sizeof table[0] ? table[i] : NULL;
}

const ringx_rowops *ringx__rowops(ringx_device device)
{
    if (device == RINGX_CPU)
        return &ringx__rowops_cpu;
#ifdef RINGX_HAVE_CUDA
    if (device == RINGX_CUDA)
        return &ringx__rowops_cuda;
#endif
    return NULL;
}
