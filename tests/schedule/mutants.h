/* SPDX-License-Identifier: MIT */
/* For tests: damaged copies of one rank's schedule, and a naive judge of what is ordered, to compare the prover with.
 */
#ifndef RINGX_TEST_MUTANTS_H
#define RINGX_TEST_MUTANTS_H

#include <string.h>

#include "schedule/schedules.h"

static inline void *copy_of(const void *from, size_t bytes)
{
    void *to = malloc(bytes + 1);
    if (to && bytes)
        memcpy(to, from, bytes);
    return to;
}

/* A copy with room for one more step. */
static inline ringx_schedule mutant_create(const ringx_schedule *s)
{
    ringx_schedule m = *s;
    m.steps = malloc((s->n_steps + 1) * sizeof *m.steps);
    memcpy(m.steps, s->steps, s->n_steps * sizeof *m.steps);
    m.operands = copy_of(s->operands, s->n_operands * sizeof *m.operands);
    m.buffers = copy_of(s->buffers, s->n_buffers * sizeof *m.buffers);
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        m.lane_step[lane] = copy_of(s->lane_step[lane], s->lane_count[lane] * sizeof(uint32_t));
        m.lane_wait[lane] = copy_of(s->lane_wait[lane], s->lane_count[lane] * sizeof(uint32_t));
    }
    return m;
}

/* Groups stay the original's. */
static inline void mutant_free(ringx_schedule *m)
{
    free(m->steps);
    free(m->operands);
    free(m->buffers);
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        free(m->lane_step[lane]);
        free(m->lane_wait[lane]);
    }
}

/* Closes a damaged schedule as if an algorithm had written it so: waits and places fit the damage. */
static inline ringx_status mutant_close(ringx_schedule *m)
{
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        free(m->lane_step[lane]);
        free(m->lane_wait[lane]);
        m->lane_step[lane] = m->lane_wait[lane] = NULL;
    }
    for (size_t i = 0; i < m->n_buffers; i++)
        m->buffers[i].bytes = 0;
    return ringx__schedule_close(m);
}

/* The prover's verdict on the world with this rank's schedule replaced. */
static inline ringx_status mutant_prove(world *w, const ringx_schedule *m)
{
    int rank = m->geometry.rank;
    ringx_proof proof;
    w->list[rank] = m;
    ringx_status status = ringx__prove(w->list, w->ranks, &proof);
    w->list[rank] = &w->schedules[rank];
    return status;
}

static inline void mutant_drop(ringx_schedule *m, size_t step)
{
    memmove(&m->steps[step], &m->steps[step + 1], (m->n_steps - step - 1) * sizeof *m->steps);
    m->n_steps--;
}

static inline void mutant_double(ringx_schedule *m, size_t step)
{
    memmove(&m->steps[step + 1], &m->steps[step], (m->n_steps - step) * sizeof *m->steps);
    m->n_steps++;
}

static inline void mutant_swap(ringx_schedule *m, int lane, size_t place)
{
    uint32_t *steps = m->lane_step[lane], *waits = m->lane_wait[lane], first = steps[place];
    uint32_t wait = waits[place] > waits[place + 1] ? waits[place] : waits[place + 1];
    steps[place] = steps[place + 1];
    steps[place + 1] = first;
    for (size_t i = place; i < place + 2; i++) {
        waits[i] = wait;
        m->steps[steps[i]].wait = wait;
        m->steps[steps[i]].place = (uint32_t)i;
    }
}

static inline void mutant_wait(ringx_schedule *m, int lane, size_t place, uint32_t wait)
{
    m->lane_wait[lane][place] = wait;
    m->steps[m->lane_step[lane][place]].wait = wait;
}

/* ---- the naive judge: reachability over lane and wait edges, every pair of steps, every pair of operands ---- */

static inline bool operands_conflict(const ringx_schedule *s, const ringx_operand *a, const ringx_operand *b)
{
    if (a->buffer < 0 || b->buffer < 0 || (a->mode == RINGX_IN && b->mode == RINGX_IN))
        return false;
    size_t a0 = s->buffers[a->buffer].offset + (size_t)a->offset, a1 = a0 + (size_t)a->bytes;
    size_t b0 = s->buffers[b->buffer].offset + (size_t)b->offset, b1 = b0 + (size_t)b->bytes;
    return a0 < b1 && b0 < a1 && a->bytes > 0 && b->bytes > 0;
}

static inline bool steps_conflict(const ringx_schedule *s, size_t a, size_t b)
{
    for (uint32_t i = 0; i < s->steps[a].operands; i++)
        for (uint32_t j = 0; j < s->steps[b].operands; j++)
            if (operands_conflict(s, &s->operands[s->steps[a].operand + i], &s->operands[s->steps[b].operand + j]))
                return true;
    return false;
}

/* seen[j] becomes true for all steps that must be done before step `from`. */
static inline void mark_before(const ringx_schedule *s, size_t from, bool *seen)
{
    const ringx_step *step = &s->steps[from];
    size_t before[2] = {from, from};
    if (step->place > 0)
        before[0] = s->lane_step[step->lane][step->place - 1];
    if (s->lane_wait[step->lane][step->place] > 0)
        before[1] = s->lane_step[1 - step->lane][s->lane_wait[step->lane][step->place] - 1];
    for (int i = 0; i < 2; i++)
        if (before[i] != from && !seen[before[i]]) {
            seen[before[i]] = true;
            mark_before(s, before[i], seen);
        }
}

/* Are all conflicting pairs ordered as in program order? */
static inline bool naive_ordered(const ringx_schedule *s)
{
    bool ordered = true, *seen = malloc(s->n_steps + 1);
    for (size_t later = 0; later < s->n_steps && ordered; later++) {
        memset(seen, 0, s->n_steps);
        mark_before(s, later, seen);
        for (size_t earlier = 0; earlier < later && ordered; earlier++)
            ordered = seen[earlier] || !steps_conflict(s, earlier, later);
    }
    free(seen);
    return ordered;
}

/* Does any later step read what this operand writes? */
static inline bool is_read_later(const ringx_schedule *s, size_t step, const ringx_operand *o)
{
    for (size_t i = step + 1; i < s->n_steps; i++)
        for (uint32_t j = 0; j < s->steps[i].operands; j++) {
            const ringx_operand *other = &s->operands[s->steps[i].operand + j];
            if (other->buffer != o->buffer || other->offset != o->offset)
                continue;
            return (other->mode & RINGX_IN) != 0;
        }
    return false;
}

#endif
