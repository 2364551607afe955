/* SPDX-License-Identifier: MIT */
/* The forward kernels that are compiled, for one dtype T. */
#include "kernel/cuda_sm90_forward.cuh"
#include "kernel/cuda_sm90_table.h"

#define RINGX_FORWARD(T, DK, DV, CONSUMERS, N, EXTRA, SPARSE)                                                          \
    {                                                                                                                  \
        DK, DV, EXTRA, SPARSE, 64 * CONSUMERS, N, 128 * (CONSUMERS + 1),                                               \
            ringx_forward_config<T, DK, DV, CONSUMERS, N, EXTRA>::SMEM,                                                \
            (const void *)ringx_sm90_forward<ringx_forward_config<T, DK, DV, CONSUMERS, N, EXTRA>>                     \
    }

#ifdef RINGX_QUICK
#define RINGX_FORWARD_LIST(T)                                                                                          \
    RINGX_FORWARD(T, 64, 64, 3, 128, false, true), RINGX_FORWARD(T, 128, 128, 2, 128, false, true),                    \
        RINGX_FORWARD(T, 128, 128, 2, 176, false, false)
#else
#define RINGX_FORWARD_BOTH(T, DK, DV, CONSUMERS, N)                                                                    \
    RINGX_FORWARD(T, DK, DV, CONSUMERS, N, false, true), RINGX_FORWARD(T, DK, DV, CONSUMERS, N, true, true)
#define RINGX_FORWARD_LIST(T)                                                                                          \
    RINGX_FORWARD_BOTH(T, 64, 64, 3, 128), RINGX_FORWARD_BOTH(T, 96, 96, 2, 128),                                      \
        RINGX_FORWARD_BOTH(T, 128, 128, 2, 128), RINGX_FORWARD(T, 128, 128, 2, 176, false, false),                     \
        RINGX_FORWARD_BOTH(T, 192, 128, 2, 128), RINGX_FORWARD_BOTH(T, 256, 256, 2, 80)
#endif
