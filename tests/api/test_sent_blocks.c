/* SPDX-License-Identifier: MIT */
/* Packs that may be left out because their block is only sent: judged by walking each schedule with memory that says
 * which bytes are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "api/plan.h"
#include "schedule/schedules.h"

enum { UNIT = 128 };

typedef struct paper { /* for each unit of each buffer: one more than the pack that was left out; 0: it is there */
    uint32_t **missing;
} paper;

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
    for (uint32_t j = 0; j < step->operands; j++) {
        if (o[j].buffer == RINGX_USER || o[j].mode == RINGX_OUT_)
            continue;
        uint32_t pack = read_missing(m, &o[j]);
        if (pack && (pack != p->sends[i] || j > 0))
            fail_msg("%s: step %u reads operand %u, which pack %u did not make", what, i, j, pack - 1);
        sent = pack ? pack : sent;
    }
    for (uint32_t j = 0; j < step->operands; j++)
        if (o[j].buffer != RINGX_USER && (o[j].mode & RINGX_OUT_)) {
            bool own = sent && step->op == RINGX_ALLGATHER && o[j].owner == p->schedule.geometry.rank;
            mark(m, &o[j], own ? sent : step->op == RINGX_PACK && p->sent_only[i] ? i + 1 : 0);
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
    for (size_t b = 0; b < s->n_buffers; b++)
        free(m.missing[b]);
    free(m.missing);
}

/* Algorithms that move whole blocks need none of their packs, except of what backward sends of a query. */
static void expect_left_out(const ringx_program *p, const world *w, const char *what)
{
    const ringx_schedule *s = &p->schedule;
    bool all = strcmp(w->preset->algorithm, "headswap") != 0;
    for (size_t i = 0; i < s->n_steps; i++) {
        const ringx_operand *to = &s->operands[s->steps[i].operand + s->steps[i].operands - 1];
        if (s->steps[i].op == RINGX_PACK && all && to->kind != RINGX_QDO && !p->sent_only[i])
            fail_msg("%s: pack %zu is not needed", what, i);
        if (p->sent_only[i] && s->steps[i].op != RINGX_PACK)
            fail_msg("%s: step %zu is no pack", what, i);
    }
}

static void check(world *w)
{
    char what[160];
    if (world_build(w) != RINGX_OK)
        fail_msg("%s", ringx_last_error());
    for (int r = 0; r < w->ranks; r++) {
        ringx_program p = {.schedule = w->schedules[r]};
        w->schedules[r] = (ringx_schedule){.status = RINGX_OK};
        snprintf(what, sizeof what, "%s%s, rank %d of %d, lookahead %d, %d slices%s%s", w->preset->name,
                 w->backward ? " backward" : "", r, w->ranks, w->lookahead, w->slices, w->joined ? ", joined" : "",
                 w->ranks_per_node > 1 ? ", nodes" : "");
        assert_int_equal(ringx__program_prepare(&p, ringx__kernel_at(0), false), RINGX_OK);
        walk(&p, what);
        expect_left_out(&p, w, what);
        ringx__program_free(&p);
    }
    world_free(w);
}

static void what_is_left_out_is_not_read(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 2; ranks <= 6; ranks++)
            for (int turn = 0; turn < 24; turn++) {
                world w = small_world(ringx_preset_at(i), ranks, 40 + turn, turn % 2);
                w.slices = 1 + turn / 2 % 3;
                w.joined = w.taper = turn / 6 % 2;
                w.lookahead = turn / 12 ? 1 + turn % 3 : w.lookahead;
                w.ranks_per_node = ranks % 2 == 0 && turn / 3 % 2 ? 2 : 1;
                check(&w);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_left_out_is_not_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
