/* SPDX-License-Identifier: MIT */
/* The static half of the proof, rank by rank: operands lie where they may, and conflicting accesses are ordered.
 *
 * Independent of close(): close compares intervals as it infers; here the workspace is cut into cells at every
 * boundary, and a step happens before another if its lane and place say so, or the other lane's waits up to there do.
 */
#include "schedule/prove.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_ALIGNMENT 128

/* ---- operands ---- */

static bool is_kv(int kind)
{
    return kind == RINGX_KV || kind == RINGX_DKV;
}

static ringx_status check_user(const ringx_prover *p, int rank, uint32_t step, const ringx_operand *o)
{
    const ringx_schedule *s = p->schedules[rank];
    const char *kind = ringx__kind_name((ringx_kind)o->kind);
    bool in = o->kind == RINGX_KV || (p->backward ? o->kind == RINGX_QDO || o->kind == RINGX_OUT : o->kind == RINGX_Q);
    bool out = p->backward ? o->kind == RINGX_DQ || o->kind == RINGX_DKV : o->kind == RINGX_OUT;
    if (o->owner != rank)
        return ringx__step_fail(s, step, "it names the caller's %s of rank %d", kind, o->owner);
    if (o->offset != o->head || o->bytes != o->heads)
        return ringx__step_fail(s, step, "it names heads %" PRId64 "+%" PRId64 " and %d+%d of the caller's %s",
                                o->offset, o->bytes, o->head, o->heads, kind);
    if (o->mode == RINGX_IN ? !in : o->mode == RINGX_OUT_ ? !out : true)
        return ringx__step_fail(s, step, "it %s the caller's %s", o->mode == RINGX_IN ? "reads" : "writes", kind);
    return RINGX_OK;
}

/* Narrow images are made, sent, summed on the way, and widened again; nothing computes with them. */
static bool may_be_narrow(int op, const ringx_operand *o)
{
    bool travels = op == RINGX_CONVERT || op == RINGX_EXCHANGE || op == RINGX_REDUCE || op == RINGX_REDUCE_SCATTER;
    bool is_sum = o->kind == RINGX_STATE || o->kind == RINGX_DQ || o->kind == RINGX_DKV;
    return travels && is_sum && o->buffer != RINGX_USER;
}

static ringx_status check_operand(const ringx_prover *p, int rank, uint32_t step, const ringx_operand *o)
{
    const ringx_schedule *s = p->schedules[rank];
    if (o->kind >= RINGX_KINDS || o->mode < RINGX_IN || o->mode > RINGX_INOUT)
        return ringx__step_fail(s, step, "an operand is of kind %d, mode %d", o->kind, o->mode);
    if (o->owner < 0 || o->owner >= p->ranks)
        return ringx__step_fail(s, step, "an operand is of rank %d; there are %d", o->owner, p->ranks);
    int64_t heads = is_kv(o->kind) ? p->shape->kv_heads : p->shape->q_heads;
    if (o->head < 0 || o->heads < 0 || (int64_t)o->head + o->heads > heads)
        return ringx__step_fail(s, step, "an operand has heads %d+%d of %" PRId64, o->head, o->heads, heads);
    if (o->narrow && !may_be_narrow(s->steps[step].op, o))
        return ringx__step_fail(s, step, "it uses a narrow image of %s", ringx__kind_name((ringx_kind)o->kind));
    if (o->buffer == RINGX_USER)
        return check_user(p, rank, step, o);
    if (o->buffer < 0 || (size_t)o->buffer >= s->n_buffers)
        return ringx__step_fail(s, step, "an operand is in buffer %d of %zu", o->buffer, s->n_buffers);
    const ringx_buffer *b = &s->buffers[o->buffer];
    size_t (*bytes_of)(const ringx_shape *, ringx_kind, int64_t, int64_t) =
        o->narrow ? ringx__narrow_bytes : ringx__block_bytes;
    int64_t bytes = (int64_t)bytes_of(p->shape, (ringx_kind)o->kind, p->tokens[o->owner], o->heads);
    if (o->bytes != bytes)
        return ringx__step_fail(s, step, "%s of rank %d, heads %d+%d, is %" PRId64 " bytes; it says %" PRId64,
                                ringx__kind_name((ringx_kind)o->kind), o->owner, o->head, o->heads, bytes, o->bytes);
    if (o->offset < 0 || (size_t)o->offset > b->bytes || (size_t)o->bytes > b->bytes - (size_t)o->offset ||
        b->offset > s->workspace_bytes || b->bytes > s->workspace_bytes - b->offset)
        return ringx__step_fail(s, step,
                                "bytes %" PRId64 "+%" PRId64 " of buffer '%s' (%zu+%zu) are outside the %zu of the"
                                " workspace",
                                o->offset, o->bytes, b->pool, b->offset, b->bytes, s->workspace_bytes);
    if (o->bytes > 0 && (b->offset + (size_t)o->offset) % BLOCK_ALIGNMENT)
        return ringx__step_fail(s, step, "byte %" PRId64 " of buffer '%s' is not aligned to %d", o->offset, b->pool,
                                BLOCK_ALIGNMENT);
    return RINGX_OK;
}

/* ---- cells ---- */

typedef struct ringx_cuts { /* boundaries as they are found, sorted */
    size_t *at;
    size_t count, cap;
} cuts;

static size_t cut_place(const size_t *at, size_t count, size_t address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (at[middle] < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Addresses come nearly sorted and often again, so that the shift is rare and short. */
static bool cut(cuts *c, size_t address)
{
    size_t place = cut_place(c->at, c->count, address);
    if (place < c->count && c->at[place] == address)
        return true;
    if (c->count == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        size_t *bigger = realloc(c->at, cap * sizeof *bigger);
        if (!bigger)
            return false;
        c->at = bigger;
        c->cap = cap;
    }
    memmove(&c->at[place + 1], &c->at[place], (c->count - place) * sizeof *c->at);
    c->at[place] = address;
    c->count++;
    return true;
}

static bool in_workspace(const ringx_operand *o)
{
    return o->buffer >= 0 && o->bytes > 0;
}

static size_t address_of(const ringx_schedule *s, const ringx_operand *o)
{
    return s->buffers[o->buffer].offset + (size_t)o->offset;
}

static ringx_status cut_paper(ringx_prover *p, int rank)
{
    const ringx_schedule *s = p->schedules[rank];
    cuts c = {.count = 0};
    bool room = true;
    for (size_t i = 0; i < s->n_steps && room; i++)
        for (uint32_t j = 0; j < s->steps[i].operands && room; j++) {
            const ringx_operand *o = &s->operands[s->steps[i].operand + j];
            if (in_workspace(o))
                room = cut(&c, address_of(s, o)) && cut(&c, address_of(s, o) + (size_t)o->bytes);
        }
    ringx_cell *cell = room ? calloc(c.count + 1, sizeof *cell) : NULL;
    if (!cell) {
        free(c.at);
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the workspace of rank %d on paper", rank);
    }
    p->papers[rank] = (ringx_paper){.boundary = c.at, .cell = cell, .boundaries = c.count};
    return RINGX_OK;
}

/* ---- happens before ---- */

typedef struct ringx_trace { /* of one cell, so far in program order; places count from 1, 0: none */
    uint32_t write_place, read_place[RINGX_LANES]; /* last write, latest reads of each lane since */
    uint32_t write_step, read_step;                /* step + 1 */
    uint8_t write_lane;
} trace;

typedef struct ringx_orderer {
    const ringx_schedule *s;
    const ringx_paper *paper;
    trace *traces;
    uint32_t *known[RINGX_LANES]; /* [place]: steps of the other lane that are done before */
} orderer;

/* What the lanes' order and the waits up to a place let a step rely on. */
static ringx_status learn(orderer *o)
{
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        o->known[lane] = malloc((o->s->lane_count[lane] + 1) * sizeof(uint32_t));
        if (!o->known[lane])
            RINGX_FAIL(RINGX_NO_MEMORY, "no memory to order %zu steps", o->s->n_steps);
        uint32_t most = 0;
        for (size_t i = 0; i < o->s->lane_count[lane]; i++) {
            most = o->s->lane_wait[lane][i] > most ? o->s->lane_wait[lane][i] : most;
            o->known[lane][i] = most;
        }
    }
    return RINGX_OK;
}

/* Is the step at `place` (from 1) of `lane` done before `step` may start? */
static bool before(const orderer *o, int lane, uint32_t place, const ringx_step *step)
{
    return lane == step->lane ? place <= step->place : place <= o->known[step->lane][step->place];
}

static ringx_status unordered(const orderer *o, uint32_t number, const ringx_operand *operand, int lane, uint32_t place,
                              const char *what)
{
    char text[160];
    ringx__step_describe(o->s, o->s->lane_step[lane][place - 1], text, sizeof text);
    return ringx__step_fail(o->s, number, "it %s buffer '%s' (%s of rank %d), and nothing makes it wait for %s", what,
                            o->s->buffers[operand->buffer].pool, ringx__kind_name((ringx_kind)operand->kind),
                            operand->owner, text);
}

static ringx_status trace_read(orderer *o, uint32_t number, const ringx_operand *operand)
{
    const ringx_step *step = &o->s->steps[number];
    size_t from = address_of(o->s, operand), to = from + (size_t)operand->bytes;
    for (size_t c = cut_place(o->paper->boundary, o->paper->boundaries, from); o->paper->boundary[c] < to; c++) {
        trace *t = &o->traces[c];
        if (t->write_place && !before(o, t->write_lane, t->write_place, step))
            return unordered(o, number, operand, t->write_lane, t->write_place, "reads");
        if (step->place + 1 > t->read_place[step->lane])
            t->read_place[step->lane] = step->place + 1;
        t->read_step = number + 1;
    }
    return RINGX_OK;
}

/* alone: no other operand of the step may touch these bytes. */
static ringx_status trace_write(orderer *o, uint32_t number, const ringx_operand *operand, bool alone)
{
    const ringx_step *step = &o->s->steps[number];
    size_t from = address_of(o->s, operand), to = from + (size_t)operand->bytes;
    for (size_t c = cut_place(o->paper->boundary, o->paper->boundaries, from); o->paper->boundary[c] < to; c++) {
        trace *t = &o->traces[c];
        if (t->write_step == number + 1 || (alone && t->read_step == number + 1))
            return ringx__step_fail(o->s, number, "two of its operands overlap in buffer '%s'",
                                    o->s->buffers[operand->buffer].pool);
        if (t->write_place && !before(o, t->write_lane, t->write_place, step))
            return unordered(o, number, operand, t->write_lane, t->write_place, "writes");
        for (int lane = 0; lane < RINGX_LANES; lane++) {
            bool itself = lane == step->lane && t->read_place[lane] == step->place + 1;
            if (t->read_place[lane] && !itself && !before(o, lane, t->read_place[lane], step))
                return unordered(o, number, operand, lane, t->read_place[lane], "overwrites");
        }
        *t = (trace){.write_place = step->place + 1, .write_lane = step->lane, .write_step = number + 1};
    }
    return RINGX_OK;
}

/* In place: an all-gather's own block, a reduction's block on its root. */
static bool in_place(const ringx_schedule *s, const ringx_step *step, const ringx_operand *out)
{
    const ringx_operand *in = &s->operands[step->operand];
    return (step->op == RINGX_ALLGATHER || step->op == RINGX_REDUCE) && in->mode == RINGX_IN &&
           in->buffer == out->buffer && in->offset == out->offset && ringx__same_block(in, out);
}

static ringx_status trace_step(orderer *o, uint32_t number)
{
    const ringx_step *step = &o->s->steps[number];
    const ringx_operand *operands = &o->s->operands[step->operand];
    for (uint32_t i = 0; i < step->operands; i++)
        if (in_workspace(&operands[i]) && operands[i].mode == RINGX_IN)
            RINGX_TRY(trace_read(o, number, &operands[i]));
    for (uint32_t i = 0; i < step->operands; i++)
        if (in_workspace(&operands[i]) && operands[i].mode != RINGX_IN)
            RINGX_TRY(trace_write(o, number, &operands[i], !in_place(o->s, step, &operands[i])));
    return RINGX_OK;
}

static ringx_status trace_all(orderer *o)
{
    o->traces = calloc(o->paper->boundaries + 1, sizeof *o->traces);
    if (!o->traces)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to order %zu steps", o->s->n_steps);
    RINGX_TRY(learn(o));
    for (size_t i = 0; i < o->s->n_steps; i++)
        RINGX_TRY(trace_step(o, (uint32_t)i));
    return RINGX_OK;
}

ringx_status ringx__prove_order(ringx_prover *p, int rank)
{
    const ringx_schedule *s = p->schedules[rank];
    for (size_t i = 0; i < s->n_steps; i++)
        for (uint32_t j = 0; j < s->steps[i].operands; j++)
            RINGX_TRY(check_operand(p, rank, (uint32_t)i, &s->operands[s->steps[i].operand + j]));
    RINGX_TRY(cut_paper(p, rank));
    orderer o = {.s = s, .paper = &p->papers[rank]};
    ringx_status status = trace_all(&o);
    free(o.traces);
    for (int lane = 0; lane < RINGX_LANES; lane++)
        free(o.known[lane]);
    return status;
}
