/* SPDX-License-Identifier: MIT */
/* The end of a backward in which keys travel, between two ranks: the own tiles of the last slice hide the way home of
 * the others' gradients.  In a launch of their own, after that of the others' tiles, they would leave multiprocessors
 * idle twice: tiles that are as long as each other end unevenly.  So both grads are one launch, which begins with the
 * others' tiles, and tells, by a word, when their gradients stand in memory; the exchange that sends them waits for the
 * word instead of the launch.
 *
 * Where streams can wait for words (not in a graph) and the kernel can tell (tells_keys); decided anew for each pass.
 * The steps, their order and their other waits are the schedule's in both. */
#include <stdlib.h>
#include <string.h>

#include "api/steps.h"
#include "comm/peer.h"

static const ringx_operand *operand_of(const ringx_schedule *s, uint32_t step, ringx_kind kind, int mode)
{
    const ringx_operand *o = &s->operands[s->steps[step].operand];
    for (uint32_t i = 0; i < s->steps[step].operands; i++)
        if (o[i].kind == kind && o[i].mode == mode)
            return &o[i];
    return NULL;
}

/* Must these steps keep their order, but for an operand of a that b has too? */
static bool conflict(const ringx_schedule *s, uint32_t a, uint32_t b, const ringx_operand *but)
{
    const ringx_operand *x = &s->operands[s->steps[a].operand], *y = &s->operands[s->steps[b].operand];
    for (uint32_t i = 0; i < s->steps[a].operands; i++)
        for (uint32_t j = 0; j < s->steps[b].operands; j++)
            if ((x[i].mode | y[j].mode) & RINGX_OUT_ && ringx__overlap(&x[i], &y[j]) &&
                !(&x[i] == but && ringx__same_place(&x[i], &y[j])))
                return true;
    return false;
}

/* Can the grad at `place` of its lane begin with the one before it?  Both add to the same dQ, and what only it waits
 * for it does not need. */
static bool joins_before(const ringx_program *p, size_t place)
{
    const ringx_schedule *s = &p->schedule;
    const ringx_track *t = &p->track;
    const uint32_t second = t->step[RINGX_COMPUTE_LANE][place], first = t->step[RINGX_COMPUTE_LANE][place - 1];
    if (s->steps[first].op != RINGX_GRAD || s->steps[second].op != RINGX_GRAD || !p->pairs[first].any ||
        !p->pairs[second].any)
        return false;
    const ringx_operand *a = operand_of(s, first, RINGX_DQ, RINGX_INOUT);
    const ringx_operand *b = operand_of(s, second, RINGX_DQ, RINGX_INOUT);
    uint32_t waited = 0;
    for (size_t i = 0; i < place; i++)
        waited = t->wait[RINGX_COMPUTE_LANE][i] > waited ? t->wait[RINGX_COMPUTE_LANE][i] : waited;
    for (uint32_t i = waited; i < t->wait[RINGX_COMPUTE_LANE][place]; i++)
        if (conflict(s, second, t->step[RINGX_COMM_LANE][i], NULL))
            return false;
    return a && b && ringx__same_place(a, b);
}

/* Is the step at `place` of its lane an exchange that waits for just so many steps and sends just this block? */
static bool sends(const ringx_program *p, size_t place, size_t waits, const ringx_operand *block)
{
    const uint32_t step = p->track.step[RINGX_COMM_LANE][place];
    const ringx_operand *o = operand_of(&p->schedule, step, (ringx_kind)block->kind, RINGX_IN);
    return p->schedule.steps[step].op == RINGX_EXCHANGE && p->track.wait[RINGX_COMM_LANE][place] == waits && o &&
           ringx__same_place(o, block);
}

/* The exchange at `place` no longer waits for the grad at `grad`, but the next step in its lane does. */
static ringx_status ease(ringx_program *p, size_t place, size_t grad)
{
    const ringx_track *t = &p->track;
    const size_t n = t->count[RINGX_COMM_LANE];
    uint32_t *wait = p->early.waits = calloc(n, sizeof *wait);
    if (!wait)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the waits of %zu steps", n);
    memcpy(wait, t->wait[RINGX_COMM_LANE], n * sizeof *wait);
    wait[place] = (uint32_t)grad;
    if (place + 1 < n && wait[place + 1] < grad + 1)
        wait[place + 1] = (uint32_t)grad + 1;
    if (grad > 0)
        p->awaited[t->step[RINGX_COMPUTE_LANE][grad - 1]] = 1;
    p->early.track = *t;
    p->early.track.wait[RINGX_COMM_LANE] = wait;
    return RINGX_OK;
}

/* Who sees whom in both grads. */
static ringx_status join_live(ringx_program *p)
{
    const ringx_pairs *pairs[2] = {&p->pairs[p->early.grad[0]], &p->pairs[p->early.grad[1]]};
    const size_t queries = pairs[0]->queries, keys = pairs[0]->keys + pairs[1]->keys;
    p->early.live = calloc(queries * keys, 1);
    if (!p->early.live)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu pairs of token runs", queries * keys);
    for (size_t q = 0; q < queries; q++)
        for (size_t i = 0, k = 0; i < 2; k += pairs[i++]->keys)
            memcpy(p->early.live + q * keys + k, p->live + pairs[i]->first + q * pairs[i]->keys, pairs[i]->keys);
    return RINGX_OK;
}

ringx_status ringx__early_prepare(ringx_program *p)
{
    const ringx_schedule *s = &p->schedule;
    const ringx_track *t = &p->track;
    size_t last = t->count[RINGX_COMPUTE_LANE], place = 0;
    while (last > 0 && s->steps[t->step[RINGX_COMPUTE_LANE][last - 1]].op != RINGX_GRAD)
        last--;
    if (!s->backward || last < 2 || !joins_before(p, last - 1))
        return RINGX_OK;
    const uint32_t *grad = &t->step[RINGX_COMPUTE_LANE][last - 2];
    const ringx_operand *sums = operand_of(s, grad[0], RINGX_DKV, RINGX_INOUT);
    while (sums && place < t->count[RINGX_COMM_LANE] && !sends(p, place, last - 1, sums))
        place++;
    if (!sums || place == t->count[RINGX_COMM_LANE])
        return RINGX_OK;
    const uint32_t leaving = t->step[RINGX_COMM_LANE][place];
    if (conflict(s, grad[0], leaving, sums) || conflict(s, grad[1], leaving, NULL))
        return RINGX_OK;
    memcpy(p->early.grad, grad, sizeof p->early.grad);
    p->early.leaving = leaving;
    RINGX_TRY(ease(p, place, last - 2));
    RINGX_TRY(join_live(p));
    p->early.possible = true;
    return RINGX_OK;
}

void ringx__early_free(ringx_early *early)
{
    free(early->waits);
    free(early->live);
}

bool ringx__is_early(const ringx_execution *e)
{
    const ringx_plan *plan = e->plan;
    ringx_job job;
    if (!e->program->early.possible || !plan->choice.early || !plan->peer ||
        !ringx__peer_runs_beside(plan->data, plan->stream))
        return false;
    ringx__early_job(e, plan->stream, &job);
    return plan->choice.kernel->tells_keys(&job);
}
