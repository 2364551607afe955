/* SPDX-License-Identifier: MIT */
/* Seconds of a step on a described machine, of the rank with most tokens.
 *
 * Linear layers: floating point operations by the machine's rate of matrix products.  What is not a product: bytes by
 * its memory's rate.  Attention: the library's forecast.  Sums over ranks: its forecast of single transfers; gradients
 * travel after backward.  Backward computes norms and GELU again, fc1 unless it is kept; with recomputation, all before
 * the attention's residual too. */
#include "shared/numbers.h"
#include "vit/vit_plan.h"

#include <math.h>

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
    double kept = (double)p->run.keep_mlp * 4 * square;
    return 2 * tokens_of(p) * ((double)s->depth * (attention + fc1 + fc2) - kept + ends);
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

/* Of a block: proj and fc2 forward, the inputs of both norms backward, proj again with recomputation; in float, a chunk
 * at a time. */
static int tensor_time(vit_plan *p, const paper_machine *m)
{
    double n = p->layout.size[AXIS_TENSOR], sums = (double)p->shape.depth * (p->run.recompute ? 5 : 4);
    double bytes = tokens_of(p) * (double)p->shape.embed * 4, one = 0;
    double chunks = p->run.chunk > 0 ? fmax(1, ceil(tokens_of(p) / (double)p->run.chunk)) : 1;
    if (n < 2)
        return CODE_GOOD;
    int code = paper_all_reduce(&p->plan, m, AXIS_TENSOR, bytes / chunks, &one);
    p->plan.seconds[PAPER_TENSOR] = sums * chunks * one;
    p->plan.wire[PAPER_TENSOR] = sums * 2 * (n - 1) / n * bytes;
    return code;
}

/* Of products and rows backward is two thirds.  The last of the sums: buckets with a part of what precedes the blocks.
 */
static paper_sums sums_of(const vit_plan *p, const vit_config *c)
{
    const double *seconds = p->plan.seconds, all = (double)p->plan.most_parameters, cut = fmin((double)VIT_BUCKET, all);
    const double pixels = (double)(p->shape.channels_in * p->shape.patch * p->shape.patch);
    const double image = (double)(p->shape.height / p->shape.patch * (p->shape.width / p->shape.patch));
    const double first = (double)p->shape.embed * (pixels + 1 + image);
    double beside = 2.0 / 3 * (seconds[PAPER_LINEAR] + seconds[PAPER_ROWS]) + seconds[PAPER_BACKWARD];
    return (paper_sums){.stage = c->zero_stage,
                        .dtype = p->dtype,
                        .steps = 1,
                        .beside = c->overlap_comm ? beside : 0,
                        .last = (all - cut * floor((all - first) / cut)) / all};
}

int vit_plan_time(vit_plan *p, const vit_config *c, const paper_machine *m, const ringx_forecast f[2])
{
    double depth = (double)p->shape.depth;
    const double times[] = {depth * (p->run.recompute ? 2 : 1), depth};
    for (int i = 0; i < 2; i++) {
        p->plan.seconds[PAPER_FORWARD + i] = times[i] * f[i].seconds;
        p->plan.wire[PAPER_FORWARD + i] = times[i] * (double)f[i].wire_bytes;
        p->plan.exposed[i] = times[i] * f[i].exposed_s;
    }
    paper_own_time(&p->plan, m, linear_flops(p), row_bytes(p), p->dtype);
    int code = tensor_time(p, m);
    const paper_sums sums = sums_of(p, c);
    if (!code)
        code = paper_gradient_time(&p->plan, m, &sums);
    paper_finish(&p->plan, m, c->peak_theoretical_tflops);
    p->samples_per_s = (double)p->layout.global_batch / p->plan.step;
    p->plan.mfu =
        p->plan.peak > 0 ? 3 * vit_forward_flops(&p->shape) * p->samples_per_s / p->plan.peak / p->plan.ranks : NAN;
    return code;
}
