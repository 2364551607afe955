/* SPDX-License-Identifier: MIT */
/* The generator behind NumPy's RandomState and PyTorch's CPU generator, and the former's shuffle: orders of documents
 * and samples depend on them. */
#ifndef RINGX_TRAIN_MT19937_H
#define RINGX_TRAIN_MT19937_H

#include <stddef.h>
#include <stdint.h>

#define MT_WORDS 624

typedef struct mt19937 {
    uint32_t words[MT_WORDS];
    int used;
} mt19937;

void mt19937_seed(mt19937 *g, uint32_t seed); /* RandomState(seed) */
uint32_t mt19937_next(mt19937 *g);
uint64_t mt19937_at_most(mt19937 *g, uint64_t most); /* 0 … most; legacy: masked words, until one fits */
/* RandomState.shuffle of a one-dimensional array. */
void mt19937_shuffle32(mt19937 *g, uint32_t *items, size_t count);
void mt19937_shuffle64(mt19937 *g, int64_t *items, size_t count);

#endif
