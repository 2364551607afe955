/* SPDX-License-Identifier: MIT */
/* Event-driven walk of the schedules of all ranks: lane cursors, arrivals of groups, queues of messages. */
#include "schedule/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE (-1)

typedef struct ringx_waiting { /* a message that waits for its counterpart */
    int32_t rank, next;
    uint32_t step, operand;
} waiting;

typedef struct ringx_pair { /* an ordered pair of ranks and its queue; from < 0: empty place of the table */
    int32_t from, to;
    int32_t first, last;
    bool sends; /* the queued messages are sends */
} pair;

struct ringx_engine {
    const ringx_schedule *const *schedules;
    int ranks;
    const ringx_engine_client *client;
    uint32_t *cursor; /* [rank][lane]: steps done */
    bool *busy;       /* [rank][lane]: the step at the cursor has started */
    int32_t *arrived; /* [1 + RINGX_MAX_GROUPS·ranks]: members of a group at its next collective */
    uint32_t *unmet;  /* [rank]: messages of the current exchange that have not met */
    int32_t *look;    /* lanes (2·rank + lane) to look at, a queue of at most 2·ranks */
    bool *looking;    /* [rank][lane]: is in it */
    size_t look_first, look_count;
    int32_t *met; /* ranks whose exchange has met, a queue of at most ranks */
    size_t met_first, met_count;
    pair *pairs; /* open addressing */
    size_t n_pairs, pairs_cap;
    waiting *messages;
    size_t messages_cap;
    int32_t free_message; /* chain */
};

ringx_status ringx__step_fail(const ringx_schedule *s, uint32_t step, const char *format, ...)
{
    char text[192], reason[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    ringx__step_describe(s, step, text, sizeof text);
    RINGX_FAIL(RINGX_INTERNAL, "rank %d, %s: %s", s->geometry.rank, text, reason);
}

/* ---- what can be checked before the walk ---- */

static ringx_status check_groups(const ringx_schedule *const *schedules, int ranks, int rank)
{
    const ringx_schedule *s = schedules[rank];
    if (s->n_groups < 0 || s->n_groups > RINGX_MAX_GROUPS)
        RINGX_FAIL(RINGX_INTERNAL, "rank %d has %d groups; at most %d are possible", rank, s->n_groups,
                   RINGX_MAX_GROUPS);
    for (int g = 0; g < s->n_groups; g++) {
        const ringx_members *m = &s->groups[g];
        bool listed = false;
        for (int32_t i = 0; i < m->count; i++) {
            if (m->ranks[i] < 0 || m->ranks[i] >= ranks)
                RINGX_FAIL(RINGX_INTERNAL, "rank %d: group %d lists rank %d of %d", rank, g, m->ranks[i], ranks);
            listed = listed || m->ranks[i] == rank;
        }
        if (!listed)
            RINGX_FAIL(RINGX_INTERNAL, "rank %d is not in its own group %d", rank, g);
        const ringx_schedule *first = schedules[m->ranks[0]];
        if (g >= first->n_groups || first->groups[g].count != m->count ||
            memcmp(first->groups[g].ranks, m->ranks, (size_t)m->count * sizeof *m->ranks) != 0)
            RINGX_FAIL(RINGX_INTERNAL, "ranks %d and %d disagree on the members of group %d", m->ranks[0], rank, g);
    }
    return RINGX_OK;
}

/* Every step is in its own lane exactly once, where its place says, and waits for no more steps than there are. */
static ringx_status check_lanes(const ringx_schedule *s)
{
    size_t listed = 0;
    for (int lane = 0; lane < RINGX_LANES; lane++)
        for (size_t i = 0; i < s->lane_count[lane]; i++, listed++) {
            uint32_t number = s->lane_step[lane][i];
            if (number >= s->n_steps)
                RINGX_FAIL(RINGX_INTERNAL, "rank %d: lane %d lists step %u of %zu", s->geometry.rank, lane, number,
                           s->n_steps);
            const ringx_step *step = &s->steps[number];
            int own;
            if (!ringx__lane_of((ringx_op)step->op, &own) || own != lane || step->lane != lane || step->place != i)
                return ringx__step_fail(s, number, "it is listed at place %zu of lane %d, but belongs at %u of %d", i,
                                        lane, step->place, (int)step->lane);
            if (s->lane_wait[lane][i] != step->wait || step->wait > s->lane_count[1 - lane])
                return ringx__step_fail(s, number, "it waits for %u (or %u) of %zu steps of the other lane",
                                        s->lane_wait[lane][i], step->wait, s->lane_count[1 - lane]);
        }
    if (listed != s->n_steps)
        RINGX_FAIL(RINGX_INTERNAL, "rank %d: the lanes list %zu of %zu steps", s->geometry.rank, listed, s->n_steps);
    return RINGX_OK;
}

static ringx_status check_schedules(const ringx_schedule *const *schedules, int ranks)
{
    for (int rank = 0; rank < ranks; rank++) {
        const ringx_schedule *s = schedules[rank];
        if (s->geometry.rank != rank || s->geometry.ranks != ranks)
            RINGX_FAIL(RINGX_INTERNAL, "schedule %d of %d is of rank %d of %d", rank, ranks, s->geometry.rank,
                       s->geometry.ranks);
        if (s->backward != schedules[0]->backward)
            RINGX_FAIL(RINGX_INTERNAL, "ranks 0 and %d have schedules of different directions", rank);
        RINGX_TRY(check_groups(schedules, ranks, rank));
        RINGX_TRY(check_lanes(s));
    }
    return RINGX_OK;
}

/* ---- making ---- */

ringx_status ringx__engine_create(ringx_engine **engine, const ringx_schedule *const *schedules, int ranks,
                                  const ringx_engine_client *client)
{
    *engine = NULL;
    RINGX_TRY(check_schedules(schedules, ranks));
    size_t n = (size_t)ranks, lanes = n * RINGX_LANES;
    ringx_engine *e = calloc(1, sizeof *e);
    if (!e)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to walk the schedules of %d ranks", ranks);
    e->schedules = schedules;
    e->ranks = ranks;
    e->client = client;
    e->free_message = NONE;
    e->cursor = calloc(lanes, sizeof *e->cursor);
    e->busy = calloc(lanes, sizeof *e->busy);
    e->arrived = calloc(1 + RINGX_MAX_GROUPS * n, sizeof *e->arrived);
    e->unmet = calloc(n, sizeof *e->unmet);
    e->look = calloc(lanes, sizeof *e->look);
    e->looking = calloc(lanes, sizeof *e->looking);
    e->met = calloc(n, sizeof *e->met);
    if (!e->cursor || !e->busy || !e->arrived || !e->unmet || !e->look || !e->looking || !e->met) {
        ringx__engine_destroy(e);
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to walk the schedules of %d ranks", ranks);
    }
    for (size_t i = 0; i < lanes; i++) {
        e->look[i] = (int32_t)i;
        e->looking[i] = true;
    }
    e->look_count = lanes;
    *engine = e;
    return RINGX_OK;
}

void ringx__engine_destroy(ringx_engine *e)
{
    if (!e)
        return;
    free(e->cursor);
    free(e->busy);
    free(e->arrived);
    free(e->unmet);
    free(e->look);
    free(e->looking);
    free(e->met);
    free(e->pairs);
    free(e->messages);
    free(e);
}

/* ---- messages ---- */

static size_t pair_place(const pair *pairs, size_t cap, int32_t from, int32_t to)
{
    uint64_t hash = ((uint64_t)(uint32_t)from << 32 | (uint32_t)to) * UINT64_C(0x9E3779B97F4A7C15);
    size_t at = (size_t)(hash >> 20) & (cap - 1);
    while (pairs[at].from >= 0 && (pairs[at].from != from || pairs[at].to != to))
        at = (at + 1) & (cap - 1);
    return at;
}

static ringx_status grow_pairs(ringx_engine *e)
{
    size_t cap = e->pairs_cap ? e->pairs_cap * 2 : 1024;
    pair *bigger = malloc(cap * sizeof *bigger);
    if (!bigger)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the messages of %zu pairs of ranks", cap);
    for (size_t i = 0; i < cap; i++)
        bigger[i].from = NONE;
    for (size_t i = 0; i < e->pairs_cap; i++)
        if (e->pairs[i].from >= 0)
            bigger[pair_place(bigger, cap, e->pairs[i].from, e->pairs[i].to)] = e->pairs[i];
    free(e->pairs);
    e->pairs = bigger;
    e->pairs_cap = cap;
    return RINGX_OK;
}

static ringx_status find_pair(ringx_engine *e, int32_t from, int32_t to, pair **found)
{
    if (2 * e->n_pairs >= e->pairs_cap)
        RINGX_TRY(grow_pairs(e));
    pair *p = &e->pairs[pair_place(e->pairs, e->pairs_cap, from, to)];
    if (p->from < 0) {
        *p = (pair){.from = from, .to = to, .first = NONE, .last = NONE};
        e->n_pairs++;
    }
    *found = p;
    return RINGX_OK;
}

static ringx_status new_message(ringx_engine *e, int32_t *index)
{
    if (e->free_message == NONE) {
        size_t cap = e->messages_cap ? e->messages_cap * 2 : 1024;
        waiting *bigger = cap > INT32_MAX ? NULL : realloc(e->messages, cap * sizeof *bigger);
        if (!bigger)
            RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu messages under way", cap);
        for (size_t i = e->messages_cap; i < cap; i++)
            bigger[i].next = i + 1 < cap ? (int32_t)(i + 1) : NONE;
        e->free_message = (int32_t)e->messages_cap;
        e->messages = bigger;
        e->messages_cap = cap;
    }
    *index = e->free_message;
    e->free_message = e->messages[*index].next;
    return RINGX_OK;
}

static void exchange_met(ringx_engine *e, int rank)
{
    e->met[(e->met_first + e->met_count++) % (size_t)e->ranks] = rank;
}

/* Posts one message: it meets the first waiting counterpart, or waits itself. */
static ringx_status post(ringx_engine *e, int rank, uint32_t step, uint32_t operand)
{
    const ringx_operand *o = &e->schedules[rank]->operands[operand];
    bool send = o->mode == RINGX_IN;
    pair *p;
    RINGX_TRY(find_pair(e, send ? rank : o->peer, send ? o->peer : rank, &p));
    if (p->first == NONE || p->sends == send) {
        int32_t m = NONE;
        RINGX_TRY(new_message(e, &m));
        e->messages[m] = (waiting){.rank = rank, .next = NONE, .step = step, .operand = operand};
        if (p->first == NONE)
            p->first = m;
        else
            e->messages[p->last].next = m;
        p->last = m;
        p->sends = send;
        e->unmet[rank]++;
        return RINGX_OK;
    }
    int32_t m = p->first;
    waiting other = e->messages[m];
    p->first = other.next;
    e->messages[m].next = e->free_message;
    e->free_message = m;
    if (--e->unmet[other.rank] == 0 && other.rank != rank)
        exchange_met(e, other.rank);
    if (!e->client->met)
        return RINGX_OK;
    ringx_meeting meeting = {send ? rank : other.rank, send ? other.rank : rank,       send ? step : other.step,
                             send ? other.step : step, send ? operand : other.operand, send ? other.operand : operand};
    return e->client->met(e->client->context, &meeting);
}

static ringx_status post_all(ringx_engine *e, int rank, uint32_t number)
{
    const ringx_schedule *s = e->schedules[rank];
    const ringx_step *step = &s->steps[number];
    /* One more than the messages, so that the exchange cannot end while it is still being posted. */
    e->unmet[rank] = 1;
    for (uint32_t i = step->operand; i < step->operand + step->operands; i++) {
        const ringx_operand *o = &s->operands[i];
        if (o->peer < 0 || o->peer >= e->ranks)
            return ringx__step_fail(s, number, "its peer is %d; there are %d ranks", o->peer, e->ranks);
        if (o->mode != RINGX_IN && o->mode != RINGX_OUT_)
            return ringx__step_fail(s, number, "a block is neither sent nor received");
        if (o->bytes > 0)
            RINGX_TRY(post(e, rank, number, i));
    }
    if (--e->unmet[rank] == 0)
        exchange_met(e, rank);
    return RINGX_OK;
}

/* ---- the walk ---- */

static void look_at(ringx_engine *e, int rank, int lane)
{
    size_t i = (size_t)rank * RINGX_LANES + (size_t)lane, lanes = (size_t)e->ranks * RINGX_LANES;
    if (e->looking[i])
        return;
    e->looking[i] = true;
    e->look[(e->look_first + e->look_count++) % lanes] = (int32_t)i;
}

static bool is_collective(int op)
{
    return op == RINGX_BROADCAST || op == RINGX_ALLGATHER || op == RINGX_REDUCE || op == RINGX_REDUCE_SCATTER ||
           op == RINGX_ALLREDUCE_MAX;
}

/* A rank has come to a collective: the last member to come sets it going. */
static ringx_status arrive(ringx_engine *e, int rank, uint32_t number, ringx_action *action)
{
    const ringx_schedule *s = e->schedules[rank];
    int group = s->steps[number].group;
    if (group < -1 || group >= s->n_groups)
        return ringx__step_fail(s, number, "its group is %d; the rank has %d", group, s->n_groups);
    const ringx_members *m = group < 0 ? NULL : &s->groups[group];
    size_t instance = m ? 1 + (size_t)group * (size_t)e->ranks + (size_t)m->ranks[0] : 0;
    int count = m ? m->count : e->ranks;
    if (++e->arrived[instance] < count)
        return RINGX_OK;
    e->arrived[instance] = 0;
    *action = (ringx_action){RINGX_COLLECTIVE, rank, RINGX_COMM_LANE, number, m ? m->ranks : NULL, count};
    return RINGX_OK;
}

static ringx_status start(ringx_engine *e, int rank, int lane, ringx_action *action)
{
    const ringx_schedule *s = e->schedules[rank];
    size_t i = (size_t)rank * RINGX_LANES + (size_t)lane, other = (size_t)rank * RINGX_LANES + (size_t)(1 - lane);
    if (e->busy[i] || e->cursor[i] == s->lane_count[lane])
        return RINGX_OK;
    uint32_t number = s->lane_step[lane][e->cursor[i]];
    if (e->cursor[other] <
        (e->client->wait ? e->client->wait(e->client->context, rank, number) : s->steps[number].wait))
        return RINGX_OK;
    e->busy[i] = true;
    if (e->client->started)
        e->client->started(e->client->context, rank, lane, number);
    if (s->steps[number].op == RINGX_EXCHANGE)
        return post_all(e, rank, number);
    if (is_collective(s->steps[number].op))
        return arrive(e, rank, number, action);
    *action = (ringx_action){RINGX_LOCAL, rank, lane, number, NULL, 0};
    return RINGX_OK;
}

ringx_status ringx__engine_next(ringx_engine *e, ringx_action *action)
{
    *action = (ringx_action){.kind = RINGX_NOTHING};
    size_t lanes = (size_t)e->ranks * RINGX_LANES;
    while (action->kind == RINGX_NOTHING) {
        if (e->met_count > 0) {
            int rank = e->met[e->met_first];
            e->met_first = (e->met_first + 1) % (size_t)e->ranks;
            e->met_count--;
            *action = (ringx_action){
                RINGX_EXCHANGED, rank, RINGX_COMM_LANE, ringx__engine_at(e, rank, RINGX_COMM_LANE), NULL, 0};
            return RINGX_OK;
        }
        if (e->look_count == 0)
            return RINGX_OK;
        int32_t i = e->look[e->look_first];
        e->look_first = (e->look_first + 1) % lanes;
        e->look_count--;
        e->looking[i] = false;
        RINGX_TRY(start(e, i / RINGX_LANES, i % RINGX_LANES, action));
    }
    return RINGX_OK;
}

void ringx__engine_done(ringx_engine *e, int rank, int lane)
{
    size_t i = (size_t)rank * RINGX_LANES + (size_t)lane;
    e->cursor[i]++;
    e->busy[i] = false;
    look_at(e, rank, lane);
    look_at(e, rank, 1 - lane);
}

uint32_t ringx__engine_steps(const ringx_engine *e, int rank, int lane)
{
    return e->cursor[(size_t)rank * RINGX_LANES + (size_t)lane];
}

uint32_t ringx__engine_at(const ringx_engine *e, int rank, int lane)
{
    return e->schedules[rank]->lane_step[lane][ringx__engine_steps(e, rank, lane)];
}

ringx_status ringx__engine_finished(const ringx_engine *e)
{
    char text[700];
    size_t at = 0, stuck = 0;
    for (int rank = 0; rank < e->ranks; rank++)
        for (int lane = 0; lane < RINGX_LANES; lane++) {
            size_t i = (size_t)rank * RINGX_LANES + (size_t)lane;
            const ringx_schedule *s = e->schedules[rank];
            if (e->cursor[i] == s->lane_count[lane])
                continue;
            /* A lane that waits for its own rank's other lane is named only if that one has ended. */
            size_t other = (size_t)rank * RINGX_LANES + (size_t)(1 - lane);
            if (!e->busy[i] && e->cursor[other] < s->lane_count[1 - lane])
                continue;
            if (stuck++ >= 4 || at >= sizeof text)
                continue;
            char step[160];
            ringx__step_describe(s, ringx__engine_at(e, rank, lane), step, sizeof step);
            int n = snprintf(text + at, sizeof text - at, "%srank %d in %s", at ? "; " : "", rank, step);
            at += n > 0 ? (size_t)n : 0;
        }
    size_t left = 0;
    for (int rank = 0; rank < e->ranks; rank++)
        for (int lane = 0; lane < RINGX_LANES; lane++)
            left += e->schedules[rank]->lane_count[lane] - e->cursor[(size_t)rank * RINGX_LANES + (size_t)lane];
    if (left == 0)
        return RINGX_OK;
    if (stuck == 0)
        RINGX_FAIL(RINGX_INTERNAL, "deadlock: the two lanes of a rank wait for each other, %zu steps are left", left);
    RINGX_FAIL(RINGX_INTERNAL, "deadlock: %s%s", text, stuck > 4 ? "; and others" : "");
}
