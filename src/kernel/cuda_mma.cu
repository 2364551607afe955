/* SPDX-License-Identifier: MIT */
/* Host side of the portable CUDA kernels: parameters, choice of tile sizes, launches. */
#include "kernel/cuda_mma.cuh"
#include "kernel/cuda_mma_table.h"

extern "C" {
#include "kernel/cuda_rows.h"
}

#define L2_BYTES (INT64_C(16) << 20) /* of K, V (Q, dO, dQ in backward) that one group of heads may fill */

namespace
{

const ringx_mma_variant *variant(const ringx_shape *shape, bool backward)
{
    const ringx_mma_variant *v = backward
                                     ? shape->dtype == RINGX_BF16 ? ringx__mma_backward_bf16 : ringx__mma_backward_f16
                                 : shape->dtype == RINGX_BF16 ? ringx__mma_forward_bf16
                                                              : ringx__mma_forward_f16;
    bool extra = shape->softcap > 0 || shape->dropout > 0 || shape->scale <= 0;
    while (v->dk && (v->dk < shape->head_dim || v->dv < shape->value_dim || v->extra != extra))
        v++;
    return v->dk ? v : nullptr;
}

ringx_view skip(ringx_view v, int64_t tokens, int64_t element)
{
    v.data = v.data ? (char *)v.data + tokens * v.token_stride * element : nullptr;
    return v;
}

ringx_rows skip(ringx_rows r, int64_t tokens)
{
    r.data = r.data ? r.data + tokens : nullptr;
    return r;
}

/* Query slices [q0, …) of the job; tile: queries a tile.  Backward drops tokens that are padding, forward writes them.
 */
ringx_status take_queries(const ringx_job *job, size_t q0, int tile, bool backward, ringx_mma_params *p,
                          size_t kept[RINGX_MMA_QUERIES])
{
    int64_t tiles = 0;
    for (size_t i = q0; i < job->queries && i < q0 + RINGX_MMA_QUERIES; i++) {
        const ringx_query_slice &s = job->query[i];
        ringx_run run = s.run;
        int64_t skipped = backward ? ringx__cuda_clip(&job->shape->mask, &run) : 0;
        if (run.count <= 0)
            continue;
        if (run.count > INT32_MAX / 2)
            RINGX_FAIL(RINGX_UNSUPPORTED, "%lld tokens in one slice; at most %d", (long long)run.count, INT32_MAX / 2);
        tiles += (run.count + tile - 1) / tile;
        kept[p->queries] = i;
        p->query[p->queries] = {run.first, run.step, (int)run.count, (int)tiles};
        p->of[p->queries] = {skip(s.q, skipped, 2),    skip(s.acc, skipped, 4), skip(s.out, skipped, 2),
                             skip(s.dout, skipped, 2), skip(s.dq, skipped, 4),  skip(s.m, skipped),
                             skip(s.l, skipped),       skip(s.lse, skipped),    skip(s.delta, skipped)};
        p->aligned = p->aligned && ringx__cuda_by(p->of[p->queries].q, 16, 8) &&
                     (!backward || ringx__cuda_by(p->of[p->queries].dout, 16, 8));
        p->paired = p->paired && (!backward || ringx__cuda_by(p->of[p->queries].dq, 8, 2));
        p->queries++;
    }
    p->q_tiles = (int)tiles;
    return RINGX_OK;
}

ringx_status take_keys(const ringx_job *job, size_t k0, int tile, const size_t *kept, ringx_mma_params *p)
{
    int64_t tiles = 0;
    for (size_t i = k0; i < job->keys && i < k0 + RINGX_MMA_KEYS; i++) {
        const ringx_key_slice &s = job->key[i];
        ringx_run run = s.run;
        int64_t skipped = ringx__cuda_clip(&job->shape->mask, &run);
        uint64_t seen = 0;
        for (int j = 0; j < p->queries; j++)
            seen |= (uint64_t)(job->live[kept[j] * job->keys + i] != 0) << j;
        if (run.count <= 0 || !seen)
            continue;
        if (run.count > INT32_MAX / 2)
            RINGX_FAIL(RINGX_UNSUPPORTED, "%lld tokens in one slice; at most %d", (long long)run.count, INT32_MAX / 2);
        int n = p->keys++;
        tiles += (run.count + tile - 1) / tile;
        p->key[n] = {run.first, run.step, (int)run.count, (int)tiles};
        p->k[n] = skip(s.k, skipped, 2);
        p->v[n] = skip(s.v, skipped, 2);
        p->dk[n] = skip(s.dk, skipped, 4);
        p->dv[n] = skip(s.dv, skipped, 4);
        p->aligned = p->aligned && ringx__cuda_by(p->k[n], 16, 8) && ringx__cuda_by(p->v[n], 16, 8);
        for (int j = 0; j < p->queries; j++)
            p->live[j] |= (seen >> j & 1) << n;
    }
    return RINGX_OK;
}

ringx_status launch(const ringx_mma_variant *v, int64_t blocks, const ringx_mma_params &p, void *stream)
{
    if (blocks > INT32_MAX)
        RINGX_FAIL(RINGX_UNSUPPORTED, "%lld tiles in one job; at most %d", (long long)blocks, INT32_MAX);
    RINGX_CUDA_TRY(
        ringx__cuda_launch(v->kernel, dim3((unsigned)blocks), (unsigned)v->threads, (size_t)v->smem_bytes, stream, p));
    return RINGX_OK;
}

ringx_status piece(const ringx_job *job, const ringx_mma_variant *v, const ringx_cuda_mask &mask, int *turns, size_t q0,
                   size_t k0, bool backward)
{
    const ringx_shape *shape = job->shape;
    size_t kept[RINGX_MMA_QUERIES];
    ringx_mma_params p = {};
    p.aligned = shape->head_dim % 8 == 0 && shape->value_dim % 8 == 0;
    p.paired = shape->head_dim % 2 == 0;
    RINGX_TRY(take_queries(job, q0, backward ? v->columns : v->rows, backward, &p, kept));
    RINGX_TRY(take_keys(job, k0, backward ? v->rows : v->columns, kept, &p));
    if (p.queries == 0 || (backward && p.keys == 0))
        return RINGX_OK;
    p.mask = mask;
    p.drop = ringx__cuda_dropout_of(shape);
    p.q_heads = (int)job->q_heads;
    p.kv_heads = (int)job->kv_heads;
    p.batch = (int)shape->batch;
    p.q_head = (int)job->q_head;
    p.kv_head = (int)job->kv_head;
    p.group = (int)shape->group;
    p.head_dim = (int)shape->head_dim;
    p.value_dim = (int)shape->value_dim;
    p.scale = (float)shape->scale;
    p.softcap = (float)shape->softcap;
    p.fresh = job->fresh && k0 == 0;
    p.final = job->final && k0 + RINGX_MMA_KEYS >= job->keys;
    int64_t streamed = 1, dims = shape->head_dim + shape->value_dim;
    for (int i = 0; i < (backward ? p.queries : p.keys); i++)
        streamed += backward ? p.query[i].count : p.key[i].count;
    int64_t column_bytes = backward ? streamed * shape->group * (2 * dims + 4 * shape->head_dim) : streamed * 2 * dims;
    int64_t columns = (backward ? job->kv_heads : job->q_heads) * shape->batch, together = L2_BYTES / column_bytes;
    int64_t tiles = backward ? p.key[p.keys - 1].tiles : p.query[p.queries - 1].tiles;
    together = (together < 1 ? 1 : together) * (backward ? 1 : shape->group);
    p.head_group = (int)(together < columns ? together : columns);
    if (!backward)
        return launch(v, tiles * columns, p, job->stream);
    if (job->ordered) {
        p.turn = turns;
        size_t bytes = (size_t)p.q_tiles * (size_t)p.q_heads * (size_t)p.batch * sizeof *turns;
        RINGX_CUDA_TRY(cudaMemsetAsync(turns, 0, bytes, (cudaStream_t)job->stream));
    }
    return launch(v, tiles * columns, p, job->stream);
}

ringx_status run(const ringx_job *job, bool backward)
{
    const ringx_shape *shape = job->shape;
    if (shape->batch <= 0 || job->q_heads <= 0 || job->queries == 0)
        return RINGX_OK;
    if (!backward && job->fresh && job->final && job->keys > RINGX_MMA_KEYS)
        RINGX_FAIL(RINGX_UNSUPPORTED, "%zu key slices in one fresh and final job; at most %d, or give it a state",
                   job->keys, RINGX_MMA_KEYS);
    const ringx_mma_variant *v = variant(shape, backward);
    for (size_t i = 0; i < job->keys && backward; i++)
        if (job->key[i].fresh)
            RINGX_TRY(ringx__cuda_clear_keys(job, job->key[i]));
    ringx_cuda_mask mask;
    RINGX_TRY(ringx__cuda_mask_of(job, &mask));
    int *turns = (int *)((char *)job->scratch + ringx__cuda_mask_bytes(shape));
    for (size_t q0 = 0; q0 < job->queries; q0 += RINGX_MMA_QUERIES) {
        size_t k0 = 0;
        do {
            RINGX_TRY(piece(job, v, mask, turns, q0, k0, backward));
            k0 += RINGX_MMA_KEYS;
        } while (k0 < job->keys);
    }
    return RINGX_OK;
}

bool available()
{
    int device = 0, bytes = 0;
    return ringx__cuda_capability(8, 0) && cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess &&
           bytes >= (160 << 10);
}

bool supports(const ringx_shape *shape)
{
    return shape->dtype != RINGX_F32 && variant(shape, false) && variant(shape, true);
}

/* Document bounds, then the backward's turns: one a block of queries, head and batch. */
size_t scratch_bytes(const ringx_shape *shape, int64_t q_heads, int64_t, int64_t tokens, int, bool backward)
{
    size_t bytes = ringx__cuda_mask_bytes(shape);
    const ringx_mma_variant *v = variant(shape, true);
    if (backward && v) {
        size_t blocks = (size_t)(tokens / v->columns) + RINGX_MMA_QUERIES;
        bytes += (blocks * (size_t)(q_heads * shape->batch) * sizeof(int) + 127) / 128 * 128;
    }
    return bytes;
}

ringx_status prepare(const ringx_shape *shape)
{
    for (int backward = 0; backward < 2; backward++) {
        const ringx_mma_variant *v = variant(shape, backward);
        RINGX_CUDA_TRY(ringx__cuda_load((const void *)v->kernel, v->smem_bytes));
    }
    return RINGX_OK;
}

ringx_status forward(const ringx_job *job)
{
    return run(job, false);
}

ringx_status backward(const ringx_job *job)
{
    return run(job, true);
}

} // namespace

extern "C" const ringx_kernel ringx__kernel_cuda_mma = {
    "cuda-mma", "mma.sync and cp.async, sm_80 and later, any strides",
    RINGX_CUDA, true,
    false,      nullptr,
    nullptr,    available,
    supports,   scratch_bytes,
    prepare,    forward,
    backward};
