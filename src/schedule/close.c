/* SPDX-License-Identifier: MIT */
/* Closing a schedule: the order of each lane, the place of each buffer, every wait between the lanes.
 *
 * Conflicts are found on addresses, in program order: two accesses of overlapping bytes of which one writes.  The later
 * one must run after the earlier one: within a lane its place must be higher, across lanes it waits.  Since lanes run
 * in order, one number a step is enough: how many steps of the other lane must be done. */
#include <stdlib.h>
#include <string.h>

#include "schedule/schedule.h"

/* ---- lane order ---- */

typedef struct ringx_rank_key {
    int64_t key;
    int32_t shift;
    uint32_t step;
} rank_key;

static int by_key(const void *a, const void *b)
{
    const rank_key *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->shift != y->shift)
        return x->shift < y->shift ? -1 : 1;
    return x->step < y->step ? -1 : x->step > y->step;
}

static ringx_status order_lanes(ringx_schedule *s)
{
    rank_key *keys = malloc((s->n_steps + 1) * sizeof *keys);
    if (!keys)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to order %zu steps", s->n_steps);
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        size_t n = 0;
        for (size_t i = 0; i < s->n_steps; i++)
            if (s->steps[i].lane == lane)
                keys[n++] = (rank_key){.key = s->steps[i].stage + (int64_t)s->steps[i].shift * s->geometry.lookahead,
                                       .shift = s->steps[i].shift,
                                       .step = (uint32_t)i};
        qsort(keys, n, sizeof *keys, by_key);
        s->lane_step[lane] = malloc((n + 1) * sizeof(uint32_t));
        s->lane_wait[lane] = calloc(n + 1, sizeof(uint32_t));
        s->lane_count[lane] = n;
        if (!s->lane_step[lane] || !s->lane_wait[lane]) {
            free(keys);
            RINGX_FAIL(RINGX_NO_MEMORY, "no memory to order %zu steps", n);
        }
        for (size_t i = 0; i < n; i++) {
            s->lane_step[lane][i] = keys[i].step;
            s->steps[keys[i].step].place = (uint32_t)i;
        }
    }
    free(keys);
    return RINGX_OK;
}

/* ---- placement ---- */

static void place_buffers(ringx_schedule *s)
{
    for (size_t i = 0; i < s->n_operands; i++) {
        const ringx_operand *o = &s->operands[i];
        if (o->buffer < 0)
            continue;
        size_t end = (size_t)(o->offset + o->bytes);
        if (end > s->buffers[o->buffer].bytes)
            s->buffers[o->buffer].bytes = end;
    }
    size_t at = 0;
    for (size_t i = 0; i < s->n_buffers; i++) {
        s->buffers[i].offset = at;
        at += s->buffers[i].bytes;
    }
    s->workspace_bytes = at;
}

/* ---- waits ---- */

typedef struct ringx_access { /* the latest access (by place) of one lane in one mode to one interval */
    int64_t lo, hi;
    uint32_t place;
    uint8_t lane;
    bool writes;
} access_record;

typedef struct ringx_history { /* of one buffer: records sorted by lo */
    access_record *record;
    size_t count, cap;
    int64_t longest;
} history;

static size_t lower_bound(const history *h, int64_t lo)
{
    size_t a = 0, b = h->count;
    while (a < b) {
        size_t m = a + (b - a) / 2;
        if (h->record[m].lo < lo)
            a = m + 1;
        else
            b = m;
    }
    return a;
}

static bool insert(history *h, access_record new)
{
    if (h->count == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 8;
        access_record *bigger = realloc(h->record, cap * sizeof *bigger);
        if (!bigger)
            return false;
        h->record = bigger;
        h->cap = cap;
    }
    size_t at = lower_bound(h, new.lo);
    memmove(&h->record[at + 1], &h->record[at], (h->count - at) * sizeof *h->record);
    h->record[at] = new;
    h->count++;
    if (new.hi - new.lo > h->longest)
        h->longest = new.hi - new.lo;
    return true;
}

/* What an access must come after: for each lane one more than the highest conflicting place. */
typedef struct ringx_after {
    uint32_t lane[RINGX_LANES];
} after;

static void collect(const history *h, int64_t lo, int64_t hi, bool writes, after *must)
{
    for (size_t i = lower_bound(h, lo - h->longest); i < h->count && h->record[i].lo < hi; i++) {
        const access_record *r = &h->record[i];
        if (r->hi > lo && (writes || r->writes) && r->place + 1 > must->lane[r->lane])
            must->lane[r->lane] = r->place + 1;
    }
}

/* Records an access.  A write hides all records inside it (whoever comes later waits for the write, which waited for
 * them); a read of the same interval in the same lane replaces the earlier one. */
static bool note(history *h, const access_record *new)
{
    size_t i = lower_bound(h, new->lo - h->longest), kept = i;
    for (; i < h->count && h->record[i].lo < new->hi; i++) {
        const access_record *r = &h->record[i];
        bool inside = r->lo >= new->lo && r->hi <= new->hi;
        bool same = r->lo == new->lo && r->hi == new->hi && r->lane == new->lane && !r->writes;
        bool drop = new->writes ? inside : same && r->place <= new->place;
        if (!drop)
            h->record[kept++] = *r;
    }
    if (kept < i) {
        memmove(&h->record[kept], &h->record[i], (h->count - i) * sizeof *h->record);
        h->count -= i - kept;
    }
    return insert(h, *new);
}

static history *history_of(history *all, const ringx_schedule *s, const ringx_operand *o)
{
    return o->buffer >= 0 ? &all[o->buffer] : &all[s->n_buffers + o->kind];
}

static ringx_status infer_step(ringx_schedule *s, size_t i, history *all)
{
    ringx_step *step = &s->steps[i];
    after must = {{0, 0}};
    for (uint32_t j = 0; j < step->operands; j++) {
        const ringx_operand *o = &s->operands[step->operand + j];
        if (o->bytes > 0)
            collect(history_of(all, s, o), o->offset, o->offset + o->bytes, (o->mode & RINGX_OUT_) != 0, &must);
    }
    if (must.lane[step->lane] > step->place) {
        char text[160];
        ringx__step_describe(s, i, text, sizeof text);
        RINGX_FAIL(RINGX_INTERNAL, "%s would run before a step it depends on: its stage or shift is wrong", text);
    }
    step->wait = must.lane[1 - step->lane];
    s->lane_wait[step->lane][step->place] = step->wait;
    for (uint32_t j = 0; j < step->operands; j++) {
        const ringx_operand *o = &s->operands[step->operand + j];
        access_record record = {o->offset, o->offset + o->bytes, step->place, step->lane, (o->mode & RINGX_OUT_) != 0};
        if (o->bytes > 0 && !note(history_of(all, s, o), &record))
            RINGX_FAIL(RINGX_NO_MEMORY, "no memory to infer the waits of %zu steps", s->n_steps);
    }
    return RINGX_OK;
}

static ringx_status infer_waits(ringx_schedule *s)
{
    size_t n = s->n_buffers + RINGX_KINDS;
    history *all = calloc(n, sizeof *all);
    if (!all)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to infer the waits of %zu steps", s->n_steps);
    ringx_status status = RINGX_OK;
    for (size_t i = 0; i < s->n_steps && status == RINGX_OK; i++)
        status = infer_step(s, i, all);
    for (size_t i = 0; i < n; i++)
        free(all[i].record);
    free(all);
    return status;
}

/* The two lanes can always go on: walk them, each as far as its waits allow. */
static ringx_status check_progress(const ringx_schedule *s)
{
    size_t done[RINGX_LANES] = {0, 0};
    for (bool moved = true; moved;) {
        moved = false;
        for (int lane = 0; lane < RINGX_LANES; lane++)
            while (done[lane] < s->lane_count[lane] && s->lane_wait[lane][done[lane]] <= done[1 - lane]) {
                done[lane]++;
                moved = true;
            }
    }
    for (int lane = 0; lane < RINGX_LANES; lane++)
        if (done[lane] < s->lane_count[lane]) {
            char text[160];
            ringx__step_describe(s, s->lane_step[lane][done[lane]], text, sizeof text);
            RINGX_FAIL(RINGX_INTERNAL, "the two lanes wait for each other at %s", text);
        }
    return RINGX_OK;
}

ringx_status ringx__schedule_close(ringx_schedule *s)
{
    place_buffers(s);
    RINGX_TRY(order_lanes(s));
    RINGX_TRY(infer_waits(s));
    return check_progress(s);
}
