/* SPDX-License-Identifier: MIT */
/* Dropout and stochastic depth.  What is dropped is a function of the step's seed, the place in the model, and sample,
 * token and column of the whole: no layout of ranks changes it. */
#include "shared/numbers.h"
#include "vit/vit_model_parts.h"

uint64_t vit_drop_seed(const vit_model *m, int64_t layer, drop_site site)
{
    return random_word(m->seed, (uint64_t)((layer + 1) * DROP_SITES + site));
}

bool vit_drops(const vit_model *m)
{
    return m->training && m->shape.dropout > 0;
}

int vit_drop(vit_model *m, int64_t layer, drop_site site, vit_piece p, nn_array x, nn_array y)
{
    bool inner = site == DROP_INNER;
    nn_dropout d = {.tokens = p.tokens, .width = inner ? m->inner : m->shape.embed, .x = x, .y = y};
    if (!vit_drops(m) || p.tokens == 0)
        return CODE_GOOD;
    d.p = m->shape.dropout, d.seed = vit_drop_seed(m, layer, site), d.rows = m->rows + p.first;
    d.row_width = inner ? 4 * m->shape.embed : m->shape.embed;
    d.first_column = inner ? m->tensor_rank * m->inner : 0;
    return m->on.ops->dropout(&m->on, &d);
}

/* The rate rises linearly from 0 in the first block to the model's in the last. */
int vit_path_begin(vit_model *m, int64_t layer, drop_site site, bool *drops)
{
    int64_t last = m->shape.depth - 1;
    double rate = last > 0 ? m->shape.dropout * (double)layer / (double)last : 0;
    *drops = vit_drops(m) && rate > 0;
    if (!*drops)
        return CODE_GOOD;
    for (int64_t t = 0; t < m->tokens; t++) {
        int64_t sample = m->run.first_sample + t / m->local_tokens * m->run.sample_stride;
        double uniform = (double)(random_word(vit_drop_seed(m, layer, site), (uint64_t)sample) >> 11) * 0x1p-53;
        m->path_factors[t] = uniform < rate ? 0 : (float)(1 / (1 - rate));
    }
    TRY(m->on.ops->wait(&m->on)); /* what uses the factors of before */
    return fail_status(
        ringx_memory_copy(m->on.ops->device, m->factors, m->path_factors, (size_t)m->tokens * sizeof *m->factors),
        "factors of paths");
}

int vit_scale_path(vit_model *m, vit_piece p, nn_array x)
{
    nn_scale s = {.tokens = p.tokens, .width = m->shape.embed, .x = x, .y = x, .factors = m->factors + p.first};
    return m->on.ops->scale(&m->on, &s);
}
