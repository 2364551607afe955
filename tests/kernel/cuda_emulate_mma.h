/* SPDX-License-Identifier: MIT */
/* The instructions of kernel/cuda_mma.cuh for cuda_emulate.h. */
#ifndef RINGX_TEST_CUDA_EMULATE_MMA_H
#define RINGX_TEST_CUDA_EMULATE_MMA_H

void copy_async(void *to, const void *from, bool valid); /* done at the wait, as late as may be */
void ringx__emulate_copies();
void ringx__emulate_load(uint32_t (&r)[4], const void *row, bool transposed);
void ringx__emulate_multiply(bool bf16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

static inline void copy_commit()
{
}
template <int N> static inline void copy_wait()
{
    static_assert(N == 0, "");
    ringx__emulate_copies();
}
static inline void load_matrices(uint32_t (&r)[4], const void *row)
{
    ringx__emulate_load(r, row, false);
}
static inline void load_transposed(uint32_t (&r)[4], const void *row)
{
    ringx__emulate_load(r, row, true);
}
template <typename T> static inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    ringx__emulate_multiply(std::is_same<T, __nv_bfloat16>::value, d, a, b0, b1);
}

#endif
