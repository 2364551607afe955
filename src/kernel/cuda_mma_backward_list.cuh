/* SPDX-License-Identifier: MIT */
/* The portable backward kernels that are compiled, for one dtype T. */
#include "kernel/cuda_mma_backward.cuh"
#include "kernel/cuda_mma_table.h"

#define RINGX_MMA_BACKWARD(T, DK, DV, WARPS, M)                                                                        \
    {                                                                                                                  \
        DK, DV, 16 * WARPS, M, 32 * WARPS, ringx_mma_backward_config<T, DK, DV, WARPS, M, 3>::SMEM,                    \
            ringx_mma_backward<ringx_mma_backward_config<T, DK, DV, WARPS, M, 3>>, nullptr                             \
    }
#define RINGX_MMA_BACKWARD_TWICE(T, DK, DV, WARPS, M)                                                                  \
    {                                                                                                                  \
        DK, DV, 16 * WARPS, M, 32 * WARPS, ringx_mma_backward_config<T, DK, DV, WARPS, M, 1>::SMEM,                    \
            ringx_mma_backward<ringx_mma_backward_config<T, DK, DV, WARPS, M, 1>>,                                     \
            ringx_mma_backward<ringx_mma_backward_config<T, DK, DV, WARPS, M, 2>>                                      \
    }

#define RINGX_MMA_BACKWARD_LIST(T)                                                                                     \
    RINGX_MMA_BACKWARD(T, 64, 64, 8, 64), RINGX_MMA_BACKWARD(T, 96, 96, 8, 64),                                        \
        RINGX_MMA_BACKWARD(T, 128, 128, 8, 64), RINGX_MMA_BACKWARD_TWICE(T, 192, 128, 4, 32),                          \
        RINGX_MMA_BACKWARD_TWICE(T, 256, 256, 4, 32)
