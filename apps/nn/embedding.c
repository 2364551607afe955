/* SPDX-License-Identifier: MIT */
/* Embedding on CPUs, of a range of the vocabulary. */
#include "nn/nn_cpu.h"
#include "nn/rows.h"

static bool own(const nn_embedding *e, int64_t t)
{
    return e->ids[t] >= e->first && e->ids[t] - e->first < e->count;
}

int nn_cpu_embedding_forward(const nn_context *on, const nn_embedding *e)
{
    (void)on;
#pragma omp parallel for schedule(static) if (nn_worth(e->tokens * e->width))
    for (int64_t t = 0; t < e->tokens; t++)
        for (int64_t j = 0; j < e->width; j += NN_BLOCK) {
            int64_t n = nn_least(NN_BLOCK, e->width - j);
            float in_buffer[NN_BLOCK], out_buffer[NN_BLOCK] = {0};
            const float *from = out_buffer;
            if (own(e, t))
                from = nn_load(e->table.dtype, nn_at(&e->table, e->width, e->ids[t] - e->first, j), n, in_buffer);
            void *to = nn_at(&e->y, e->width, t, j);
            memmove(nn_place(e->y.dtype, to, out_buffer), from, (size_t)n * sizeof *from);
            nn_store(e->y.dtype, to, n, out_buffer);
        }
    return 0;
}

/* Each thread has columns of its own and takes the tokens in their order. */
int nn_cpu_embedding_backward(const nn_context *on, const nn_embedding *e)
{
    (void)on;
    enum { COLUMNS = 64 };
#pragma omp parallel for schedule(static) if (nn_worth(e->tokens * e->width))
    for (int64_t j = 0; j < e->width; j += COLUMNS)
        for (int64_t t = 0; t < e->tokens; t++) {
            if (!own(e, t))
                continue;
            int64_t n = nn_least(COLUMNS, e->width - j);
            float buffer[COLUMNS], *to = e->dtable + (e->ids[t] - e->first) * e->width + j;
            const float *dy = nn_load(e->dy.dtype, nn_at(&e->dy, e->width, t, j), n, buffer);
            for (int64_t i = 0; i < n; i++)
                to[i] += dy[i];
        }
    return 0;
}
