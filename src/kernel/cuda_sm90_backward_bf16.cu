/* SPDX-License-Identifier: MIT */
/* Hopper backward kernels, bf16. */
#include "kernel/cuda_sm90_backward_list.cuh"

const ringx_sm90_variant ringx__sm90_backward_bf16[] = {RINGX_BACKWARD_LIST(__nv_bfloat16), {}};
