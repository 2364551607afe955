/* SPDX-License-Identifier: MIT */
/* The proof: all ranks' schedules of one direction, walked together on paper.
 *
 * Static, rank by rank (prove_order.c): operands lie in their buffers and the workspace; every pair of conflicting
 * accesses is ordered by lanes and waits, in program order.  Hence any order that lanes and waits allow reads and
 * writes the same, and one walk stands for all of them: collectives and messages match (engine.c, prove_groups.c),
 * every block that is read is there and whole, and every result contains each (query, key) pair exactly once when it
 * reaches its owner (prove_steps.c). */
#include "schedule/prove.h"

#include <inttypes.h>
#include <stdlib.h>

/* splitmix64 (Steele, Lea, Flood 2014), as an element of the field other than 0 */
static uint64_t random_element(uint64_t *state)
{
    *state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (z ^ z >> 31) % (RINGX_PRIME - 1) + 1;
}

static void free_prover(ringx_prover *p)
{
    ringx__engine_destroy(p->engine);
    for (int rank = 0; p->papers && rank < p->ranks; rank++) {
        free(p->papers[rank].boundary);
        free(p->papers[rank].cell);
    }
    free(p->papers);
    free(p->tokens);
    free(p->query_tag);
    free(p->key_tag);
    free(p->head_tag);
    free(p->written);
}

static ringx_status make_prover(ringx_prover *p)
{
    size_t n = (size_t)p->ranks, q_heads = (size_t)p->shape->q_heads, heads = q_heads + (size_t)p->shape->kv_heads;
    p->tokens = calloc(n, sizeof *p->tokens);
    p->query_tag = calloc(n, sizeof *p->query_tag);
    p->key_tag = calloc(n, sizeof *p->key_tag);
    p->head_tag = calloc(q_heads + 1, sizeof *p->head_tag);
    p->papers = calloc(n, sizeof *p->papers);
    p->written = calloc(n, heads);
    if (!p->tokens || !p->query_tag || !p->key_tag || !p->head_tag || !p->papers || !p->written)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to prove the schedules of %d ranks with %zu heads", p->ranks, heads);
    uint64_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        p->tokens[i] = ringx__layout_count(p->schedules[0]->geometry.layout, (int)i);
        if (p->tokens[i] == 0)
            continue;
        p->query_tag[i] = random_element(&seed);
        p->key_tag[i] = random_element(&seed);
        p->all_queries = ringx__field_add(p->all_queries, p->query_tag[i]);
        p->all_keys = ringx__field_add(p->all_keys, p->key_tag[i]);
    }
    for (size_t h = 0; h < q_heads; h++)
        p->head_tag[h + 1] = ringx__field_add(p->head_tag[h], random_element(&seed));
    return RINGX_OK;
}

static ringx_status met(void *context, const ringx_meeting *meeting)
{
    return ringx__prove_message(context, meeting);
}

/* Counts the steps of an action and reports them done. */
static void done(ringx_prover *p, const ringx_action *action)
{
    if (action->kind != RINGX_COLLECTIVE) {
        ringx__engine_done(p->engine, action->rank, action->lane);
        p->proof->steps++;
        p->proof->transfers += action->kind == RINGX_EXCHANGED;
        return;
    }
    for (int i = 0; i < action->count; i++)
        ringx__engine_done(p->engine, action->members ? action->members[i] : i, RINGX_COMM_LANE);
    p->proof->steps += (uint64_t)action->count;
    p->proof->transfers += (uint64_t)action->count;
}

static ringx_status walk(ringx_prover *p)
{
    for (;;) {
        ringx_action action;
        RINGX_TRY(ringx__engine_next(p->engine, &action));
        if (action.kind == RINGX_NOTHING)
            return ringx__engine_finished(p->engine);
        if (action.kind == RINGX_LOCAL)
            RINGX_TRY(ringx__prove_local(p, action.rank, action.step));
        if (action.kind == RINGX_COLLECTIVE)
            RINGX_TRY(ringx__prove_collective(p, &action));
        done(p, &action);
    }
}

/* Every head of every result of every rank that has tokens has been delivered. */
static ringx_status check_delivered(const ringx_prover *p)
{
    size_t q_heads = (size_t)p->shape->q_heads, all = q_heads + (size_t)p->shape->kv_heads;
    for (int rank = 0; rank < p->ranks; rank++) {
        if (p->tokens[rank] == 0 || p->shape->batch == 0)
            continue;
        const uint8_t *written = &p->written[(size_t)rank * all];
        for (size_t h = 0; h < (p->backward ? all : q_heads); h++)
            if (!written[h])
                RINGX_FAIL(RINGX_INTERNAL, "%s: %s of head %zu of rank %d is never delivered",
                           p->backward ? "backward" : "forward",
                           !p->backward  ? "out"
                           : h < q_heads ? "dQ"
                                         : "dK,dV",
                           h < q_heads ? h : h - q_heads, rank);
    }
    return RINGX_OK;
}

static ringx_status check_shapes(const ringx_prover *p)
{
    const ringx_geometry *first = &p->schedules[0]->geometry;
    for (int rank = 0; rank < p->ranks; rank++) {
        const ringx_geometry *g = &p->schedules[rank]->geometry;
        if (g->shape != first->shape || g->layout->id != first->layout->id ||
            g->layout->tokens != first->layout->tokens || g->layout->ranks != p->ranks)
            RINGX_FAIL(RINGX_INTERNAL, "the schedules of ranks 0 and %d are of different problems or layouts", rank);
        if (p->schedules[rank]->workspace_bytes > p->proof->workspace_bytes)
            p->proof->workspace_bytes = p->schedules[rank]->workspace_bytes;
    }
    return RINGX_OK;
}

static ringx_status prove(ringx_prover *p)
{
    ringx_engine_client client = {.context = p, .met = met};
    RINGX_TRY(check_shapes(p));
    RINGX_TRY(make_prover(p));
    RINGX_TRY(ringx__engine_create(&p->engine, p->schedules, p->ranks, &client));
    for (int rank = 0; rank < p->ranks; rank++)
        RINGX_TRY(ringx__prove_order(p, rank));
    RINGX_TRY(walk(p));
    return check_delivered(p);
}

ringx_status ringx__prove(const ringx_schedule *const *schedules, int ranks, ringx_proof *proof)
{
    *proof = (ringx_proof){.steps = 0};
    if (ranks < 1)
        RINGX_FAIL(RINGX_INVALID, "ranks is %d; it must be at least 1", ranks);
    ringx_prover p = {.schedules = schedules,
                      .ranks = ranks,
                      .backward = schedules[0]->backward,
                      .shape = schedules[0]->geometry.shape,
                      .proof = proof};
    ringx_status status = prove(&p);
    free_prover(&p);
    return status;
}
