/* SPDX-License-Identifier: MIT */
/* Key slices that come while a kernel runs: some heads after the others, each with a word that tells; and gradients of
 * which a word tells that they may go. */
#ifndef RINGX_TEST_CUDA_ARRIVALS_H
#define RINGX_TEST_CUDA_ARRIVALS_H

#include <chrono>
#include <cstdlib>
#include <random>
#include <vector>

#include <unistd.h>

#include "kernel/cuda_common.cuh"

/* Set where a tool runs kernels slowly, and one at a time. */
static inline bool under_a_tool()
{
#ifdef RINGX_EMULATE
    return true;
#else
    return getenv("CUDA_CHECK_UNDER_TOOL") != nullptr;
#endif
}

class arrivals
{
    enum { WORDS = 64, TOLD = WORDS - 1 };
    uint32_t *word = nullptr;
    size_t used = 0;
    std::mt19937_64 rng;
    bool at_once = under_a_tool(); /* a kernel is done when its launch returns */

  public:
    explicit arrivals(uint64_t seed) : rng(seed)
    {
        if (cudaMalloc(&word, WORDS * sizeof *word) != cudaSuccess)
            abort();
    }
    ~arrivals()
    {
        cudaFree(word);
    }
    arrivals(const arrivals &) = delete;

    /* Cuts slices, each of all of the job's kv heads, into some heads each; all but those of the first slice have yet
     * to come.  from: which of the slices a new one is part of. */
    std::vector<ringx_key_slice> cut(const std::vector<ringx_key_slice> &whole, int64_t kv_heads, size_t element,
                                     std::vector<size_t> *from)
    {
        std::vector<ringx_key_slice> all;
        if (cudaMemset(word, 0, WORDS * sizeof *word) != cudaSuccess)
            abort();
        for (size_t i = 0; i < whole.size(); i++)
            for (int64_t head = 0; head < kv_heads;) {
                ringx_key_slice part = whole[i];
                part.head = head;
                part.heads = i == 0 ? kv_heads : 1 + (int64_t)(rng() % (uint64_t)(kv_heads - head));
                for (ringx_view *v : {&part.k, &part.v})
                    v->data = (char *)v->data + (size_t)(head * v->head_stride) * element;
                part.arrived = i == 0 || used == TOLD ? nullptr : word + used++;
                head += part.heads;
                all.push_back(part);
                from->push_back(i);
            }
        if (at_once)
            come();
        return all;
    }

    /* Of some of a backward's slices somebody wants to know when their gradients stand in memory. */
    void mark(std::vector<ringx_key_slice> &slices)
    {
        if (cudaMemset(word, 0, WORDS * sizeof *word) != cudaSuccess)
            abort();
        for (auto &s : slices)
            s.finished = rng() % 2 ? word + TOLD : nullptr;
    }

    /* As soon as the kernel tells, what it has stored by then: beside it, where it runs beside copies.  false: it has
     * not told in ten seconds. */
    bool snapshot(const std::vector<void *> &to, const std::vector<const void *> &from,
                  const std::vector<size_t> &bytes)
    {
        cudaStream_t beside;
        uint32_t value = 0;
        auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        if (cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking) != cudaSuccess)
            abort();
        while (value == 0 && std::chrono::steady_clock::now() < end)
            if (cudaMemcpyAsync(&value, word + TOLD, sizeof value, cudaMemcpyDeviceToHost, beside) != cudaSuccess ||
                cudaStreamSynchronize(beside) != cudaSuccess)
                abort();
        for (size_t i = 0; i < to.size(); i++)
            if (cudaMemcpyAsync(to[i], from[i], bytes[i], cudaMemcpyDeviceToDevice, beside) != cudaSuccess)
                abort();
        if (cudaStreamSynchronize(beside) != cudaSuccess)
            abort();
        cudaStreamDestroy(beside);
        return value == 1;
    }

    /* They come, one after the other, beside a kernel that runs; under a tool before it, since a copy then waits for
     * the kernel that waits for it. */
    void come()
    {
        static const uint32_t one = 1;
        if (used == 0)
            return;
        cudaStream_t beside;
        if (cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking) != cudaSuccess)
            abort();
        for (; used > 0; used--) {
            usleep(rng() % 2 ? 200 : 0);
            cudaMemcpyAsync(word + used - 1, &one, sizeof one, cudaMemcpyHostToDevice, beside);
        }
        if (at_once)
            cudaStreamSynchronize(beside);
        cudaStreamDestroy(beside);
    }
};

#endif
