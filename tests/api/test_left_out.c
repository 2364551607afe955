/* SPDX-License-Identifier: MIT */
/* Steps that are left out: packs of what is only sent, clears of what a grad starts, stores of what a grad ends. Judged
 * by walking each schedule with memory that says which bytes are not there. */
#include <stdio.h>
#include <string.h>

#include "api/programs.h"

enum { UNIT = 128, MOST_HEADS = 64 };

#define NOTHING UINT32_MAX /* there was a clear, or the result is in the caller's tensors */

typedef struct paper {
    uint32_t **missing; /* for each unit of each buffer: one more than the pack that was left out, or NOTHING; or 0 */
    int delivered[MOST_HEADS]; /* dK,dV of each head: how often */
} paper;

static void deliver(paper *m, const ringx_operand *o)
{
    for (int32_t h = o->head; o->buffer == RINGX_USER && o->kind == RINGX_DKV && h < o->head + o->heads; h++)
        m->delivered[h]++;
}

static void mark(paper *m, const ringx_operand *o, uint32_t value)
{
    for (int64_t u = o->offset / UNIT; u < (o->offset + o->bytes + UNIT - 1) / UNIT; u++)
        m->missing[o->buffer][u] = value;
}

/* The pack whose bytes would be read; 0: all are there. */
static uint32_t read_missing(const paper *m, const ringx_operand *o)
{
    for (int64_t u = o->offset / UNIT; u < (o->offset + o->bytes + UNIT - 1) / UNIT; u++)
        if (m->missing[o->buffer][u])
            return m->missing[o->buffer][u];
    return 0;
}

static void walk_step(paper *m, const ringx_program *p, uint32_t i, const char *what)
{
    const ringx_step *step = &p->schedule.steps[i];
    const ringx_operand *o = &p->schedule.operands[step->operand];
    uint32_t sent = 0;
    if (p->needless[i]) {
        assert_true(o->kind == RINGX_DKV && o->buffer != RINGX_USER);
        if (step->op == RINGX_CLEAR)
            mark(m, o, NOTHING);
        return;
    }
    for (uint32_t j = 0; j < step->operands; j++) {
        if (o[j].buffer == RINGX_USER || o[j].mode == RINGX_OUT_ || p->fresh[step->operand + j])
            continue;
        uint32_t pack = read_missing(m, &o[j]);
        if (pack && (pack != p->sends[i] || j > 0))
            fail_msg("%s: step %u reads operand %u, which pack %u did not make", what, i, j, pack - 1);
        sent = pack ? pack : sent;
    }
    for (uint32_t j = 0; j < step->operands; j++) {
        const uint32_t end = p->ends[step->operand + j];
        deliver(m, end ? &p->schedule.operands[end] : &o[j]);
        if (end) {
            mark(m, &o[j], NOTHING);
        } else if (o[j].buffer != RINGX_USER && (o[j].mode & RINGX_OUT_)) {
            bool own = sent && step->op == RINGX_ALLGATHER && o[j].owner == p->schedule.geometry.rank;
            mark(m, &o[j], own ? sent : step->op == RINGX_PACK && p->sent_only[i] ? i + 1 : 0);
        }
    }
}

static void walk(const ringx_program *p, const char *what)
{
    const ringx_schedule *s = &p->schedule;
    paper m = {.missing = calloc(s->n_buffers + 1, sizeof *m.missing)};
    assert_non_null(m.missing);
    for (size_t b = 0; b < s->n_buffers; b++) {
        m.missing[b] = calloc(s->buffers[b].bytes / UNIT + 1, sizeof **m.missing);
        assert_non_null(m.missing[b]);
    }
    for (uint32_t i = 0; i < s->n_steps; i++)
        walk_step(&m, p, i, what);
    for (int64_t h = 0; s->backward && h < s->geometry.shape->kv_heads; h++)
        if (m.delivered[h] != 1)
            fail_msg("%s: dK,dV of head %d are delivered %d times", what, (int)h, m.delivered[h]);
    for (size_t b = 0; b < s->n_buffers; b++)
        free(m.missing[b]);
    free(m.missing);
}

static bool exchanges_queries(const ringx_schedule *s)
{
    for (size_t i = 0; i < s->n_steps; i++)
        if (s->steps[i].op == RINGX_EXCHANGE && s->operands[s->steps[i].operand].kind == RINGX_QDO)
            return true;
    return false;
}

/* Algorithms that move whole blocks need none of their packs; where dK,dV are never added up they are neither cleared
 * nor stored. */
static void expect_left_out(const ringx_program *p, const world *w, const char *what)
{
    const ringx_schedule *s = &p->schedule;
    bool whole = strcmp(w->preset->algorithm, "headswap") != 0;
    bool alone = w->ranks == 1 || (whole && exchanges_queries(s));
    for (size_t i = 0; i < s->n_steps; i++) {
        const ringx_step *step = &s->steps[i];
        if (step->op == RINGX_PACK && whole && !p->sent_only[i])
            fail_msg("%s: pack %zu is not needed", what, i);
        if (alone && (step->op == RINGX_CLEAR || step->op == RINGX_STORE) &&
            s->operands[step->operand].kind == RINGX_DKV && !p->needless[i])
            fail_msg("%s: step %zu is not needed", what, i);
        if (p->sent_only[i] && step->op != RINGX_PACK)
            fail_msg("%s: step %zu is no pack", what, i);
    }
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* A step that is run comes after the same steps of the other lane as in the schedule, but for those that are not run:
 * what it has waited for is what it and all before it in its lane wait for. */
static void expect_same_waits(const ringx_program *p, const char *what)
{
    const ringx_schedule *s = &p->schedule;
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        const int other = 1 - lane;
        uint32_t planned = 0, waited = 0;
        size_t m = 0;
        for (size_t i = 0; i < s->lane_count[lane]; i++) {
            uint32_t number = s->lane_step[lane][i], run = 0;
            planned = larger(planned, s->lane_wait[lane][i]);
            if (p->needless[number])
                continue;
            assert_true(m < p->track.count[lane] && p->track.step[lane][m] == number);
            waited = larger(waited, p->track.wait[lane][m++]);
            for (uint32_t j = 0; j < planned; j++)
                run += !p->needless[s->lane_step[other][j]];
            if (waited != run)
                fail_msg("%s: step %u waits for %u steps of the other lane, not %u", what, number, waited, run);
            if (run && !p->awaited[p->track.step[other][run - 1]])
                fail_msg("%s: nobody tells step %u of the end of %u", what, number, p->track.step[other][run - 1]);
        }
        assert_int_equal(m, p->track.count[lane]);
    }
}

static void check(world *w)
{
    char what[160];
    w->own_sums = true;
    if (world_build(w) != RINGX_OK)
        fail_msg("%s", ringx_last_error());
    for (int r = 0; r < w->ranks; r++) {
        ringx_program p = program_of(w, r);
        snprintf(what, sizeof what, "%s%s, rank %d of %d, lookahead %d, %d slices%s%s", w->preset->name,
                 w->backward ? " backward" : "", r, w->ranks, w->lookahead, w->slices, w->joined ? ", joined" : "",
                 w->ranks_per_node > 1 ? ", nodes" : "");
        walk(&p, what);
        expect_left_out(&p, w, what);
        expect_same_waits(&p, what);
        ringx__program_free(&p);
    }
    world_free(w);
}

static void what_is_left_out_is_not_read(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 1; ranks <= 6; ranks++)
            for (int turn = 0; turn < 24; turn++) {
                world w = small_world(ringx_preset_at(i), ranks, 40 + turn, turn % 2);
                w.slices = 1 + turn / 2 % 3;
                w.joined = w.taper = turn / 6 % 2;
                w.problem.kv_heads = turn % 5 ? w.problem.kv_heads : w.problem.q_heads;
                w.lookahead = turn / 12 ? 1 + turn % 3 : w.lookahead;
                w.ranks_per_node = turn % 4 == 3 ? ranks : ranks % 2 == 0 && turn / 3 % 2 ? 2 : 1;
                check(&w);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_left_out_is_not_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
