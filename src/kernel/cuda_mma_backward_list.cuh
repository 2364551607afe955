/* SPDX-License-Identifier: MIT */
/* The portable backward kernels that are compiled, for one dtype T. */
#include "kernel/cuda_mma_backward.cuh"
#include "kernel/cuda_mma_table.h"

#define RINGX_MMA_BACKWARD_ONE(T, DK, DV, STRIPS, M, EXTRA)                                                            \
    {                                                                                                                  \
        DK, DV, 64 * STRIPS, M, 256, ringx_mma_backward_config<T, DK, DV, STRIPS, M, EXTRA>::SMEM, EXTRA,              \
            ringx_mma_backward<ringx_mma_backward_config<T, DK, DV, STRIPS, M, EXTRA>>                                 \
    }
#define RINGX_MMA_BACKWARD(T, DK, DV, STRIPS, M)                                                                       \
    RINGX_MMA_BACKWARD_ONE(T, DK, DV, STRIPS, M, false), RINGX_MMA_BACKWARD_ONE(T, DK, DV, STRIPS, M, true)

#define RINGX_MMA_BACKWARD_LIST(T)                                                                                     \
    RINGX_MMA_BACKWARD(T, 64, 64, 2, 128), RINGX_MMA_BACKWARD(T, 96, 96, 2, 64),                                       \
        RINGX_MMA_BACKWARD(T, 128, 128, 2, 64), RINGX_MMA_BACKWARD(T, 192, 128, 1, 64),                                \
        RINGX_MMA_BACKWARD(T, 256, 256, 1, 32)
