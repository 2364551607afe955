/* SPDX-License-Identifier: MIT */
/* The instructions of kernel/cuda_mma.cuh for cuda_emulate.h. */
#ifndef RINGX_TEST_CUDA_EMULATE_MMA_H
#define RINGX_TEST_CUDA_EMULATE_MMA_H

typedef uintptr_t ringx_shared;
void ringx__emulate_copy(ringx_shared to, const void *from, size_t bytes,
                         bool valid); /* done at the wait, not before */
void ringx__emulate_copies();
void ringx__emulate_load(uint32_t (&r)[4], const void *row, bool transposed);
void ringx__emulate_multiply(bool bf16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

static inline ringx_shared shared_address(const void *p)
{
    return (ringx_shared)p;
}
static inline void copy_async(ringx_shared to, const void *from, bool valid)
{
    ringx__emulate_copy(to, from, 16, valid);
}
static inline void copy_word_async(ringx_shared to, const void *from, bool valid)
{
    ringx__emulate_copy(to, from, 4, valid);
}
static inline void copy_commit()
{
}
template <int N> static inline void copy_wait()
{
    static_assert(N == 0, "");
    ringx__emulate_copies();
}
static inline void load_matrices(uint32_t (&r)[4], ringx_shared row)
{
    ringx__emulate_load(r, (const void *)row, false);
}
static inline void load_transposed(uint32_t (&r)[4], ringx_shared row)
{
    ringx__emulate_load(r, (const void *)row, true);
}
template <typename T> static inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    ringx__emulate_multiply(std::is_same<T, __nv_bfloat16>::value, d, a, b0, b1);
}

#endif
