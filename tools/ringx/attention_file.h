/* SPDX-License-Identifier: MIT */
/* Attention problems in safetensors files: q (batch, tokens, query heads, head_dim), k, v, optionally dout, as F64,
 * F32, BF16 or F16; metadata causal, window_left, window_right, softcap, scale, cu_seqlens. */
#ifndef RINGX_COMMAND_ATTENTION_FILE_H
#define RINGX_COMMAND_ATTENTION_FILE_H

#include "shared/safetensors.h"
#include "trial.h"

typedef struct attention_file {
    st_file file;
    ringx_problem problem; /* document_starts point into starts */
    int64_t *starts;
    const st_tensor *tensors[TENSORS]; /* NULL: not in the file */
} attention_file;

/* Checks the shapes of all tensors that are there; q, k, v must be.  The problem's dtype is the half type that q, k, v
 * (and dout) have in common, else f32. */
int attention_open(attention_file *a, const char *path);
void attention_close(attention_file *a);
/* A packed tensor of dtype to; a finite number that to cannot hold is an error. */
int attention_load(const attention_file *a, tensor_id id, ringx_dtype to, void **data);
/* The same in double, for what is compared with. */
int attention_load_double(const attention_file *a, tensor_id id, double **data);

/* count values of dtype `from` as `to`: F64, F32, BF16 or F16; half types keep their bits. */
void attention_convert(ringx_dtype from, const void *values, st_dtype to, void *result, size_t count);

#endif
