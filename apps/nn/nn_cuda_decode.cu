/* SPDX-License-Identifier: MIT */
/* Attention of one query over cached keys on CUDA devices: the keys of a head are split over blocks and their warps,
 * and the parts combined in their order; then, as on CPUs, the ranks' results are scaled to the largest score of all.
 */
#include "nn/nn_cuda.cuh"

enum { WARPS = 4, MOST_DIM = 1024, MOST_SPLITS = 64, KEYS = 64, AHEAD = 4 }; /* KEYS: that a split has at least */

struct decode {
    int64_t heads, group, head_dim, keys, splits, share; /* group: heads of a kv head; share: keys of a split */
    float scale;
    nn_view q, k, v, out;
    float *parts;                   /* [heads][splits][2 + head_dim]: largest score, sum, acc */
    float *most, *sums, *acc, *own; /* [heads], [heads], [heads][head_dim]; own: this rank's largest scores */
};

/* The larger one; NaN if either is. */
static __device__ __forceinline__ float larger(float a, float b)
{
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
    return most;
}

static __device__ __forceinline__ float shrink(float from, float to)
{
    return from == -INFINITY ? 0 : expf(from - to);
}

/* The part of a block from those of `teams` in shared memory: acc [teams][width]. */
static __device__ __forceinline__ void write_part(const decode &d, int teams, int width, const float *most_of,
                                                  const float *sum_of, const float *acc_of)
{
    float *part = d.parts + ((int64_t)blockIdx.x * d.splits + blockIdx.y) * (2 + d.head_dim);
    float top = -INFINITY;
    for (int w = 0; w < teams; w++)
        top = larger(top, most_of[w]);
    for (int64_t j = threadIdx.x; j < d.head_dim + 1; j += WARPS * 32) { /* the sum first, as one more column */
        float total = 0;
        for (int w = 0; w < teams; w++)
            total += shrink(most_of[w], top) * (j == 0 ? sum_of[w] : acc_of[w * width + j - 1]);
        part[1 + j] = total;
    }
    if (threadIdx.x == 0)
        part[0] = top;
}

/* Any head_dim up to 32·EACH: a warp a key, a lane has columns lane, lane + 32, …  Launch (heads, splits), WARPS warps.
 */
template <int EACH> static __global__ void __launch_bounds__(WARPS * 32) attend(decode d)
{
    __shared__ float most_of[WARPS], sum_of[WARPS], acc_of[WARPS][32 * EACH];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int64_t head = blockIdx.x, column = head / d.group * d.head_dim;
    int64_t end = min((int64_t)(blockIdx.y + 1) * d.share, d.keys);
    float q[EACH], acc[EACH] = {}, most = -INFINITY, sum = 0, x[1];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        q[i] = 0;
        if (lane + 32 * i < d.head_dim) {
            nn_load(d.q, 0, head * d.head_dim + lane + 32 * i, x);
            q[i] = x[0];
        }
    }
    for (int64_t key = blockIdx.y * d.share + warp; key < end; key += WARPS) {
        float score = 0, v[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            v[i] = 0;
            if (lane + 32 * i < d.head_dim) {
                nn_load(d.k, key, column + lane + 32 * i, x);
                score += q[i] * x[0];
                nn_load(d.v, key, column + lane + 32 * i, x);
                v[i] = x[0];
            }
        }
        for (int step = 16; step; step /= 2)
            score += __shfl_xor_sync(0xffffffffu, score, step);
        score *= d.scale;
        float top = larger(most, score), old = shrink(most, top), weight = shrink(score, top);
        sum = sum * old + weight;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            acc[i] = acc[i] * old + weight * v[i];
        most = top;
    }
    most_of[warp] = most, sum_of[warp] = sum;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        acc_of[warp][lane + 32 * i] = acc[i];
    __syncthreads();
    write_part(d, WARPS, 32 * EACH, most_of, sum_of, acc_of[0]);
}

/* head_dim a multiple of 8, up to 8·LANES, aligned rows: teams of LANES threads take a key each, 8 columns a thread;
 * AHEAD keys are loaded together.  Launch (heads, splits), WARPS warps. */
template <int LANES> static __global__ void __launch_bounds__(WARPS * 32) attend_eights(decode d)
{
    const int TEAMS = WARPS * 32 / LANES;
    __shared__ float most_of[TEAMS], sum_of[TEAMS], acc_of[TEAMS][8 * LANES];
    int team = threadIdx.x / LANES, mine = threadIdx.x % LANES * 8;
    int64_t head = blockIdx.x, column = head / d.group * d.head_dim + mine;
    int64_t end = min((int64_t)(blockIdx.y + 1) * d.share, d.keys);
    float q[8] = {}, acc[8] = {}, most = -INFINITY, sum = 0;
    if (mine < d.head_dim)
        nn_load(d.q, 0, head * d.head_dim + mine, q);
    for (int64_t first = blockIdx.y * d.share; first < end; first += TEAMS * AHEAD) {
        nn_raw<8> k[AHEAD], v[AHEAD];
        float score[AHEAD], top = most;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            int64_t key = first + i * TEAMS + team;
            if (key < end && mine < d.head_dim) {
                nn_fetch(d.k.dtype, nn_place(d.k, key, column), k[i]);
                nn_fetch(d.v.dtype, nn_place(d.v, key, column), v[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            float x[8];
            score[i] = 0;
            if (first + i * TEAMS + team < end && mine < d.head_dim) {
                nn_widen(d.k.dtype, k[i], x);
#pragma unroll
                for (int j = 0; j < 8; j++)
                    score[i] += q[j] * x[j];
            }
            for (int step = LANES / 2; step; step /= 2)
                score[i] += __shfl_xor_sync(0xffffffffu, score[i], step);
            score[i] = first + i * TEAMS + team < end ? score[i] * d.scale : -INFINITY;
            top = larger(top, score[i]);
        }
        float old = shrink(most, top);
        sum *= old, most = top;
#pragma unroll
        for (int j = 0; j < 8; j++)
            acc[j] *= old;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            float x[8], weight = shrink(score[i], top);
            if (first + i * TEAMS + team >= end || mine >= d.head_dim)
                continue;
            nn_widen(d.v.dtype, v[i], x);
            sum += weight;
#pragma unroll
            for (int j = 0; j < 8; j++)
                acc[j] += weight * x[j];
        }
    }
    if (mine == 0)
        most_of[team] = most, sum_of[team] = sum;
#pragma unroll
    for (int j = 0; j < 8; j++)
        acc_of[team][mine + j] = acc[j];
    __syncthreads();
    write_part(d, TEAMS, 8 * LANES, most_of, sum_of, acc_of[0]);
}

/* Parts to most, own, sums, acc.  Launch: a block a head. */
static __global__ void combine(decode d)
{
    int64_t head = blockIdx.x, size = 2 + d.head_dim;
    const float *parts = d.parts + head * d.splits * size;
    float top = -INFINITY;
    for (int64_t s = 0; s < d.splits; s++)
        top = larger(top, parts[s * size]);
    for (int64_t j = threadIdx.x; j < d.head_dim + 1; j += blockDim.x) {
        float total = 0;
        for (int64_t s = 0; s < d.splits; s++)
            total += shrink(parts[s * size], top) * parts[s * size + 1 + j];
        *(j == 0 ? d.sums + head : d.acc + head * d.head_dim + j - 1) = total;
    }
    if (threadIdx.x == 0)
        d.most[head] = d.own[head] = top;
}

static __global__ void rescale(decode d)
{
    int64_t head = blockIdx.x;
    float factor = shrink(d.own[head], d.most[head]);
    for (int64_t j = threadIdx.x; j < d.head_dim + 1; j += blockDim.x) {
        float *value = j == 0 ? d.sums + head : d.acc + head * d.head_dim + j - 1;
        *value = factor == 0 ? 0 : *value * factor;
    }
}

static __global__ void finish(decode d)
{
    int64_t head = blockIdx.x;
    float sum = d.sums[head];
    for (int64_t j = threadIdx.x; j < d.head_dim; j += blockDim.x) {
        float x[1] = {sum > 0 || isnan(sum) ? d.acc[head * d.head_dim + j] / sum : 0};
        nn_store(d.out, 0, head * d.head_dim + j, x);
    }
}

static void attend_all(const decode &d, cudaStream_t stream)
{
    dim3 grid((unsigned)d.heads, (unsigned)d.splits);
    bool eights = d.head_dim % 8 == 0 && d.head_dim <= 256 && nn_view_aligned(d.q, 1) && nn_view_aligned(d.k, d.keys) &&
                  nn_view_aligned(d.v, d.keys);
    if (eights && d.head_dim <= 64)
        attend_eights<8><<<grid, WARPS * 32, 0, stream>>>(d);
    else if (eights && d.head_dim <= 128)
        attend_eights<16><<<grid, WARPS * 32, 0, stream>>>(d);
    else if (eights)
        attend_eights<32><<<grid, WARPS * 32, 0, stream>>>(d);
    else if (d.head_dim <= 256)
        attend<8><<<grid, WARPS * 32, 0, stream>>>(d);
    else
        attend<32><<<grid, WARPS * 32, 0, stream>>>(d);
}

static decode decode_of(const nn_decode *d)
{
    decode x = {d->heads, d->heads / d->kv_heads, d->head_dim, d->keys};
    int64_t kv_width = d->kv_heads * d->head_dim, width = d->heads * d->head_dim;
    x.scale = (float)d->scale;
    x.q = nn_view_of(d->q, width), x.out = nn_view_of(d->out, width);
    x.k = nn_view_of(d->k, kv_width), x.v = nn_view_of(d->v, kv_width);
    x.splits = max(min(nn_cuda_ceil(d->keys, KEYS), (int64_t)MOST_SPLITS), (int64_t)1);
    x.share = nn_cuda_ceil(d->keys, x.splits);
    x.most = (float *)d->workspace, x.sums = x.most + d->heads, x.acc = x.sums + d->heads;
    return x;
}

/* Over the ranks: maxima, then sums and acc, which lie side by side. */
static int reduce(const nn_decode *d, const decode &x, cudaStream_t stream)
{
    int code = d->reduce->max(d->reduce->group, x.most, (size_t)d->heads);
    if (code)
        return code;
    rescale<<<(unsigned)d->heads, 128, 0, stream>>>(x);
    code = nn_cuda_launched("decode");
    return code ? code : d->reduce->sum(d->reduce->group, x.sums, (size_t)(d->heads * (d->head_dim + 1)));
}

int nn_cuda_decode(const nn_context *on, const nn_decode *d)
{
    if (d->head_dim > MOST_DIM)
        return fail(CODE_CONFIGURATION, "head_dim is %lld; it must be at most %d", (long long)d->head_dim, MOST_DIM);
    if (d->heads <= 0)
        return CODE_GOOD;
    decode x = decode_of(d);
    size_t parts = nn_cuda_rounded((size_t)(d->heads * MOST_SPLITS * (2 + d->head_dim)) * sizeof(float));
    char *scratch = nn_cuda_scratch(on, parts + (size_t)d->heads * sizeof(float));
    if (!scratch)
        return CODE_NO_MEMORY;
    x.parts = (float *)scratch, x.own = (float *)(scratch + parts);
    attend_all(x, nn_cuda_stream(on));
    combine<<<(unsigned)d->heads, 128, 0, nn_cuda_stream(on)>>>(x);
    int code = nn_cuda_launched("decode");
    if (!code && d->reduce)
        code = reduce(d, x, nn_cuda_stream(on));
    if (code)
        return code;
    finish<<<(unsigned)d->heads, 128, 0, nn_cuda_stream(on)>>>(x);
    return nn_cuda_launched("decode");
}
