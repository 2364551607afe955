/* SPDX-License-Identifier: MIT */
/* Philox4x32-10 (Salmon et al., SC11): the counter-based generator behind dropout.
 *
 * The weight of (batch, head, query, key) is kept iff word key % 4 of philox(counter = {key / 4, query, head, batch},
 * key = seed) is >= threshold, all indices global: results depend on no rank, preset, layout or tile. */
#ifndef RINGX_CORE_PHILOX_H
#define RINGX_CORE_PHILOX_H

#include <stdint.h>

static inline void ringx__philox(uint64_t seed, const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Smallest word that is kept under probability dropout of being dropped. */
static inline uint32_t ringx__dropout_threshold(double dropout)
{
    double t = dropout * 4294967296.0;
    return t >= 4294967295.0 ? 4294967295u : (uint32_t)t;
}

static inline int ringx__dropout_keeps(uint64_t seed, uint32_t threshold, int64_t batch, int64_t head, int64_t query,
                                       int64_t key)
{
    uint32_t counter[4] = {(uint32_t)(key >> 2), (uint32_t)query, (uint32_t)head, (uint32_t)batch}, out[4];
    ringx__philox(seed, counter, out);
    return out[key & 3] >= threshold;
}

#endif
