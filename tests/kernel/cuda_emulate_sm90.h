/* SPDX-License-Identifier: MIT */
/* Hopper's instructions for cuda_emulate.h: the functions of kernel/cuda_sm90.cuh in plain C++. */
#ifndef RINGX_TEST_CUDA_EMULATE_SM90_H
#define RINGX_TEST_CUDA_EMULATE_SM90_H

#define RINGX_EVICT_FIRST 0ull
#define RINGX_EVICT_LAST  0ull

extern char base[]; /* shared memory, at address 1024 of its window */
enum { RINGX_EMULATE_BASE = 1024 };

static inline uint32_t smem_address(const void *p)
{
    return (uint32_t)((const char *)p - base) + RINGX_EMULATE_BASE;
}

static inline char *smem_pointer(uint32_t address)
{
    return base + (address - RINGX_EMULATE_BASE);
}

void mbar_init(uint32_t bar, int count);
void mbar_expect(uint32_t bar, uint32_t bytes);
void mbar_arrive(uint32_t bar);
void mbar_wait(uint32_t bar, uint32_t parity);
void tma_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int c0, int c1, int c2, int c3, uint64_t hint);
void tma_reduce_add(const CUtensorMap *map, uint32_t from, int c0, int c1, int c2, int c3);
void ringx__emulate_bulk_wait(); /* does what this thread has issued */
void ringx__emulate_product(bool bf16, int n, bool trans_a, bool trans_b, float *d, const uint32_t *a_words, uint64_t a,
                            uint64_t b, int add);
void wgmma_commit();
void ringx__emulate_products(int left); /* does all but the last `left` groups */

static inline void bulk_commit()
{
}
template <int N> static inline void bulk_wait_read()
{
    ringx__emulate_bulk_wait();
}
template <int N> static inline void bulk_wait()
{
    ringx__emulate_bulk_wait();
}
static inline void fence_proxy()
{
}
static inline void fence_proxy_global()
{
}
static inline void fence_mbar_init()
{
}
static inline void await_arrival(const uint32_t *arrived, unsigned long long *)
{
    while (*(const volatile uint32_t *)arrived == 0)
        ringx__emulate_yield("await_arrival");
}
static inline void set_word(uint32_t *word)
{
    *word = 1;
}
static inline void wgmma_fence()
{
}
template <int N> static inline void wgmma_wait()
{
    ringx__emulate_products(N);
}
template <int N> static inline void registers_down()
{
}
template <int N> static inline void registers_up()
{
}
template <typename T, int R> static inline void hold(T (&)[R])
{
}

static inline void bar_sync(int id, int threads)
{
    ringx__emulate_barrier(1, id, threads, true, "bar.sync");
}
static inline void bar_arrive(int id, int threads)
{
    ringx__emulate_barrier(1, id, threads, false, "bar.arrive");
}

static inline void store_matrices(uint32_t row, const uint32_t *x)
{
    uint32_t(*slot)[4] = ringx__emulate_exchange[threadIdx.x / 32];
    unsigned lane = threadIdx.x % 32;
    memcpy(slot[lane], x, 16);
    __syncwarp();
    for (unsigned i = 0; i < 4; i++)
        memcpy(smem_pointer(row) + 4 * i, &slot[lane % 8 * 4 + i][lane / 8], 4);
    __syncwarp();
}

template <typename T, int N> struct ringx_wgmma {
    static constexpr bool BF16 = std::is_same<T, __nv_bfloat16>::value;
    template <int TransA, int TransB> static void ss(float (&d)[N / 2], uint64_t a, uint64_t b, int add)
    {
        ringx__emulate_product(BF16, N, TransA, TransB, d, nullptr, a, b, add);
    }
    template <int TransB> static void rs(float (&d)[N / 2], const uint32_t *a, uint64_t b, int add)
    {
        ringx__emulate_product(BF16, N, false, TransB, d, a, 0, b, add);
    }
};

#endif
