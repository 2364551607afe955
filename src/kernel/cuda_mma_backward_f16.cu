/* SPDX-License-Identifier: MIT */
/* Portable backward kernels, f16. */
#include "kernel/cuda_mma_backward_list.cuh"

const ringx_mma_variant ringx__mma_backward_f16[] = {RINGX_MMA_BACKWARD_LIST(__half), {}};
