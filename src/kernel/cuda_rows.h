/* SPDX-License-Identifier: MIT */
/* The CUDA kernel rows, as one falls back on another for strides or sizes that it cannot take. */
#ifndef RINGX_KERNEL_CUDA_ROWS_H
#define RINGX_KERNEL_CUDA_ROWS_H

#include "kernel/kernel.h"

extern const ringx_kernel ringx__kernel_cuda_ref, ringx__kernel_cuda_mma, ringx__kernel_cuda_sm90;
extern const ringx_rowops ringx__rowops_cuda;

#endif
