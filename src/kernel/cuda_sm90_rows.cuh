/* SPDX-License-Identifier: MIT */
/* A warpgroup's sums to and from rows in memory.  Of a row of WIDTH columns a quad of lanes holds, of each eight, two a
 * lane: 2t and 2t + 1 are lane t's. */
#ifndef RINGX_KERNEL_CUDA_SM90_ROWS_CUH
#define RINGX_KERNEL_CUDA_SM90_ROWS_CUH

#include "kernel/cuda_sm90.cuh"

#if RINGX_SM90

/* Two columns a lane → eight columns of one chunk a lane: word c of lane t goes to lane c as its word t. */
__device__ __forceinline__ void transpose_quad(uint32_t (&w)[4], int t)
{
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
        bool upper = t & step;
#pragma unroll
        for (int c = 0; c < 4; c++) {
            if (c & step)
                continue;
            uint32_t give = upper ? w[c] : w[c + step];
            uint32_t got = __shfl_xor_sync(0xffffffffu, give, step);
            if (upper)
                w[c] = got;
            else
                w[c + step] = got;
        }
    }
}

/* This lane's columns of a row of floats; 0 past dim, and everywhere if not inside.  paired: pairs are aligned. */
template <int WIDTH>
__device__ __forceinline__ void load_floats(const float *from, bool inside, bool paired, int column, int dim,
                                            float (&x)[WIDTH / 4])
{
    if (paired) {
#pragma unroll
        for (int c = 0; c < WIDTH / 8; c++) {
            int d = 8 * c + column;
            float2 two = inside && d < dim ? *(const float2 *)(from + d) : make_float2(0, 0);
            x[2 * c] = two.x;
            x[2 * c + 1] = two.y;
        }
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH / 4; i++) {
            int d = i / 2 * 8 + i % 2 + column;
            x[i] = inside && d < dim ? from[d] : 0;
        }
    }
}

template <int WIDTH>
__device__ __forceinline__ void store_floats(float *to, bool inside, bool paired, int column, int dim,
                                             const float (&x)[WIDTH / 4])
{
    if (paired) {
#pragma unroll
        for (int c = 0; c < WIDTH / 8; c++)
            if (inside && 8 * c + column < dim)
                *(float2 *)(to + 8 * c + column) = make_float2(x[2 * c], x[2 * c + 1]);
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH / 4; i++) {
            int d = i / 2 * 8 + i % 2 + column;
            if (inside && d < dim)
                to[d] = x[i];
        }
    }
}

/* Rounded to 16 bits.  wide: chunks of eight are aligned.  All lanes of the warp take part. */
template <typename T, int WIDTH>
__device__ __forceinline__ void store_halves(T *to, bool inside, bool wide, int column, int dim,
                                             const float (&x)[WIDTH / 4])
{
#pragma unroll
    for (int c = 0; c < WIDTH / 8; c += 4) {
        uint32_t w[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            w[k] = pack<T>(x[2 * (c + k)], x[2 * (c + k) + 1]);
        if (wide) {
            transpose_quad(w, column / 2);
            int d = 8 * c + 4 * column;
            if (inside && d < dim)
                *(uint4 *)(to + d) = make_uint4(w[0], w[1], w[2], w[3]);
        } else if (inside) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                int d = 8 * (c + k) + column;
                if (d < dim)
                    *(uint16_t *)(to + d) = (uint16_t)w[k];
                if (d + 1 < dim)
                    *(uint16_t *)(to + d + 1) = (uint16_t)(w[k] >> 16);
            }
        }
    }
}

#endif

#endif
