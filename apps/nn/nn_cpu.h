/* SPDX-License-Identifier: MIT */
/* The CPU's operators, between the files that have them and the table in nn_cpu.c. */
#ifndef NN_CPU_H
#define NN_CPU_H

#include "nn/operators.h"

int nn_cpu_linear_forward(const nn_context *on, const nn_linear *l);
int nn_cpu_linear_backward_input(const nn_context *on, const nn_linear *l);
int nn_cpu_linear_backward_weight(const nn_context *on, const nn_linear *l);
int nn_cpu_rms_norm_forward(const nn_context *on, const nn_norm *n);
int nn_cpu_rms_norm_backward(const nn_context *on, const nn_norm *n);
int nn_cpu_layer_norm_forward(const nn_context *on, const nn_norm *n);
int nn_cpu_layer_norm_backward(const nn_context *on, const nn_norm *n);
int nn_cpu_gelu_forward(const nn_context *on, const nn_map *m);
int nn_cpu_gelu_backward(const nn_context *on, const nn_map *m);
int nn_cpu_silu_gate_forward(const nn_context *on, const nn_gate *g);
int nn_cpu_silu_gate_backward(const nn_context *on, const nn_gate *g);
int nn_cpu_add(const nn_context *on, const nn_sum *s);
int nn_cpu_dropout(const nn_context *on, const nn_dropout *d);
int nn_cpu_scale(const nn_context *on, const nn_scale *s);
int nn_cpu_cast(const nn_context *on, const nn_map *m);
int nn_cpu_rope_table(const nn_context *on, const nn_rope_table *r);
int nn_cpu_rope(const nn_context *on, const nn_rope *r);
int nn_cpu_embedding_forward(const nn_context *on, const nn_embedding *e);
int nn_cpu_embedding_backward(const nn_context *on, const nn_embedding *e);
int nn_cpu_loss(const nn_context *on, const nn_loss *l);
int nn_cpu_decode(const nn_context *on, const nn_decode *d);
int nn_cpu_patches_gather(const nn_context *on, const nn_patches *p);
int nn_cpu_patches_scatter(const nn_context *on, const nn_patches *p);
int nn_cpu_sum_squares(const nn_context *on, const float *values, int64_t count, double *sum);
int nn_cpu_adam(const nn_context *on, const nn_update *u);
int nn_cpu_lamb_moments(const nn_context *on, const nn_update *u, double squares[2]);
int nn_cpu_lamb_apply(const nn_context *on, const nn_update *u);

#endif
