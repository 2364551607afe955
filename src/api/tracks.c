/* SPDX-License-Identifier: MIT */
/* What the lanes of a program walk: the schedule's order and waits, without the steps that need not be run. */
#include <stdlib.h>

#include "api/plan.h"

/* kept[i]: how many of the lane's first i steps are run. */
static void count_kept(const ringx_program *p, int lane, uint32_t *kept)
{
    const ringx_schedule *s = &p->schedule;
    for (size_t i = 0; i < s->lane_count[lane]; i++)
        kept[i + 1] = kept[i] + !p->needless[s->lane_step[lane][i]];
}

static bool meet(const ringx_operand *a, const ringx_operand *b)
{
    return a->buffer == b->buffer && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes &&
           (a->buffer != RINGX_USER || a->kind == b->kind);
}

/* May two gradients run at the same time?  What one writes the other does not touch, but for sums into dQ. */
static bool independent(const ringx_program *p, uint32_t first, uint32_t second)
{
    const ringx_schedule *s = &p->schedule;
    const ringx_step *a = &s->steps[first], *b = &s->steps[second];
    if (a->op != RINGX_GRAD || b->op != RINGX_GRAD)
        return false;
    for (uint32_t i = a->operand; i < a->operand + a->operands; i++)
        for (uint32_t j = b->operand; j < b->operand + b->operands; j++) {
            const ringx_operand *x = &s->operands[i], *y = &s->operands[j];
            bool writes = x->mode != RINGX_IN || y->mode != RINGX_IN;
            bool sums = x->kind == RINGX_DQ && y->kind == RINGX_DQ;
            if (writes && !sums && meet(x, y))
                return false;
            if (p->ends[i] && p->ends[j] && meet(&s->operands[p->ends[i]], &s->operands[p->ends[j]]))
                return false;
        }
    return true;
}

/* Gradients that may run beside the step before them go to the other of two streams.  There they wait themselves for
 * all that this lane has waited for. */
static void choose_sides(ringx_program *p, uint32_t *wait)
{
    const size_t count = p->track.count[RINGX_COMPUTE_LANE];
    const uint32_t *step = p->track.step[RINGX_COMPUTE_LANE];
    uint32_t most = 0;
    for (size_t i = 0; i < count; i++) {
        bool beside = i > 0 && independent(p, step[i - 1], step[i]);
        most = wait[i] > most ? wait[i] : most;
        p->side[i] = i > 0 && (p->side[i - 1] != beside);
        if (!beside)
            continue;
        wait[i] = most;
        for (size_t k = i < 2 ? 0 : i - 2; k <= i; k++)
            p->awaited[step[k]] = 1;
    }
    for (size_t k = count < 2 ? 0 : count - 2; k < count; k++)
        p->awaited[step[k]] = 1;
    p->track.side = p->side;
}

ringx_status ringx__track_prepare(ringx_program *p, bool beside)
{
    const ringx_schedule *s = &p->schedule;
    const size_t n = s->n_steps;
    uint32_t *kept[RINGX_LANES], *counts = calloc(n + 2, sizeof *counts);
    uint32_t *places = calloc(2 * n + 1, sizeof *places), *at = places, *computing = NULL;
    p->places = places;
    p->awaited = calloc(n + 1, 1);
    p->side = calloc(n + 1, 1);
    if (!counts || !places || !p->awaited || !p->side) {
        free(counts);
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the order of %zu steps", n);
    }
    kept[0] = counts;
    kept[1] = counts + s->lane_count[0] + 1;
    for (int lane = 0; lane < RINGX_LANES; lane++)
        count_kept(p, lane, kept[lane]);
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        uint32_t *step = at, *wait = at + kept[lane][s->lane_count[lane]];
        size_t m = 0;
        uint32_t most = 0; /* a step relies on what those before it in its lane have waited for */
        for (size_t i = 0; i < s->lane_count[lane]; i++) {
            uint32_t number = s->lane_step[lane][i], needs = kept[1 - lane][s->lane_wait[lane][i]];
            most = needs > most ? needs : most;
            if (p->needless[number])
                continue;
            step[m] = number;
            wait[m++] = most;
            most = 0;
        }
        p->track.step[lane] = step;
        p->track.wait[lane] = wait;
        p->track.count[lane] = m;
        at = wait + m;
        computing = wait; /* the second lane's */
    }
    if (beside)
        choose_sides(p, computing);
    for (int lane = 0; lane < RINGX_LANES; lane++)
        for (size_t i = 0; i < p->track.count[lane]; i++)
            if (p->track.wait[lane][i])
                p->awaited[p->track.step[1 - lane][p->track.wait[lane][i] - 1]] = 1;
    p->track.awaited = p->awaited;
    free(counts);
    return RINGX_OK;
}
