/* SPDX-License-Identifier: MIT */
/* Steps of one rank alone: row operations, and which step is what. */
#include "api/steps.h"

ringx_status ringx__step_clear(const ringx_execution *e, const ringx_operand *o, void *stream)
{
    return e->plan->rowops->fill((size_t)o->bytes / sizeof(float), 0, (float *)(void *)address(e, o),
                                 e->plan->choice.threads, stream);
}

ringx_status ringx__step_store(const ringx_execution *e, const ringx_operand *from, const ringx_operand *to,
                               int threads, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    const ringx_rowops *ops = plan->rowops;
    int64_t tokens = tokens_of(plan, from);
    if (from->kind == RINGX_OUT) {
        RINGX_TRY(ops->copy(shape, tokens, from->heads, shape->value_dim, ringx__view_of(e, from, 0), shape->dtype,
                            ringx__view_of(e, to, 0), shape->dtype, threads, stream));
        return ops->copy_rows(shape, tokens, from->heads, ringx__lse_of(e, from), ringx__lse_of(e, to), threads,
                              stream);
    }
    RINGX_TRY(ops->copy(shape, tokens, from->heads, shape->head_dim, ringx__view_of(e, from, 0), RINGX_F32,
                        ringx__view_of(e, to, 0), shape->dtype, threads, stream));
    if (from->kind == RINGX_DQ)
        return RINGX_OK;
    return ops->copy(shape, tokens, from->heads, shape->value_dim, ringx__view_of(e, from, 1), RINGX_F32,
                     ringx__view_of(e, to, 1), shape->dtype, threads, stream);
}

ringx_status ringx__step_store_sum(const ringx_execution *e, const ringx_operand *a, int count, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    const ringx_operand *to = a + count;
    ringx_view from[RINGX_MOST_SUMMED];
    for (int part = 0; part < (to->kind == RINGX_DQ ? 1 : 2); part++) {
        for (int i = 0; i < count; i++)
            from[i] = ringx__view_of(e, a + i, part);
        RINGX_TRY(plan->rowops->copy_sum(shape, tokens_of(plan, to), to->heads,
                                         part ? shape->value_dim : shape->head_dim, from, count,
                                         ringx__view_of(e, to, part), shape->dtype, stream));
    }
    return RINGX_OK;
}

static ringx_status finish(const ringx_execution *e, const ringx_operand *states, int count, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_operand *out = states + count;
    ringx_state state[RINGX_MOST_STATES];
    for (int i = 0; i < count; i++)
        state[i] = (ringx_state){.acc = ringx__view_of(e, states + i, 0),
                                 .l = ringx__block_rows(e, states + i, 1),
                                 .m = ringx__block_rows(e, states + i, 2)};
    return plan->rowops->finish(&plan->shape, tokens_of(plan, out), out->heads, state, count, ringx__view_of(e, out, 0),
                                ringx__lse_of(e, out), plan->choice.threads, stream);
}

ringx_status ringx__step_pack(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_step *step = &e->program->schedule.steps[number];
    const ringx_shape *shape = &plan->shape;
    const ringx_rowops *ops = plan->rowops;
    const ringx_operand *from = &e->program->schedule.operands[step->operand], *to = from + step->operands - 1;
    int64_t tokens = tokens_of(plan, to);
    if (ringx__step_sent_directly(e, number))
        return RINGX_OK;
    for (int part = 0; part < views_in(to->kind); part++) {
        int64_t dim = part ? shape->value_dim : shape->head_dim;
        RINGX_TRY(ops->copy(shape, tokens, to->heads, dim, ringx__view_of(e, from, part), shape->dtype,
                            ringx__view_of(e, to, part), shape->dtype, 1, stream));
    }
    if (to->kind != RINGX_QDO)
        return RINGX_OK;
    RINGX_TRY(ops->copy_rows(shape, tokens, to->heads, ringx__lse_of(e, from), ringx__block_rows(e, to, 2), 1, stream));
    return ops->copy_rows(shape, tokens, to->heads, ringx__delta_rows(e, from + 1, to->head),
                          ringx__block_rows(e, to, 3), 1, stream);
}

ringx_status ringx__step_compute(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    const ringx_rowops *ops = plan->rowops;
    const ringx_step *step = &e->program->schedule.steps[number];
    const ringx_operand *a = &e->program->schedule.operands[step->operand], *b = a + 1;
    int threads = plan->choice.threads;
    switch (step->op) {
    case RINGX_ATTEND:
    case RINGX_GRAD:
        return ringx__step_tiles(e, number, stream);
    case RINGX_FINISH:
        return finish(e, a, (int)step->operands - 1, stream);
    case RINGX_RESCALE:
        return ops->rescale(shape, tokens_of(plan, b), b->heads, ringx__view_of(e, b, 0), ringx__block_rows(e, b, 2),
                            ringx__block_rows(e, b, 1), ringx__block_rows(e, a, 0), threads, stream);
    case RINGX_DELTA_:
        return ops->delta(shape, plan->local_tokens, a->heads, ringx__view_of(e, a, 0), ringx__view_of(e, b, 1),
                          ringx__block_rows(e, b + 1, 0), threads, stream);
    case RINGX_CLEAR:
        return ringx__step_clear(e, a, stream);
    case RINGX_ADD:
        return ops->add((size_t)a->bytes / sizeof(float), (float *)(void *)address(e, a),
                        (float *)(void *)address(e, b), threads, stream);
    case RINGX_STORE:
        return ringx__step_store(e, a, b, threads, stream);
    default:
        RINGX_FAIL(RINGX_INTERNAL, "%s is no computation", ringx__op_name((ringx_op)step->op));
    }
}
