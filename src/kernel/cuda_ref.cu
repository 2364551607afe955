/* SPDX-License-Identifier: MIT */
/* The truth on the device: one thread a row, any head_dim, dtype and stride, float sums in key order.  Never optimised.
 *
 * forward   one thread a (batch, query head, query): walks all key slices of the job.
 * backward  one thread a query row for dq, then one thread a key row for dk, dv: no atomics, so bitwise repeatable. */
#include "kernel/cuda_common.cuh"

#define MAX_DIM     256
#define MAX_KEYS    48 /* slices in one launch; more are chained through acc, m, l */
#define MAX_QUERIES 4
#define THREADS     64

namespace
{

struct job_params {
    ringx_query_slice query[MAX_QUERIES];
    ringx_key_slice key[MAX_KEYS];
    uint64_t live[MAX_QUERIES];
    int queries, keys;
    int64_t batch, q_head, q_heads, kv_head, kv_heads, group;
    int head_dim, value_dim;
    float scale, softcap;
    bool fresh, final;
    ringx_cuda_mask mask;
    ringx_cuda_dropout drop;
};

__device__ int64_t at(const ringx_view &v, int64_t b, int64_t t, int64_t h)
{
    return b * v.batch_stride + t * v.token_stride + h * v.head_stride;
}

__device__ int64_t at(const ringx_rows &r, int64_t b, int64_t h, int64_t t)
{
    return b * r.batch_stride + h * r.head_stride + t;
}

template <typename T> __device__ float dot(const float *q, const T *k, int dim)
{
    float sum = 0;
    for (int d = 0; d < dim; d++)
        sum += q[d] * ringx_number<T>::up(k[d]);
    return sum;
}

__device__ float capped(const job_params &p, float score)
{
    return p.softcap > 0 ? p.softcap * tanhf(score / p.softcap) : score;
}

template <typename T> __global__ void __launch_bounds__(THREADS) forward_rows(const __grid_constant__ job_params p)
{
    float q[MAX_DIM], acc[MAX_DIM];
    int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x, h = blockIdx.y, b = blockIdx.z;
    for (int iq = 0; iq < p.queries; row -= p.query[iq++].run.count) {
        const ringx_query_slice &s = p.query[iq];
        if (row < 0 || row >= s.run.count)
            continue;
        int64_t position = s.run.first + row * s.run.step;
        ringx_interval see = ringx__cuda_mask_keys(p.mask, position);
        float m = -INFINITY, l = 0;
        for (int d = 0; d < p.value_dim; d++)
            acc[d] = p.fresh ? 0 : ((const float *)s.acc.data)[at(s.acc, b, row, h) + d];
        if (!p.fresh) {
            m = s.m.data[at(s.m, b, h, row)];
            l = s.l.data[at(s.l, b, h, row)];
        }
        for (int d = 0; d < p.head_dim; d++)
            q[d] = ringx_number<T>::up(((const T *)s.q.data)[at(s.q, b, row, h) + d]);
        int64_t kh = (p.q_head + h) / p.group - p.kv_head;
        for (int ik = 0; ik < p.keys; ik++) {
            const ringx_key_slice &t = p.key[ik];
            if (!(p.live[iq] >> ik & 1))
                continue;
            int lo = ringx__cuda_local(t.run.first, t.run.step, (int)t.run.count, see.lo);
            int hi = ringx__cuda_local(t.run.first, t.run.step, (int)t.run.count, see.hi);
            for (int j = lo; j < hi; j++) {
                float s2 =
                    capped(p, dot(q, (const T *)t.k.data + at(t.k, b, j, kh), p.head_dim) * p.scale) * RINGX_LOG2E;
                float larger = fmaxf(m, s2), w = larger == -INFINITY ? 1 : exp2f(m - larger);
                float e = larger == -INFINITY ? 0 : exp2f(s2 - larger);
                m = larger;
                l = l * w + e;
                if (p.drop.threshold)
                    e *= ringx__cuda_keep(p.drop, b, p.q_head + h, position, t.run.first + j * t.run.step);
                const T *v = (const T *)t.v.data + at(t.v, b, j, kh);
                for (int d = 0; d < p.value_dim; d++)
                    acc[d] = acc[d] * w + e * ringx_number<T>::up(v[d]);
            }
        }
        for (int d = 0; d < p.value_dim; d++) {
            if (p.final)
                ((T *)s.out.data)[at(s.out, b, row, h) + d] = ringx_number<T>::down(l > 0 ? acc[d] / l : 0);
            else
                ((float *)s.acc.data)[at(s.acc, b, row, h) + d] = acc[d];
        }
        if (p.final) {
            s.lse.data[at(s.lse, b, h, row)] = l > 0 ? RINGX_LN2 * (m + log2f(l)) : -INFINITY;
        } else {
            s.m.data[at(s.m, b, h, row)] = m;
            s.l.data[at(s.l, b, h, row)] = l;
        }
    }
}

/* p_drop and ds of one live pair. */
template <typename T>
__device__ void pair(const job_params &p, const ringx_query_slice &s, const ringx_key_slice &t, int64_t b, int64_t h,
                     int64_t i, int64_t j, const float *q, const float *dout, const T *k, const T *v, float *weight,
                     float *ds)
{
    float raw = dot(q, k, p.head_dim) * p.scale, score = capped(p, raw);
    float e = exp2f((score - s.lse.data[at(s.lse, b, h, i)]) * RINGX_LOG2E);
    float keep = 1;
    if (p.drop.threshold)
        keep = ringx__cuda_keep(p.drop, b, p.q_head + h, s.run.first + i * s.run.step, t.run.first + j * t.run.step);
    float dp = dot(dout, v, p.value_dim) * keep;
    float slope = p.softcap > 0 ? 1 - (score / p.softcap) * (score / p.softcap) : 1;
    *weight = e * keep;
    *ds = e * (dp - s.delta.data[at(s.delta, b, h, i)]) * slope * p.scale;
}

template <typename T> __global__ void __launch_bounds__(THREADS) backward_queries(const __grid_constant__ job_params p)
{
    float q[MAX_DIM], dout[MAX_DIM], dq[MAX_DIM];
    int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x, h = blockIdx.y, b = blockIdx.z;
    int64_t kh = (p.q_head + h) / p.group - p.kv_head;
    for (int iq = 0; iq < p.queries; row -= p.query[iq++].run.count) {
        const ringx_query_slice &s = p.query[iq];
        if (row < 0 || row >= s.run.count)
            continue;
        ringx_interval see = ringx__cuda_mask_keys(p.mask, s.run.first + row * s.run.step);
        if (see.lo >= see.hi)
            continue;
        for (int d = 0; d < p.head_dim; d++) {
            q[d] = ringx_number<T>::up(((const T *)s.q.data)[at(s.q, b, row, h) + d]);
            dq[d] = 0;
        }
        for (int d = 0; d < p.value_dim; d++)
            dout[d] = ringx_number<T>::up(((const T *)s.dout.data)[at(s.dout, b, row, h) + d]);
        for (int ik = 0; ik < p.keys; ik++) {
            const ringx_key_slice &t = p.key[ik];
            if (!(p.live[iq] >> ik & 1))
                continue;
            int lo = ringx__cuda_local(t.run.first, t.run.step, (int)t.run.count, see.lo);
            int hi = ringx__cuda_local(t.run.first, t.run.step, (int)t.run.count, see.hi);
            for (int j = lo; j < hi; j++) {
                const T *k = (const T *)t.k.data + at(t.k, b, j, kh), *v = (const T *)t.v.data + at(t.v, b, j, kh);
                float weight, ds;
                pair(p, s, t, b, h, row, j, q, dout, k, v, &weight, &ds);
                for (int d = 0; d < p.head_dim; d++)
                    dq[d] += ds * ringx_number<T>::up(k[d]);
            }
        }
        float *to = (float *)s.dq.data + at(s.dq, b, row, h);
        for (int d = 0; d < p.head_dim; d++)
            to[d] += dq[d];
    }
}

template <typename T> __global__ void __launch_bounds__(THREADS) backward_keys(const __grid_constant__ job_params p)
{
    float q[MAX_DIM], dout[MAX_DIM], dk[MAX_DIM], dv[MAX_DIM];
    int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x, kh = blockIdx.y, b = blockIdx.z;
    for (int ik = 0; ik < p.keys; j -= p.key[ik++].run.count) {
        const ringx_key_slice &t = p.key[ik];
        if (j < 0 || j >= t.run.count)
            continue;
        ringx_interval seen = ringx__cuda_mask_queries(p.mask, t.run.first + j * t.run.step);
        if (seen.lo >= seen.hi)
            continue;
        for (int d = 0; d < MAX_DIM; d++)
            dk[d] = dv[d] = 0;
        const T *k = (const T *)t.k.data + at(t.k, b, j, kh), *v = (const T *)t.v.data + at(t.v, b, j, kh);
        for (int64_t h = 0; h < p.q_heads; h++) {
            if ((p.q_head + h) / p.group - p.kv_head != kh)
                continue;
            for (int iq = 0; iq < p.queries; iq++) {
                const ringx_query_slice &s = p.query[iq];
                if (!(p.live[iq] >> ik & 1))
                    continue;
                int lo = ringx__cuda_local(s.run.first, s.run.step, (int)s.run.count, seen.lo);
                int hi = ringx__cuda_local(s.run.first, s.run.step, (int)s.run.count, seen.hi);
                for (int i = lo; i < hi; i++) {
                    for (int d = 0; d < p.head_dim; d++)
                        q[d] = ringx_number<T>::up(((const T *)s.q.data)[at(s.q, b, i, h) + d]);
                    for (int d = 0; d < p.value_dim; d++)
                        dout[d] = ringx_number<T>::up(((const T *)s.dout.data)[at(s.dout, b, i, h) + d]);
                    float weight, ds;
                    pair(p, s, t, b, h, i, j, q, dout, k, v, &weight, &ds);
                    for (int d = 0; d < p.head_dim; d++)
                        dk[d] += ds * q[d];
                    for (int d = 0; d < p.value_dim; d++)
                        dv[d] += weight * dout[d];
                }
            }
        }
        for (int d = 0; d < p.head_dim; d++)
            ((float *)t.dk.data)[at(t.dk, b, j, kh) + d] += dk[d];
        for (int d = 0; d < p.value_dim; d++)
            ((float *)t.dv.data)[at(t.dv, b, j, kh) + d] += dv[d];
    }
}

unsigned blocks(int64_t rows)
{
    return (unsigned)((rows + THREADS - 1) / THREADS);
}

template <typename T> ringx_status launch(const job_params &p, bool backward, cudaStream_t stream)
{
    int64_t q_rows = 0, k_rows = 0;
    for (int i = 0; i < p.queries; i++)
        q_rows += p.query[i].run.count;
    for (int i = 0; i < p.keys; i++)
        k_rows += p.key[i].run.count;
    dim3 q_grid(blocks(q_rows), (unsigned)p.q_heads, (unsigned)p.batch);
    dim3 k_grid(blocks(k_rows), (unsigned)p.kv_heads, (unsigned)p.batch);
    if (q_rows && !backward)
        RINGX_CUDA_TRY(ringx__cuda_launch(forward_rows<T>, q_grid, THREADS, 0, stream, p));
    if (q_rows && k_rows && backward) {
        RINGX_CUDA_TRY(ringx__cuda_launch(backward_queries<T>, q_grid, THREADS, 0, stream, p));
        RINGX_CUDA_TRY(ringx__cuda_launch(backward_keys<T>, k_grid, THREADS, 0, stream, p));
    }
    return RINGX_OK;
}

ringx_status launch_piece(const ringx_job *job, const ringx_cuda_mask &mask, size_t q0, size_t k0, bool backward)
{
    const ringx_shape *shape = job->shape;
    job_params p = {};
    p.queries = (int)(job->queries - q0 < MAX_QUERIES ? job->queries - q0 : MAX_QUERIES);
    p.keys = (int)(job->keys - k0 < MAX_KEYS ? job->keys - k0 : MAX_KEYS);
    for (int i = 0; i < p.queries; i++) {
        p.query[i] = job->query[q0 + (size_t)i];
        for (int j = 0; j < p.keys; j++)
            if (job->live[(q0 + (size_t)i) * job->keys + k0 + (size_t)j])
                p.live[i] |= UINT64_C(1) << j;
    }
    for (int j = 0; j < p.keys; j++)
        p.key[j] = job->key[k0 + (size_t)j];
    p.batch = shape->batch;
    p.q_head = job->q_head;
    p.q_heads = job->q_heads;
    p.kv_head = job->kv_head;
    p.kv_heads = job->kv_heads;
    p.group = shape->group;
    p.head_dim = (int)shape->head_dim;
    p.value_dim = (int)shape->value_dim;
    p.scale = (float)shape->scale;
    p.softcap = (float)shape->softcap;
    p.fresh = job->fresh && k0 == 0;
    p.final = job->final && k0 + (size_t)p.keys == job->keys;
    p.mask = mask;
    p.drop = ringx__cuda_dropout_of(shape);
    cudaStream_t stream = (cudaStream_t)job->stream;
    switch (shape->dtype) {
    case RINGX_F32:
        return launch<float>(p, backward, stream);
    case RINGX_BF16:
        return launch<__nv_bfloat16>(p, backward, stream);
    default:
        return launch<__half>(p, backward, stream);
    }
}

ringx_status run(const ringx_job *job, bool backward)
{
    if (job->shape->batch <= 0 || job->q_heads <= 0 || job->queries == 0)
        return RINGX_OK;
    if (job->shape->batch > 65535 || job->q_heads > 65535)
        RINGX_FAIL(RINGX_UNSUPPORTED, "batch %lld and q_heads %lld must be <= 65535 on this kernel",
                   (long long)job->shape->batch, (long long)job->q_heads);
    if (!backward && job->fresh && job->final && job->keys > MAX_KEYS)
        RINGX_FAIL(RINGX_UNSUPPORTED, "%zu key slices in one fresh and final job; at most %d, or give it a state",
                   job->keys, MAX_KEYS);
    for (size_t i = 0; i < job->keys && backward; i++)
        if (job->key[i].fresh)
            RINGX_TRY(ringx__cuda_clear_keys(job, job->key[i]));
    ringx_cuda_mask mask;
    RINGX_TRY(ringx__cuda_mask_of(job, &mask));
    for (size_t q0 = 0; q0 < job->queries; q0 += MAX_QUERIES) {
        size_t k0 = 0;
        do {
            RINGX_TRY(launch_piece(job, mask, q0, k0, backward));
            k0 += MAX_KEYS;
        } while (k0 < job->keys);
    }
    return RINGX_OK;
}

bool available()
{
    return ringx__cuda_capability(8, 0);
}

bool supports(const ringx_shape *shape)
{
    return shape->head_dim <= MAX_DIM && shape->value_dim <= MAX_DIM;
}

size_t scratch_bytes(const ringx_shape *shape, int64_t, int64_t, int64_t, int, bool)
{
    return ringx__cuda_mask_bytes(shape);
}

template <typename T> ringx_status load()
{
    RINGX_CUDA_TRY(ringx__cuda_load((const void *)forward_rows<T>, 0));
    RINGX_CUDA_TRY(ringx__cuda_load((const void *)backward_queries<T>, 0));
    RINGX_CUDA_TRY(ringx__cuda_load((const void *)backward_keys<T>, 0));
    return RINGX_OK;
}

ringx_status prepare(const ringx_shape *shape)
{
    return shape->dtype == RINGX_F32    ? load<float>()
           : shape->dtype == RINGX_BF16 ? load<__nv_bfloat16>()
                                        : load<__half>();
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

extern "C" const ringx_kernel ringx__kernel_cuda_ref = {
    "cuda-ref", "one thread a row, any head_dim; the truth on the device",
    RINGX_CUDA, true,
    false,      nullptr,
    nullptr,    available,
    supports,   scratch_bytes,
    prepare,    forward,
    backward};
