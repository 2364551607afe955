/* SPDX-License-Identifier: MIT */
/* The CUDA operators, between the files that have them and the table in nn_cuda.cu. */
#ifndef NN_CUDA_H
#define NN_CUDA_H

#include "nn/operators.h"

int nn_cuda_open(nn_context *on);
void nn_cuda_close(nn_context *on);

#endif
