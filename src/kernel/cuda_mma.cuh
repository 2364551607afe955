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

__device__ __forceinline__ void copy_async(void *to, const void *from, bool valid)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
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
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
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
template <int DP> __device__ __forceinline__ char *chunk_at(char *tile, int r, int c)
{
    return tile + r * (DP * 2) + ((c ^ (r & 7)) << 4);
}

/* Rows [row0, row0 + ROWS) of one head of a view into a tile, zeros outside count and dim. */
template <typename T, int ROWS, int DP, int THREADS>
__device__ __forceinline__ void load_tile(char *tile, const ringx_view &v, int64_t batch, int64_t head, int row0,
                                          int count, int dim, bool aligned)
{
    const T *from = (const T *)v.data + batch * v.batch_stride + head * v.head_stride;
    constexpr int CHUNKS = DP / 8, STEP = THREADS / CHUNKS;
    if (aligned && THREADS % CHUNKS == 0 && STEP % 8 == 0 && ROWS % STEP == 0) {
        /* each thread keeps its column and its place among eight rows: one sum for an address */
        int r = (int)threadIdx.x / CHUNKS, c = (int)threadIdx.x % CHUNKS, left = 8 * c < dim ? count - row0 - r : 0;
        const T *mine = from + (left > 0 ? (int64_t)(row0 + r) * v.token_stride + 8 * c : 0);
        char *to = chunk_at<DP>(tile, r, c);
#pragma unroll
        for (int j = 0; j < ROWS; j += STEP)
            copy_async(to + j * (DP * 2), mine + j * v.token_stride, j < left); /* nothing is read where not valid */
    } else if (aligned) {
#pragma unroll 4
        for (int i = (int)threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
            int r = i / CHUNKS, c = i % CHUNKS;
            bool inside = row0 + r < count && 8 * c < dim;
            copy_async(chunk_at<DP>(tile, r, c), from + (inside ? (int64_t)(row0 + r) * v.token_stride + 8 * c : 0),
                       inside);
        }
    } else {
#pragma unroll 1
        for (int i = (int)threadIdx.x; i < ROWS * DP; i += THREADS) {
            int r = i / DP, d = i % DP;
            bool inside = row0 + r < count && d < dim;
            uint16_t x = inside ? ((const uint16_t *)from)[(int64_t)(row0 + r) * v.token_stride + d] : (uint16_t)0;
            ((uint16_t *)chunk_at<DP>(tile, r, d / 8))[d % 8] = x;
        }
    }
}

/* Operand fragments from a tile, 16 rows at row by 16 columns at chunk:
 * left     A, stored [m][k]            left_turned   A, stored [k][m]
 * right    B for two groups of 8 n, stored [n][k]: words 0, 1 of the first, 2, 3 of the second
 * right_turned                            stored [k][n] */
template <int DP> __device__ __forceinline__ void left(uint32_t (&a)[4], char *tile, int row, int chunk)
{
    int lane = threadIdx.x % 32;
    load_matrices(a, chunk_at<DP>(tile, row + lane % 16, chunk + lane / 16));
}

template <int DP> __device__ __forceinline__ void left_turned(uint32_t (&a)[4], char *tile, int k, int m_chunk)
{
    int lane = threadIdx.x % 32;
    load_transposed(a, chunk_at<DP>(tile, k + lane / 16 * 8 + lane % 8, m_chunk + lane / 8 % 2));
}

template <int DP> __device__ __forceinline__ void right(uint32_t (&b)[4], char *tile, int n, int k_chunk)
{
    int lane = threadIdx.x % 32;
    load_matrices(b, chunk_at<DP>(tile, n + lane / 16 * 8 + lane % 8, k_chunk + lane / 8 % 2));
}

template <int DP> __device__ __forceinline__ void right_turned(uint32_t (&b)[4], char *tile, int k, int n_chunk)
{
    int lane = threadIdx.x % 32;
    load_transposed(b, chunk_at<DP>(tile, k + lane % 16, n_chunk + lane / 16));
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

#endif
