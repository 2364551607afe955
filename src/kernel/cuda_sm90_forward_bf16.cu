/* SPDX-License-Identifier: MIT */
/* Hopper forward kernels, bf16. */
#include "kernel/cuda_sm90_forward_list.cuh"

const ringx_sm90_variant ringx__sm90_forward_bf16[] = {RINGX_FORWARD_LIST(__nv_bfloat16), {}};
