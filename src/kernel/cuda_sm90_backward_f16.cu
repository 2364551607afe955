/* SPDX-License-Identifier: MIT */
/* Hopper backward kernels, f16. */
#include "kernel/cuda_sm90_backward_list.cuh"

const ringx_sm90_variant ringx__sm90_backward_f16[] = {RINGX_BACKWARD_LIST(__half), {}};
