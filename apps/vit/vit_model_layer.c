/* SPDX-License-Identifier: MIT */
/* One block of the model, forward and backward.
 *
 *     middle = x + path(drop(proj(attention(q(n), k(n), v(n))))), n = norm1(x)        [tokens][embed]
 *     y = middle + path(drop(fc2(drop(gelu(fc1(n)))))), n = norm2(middle)
 *
 * x, middle, y and their gradients are float, whatever the model's dtype.  All but the attention itself goes over the
 * tokens in chunks.  q, k, v, fc1 have a part of their rows on each rank of the tensor group, proj and fc2 of their
 * columns: those two (their bias is added by the first rank), and in backward the gradients of both n, are sums over
 * the group, kept in float until they are summed.  Backward computes norms again, and fc1 where it is not kept. */
#include "vit/vit_model_parts.h"

static vit_kept *kept_of(vit_model *m, int64_t layer)
{
    return &m->kept[m->run.recompute || m->run.forward_only ? 0 : layer];
}

nn_linear vit_linear_of(vit_model *m, size_t weight, int64_t tokens)
{
    const vit_parameter *p = &m->parameters[weight];
    return (nn_linear){.tokens = tokens, .in = p->local_columns, .out = p->local_rows, .w = weight_of(m, weight)};
}

/* y = x·wᵀ + bias for a piece. */
static int project(vit_model *m, size_t weight, int64_t tokens, nn_array x, nn_array y)
{
    nn_linear l = vit_linear_of(m, weight, tokens);
    bool sums = l.in != m->parameters[weight].columns; /* over the tensor group */
    l.x = x, l.y = y;
    if (!sums || m->tensor_rank == 0)
        l.bias = weight_of(m, weight + 1);
    return m->on.ops->linear_forward(&m->on, &l);
}

typedef struct projection { /* backward of one */
    size_t weight;
    nn_array x, dy, dx;
    bool add; /* dx += */
} projection;

static int project_backward(vit_model *m, int64_t tokens, const projection *b)
{
    nn_linear l = vit_linear_of(m, b->weight, tokens);
    l.x = b->x, l.dy = b->dy, l.dx = b->dx, l.add = b->add;
    l.dw = gradient_of(m, b->weight), l.dbias = gradient_of(m, b->weight + 1);
    TRY(m->on.ops->linear_backward_weight(&m->on, &l));
    return m->on.ops->linear_backward_input(&m->on, &l);
}

nn_norm vit_norm_of(vit_model *m, size_t weight, vit_piece p, nn_array x)
{
    return (nn_norm){.tokens = p.tokens,
                     .width = m->shape.embed,
                     .eps = m->shape.norm_eps,
                     .x = rows_from(x, p.first),
                     .weight = weight_of(m, weight),
                     .bias = weight_of(m, weight + 1),
                     .y = m->normal,
                     .dy = m->partial,
                     .dx = m->dx.data ? rows_from(m->dx, p.first) : m->dx,
                     .dweight = gradient_of(m, weight),
                     .dbias = gradient_of(m, weight + 1),
                     .add = true};
}

int vit_stream_gradient(vit_model *m, vit_piece p, nn_array *dy)
{
    nn_map cast = {.tokens = p.tokens, .width = m->shape.embed, .x = rows_from(m->dx, p.first), .y = m->branch};
    *dy = cast.x;
    if (m->dtype == RINGX_F32)
        return CODE_GOOD;
    *dy = m->branch;
    return m->on.ops->cast(&m->on, &cast);
}

typedef struct residual { /* what a branch ends with */
    size_t weight;
    int64_t layer;
    drop_site drop, path;
    bool paths; /* some samples may go without it */
} residual;

static int residual_of(vit_model *m, int64_t layer, bool mlp, residual *r)
{
    *r = (residual){parameter_of(layer, mlp ? FC2_WEIGHT : PROJ_WEIGHT), layer, mlp ? DROP_FC2 : DROP_PROJ,
                    mlp ? DROP_PATH2 : DROP_PATH1, false};
    return vit_path_begin(m, layer, r->path, &r->paths);
}

/* y = x + path(drop(linear(act))) for a piece; act begins at it. */
static int add_residual(vit_model *m, const residual *r, vit_piece p, nn_array act, const nn_array x_y[2])
{
    TRY(project(m, r->weight, p.tokens, act, m->partial));
    TRY(vit_sum_partial(m, p.tokens));
    TRY(vit_drop(m, r->layer, r->drop, p, m->partial, m->partial));
    if (r->paths)
        TRY(vit_scale_path(m, p, m->partial));
    nn_sum s = {p.tokens, m->shape.embed, rows_from(x_y[0], p.first), m->partial, rows_from(x_y[1], p.first)};
    return m->on.ops->add(&m->on, &s);
}

/* Gradient of the linear layer's result, from dx. */
static int residual_gradient(vit_model *m, const residual *r, vit_piece p, nn_array *dy)
{
    if (!vit_drops(m))
        return vit_stream_gradient(m, p, dy);
    *dy = m->branch;
    TRY(vit_drop(m, r->layer, r->drop, p, rows_from(m->dx, p.first), m->branch));
    return r->paths ? vit_scale_path(m, p, m->branch) : CODE_GOOD;
}

int vit_block_attention(vit_model *m, int64_t layer)
{
    const vit_kept *k = kept_of(m, layer);
    const nn_array to[] = {k->q, k->k, k->v}, x_y[] = {m->inputs[layer], k->middle};
    residual r;
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        vit_piece p = piece_at(m, t);
        nn_norm n = vit_norm_of(m, parameter_of(layer, NORM1_WEIGHT), p, m->inputs[layer]);
        TRY(m->on.ops->layer_norm_forward(&m->on, &n));
        for (int i = 0; i < 3; i++)
            TRY(project(m, parameter_of(layer, Q_WEIGHT) + 2 * (size_t)i, p.tokens, m->normal, rows_from(to[i], t)));
    }
    TRY(vit_attend(m, layer, k, false));
    TRY(residual_of(m, layer, false, &r));
    for (int64_t t = 0; t < m->tokens; t += m->chunk)
        TRY(add_residual(m, &r, piece_at(m, t), rows_from(k->out, t), x_y));
    return CODE_GOOD;
}

/* Where fc1's result of a piece is: a kept one in its place among all tokens. */
static nn_array hidden_of(const vit_model *m, int64_t layer, vit_piece p)
{
    return m->hiddens[layer].data ? rows_from(m->hiddens[layer], p.first) : m->hidden;
}

/* hidden, and act = drop(gelu(hidden)), of a piece; again: for backward. */
static int mlp_inner(vit_model *m, int64_t layer, vit_piece p, bool again)
{
    const nn_array hidden = hidden_of(m, layer, p);
    nn_norm n = vit_norm_of(m, parameter_of(layer, NORM2_WEIGHT), p, kept_of(m, layer)->middle);
    TRY(m->on.ops->layer_norm_forward(&m->on, &n));
    if (!again || !m->hiddens[layer].data)
        TRY(project(m, parameter_of(layer, FC1_WEIGHT), p.tokens, m->normal, hidden));
    nn_map g = {.tokens = p.tokens, .width = m->inner, .x = hidden, .y = m->act};
    TRY(m->on.ops->gelu_forward(&m->on, &g));
    return vit_drop(m, layer, DROP_INNER, p, m->act, m->act);
}

int vit_block_mlp(vit_model *m, int64_t layer)
{
    const nn_array x_y[] = {kept_of(m, layer)->middle, m->inputs[layer + 1]};
    residual r;
    TRY(residual_of(m, layer, true, &r));
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        TRY(mlp_inner(m, layer, piece_at(m, t), false));
        TRY(add_residual(m, &r, piece_at(m, t), m->act, x_y));
    }
    return CODE_GOOD;
}

/* dx of y becomes dx of middle. */
static int mlp_backward(vit_model *m, const residual *r, vit_piece p)
{
    nn_array dy;
    TRY(mlp_inner(m, r->layer, p, true));
    TRY(residual_gradient(m, r, p, &dy));
    projection fc2 = {r->weight, m->act, dy, m->act, false};
    TRY(project_backward(m, p.tokens, &fc2));
    TRY(vit_drop(m, r->layer, DROP_INNER, p, m->act, m->act));
    nn_map g = {.tokens = p.tokens, .width = m->inner, .x = hidden_of(m, r->layer, p), .dy = m->act, .dx = m->act};
    TRY(m->on.ops->gelu_backward(&m->on, &g));
    projection fc1 = {parameter_of(r->layer, FC1_WEIGHT), m->normal, m->act, m->partial, false};
    TRY(project_backward(m, p.tokens, &fc1));
    TRY(vit_sum_partial(m, p.tokens));
    nn_norm n = vit_norm_of(m, parameter_of(r->layer, NORM2_WEIGHT), p, kept_of(m, r->layer)->middle);
    return m->on.ops->layer_norm_backward(&m->on, &n);
}

/* dx of middle becomes dx of x, once dq, dk, dv are there. */
static int inputs_backward(vit_model *m, int64_t layer, vit_piece p)
{
    nn_norm n = vit_norm_of(m, parameter_of(layer, NORM1_WEIGHT), p, m->inputs[layer]);
    TRY(m->on.ops->layer_norm_forward(&m->on, &n));
    const nn_array gradients[] = {m->dq, m->dk, m->dv};
    for (int i = 0; i < 3; i++) {
        projection b = {parameter_of(layer, Q_WEIGHT) + 2 * (size_t)i, m->normal, rows_from(gradients[i], p.first),
                        m->partial, i > 0};
        TRY(project_backward(m, p.tokens, &b));
    }
    TRY(vit_sum_partial(m, p.tokens));
    return m->on.ops->layer_norm_backward(&m->on, &n);
}

int vit_block_backward(vit_model *m, int64_t layer)
{
    const vit_kept *k = kept_of(m, layer);
    residual r;
    if (m->run.recompute)
        TRY(vit_block_attention(m, layer));
    TRY(residual_of(m, layer, true, &r));
    for (int64_t t = 0; t < m->tokens; t += m->chunk)
        TRY(mlp_backward(m, &r, piece_at(m, t)));
    TRY(residual_of(m, layer, false, &r));
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        projection proj = {r.weight, rows_from(k->out, t), m->dx, rows_from(m->dout, t), false};
        TRY(residual_gradient(m, &r, piece_at(m, t), &proj.dy));
        TRY(project_backward(m, piece_at(m, t).tokens, &proj));
    }
    TRY(vit_attend(m, layer, k, true));
    for (int64_t t = 0; t < m->tokens; t += m->chunk)
        TRY(inputs_backward(m, layer, piece_at(m, t)));
    return CODE_GOOD;
}
