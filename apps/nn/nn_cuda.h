/* SPDX-License-Identifier: MIT */
/* The CUDA operators, between the files that have them and the table in nn_cuda.cu. */
#ifndef NN_CUDA_H
#define NN_CUDA_H

#include "nn/operators.h"
#include "nn/product.h"

#ifdef __cplusplus
extern "C" {
#endif

int nn_cuda_open(nn_context *on);
void nn_cuda_close(nn_context *on);

int nn_cuda_linear_forward(const nn_context *on, const nn_linear *l);
int nn_cuda_linear_backward_input(const nn_context *on, const nn_linear *l);
int nn_cuda_linear_backward_weight(const nn_context *on, const nn_linear *l);
int nn_cuda_rms_norm_forward(const nn_context *on, const nn_norm *n);
int nn_cuda_rms_norm_backward(const nn_context *on, const nn_norm *n);
int nn_cuda_layer_norm_forward(const nn_context *on, const nn_norm *n);
int nn_cuda_layer_norm_backward(const nn_context *on, const nn_norm *n);
int nn_cuda_gelu_forward(const nn_context *on, const nn_map *m);
int nn_cuda_gelu_backward(const nn_context *on, const nn_map *m);
int nn_cuda_silu_gate_forward(const nn_context *on, const nn_gate *g);
int nn_cuda_silu_gate_backward(const nn_context *on, const nn_gate *g);
int nn_cuda_add(const nn_context *on, const nn_sum *s);
int nn_cuda_dropout(const nn_context *on, const nn_dropout *d);
int nn_cuda_scale(const nn_context *on, const nn_scale *s);
int nn_cuda_cast(const nn_context *on, const nn_map *m);
int nn_cuda_rope_table(const nn_context *on, const nn_rope_table *r);
int nn_cuda_rope(const nn_context *on, const nn_rope *r);
int nn_cuda_embedding_forward(const nn_context *on, const nn_embedding *e);
int nn_cuda_embedding_backward(const nn_context *on, const nn_embedding *e);
int nn_cuda_loss(const nn_context *on, const nn_loss *l);
int nn_cuda_decode(const nn_context *on, const nn_decode *d);
int nn_cuda_patches_gather(const nn_context *on, const nn_patches *p);
int nn_cuda_patches_scatter(const nn_context *on, const nn_patches *p);
int nn_cuda_sum_squares(const nn_context *on, const float *values, int64_t count, double *sum);
int nn_cuda_adam(const nn_context *on, const nn_update *u);
int nn_cuda_lamb_moments(const nn_context *on, const nn_update *u, double squares[2]);
int nn_cuda_lamb_apply(const nn_context *on, const nn_update *u);

/* As nn_multiply. */
int nn_cuda_multiply(const nn_context *on, const nn_product *p);
/* Every row of y += row. */
int nn_cuda_add_row(const nn_context *on, int64_t tokens, int64_t width, nn_array row, nn_array y);
/* to[j] += sums of columns over tiles of NN_TILE tokens, one tile after the other. */
int nn_cuda_sum_columns(const nn_context *on, int64_t tokens, int64_t width, nn_array from, float *to);

/* What products keep between calls (nn_cuda_product.cu). */
int nn_cuda_blas_open(void **blas);
void nn_cuda_blas_close(void *blas);

#ifdef __cplusplus
}
#endif

#endif
