/* SPDX-License-Identifier: MIT */
/* Weights as safetensors files: those of the original in all of its forms, and ours, which is the form of one device.
 */
#ifndef RINGX_VIT_WEIGHTS_H
#define RINGX_VIT_WEIGHTS_H

#include "vit/vit_model.h"

/* Into a whole model in floats on the CPU.  One file, or one of each tensor rank in their order.  F32, BF16 or F16;
 * names with "module." before them, block norms as norm1.norm.weight, biases as [1, 1, n] are taken as well.  spread:
 * whether the norms are named as in runs of the original over several ranks, whose eps was 1e-5.  CODE_BAD_INPUT names
 * file and tensor if one is missing, unknown, there twice, of another shape or dtype, or if files differ in what is
 * whole in all of them. */
int vit_weights_read(vit_model *m, char *const *files, size_t count, bool *spread);

/* A whole model in floats on the CPU as one file, rounded to dtype. */
int vit_weights_write(vit_model *m, ringx_dtype dtype, const char *path);

#endif
