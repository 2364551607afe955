/* SPDX-License-Identifier: MIT */
/* Seconds of a step on a described machine, of the rank with most tokens.
 *
 * Linear layers: floating point operations by the machine's rate of matrix products.  What is not a product: bytes by
 * its memory's rate.  Attention: the library's forecast.  Sums over ranks: its forecast of single transfers; gradients
 * travel after backward.  Backward computes norms, fc1 and GELU again; with recomputation, all before the attention's
 * residual too. */
#include "shared/numbers.h"
#include "vit/vit_plan.h"

#include <math.h>

const char *const vit_part_names[VIT_PARTS] = {[VIT_PART_LINEAR] = "linear layers",
                                               [VIT_PART_ROWS] = "norms, GELU, sums, casts",
                                               [VIT_PART_FORWARD] = "attention forward",
                                               [VIT_PART_BACKWARD] = "attention backward",
                                               [VIT_PART_TENSOR] = "sums over tensor ranks",
                                               [VIT_PART_GRADIENTS] = "gradients and weights over ranks",
                                               [VIT_PART_OPTIMIZER] = "optimizer"};

/* Tokens of the rank with most, of its samples. */
static double tokens_of(const vit_plan *p)
{
    return (double)p->tokens * (double)p->run.batch;
}

/* Each product of n tokens: 2 for a weight and token; backward twice that. */
static double linear_flops(const vit_plan *p)
{
    const vit_shape *s = &p->shape;
    double d = (double)s->embed, square = d * d / p->layout.size[AXIS_TENSOR], patch = (double)(s->patch * s->patch);
    double attention = 4 * square * (p->run.recompute ? 4 : 3), fc1 = 4 * square * 4, fc2 = 4 * square * 3;
    double ends = d * patch * (2 * (double)s->channels_in + 3 * (double)s->channels_out);
    return 2 * tokens_of(p) * ((double)s->depth * (attention + fc1 + fc2) + ends);
}

/* Bytes through memory of what is not a product: the stream and its gradient are float, the rest of the dtype. */
static double row_bytes(const vit_plan *p)
{
    const vit_shape *s = &p->shape;
    double d = (double)s->embed, inner = 4 * d / p->layout.size[AXIS_TENSOR], e = (double)dtype_bytes(p->dtype);
    double norm = d * (4 + e), norm_backward = d * 20, add = 12 * d, cast = e < 4 ? d * (4 + e) : 0;
    double forward = 2 * norm + 2 * add + 2 * inner * e;
    double backward = 2 * norm + 2 * norm_backward + 5 * inner * e + 2 * cast;
    double again = p->run.recompute ? norm + add : 0;
    double pixels = (double)(s->channels_in + s->channels_out) * (double)(s->patch * s->patch);
    double ends = 2 * norm + norm_backward + cast + 12 * d + pixels * (8 + 2 * e);
    return tokens_of(p) * ((double)s->depth * (forward + backward + again) + ends);
}

/* Of an all-reduce: as a reduce-scatter and an all-gather. */
static int all_reduce(const vit_plan *p, const vit_machine *m, double bytes, double *seconds)
{
    int n = p->layout.size[AXIS_TENSOR], stride = p->stride[AXIS_TENSOR];
    double scatter = 0, gather = 0, wire = (double)(n - 1) / n * bytes;
    int code =
        fail_status(ringx_machine_transfer(m->name, RINGX_OP_REDUCE_SCATTER, n, stride, wire, &scatter), "forecast");
    if (!code)
        code = fail_status(ringx_machine_transfer(m->name, RINGX_OP_ALLGATHER, n, stride, wire, &gather), "forecast");
    *seconds = scatter + gather;
    return code;
}

/* Of a block: proj and fc2 forward, the inputs of both norms backward, proj again with recomputation; in float, a chunk
 * at a time. */
static int tensor_time(vit_plan *p, const vit_machine *m)
{
    double n = p->layout.size[AXIS_TENSOR], sums = (double)p->shape.depth * (p->run.recompute ? 5 : 4);
    double bytes = tokens_of(p) * (double)p->shape.embed * 4, one = 0;
    double chunks = p->run.chunk > 0 ? fmax(1, ceil(tokens_of(p) / (double)p->run.chunk)) : 1;
    if (n < 2)
        return CODE_GOOD;
    int code = all_reduce(p, m, bytes / chunks, &one);
    p->seconds[VIT_PART_TENSOR] = sums * chunks * one;
    p->wire[VIT_PART_TENSOR] = sums * 2 * (n - 1) / n * bytes;
    return code;
}

/* Stage 0 sums whole gradients; 1 sums to owners and gathers weights. */
static int gradient_time(vit_plan *p, int64_t stage, const vit_machine *m)
{
    const int *size = p->layout.size;
    double n = (double)size[AXIS_CONTEXT] * size[AXIS_DATA], elements = (double)p->most_parameters;
    double gradients = (n - 1) / n * elements * 4, sum = 0, gather = 0;
    double weights = (n - 1) / n * elements * (stage ? (double)dtype_bytes(p->dtype) : 4);
    int near = p->stride[AXIS_CONTEXT] < p->stride[AXIS_DATA] ? p->stride[AXIS_CONTEXT] : p->stride[AXIS_DATA];
    if (n < 2)
        return CODE_GOOD;
    int code = fail_status(ringx_machine_transfer(m->name, RINGX_OP_REDUCE_SCATTER, (int)n, near, gradients, &sum),
                           "forecast of gradients");
    if (!code)
        code = fail_status(ringx_machine_transfer(m->name, RINGX_OP_ALLGATHER, (int)n, near, weights, &gather),
                           "forecast of weights");
    p->seconds[VIT_PART_GRADIENTS] = sum + gather;
    p->wire[VIT_PART_GRADIENTS] = gradients + weights;
    return code;
}

/* Reads and writes of gradient, master, moments and weight; the norm; gradients to zero. */
static double optimizer_bytes(const vit_plan *p)
{
    double own = (double)p->optimizer.states, e = (double)dtype_bytes(p->dtype);
    return own * (4 + 3 * 8 + (p->optimizer.master > 0 ? 4 + e : 0)) + 4 * own + 4 * (double)p->most_parameters;
}

int vit_plan_time(vit_plan *p, const vit_config *c, const vit_machine *m, const ringx_forecast f[2])
{
    double depth = (double)p->shape.depth, memory = m->figures.memory_gbs * 1e9;
    const double times[] = {depth * (p->run.recompute ? 2 : 1), depth};
    for (int i = 0; i < 2; i++) {
        p->seconds[VIT_PART_FORWARD + i] = times[i] * f[i].seconds;
        p->wire[VIT_PART_FORWARD + i] = times[i] * (double)f[i].wire_bytes;
        p->exposed[i] = times[i] * f[i].exposed_s;
    }
    p->seconds[VIT_PART_LINEAR] = linear_flops(p) / (m->figures.matrix_flops * m->efficiency);
    p->seconds[VIT_PART_ROWS] = row_bytes(p) / memory;
    p->seconds[VIT_PART_OPTIMIZER] = optimizer_bytes(p) / memory;
    int code = tensor_time(p, m);
    if (!code)
        code = gradient_time(p, c->zero_stage, m);
    p->step = 0;
    for (int i = 0; i < VIT_PARTS; i++)
        p->step += p->seconds[i];
    p->samples_per_s = (double)p->layout.global_batch / p->step;
    p->peak = c->peak_theoretical_tflops > 0 ? c->peak_theoretical_tflops * 1e12 : m->figures.peak_flops;
    p->mfu = p->peak > 0 ? 3 * vit_forward_flops(&p->shape) * p->samples_per_s / p->peak / p->ranks : NAN;
    return code;
}
