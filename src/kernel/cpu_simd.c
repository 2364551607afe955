/* SPDX-License-Identifier: MIT */
/* cpu_simd: the best instruction set that was compiled and that this machine has. */
#include "kernel/cpu_simd.h"

#if defined(__x86_64__)
extern const ringx_simd ringx__simd_avx512, ringx__simd_avx2;
#endif
extern const ringx_simd ringx__simd_portable;

const ringx_simd *ringx__simd_at(size_t i)
{
    static const ringx_simd *const table[] = {
#if defined(__x86_64__)
        &ringx__simd_avx512,
        &ringx__simd_avx2,
#endif
        &ringx__simd_portable,
    };
    return i < sizeof table / sizeof table[0] ? table[i] : NULL;
}

/* The last of the table runs everywhere. */
static const ringx_kernel *best(void)
{
    size_t i = 0;
    while (!ringx__simd_at(i)->kernel.available())
        i++;
    return &ringx__simd_at(i)->kernel;
}

static bool available(void)
{
    return true;
}

static bool supports(const ringx_shape *shape)
{
    return best()->supports(shape);
}

static size_t scratch_bytes(const ringx_shape *shape, int64_t q_heads, int64_t kv_heads, int64_t tokens, int threads,
                            bool backward_pass)
{
    return best()->scratch_bytes(shape, q_heads, kv_heads, tokens, threads, backward_pass);
}

static ringx_status forward(const ringx_job *job)
{
    return best()->forward(job);
}

static ringx_status backward(const ringx_job *job)
{
    return best()->backward(job);
}

const ringx_kernel ringx__kernel_cpu_simd = {
    .name = "cpu_simd",
    .text = "packed and cache-blocked: AVX-512, AVX2 or portable, chosen at run time",
    .device = RINGX_CPU,
    .available = available,
    .supports = supports,
    .scratch_bytes = scratch_bytes,
    .forward = forward,
    .backward = backward,
};
