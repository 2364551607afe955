/* SPDX-License-Identifier: MIT */
/* The backward kernels that are compiled, for one dtype T. */
#include "kernel/cuda_sm90_backward.cuh"
#include "kernel/cuda_sm90_table.h"

#define RINGX_BACKWARD(T, DK, DV, M, EXTRA)                                                                            \
    {                                                                                                                  \
        DK, DV, EXTRA, true, ringx_backward_config<T, DK, DV, M, EXTRA>::N, M, 384,                                    \
            ringx_backward_config<T, DK, DV, M, EXTRA>::SMEM,                                                          \
            (const void *)ringx_sm90_backward<ringx_backward_config<T, DK, DV, M, EXTRA>>                              \
    }

#ifdef RINGX_QUICK
#define RINGX_BACKWARD_LIST(T) RINGX_BACKWARD(T, 64, 64, 128, false), RINGX_BACKWARD(T, 128, 128, 64, false)
#else
#define RINGX_BACKWARD_BOTH(T, DK, DV, M) RINGX_BACKWARD(T, DK, DV, M, false), RINGX_BACKWARD(T, DK, DV, M, true)
#define RINGX_BACKWARD_LIST(T)                                                                                         \
    RINGX_BACKWARD_BOTH(T, 64, 64, 128), RINGX_BACKWARD_BOTH(T, 96, 96, 64), RINGX_BACKWARD_BOTH(T, 128, 128, 64),     \
        RINGX_BACKWARD_BOTH(T, 256, 128, 64), RINGX_BACKWARD_BOTH(T, 256, 256, 64)
#endif
