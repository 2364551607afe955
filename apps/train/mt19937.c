/* SPDX-License-Identifier: MIT */
/* MT19937 (Matsumoto and Nishimura, 1998) with NumPy's legacy seeding and bounded integers. */
#include "train/mt19937.h"

void mt19937_seed(mt19937 *g, uint32_t seed)
{
    for (uint32_t i = 0; i < MT_WORDS; i++) {
        g->words[i] = seed;
        seed = UINT32_C(1812433253) * (seed ^ seed >> 30) + i + 1;
    }
    g->used = MT_WORDS;
}

static void refill(mt19937 *g)
{
    for (int i = 0; i < MT_WORDS; i++) {
        uint32_t y = (g->words[i] & 0x80000000u) | (g->words[(i + 1) % MT_WORDS] & 0x7fffffffu);
        g->words[i] = g->words[(i + 397) % MT_WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    g->used = 0;
}

uint32_t mt19937_next(mt19937 *g)
{
    if (g->used == MT_WORDS)
        refill(g);
    uint32_t y = g->words[g->used++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint64_t mt19937_at_most(mt19937 *g, uint64_t most)
{
    uint64_t mask = most, value;
    if (most == 0)
        return 0;
    for (int shift = 1; shift < 64; shift *= 2)
        mask |= mask >> shift;
    do {
        value = mt19937_next(g);
        if (most > UINT32_MAX)
            value = value << 32 | mt19937_next(g);
        value &= mask;
    } while (value > most);
    return value;
}

void mt19937_shuffle32(mt19937 *g, uint32_t *items, size_t count)
{
    for (size_t i = count; i-- > 1;) {
        size_t j = mt19937_at_most(g, i);
        uint32_t kept = items[i];
        items[i] = items[j];
        items[j] = kept;
    }
}

void mt19937_shuffle64(mt19937 *g, int64_t *items, size_t count)
{
    for (size_t i = count; i-- > 1;) {
        size_t j = mt19937_at_most(g, i);
        int64_t kept = items[i];
        items[i] = items[j];
        items[j] = kept;
    }
}
