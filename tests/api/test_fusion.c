/* SPDX-License-Identifier: MIT */
/* A forward of two ranks as one kernel: which words tell it what, and what of it is live. */
#include <stdio.h>
#include <string.h>

#include "api/programs.h"
#include "comm/peer.h"

/* The step that receives the block of other ranks' keys that an attend reads. */
static uint32_t fetch_of(const ringx_schedule *s, const ringx_step *attend)
{
    const ringx_operand *o = &s->operands[attend->operand];
    const ringx_operand *end = o + attend->operands;
    while (o < end && (o->kind != RINGX_KV || o->buffer == RINGX_USER))
        o++;
    assert_true(o < end);
    for (uint32_t i = 0; i < s->n_steps; i++)
        for (uint32_t j = 0; j < s->steps[i].operands; j++) {
            const ringx_operand *in = &s->operands[s->steps[i].operand + j];
            if (s->steps[i].op == RINGX_EXCHANGE && in->mode == RINGX_OUT_ && in->buffer == o->buffer &&
                in->offset == o->offset)
                return i;
        }
    fail_msg("nothing fetches the keys of an attend");
    return 0;
}

/* Own key runs, then those of each attend, for each query run. */
static void expect_live(const ringx_program *p, const world *w, int rank, const char *what)
{
    ringx_run query[RINGX_MAX_RUNS], own[RINGX_MAX_RUNS], others[RINGX_MAX_RUNS];
    int queries = ringx__layout_runs(&w->layout, rank, query), n_own = ringx__layout_runs(&w->layout, rank, own);
    int n_others = ringx__layout_runs(&w->layout, 1 - rank, others);
    const uint8_t *live = p->fusion.live;
    for (int q = 0; q < queries; q++) {
        for (int k = 0; k < n_own; k++)
            if (*live++ != ringx__mask_live(&w->shape.mask, &query[q], &own[k]))
                fail_msg("%s: own keys, run %d of queries, %d of keys", what, q, k);
        for (size_t i = 0; i < p->fusion.words; i++)
            for (int k = 0; k < n_others; k++)
                if (*live++ != ringx__mask_live(&w->shape.mask, &query[q], &others[k]))
                    fail_msg("%s: keys of attend %zu, run %d of queries, %d of keys", what, i, q, k);
    }
}

static void expect_words(const ringx_program *p, const world *w, const char *what)
{
    const ringx_schedule *s = &p->schedule;
    size_t told = 0;
    if (p->fusion.words != (size_t)w->slices)
        fail_msg("%s: %zu words, not %d", what, p->fusion.words, w->slices);
    for (size_t i = 0; i < p->fusion.words; i++) {
        const ringx_step *attend = &s->steps[s->lane_step[RINGX_COMPUTE_LANE][i]];
        uint32_t fetch = fetch_of(s, attend);
        const ringx_operand *keys = &s->operands[attend->operand];
        while (keys->kind != RINGX_KV)
            keys++;
        if (keys->buffer != RINGX_USER || keys->owner != s->geometry.rank)
            fail_msg("%s: attend %zu begins with other keys than one kernel does: the sums differ", what, i);
        if (p->fusion.word[fetch] != i + 1)
            fail_msg("%s: attend %zu is told by word %d", what, i, p->fusion.word[fetch] - 1);
    }
    for (size_t i = 0; i < s->n_steps; i++)
        told += p->fusion.word[i] != 0;
    assert_int_equal(told, p->fusion.words);
    assert_int_equal(p->fusion.track.count[RINGX_COMPUTE_LANE], 1);
    assert_int_equal(p->fusion.track.wait[RINGX_COMPUTE_LANE][0], 0);
    assert_int_equal(p->fusion.track.count[RINGX_COMM_LANE], w->slices);
    for (int i = 0; i < w->slices; i++) {
        assert_int_equal(s->steps[p->fusion.track.step[RINGX_COMM_LANE][i]].op, RINGX_EXCHANGE);
        assert_int_equal(p->fusion.track.wait[RINGX_COMM_LANE][i], 0);
    }
}

static void check(world *w, bool fuses)
{
    char what[120];
    build_proved(w);
    for (int r = 0; r < w->ranks; r++) {
        ringx_program p = program_of(w, r, ringx__kernel_at(0));
        snprintf(what, sizeof what, "%s, rank %d, %lld tokens, %d slices", w->preset->name, r,
                 (long long)w->problem.tokens, w->slices);
        if (fuses) {
            expect_words(&p, w, what);
            expect_live(&p, w, r, what);
        } else if (p.fusion.words) {
            fail_msg("%s: cannot be one kernel", what);
        }
        ringx__program_free(&p);
    }
    world_free(w);
}

static world random_world(size_t preset, unsigned turn)
{
    static const int64_t bounds[] = {0, 7, 7, 30};
    world w = small_world(ringx_preset_at(preset), 2, 30 + (int64_t)(turn % 7), false);
    w.problem.kv_heads = w.problem.q_heads = 6;
    w.slices = 1 + (int)(turn / 7 % 6);
    w.taper = turn % 2;
    w.joined = w.awaits = true;
    w.problem.causal = turn % 3 == 0;
    w.problem.window_left = turn % 5 == 0 ? 4 : -1;
    w.problem.documents = turn % 4 == 0 ? 3 : 0;
    w.problem.document_starts = turn % 4 == 0 ? bounds : NULL;
    return w;
}

static void one_hop_is_one_kernel(void **state)
{
    (void)state;
    static const char *const names[] = {"ring", "zigzag", "stripe", "ringX4o"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t preset;
        assert_int_equal(ringx_preset_find(names[i], &preset), RINGX_OK);
        for (unsigned turn = 0; turn < 84; turn++) {
            world w = random_world(preset, turn);
            check(&w, true);
        }
    }
}

static void what_cannot_be_one_kernel_is_not(void **state)
{
    (void)state;
    size_t preset;
    assert_int_equal(ringx_preset_find("ring", &preset), RINGX_OK);
    for (int way = 0; way < 5; way++) {
        world w = random_world(preset, 25);
        w.awaits = way != 0;   /* the kernel cannot wait */
        w.backward = way == 1; /* gradients */
        w.ranks = way == 2 ? 3 : 2;
        w.lookahead = way == 3 ? 0 : w.lookahead; /* transfers do not run ahead: the own tile has a launch */
        w.problem.kv_heads = w.problem.q_heads = way == 4 ? 12 : 6;
        w.slices = way == 4 ? RINGX_ARRIVALS + 1 : w.slices; /* more than there are words */
        w.taper = false;
        check(&w, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_hop_is_one_kernel),
                                       cmocka_unit_test(what_cannot_be_one_kernel_is_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
