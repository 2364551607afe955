/* SPDX-License-Identifier: MIT */
/* Host side of the Hopper kernels: tensor maps from views and strides, choice of tile sizes, launches. */
#include <cudaTypedefs.h>

extern "C" {
#include "kernel/cuda_rows.h"
}
#include "kernel/cuda_sm90.cuh"
#include "kernel/cuda_sm90_table.h"

/* Tiles a multiprocessor in the last group: enough of them for the short ones to even out the long ones.  Forward's
 * keys are read by many, and may be so of many heads; backward's dQ is not. */
enum { FORWARD_FILL = 8, BACKWARD_FILL = 2 };

#define L2_BYTES (INT64_C(32) << 20) /* of K, V (Q, dO in backward) that one group of heads may fill */

namespace
{

PFN_cuTensorMapEncodeTiled_v12000 encode_tiled()
{
    static PFN_cuTensorMapEncodeTiled_v12000 found; /* every thread would store the same */
    if (!found) {
        void *f = nullptr;
        cudaDriverEntryPointQueryResult result;
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &result) ==
            cudaSuccess)
            found = (PFN_cuTensorMapEncodeTiled_v12000)f;
    }
    return found;
}

struct map_shape {
    int64_t dim, count, heads, batch;
    int box_dim, box_rows;
    CUtensorMapDataType type;
    int element;
    CUtensorMapSwizzle swizzle;
};

/* The copy engine wants 16-byte bases and strides. */
bool can_map(const ringx_view &v, const map_shape &s)
{
    int64_t unit = 16 / s.element;
    return (uintptr_t)v.data % 16 == 0 && (s.batch == 1 || v.batch_stride % unit == 0) && v.token_stride % unit == 0 &&
           (s.heads == 1 || v.head_stride % unit == 0) && v.token_stride > 0;
}

ringx_status make_map(CUtensorMap *map, const ringx_view &v, const map_shape &s)
{
    auto bytes = [&](int64_t stride, int64_t size) { return size > 1 ? (cuuint64_t)(stride * s.element) : 16; };
    cuuint64_t size[4] = {(cuuint64_t)s.dim, (cuuint64_t)s.count, (cuuint64_t)s.heads, (cuuint64_t)s.batch};
    cuuint64_t stride[3] = {bytes(v.token_stride, s.count), bytes(v.head_stride, s.heads),
                            bytes(v.batch_stride, s.batch)};
    cuuint32_t box[4] = {(cuuint32_t)s.box_dim, (cuuint32_t)s.box_rows, 1, 1}, one[4] = {1, 1, 1, 1};
    PFN_cuTensorMapEncodeTiled_v12000 encode = encode_tiled();
    if (!encode)
        RINGX_FAIL(RINGX_DEVICE, "the CUDA driver has no cuTensorMapEncodeTiled; it must be of CUDA 12 or later");
    CUresult r = encode(map, s.type, 4, v.data, size, stride, box, one, CU_TENSOR_MAP_INTERLEAVE_NONE, s.swizzle,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (r != CUDA_SUCCESS)
        RINGX_FAIL(RINGX_DEVICE,
                   "cuTensorMapEncodeTiled failed with %d for %lld × %lld × %lld × %lld, strides %lld %lld %lld",
                   (int)r, (long long)s.dim, (long long)s.count, (long long)s.heads, (long long)s.batch,
                   (long long)v.token_stride, (long long)v.head_stride, (long long)v.batch_stride);
    return RINGX_OK;
}

map_shape input_map(const ringx_shape *shape, int64_t dim, int64_t count, int64_t heads, int rows)
{
    return {dim,
            count,
            heads,
            shape->batch,
            64,
            rows,
            shape->dtype == RINGX_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            2,
            CU_TENSOR_MAP_SWIZZLE_128B};
}

ringx_view skip(ringx_view v, int64_t tokens, size_t element)
{
    v.data = (char *)v.data + tokens * v.token_stride * (int64_t)element;
    return v;
}

/* A view of 16-bit elements that begins at a head, as if it began at head 0, which nobody reads. */
ringx_view from_head_0(ringx_view v, int64_t head)
{
    v.data = (void *)((uintptr_t)v.data - (uintptr_t)(head * v.head_stride * 2));
    return v;
}

bool needs_extra(const ringx_shape *shape)
{
    return shape->softcap > 0 || shape->dropout > 0 || shape->scale <= 0;
}

bool is_sparse(const ringx_shape *shape)
{
    return shape->mask.starts || shape->mask.left < shape->tokens || shape->mask.right < shape->tokens;
}

const ringx_sm90_variant *choose(const ringx_sm90_variant *from, const ringx_shape *shape)
{
    const ringx_sm90_variant *best = nullptr;
    for (const ringx_sm90_variant *v = from; v->dk; v++) {
        if (v->dk < shape->head_dim || v->dv < shape->value_dim || v->extra != needs_extra(shape))
            continue;
        bool fits = v->sparse == is_sparse(shape);
        if (!best || (v->dk == best->dk && v->dv == best->dv && fits && best->sparse != v->sparse))
            best = v;
    }
    return best;
}

ringx_status multiprocessors(int *count)
{
    int device;
    RINGX_CUDA_TRY(cudaGetDevice(&device));
    RINGX_CUDA_TRY(cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device));
    return RINGX_OK;
}

template <typename P> ringx_status launch(const ringx_sm90_variant *v, int64_t grid, const P &params, void *stream)
{
    RINGX_CUDA_TRY(ringx__cuda_launch((void (*)(P))v->kernel, dim3((unsigned)grid), (unsigned)v->threads,
                                      (size_t)v->smem_bytes, stream, params));
    return RINGX_OK;
}

ringx_cuda_run run_of(const ringx_run &run, int tiles)
{
    return {run.first, run.step, (int)run.count, tiles};
}

/* Slices with more tokens than an int counts, or strides that the copy engine cannot take, go to the portable kernel.
 */
bool job_maps(const ringx_job *job, bool backward)
{
    const ringx_shape *shape = job->shape;
    for (size_t i = 0; i < job->queries; i++) {
        const ringx_query_slice &s = job->query[i];
        map_shape m = input_map(shape, 1, s.run.count, job->q_heads, 1), f = m;
        f.element = 4;
        if (s.run.count > INT32_MAX / 2 || !can_map(s.q, m) || (backward && (!can_map(s.dout, m) || !can_map(s.dq, f))))
            return false;
    }
    for (size_t i = 0; i < job->keys; i++) {
        const ringx_key_slice &s = job->key[i];
        map_shape m = input_map(shape, 1, s.run.count, job->kv_heads, 1);
        if (s.run.count > INT32_MAX / 2 || !can_map(s.k, m) || !can_map(s.v, m))
            return false;
    }
    return true;
}

/* Groups of `width` columns, and a last one with at least `fill` tiles for each multiprocessor. */
ringx_status order_of(int64_t width, int64_t columns, int64_t tiles, int fill, ringx_cuda_order *order)
{
    int count;
    RINGX_TRY(multiprocessors(&count));
    int64_t last = (fill * (int64_t)count + tiles - 1) / tiles;
    order->width = (int)(width < 1 ? 1 : width < columns ? width : columns);
    order->groups = (int)(columns > last ? (columns - last) / order->width : 0);
    return RINGX_OK;
}

size_t mask_bytes(const ringx_shape *shape)
{
    return ringx__cuda_mask_bytes(shape);
}

ringx_status forward_piece(const ringx_job *job, const ringx_sm90_variant *v, const ringx_cuda_mask &mask, int *counter,
                           size_t q0, size_t k0)
{
    const ringx_shape *shape = job->shape;
    ringx_sm90_forward_params p;
    p.queries = p.keys = 0;
    int64_t key_heads = 0, tiles = 0;
    size_t kept_key[RINGX_SM90_KEYS];
    size_t k1 = k0 + RINGX_SM90_KEYS < job->keys ? k0 + RINGX_SM90_KEYS : job->keys;
    for (size_t i = k0; i < k1; i++) {
        const ringx_key_slice &s = job->key[i];
        ringx_run run = s.run;
        int64_t skipped = ringx__cuda_clip(&shape->mask, &run);
        if (run.count <= 0)
            continue;
        int64_t heads = s.heads ? s.heads : job->kv_heads, end = s.head + heads;
        RINGX_TRY(make_map(&p.k[p.keys], from_head_0(skip(s.k, skipped, 2), s.head),
                           input_map(shape, shape->head_dim, run.count, end, v->columns)));
        RINGX_TRY(make_map(&p.v[p.keys], from_head_0(skip(s.v, skipped, 2), s.head),
                           input_map(shape, shape->value_dim, run.count, end, v->columns)));
        p.key[p.keys] = run_of(run, 0);
        p.key_head[p.keys] = (int)s.head;
        p.key_end[p.keys] = (int)end;
        p.arrived[p.keys] = s.arrived;
        kept_key[p.keys++] = i;
        key_heads += run.count * heads;
    }
    p.wide = shape->value_dim % 8 == 0;
    p.paired = shape->value_dim % 2 == 0;
    for (size_t i = q0; i < job->queries && i < q0 + RINGX_SM90_QUERIES; i++) {
        const ringx_query_slice &s = job->query[i];
        if (s.run.count <= 0)
            continue;
        int n = p.queries++;
        RINGX_TRY(make_map(&p.q[n], s.q, input_map(shape, shape->head_dim, s.run.count, job->q_heads, v->rows)));
        tiles += (s.run.count + v->rows - 1) / v->rows;
        p.query[n] = run_of(s.run, (int)tiles);
        p.acc[n] = s.acc;
        p.out[n] = s.out;
        p.m[n] = s.m;
        p.l[n] = s.l;
        p.lse[n] = s.lse;
        p.wide = p.wide && ringx__cuda_by(s.out, 16, 8);
        p.paired = p.paired && ringx__cuda_by(s.acc, 8, 2);
        p.live[n] = 0;
        for (int j = 0; j < p.keys; j++)
            if (job->live[i * job->keys + kept_key[j]])
                p.live[n] |= UINT64_C(1) << j;
    }
    if (p.queries == 0)
        return RINGX_OK;
    p.mask = mask;
    p.drop = ringx__cuda_dropout_of(shape);
    p.next_tile = counter;
    p.waited = (unsigned long long *)job->waited;
    p.heads = (int)job->q_heads;
    p.batch = (int)shape->batch;
    p.q_head = (int)job->q_head;
    p.kv_head = (int)job->kv_head;
    p.group = (int)shape->group;
    p.value_dim = (int)shape->value_dim;
    p.scale = (float)shape->scale;
    p.softcap = (float)shape->softcap;
    p.fresh = job->fresh && k0 == 0;
    p.final = job->final && k1 == job->keys;
    int64_t head_bytes = (key_heads / job->kv_heads + 1) * (v->dk + v->dv) * 2, together = L2_BYTES / head_bytes;
    int64_t columns = job->q_heads * shape->batch;
    const bool aligned = job->q_head % shape->group == 0 && job->q_heads % shape->group == 0;
    p.unit = (int)(job->q_heads < shape->group ? job->q_heads : aligned ? shape->group : 1);
    const int fill = is_sparse(shape) ? FORWARD_FILL : 0; /* else all tiles are as long */
    RINGX_TRY(order_of((together > 1 ? together : 1) * shape->group, columns, tiles, fill, &p.order));
    if (tiles * columns > INT32_MAX / 2)
        RINGX_FAIL(RINGX_UNSUPPORTED, "%lld query tiles in one job; at most %d", (long long)(tiles * columns),
                   INT32_MAX / 2);
    int most;
    RINGX_TRY(multiprocessors(&most));
    RINGX_CUDA_TRY(cudaMemsetAsync(counter, 0, sizeof *counter, (cudaStream_t)job->stream));
    return launch(v, tiles * columns < most ? tiles * columns : most, p, job->stream);
}

const ringx_sm90_variant *forward_variant(const ringx_shape *shape)
{
    return choose(shape->dtype == RINGX_BF16 ? ringx__sm90_forward_bf16 : ringx__sm90_forward_f16, shape);
}

ringx_status forward(const ringx_job *job)
{
    const ringx_shape *shape = job->shape;
    if (shape->batch <= 0 || job->q_heads <= 0 || job->queries == 0)
        return RINGX_OK;
    if (!job_maps(job, false))
        return ringx__kernel_cuda_mma.forward(job);
    if (job->fresh && job->final && job->keys > RINGX_SM90_KEYS)
        RINGX_FAIL(RINGX_UNSUPPORTED, "%zu key slices in one fresh and final job; at most %d, or give it a state",
                   job->keys, RINGX_SM90_KEYS);
    const ringx_sm90_variant *v = forward_variant(shape);
    ringx_cuda_mask mask;
    RINGX_TRY(ringx__cuda_mask_of(job, &mask));
    int *counter = (int *)((char *)job->scratch + mask_bytes(shape));
    for (size_t q0 = 0; q0 < job->queries; q0 += RINGX_SM90_QUERIES) {
        size_t k0 = 0;
        do {
            RINGX_TRY(forward_piece(job, v, mask, counter, q0, k0));
            k0 += RINGX_SM90_KEYS;
        } while (k0 < job->keys);
    }
    return RINGX_OK;
}

/* dQ goes out by bulk reductions of 32 floats a row. */
map_shape gradient_map(const ringx_shape *shape, int64_t count, int64_t heads, int rows)
{
    return {shape->head_dim,           count, heads, shape->batch, 32, rows, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4,
            CU_TENSOR_MAP_SWIZZLE_128B};
}

ringx_status backward_queries(const ringx_job *job, const ringx_sm90_variant *v, size_t q0,
                              ringx_sm90_backward_params *p, size_t kept[RINGX_SM90_QUERIES])
{
    const ringx_shape *shape = job->shape;
    int64_t tiles = 0;
    p->queries = 0;
    for (size_t i = q0; i < job->queries && i < q0 + RINGX_SM90_QUERIES; i++) {
        const ringx_query_slice &s = job->query[i];
        ringx_run run = s.run;
        int64_t skipped = ringx__cuda_clip(&shape->mask, &run);
        if (run.count <= 0)
            continue;
        int n = p->queries++;
        RINGX_TRY(make_map(&p->q[n], skip(s.q, skipped, 2),
                           input_map(shape, shape->head_dim, run.count, job->q_heads, v->columns)));
        RINGX_TRY(make_map(&p->dout[n], skip(s.dout, skipped, 2),
                           input_map(shape, shape->value_dim, run.count, job->q_heads, v->columns)));
        RINGX_TRY(
            make_map(&p->dq[n], skip(s.dq, skipped, 4), gradient_map(shape, run.count, job->q_heads, v->columns)));
        tiles += (run.count + v->columns - 1) / v->columns;
        p->query[n] = run_of(run, (int)tiles);
        p->lse[n] = s.lse;
        p->delta[n] = s.delta;
        p->lse[n].data += skipped;
        p->delta[n].data += skipped;
        p->live[n] = 0;
        kept[n] = i;
    }
    p->q_tiles = (int)tiles;
    return RINGX_OK;
}

/* Has a key slice none of the queries' positions?  Where masks are causal its tiles then are as long as each other. */
bool is_apart(const ringx_job *job, const ringx_run &keys)
{
    const int64_t last = keys.first + (keys.count - 1) * keys.step;
    for (size_t i = 0; i < job->queries; i++) {
        const ringx_run &q = job->query[i].run;
        if (q.first <= last && keys.first <= q.first + (q.count - 1) * q.step)
            return false;
    }
    return true;
}

/* Key slices from k0 on in the order of their tiles: those apart from the queries first, whose tiles keep step better
 * than beside others, then by their first token: where masks are causal, the earlier ones have the longer tiles. */
size_t in_order(const ringx_job *job, size_t k0, size_t sorted[RINGX_SM90_KEYS])
{
    size_t count = 0;
    auto begins_before = [&](const ringx_run &a, const ringx_run &b) {
        const bool first = !job->ordered && is_apart(job, a), second = !job->ordered && is_apart(job, b);
        return first != second ? first : a.first < b.first;
    };
    for (size_t i = k0; i < job->keys && count < RINGX_SM90_KEYS; i++) {
        size_t at = count++;
        for (; at > 0 && begins_before(job->key[i].run, job->key[sorted[at - 1]].run); at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = i;
    }
    return count;
}

/* Final sums of a key slice that stand in dk, dv. */
ringx_status end_keys(const ringx_job *job, const ringx_key_slice &s)
{
    const ringx_shape *shape = job->shape;
    const int64_t dims[] = {shape->head_dim, shape->value_dim};
    const ringx_view *const from[] = {&s.dk, &s.dv}, *const to[] = {&s.dk_out, &s.dv_out};
    for (int i = 0; i < 2; i++)
        RINGX_TRY(ringx__rowops_cuda.copy(shape, s.run.count, job->kv_heads, dims[i], *from[i], RINGX_F32, *to[i],
                                          shape->dtype, 1, job->stream));
    return RINGX_OK;
}

/* ended: which key slices got their results from the kernel itself. */
ringx_status backward_piece(const ringx_job *job, const ringx_sm90_variant *v, const ringx_cuda_mask &mask, int *turns,
                            size_t q0, size_t k0, uint64_t *ended)
{
    const ringx_shape *shape = job->shape;
    ringx_sm90_backward_params p;
    size_t kept[RINGX_SM90_QUERIES];
    RINGX_TRY(backward_queries(job, v, q0, &p, kept));
    int64_t tiles = 0, queries = 0;
    size_t sorted[RINGX_SM90_KEYS], count = in_order(job, k0, sorted);
    const bool only = job->queries <= RINGX_SM90_QUERIES; /* no other piece adds to the same keys */
    p.keys = 0;
    p.fresh = p.final = p.told = p.even = *ended = 0;
    p.told_tiles = 0;
    p.finished = nullptr;
    p.paired = shape->head_dim % 2 == 0 && shape->value_dim % 2 == 0;
    p.wide = shape->head_dim % 8 == 0 && shape->value_dim % 8 == 0;
    for (size_t rank = 0; rank < count; rank++) {
        const size_t i = sorted[rank];
        const ringx_key_slice &s = job->key[i];
        ringx_run run = s.run;
        int64_t skipped = ringx__cuda_clip(&shape->mask, &run);
        uint64_t seen = 0;
        for (int j = 0; j < p.queries; j++)
            seen |= (uint64_t)(job->live[kept[j] * job->keys + i] != 0) << j;
        bool launched = run.count > 0 && seen, whole = launched && run.count == s.run.count;
        if (s.fresh && q0 == 0 && !whole)
            RINGX_TRY(ringx__cuda_clear_keys(job, s));
        if (!launched)
            continue;
        int n = p.keys++;
        p.fresh |= (uint64_t)(s.fresh && q0 == 0 && whole) << n;
        RINGX_TRY(make_map(&p.k[n], skip(s.k, skipped, 2),
                           input_map(shape, shape->head_dim, run.count, job->kv_heads, v->rows)));
        RINGX_TRY(make_map(&p.v[n], skip(s.v, skipped, 2),
                           input_map(shape, shape->value_dim, run.count, job->kv_heads, v->rows)));
        int64_t own_tiles = (run.count + v->rows - 1) / v->rows;
        tiles += own_tiles;
        p.key[n] = run_of(run, (int)tiles);
        if (!job->ordered && (!is_sparse(shape) || is_apart(job, run)))
            p.even |= UINT64_C(1) << n;
        if (s.finished) {
            p.told |= UINT64_C(1) << n;
            p.told_tiles += (int)(own_tiles * job->kv_heads * shape->batch); /* not more than all, checked below */
            p.finished = s.finished;
        }
        p.dk[n] = skip(s.dk, skipped, 4);
        p.dv[n] = skip(s.dv, skipped, 4);
        p.paired = p.paired && ringx__cuda_by(p.dk[n], 8, 2) && ringx__cuda_by(p.dv[n], 8, 2);
        if (s.final && only && whole) {
            p.final |= UINT64_C(1) << n;
            *ended |= UINT64_C(1) << (i - k0);
            p.dk_out[n] = s.dk_out;
            p.dv_out[n] = s.dv_out;
            p.wide = p.wide && ringx__cuda_by(s.dk_out, 16, 8) && ringx__cuda_by(s.dv_out, 16, 8);
        }
        for (int j = 0; j < p.queries; j++)
            p.live[j] |= (seen >> j & 1) << n;
    }
    if (p.keys == 0 || p.queries == 0)
        return RINGX_OK;
    for (int j = 0; j < p.queries; j++)
        queries += p.query[j].count;
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
    /* Q and dO by 2 bytes, dQ by 4 */
    int64_t column_bytes = queries * shape->group * (4 * v->dk + 2 * v->dk + 2 * v->dv);
    int64_t together = L2_BYTES / column_bytes, columns = job->kv_heads * shape->batch;
    RINGX_TRY(order_of(together, columns, tiles, BACKWARD_FILL, &p.order));
    if (tiles * columns > INT32_MAX / 2)
        RINGX_FAIL(RINGX_UNSUPPORTED, "%lld key tiles in one job; at most %d", (long long)(tiles * columns),
                   INT32_MAX / 2);
    p.told_count = turns; /* a job that tells has no turns */
    if (p.told)
        RINGX_CUDA_TRY(cudaMemsetAsync(p.told_count, 0, sizeof *p.told_count, (cudaStream_t)job->stream));
    p.turn = nullptr;
    if (job->ordered) {
        p.turn = turns;
        size_t bytes = (size_t)p.q_tiles * (size_t)p.q_heads * (size_t)p.batch * sizeof *turns;
        RINGX_CUDA_TRY(cudaMemsetAsync(turns, 0, bytes, (cudaStream_t)job->stream));
    }
    return launch(v, tiles * columns, p, job->stream);
}

const ringx_sm90_variant *backward_variant(const ringx_shape *shape)
{
    return choose(shape->dtype == RINGX_BF16 ? ringx__sm90_backward_bf16 : ringx__sm90_backward_f16, shape);
}

ringx_status backward(const ringx_job *job)
{
    const ringx_shape *shape = job->shape;
    if (shape->batch <= 0 || job->q_heads <= 0 || job->queries == 0)
        return RINGX_OK;
    const ringx_sm90_variant *v = backward_variant(shape);
    const bool maps = job_maps(job, true);
    if (!maps)
        RINGX_TRY(ringx__kernel_cuda_mma.backward(job));
    ringx_cuda_mask mask;
    if (maps)
        RINGX_TRY(ringx__cuda_mask_of(job, &mask));
    int *turns = (int *)((char *)job->scratch + mask_bytes(shape));
    for (size_t k0 = 0; k0 < job->keys; k0 += RINGX_SM90_KEYS) {
        uint64_t ended = 0;
        for (size_t q0 = 0; q0 < job->queries && maps; q0 += RINGX_SM90_QUERIES)
            RINGX_TRY(backward_piece(job, v, mask, turns, q0, k0, &ended));
        for (size_t i = k0; i < job->keys && i < k0 + RINGX_SM90_KEYS; i++)
            if (job->key[i].final && !(ended >> (i - k0) & 1))
                RINGX_TRY(end_keys(job, job->key[i]));
    }
    return RINGX_OK;
}

/* Would a key slice of a backward have tiles? */
bool has_tiles(const ringx_job *job, size_t k)
{
    ringx_run keys = job->key[k].run;
    ringx__cuda_clip(&job->shape->mask, &keys);
    for (size_t i = 0; i < job->queries && keys.count > 0; i++) {
        ringx_run queries = job->query[i].run;
        ringx__cuda_clip(&job->shape->mask, &queries);
        if (queries.count > 0 && job->live[i * job->keys + k])
            return true;
    }
    return false;
}

bool awaits_keys(const ringx_job *job)
{
    return job->queries <= RINGX_SM90_QUERIES && job->keys <= RINGX_SM90_KEYS && job_maps(job, false);
}

/* One launch whose tiles are in any order, and some of them tell. */
bool tells_keys(const ringx_job *job)
{
    bool told = false;
    if (job->queries > RINGX_SM90_QUERIES || job->keys > RINGX_SM90_KEYS || job->ordered || !job_maps(job, true))
        return false;
    for (size_t k = 0; k < job->keys; k++) {
        if (job->key[k].finished && job->key[k].final) /* perhaps rounded after the launch */
            return false;
        told = told || (job->key[k].finished && has_tiles(job, k));
    }
    return told;
}

bool available()
{
    return ringx__cuda_capability(9, 9) && encode_tiled();
}

bool supports(const ringx_shape *shape)
{
    return shape->dtype != RINGX_F32 && shape->head_dim <= 256 && shape->value_dim <= 256;
}

/* Document bounds, then the forward's tile counter or the backward's turns: one a block of queries, head and batch. */
size_t scratch_bytes(const ringx_shape *shape, int64_t q_heads, int64_t kv_heads, int64_t tokens, int threads,
                     bool backward)
{
    size_t portable = ringx__kernel_cuda_mma.scratch_bytes(shape, q_heads, kv_heads, tokens, threads, backward);
    size_t own = mask_bytes(shape) + 128;
    const ringx_sm90_variant *v = backward_variant(shape);
    if (backward) {
        size_t blocks = (size_t)(tokens / v->columns) + RINGX_SM90_QUERIES;
        own = mask_bytes(shape) + (blocks * (size_t)(q_heads * shape->batch) * sizeof(int) + 127) / 128 * 128;
    }
    return own > portable ? own : portable;
}

ringx_status prepare(const ringx_shape *shape)
{
    const ringx_sm90_variant *const variants[] = {forward_variant(shape), backward_variant(shape)};
    for (const ringx_sm90_variant *v : variants)
        RINGX_CUDA_TRY(ringx__cuda_load(v->kernel, v->smem_bytes));
    return ringx__kernel_cuda_mma.prepare(shape);
}

} // namespace

extern "C" const ringx_kernel ringx__kernel_cuda_sm90 = {
    "cuda-sm90", "Hopper: wgmma, bulk tensor copies, warp specialisation",
    RINGX_CUDA,  true,
    true,        awaits_keys,
    tells_keys,  available,
    supports,    scratch_bytes,
    prepare,     forward,
    backward};
