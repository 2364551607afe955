/* SPDX-License-Identifier: MIT */
/* Programs: a schedule with everything its execution needs, allocated once. */
#include <stdlib.h>
#include <string.h>

#include "api/plan.h"

static int runs_of(const ringx_schedule *s, const ringx_operand *o, ringx_run runs[RINGX_MAX_RUNS])
{
    return ringx__layout_runs(s->geometry.layout, o->owner, runs);
}

static bool is_query(const ringx_operand *o)
{
    return o->kind == RINGX_Q || o->kind == RINGX_QDO;
}

/* Counts the runs of a step's queries and keys. */
static void count_runs(const ringx_schedule *s, const ringx_step *step, size_t *queries, size_t *keys)
{
    *queries = *keys = 0;
    for (uint32_t j = 0; j < step->operands; j++) {
        const ringx_operand *o = &s->operands[step->operand + j];
        ringx_run runs[RINGX_MAX_RUNS];
        if (is_query(o))
            *queries += (size_t)runs_of(s, o, runs);
        else if (o->kind == RINGX_KV)
            *keys += (size_t)runs_of(s, o, runs);
    }
}

static bool tiled(const ringx_step *step)
{
    return step->op == RINGX_ATTEND || step->op == RINGX_GRAD;
}

static bool live_pairs(const ringx_schedule *s, const ringx_step *step, uint8_t *live)
{
    bool any = false;
    size_t n = 0;
    for (uint32_t i = 0; i < step->operands; i++) {
        const ringx_operand *q = &s->operands[step->operand + i];
        ringx_run query[RINGX_MAX_RUNS], key[RINGX_MAX_RUNS];
        int nq = is_query(q) ? runs_of(s, q, query) : 0;
        for (int a = 0; a < nq; a++)
            for (uint32_t j = 0; j < step->operands; j++) {
                const ringx_operand *k = &s->operands[step->operand + j];
                int nk = k->kind == RINGX_KV ? runs_of(s, k, key) : 0;
                for (int b = 0; b < nk; b++) {
                    live[n] = ringx__mask_live(&s->geometry.shape->mask, &query[a], &key[b]);
                    any |= live[n++];
                }
            }
    }
    return any;
}

static void *room(size_t count, size_t element)
{
    return calloc(count ? count : 1, element);
}

/* Clears and stores of dK,dV that grads do themselves. */
static void leave_out(ringx_program *p)
{
    const ringx_schedule *s = &p->schedule;
    for (size_t i = 0; i < s->n_steps; i++) {
        const ringx_operand *begun = ringx__clear_left_out(s, i), *ended = ringx__store_left_out(s, i);
        p->needless[i] = begun || ended;
        if (begun)
            p->fresh[begun - s->operands] = true;
        if (ended)
            p->ends[ended - s->operands] = s->steps[i].operand + 1;
    }
}

/* Does this step send just this block? */
static bool sends(const ringx_schedule *s, const ringx_step *step, const ringx_operand *block)
{
    const ringx_operand *o = &s->operands[step->operand];
    uint32_t in = 0;
    if (step->op != RINGX_BROADCAST && step->op != RINGX_EXCHANGE && step->op != RINGX_ALLGATHER)
        return false;
    for (uint32_t j = 0; j < step->operands; j++)
        in += o[j].mode == RINGX_IN;
    return in == 1 && o->mode == RINGX_IN && ringx__same_place(o, block);
}

/* Is the block, from this step on, only sent until something else is written there?  Notes who sends it. */
static uint8_t only_sent(ringx_program *p, size_t pack, const ringx_operand *block, size_t from, int depth)
{
    const ringx_schedule *s = &p->schedule;
    uint8_t how = 1;
    for (size_t i = from; i < s->n_steps; i++) {
        const ringx_step *step = &s->steps[i];
        bool sent = depth == 0 && sends(s, step, block), over = false;
        for (uint32_t j = 0; j < step->operands; j++) {
            const ringx_operand *o = &s->operands[step->operand + j];
            if (sent && step->op == RINGX_ALLGATHER && j > 0 && o->owner == s->geometry.rank) {
                if (!only_sent(p, pack, o, i + 1, 1)) /* the copy among the others' */
                    return 0;
            } else if (ringx__overlap(o, block) && !(sent && j == 0)) {
                if (o->mode != RINGX_OUT_)
                    return 0;
                over = true; /* the slot has its next use */
            }
        }
        if (over)
            return how;
        if (sent) {
            p->sends[i] = (uint32_t)pack + 1;
            how = step->op == RINGX_BROADCAST ? 2 : how;
        }
    }
    return how;
}

/* Packs that need not be run where blocks can be sent from the caller's tensors. */
static void find_sent(ringx_program *p)
{
    const ringx_schedule *s = &p->schedule;
    for (size_t i = 0; i < s->n_steps; i++) {
        const ringx_step *step = &s->steps[i];
        const ringx_operand *to = &s->operands[step->operand + step->operands - 1];
        if (step->op == RINGX_PACK)
            p->sent_only[i] = only_sent(p, i, to, i + 1, 0);
    }
    for (size_t i = 0; i < s->n_steps; i++)
        if (p->sends[i] && !p->sent_only[p->sends[i] - 1])
            p->sends[i] = 0;
}

ringx_status ringx__program_prepare(ringx_program *p, bool timeline)
{
    const ringx_schedule *s = &p->schedule;
    size_t most_queries = 0, most_keys = 0, pairs = 0, most_operands = 0;
    p->pairs = room(s->n_steps, sizeof *p->pairs);
    for (size_t i = 0; i < s->n_steps && p->pairs; i++) {
        const ringx_step *step = &s->steps[i];
        size_t queries, keys;
        most_operands = step->operands > most_operands ? step->operands : most_operands;
        if (!tiled(step))
            continue;
        count_runs(s, step, &queries, &keys);
        if (pairs + queries * keys > UINT32_MAX)
            RINGX_FAIL(RINGX_UNSUPPORTED, "a schedule has more than %u pairs of token runs; use fewer slices",
                       UINT32_MAX);
        p->pairs[i] = (ringx_pairs){.first = (uint32_t)pairs, .queries = (uint32_t)queries, .keys = (uint32_t)keys};
        pairs += queries * keys;
        most_queries = queries > most_queries ? queries : most_queries;
        most_keys = keys > most_keys ? keys : most_keys;
    }
    p->live = room(pairs, 1);
    p->fresh = room(s->n_operands, 1);
    p->ends = room(s->n_operands, sizeof *p->ends);
    p->needless = room(s->n_steps, 1);
    p->query = room(most_queries, sizeof *p->query);
    p->key = room(2 * most_keys, sizeof *p->key); /* of two steps, if they are one launch */
    p->bytes = room(most_operands, sizeof *p->bytes);
    p->offsets = room(most_operands, sizeof *p->offsets);
    p->message = room(most_operands, sizeof *p->message);
    p->sent_only = room(s->n_steps, 1);
    p->sends = room(s->n_steps, sizeof *p->sends);
    p->piece = room(4 * (size_t)s->geometry.shape->batch, sizeof *p->piece);
    p->stamps = timeline ? room(s->n_steps, sizeof *p->stamps) : NULL;
    if (!p->pairs || !p->live || !p->fresh || !p->ends || !p->needless || !p->query || !p->key || !p->bytes ||
        !p->offsets || !p->message || !p->sent_only || !p->sends || !p->piece || (timeline && !p->stamps))
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to prepare %zu steps and %zu pairs", s->n_steps, pairs);
    for (size_t i = 0; i < s->n_steps; i++)
        if (tiled(&s->steps[i]))
            p->pairs[i].any = live_pairs(s, &s->steps[i], p->live + p->pairs[i].first);
    leave_out(p);
    find_sent(p);
    RINGX_TRY(ringx__track_prepare(p));
    RINGX_TRY(ringx__fusion_prepare(p));
    RINGX_TRY(ringx__early_prepare(p));
    p->traffic = ringx__schedule_traffic(s);
    return RINGX_OK;
}

void ringx__program_free(ringx_program *p)
{
    ringx__schedule_free(&p->schedule);
    ringx__fusion_free(&p->fusion);
    ringx__early_free(&p->early);
    free(p->places);
    free(p->awaited);
    free(p->pairs);
    free(p->live);
    free(p->fresh);
    free(p->ends);
    free(p->needless);
    free(p->query);
    free(p->key);
    free(p->bytes);
    free(p->offsets);
    free(p->message);
    free(p->sent_only);
    free(p->sends);
    free(p->piece);
    free(p->stamps);
    memset(p, 0, sizeof *p);
}
