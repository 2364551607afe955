/* SPDX-License-Identifier: MIT */
/* Steps of dK,dV that need not be run where a kernel starts or ends sums itself. */
#include "schedule/schedule.h"

/* The step that first touches a cleared block: if it is a grad that adds to just this block, the operand; else NULL. */
static const ringx_operand *first_sum(const ringx_schedule *s, size_t clear)
{
    const ringx_operand *block = &s->operands[s->steps[clear].operand];
    for (size_t i = clear + 1; i < s->n_steps; i++)
        for (uint32_t j = 0; j < s->steps[i].operands; j++) {
            const ringx_operand *o = &s->operands[s->steps[i].operand + j];
            if (ringx__overlap(o, block))
                return s->steps[i].op == RINGX_GRAD && ringx__same_place(o, block) ? o : NULL;
        }
    return NULL;
}

/* The grad that gave a stored block its last sums, as its operand; NULL: another step touched it since. */
static const ringx_operand *last_sum(const ringx_schedule *s, size_t store)
{
    const ringx_operand *block = &s->operands[s->steps[store].operand];
    for (size_t i = store; i-- > 0;)
        for (uint32_t j = 0; j < s->steps[i].operands; j++) {
            const ringx_operand *o = &s->operands[s->steps[i].operand + j];
            if (ringx__overlap(o, block))
                return s->steps[i].op == RINGX_GRAD && ringx__same_place(o, block) ? o : NULL;
        }
    return NULL;
}

/* Is a stored block read before something else is written there? */
static bool read_after(const ringx_schedule *s, size_t step)
{
    const ringx_operand *block = &s->operands[s->steps[step].operand];
    bool over = false;
    for (size_t i = step + 1; i < s->n_steps && !over; i++)
        for (uint32_t j = 0; j < s->steps[i].operands; j++) {
            const ringx_operand *o = &s->operands[s->steps[i].operand + j];
            if (ringx__overlap(o, block) && o->mode != RINGX_OUT_)
                return true;
            over = over || ringx__overlap(o, block);
        }
    return false;
}

const ringx_operand *ringx__clear_left_out(const ringx_schedule *s, size_t number)
{
    const ringx_step *step = &s->steps[number];
    bool sums = step->op == RINGX_CLEAR && s->operands[step->operand].kind == RINGX_DKV;
    return s->geometry.starts_keys && sums ? first_sum(s, number) : NULL;
}

const ringx_operand *ringx__store_left_out(const ringx_schedule *s, size_t number)
{
    const ringx_step *step = &s->steps[number];
    bool sums = (step->op == RINGX_STORE || step->op == RINGX_UNPACK) && step->operands == 2 &&
                s->operands[step->operand].kind == RINGX_DKV;
    return s->geometry.ends_keys && sums && !read_after(s, number) ? last_sum(s, number) : NULL;
}
