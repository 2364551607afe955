/* SPDX-License-Identifier: MIT */
/* One kernel for the attends of all slices, which itself waits for the keys that arrive: no tile stops for a state
 * between the own keys and others', and no launch but the last has an end at which multiprocessors wait for each other.
 *
 * Possible where the kernel can (awaits_keys) and transfers need no multiprocessor, which that kernel would not give
 * them: copies by the ranks that have the keys, from the caller's tensors, not those of a graph.  Decided anew for each
 * pass, which else runs the attends one after the other; the steps, their order and their waits are the schedule's in
 * both. */
#include <stdlib.h>

#include "api/steps.h"
#include "comm/peer.h"

static const ringx_step *step_at(const ringx_schedule *s, int lane, size_t place)
{
    return &s->steps[s->lane_step[lane][place]];
}

static bool arrives(const ringx_operand *o)
{
    return o->kind == RINGX_KV && o->buffer != RINGX_USER && o->bytes > 0;
}

/* Is a pass nothing but attends, each of which is all of its queries, and exchanges that wait for none of them? */
static bool can_fuse(const ringx_schedule *s)
{
    size_t exchanges = 0;
    if (!s->geometry.awaits || s->lane_count[RINGX_COMPUTE_LANE] == 0)
        return false;
    for (size_t i = 0; i < s->lane_count[RINGX_COMPUTE_LANE]; i++) {
        const ringx_step *step = step_at(s, RINGX_COMPUTE_LANE, i);
        if (step->op != RINGX_ATTEND || !step->fresh || !step->final)
            return false;
    }
    for (size_t i = 0; i < s->lane_count[RINGX_COMM_LANE]; i++) {
        const ringx_step *step = step_at(s, RINGX_COMM_LANE, i);
        if (step->wait > 0 || (step->op != RINGX_EXCHANGE && step->op != RINGX_PACK))
            return false;
        exchanges += step->op == RINGX_EXCHANGE;
    }
    return exchanges > 0 && exchanges <= RINGX_ARRIVALS;
}

/* One more than the word of the exchange that brings a block; 0: none does. */
static uint8_t word_of(const ringx_program *p, const ringx_operand *block)
{
    const ringx_schedule *s = &p->schedule;
    for (size_t i = 0; i < s->lane_count[RINGX_COMM_LANE]; i++) {
        const ringx_step *step = step_at(s, RINGX_COMM_LANE, i);
        for (uint32_t j = 0; j < step->operands; j++) {
            const ringx_operand *o = &s->operands[step->operand + j];
            if (step->op == RINGX_EXCHANGE && o->mode == RINGX_OUT_ && ringx__same_place(o, block))
                return p->fusion.word[s->lane_step[RINGX_COMM_LANE][i]];
        }
    }
    return 0;
}

/* A word for each exchange, and for each block of others' keys that of the exchange which brings it. */
static bool assign_words(ringx_program *p)
{
    const ringx_schedule *s = &p->schedule;
    ringx_fusion *f = &p->fusion;
    size_t words = 0;
    for (size_t i = 0; i < s->lane_count[RINGX_COMM_LANE]; i++)
        if (step_at(s, RINGX_COMM_LANE, i)->op == RINGX_EXCHANGE)
            f->word[s->lane_step[RINGX_COMM_LANE][i]] = (uint8_t)++words;
    for (size_t i = 0; i < s->lane_count[RINGX_COMPUTE_LANE]; i++) {
        const ringx_step *step = step_at(s, RINGX_COMPUTE_LANE, i);
        for (uint32_t j = step->operand; j < step->operand + step->operands; j++)
            if (arrives(&s->operands[j]) && !(f->arrival[j] = word_of(p, &s->operands[j])))
                return false;
    }
    f->words = words;
    return true;
}

static size_t live_keys(const ringx_schedule *s, const ringx_run *query, int owner, uint8_t *live)
{
    ringx_run key[RINGX_MAX_RUNS];
    int count = ringx__layout_runs(s->geometry.layout, owner, key);
    for (int j = 0; j < count; j++)
        live[j] = ringx__mask_live(&s->geometry.shape->mask, query, &key[j]);
    return (size_t)count;
}

/* A query run sees a key run: of own keys, then of those that arrive for each attend. */
static size_t live_of(const ringx_schedule *s, const ringx_run *query, uint8_t *live)
{
    size_t n = live_keys(s, query, s->geometry.rank, live);
    for (size_t i = 0; i < s->lane_count[RINGX_COMPUTE_LANE]; i++) {
        const ringx_step *step = step_at(s, RINGX_COMPUTE_LANE, i);
        for (uint32_t j = step->operand; j < step->operand + step->operands; j++)
            if (arrives(&s->operands[j]))
                n += live_keys(s, query, s->operands[j].owner, live + n);
    }
    return n;
}

static const uint32_t no_wait = 0;

/* Blocks are sent from where they are: nothing is packed. */
static void keep_exchanges(const ringx_program *p, ringx_fusion *f)
{
    const ringx_track *all = &p->track;
    uint32_t *step = f->places, *wait = step + all->count[RINGX_COMM_LANE];
    size_t n = 0;
    for (size_t i = 0; i < all->count[RINGX_COMM_LANE]; i++)
        if (p->schedule.steps[all->step[RINGX_COMM_LANE][i]].op == RINGX_EXCHANGE)
            step[n++] = all->step[RINGX_COMM_LANE][i];
    f->track = *all;
    f->track.step[RINGX_COMM_LANE] = step;
    f->track.wait[RINGX_COMM_LANE] = wait;
    f->track.count[RINGX_COMM_LANE] = n;
    f->track.wait[RINGX_COMPUTE_LANE] = &no_wait;
    f->track.count[RINGX_COMPUTE_LANE] = 1;
}

ringx_status ringx__fusion_prepare(ringx_program *p)
{
    const ringx_schedule *s = &p->schedule;
    ringx_fusion *f = &p->fusion;
    if (!can_fuse(s))
        return RINGX_OK;
    size_t runs = (s->n_operands + 1) * RINGX_MAX_RUNS; /* at most */
    f->word = calloc(s->n_steps, sizeof *f->word);
    f->arrival = calloc(s->n_operands, sizeof *f->arrival);
    f->live = calloc(RINGX_MAX_RUNS * runs, 1);
    f->key = calloc(runs, sizeof *f->key);
    f->places = calloc(2 * s->lane_count[RINGX_COMM_LANE], sizeof *f->places);
    if (!f->word || !f->arrival || !f->live || !f->key || !f->places)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to make one kernel of %zu steps", s->n_steps);
    if (!assign_words(p))
        return RINGX_OK;
    ringx_run query[RINGX_MAX_RUNS];
    int count = ringx__layout_runs(s->geometry.layout, s->geometry.rank, query);
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += live_of(s, &query[i], f->live + n);
    keep_exchanges(p, f);
    return RINGX_OK;
}

void ringx__fusion_free(ringx_fusion *f)
{
    free(f->word);
    free(f->arrival);
    free(f->live);
    free(f->key);
    free(f->places);
}

static bool all_direct(const ringx_execution *e)
{
    const ringx_schedule *s = &e->program->schedule;
    for (uint32_t i = 0; i < s->n_steps; i++)
        if (s->steps[i].op == RINGX_PACK && !ringx__step_sent_directly(e, i))
            return false;
    return true;
}

bool ringx__fuses(const ringx_execution *e)
{
    const ringx_plan *plan = e->plan;
    ringx_job *job = &e->program->fusion.job;
    if (!e->program->fusion.words || !plan->peer || !ringx__peer_runs_beside(plan->data, plan->stream) ||
        !all_direct(e))
        return false;
    ringx__fused_job(e, job);
    return plan->choice.kernel->awaits_keys(job);
}
