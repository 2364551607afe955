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

/* Is a pass nothing but attends that each need one exchange more, and transfers that wait for none of them? */
static bool can_fuse(const ringx_schedule *s)
{
    const size_t attends = s->lane_count[RINGX_COMPUTE_LANE];
    if (!s->geometry.awaits || attends == 0 || attends > RINGX_ARRIVALS)
        return false;
    for (size_t i = 0; i < attends; i++) {
        const ringx_step *step = &s->steps[s->lane_step[RINGX_COMPUTE_LANE][i]];
        uint32_t before = i ? s->lane_wait[RINGX_COMPUTE_LANE][i - 1] : 0;
        if (step->op != RINGX_ATTEND || !step->fresh || !step->final || step->wait <= before)
            return false;
        if (s->steps[s->lane_step[RINGX_COMM_LANE][step->wait - 1]].op != RINGX_EXCHANGE)
            return false;
    }
    for (size_t i = 0; i < s->lane_count[RINGX_COMM_LANE]; i++) {
        uint8_t op = s->steps[s->lane_step[RINGX_COMM_LANE][i]].op;
        if (s->lane_wait[RINGX_COMM_LANE][i] > 0 || (op != RINGX_EXCHANGE && op != RINGX_PACK))
            return false;
    }
    return true;
}

/* A query run sees a key run: of own keys, then of the keys of each attend. */
static size_t live_of(const ringx_schedule *s, const ringx_run *query, uint8_t *live)
{
    const ringx_geometry *g = &s->geometry;
    size_t n = 0;
    for (size_t i = 0; i <= s->lane_count[RINGX_COMPUTE_LANE]; i++) {
        ringx_run key[RINGX_MAX_RUNS];
        int count = ringx__layout_runs(g->layout, i == 0 ? g->rank : 1 - g->rank, key);
        for (int j = 0; j < count; j++)
            live[n++] = ringx__mask_live(&g->shape->mask, query, &key[j]);
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
    const size_t attends = s->lane_count[RINGX_COMPUTE_LANE];
    if (!can_fuse(s))
        return RINGX_OK;
    size_t runs = (attends + 1) * RINGX_MAX_RUNS;
    f->word = calloc(s->n_steps, sizeof *f->word);
    f->live = calloc(RINGX_MAX_RUNS * runs, 1);
    f->key = calloc(runs, sizeof *f->key);
    f->places = calloc(2 * s->lane_count[RINGX_COMM_LANE], sizeof *f->places);
    if (!f->word || !f->live || !f->key || !f->places)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to fuse %zu steps", attends);
    for (size_t i = 0; i < attends; i++) {
        uint32_t wait = s->lane_wait[RINGX_COMPUTE_LANE][i];
        f->word[s->lane_step[RINGX_COMM_LANE][wait - 1]] = (uint8_t)(i + 1);
    }
    ringx_run query[RINGX_MAX_RUNS];
    int count = ringx__layout_runs(s->geometry.layout, s->geometry.rank, query);
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += live_of(s, &query[i], f->live + n);
    keep_exchanges(p, f);
    f->words = attends;
    return RINGX_OK;
}

void ringx__fusion_free(ringx_fusion *f)
{
    free(f->word);
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
