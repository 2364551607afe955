/* SPDX-License-Identifier: MIT */
/* cpu_simd, written once over the vector operations of the including file and compiled for each instruction set.
 *
 * The including file gives   vec, ints, lanes and their operations; philox; transpose_square; available
 *                            VL floats a vector; WIDE_ROWS × WIDE vectors and FLAT_ROWS × FLAT vectors: the two
 * register tiles; SQUARE: the transposer's side
 *
 * All products run on packed panels (cpu_simd_pack.h): scores lie as [row][WIDE·VL columns], where forward puts queries
 * in the columns (so that softmax needs no horizontal sums) and backward keys.  No multiply-add is left to the compiler
 * to fuse: full and masked variants of a loop must give the same bits. */
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "core/philox.h"
#include "kernel/cpu_tasks.h"

#define INLINE   static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline)) /* leaves all registers to the loop inside */

enum { WIDTH = WIDE * VL, FLAT_WIDTH = FLAT * VL, MAX_DIM = 256 };

#include "kernel/cpu_simd_tile.h"
#include "kernel/cpu_simd_math.h"
#include "kernel/cpu_simd_pack.h"
#include "kernel/cpu_simd_forward.h"
#include "kernel/cpu_simd_items.h"
#include "kernel/cpu_simd_backward.h"
#include "kernel/cpu_simd_turns.h"

static bool supports(const ringx_shape *shape)
{
    return shape->head_dim <= MAX_DIM && shape->value_dim <= MAX_DIM;
}

static size_t scratch_bytes(const ringx_shape *shape, int64_t q_heads, int64_t kv_heads, int64_t tokens, int threads,
                            bool backward_pass)
{
    (void)q_heads, (void)tokens;
    return backward_pass ? backward_scratch(shape, kv_heads, threads) : forward_scratch(shape, threads);
}

/* As many independent sums as the wide tile has: enough to hide the latency of the units. */
static double fma_rounds(int64_t rounds, float *sink)
{
    vec sum[WIDE_ROWS * WIDE], factor = v_set1(1 - *sink), addend = v_set1(*sink);
    for (int i = 0; i < WIDE_ROWS * WIDE; i++)
        sum[i] = v_set1((float)i);
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < WIDE_ROWS * WIDE; i++)
            sum[i] = v_fma(sum[i], factor, addend);
    float part[VL];
    for (int i = 1; i < WIDE_ROWS * WIDE; i++)
        sum[0] = v_add(sum[0], sum[i]);
    v_store(part, sum[0]);
    for (int i = 0; i < VL; i++)
        *sink += part[i];
    return 2.0 * VL * WIDE_ROWS * WIDE * (double)rounds;
}

const ringx_simd SIMD_ROW = {
    .kernel = {.name = "cpu_simd_" SIMD_NAME,
               .text = "packed and cache-blocked, " SIMD_NAME,
               .device = RINGX_CPU,
               .available = available,
               .supports = supports,
               .scratch_bytes = scratch_bytes,
               .forward = forward,
               .backward = backward},
    .fma_rounds = fma_rounds,
};
