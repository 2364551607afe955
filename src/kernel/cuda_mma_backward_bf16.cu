/* SPDX-License-Identifier: MIT */
/* Portable backward kernels, bf16. */
#include "kernel/cuda_mma_backward_list.cuh"

const ringx_mma_variant ringx__mma_backward_bf16[] = {RINGX_MMA_BACKWARD_LIST(__nv_bfloat16), {}};
