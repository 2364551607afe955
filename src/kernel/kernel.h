/* SPDX-License-Identifier: MIT */
/* Arithmetic on tiles; knows no ranks.
 *
 * Forward contract:  state ⊕= tiles.   The state of a query row is
 *     acc   float[value_dim], unnormalised: Σ exp2(s2 - m)·v (dropout applied)
 *     m     the largest s2 so far, -inf if none            s2 = score·log2(e), score scaled and soft-capped
 *     l     Σ exp2(s2 - m) (no dropout), 0 if none
 * so that out = acc / l and lse = ln 2·(m + log2 l), and a row that no key has reached is (0, -inf, 0).  ⊕ is exact in
 * any order up to float rounding, and splitting a job's key slices over several calls changes no bit.
 *
 * Backward contract:  dq += …, dk += …, dv += … from the *global* lse and delta = Σ dout·out, so every tile's gradient
 * is final and simply adds.
 *
 * A job is a list of query slices × key slices of one head range; a slice is a run of tokens with affine positions.
 * live[iq·keys + ik] == 0 means that no query of iq sees any key of ik.  Inside a live pair the arithmetic is masked by
 * comparing positions with each row's interval.  Masked scores are selected away, never multiplied by 0: what lies in
 * masked or padded memory (NaN, infinity) must not reach any result.
 *
 * CPU kernels are bitwise deterministic: from run to run, for any number of threads, and for any cut of the heads. */
#ifndef RINGX_KERNEL_H
#define RINGX_KERNEL_H

#include "core/shape.h"
#include "core/status.h"

typedef struct ringx_view { /* [batch][token][head][dim]; strides in elements, dim contiguous */
    void *data;
    int64_t batch_stride, token_stride, head_stride;
} ringx_view;

typedef struct ringx_rows { /* float [batch][head][token]; strides in elements, token contiguous */
    float *data;
    int64_t batch_stride, head_stride;
} ringx_rows;

typedef struct ringx_state { /* of some query rows */
    ringx_view acc;          /* float */
    ringx_rows m, l;
} ringx_state;

typedef struct ringx_query_slice {
    ringx_run run;    /* count tokens and their global positions; views start at the first of them */
    ringx_view q;     /* dtype */
    ringx_view acc;   /* forward: float state; unused if fresh && final */
    ringx_rows m, l;  /* forward: likewise */
    ringx_view out;   /* forward, if final: dtype */
    ringx_rows lse;   /* forward, if final; backward: in */
    ringx_view dout;  /* backward: dtype */
    ringx_rows delta; /* backward */
    ringx_view dq;    /* backward: float, += */
} ringx_query_slice;

typedef struct ringx_key_slice {
    ringx_run run;
    ringx_view k, v;   /* dtype */
    ringx_view dk, dv; /* backward: float, += */
    bool fresh;        /* backward, for kernels that start keys: = instead of += */
    bool final;        /* backward, for kernels that end keys: the sums go to dk_out, dv_out; dk, dv are then room */
    ringx_view dk_out, dv_out; /* backward, if final: dtype */
    /* Forward, for kernels that await keys: */
    int64_t head, heads;     /* of the job's kv heads only these, and views begin at the first; heads 0: all */
    const uint32_t *arrived; /* on the device: k and v are there when it is not 0; NULL: they are there */
    /* Backward, for kernels that tell: on the device, becomes 1 when dk and dv of all slices with it are; or NULL */
    uint32_t *finished;
} ringx_key_slice;

typedef struct ringx_job {
    const ringx_shape *shape;  /* scale, softcap, dropout, mask, dims, dtype; its head counts are global */
    int64_t q_head, q_heads;   /* global query heads [q_head, q_head + q_heads) are heads 0 … of the query views */
    int64_t kv_head, kv_heads; /* global kv heads [kv_head, …) are heads 0 … of the key views.  Local query head h */
                               /* uses local kv head (q_head + h) / shape->group - kv_head */
    const ringx_query_slice *query;
    const ringx_key_slice *key;
    const uint8_t *live;
    size_t queries, keys;
    bool fresh;    /* forward: start from the empty state instead of reading acc, m, l */
    bool final;    /* forward: write out and lse instead of acc, m, l */
    bool ordered;  /* backward: the same bits from run to run, even where that is slower (CPU kernels always) */
    void *scratch; /* scratch_bytes(...), aligned to 128, contents arbitrary */
    int threads;   /* OpenMP threads to use, >= 1 */
    void *stream;  /* CUDA: cudaStream_t */
    /* On the device, for kernels that await keys: += nanoseconds that a multiprocessor has waited on average; or NULL
     */
    uint64_t *waited;
} ringx_job;

enum { RINGX_AWAITED_RUNS = 64 }; /* key slices that a kernel which awaits keys takes in one job */

typedef struct ringx_kernel {
    const char *name, *text;
    ringx_device device;
    bool starts_keys, ends_keys;               /* backward heeds a key slice's fresh, final; else they may not be set */
    bool (*awaits_keys)(const ringx_job *job); /* forward can heed heads and arrived of its key slices; NULL: never */
    bool (*tells_keys)(const ringx_job *job);  /* backward can heed finished of its key slices; NULL: never */
    bool (*available)(void);                   /* this machine can run it */
    bool (*supports)(const ringx_shape *shape); /* it can do this problem */
    /* Scratch that any job of this problem needs when at most q_heads/kv_heads heads are in one job, whose query and
     * key slices hold at most `tokens` tokens each in sum. */
    size_t (*scratch_bytes)(const ringx_shape *shape, int64_t q_heads, int64_t kv_heads, int64_t tokens, int threads,
                            bool backward);
    /* Loads what jobs of this problem launch: a launch that must load first waits for the device, and so perhaps for
     * ranks that wait for it.  NULL: nothing to load. */
    ringx_status (*prepare)(const ringx_shape *shape);
    ringx_status (*forward)(const ringx_job *job);
    ringx_status (*backward)(const ringx_job *job);
} ringx_kernel;

/* Best first (kernels.def); NULL past the end. */
const ringx_kernel *ringx__kernel_at(size_t i);

/* Row-wise operations between the attend steps; one table per device.  All views are of `tokens` tokens, `heads` heads,
 * shape->batch batches; `threads` may be 1 (they also run on the communication lane). */
typedef struct ringx_rowops {
    ringx_device device;
    ringx_status (*prepare)(const ringx_shape *shape); /* as a kernel's */
    /* Of states[0] ⊕ … ⊕ states[count - 1]: out = acc / l (0 where l = 0), lse = ln 2·(m + log2 l) (-inf there) */
    ringx_status (*finish)(const ringx_shape *shape, int64_t tokens, int64_t heads, const ringx_state *states,
                           int count, ringx_view out, ringx_rows lse, int threads, void *stream);
    /* acc *= w, l *= w with w = exp2(m - agreed), 0 where m = -inf; then m = agreed */
    ringx_status (*rescale)(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_view acc, ringx_rows m,
                            ringx_rows l, ringx_rows agreed, int threads, void *stream);
    /* delta = Σ_dim dout·out, in float */
    ringx_status (*delta)(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_view out, ringx_view dout,
                          ringx_rows delta, int threads, void *stream);
    /* to = from over dim elements of dtypes; converts, rounding to nearest even */
    ringx_status (*copy)(const ringx_shape *shape, int64_t tokens, int64_t heads, int64_t dim, ringx_view from,
                         ringx_dtype from_type, ringx_view to, ringx_dtype to_type, int threads, void *stream);
    /* to = from[0] + … + from[count - 1], in this order, over dim elements; from is float, count 1 …
     * RINGX_MOST_SUMMED.  NULL on CPUs. */
    ringx_status (*copy_sum)(const ringx_shape *shape, int64_t tokens, int64_t heads, int64_t dim,
                             const ringx_view *from, int count, ringx_view to, ringx_dtype to_type, void *stream);
    ringx_status (*copy_rows)(const ringx_shape *shape, int64_t tokens, int64_t heads, ringx_rows from, ringx_rows to,
                              int threads, void *stream);
    /* to[i] = from[i] for count elements of the types given; rounds to nearest even */
    ringx_status (*convert)(size_t count, const void *from, ringx_dtype from_type, void *to, ringx_dtype to_type,
                            int threads, void *stream);
    /* to[i] += from[i] */
    ringx_status (*add)(size_t count, const float *from, float *to, int threads, void *stream);
    /* The same where from is another device's memory: few multiprocessors, many loads under way.  NULL on CPUs. */
    ringx_status (*add_far)(size_t count, const float *from, float *to, void *stream);
    /* to[i] = value, for count floats */
    ringx_status (*fill)(size_t count, float value, float *to, int threads, void *stream);
} ringx_rowops;

const ringx_rowops *ringx__rowops(ringx_device device); /* NULL where this build has none */

#endif
