/* SPDX-License-Identifier: MIT */
/* Blocks as views of memory: of the caller's tensors, or of a workspace. */
#include "api/steps.h"

static bool is_kv(uint8_t kind)
{
    return kind == RINGX_KV || kind == RINGX_DKV;
}

static ringx_view user_view(const ringx_plan *plan, const ringx_tensor *t, int64_t heads, int64_t dim, int64_t head,
                            size_t element)
{
    bool packed = t->stride[0] == 0 && t->stride[1] == 0 && t->stride[2] == 0;
    ringx_view view = {.batch_stride = packed ? plan->local_tokens * heads * dim : t->stride[0],
                       .token_stride = packed ? heads * dim : t->stride[1],
                       .head_stride = packed ? dim : t->stride[2]};
    view.data = t->data ? (char *)t->data + head * view.head_stride * (int64_t)element : NULL;
    return view;
}

/* Part `part` of a block as a view of [batch][token][head][dim]. */
static ringx_view block_view(const ringx_execution *e, const ringx_operand *o, int part, int64_t dim)
{
    const ringx_shape *shape = &e->plan->shape;
    int64_t tokens = tokens_of(e->plan, o);
    size_t at[4];
    ringx__block_parts(shape, (ringx_kind)o->kind, tokens, o->heads, at);
    return (ringx_view){.data = address(e, o) + at[part],
                        .batch_stride = tokens * o->heads * dim,
                        .token_stride = o->heads * dim,
                        .head_stride = dim};
}

ringx_rows ringx__block_rows(const ringx_execution *e, const ringx_operand *o, int part)
{
    int64_t tokens = tokens_of(e->plan, o);
    size_t at[4];
    ringx__block_parts(&e->plan->shape, (ringx_kind)o->kind, tokens, o->heads, at);
    return (ringx_rows){
        .data = (float *)(void *)(address(e, o) + at[part]), .batch_stride = tokens * o->heads, .head_stride = tokens};
}

static ringx_rows user_lse(const ringx_plan *plan, int64_t head)
{
    ringx_rows rows = {.batch_stride = plan->local_tokens * plan->shape.q_heads, .head_stride = plan->local_tokens};
    rows.data = plan->args->lse ? plan->args->lse + head * plan->local_tokens : NULL;
    return rows;
}

ringx_rows ringx__delta_rows(const ringx_execution *e, const ringx_operand *delta, int64_t head)
{
    ringx_rows rows = ringx__block_rows(e, delta, 0);
    rows.data += head * rows.head_stride;
    return rows;
}

ringx_view ringx__view_of(const ringx_execution *e, const ringx_operand *o, int part)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    const ringx_args *a = plan->args;
    bool value = (part == 1 && o->kind != RINGX_STATE) || o->kind == RINGX_OUT || o->kind == RINGX_STATE;
    int64_t dim = value ? shape->value_dim : shape->head_dim;
    if (o->buffer != RINGX_USER)
        return block_view(e, o, part, dim);
    const ringx_tensor *tensor = NULL;
    switch (o->kind) {
    case RINGX_Q:
        tensor = &a->q;
        break;
    case RINGX_QDO:
        tensor = part ? &a->dout : &a->q;
        break;
    case RINGX_KV:
        tensor = part ? &a->v : &a->k;
        break;
    case RINGX_OUT:
        tensor = &a->out;
        break;
    case RINGX_DQ:
        tensor = &a->dq;
        break;
    default:
        tensor = part ? &a->dv : &a->dk;
    }
    int64_t heads = is_kv(o->kind) ? shape->kv_heads : shape->q_heads;
    return user_view(plan, tensor, heads, dim, o->head, ringx__dtype_bytes(shape->dtype));
}

ringx_rows ringx__lse_of(const ringx_execution *e, const ringx_operand *o)
{
    if (o->buffer == RINGX_USER)
        return user_lse(e->plan, o->head);
    return ringx__block_rows(e, o, o->kind == RINGX_OUT ? 1 : 2);
}
