/* SPDX-License-Identifier: MIT */
/* A backward in which keys travel, between two ranks: the own tiles of the first slice hide the arrival of the others'
 * keys, those of the last slice the way home of their gradients.  As launches of their own, both would leave
 * multiprocessors idle at their ends, where tiles are as long as each other.  So each two grads are one launch: the
 * first slice's awaits the keys, by a word that is set when they have come; the last slice's tells, by another, when
 * the gradients that travel stand in memory, and the exchange waits for that.
 *
 * Where kernels may wait (fusion.c) and the kernel can (awaits_keys); decided anew for each pass.  The steps, their
 * order and their other waits are the schedule's in both. */
#include <stdlib.h>
#include <string.h>

#include "api/steps.h"

static const ringx_operand *operand_of(const ringx_schedule *s, uint32_t step, ringx_kind kind, int mode)
{
    const ringx_operand *o = &s->operands[s->steps[step].operand];
    for (uint32_t i = 0; i < s->steps[step].operands; i++)
        if (o[i].kind == kind && o[i].mode == mode)
            return &o[i];
    return NULL;
}

static bool overlap(const ringx_operand *a, const ringx_operand *b)
{
    return a->buffer == b->buffer && (a->buffer != RINGX_USER || a->kind == b->kind) &&
           a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static bool same(const ringx_operand *a, const ringx_operand *b)
{
    return a->buffer == b->buffer && a->offset == b->offset && a->bytes == b->bytes;
}

/* Must these steps keep their order, but for an operand of a that b has too? */
static bool conflict(const ringx_schedule *s, uint32_t a, uint32_t b, const ringx_operand *but)
{
    const ringx_operand *x = &s->operands[s->steps[a].operand], *y = &s->operands[s->steps[b].operand];
    for (uint32_t i = 0; i < s->steps[a].operands; i++)
        for (uint32_t j = 0; j < s->steps[b].operands; j++)
            if ((x[i].mode | y[j].mode) & RINGX_OUT_ && overlap(&x[i], &y[j]) && !(&x[i] == but && same(&x[i], &y[j])))
                return true;
    return false;
}

/* Can the grad at `place` of its lane be launched with the one before it?  From the steps of the other lane that only
 * it waits for it may need but one block, of one exchange (NULL: none).  Both add to the same dQ. */
static bool joins_before(const ringx_program *p, size_t place, const ringx_operand *but, uint32_t exchange)
{
    const ringx_schedule *s = &p->schedule;
    const ringx_track *t = &p->track;
    const uint32_t second = t->step[RINGX_COMPUTE_LANE][place], first = t->step[RINGX_COMPUTE_LANE][place - 1];
    const ringx_operand *a = operand_of(s, first, RINGX_DQ, RINGX_INOUT);
    const ringx_operand *b = operand_of(s, second, RINGX_DQ, RINGX_INOUT);
    uint32_t waited = 0;
    if (s->steps[first].op != RINGX_GRAD || s->steps[second].op != RINGX_GRAD || !a || !b || !same(a, b) ||
        !p->pairs[first].any || !p->pairs[second].any)
        return false;
    for (size_t i = 0; i < place; i++)
        waited = t->wait[RINGX_COMPUTE_LANE][i] > waited ? t->wait[RINGX_COMPUTE_LANE][i] : waited;
    for (uint32_t i = waited; i < t->wait[RINGX_COMPUTE_LANE][place]; i++) {
        const uint32_t step = t->step[RINGX_COMM_LANE][i];
        if (conflict(s, second, step, step == exchange ? but : NULL))
            return false;
    }
    return true;
}

/* Is the step at `place` of the communication lane an exchange that brings, or sends, just this block? */
static bool moves(const ringx_program *p, size_t place, const ringx_operand *block, int mode)
{
    const uint32_t step = p->track.step[RINGX_COMM_LANE][place];
    const ringx_operand *o = operand_of(&p->schedule, step, (ringx_kind)block->kind, mode);
    return p->schedule.steps[step].op == RINGX_EXCHANGE && o && same(o, block);
}

/* Grads a, at place - 1 of their lane, and b: who sees whom. */
static ringx_status join(const ringx_program *p, size_t place, uint32_t exchange, ringx_joint *joint)
{
    const ringx_pairs *pairs[2];
    for (int i = 0; i < 2; i++) {
        joint->step[i] = p->track.step[RINGX_COMPUTE_LANE][place - 1 + (size_t)i];
        pairs[i] = &p->pairs[joint->step[i]];
    }
    size_t keys = pairs[0]->keys + pairs[1]->keys;
    joint->live = calloc(pairs[0]->queries * keys + 1, 1);
    if (!joint->live)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu pairs of token runs", pairs[0]->queries * keys);
    for (size_t q = 0; q < pairs[0]->queries; q++)
        for (size_t i = 0, k = 0; i < 2; k += pairs[i++]->keys)
            memcpy(joint->live + q * keys + k, p->live + pairs[i]->first + q * pairs[i]->keys, pairs[i]->keys);
    joint->exchange = exchange;
    joint->possible = true;
    return RINGX_OK;
}

/* The first two grads: the own keys', and those of keys that an exchange has brought. */
static ringx_status find_awaiting(ringx_program *p, size_t second)
{
    const ringx_track *t = &p->track;
    const uint32_t wait = t->wait[RINGX_COMPUTE_LANE][second];
    const ringx_operand *keys = operand_of(&p->schedule, t->step[RINGX_COMPUTE_LANE][second], RINGX_KV, RINGX_IN);
    if (wait == 0 || !keys || keys->buffer == RINGX_USER || !moves(p, wait - 1, keys, RINGX_OUT_) ||
        !joins_before(p, second, keys, t->step[RINGX_COMM_LANE][wait - 1]))
        return RINGX_OK;
    return join(p, second, t->step[RINGX_COMM_LANE][wait - 1], &p->early.awaiting);
}

/* The last two: what the first of them sums up leaves beside the second.  The exchange no longer waits for it, but the
 * next step in its lane does. */
static ringx_status find_telling(ringx_program *p, size_t second)
{
    const ringx_track *t = &p->track;
    const size_t n = t->count[RINGX_COMM_LANE], first = second - 1;
    const ringx_operand *sums = operand_of(&p->schedule, t->step[RINGX_COMPUTE_LANE][first], RINGX_DKV, RINGX_INOUT);
    size_t place = 0;
    uint32_t *wait;
    while (sums && place < n && !(t->wait[RINGX_COMM_LANE][place] == second && moves(p, place, sums, RINGX_IN)))
        place++;
    if (!sums || place == n || !joins_before(p, second, NULL, 0) ||
        conflict(&p->schedule, t->step[RINGX_COMPUTE_LANE][first], t->step[RINGX_COMM_LANE][place], sums) ||
        conflict(&p->schedule, t->step[RINGX_COMPUTE_LANE][second], t->step[RINGX_COMM_LANE][place], NULL))
        return RINGX_OK;
    p->early.waits = wait = calloc(n, sizeof *wait);
    if (!wait)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the waits of %zu steps", n);
    memcpy(wait, t->wait[RINGX_COMM_LANE], n * sizeof *wait);
    wait[place] = (uint32_t)first;
    if (place + 1 < n && wait[place + 1] < second)
        wait[place + 1] = (uint32_t)second;
    if (first > 0)
        p->awaited[t->step[RINGX_COMPUTE_LANE][first - 1]] = 1;
    p->early.track.wait[RINGX_COMM_LANE] = wait;
    return join(p, second, t->step[RINGX_COMM_LANE][place], &p->early.telling);
}

ringx_status ringx__early_prepare(ringx_program *p)
{
    const ringx_track *t = &p->track;
    size_t first = SIZE_MAX, last = 0;
    p->early.track = *t;
    for (size_t i = 0; i < t->count[RINGX_COMPUTE_LANE] && p->schedule.backward; i++)
        if (p->schedule.steps[t->step[RINGX_COMPUTE_LANE][i]].op == RINGX_GRAD) {
            first = first == SIZE_MAX ? i : first;
            last = i;
        }
    if (first == SIZE_MAX || last == first)
        return RINGX_OK;
    RINGX_TRY(find_awaiting(p, first + 1));
    return last - 1 > first + 1 ? find_telling(p, last) : RINGX_OK;
}

void ringx__early_free(ringx_early *early)
{
    free(early->waits);
    free(early->awaiting.live);
    free(early->telling.live);
}

const ringx_joint *ringx__joint_of(const ringx_execution *e, uint32_t step, bool *second)
{
    const ringx_early *early = &e->program->early;
    const ringx_joint *joints[] = {&early->awaiting, &early->telling};
    for (int i = 0; i < 2 && early->on; i++)
        if (joints[i]->possible && (step == joints[i]->step[0] || step == joints[i]->step[1])) {
            *second = step == joints[i]->step[1];
            return joints[i];
        }
    return NULL;
}

bool ringx__is_early(const ringx_execution *e)
{
    const ringx_early *early = &e->program->early;
    const ringx_joint *joints[] = {&early->awaiting, &early->telling};
    bool any = early->awaiting.possible || early->telling.possible;
    if (!any || e->plan->deterministic || !ringx__kernels_may_wait(e))
        return false;
    for (int i = 0; i < 2 && any; i++) {
        ringx_job job;
        if (joints[i]->possible) {
            ringx__joint_job(e, joints[i], e->plan->stream, &job);
            any = e->plan->choice.kernel->awaits_keys(&job, true);
        }
    }
    return any;
}
