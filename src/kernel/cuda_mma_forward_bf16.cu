/* SPDX-License-Identifier: MIT */
/* Portable forward kernels, bf16. */
#include "kernel/cuda_mma_forward_list.cuh"

const ringx_mma_variant ringx__mma_forward_bf16[] = {RINGX_MMA_FORWARD_LIST(__nv_bfloat16), {}};
