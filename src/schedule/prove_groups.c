/* SPDX-License-Identifier: MIT */
/* What collectives and messages do to the memory of their members, after checking that the members agree. */
#include <inttypes.h>

#include "schedule/prove.h"

typedef struct ringx_member { /* one rank at a collective */
    int rank;
    uint32_t number;
    const ringx_step *step;
    const ringx_operand *o;
} member;

static member member_of(const ringx_prover *p, const ringx_action *action, int i)
{
    int rank = action->members ? action->members[i] : i;
    uint32_t number = ringx__engine_at(p->engine, rank, RINGX_COMM_LANE);
    const ringx_step *step = &p->schedules[rank]->steps[number];
    return (member){rank, number, step, &p->schedules[rank]->operands[step->operand]};
}

static ringx_status disagree(const ringx_prover *p, const member *a, const member *b, const char *on)
{
    char text[160];
    ringx__step_describe(p->schedules[b->rank], b->number, text, sizeof text);
    return ringx__step_fail(p->schedules[a->rank], a->number, "rank %d is at %s at the same time: they disagree on %s",
                            b->rank, text, on);
}

static ringx_status malformed(const ringx_prover *p, const member *m)
{
    return ringx__step_fail(p->schedules[m->rank], m->number, "its operands are not those of such a step");
}

static bool same(const ringx_operand *a, const ringx_operand *b)
{
    return ringx__same_block(a, b) && a->bytes == b->bytes && a->narrow == b->narrow;
}

static bool in_workspace(const ringx_operand *o, int mode)
{
    return o->buffer != RINGX_USER && o->mode == mode;
}

/* Operation, root and number of members; what the operands must be like follows from the operation. */
static ringx_status check_members(const ringx_prover *p, const ringx_action *action)
{
    member first = member_of(p, action, 0);
    bool rooted = first.step->op == RINGX_BROADCAST || first.step->op == RINGX_REDUCE;
    if (rooted && (first.step->root < 0 || first.step->root >= action->count))
        return ringx__step_fail(p->schedules[first.rank], first.number, "its root is %d of %d", first.step->root,
                                action->count);
    for (int i = 0; i < action->count; i++) {
        member m = member_of(p, action, i);
        if (m.step->op != first.step->op)
            return disagree(p, &m, &first, "the operation");
        if (rooted && m.step->root != first.step->root)
            return disagree(p, &m, &first, "the root");
        if (m.step->operands == 0)
            return malformed(p, &m);
    }
    return RINGX_OK;
}

static ringx_status broadcast(ringx_prover *p, const ringx_action *action)
{
    int root = member_of(p, action, 0).step->root;
    member from = member_of(p, action, root);
    if (from.step->operands != 1 || !in_workspace(&from.o[0], RINGX_IN))
        return malformed(p, &from);
    ringx_cell *value;
    RINGX_TRY(ringx__paper_read(p, from.rank, from.number, &from.o[0], &value));
    ringx_cell copy = *value;
    for (int i = 0; i < action->count; i++) {
        member m = member_of(p, action, i);
        if (i == root)
            continue;
        if (m.step->operands != 1 || !in_workspace(&m.o[0], RINGX_OUT_))
            return malformed(p, &m);
        if (!same(&m.o[0], &from.o[0]))
            return disagree(p, &m, &from, "the block");
        ringx__paper_write(p, m.rank, &m.o[0], &copy);
    }
    return RINGX_OK;
}

/* States may be summed only if all of them are scaled to one maximum, agreed by all of them. */
static ringx_status check_scaled(ringx_prover *p, const member *m, const ringx_cell *value, const member *first,
                                 const ringx_cell *first_value)
{
    if (m->o[0].kind != RINGX_STATE || m->o[0].bytes == 0)
        return RINGX_OK;
    if (value->scaled == 0)
        return ringx__step_fail(p->schedules[m->rank], m->number, "the state is not scaled to an agreed maximum");
    if (value->scaled != first_value->scaled)
        return disagree(p, m, first, "the maximum to which the state is scaled");
    return RINGX_OK;
}

static ringx_status reduce(ringx_prover *p, const ringx_action *action)
{
    member first = member_of(p, action, 0);
    int root = first.step->root;
    ringx_cell total = {.sum = 0}, *value, *first_value = NULL;
    for (int i = 0; i < action->count; i++) {
        member m = member_of(p, action, i);
        if (m.step->operands != (i == root ? 2 : 1) || !in_workspace(&m.o[0], RINGX_IN) ||
            (m.o[0].kind != RINGX_STATE && m.o[0].kind != RINGX_DQ && m.o[0].kind != RINGX_DKV))
            return malformed(p, &m);
        if (!same(&m.o[0], &first.o[0]))
            return disagree(p, &m, &first, "the block");
        RINGX_TRY(ringx__paper_read(p, m.rank, m.number, &m.o[0], &value));
        first_value = first_value ? first_value : value;
        if (action->count > 1)
            RINGX_TRY(check_scaled(p, &m, value, &first, first_value));
        total.sum = ringx__field_add(total.sum, value->sum);
        total.scaled = value->scaled;
    }
    member to = member_of(p, action, root);
    if (!in_workspace(&to.o[1], RINGX_OUT_) || !same(&to.o[0], &to.o[1]))
        return malformed(p, &to);
    /* The reduction moves acc and l; m is right only where it was. */
    if (to.o[0].kind == RINGX_STATE && (to.o[0].buffer != to.o[1].buffer || to.o[0].offset != to.o[1].offset))
        return ringx__step_fail(p->schedules[to.rank], to.number, "the reduced state would lack its maximum");
    ringx__paper_write(p, to.rank, &to.o[1], &total);
    return RINGX_OK;
}

/* One block for each member, in the order of the group: the same on all members, starting at operand `from`. */
static ringx_status check_lists(const ringx_prover *p, const ringx_action *action, uint32_t from, int mode)
{
    member first = member_of(p, action, 0);
    for (int i = 0; i < action->count; i++) {
        member m = member_of(p, action, i);
        if (m.step->operands != (uint32_t)action->count + 1)
            return malformed(p, &m);
        for (int j = 0; j < action->count; j++) {
            if (!in_workspace(&m.o[from + (uint32_t)j], mode))
                return malformed(p, &m);
            if (!same(&m.o[from + (uint32_t)j], &first.o[from + (uint32_t)j]))
                return disagree(p, &m, &first, "a block");
        }
    }
    return RINGX_OK;
}

static ringx_status allgather(ringx_prover *p, const ringx_action *action)
{
    RINGX_TRY(check_lists(p, action, 1, RINGX_OUT_));
    for (int i = 0; i < action->count; i++) {
        member from = member_of(p, action, i);
        if (!in_workspace(&from.o[0], RINGX_IN) || !same(&from.o[0], &from.o[1 + i]))
            return malformed(p, &from);
        ringx_cell *value;
        RINGX_TRY(ringx__paper_read(p, from.rank, from.number, &from.o[0], &value));
        ringx_cell copy = *value;
        for (int j = 0; j < action->count; j++) {
            member to = member_of(p, action, j);
            ringx__paper_write(p, to.rank, &to.o[1 + i], &copy);
        }
    }
    return RINGX_OK;
}

static ringx_status reduce_scatter(ringx_prover *p, const ringx_action *action)
{
    RINGX_TRY(check_lists(p, action, 0, RINGX_IN));
    for (int i = 0; i < action->count; i++) {
        member to = member_of(p, action, i);
        const ringx_operand *out = &to.o[action->count];
        if (!in_workspace(out, RINGX_OUT_) || !same(out, &to.o[i]) || (out->kind != RINGX_DQ && out->kind != RINGX_DKV))
            return malformed(p, &to);
        ringx_cell total = {.sum = 0}, *value;
        for (int j = 0; j < action->count; j++) {
            member from = member_of(p, action, j);
            RINGX_TRY(ringx__paper_read(p, from.rank, from.number, &from.o[i], &value));
            total.sum = ringx__field_add(total.sum, value->sum);
        }
        ringx__paper_write(p, to.rank, out, &total);
    }
    return RINGX_OK;
}

static ringx_status allreduce_max(ringx_prover *p, const ringx_action *action)
{
    member first = member_of(p, action, 0);
    uint32_t round = ++p->rounds;
    for (int i = 0; i < action->count; i++) {
        member m = member_of(p, action, i);
        if (m.step->operands != 2 || !in_workspace(&m.o[0], RINGX_IN) || !in_workspace(&m.o[1], RINGX_OUT_) ||
            m.o[0].kind != RINGX_STATE || m.o[1].kind != RINGX_TOP || m.o[0].owner != m.o[1].owner ||
            m.o[0].head != m.o[1].head || m.o[0].heads != m.o[1].heads)
            return malformed(p, &m);
        if (!same(&m.o[0], &first.o[0]))
            return disagree(p, &m, &first, "the block");
        ringx_cell *state;
        RINGX_TRY(ringx__paper_read(p, m.rank, m.number, &m.o[0], &state));
        if (m.o[0].bytes > 0)
            state->agreed = round;
        ringx__paper_write(p, m.rank, &m.o[1], &(ringx_cell){.agreed = round});
    }
    return RINGX_OK;
}

ringx_status ringx__prove_collective(ringx_prover *p, const ringx_action *action)
{
    RINGX_TRY(check_members(p, action));
    switch (member_of(p, action, 0).step->op) {
    case RINGX_BROADCAST:
        return broadcast(p, action);
    case RINGX_REDUCE:
        return reduce(p, action);
    case RINGX_ALLGATHER:
        return allgather(p, action);
    case RINGX_REDUCE_SCATTER:
        return reduce_scatter(p, action);
    default:
        return allreduce_max(p, action);
    }
}

ringx_status ringx__prove_message(ringx_prover *p, const ringx_meeting *meeting)
{
    const ringx_operand *from = &p->schedules[meeting->from]->operands[meeting->from_operand];
    const ringx_operand *to = &p->schedules[meeting->to]->operands[meeting->to_operand];
    if (from->buffer == RINGX_USER || to->buffer == RINGX_USER || !same(from, to)) {
        char text[160];
        ringx__step_describe(p->schedules[meeting->to], meeting->to_step, text, sizeof text);
        return ringx__step_fail(p->schedules[meeting->from], meeting->from_step,
                                "it sends %s of rank %d, heads %d+%d, %" PRId64 " bytes; rank %d, %s, receives %s of"
                                " rank %d, heads %d+%d, %" PRId64 " bytes",
                                ringx__kind_name((ringx_kind)from->kind), from->owner, from->head, from->heads,
                                from->bytes, meeting->to, text, ringx__kind_name((ringx_kind)to->kind), to->owner,
                                to->head, to->heads, to->bytes);
    }
    ringx_cell *value;
    RINGX_TRY(ringx__paper_read(p, meeting->from, meeting->from_step, from, &value));
    ringx_cell copy = *value;
    ringx__paper_write(p, meeting->to, to, &copy);
    return RINGX_OK;
}
