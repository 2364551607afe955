/* SPDX-License-Identifier: MIT */
/* Transfers as calls of the transport, from packed blocks or the caller's tensors. */
#include "api/steps.h"
#include "comm/peer.h"

/* A head's elements are neighbours; the heads of a token must be too. */
bool ringx__step_sent_directly(const ringx_execution *e, uint32_t packing)
{
    const ringx_plan *plan = e->plan;
    const ringx_program *p = e->program;
    const ringx_operand *from = &p->schedule.operands[p->schedule.steps[packing].operand];
    if (!p->sent_only[packing] || !plan->peer || !ringx__peer_carries(plan->data, p->sent_only[packing] > 1))
        return false;
    for (int part = 0; part < views_in(from->kind); part++) {
        int64_t dim = part ? plan->shape.value_dim : plan->shape.head_dim;
        ringx_view view = ringx__view_of(e, from, part);
        int64_t pitch = view.token_stride * (int64_t)ringx__dtype_bytes(plan->shape.dtype);
        bool apart = view.token_stride >= from->heads * dim || tokens_of(plan, from) == 1;
        if ((view.head_stride != dim && from->heads > 1) || !apart || pitch > INT32_MAX)
            return false;
    }
    return true;
}

static ringx_dtype wire_type(const ringx_plan *plan, const ringx_operand *o)
{
    return o->narrow ? plan->choice.wire : RINGX_F32;
}

/* Floats [batch][head][token] as pieces of a block from `offset` on; returns how many. */
static size_t row_pieces(const ringx_rows *rows, int64_t batch, int64_t heads, int64_t tokens, size_t offset,
                         ringx_piece *piece)
{
    size_t width = (size_t)tokens * sizeof(float);
    for (int64_t b = 0; b < batch; b++)
        piece[b] = (ringx_piece){.data = rows->data + b * rows->batch_stride,
                                 .offset = offset + (size_t)(b * heads) * width,
                                 .width = width,
                                 .pitch = (size_t)rows->head_stride * sizeof(float),
                                 .rows = (size_t)heads};
    return (size_t)batch;
}

/* What a transfer sends of a block that was not packed; NULL: nothing. */
static const ringx_scattered *scatter(const ringx_execution *e, uint32_t number, ringx_scattered *scattered)
{
    const ringx_program *p = e->program;
    if (!p->sends[number] || !e->plan->args->q.data || !ringx__step_sent_directly(e, p->sends[number] - 1))
        return NULL;
    const ringx_step *packing = &p->schedule.steps[p->sends[number] - 1];
    const ringx_operand *from = &p->schedule.operands[packing->operand], *to = from + packing->operands - 1;
    const ringx_shape *shape = &e->plan->shape;
    size_t at[4], el = ringx__dtype_bytes(shape->dtype), n = 0, tokens = (size_t)tokens_of(e->plan, to);
    ringx__block_parts(shape, (ringx_kind)to->kind, (int64_t)tokens, to->heads, at);
    for (int part = 0; part < views_in(to->kind); part++) {
        ringx_view view = ringx__view_of(e, from, part);
        size_t width = (size_t)(to->heads * (part ? shape->value_dim : shape->head_dim)) * el;
        size_t pitch = (size_t)view.token_stride * el;
        bool one = view.batch_stride == (int64_t)tokens * view.token_stride && pitch >= width; /* all batches' rows */
        for (int64_t b = 0; b < (one ? 1 : shape->batch); b++)
            p->piece[n++] = (ringx_piece){.data = (char *)view.data + b * view.batch_stride * (int64_t)el,
                                          .offset = at[part] + (size_t)b * tokens * width,
                                          .width = width,
                                          .pitch = pitch,
                                          .rows = one ? tokens * (size_t)shape->batch : tokens};
    }
    if (to->kind == RINGX_QDO) {
        ringx_rows lse = ringx__lse_of(e, from), delta = ringx__delta_rows(e, from + 1, to->head);
        n += row_pieces(&lse, shape->batch, to->heads, (int64_t)tokens, at[2], p->piece + n);
        n += row_pieces(&delta, shape->batch, to->heads, (int64_t)tokens, at[3], p->piece + n);
    }
    *scattered = (ringx_scattered){.block = address(e, to), .piece = p->piece, .pieces = n};
    return scattered;
}

static ringx_status gather(const ringx_execution *e, const ringx_step *step, const ringx_call *call)
{
    const ringx_operand *own = &e->program->schedule.operands[step->operand], *to = own + 1;
    ringx_comm *comm = e->plan->data;
    char *base = address(e, to);
    for (uint32_t i = 0; i + 1 < step->operands; i++) {
        e->program->bytes[i] = (size_t)to[i].bytes;
        e->program->offsets[i] = (size_t)(to[i].offset - to->offset);
    }
    return comm->ops->allgather(comm, step->group < 0 ? NULL : e->plan->groups[step->group], address(e, own), base,
                                e->program->bytes, e->program->offsets, call);
}

static ringx_status reduce_scatter(const ringx_execution *e, const ringx_step *step, const ringx_call *call)
{
    const ringx_operand *from = &e->program->schedule.operands[step->operand], *to = from + step->operands - 1;
    ringx_comm *comm = e->plan->data;
    ringx_dtype type = wire_type(e->plan, from);
    size_t element = ringx__dtype_bytes(type);
    for (uint32_t i = 0; i + 1 < step->operands; i++) {
        e->program->bytes[i] = (size_t)from[i].bytes / element;
        e->program->offsets[i] = (size_t)(from[i].offset - from->offset) / element;
    }
    return comm->ops->reduce_scatter(comm, step->group < 0 ? NULL : e->plan->groups[step->group], address(e, from),
                                     address(e, to), e->program->bytes, e->program->offsets, type, call);
}

static ringx_status exchange(const ringx_execution *e, const ringx_step *step, const ringx_call *call)
{
    const ringx_operand *o = &e->program->schedule.operands[step->operand];
    ringx_comm *comm = e->plan->data;
    size_t sends = 0, receives = 0;
    for (int mode = RINGX_IN; mode <= RINGX_OUT_; mode++)
        for (uint32_t i = 0; i < step->operands; i++)
            if (o[i].mode == mode) {
                e->program->message[sends + receives] =
                    (ringx_message){.peer = o[i].peer, .data = address(e, &o[i]), .bytes = (size_t)o[i].bytes};
                (*(mode == RINGX_IN ? &sends : &receives))++;
            }
    return comm->ops->exchange(comm, e->program->message, sends, e->program->message + sends, receives, call);
}

static size_t elements(const ringx_execution *e, const ringx_operand *o)
{
    return ringx__block_elements(&e->plan->shape, (ringx_kind)o->kind, tokens_of(e->plan, o), o->heads);
}

ringx_status ringx__step_transfer(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_schedule *s = &e->program->schedule;
    const ringx_step *step = &s->steps[number];
    const ringx_operand *a = &s->operands[step->operand];
    ringx_comm *comm = plan->data;
    if (step->op == RINGX_PACK)
        return ringx__step_pack(e, number, stream);
    if (step->op == RINGX_WIPE)
        return ringx__step_clear(e, a, stream);
    if (step->op == RINGX_UNPACK)
        return step->operands > 2 ? ringx__step_store_sum(e, a, (int)step->operands - 1, stream)
                                  : ringx__step_store(e, a, a + 1, 1, stream);
    if (step->op == RINGX_CONVERT)
        return plan->rowops->convert(elements(e, a), address(e, a), wire_type(plan, a), address(e, a + 1),
                                     wire_type(plan, a + 1), 1, stream);
    char what[160];
    ringx__step_describe(s, number, what, sizeof what);
    ringx_scattered scattered;
    ringx_call call = {
        .what = what, .deadline_s = plan->deadline_s, .stream = stream, .scattered = scatter(e, number, &scattered)};
    switch (step->op) {
    case RINGX_BROADCAST:
        return comm->ops->broadcast(comm, NULL, address(e, a), address(e, a), (size_t)a->bytes, step->root, &call);
    case RINGX_EXCHANGE:
        return exchange(e, step, &call);
    case RINGX_ALLGATHER:
        return gather(e, step, &call);
    case RINGX_REDUCE:
        return comm->ops->reduce(comm, NULL, address(e, a), address(e, a), elements(e, a), wire_type(plan, a),
                                 step->root, &call);
    case RINGX_REDUCE_SCATTER:
        return reduce_scatter(e, step, &call);
    case RINGX_ALLREDUCE_MAX: {
        size_t count = (size_t)(plan->shape.batch * tokens_of(plan, a) * a->heads);
        return comm->ops->allreduce_max(comm, NULL, ringx__block_rows(e, a, 2).data,
                                        ringx__block_rows(e, a + 1, 0).data, count, &call);
    }
    default:
        RINGX_FAIL(RINGX_INTERNAL, "%s is no transfer", ringx__op_name((ringx_op)step->op));
    }
}
