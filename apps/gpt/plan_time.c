/* SPDX-License-Identifier: MIT */
/* Seconds of a step on a described machine, of the rank with most tokens.
 *
 * Linear layers: floating point operations by the machine's rate of matrix products.  What is not a product: bytes by
 * its memory's rate.  Attention: the library's forecast.  Sums over ranks: its forecast of single transfers; with
 * overlap_comm gradients travel beside backward.  Backward computes norms again, and gate and up unless they are kept;
 * with recomputation, all before the attention's residual too, but for the attention itself where that is kept. */
#include "gpt/plan_paper.h"

#include "shared/numbers.h"
#include "train/train_log.h"

#include <math.h>

typedef struct shape {                                        /* of the rank with most tokens, in a micro-step */
    double layers, width, q, kv, inner, words, tokens, bytes; /* bytes: of an element */
    double kept_mlps;                                         /* layers */
    double chunks, loss_chunks;                               /* numbers of them */
    bool recompute, attends_again, partition;
} shape;

static double pieces(double tokens, int64_t chunk)
{
    return chunk > 0 && tokens > 0 ? ceil(tokens / (double)chunk) : 1;
}

static shape shape_of(const gpt_paper *p, const gpt_settings *s, const gpt_paper_attention *a)
{
    int64_t most = 0;
    double tensor = p->plan.size[AXIS_TENSOR], head = (double)s->model.head_dim / tensor;
    for (int i = 0; i < a->ranks; i++)
        most = a->local_tokens[i] > most ? a->local_tokens[i] : most;
    double tokens = (double)most * (double)s->run.batch;
    return (shape){.layers = (double)s->model.layers,
                   .width = (double)s->model.width,
                   .q = (double)s->model.heads * head,
                   .kv = (double)s->model.kv_heads * head,
                   .inner = (double)s->model.inner / tensor,
                   .words = (double)s->model.vocabulary / tensor,
                   .tokens = tokens,
                   .kept_mlps = (double)s->run.keep_mlp,
                   .bytes = (double)dtype_bytes(s->dtype),
                   .chunks = pieces(tokens, s->run.chunk),
                   .loss_chunks = pieces(tokens, s->run.loss_chunk),
                   .recompute = s->run.recompute,
                   .attends_again = s->run.recompute && !s->run.keep_attention,
                   .partition = s->run.partition};
}

/* Each product of n tokens: 2 for a weight and token; backward twice that. */
static double linear_flops(const shape *h)
{
    double attention = h->width * (2 * h->q + 2 * h->kv), gates = 2 * h->width * h->inner, down = h->width * h->inner;
    double layer = attention * (h->recompute ? 4 : 3) + gates * 4 + down * 3;
    return 2 * h->tokens * (h->layers * layer - h->kept_mlps * gates + 3 * h->width * h->words);
}

/* Bytes through memory of what is not a product. */
static double row_bytes(const shape *h)
{
    double e = h->bytes, w = h->width;
    double norm = 2 * w * e, add = w * (4 + 2 * e), rope = 2 * (h->q + h->kv) * e, gate = 3 * h->inner * e;
    double attention = norm + rope + add, mlp = norm + gate; /* the mlp's residual apart: it is not computed again */
    double norm_backward = w * (3 * e + 4);
    double backward = mlp + norm_backward + 5 * h->inner * e + rope + norm + norm_backward;
    double layer = attention + mlp + add + backward + (h->recompute ? attention : 0);
    double ends = w * (4 + 2 * e) + norm + norm_backward + 2 * w * e; /* embedding and last norm */
    return h->tokens * (h->layers * layer + ends + h->words * (12 + e));
}

/* Parts of the inputs of all layers but the last, for backward. */
static int gather_inputs(gpt_paper *p, const shape *h, const paper_machine *m)
{
    double n = p->plan.size[AXIS_TENSOR], wire = (n - 1) / n * h->tokens * h->width * h->bytes, seconds = 0;
    double times = (double)p->steps * fmax(0, h->layers - 1);
    int code = fail_status(
        ringx_machine_transfer(m->name, RINGX_OP_ALLGATHER, (int)n, p->plan.stride[AXIS_TENSOR], wire, &seconds),
        "forecast of inputs");
    p->plan.seconds[PAPER_TENSOR] += times * seconds;
    p->plan.wire[PAPER_TENSOR] += times * wire;
    return code;
}

/* Of a layer: o and down forward, the inputs of both norms backward, o again with recomputation; of the model: the
 * embedding, and the last norm's input.  In float, a chunk at a time. */
static int tensor_time(gpt_paper *p, const shape *h, const paper_machine *m)
{
    double n = p->plan.size[AXIS_TENSOR], layers = h->layers * (h->recompute ? 5 : 4) + 1,
           bytes = h->tokens * h->width * 4;
    double chunk = 0, loss_chunk = 0;
    if (n < 2)
        return CODE_GOOD;
    int code = paper_all_reduce(&p->plan, m, AXIS_TENSOR, bytes / h->chunks, &chunk);
    if (!code)
        code = paper_all_reduce(&p->plan, m, AXIS_TENSOR, bytes / h->loss_chunks, &loss_chunk);
    double steps = (double)p->steps;
    p->plan.seconds[PAPER_TENSOR] = steps * (layers * h->chunks * chunk + h->loss_chunks * loss_chunk);
    p->plan.wire[PAPER_TENSOR] = steps * (layers + 1) * 2 * (n - 1) / n * bytes;
    return code || !h->partition ? code : gather_inputs(p, h, m);
}

static void attention_time(gpt_paper *p, const gpt_paper_attention *a, bool again)
{
    double steps = (double)p->steps, forwards = again ? 2 : 1;
    p->plan.seconds[PAPER_FORWARD] = steps * forwards * a->seconds[0];
    p->plan.seconds[PAPER_BACKWARD] = steps * a->seconds[1];
    p->plan.exposed[0] = steps * forwards * a->exposed[0];
    p->plan.exposed[1] = steps * a->exposed[1];
    p->plan.wire[PAPER_FORWARD] = steps * forwards * a->wire[0];
    p->plan.wire[PAPER_BACKWARD] = steps * a->wire[1];
}

/* Of products and rows backward is two thirds.  The last of the sums: those with a part of the embedding's. */
static paper_sums sums_of(const gpt_paper *p, const config *c, const gpt_settings *s, const shape *h)
{
    const double *seconds = p->plan.seconds, all = (double)p->plan.most_parameters;
    double beside = 2.0 / 3 * (seconds[PAPER_LINEAR] + seconds[PAPER_ROWS]) + seconds[PAPER_BACKWARD];
    double bucket = (double)c->reduce_bucket_size, words = h->width * h->words; /* elements */
    double cut = bucket > 0 && bucket < all ? bucket : all;
    double last = s->run.split_gradients ? words : all - cut * floor((all - words) / cut);
    return (paper_sums){.stage = c->zero_stage,
                        .dtype = s->dtype,
                        .steps = p->steps,
                        .beside = c->overlap_comm ? beside / (double)p->steps : 0,
                        .last = last / all};
}

/* Share of the peak of model operations: causal attention once, none for recomputation. */
static double share_of_peak(const gpt_paper *p, const config *c, const gpt_settings *s)
{
    flop_shape f = {.layers = (double)s->model.layers,
                    .width = (double)s->model.width,
                    .heads = (double)s->model.heads,
                    .kv_heads = (double)s->model.kv_heads,
                    .head_dim = (double)s->model.head_dim,
                    .inner = (double)s->model.inner,
                    .vocabulary = (double)s->model.vocabulary,
                    .tokens = (double)c->seq_length,
                    .batch = (double)p->batch};
    return p->plan.peak > 0 ? flops_exact(&f, false) / p->plan.step / p->plan.peak / p->plan.ranks : NAN;
}

int gpt_paper_time(gpt_paper *p, const config *c, const gpt_settings *s, const gpt_paper_attention *a,
                   const paper_machine *machine)
{
    shape h = shape_of(p, s, a);
    double steps = (double)p->steps;
    paper_own_time(&p->plan, machine, steps * linear_flops(&h), steps * row_bytes(&h), s->dtype);
    attention_time(p, a, h.attends_again);
    int code = tensor_time(p, &h, machine);
    paper_sums sums = sums_of(p, c, s, &h);
    if (!code)
        code = paper_gradient_time(&p->plan, machine, &sums);
    paper_finish(&p->plan, machine, c->peak_theoretical_tflops);
    p->tokens_per_s = (double)p->batch * (double)c->seq_length / p->plan.step;
    p->plan.mfu = share_of_peak(p, c, s);
    return code;
}
