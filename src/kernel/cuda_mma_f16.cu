/* SPDX-License-Identifier: MIT */
/* Portable kernels, f16. */
#include "kernel/cuda_mma_list.cuh"

const ringx_mma_variant ringx__mma_forward_f16[] = {RINGX_MMA_FORWARD_LIST(__half), {}};
const ringx_mma_variant ringx__mma_backward_f16[] = {RINGX_MMA_BACKWARD_LIST(__half), {}};
