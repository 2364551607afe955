/* SPDX-License-Identifier: MIT */
/* mma.sync for the portable kernels (sm_80 and later): instructions, tiles in shared memory, and their parameters.
 *
 * A tile is rows of DP elements (a multiple of 64) whose 16-byte chunks are permuted by row % 8, so that eight rows of
 * one chunk lie in different banks. */
#ifndef RINGX_KERNEL_CUDA_MMA_CUH
#define RINGX_KERNEL_CUDA_MMA_CUH

#include "kernel/cuda_common.cuh"
#include "kernel/cuda_turns.cuh"

#ifndef RINGX_MMA_KEYS
#define RINGX_MMA_KEYS 24 /* slices in one launch; the tests make it small */
#endif
#define RINGX_MMA_QUERIES 4

struct ringx_mma_queries { /* views start at their first token */
    ringx_view q, acc, out, dout, dq;
    ringx_rows m, l, lse, delta;
};

struct ringx_mma_params {
    ringx_cuda_run query[RINGX_MMA_QUERIES], key[RINGX_MMA_KEYS];
    ringx_mma_queries of[RINGX_MMA_QUERIES];
    ringx_view k[RINGX_MMA_KEYS], v[RINGX_MMA_KEYS], dk[RINGX_MMA_KEYS], dv[RINGX_MMA_KEYS];
    uint64_t live[RINGX_MMA_QUERIES];
    ringx_cuda_mask mask;
    ringx_cuda_dropout drop;
    int *turn; /* ordered backward: one counter a (query block, head, batch); else NULL */
    int queries, keys, q_heads, kv_heads, batch, q_head, kv_head, group, head_group, head_dim, value_dim, q_tiles;
    float scale, softcap;
    bool fresh, final, aligned; /* aligned: rows of all inputs can be read 16 bytes at a time */
    bool paired;                /* rows of dq can be added to by 8 bytes */
};

#ifdef RINGX_EMULATE
#include "kernel/cuda_emulate_mma.h"
#else

typedef uint32_t ringx_shared; /* an address in shared memory */

__device__ __forceinline__ ringx_shared shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* 16 bytes, or zeros where not valid: then nothing is read. */
__device__ __forceinline__ void copy_async(ringx_shared to, const void *from, bool valid)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void copy_word_async(ringx_shared to, const void *from, bool valid)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(valid ? 4 : 0) : "memory");
}

__device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Four 8×8 matrices; lane l gives the address of row l%8 of matrix l/8. */
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], ringx_shared row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], ringx_shared row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/* d += A·B of 16×16 by 16×8. */
template <typename T>
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

#define RINGX_MULTIPLY_ADD(T, TYPE)                                                                                    \
    template <>                                                                                                        \
    __device__ __forceinline__ void multiply_add<T>(float(&d)[4], const uint32_t(&a)[4], uint32_t b0, uint32_t b1)     \
    {                                                                                                                  \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 "                                    \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                 \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                  \
    }
RINGX_MULTIPLY_ADD(__nv_bfloat16, "bf16")
RINGX_MULTIPLY_ADD(__half, "f16")

#endif

/* Chunk c of row r of a tile. */
template <int DP> __device__ __forceinline__ int chunk_at(int r, int c)
{
    return r * (DP * 2) + ((c ^ (r & 7)) << 4);
}

/* Rows of one head of a view, kept in shared memory: a load finds its addresses with one read. */
struct __align__(16) ringx_mma_source
{
    const char *data; /* first row */
    int64_t step;     /* bytes from row to row */
};

__device__ __forceinline__ ringx_mma_source source_of(const ringx_view &v, int64_t batch, int64_t head)
{
    return {(const char *)v.data + 2 * (batch * v.batch_stride + head * v.head_stride), 2 * v.token_stride};
}

/* Rows [row0, row0 + ROWS) of a source of `count` rows into a tile, zeros outside count and dim. */
template <int ROWS, int DP, int THREADS>
__device__ __forceinline__ void load_tile(char *tile, ringx_mma_source from, int row0, int count, int dim, bool aligned)
{
    constexpr int CHUNKS = DP / 8, STEP = THREADS / CHUNKS;
    if (aligned && THREADS % CHUNKS == 0 && STEP % 8 == 0 && ROWS % STEP == 0) {
        /* each thread keeps its column and its place among eight rows: one sum for an address */
        int r = (int)threadIdx.x / CHUNKS, c = (int)threadIdx.x % CHUNKS, left = 8 * c < dim ? count - row0 - r : 0;
        const char *mine = from.data + (row0 + r) * from.step + 16 * c;
        ringx_shared to = shared_address(tile) + chunk_at<DP>(r, c);
#pragma unroll
        for (int j = 0; j < ROWS; j += STEP) {
            copy_async(to + j * (DP * 2), mine, j < left);
            mine += STEP * from.step;
        }
    } else if (aligned) {
#pragma unroll 4
        for (int i = (int)threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
            int r = i / CHUNKS, c = i % CHUNKS;
            bool inside = row0 + r < count && 8 * c < dim;
            copy_async(shared_address(tile) + chunk_at<DP>(r, c),
                       from.data + (inside ? (row0 + r) * from.step + 16 * c : 0), inside);
        }
    } else {
#pragma unroll 1
        for (int i = (int)threadIdx.x; i < ROWS * DP; i += THREADS) {
            int r = i / DP, d = i % DP;
            bool inside = row0 + r < count && d < dim;
            uint16_t x = inside ? ((const uint16_t *)(from.data + (row0 + r) * from.step))[d] : (uint16_t)0;
            ((uint16_t *)(tile + chunk_at<DP>(r, d / 8)))[d % 8] = x;
        }
    }
}

/* A value that stays in its register: else the compiler computes it anew, and waits for it, in every round of a loop.
 */
__device__ __forceinline__ ringx_shared keep(ringx_shared x)
{
    return (ringx_shared)__shfl_sync(0xffffffffu, x, (int)threadIdx.x % 32);
}

/* Operand fragments from a tile, 16 rows at a multiple of 8 by 16 columns at an even chunk:
 * left     A, stored [m][k]            left_turned   A, stored [k][m]
 * right    B for two groups of 8 n, stored [n][k]: words 0, 1 of the first, 2, 3 of the second
 * right_turned                            stored [k][n]
 * A lane reads one row of 8 elements of each.  Where it starts in a tile that begins with shared memory is computed
 * once, by rows_first (left, right_turned) or columns_first (right, left_turned); an even chunk then is one exclusive
 * or, which all tiles of that width share, and a tile and a row are offsets. */
template <int DP> __device__ __forceinline__ ringx_shared rows_first(const char *base)
{
    int lane = threadIdx.x % 32;
    return keep(shared_address(base) + chunk_at<DP>(lane % 16, lane / 16));
}

template <int DP> __device__ __forceinline__ ringx_shared columns_first(const char *base)
{
    int lane = threadIdx.x % 32;
    return keep(shared_address(base) + chunk_at<DP>(lane / 16 * 8 + lane % 8, lane / 8 % 2));
}

template <int DP> __device__ __forceinline__ ringx_shared fragment_at(ringx_shared lane, int tile, int row, int chunk)
{
    return (lane ^ (ringx_shared)((chunk & 7) << 4)) + tile + row * (DP * 2) + (chunk >> 3) * 128;
}

/* The sums of two neighbouring 16×8 products as a left operand. */
template <typename T>
__device__ __forceinline__ void as_left(uint32_t (&a)[4], const float (&first)[4], const float (&second)[4])
{
    a[0] = pack<T>(first[0], first[1]);
    a[1] = pack<T>(first[2], first[3]);
    a[2] = pack<T>(second[0], second[1]);
    a[3] = pack<T>(second[2], second[3]);
}

/* d += A·Bᵀ: 16·STRIPS rows of one tile by 16·GROUPS rows of another, 16·STEPS columns of both, which are DP wide.
 * Fragments are asked for some products before their own: a strip alone has little to do between two. */
template <typename T, int STRIPS, int GROUPS, int STEPS, int DP>
__device__ __forceinline__ void multiply_rows(float (&d)[STRIPS][2 * GROUPS][4], ringx_shared rows, int a_tile,
                                              ringx_shared columns, int b_tile)
{
    /* not over more than one step: A has two */
    constexpr int AHEAD = STRIPS > 1 ? 1 : GROUPS < 3 ? GROUPS : 3, ALL = STEPS * GROUPS;
    uint32_t a[2][STRIPS][4], b[AHEAD + 1][4];
    auto load = [&](int j) {
        if (j % GROUPS == 0) {
#pragma unroll
            for (int i = 0; i < STRIPS; i++)
                load_matrices(a[j / GROUPS % 2][i], fragment_at<DP>(rows, a_tile, 16 * i, 2 * (j / GROUPS)));
        }
        load_matrices(b[j % (AHEAD + 1)], fragment_at<DP>(columns, b_tile, 16 * (j % GROUPS), 2 * (j / GROUPS)));
    };
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
        load(j);
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
#pragma unroll
        for (int n = 0; n < GROUPS; n++) {
            const int j = k * GROUPS + n;
            if (j + AHEAD < ALL)
                load(j + AHEAD);
#pragma unroll
            for (int i = 0; i < STRIPS; i++) {
                multiply_add<T>(d[i][2 * n], a[k % 2][i], b[j % (AHEAD + 1)][0], b[j % (AHEAD + 1)][1]);
                multiply_add<T>(d[i][2 * n + 1], a[k % 2][i], b[j % (AHEAD + 1)][2], b[j % (AHEAD + 1)][3]);
            }
        }
    }
}

/* d += A·B: A's 16·STRIPS rows are sums in registers, 16·STEPS wide; B's are those of a tile, 16·GROUPS columns. */
template <typename T, int STRIPS, int GROUPS, int STEPS, int DP>
__device__ __forceinline__ void multiply_columns(float (&d)[STRIPS][2 * GROUPS][4],
                                                 const float (&left)[STRIPS][2 * STEPS][4], ringx_shared rows,
                                                 int b_tile)
{
    constexpr int AHEAD = STRIPS > 1 ? 1 : 3, ALL = STEPS * GROUPS;
    uint32_t a[STRIPS][4], b[AHEAD + 1][4];
    auto load = [&](int j) {
        load_transposed(b[j % (AHEAD + 1)], fragment_at<DP>(rows, b_tile, 16 * (j / GROUPS), 2 * (j % GROUPS)));
    };
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
        load(j);
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
#pragma unroll
        for (int i = 0; i < STRIPS; i++)
            as_left<T>(a[i], left[i][2 * k], left[i][2 * k + 1]);
#pragma unroll
        for (int n = 0; n < GROUPS; n++) {
            const int j = k * GROUPS + n;
            if (j + AHEAD < ALL)
                load(j + AHEAD);
#pragma unroll
            for (int i = 0; i < STRIPS; i++) {
                multiply_add<T>(d[i][2 * n], a[i], b[j % (AHEAD + 1)][0], b[j % (AHEAD + 1)][1]);
                multiply_add<T>(d[i][2 * n + 1], a[i], b[j % (AHEAD + 1)][2], b[j % (AHEAD + 1)][3]);
            }
        }
    }
}

#endif
