/* SPDX-License-Identifier: MIT */
/* The CUDA kernel rows by name, without the library's tables. */
#ifndef RINGX_TEST_CUDA_NAMED_H
#define RINGX_TEST_CUDA_NAMED_H

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernel/cuda_common.cuh"
extern "C" {
#include "kernel/cuda_rows.h"
}

static inline const ringx_kernel *kernel_named(const char *name)
{
    const ringx_kernel *all[] = {&ringx__kernel_cuda_ref, &ringx__kernel_cuda_mma, &ringx__kernel_cuda_sm90};
    for (const ringx_kernel *k : all)
        if (!strcmp(k->name, name))
            return k;
    printf("no kernel %s\n", name);
    exit(2);
}

#endif
