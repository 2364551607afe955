/* SPDX-License-Identifier: MIT */
/* The CPU's row of the operator table. */
#include "nn/nn_cpu.h"

#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

static int zero(const nn_context *on, void *memory, size_t bytes)
{
    (void)on;
    if (bytes)
        memset(memory, 0, bytes);
    return 0;
}

static int host_alloc(size_t bytes, void **memory)
{
    *memory = malloc(bytes ? bytes : 1);
    return *memory ? CODE_GOOD : fail(CODE_NO_MEMORY, "out of memory: %zu bytes were needed", bytes);
}

/* Done at once. */
static int copy_begin(const nn_context *on, void *to, const void *from, size_t bytes)
{
    (void)on;
    if (bytes)
        memcpy(to, from, bytes);
    return CODE_GOOD;
}

static int wait(const nn_context *on)
{
    (void)on;
    return CODE_GOOD;
}

const nn_ops nn_cpu = {
    .name = "cpu",
    .device = RINGX_CPU,
    .linear_forward = nn_cpu_linear_forward,
    .linear_backward_input = nn_cpu_linear_backward_input,
    .linear_backward_weight = nn_cpu_linear_backward_weight,
    .rms_norm_forward = nn_cpu_rms_norm_forward,
    .rms_norm_backward = nn_cpu_rms_norm_backward,
    .layer_norm_forward = nn_cpu_layer_norm_forward,
    .layer_norm_backward = nn_cpu_layer_norm_backward,
    .gelu_forward = nn_cpu_gelu_forward,
    .gelu_backward = nn_cpu_gelu_backward,
    .silu_gate_forward = nn_cpu_silu_gate_forward,
    .silu_gate_backward = nn_cpu_silu_gate_backward,
    .add = nn_cpu_add,
    .dropout = nn_cpu_dropout,
    .scale = nn_cpu_scale,
    .cast = nn_cpu_cast,
    .rope_table = nn_cpu_rope_table,
    .rope = nn_cpu_rope,
    .embedding_forward = nn_cpu_embedding_forward,
    .embedding_backward = nn_cpu_embedding_backward,
    .loss = nn_cpu_loss,
    .decode = nn_cpu_decode,
    .patches_gather = nn_cpu_patches_gather,
    .patches_scatter = nn_cpu_patches_scatter,
    .sum_squares = nn_cpu_sum_squares,
    .adam = nn_cpu_adam,
    .lamb_moments = nn_cpu_lamb_moments,
    .lamb_apply = nn_cpu_lamb_apply,
    .zero = zero,
    .host_alloc = host_alloc,
    .host_free = free,
    .copy_begin = copy_begin,
    .copy_wait = wait,
    .wait = wait,
};
