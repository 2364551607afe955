/* SPDX-License-Identifier: MIT */
/* One layer of the model, forward and backward.
 *
 *     middle = x + o(attention(rope(q(n)), rope(k(n)), v(n))), n = norm(x)        [tokens][width]
 *     y = middle + down(silu(gate(n))·up(n)), n = norm(middle)
 *
 * All but the attention itself goes over the tokens in chunks.  q, k, v, gate, up have a part of their rows on each
 * rank of the tensor group, o and down of their columns: those two, and in backward the gradients of both n, are sums
 * over the group, kept in float until they are summed.  Backward computes norms again, and gate and up where they are
 * not kept. */
#include "gpt/model_parts.h"

kept_attention *kept_of(gpt_model *m, int64_t layer)
{
    return &m->kept[kept_layers(m) == 1 ? 0 : layer];
}

typedef struct piece { /* of the tokens */
    int64_t first, tokens;
} piece;

static piece piece_at(const gpt_model *m, int64_t first)
{
    int64_t rest = m->tokens - first;
    return (piece){first, rest < m->chunk ? rest : m->chunk};
}

/* y = x·wᵀ for a piece; the weight says the sizes. */
static int project(gpt_model *m, size_t weight, int64_t tokens, nn_array x, nn_array y)
{
    const gpt_parameter *p = &m->parameters[weight];
    nn_linear l = {.tokens = tokens, .in = p->local_columns, .out = p->local_rows, .x = x, .y = y};
    l.w = weight_of(m, weight);
    return m->on.ops->linear_forward(&m->on, &l);
}

typedef struct projection { /* backward of one */
    size_t weight;
    nn_array x, dy, dx;
    bool add; /* dx += */
} projection;

static int project_backward(gpt_model *m, int64_t tokens, const projection *b)
{
    const gpt_parameter *p = &m->parameters[b->weight];
    nn_linear l = {.tokens = tokens, .in = p->local_columns, .out = p->local_rows};
    l.x = b->x, l.w = weight_of(m, b->weight), l.dy = b->dy, l.dx = b->dx, l.add = b->add;
    l.dw = gradient_of(m, b->weight);
    TRY(m->on.ops->linear_backward_weight(&m->on, &l));
    return m->on.ops->linear_backward_input(&m->on, &l);
}

/* The norm of a piece of x, into normal; backward from partial into dx. */
static nn_norm norm_of(gpt_model *m, size_t weight, piece p, nn_array x)
{
    return (nn_norm){.tokens = p.tokens,
                     .width = m->config.width,
                     .eps = m->config.norm_eps,
                     .x = rows_from(x, p.first),
                     .weight = weight_of(m, weight),
                     .y = m->normal,
                     .dy = m->partial,
                     .dx = m->dx.data ? rows_from(m->dx, p.first) : m->dx,
                     .dweight = gradient_of(m, weight),
                     .add = true};
}

static int rotate(gpt_model *m, nn_array x, int64_t heads, bool inverse)
{
    nn_rope r = {
        .tokens = m->tokens, .heads = heads, .head_dim = m->config.head_dim, .pairs = m->config.rotary_dim / 2};
    r.period = m->local_tokens, r.x = x, r.table = m->rope, r.inverse = inverse;
    return m->tokens ? m->on.ops->rope(&m->on, &r) : CODE_GOOD;
}

static int rotate_both(gpt_model *m, nn_array q, nn_array k, bool inverse)
{
    TRY(rotate(m, q, m->q_width / m->config.head_dim, inverse));
    return rotate(m, k, m->kv_width / m->config.head_dim, inverse);
}

/* y = x + output(act), for a piece: act, x and y begin at it. */
static int residual(gpt_model *m, size_t output, int64_t tokens, const nn_array from_to[3])
{
    TRY(project(m, output, tokens, from_to[0], m->partial));
    TRY(sum_partial(m, tokens));
    nn_sum s = {tokens, m->config.width, from_to[1], m->partial, from_to[2]};
    return m->on.ops->add(&m->on, &s);
}

static int attend(gpt_model *m, int64_t layer, const kept_attention *k)
{
    if (m->cache)
        TRY(cache_fill(m, layer, k));
    if (m->decoding)
        return cache_attend(m, layer, k);
    return model_attend(m, layer, k, false);
}

int layer_attention(gpt_model *m, int64_t layer, bool again)
{
    const kept_attention *k = kept_of(m, layer);
    nn_array x = m->inputs[layer];
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        piece p = piece_at(m, t);
        nn_norm n = norm_of(m, parameter_of(layer, INPUT_NORM), p, x);
        TRY(m->on.ops->rms_norm_forward(&m->on, &n));
        TRY(project(m, parameter_of(layer, Q_PROJ), p.tokens, m->normal, rows_from(k->q, t)));
        TRY(project(m, parameter_of(layer, K_PROJ), p.tokens, m->normal, rows_from(k->k, t)));
        TRY(project(m, parameter_of(layer, V_PROJ), p.tokens, m->normal, rows_from(k->v, t)));
    }
    TRY(rotate_both(m, k->q, k->k, false));
    if (!again || !m->run.keep_attention)
        TRY(attend(m, layer, k));
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        nn_array from_to[3] = {rows_from(k->out, t), rows_from(x, t), rows_from(k->middle, t)};
        TRY(residual(m, parameter_of(layer, O_PROJ), piece_at(m, t).tokens, from_to));
    }
    return CODE_GOOD;
}

/* Where gate and up of a piece are: kept ones in their place among all tokens. */
static kept_mlp mlp_of(const gpt_model *m, int64_t layer, piece p)
{
    const kept_mlp *k = &m->mlps[layer];
    return k->gate.data ? (kept_mlp){rows_from(k->gate, p.first), rows_from(k->up, p.first)}
                        : (kept_mlp){m->gate, m->up};
}

/* gate, up and their product of a piece; again: for backward. */
static int mlp_inner(gpt_model *m, int64_t layer, piece p, bool again)
{
    const kept_mlp k = mlp_of(m, layer, p);
    nn_norm n = norm_of(m, parameter_of(layer, POST_NORM), p, kept_of(m, layer)->middle);
    TRY(m->on.ops->rms_norm_forward(&m->on, &n));
    if (!again || !m->mlps[layer].gate.data) {
        TRY(project(m, parameter_of(layer, GATE_PROJ), p.tokens, m->normal, k.gate));
        TRY(project(m, parameter_of(layer, UP_PROJ), p.tokens, m->normal, k.up));
    }
    nn_gate g = {.tokens = p.tokens, .width = m->inner, .gate = k.gate, .up = k.up, .y = m->act};
    return m->on.ops->silu_gate_forward(&m->on, &g);
}

int layer_mlp(gpt_model *m, int64_t layer)
{
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        piece p = piece_at(m, t);
        TRY(mlp_inner(m, layer, p, false));
        nn_array from_to[3] = {m->act, rows_from(kept_of(m, layer)->middle, t), rows_from(m->inputs[layer + 1], t)};
        TRY(residual(m, parameter_of(layer, DOWN_PROJ), p.tokens, from_to));
    }
    return CODE_GOOD;
}

/* dx of y becomes dx of middle. */
static int mlp_backward(gpt_model *m, int64_t layer, piece p)
{
    const kept_mlp k = mlp_of(m, layer, p);
    TRY(mlp_inner(m, layer, p, true));
    projection down = {parameter_of(layer, DOWN_PROJ), m->act, rows_from(m->dx, p.first), m->act, false};
    TRY(project_backward(m, p.tokens, &down));
    nn_gate g = {p.tokens, m->inner, k.gate, k.up, m->act, m->act, k.gate, k.up}; /* gradients in their places */
    TRY(m->on.ops->silu_gate_backward(&m->on, &g));
    projection gate = {parameter_of(layer, GATE_PROJ), m->normal, k.gate, m->partial, false};
    projection up = {parameter_of(layer, UP_PROJ), m->normal, k.up, m->partial, true};
    TRY(project_backward(m, p.tokens, &gate));
    TRY(project_backward(m, p.tokens, &up));
    TRY(sum_partial(m, p.tokens));
    nn_norm n = norm_of(m, parameter_of(layer, POST_NORM), p, kept_of(m, layer)->middle);
    return m->on.ops->rms_norm_backward(&m->on, &n);
}

/* dx of middle becomes dx of x, once dq, dk, dv are there. */
static int inputs_backward(gpt_model *m, int64_t layer, piece p)
{
    nn_norm n = norm_of(m, parameter_of(layer, INPUT_NORM), p, m->inputs[layer]);
    TRY(m->on.ops->rms_norm_forward(&m->on, &n));
    const nn_array gradients[] = {m->dq, m->dk, m->dv};
    for (int i = 0; i < 3; i++) {
        projection b = {parameter_of(layer, (enum layer_weight)(Q_PROJ + i)), m->normal,
                        rows_from(gradients[i], p.first), m->partial, i > 0};
        TRY(project_backward(m, p.tokens, &b));
    }
    TRY(sum_partial(m, p.tokens));
    return m->on.ops->rms_norm_backward(&m->on, &n);
}

int layer_backward(gpt_model *m, int64_t layer)
{
    const kept_attention *k = kept_of(m, layer);
    if (m->run.recompute)
        TRY(layer_attention(m, layer, true));
    for (int64_t t = 0; t < m->tokens; t += m->chunk)
        TRY(mlp_backward(m, layer, piece_at(m, t)));
    for (int64_t t = 0; t < m->tokens; t += m->chunk) {
        projection o = {parameter_of(layer, O_PROJ), rows_from(k->out, t), rows_from(m->dx, t), rows_from(m->dout, t),
                        false};
        TRY(project_backward(m, piece_at(m, t).tokens, &o));
    }
    TRY(model_attend(m, layer, k, true));
    TRY(rotate_both(m, m->dq, m->dk, true));
    for (int64_t t = 0; t < m->tokens; t += m->chunk)
        TRY(inputs_backward(m, layer, piece_at(m, t)));
    return CODE_GOOD;
}
