/* SPDX-License-Identifier: MIT */
/* What is before and after the model's blocks: patch and position embedding, last norm, head.  The convolution is a
 * linear layer over patches. */
#include "shared/numbers.h"
#include "train/device_data.h"
#include "vit/vit_model_parts.h"

int vit_sum_partial(vit_model *m, int64_t tokens)
{
    if (!m->groups.tensor)
        return CODE_GOOD;
    return device_all_reduce(m->groups.tensor, m->on.ops->device, GROUP_SUM, m->partial.data,
                             (size_t)(tokens * m->shape.embed));
}

static int gather_patches(vit_model *m, const float *input)
{
    const vit_shape *s = &m->shape;
    size_t values = (size_t)(m->run.batch * s->channels_in * m->band.count * s->width);
    nn_patches p = {.batch = m->run.batch, .channels = s->channels_in, .height = m->band.count, .width = s->width};
    p.patch = s->patch, p.tokens = m->local_tokens, p.positions = m->band_positions;
    p.image = (nn_array){m->image, RINGX_F32, 0}, p.patches = m->patches;
    TRY(m->on.ops->wait(&m->on)); /* what reads the image of before */
    TRY(fail_status(ringx_memory_copy(m->on.ops->device, m->image, input, values * sizeof *input), "fields"));
    return m->tokens ? m->on.ops->patches_gather(&m->on, &p) : CODE_GOOD;
}

static nn_embedding positions_of(vit_model *m, vit_piece p)
{
    nn_embedding e = {.tokens = p.tokens, .width = m->shape.embed, .count = m->image_tokens};
    e.ids = m->token_ids + p.first;
    return e;
}

int vit_embed(vit_model *m, const float *input)
{
    TRY(gather_patches(m, input));
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        vit_piece p = piece_at(m, t);
        nn_array x = rows_from(m->inputs[0], t);
        nn_embedding e = positions_of(m, p);
        e.table = weight_of(m, POSITIONS), e.y = x;
        TRY(m->on.ops->embedding_forward(&m->on, &e));
        nn_linear l = vit_linear_of(m, PATCH_WEIGHT, p.tokens);
        l.x = rows_from(m->patches, t), l.bias = weight_of(m, PATCH_BIAS), l.y = x, l.add = true;
        TRY(m->on.ops->linear_forward(&m->on, &l));
        TRY(vit_drop(m, -1, DROP_PROJ, p, x, x));
    }
    return CODE_GOOD;
}

int vit_embed_backward(vit_model *m)
{
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        vit_piece p = piece_at(m, t);
        nn_array dx = rows_from(m->dx, t);
        TRY(vit_drop(m, -1, DROP_PROJ, p, dx, dx));
        nn_embedding e = positions_of(m, p);
        e.dy = dx, e.dtable = gradient_of(m, POSITIONS);
        TRY(m->on.ops->embedding_backward(&m->on, &e));
        nn_linear l = vit_linear_of(m, PATCH_WEIGHT, p.tokens);
        l.x = rows_from(m->patches, t), l.dw = gradient_of(m, PATCH_WEIGHT), l.dbias = gradient_of(m, PATCH_BIAS);
        TRY(vit_stream_gradient(m, p, &l.dy));
        TRY(m->on.ops->linear_backward_weight(&m->on, &l));
    }
    return CODE_GOOD;
}

int vit_head(vit_model *m)
{
    size_t bytes = (size_t)(m->tokens * m->pixels_out) * sizeof *m->host_prediction;
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        vit_piece p = piece_at(m, t);
        nn_norm n = vit_norm_of(m, last_norm(m), p, m->inputs[m->shape.depth]);
        TRY(m->on.ops->layer_norm_forward(&m->on, &n));
        nn_linear l = vit_linear_of(m, head_of(m), p.tokens);
        l.x = m->normal, l.y = rows_from(m->prediction, t);
        TRY(m->on.ops->linear_forward(&m->on, &l));
    }
    TRY(vit_plan_wait(m));
    return fail_status(ringx_memory_copy(m->on.ops->device, m->host_prediction, m->prediction.data, bytes),
                       "the prediction");
}

/* The prediction's gradient of a piece in the model's dtype. */
static int pixel_gradient(vit_model *m, vit_piece p, nn_array *dy)
{
    nn_map cast = {.tokens = p.tokens, .width = m->pixels_out, .x = rows_from(m->prediction, p.first), .y = m->pixels};
    *dy = m->dtype == RINGX_F32 ? cast.x : m->pixels;
    return m->dtype == RINGX_F32 ? CODE_GOOD : m->on.ops->cast(&m->on, &cast);
}

int vit_head_backward(vit_model *m)
{
    size_t bytes = (size_t)(m->tokens * m->pixels_out) * sizeof *m->host_gradient;
    TRY(fail_status(ringx_memory_copy(m->on.ops->device, m->prediction.data, m->host_gradient, bytes),
                    "the prediction's gradient"));
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        vit_piece p = piece_at(m, t);
        nn_norm n = vit_norm_of(m, last_norm(m), p, m->inputs[m->shape.depth]);
        n.add = false;
        TRY(m->on.ops->layer_norm_forward(&m->on, &n));
        nn_linear l = vit_linear_of(m, head_of(m), p.tokens);
        l.x = m->normal, l.dx = m->partial, l.dw = gradient_of(m, head_of(m));
        TRY(pixel_gradient(m, p, &l.dy));
        TRY(m->on.ops->linear_backward_weight(&m->on, &l));
        TRY(m->on.ops->linear_backward_input(&m->on, &l));
        TRY(m->on.ops->layer_norm_backward(&m->on, &n));
    }
    return CODE_GOOD;
}
