/* SPDX-License-Identifier: MIT */
/* Cross-entropy over a vocabulary that is split over ranks, on CPUs, a chunk of tokens at a time.
 *
 * With z the logits of a token, m their maximum and s = Σ exp(z − m) over all ranks: nll = m + ln s − z[target], and
 * dz = scale·mask·(exp(z − m)/s − [target]).  What the ranks tell each other of a token: m; s and z[target]. */
#include "nn/exponential.h"
#include "nn/nn_cpu.h"
#include "nn/product.h"
#include "nn/rows.h"
#include "shared/report.h"

#include <math.h>

int64_t nn_loss_chunk(const nn_loss *l)
{
    int64_t chunk = l->chunk < 1 ? 1 : l->chunk;
    chunk = (chunk + NN_TILE - 1) / NN_TILE * NN_TILE;
    return nn_least(chunk, (l->tokens + NN_TILE - 1) / NN_TILE * NN_TILE);
}

/* 16 bytes, even where logits become halves. */
int64_t nn_loss_stride(const nn_loss *l)
{
    return (l->count + 7) / 8 * 8;
}

/* Of one chunk: logits [chunk][stride], maxima [chunk], then sums [chunk] and target logits [chunk] side by side. */
typedef struct chunk {
    int64_t first, tokens;
    float *logits, *maxima, *sums;
} chunk;

/* One more [chunk]: the maxima of this rank, which the CPU does not need. */
size_t nn_loss_workspace(const nn_loss *l)
{
    return (size_t)nn_loss_chunk(l) * (size_t)(nn_loss_stride(l) + 4) * sizeof(float);
}

static float mask_of(const nn_loss *l, int64_t t)
{
    return l->mask ? l->mask[t] : 1;
}

static int reduce(const nn_loss *l, bool sum, float *values, int64_t count)
{
    if (!l->reduce)
        return CODE_GOOD;
    return (sum ? l->reduce->sum : l->reduce->max)(l->reduce->group, values, (size_t)count);
}

static nn_array rows_of(const nn_array *a, int64_t width, int64_t first)
{
    return (nn_array){nn_at(a, width, first, 0), a->dtype, a->stride ? a->stride : width};
}

static void find_maxima(const nn_loss *l, const chunk *c)
{
#pragma omp parallel for schedule(static) if (nn_worth(c->tokens * l->count))
    for (int64_t t = 0; t < c->tokens; t++) {
        const float *z = c->logits + t * nn_loss_stride(l);
        float most = -INFINITY;
        for (int64_t i = 0; i < l->count; i++)
            most = z[i] > most || isnan(z[i]) ? z[i] : most; /* NaN stays, to be seen in the loss */
        c->maxima[t] = most;
    }
}

static void find_sums(const nn_loss *l, const chunk *c)
{
#pragma omp parallel for schedule(static) if (nn_worth(4 * c->tokens * l->count))
    for (int64_t t = 0; t < c->tokens; t++) {
        const float *z = c->logits + t * nn_loss_stride(l);
        double sum = 0;
        for (int64_t i = 0; i < l->count; i++)
            sum += (double)nn_exp(z[i] - c->maxima[t]);
        int64_t target = l->targets[c->first + t] - l->first;
        bool mine = mask_of(l, c->first + t) != 0 && target >= 0 && target < l->count;
        c->sums[t] = (float)sum;
        c->sums[c->tokens + t] = mine ? z[target] : 0;
    }
}

static void set_nll(const nn_loss *l, const chunk *c)
{
    for (int64_t t = 0; t < c->tokens; t++) {
        float mask = mask_of(l, c->first + t), nll = c->maxima[t] + logf(c->sums[t]) - c->sums[c->tokens + t];
        l->token_nll[c->first + t] = mask != 0 ? mask * nll : 0;
    }
}

/* logits become their gradients. */
static void differentiate(const nn_loss *l, const chunk *c)
{
#pragma omp parallel for schedule(static) if (nn_worth(4 * c->tokens * l->count))
    for (int64_t t = 0; t < c->tokens; t++) {
        float *z = c->logits + t * nn_loss_stride(l), mask = mask_of(l, c->first + t);
        float scale = (float)(l->scale * (double)mask), each = scale / c->sums[t];
        for (int64_t i = 0; i < l->count; i++)
            z[i] = mask != 0 ? each * nn_exp(z[i] - c->maxima[t]) : 0;
        int64_t target = l->targets[c->first + t] - l->first;
        if (mask != 0 && target >= 0 && target < l->count)
            z[target] -= scale;
    }
}

static int one_chunk(const nn_loss *l, const chunk *c)
{
    nn_array logits = {c->logits, RINGX_F32, nn_loss_stride(l)}, hidden = rows_of(&l->hidden, l->width, c->first);
    nn_array weight = rows_of(&l->weight, l->width, 0);
    nn_multiply(&(nn_product){.rows = c->tokens,
                              .columns = l->count,
                              .depth = l->width,
                              .a = hidden,
                              .b = weight,
                              .b_transposed = true,
                              .c = logits});
    find_maxima(l, c);
    int code = reduce(l, false, c->maxima, c->tokens);
    if (code)
        return code;
    find_sums(l, c);
    code = reduce(l, true, c->sums, 2 * c->tokens);
    if (code)
        return code;
    set_nll(l, c);
    if (!l->dhidden.data)
        return CODE_GOOD;
    differentiate(l, c);
    nn_multiply(&(nn_product){.rows = c->tokens,
                              .columns = l->width,
                              .depth = l->count,
                              .a = logits,
                              .b = weight,
                              .c = rows_of(&l->dhidden, l->width, c->first)});
    nn_multiply(&(nn_product){.rows = l->count,
                              .columns = l->width,
                              .depth = c->tokens,
                              .a = logits,
                              .a_transposed = true,
                              .b = hidden,
                              .c = {l->dweight, RINGX_F32, l->width},
                              .add = true});
    return CODE_GOOD;
}

int nn_cpu_loss(const nn_context *on, const nn_loss *l)
{
    (void)on;
    int64_t size = nn_loss_chunk(l);
    chunk c = {.logits = l->workspace};
    c.maxima = c.logits + size * nn_loss_stride(l);
    c.sums = c.maxima + size;
    *l->nll = 0;
    for (c.first = 0; c.first < l->tokens; c.first += size) {
        c.tokens = nn_least(size, l->tokens - c.first);
        int code = one_chunk(l, &c);
        if (code)
            return code;
    }
    for (int64_t t = 0; t < l->tokens; t++)
        *l->nll += (double)l->token_nll[t];
    return CODE_GOOD;
}
