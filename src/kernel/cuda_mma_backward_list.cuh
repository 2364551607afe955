/* SPDX-License-Identifier: MIT */
/* The portable backward kernels that are compiled, for one dtype T. */
#include "kernel/cuda_mma_backward.cuh"
#include "kernel/cuda_mma_table.h"

#define RINGX_MMA_BACKWARD_OF(T, DK, DV, WARPS, M, PARTS, EXTRA)                                                       \
    ringx_mma_backward<ringx_mma_backward_config<T, DK, DV, WARPS, M, PARTS, EXTRA>>
#define RINGX_MMA_BACKWARD_ONE(T, DK, DV, WARPS, M, EXTRA, ...)                                                        \
    {                                                                                                                  \
        DK, DV, 16 * WARPS, M, 32 * WARPS, ringx_mma_backward_config<T, DK, DV, WARPS, M, 3, EXTRA>::SMEM, EXTRA,      \
            __VA_ARGS__                                                                                                \
    }
#define RINGX_MMA_BACKWARD(T, DK, DV, WARPS, M)                                                                        \
    RINGX_MMA_BACKWARD_ONE(T, DK, DV, WARPS, M, false, RINGX_MMA_BACKWARD_OF(T, DK, DV, WARPS, M, 3, false), nullptr), \
        RINGX_MMA_BACKWARD_ONE(T, DK, DV, WARPS, M, true, RINGX_MMA_BACKWARD_OF(T, DK, DV, WARPS, M, 3, true),         \
                               nullptr)
#define RINGX_MMA_BACKWARD_TWICE(T, DK, DV, WARPS, M)                                                                  \
    RINGX_MMA_BACKWARD_ONE(T, DK, DV, WARPS, M, false, RINGX_MMA_BACKWARD_OF(T, DK, DV, WARPS, M, 1, false),           \
                           RINGX_MMA_BACKWARD_OF(T, DK, DV, WARPS, M, 2, false)),                                      \
        RINGX_MMA_BACKWARD_ONE(T, DK, DV, WARPS, M, true, RINGX_MMA_BACKWARD_OF(T, DK, DV, WARPS, M, 1, true),         \
                               RINGX_MMA_BACKWARD_OF(T, DK, DV, WARPS, M, 2, true))

#define RINGX_MMA_BACKWARD_LIST(T)                                                                                     \
    RINGX_MMA_BACKWARD(T, 64, 64, 8, 64), RINGX_MMA_BACKWARD(T, 96, 96, 8, 64),                                        \
        RINGX_MMA_BACKWARD(T, 128, 128, 8, 64), RINGX_MMA_BACKWARD_TWICE(T, 192, 128, 4, 32),                          \
        RINGX_MMA_BACKWARD_TWICE(T, 256, 256, 4, 32)
