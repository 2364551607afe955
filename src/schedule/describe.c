/* SPDX-License-Identifier: MIT */
/* Names, descriptions and figures of steps. */
#include <stdio.h>

#include "schedule/schedule.h"

static const struct {
    const char *name;
    int lane;
} ops[RINGX_OPS] = {
    [RINGX_PACK] = {"pack", RINGX_COMM_LANE},
    [RINGX_BROADCAST] = {"broadcast", RINGX_COMM_LANE},
    [RINGX_EXCHANGE] = {"exchange", RINGX_COMM_LANE},
    [RINGX_ALLGATHER] = {"allgather", RINGX_COMM_LANE},
    [RINGX_REDUCE] = {"reduce", RINGX_COMM_LANE},
    [RINGX_REDUCE_SCATTER] = {"reduce-scatter", RINGX_COMM_LANE},
    [RINGX_ALLREDUCE_MAX] = {"allreduce-max", RINGX_COMM_LANE},
    [RINGX_UNPACK] = {"unpack", RINGX_COMM_LANE},
    [RINGX_CONVERT] = {"convert", RINGX_COMM_LANE},
    [RINGX_WIPE] = {"wipe", RINGX_COMM_LANE},
    [RINGX_ATTEND] = {"attend", RINGX_COMPUTE_LANE},
    [RINGX_FINISH] = {"finish", RINGX_COMPUTE_LANE},
    [RINGX_RESCALE] = {"rescale", RINGX_COMPUTE_LANE},
    [RINGX_DELTA_] = {"delta", RINGX_COMPUTE_LANE},
    [RINGX_CLEAR] = {"clear", RINGX_COMPUTE_LANE},
    [RINGX_GRAD] = {"grad", RINGX_COMPUTE_LANE},
    [RINGX_ADD] = {"add", RINGX_COMPUTE_LANE},
    [RINGX_STORE] = {"store", RINGX_COMPUTE_LANE},
};

static const char *const kinds[RINGX_KINDS] = {
    [RINGX_Q] = "Q",     [RINGX_KV] = "K,V",      [RINGX_QDO] = "Q,dO", [RINGX_STATE] = "state", [RINGX_TOP] = "maxima",
    [RINGX_OUT] = "out", [RINGX_DELTA] = "delta", [RINGX_DQ] = "dQ",    [RINGX_DKV] = "dK,dV",
};

bool ringx__lane_of(ringx_op op, int *lane)
{
    if ((unsigned)op >= RINGX_OPS)
        return false;
    *lane = ops[op].lane;
    return true;
}

const char *ringx__op_name(ringx_op op)
{
    return (unsigned)op < RINGX_OPS ? ops[op].name : "unknown op";
}

const char *ringx__kind_name(ringx_kind kind)
{
    return (unsigned)kind < RINGX_KINDS ? kinds[kind] : "unknown kind";
}

void ringx__step_describe(const ringx_schedule *s, size_t i, char *text, size_t bytes)
{
    const ringx_step *step = &s->steps[i];
    const ringx_operand *o = step->operands ? &s->operands[step->operand] : NULL;
    const ringx_operand *last = step->operands ? &s->operands[step->operand + step->operands - 1] : NULL;
    int n = snprintf(text, bytes, "%s step %zu: %s", s->backward ? "backward" : "forward", i,
                     ringx__op_name((ringx_op)step->op));
    if (o && n >= 0 && (size_t)n < bytes) {
        const char *kind = ringx__kind_name((ringx_kind)o->kind);
        if (step->op == RINGX_EXCHANGE && o->peer == last->peer)
            n += snprintf(text + n, bytes - (size_t)n, " of %s with rank %d", kind, o->peer);
        else if (step->op == RINGX_EXCHANGE)
            n += snprintf(text + n, bytes - (size_t)n, " of %s with rank %d to rank %d", kind, o->peer, last->peer);
        else
            n += snprintf(text + n, bytes - (size_t)n, " of %s of rank %d", kind, o->owner);
    }
    if (n >= 0 && (size_t)n < bytes && s->geometry.cut.slices > 1)
        snprintf(text + n, bytes - (size_t)n, " (slice %d)", step->slice);
}

static uint64_t sum_bytes(const ringx_schedule *s, const ringx_step *step, int mode, bool others)
{
    uint64_t sum = 0;
    for (uint32_t j = 0; j < step->operands; j++) {
        const ringx_operand *o = &s->operands[step->operand + j];
        if (o->mode == mode && !(others && (o->peer >= 0 ? o->peer : o->owner) == s->geometry.rank))
            sum += (uint64_t)o->bytes;
    }
    return sum;
}

static uint64_t reduced_bytes(const ringx_schedule *s, const ringx_operand *o)
{
    if (o->narrow)
        return (uint64_t)o->bytes;
    int64_t tokens = ringx__layout_count(s->geometry.layout, o->owner);
    return sizeof(float) * ringx__block_elements(s->geometry.shape, (ringx_kind)o->kind, tokens, o->heads);
}

bool ringx__step_transfers(const ringx_step *step)
{
    return step->lane == RINGX_COMM_LANE && step->op != RINGX_PACK && step->op != RINGX_UNPACK &&
           step->op != RINGX_CONVERT && step->op != RINGX_WIPE;
}

uint64_t ringx__step_wire_bytes(const ringx_schedule *s, const ringx_step *step)
{
    const ringx_operand *o = step->operands ? &s->operands[step->operand] : NULL;
    uint64_t ranks = (uint64_t)(step->group < 0 ? s->geometry.ranks : s->groups[step->group].count);
    switch (step->op) {
    case RINGX_BROADCAST:
        return o->mode == RINGX_IN ? 0 : (uint64_t)o->bytes; /* counted where it is received */
    case RINGX_EXCHANGE:
        return sum_bytes(s, step, RINGX_IN, true);
    case RINGX_ALLGATHER:
        return sum_bytes(s, step, RINGX_OUT_, false) - (uint64_t)o->bytes;
    case RINGX_REDUCE:
        return step->operands == 2 ? 0 : reduced_bytes(s, o);
    case RINGX_REDUCE_SCATTER:
        return sum_bytes(s, step, RINGX_IN, false) - sum_bytes(s, step, RINGX_OUT_, false);
    case RINGX_ALLREDUCE_MAX:
        return 2 * (ranks - 1) * (uint64_t)s->operands[step->operand + 1].bytes / ranks;
    default:
        return 0;
    }
}

double ringx__step_area(const ringx_schedule *s, const ringx_step *step)
{
    if (step->op != RINGX_ATTEND && step->op != RINGX_GRAD)
        return 0;
    const ringx_shape *shape = s->geometry.shape;
    double area = 0;
    int32_t heads = 0;
    for (uint32_t i = 0; i < step->operands; i++) {
        const ringx_operand *q = &s->operands[step->operand + i];
        if (q->kind != RINGX_Q && q->kind != RINGX_QDO)
            continue;
        heads = q->heads;
        for (uint32_t j = 0; j < step->operands; j++) {
            const ringx_operand *k = &s->operands[step->operand + j];
            if (k->kind != RINGX_KV)
                continue;
            ringx_run qr[RINGX_MAX_RUNS], kr[RINGX_MAX_RUNS];
            int nq = ringx__layout_runs(s->geometry.layout, q->owner, qr);
            int nk = ringx__layout_runs(s->geometry.layout, k->owner, kr);
            for (int a = 0; a < nq; a++)
                for (int b = 0; b < nk; b++)
                    area += ringx__mask_area(&shape->mask, &qr[a], &kr[b]);
        }
    }
    return area * (double)heads * (double)shape->batch;
}
