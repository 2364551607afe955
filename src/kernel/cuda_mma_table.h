/* SPDX-License-Identifier: MIT */
/* Which portable CUDA kernels there are; one table a dtype and direction, first fit wins, ended by dk = 0. */
#ifndef RINGX_KERNEL_CUDA_MMA_TABLE_H
#define RINGX_KERNEL_CUDA_MMA_TABLE_H

struct ringx_mma_params;

struct ringx_mma_variant {
    int dk, dv;        /* largest head_dim and value_dim */
    int rows, columns; /* tile: rows of the side that stays, rows of the side that streams */
    int threads, smem_bytes;
    bool extra; /* has softcap, dropout, a scale that is not positive */
    void (*kernel)(ringx_mma_params);
};

extern const ringx_mma_variant ringx__mma_forward_bf16[], ringx__mma_forward_f16[];
extern const ringx_mma_variant ringx__mma_backward_bf16[], ringx__mma_backward_f16[];

#endif
