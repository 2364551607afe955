/* SPDX-License-Identifier: MIT */
/* Checks and times the CUDA kernel rows without the rest of the library.
 *
 *   cuda_check check KERNEL [CASES] [SEED]   random cases against cuda-ref, small ones against the host in double
 *   cuda_check time KERNEL                   the shapes of docs/kernels-log.md
 */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cuda_arrivals.h"
#include "cuda_named.h"

#define CUDA_OK(call)                                                                                                  \
    do {                                                                                                               \
        cudaError_t e__ = (call);                                                                                      \
        if (e__ != cudaSuccess) {                                                                                      \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e__));                             \
            exit(3);                                                                                                   \
        }                                                                                                              \
    } while (0)

#ifdef RINGX_EMULATE
enum { CHECK_BLOCKS = 1, CHECK_THREADS = 1 };
#else
enum { CHECK_BLOCKS = 1024, CHECK_THREADS = 256 };
#endif
#define CHECK_LAUNCH(kernel, ...)                                                                                      \
    CUDA_OK(ringx__cuda_launch(kernel, dim3(CHECK_BLOCKS), CHECK_THREADS, 0, nullptr, __VA_ARGS__))

static void must(ringx_status status, const char *what)
{
    if (status != RINGX_OK) {
        printf("%s failed: %s: %s\n", what, ringx_status_name(status), ringx_last_error());
        exit(3);
    }
}

/* ---- device helpers ---------------------------------------------------------------------------------------------- */

static __device__ float normal_of(uint64_t x)
{
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    x ^= x >> 31;
    float a = ((uint32_t)x + 1.0f) * 2.3283064e-10f, b = (uint32_t)(x >> 32) * 2.3283064e-10f;
    return sqrtf(-2 * logf(fminf(a, 1.f))) * cospif(2 * b);
}

template <typename T> __global__ void random_fill(T *to, size_t count, uint64_t seed, float size)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
        to[i] = ringx_number<T>::down(size * normal_of(i + (seed << 40)));
}

/* sums[0] += |a-b|², sums[1] += |b|², sums[2] += wrong ones: NaN, or infinite in one only; sums[3] max |a-b| */
template <typename T> __global__ void differ(const T *a, const T *b, size_t count, double *sums)
{
    double d2 = 0, b2 = 0, wrong = 0, worst = 0;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x) {
        float x = ringx_number<T>::up(a[i]), y = ringx_number<T>::up(b[i]);
        if (isnan(x) || isnan(y) || (isinf(x) != isinf(y)) || (isinf(x) && x != y)) {
            wrong++;
        } else if (!isinf(x)) {
            d2 += (double)(x - y) * (x - y);
            b2 += (double)y * y;
            worst = fmax(worst, fabs((double)x - y));
        }
    }
    atomicAdd(sums, d2);
    atomicAdd(sums + 1, b2);
    atomicAdd(sums + 2, wrong);
    atomicMax((unsigned long long *)sums + 3, (unsigned long long)__double_as_longlong(worst));
}

template <typename T>
__global__ void poison_padding(T *x, size_t count, int64_t row, int64_t tokens, int64_t lo, int64_t hi)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x) {
        int64_t t = (int64_t)(i / (size_t)row) % tokens;
        if (t < lo || t >= hi)
            x[i] = ringx_number<T>::down(NAN);
    }
}

struct buffer {
    void *data = nullptr;
    size_t bytes = 0;
    explicit buffer(size_t n) : bytes(n)
    {
        CUDA_OK(cudaMalloc(&data, n + 256));
    }
    ~buffer()
    {
        cudaFree(data);
    }
    buffer(const buffer &) = delete;
    void poison()
    {
        CUDA_OK(cudaMemset(data, 0xFF, bytes));
    }
    void zero()
    {
        CUDA_OK(cudaMemset(data, 0, bytes));
    }
};

static void fill(ringx_dtype dtype, void *to, size_t count, uint64_t seed, float size)
{
    if (dtype == RINGX_F32)
        CHECK_LAUNCH(random_fill<float>, (float *)to, count, seed, size);
    else if (dtype == RINGX_BF16)
        CHECK_LAUNCH(random_fill<__nv_bfloat16>, (__nv_bfloat16 *)to, count, seed, size);
    else
        CHECK_LAUNCH(random_fill<__half>, (__half *)to, count, seed, size);
}

static double *difference_sums()
{
    static double *sums;
    if (!sums)
        CUDA_OK(cudaMalloc(&sums, 32));
    return sums;
}

struct error {
    double relative, wrong, worst;
};

static error compare(ringx_dtype dtype, const void *a, const void *b, size_t count)
{
    double *sums = difference_sums(), got[4];
    CUDA_OK(cudaMemset(sums, 0, 32));
    if (dtype == RINGX_F32)
        CHECK_LAUNCH(differ<float>, (const float *)a, (const float *)b, count, sums);
    else if (dtype == RINGX_BF16)
        CHECK_LAUNCH(differ<__nv_bfloat16>, (const __nv_bfloat16 *)a, (const __nv_bfloat16 *)b, count, sums);
    else
        CHECK_LAUNCH(differ<__half>, (const __half *)a, (const __half *)b, count, sums);
    CUDA_OK(cudaGetLastError());
    CUDA_OK(cudaMemcpy(got, sums, 32, cudaMemcpyDeviceToHost));
    /* gradients may cancel to nothing: what is left is then measured against inputs of size 1 */
    return {std::sqrt(got[0]) / (std::sqrt(got[1]) + 1e-3 * std::sqrt((double)count)), got[2], got[3]};
}

/* ---- one problem on one device ------------------------------------------------------------------------------------
 */

struct problem {
    int64_t batch, tokens, q_heads, kv_heads, dim, value_dim;
    ringx_dtype dtype;
    bool causal;
    int64_t left, right;
    std::vector<int64_t> starts;
    double softcap, dropout, scale;
    ringx_layout_id layout;
    int ranks;
    bool token_major; /* [token][batch][head][dim] */
    bool ordered;     /* deterministic backward */
    bool ended;       /* dK, dV are rounded by the kernel, if it can */
    bool tells;       /* somebody waits for some of dK, dV, if the kernel can tell */
    int64_t cut;      /* the job is done for query heads below and from here on, one after the other */
    uint64_t seed;

    void print() const
    {
        printf("seed %llu b%lld s%lld %lld:%lld cut %lld d%lld/%lld %s%s window %lld,%lld docs %zu cap %g drop %g "
               "scale %g %s x%d%s%s%s%s",
               (unsigned long long)seed, (long long)batch, (long long)tokens, (long long)q_heads, (long long)kv_heads,
               (long long)cut, (long long)dim, (long long)value_dim, ringx__dtype_name(dtype), causal ? " causal" : "",
               (long long)left, (long long)right, starts.empty() ? (size_t)0 : starts.size() - 1, softcap, dropout,
               scale, ringx__layout_name(layout), ranks, token_major ? " token-major" : "", ordered ? " ordered" : "",
               ended ? " ended" : "", tells ? " tells" : "");
    }
};

static ringx_view view_of(void *data, const problem &p, int64_t heads, int64_t dim)
{
    if (p.token_major)
        return {data, heads * dim, p.batch * heads * dim, dim};
    return {data, p.tokens * heads * dim, heads * dim, dim};
}

static ringx_view from_token(ringx_view v, const ringx_run &run, size_t element)
{
    v.data = (char *)v.data + (size_t)(run.first * v.token_stride) * element;
    v.token_stride *= run.step;
    return v;
}

struct state {
    problem p;
    ringx_shape shape;
    size_t element;
    size_t q_count, k_count, v_count, o_count, rows;
    buffer q, k, v, dout, out, lse, acc, m, l, delta, dq, dk, dv, dk_out, dv_out, scratch;

    static size_t n(int64_t a)
    {
        return (size_t)a;
    }
    explicit state(const problem &p_, bool backward, size_t scratch_bytes)
        : p(p_), element(ringx__dtype_bytes(p.dtype)), q_count(n(p.batch * p.tokens * p.q_heads * p.dim)),
          k_count(n(p.batch * p.tokens * p.kv_heads * p.dim)),
          v_count(n(p.batch * p.tokens * p.kv_heads * p.value_dim)),
          o_count(n(p.batch * p.tokens * p.q_heads * p.value_dim)), rows(n(p.batch * p.tokens * p.q_heads)),
          q(q_count * element), k(k_count * element), v(v_count * element), dout(o_count * element),
          out(o_count * element), lse(rows * 4), acc(o_count * 4), m(rows * 4), l(rows * 4), delta(rows * 4),
          dq(backward ? q_count * 4 : 0), dk(backward ? k_count * 4 : 0), dv(backward ? v_count * 4 : 0),
          dk_out(backward ? k_count * element : 0), dv_out(backward ? v_count * element : 0), scratch(scratch_bytes)
    {
        ringx_problem r = {};
        r.size = sizeof r;
        r.window_left = r.window_right = -1;
        r.batch = p.batch;
        r.tokens = p.tokens;
        r.q_heads = p.q_heads;
        r.kv_heads = p.kv_heads;
        r.head_dim = p.dim;
        r.value_dim = p.value_dim;
        r.dtype = p.dtype;
        r.causal = p.causal;
        r.window_left = p.left;
        r.window_right = p.right;
        r.document_starts = p.starts.empty() ? nullptr : p.starts.data();
        r.documents = p.starts.empty() ? 0 : p.starts.size() - 1;
        r.softcap = p.softcap;
        r.dropout = p.dropout;
        r.scale = p.scale;
        r.seed = p.seed;
        must(ringx__shape_create(&shape, &r), "shape");
        fill(p.dtype, q.data, q_count, p.seed * 4, 1);
        fill(p.dtype, k.data, k_count, p.seed * 4 + 1, 1);
        fill(p.dtype, v.data, v_count, p.seed * 4 + 2, 1);
        fill(p.dtype, dout.data, o_count, p.seed * 4 + 3, 1);
    }
    ~state()
    {
        ringx__shape_destroy(&shape);
    }

    void poison_pads()
    {
        if (p.starts.empty() || p.token_major)
            return;
        int64_t lo = p.starts.front(), hi = p.starts.back();
        auto pad = [&](buffer &b, size_t count, int64_t row) {
            if (p.dtype == RINGX_F32)
                CHECK_LAUNCH(poison_padding<float>, (float *)b.data, count, row, p.tokens, lo, hi);
            else if (p.dtype == RINGX_BF16)
                CHECK_LAUNCH(poison_padding<__nv_bfloat16>, (__nv_bfloat16 *)b.data, count, row, p.tokens, lo, hi);
            else
                CHECK_LAUNCH(poison_padding<__half>, (__half *)b.data, count, row, p.tokens, lo, hi);
        };
        pad(q, q_count, p.q_heads * p.dim);
        pad(k, k_count, p.kv_heads * p.dim);
        pad(v, v_count, p.kv_heads * p.value_dim);
        pad(dout, o_count, p.q_heads * p.value_dim);
    }

    ringx_rows rows_of(buffer &b, const ringx_run &run) const
    {
        return {(float *)b.data + run.first, p.q_heads * p.tokens, p.tokens};
    }

    /* Query slices of one rank against the key slices of ranks [k0, k1). Strided runs address rows of a packed copy:
     * per-row floats of a run must be contiguous, so striped layouts keep them run after run. */
    std::vector<ringx_query_slice> queries(int rank)
    {
        ringx_layout layout = {p.layout, p.ranks, p.tokens};
        ringx_run runs[RINGX_MAX_RUNS];
        int count = ringx__layout_runs(&layout, rank, runs);
        std::vector<ringx_query_slice> all;
        for (int i = 0; i < count; i++) {
            ringx_query_slice s = {};
            ringx_run run = runs[i], place = run;
            if (run.step > 1) { /* rows of rank r's run start behind those of earlier ranks */
                place.first = 0;
                for (int r = 0; r < rank; r++)
                    place.first += ringx__layout_count(&layout, r);
            }
            s.run = run;
            s.q = from_token(view_of(q.data, p, p.q_heads, p.dim), run, element);
            s.out = from_token(view_of(out.data, p, p.q_heads, p.value_dim), run, element);
            s.dout = from_token(view_of(dout.data, p, p.q_heads, p.value_dim), run, element);
            s.acc = from_token(view_of(acc.data, p, p.q_heads, p.value_dim), run, 4);
            s.dq = from_token(view_of(dq.data, p, p.q_heads, p.dim), run, 4);
            s.m = rows_of(m, place);
            s.l = rows_of(l, place);
            s.lse = rows_of(lse, place);
            s.delta = rows_of(delta, place);
            all.push_back(s);
        }
        return all;
    }
    std::vector<ringx_key_slice> keys(int k0, int k1)
    {
        ringx_layout layout = {p.layout, p.ranks, p.tokens};
        std::vector<ringx_key_slice> all;
        for (int rank = k0; rank < k1; rank++) {
            ringx_run runs[RINGX_MAX_RUNS];
            int count = ringx__layout_runs(&layout, rank, runs);
            for (int i = 0; i < count; i++) {
                ringx_key_slice s = {};
                s.run = runs[i];
                s.k = from_token(view_of(k.data, p, p.kv_heads, p.dim), runs[i], element);
                s.v = from_token(view_of(v.data, p, p.kv_heads, p.value_dim), runs[i], element);
                s.dk = from_token(view_of(dk.data, p, p.kv_heads, p.dim), runs[i], 4);
                s.dv = from_token(view_of(dv.data, p, p.kv_heads, p.value_dim), runs[i], 4);
                s.dk_out = from_token(view_of(dk_out.data, p, p.kv_heads, p.dim), runs[i], element);
                s.dv_out = from_token(view_of(dv_out.data, p, p.kv_heads, p.value_dim), runs[i], element);
                all.push_back(s);
            }
        }
        return all;
    }
    void left_wrong(const char *what) const
    {
        printf("FAIL %s: ", what);
        p.print();
        printf("\n");
        exit(1);
    }
    /* A slice's rows in a copy of its sums are what they are in the end. */
    bool whole(const ringx_key_slice &s, const ringx_view &view, const buffer &sums, int64_t dim,
               const std::vector<float> &early, const std::vector<float> &late) const
    {
        for (int64_t b = 0; b < p.batch; b++)
            for (int64_t t = 0; t < s.run.count; t++)
                for (int64_t h = 0; h < p.kv_heads; h++) {
                    int64_t at = (float *)view.data - (float *)sums.data + b * view.batch_stride +
                                 t * view.token_stride + h * view.head_stride;
                    if (memcmp(&early[(size_t)at], &late[(size_t)at], 4 * (size_t)dim))
                        return false;
                }
        return true;
    }
    /* The gradients of a job's slices that a kernel has told of are whole by then. */
    void expect_left(arrivals &coming, const std::vector<ringx_key_slice> &slices, bool all_heads)
    {
        const buffer *sums[] = {&dk, &dv};
        buffer then[] = {buffer(dk.bytes), buffer(dv.bytes)};
        if (!coming.snapshot({then[0].data, then[1].data}, {dk.data, dv.data}, {dk.bytes, dv.bytes}))
            left_wrong("not told");
        CUDA_OK(cudaDeviceSynchronize());
        for (int part = 0; part < 2; part++) {
            std::vector<float> early(sums[part]->bytes / 4), late(sums[part]->bytes / 4);
            CUDA_OK(cudaMemcpy(early.data(), then[part].data, sums[part]->bytes, cudaMemcpyDeviceToHost));
            CUDA_OK(cudaMemcpy(late.data(), sums[part]->data, sums[part]->bytes, cudaMemcpyDeviceToHost));
            for (auto &s : slices)
                if (s.finished && all_heads &&
                    !whole(s, part ? s.dv : s.dk, *sums[part], part ? p.value_dim : p.dim, early, late))
                    left_wrong("told too early");
        }
    }
    bool run(const ringx_kernel *kernel, bool backward, int rank, int k0, int k1, bool fresh, bool final,
             bool awaits = false, bool tells = false)
    {
        arrivals coming(p.seed + 1000003 * (uint64_t)rank);
        std::vector<ringx_query_slice> qs = queries(rank);
        std::vector<ringx_key_slice> ks = keys(k0, k1);
        for (auto &s : ks) {
            s.fresh = backward && fresh;
            s.final = backward && final;
        }
        std::vector<uint8_t> live;
        for (auto &a : qs)
            for (auto &b : ks)
                live.push_back(ringx__mask_live(&shape.mask, &a.run, &b.run));
        ringx_job job = {};
        job.shape = &shape;
        job.queries = qs.size();
        job.fresh = fresh;
        job.final = final && !backward;
        job.scratch = scratch.data;
        job.threads = 1;
        job.ordered = p.ordered;
        int64_t ends[2] = {p.cut, p.q_heads};
        for (int64_t end : ends) {
            int64_t first = end == p.cut ? 0 : p.cut;
            if (end <= first)
                continue;
            job.q_head = first;
            job.q_heads = end - first;
            job.kv_head = first / shape.group;
            job.kv_heads = (end + shape.group - 1) / shape.group - job.kv_head;
            std::vector<ringx_query_slice> q_part = qs;
            std::vector<ringx_key_slice> k_part = ks;
            for (auto &x : q_part) {
                for (ringx_view *v : {&x.q, &x.out, &x.dout})
                    v->data = (char *)v->data + (size_t)(first * v->head_stride) * element;
                for (ringx_view *v : {&x.acc, &x.dq})
                    v->data = (float *)v->data + first * v->head_stride;
                for (ringx_rows *r : {&x.m, &x.l, &x.lse, &x.delta})
                    r->data += first * r->head_stride;
            }
            for (auto &x : k_part) {
                for (ringx_view *v : {&x.k, &x.v, &x.dk_out, &x.dv_out})
                    v->data = (char *)v->data + (size_t)(job.kv_head * v->head_stride) * element;
                for (ringx_view *v : {&x.dk, &x.dv})
                    v->data = (float *)v->data + job.kv_head * v->head_stride;
            }
            std::vector<uint8_t> part_live = live;
            if (tells)
                coming.mark(k_part);
            if (awaits) {
                std::vector<size_t> from;
                k_part = coming.cut(k_part, job.kv_heads, element, &from);
                part_live.clear();
                for (size_t i = 0; i < qs.size(); i++)
                    for (size_t j : from)
                        part_live.push_back(live[i * ks.size() + j]);
            }
            job.live = part_live.data();
            job.keys = k_part.size();
            job.query = q_part.data();
            job.key = k_part.data();
            if (awaits && !(kernel->awaits_keys && kernel->awaits_keys(&job)))
                return false;
            const bool asked = tells && kernel->tells_keys && kernel->tells_keys(&job);
            for (auto &x : k_part)
                x.finished = asked ? x.finished : nullptr;
            ringx_status status = kernel->prepare(&shape);
            if (status == RINGX_OK)
                status = backward ? kernel->backward(&job) : kernel->forward(&job);
            if (status == RINGX_UNSUPPORTED && fresh && final && !backward)
                return false;
            must(status, kernel->name);
            coming.come();
            if (asked)
                expect_left(coming, k_part, first == 0 && end == p.q_heads);
            if (awaits)
                CUDA_OK(cudaDeviceSynchronize()); /* before its words are used again */
        }
        return true;
    }
    /* How: 0 in one call, 1 in two with the state between, 2 into the state, then finished by the row operation, 3 in
     * one call whose keys have yet to come.  false: more slices than one call can take. */
    bool forward(const ringx_kernel *kernel, int how)
    {
        out.poison();
        lse.poison();
        acc.poison();
        m.poison();
        l.poison();
        int half = p.ranks / 2;
        for (int rank = 0; rank < p.ranks; rank++) {
            if ((how == 0 || how == 3) && !run(kernel, false, rank, 0, p.ranks, true, true, how == 3))
                return false;
            if (how == 1) {
                run(kernel, false, rank, 0, half, true, false);
                run(kernel, false, rank, half, p.ranks, false, true);
            }
            if (how == 2) {
                run(kernel, false, rank, 0, p.ranks, true, false);
                for (auto &s : queries(rank)) {
                    ringx_state state = {s.acc, s.m, s.l};
                    must(ringx__rowops_cuda.finish(&shape, s.run.count, p.q_heads, &state, 1, s.out, s.lse, 1, nullptr),
                         "finish");
                }
            }
        }
        CUDA_OK(cudaDeviceSynchronize());
        return true;
    }
    void deltas()
    {
        for (int rank = 0; rank < p.ranks; rank++)
            for (auto &s : queries(rank))
                must(ringx__rowops_cuda.delta(&shape, s.run.count, p.q_heads, s.out, s.dout, s.delta, 1, nullptr),
                     "delta");
    }
    void widen(buffer &from, buffer &to, int64_t dim)
    {
        must(ringx__rowops_cuda.copy(&shape, p.tokens, p.kv_heads, dim, view_of(from.data, p, p.kv_heads, dim), p.dtype,
                                     view_of(to.data, p, p.kv_heads, dim), RINGX_F32, 1, nullptr),
             "widen");
    }
    /* The last rank's queries end dK and dV, if all heads are in one job. */
    bool ends_keys(const ringx_kernel *kernel)
    {
        return p.ended && kernel->ends_keys && p.cut == 0 && !queries(p.ranks - 1).empty() && p.batch > 0;
    }
    void backward(const ringx_kernel *kernel)
    {
        /* the first rank's queries start dK and dV, if all heads are in one job */
        bool starts = p.cut == 0 && !queries(0).empty() && p.batch > 0;
        dq.zero();
        for (buffer *sum : {&dk, &dv}) {
            if (starts)
                sum->poison();
            else
                sum->zero();
        }
        dk_out.poison();
        dv_out.poison();
        bool ends = ends_keys(kernel);
        for (int rank = 0; rank < p.ranks; rank++)
            run(kernel, true, rank, 0, p.ranks, starts && rank == 0, ends && rank == p.ranks - 1, false, p.tells);
        if (ends) {
            widen(dk_out, dk, p.dim);
            widen(dv_out, dv, p.value_dim);
        }
        CUDA_OK(cudaDeviceSynchronize());
    }
};

/* ---- check --------------------------------------------------------------------------------------------------------
 */

/* The definition in double on the host, for one head of small problems. */
static double host_error(state &s, int64_t b, int64_t h)
{
    const problem &p = s.p;
    auto get = [&](buffer &x, size_t count) {
        std::vector<uint8_t> raw(x.bytes);
        CUDA_OK(cudaMemcpy(raw.data(), x.data, x.bytes, cudaMemcpyDeviceToHost));
        std::vector<double> y(count);
        for (size_t i = 0; i < count; i++) {
            if (p.dtype == RINGX_F32)
                y[i] = ((float *)raw.data())[i];
            else if (p.dtype == RINGX_BF16)
                y[i] = __bfloat162float(((__nv_bfloat16 *)raw.data())[i]);
            else
                y[i] = __half2float(((__half *)raw.data())[i]);
        }
        return y;
    };
    std::vector<double> q = get(s.q, s.q_count), k = get(s.k, s.k_count), v = get(s.v, s.v_count),
                        o = get(s.out, s.o_count);
    ringx_view qv = view_of(nullptr, p, p.q_heads, p.dim), kv = view_of(nullptr, p, p.kv_heads, p.dim);
    ringx_view vv = view_of(nullptr, p, p.kv_heads, p.value_dim), ov = view_of(nullptr, p, p.q_heads, p.value_dim);
    auto at = [](const ringx_view &x, int64_t b, int64_t t, int64_t h) {
        return (size_t)(b * x.batch_stride + t * x.token_stride + h * x.head_stride);
    };
    int64_t kh = h / s.shape.group;
    double d2 = 0, n2 = 0;
    for (int64_t i = 0; i < p.tokens; i++) {
        ringx_interval see = ringx__mask_keys(&s.shape.mask, i);
        std::vector<double> w, sum((size_t)p.value_dim);
        double top = -INFINITY, total = 0;
        for (int64_t j = see.lo; j < see.hi; j++) {
            double x = 0;
            for (int64_t d = 0; d < p.dim; d++)
                x += q[at(qv, b, i, h) + (size_t)d] * k[at(kv, b, j, kh) + (size_t)d];
            x *= s.shape.scale;
            if (p.softcap > 0)
                x = p.softcap * std::tanh(x / p.softcap);
            w.push_back(x);
            top = std::max(top, x);
        }
        for (double &x : w)
            total += x = std::exp(x - top);
        for (int64_t j = see.lo; j < see.hi; j++)
            for (int64_t d = 0; d < p.value_dim; d++)
                sum[(size_t)d] += w[(size_t)(j - see.lo)] / total * v[at(vv, b, j, kh) + (size_t)d];
        for (int64_t d = 0; d < p.value_dim; d++) {
            double e = o[at(ov, b, i, h) + (size_t)d] - sum[(size_t)d];
            d2 += e * e;
            n2 += sum[(size_t)d] * sum[(size_t)d];
        }
    }
    return std::sqrt(d2 / (n2 > 0 ? n2 : 1));
}

static problem random_problem(uint64_t seed, const ringx_kernel *kernel)
{
    std::mt19937_64 rng(seed * 7919 + 17);
    auto pick = [&](std::vector<int64_t> from) { return from[rng() % from.size()]; };
    problem p = {};
    p.seed = seed;
    p.batch = pick({1, 1, 2, 3});
    p.tokens = pick({1, 7, 64, 127, 128, 129, 200, 256, 333, 512, 777, 1000, 1024, 1531});
    if (under_a_tool())
        p.tokens = pick({1, 7, 64, 127, 128, 129, 200, 270, 333, 400});
    p.kv_heads = pick({1, 2, 3});
    p.q_heads = p.kv_heads * pick({1, 1, 2, 4});
    p.dim = pick({64, 128, 128, 64, 96, 48, 192, 256, 128, 64, 40, 80, 36});
    p.value_dim = p.dim == 192 ? 128 : p.dim;
    p.dtype = (ringx_dtype)pick({RINGX_BF16, RINGX_BF16, RINGX_F16});
    if (!strcmp(kernel->name, "cuda-ref"))
        p.dtype = (ringx_dtype)pick({RINGX_BF16, RINGX_F32, RINGX_F16});
    p.causal = rng() % 2;
    p.left = pick({-1, -1, -1, 0, 100, 300});
    p.right = p.causal ? -1 : pick({-1, -1, 0, 50, 200});
    if (rng() % 4 == 0) {
        size_t documents = rng() % 6 + 1;
        for (size_t i = 0; i <= documents; i++)
            p.starts.push_back((int64_t)(rng() % (uint64_t)(p.tokens + 1)));
        std::sort(p.starts.begin(), p.starts.end());
    }
    p.softcap = rng() % 8 == 0 ? 3 : 0;
    p.dropout = rng() % 8 == 0 ? 0.2 : 0;
    p.scale = rng() % 8 == 0 ? -0.1 : 0;
    p.layout = (ringx_layout_id)(rng() % 3);
    p.ranks = (int)pick({1, 1, 2, 3, 5});
    p.token_major = rng() % 3 == 0;
    p.ordered = rng() % 3 == 0;
    p.ended = rng() % 2;
    p.tells = rng() % 2;
    p.cut = rng() % 2 ? (int64_t)(rng() % (uint64_t)p.q_heads) : 0;
#ifdef RINGX_QUICK
    p.dim = p.value_dim = pick({64, 128, 128, 48, 112});
    p.dtype = RINGX_BF16;
    p.softcap = p.dropout = p.scale = 0;
#endif
    return p;
}

static bool bad(const char *what, const error &e, double limit, const problem &p)
{
    if (e.relative <= limit && e.wrong == 0)
        return false;
    printf("FAIL %-10s error %.3g (limit %.3g) wrong %g worst %.3g: ", what, e.relative, limit, e.wrong, e.worst);
    p.print();
    printf("\n");
    return true;
}

static int check_case(const ringx_kernel *kernel, const problem &p, bool backward)
{
    const ringx_kernel *ref = &ringx__kernel_cuda_ref;
    state s(p, backward, 64);
    size_t scratch = std::max(kernel->scratch_bytes(&s.shape, p.q_heads, p.kv_heads, p.tokens, 1, true),
                              ref->scratch_bytes(&s.shape, p.q_heads, p.kv_heads, p.tokens, 1, true));
    buffer bigger(scratch);
    std::swap(bigger.data, s.scratch.data);
    if (!kernel->supports(&s.shape))
        return 0;
    s.poison_pads();
    double limit = p.dtype == RINGX_F32 ? 2e-6 : p.dtype == RINGX_BF16 ? 8e-3 : 1e-3;
    int failed = 0;
    s.forward(ref, 0);
    buffer out(s.out.bytes), lse(s.lse.bytes);
    CUDA_OK(cudaMemcpy(out.data, s.out.data, out.bytes, cudaMemcpyDeviceToDevice));
    CUDA_OK(cudaMemcpy(lse.data, s.lse.data, lse.bytes, cudaMemcpyDeviceToDevice));
    if (p.tokens <= 256 && p.dropout == 0 && p.starts.empty()) {
        double e = host_error(s, p.batch - 1, p.q_heads - 1);
        failed += bad("ref-host", {e, e == e ? 0. : 1., 0}, limit, p);
    }
    static const char *const names[] = {"out", "out-two", "out-state", "out-await"};
    for (int how = 0; how < 4; how++) {
        if (!s.forward(kernel, how))
            continue;
        failed += bad(names[how], compare(p.dtype, s.out.data, out.data, s.o_count), limit, p);
        failed += bad("lse", compare(RINGX_F32, s.lse.data, lse.data, s.rows), 1e-4, p);
    }
    if (!backward)
        return failed;
    CUDA_OK(cudaMemcpy(s.out.data, out.data, out.bytes, cudaMemcpyDeviceToDevice));
    CUDA_OK(cudaMemcpy(s.lse.data, lse.data, lse.bytes, cudaMemcpyDeviceToDevice));
    s.deltas();
    s.backward(ref);
    buffer dq(s.dq.bytes), dk(s.dk.bytes), dv(s.dv.bytes);
    CUDA_OK(cudaMemcpy(dq.data, s.dq.data, dq.bytes, cudaMemcpyDeviceToDevice));
    CUDA_OK(cudaMemcpy(dk.data, s.dk.data, dk.bytes, cudaMemcpyDeviceToDevice));
    CUDA_OK(cudaMemcpy(dv.data, s.dv.data, dv.bytes, cudaMemcpyDeviceToDevice));
    s.backward(kernel);
    double b_limit = 2 * limit;
    failed += bad("dq", compare(RINGX_F32, s.dq.data, dq.data, s.q_count), b_limit, p);
    failed += bad("dk", compare(RINGX_F32, s.dk.data, dk.data, s.k_count), b_limit, p);
    failed += bad("dv", compare(RINGX_F32, s.dv.data, dv.data, s.v_count), b_limit, p);
    if (p.ordered) {
        CUDA_OK(cudaMemcpy(dq.data, s.dq.data, dq.bytes, cudaMemcpyDeviceToDevice));
        s.backward(kernel);
        error e = compare(RINGX_F32, s.dq.data, dq.data, s.q_count);
        failed += bad("ordered-dq", {e.worst, e.wrong, e.worst}, 0, p);
    }
    return failed;
}

static int check(const ringx_kernel *kernel, int cases, uint64_t seed, bool backward)
{
    int failed = 0;
    for (int i = 0; i < cases; i++) {
        problem p = random_problem(seed + (uint64_t)i, kernel);
        if (getenv("CUDA_CHECK_VERBOSE")) {
            p.print();
            printf("\n");
        }
        failed += check_case(kernel, p, backward) != 0;
    }
    printf("check %s %s: %d cases, %d failed\n", kernel->name, backward ? "forward+backward" : "forward", cases,
           failed);
    return failed != 0;
}

/* ---- time ---------------------------------------------------------------------------------------------------------
 */

static double median_ms(std::vector<float> t)
{
    std::sort(t.begin(), t.end());
    return t[t.size() / 2];
}

template <typename F> static double time_ms(F &&f, int repeats)
{
    cudaEvent_t a, b;
    CUDA_OK(cudaEventCreate(&a));
    CUDA_OK(cudaEventCreate(&b));
    std::vector<float> t;
    for (int i = -2; i < repeats; i++) {
        CUDA_OK(cudaEventRecord(a));
        f();
        CUDA_OK(cudaEventRecord(b));
        CUDA_OK(cudaEventSynchronize(b));
        float ms;
        CUDA_OK(cudaEventElapsedTime(&ms, a, b));
        if (i >= 0)
            t.push_back(ms);
    }
    return median_ms(t);
}

static const struct {
    int64_t batch, tokens, q_heads, kv_heads, dim, value_dim;
    bool causal;
} shapes[] = {
    {1, 16384, 32, 32, 128, 128, false}, {1, 16384, 32, 32, 128, 128, true},  {1, 65536, 32, 8, 128, 128, true},
    {2, 16384, 32, 32, 64, 64, false},   {2, 16384, 32, 32, 64, 64, true},    {1, 16384, 16, 16, 96, 96, false},
    {1, 16384, 16, 16, 192, 128, false}, {1, 16384, 16, 16, 256, 256, false}, {1, 16384, 16, 16, 256, 256, true},
    {4, 8192, 16, 16, 48, 48, false},
};

static void time_shape(const ringx_kernel *kernel, size_t which, bool backward, bool ordered)
{
    auto &x = shapes[which];
    problem p = {};
    p.batch = x.batch;
    p.tokens = x.tokens;
    p.q_heads = x.q_heads;
    p.kv_heads = x.kv_heads;
    p.dim = x.dim;
    p.value_dim = x.value_dim;
    p.dtype = RINGX_BF16;
    p.causal = x.causal;
    p.left = p.right = -1;
    p.ranks = 1;
    p.seed = 99;
    p.ordered = ordered;
    state s(p, backward, (size_t)64 << 20);
    ringx_run whole = {p.tokens, 0, 1};
    double flops = ringx__shape_flops(&s.shape, ringx__mask_area(&s.shape.mask, &whole, &whole));
    s.forward(kernel, 0);
    double ms = time_ms([&] { s.run(kernel, false, 0, 0, 1, true, true); }, 7), back = 0;
    if (backward) {
        s.deltas();
        s.backward(kernel);
        back = time_ms([&] { s.run(kernel, true, 0, 0, 1, false, false); }, 5);
    }
    printf("time %s b%lld s%lld %lld:%lld d%lld/%lld %s fwd %.3f ms %.0f TF", kernel->name, (long long)p.batch,
           (long long)p.tokens, (long long)p.q_heads, (long long)p.kv_heads, (long long)p.dim, (long long)p.value_dim,
           p.causal ? "causal" : "full", ms, flops / ms * 1e-9);
    if (backward)
        printf("  bwd%s %.3f ms %.0f TF", ordered ? "-ordered" : "", back, 2.5 * flops / back * 1e-9);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        printf("usage: cuda_check check|check-forward|time|time-forward|time-ordered KERNEL [CASES|SHAPE] [SEED]\n");
        return 2;
    }
    setvbuf(stdout, nullptr, _IOLBF, 0);
    const ringx_kernel *kernel = kernel_named(argv[2]);
    if (!kernel->available()) {
        printf("skip: %s is not available here\n", kernel->name);
        return 77;
    }
    std::string what = argv[1];
    if (what == "check" || what == "check-forward")
        return check(kernel, argc > 3 ? atoi(argv[3]) : 100, argc > 4 ? strtoull(argv[4], nullptr, 10) : 1,
                     what == "check");
    size_t count = sizeof shapes / sizeof shapes[0];
    for (size_t i = 0; i < count; i++)
        if (argc <= 3 || strchr(argv[3], (int)('0' + i)))
            time_shape(kernel, i, what != "time-forward", what == "time-ordered");
    return 0;
}
