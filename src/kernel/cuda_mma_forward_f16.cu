/* SPDX-License-Identifier: MIT */
/* Portable forward kernels, f16. */
#include "kernel/cuda_mma_forward_list.cuh"

const ringx_mma_variant ringx__mma_forward_f16[] = {RINGX_MMA_FORWARD_LIST(__half), {}};
