/* SPDX-License-Identifier: MIT */
/* One pass of a CUDA kernel row on tensors of bench/kernel_compare.py, [batch][token][head][dim]: a shared object with
 * the rows. */
#include "cuda_named.h"

/* All that one GPU does for a backward: delta, an empty dq, the kernel, and sums rounded to the results' type. */
static ringx_status whole_backward(const ringx_kernel *kernel, ringx_job *job, ringx_query_slice *s, ringx_key_slice *t,
                                   const ringx_view to[3])
{
    const ringx_shape *shape = job->shape;
    const ringx_rowops *ops = &ringx__rowops_cuda;
    const int64_t tokens = s->run.count, heads[] = {job->q_heads, job->kv_heads, job->kv_heads};
    const int64_t dims[] = {shape->head_dim, shape->head_dim, shape->value_dim};
    const ringx_view from[] = {s->dq, t->dk, t->dv};
    t->fresh = kernel->starts_keys;
    t->final = kernel->ends_keys;
    t->dk_out = to[1];
    t->dv_out = to[2];
    RINGX_TRY(ops->delta(shape, tokens, job->q_heads, s->out, s->dout, s->delta, 1, job->stream));
    RINGX_TRY(ops->fill((size_t)(shape->batch * tokens * heads[0] * dims[0]), 0, (float *)s->dq.data, 1, job->stream));
    RINGX_TRY(kernel->backward(job));
    for (int i = 0; i < (t->final ? 1 : 3); i++)
        RINGX_TRY(ops->copy(shape, tokens, heads[i], dims[i], from[i], RINGX_F32, to[i], shape->dtype, 1, job->stream));
    return RINGX_OK;
}

extern "C" __attribute__((visibility("default"))) int
cuda_compare_attention(const char *name, int backward, int ordered, int64_t batch, int64_t tokens, int64_t q_heads,
                       int64_t kv_heads, int64_t dim, int64_t value_dim, int dtype, int causal, void *q, void *k,
                       void *v, void *out, float *lse, void *dout, float *delta, float *sums[3], void *grads[3],
                       void *scratch, void *stream)
{
    ringx_problem r = {};
    r.size = sizeof r;
    r.window_left = r.window_right = -1;
    r.batch = batch;
    r.tokens = tokens;
    r.q_heads = q_heads;
    r.kv_heads = kv_heads;
    r.head_dim = dim;
    r.value_dim = value_dim;
    r.dtype = (ringx_dtype)dtype;
    r.causal = causal;
    ringx_shape shape;
    if (ringx__shape_create(&shape, &r) != RINGX_OK)
        return 1;
    auto view = [&](void *data, int64_t heads, int64_t width) {
        return ringx_view{data, tokens * heads * width, heads * width, width};
    };
    ringx_rows rows = {lse, q_heads * tokens, tokens};
    ringx_query_slice s = {};
    s.run = {tokens, 0, 1};
    s.q = view(q, q_heads, dim);
    s.out = view(out, q_heads, value_dim);
    s.lse = rows;
    s.dout = view(dout, q_heads, value_dim);
    s.delta = {delta, rows.batch_stride, rows.head_stride};
    s.dq = view(sums[0], q_heads, dim);
    ringx_key_slice t = {};
    t.run = s.run;
    t.k = view(k, kv_heads, dim);
    t.v = view(v, kv_heads, value_dim);
    t.dk = view(sums[1], kv_heads, dim);
    t.dv = view(sums[2], kv_heads, value_dim);
    const ringx_view to[] = {view(grads[0], q_heads, dim), view(grads[1], kv_heads, dim),
                             view(grads[2], kv_heads, value_dim)};
    uint8_t live = 1;
    ringx_job job = {};
    job.shape = &shape;
    job.q_heads = q_heads;
    job.kv_heads = kv_heads;
    job.query = &s;
    job.key = &t;
    job.live = &live;
    job.queries = job.keys = 1;
    job.fresh = job.final = true;
    job.scratch = scratch;
    job.threads = 1;
    job.stream = stream;
    job.ordered = ordered;
    const ringx_kernel *kernel = kernel_named(name);
    ringx_status status = kernel->prepare(&shape);
    if (status == RINGX_OK)
        status = backward ? whole_backward(kernel, &job, &s, &t, to) : kernel->forward(&job);
    if (status != RINGX_OK)
        printf("%s: %s\n", name, ringx_last_error());
    ringx__shape_destroy(&shape);
    return status != RINGX_OK;
}
