/* SPDX-License-Identifier: MIT */
/* The portable forward kernels that are compiled, for one dtype T. */
#include "kernel/cuda_mma_forward.cuh"
#include "kernel/cuda_mma_table.h"

#define RINGX_MMA_FORWARD_ONE(T, DK, DV, WARPS, STRIPS, N, EXTRA)                                                      \
    {                                                                                                                  \
        DK, DV, 16 * STRIPS *WARPS, N, 32 * WARPS, ringx_mma_forward_config<T, DK, DV, WARPS, STRIPS, N, EXTRA>::SMEM, \
            EXTRA, ringx_mma_forward<ringx_mma_forward_config<T, DK, DV, WARPS, STRIPS, N, EXTRA>>                     \
    }
#define RINGX_MMA_FORWARD(T, DK, DV, WARPS, STRIPS, N)                                                                 \
    RINGX_MMA_FORWARD_ONE(T, DK, DV, WARPS, STRIPS, N, false), RINGX_MMA_FORWARD_ONE(T, DK, DV, WARPS, STRIPS, N, true)

#define RINGX_MMA_FORWARD_LIST(T)                                                                                      \
    RINGX_MMA_FORWARD(T, 64, 64, 4, 2, 128), RINGX_MMA_FORWARD(T, 96, 96, 4, 2, 64),                                   \
        RINGX_MMA_FORWARD(T, 128, 128, 4, 2, 64), RINGX_MMA_FORWARD(T, 192, 128, 4, 1, 64),                            \
        RINGX_MMA_FORWARD(T, 256, 256, 4, 1, 64)
