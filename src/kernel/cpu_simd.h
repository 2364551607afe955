/* SPDX-License-Identifier: MIT */
/* cpu_simd, one set of functions per instruction set.  The table row "cpu_simd" is the best of them that this machine
 * can run; tests reach each of them here. */
#ifndef RINGX_KERNEL_CPU_SIMD_H
#define RINGX_KERNEL_CPU_SIMD_H

#include "kernel/kernel.h"

typedef struct ringx_simd {
    ringx_kernel kernel;
    /* Runs `rounds` rounds of independent fused multiply-adds in registers; returns their flops.  *sink receives a
     * number that depends on all of them. */
    double (*fma_rounds)(int64_t rounds, float *sink);
} ringx_simd;

/* Best first, only those that were compiled; NULL past the end.  simd->kernel.available() says if it can run here. */
const ringx_simd *ringx__simd_at(size_t i);

#endif
