/* SPDX-License-Identifier: MIT */
/* The order of samples: that of PyTorch's DistributedSampler with its CPU generator (torch.randperm, seed = epoch). */
#include "vit/dataset.h"

#include <stdlib.h>

#include "train/mt19937.h"

int64_t vit_sampler_batches(const vit_sampler *s)
{
    int64_t each = (s->samples + s->ranks - 1) / s->ranks;
    return each / s->batch;
}

/* torch.randperm(count): at each place one of what is left, by one 32-bit word modulo how many these are. */
static void permute(int64_t *items, int64_t count, uint32_t seed)
{
    mt19937 random;
    mt19937_seed(&random, seed);
    for (int64_t i = 0; i + 1 < count; i++) {
        int64_t at = i + (int64_t)(mt19937_next(&random) % (uint64_t)(count - i)), kept = items[i];
        items[i] = items[at];
        items[at] = kept;
    }
}

int vit_sampler_order(const vit_sampler *s, int64_t epoch, int64_t *samples)
{
    size_t bytes;
    if (!multiply((size_t)s->samples, sizeof(int64_t), &bytes))
        return fail(CODE_NO_MEMORY, "too many samples: %lld", (long long)s->samples);
    int64_t *all = allocate(bytes);
    if (!all)
        return CODE_NO_MEMORY;
    for (int64_t i = 0; i < s->samples; i++)
        all[i] = i;
    if (s->shuffled)
        permute(all, s->samples, (uint32_t)epoch);
    int64_t count = vit_sampler_batches(s) * s->batch;
    for (int64_t i = 0; i < count; i++)
        samples[i] = all[(s->rank + i * s->ranks) % s->samples]; /* wraps around: every rank has as many */
    free(all);
    return CODE_GOOD;
}
