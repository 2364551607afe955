/* SPDX-License-Identifier: MIT */
/* Which compiled sm_90a kernels there are; one table a dtype and direction, first fit wins, ended by dk = 0. */
#ifndef RINGX_KERNEL_CUDA_SM90_TABLE_H
#define RINGX_KERNEL_CUDA_SM90_TABLE_H

struct ringx_sm90_variant {
    int dk, dv;        /* largest head_dim and value_dim */
    bool extra;        /* softcap, dropout, negative scale */
    bool sparse;       /* meant for masks that leave tiles partly live; false: for the full mask */
    int rows, columns; /* tile: rows of the side that stays, rows of the side that streams */
    int threads, smem_bytes;
    const void *kernel;
};

extern const ringx_sm90_variant ringx__sm90_forward_bf16[], ringx__sm90_forward_f16[];
extern const ringx_sm90_variant ringx__sm90_backward_bf16[], ringx__sm90_backward_f16[];

#endif
