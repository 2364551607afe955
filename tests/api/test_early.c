/* SPDX-License-Identifier: MIT */
/* Grads of a backward of two ranks that are one launch: of the steps that then run beside each other only what words
 * order touches the same bytes. */
#include <stdio.h>
#include <string.h>

#include "api/programs.h"

static bool overlap(const ringx_operand *a, const ringx_operand *b)
{
    return a->buffer == b->buffer && (a->buffer != RINGX_USER || a->kind == b->kind) &&
           a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Of a grad and a step of the other lane that run beside each other, one block of the kind may meet, or nothing. */
static void expect_meet(const ringx_program *p, uint32_t grad, uint32_t other, ringx_kind kind, int times,
                        const char *what)
{
    const ringx_schedule *s = &p->schedule;
    const ringx_step *a = &s->steps[grad], *b = &s->steps[other];
    int met = 0;
    for (uint32_t i = 0; i < a->operands; i++)
        for (uint32_t j = 0; j < b->operands; j++) {
            const ringx_operand *x = &s->operands[a->operand + i], *y = &s->operands[b->operand + j];
            if (!overlap(x, y) || (x->mode == RINGX_IN && y->mode == RINGX_IN))
                continue;
            if (x->kind != kind || y->kind != kind || x->owner == s->geometry.rank || x->offset != y->offset ||
                x->bytes != y->bytes)
                fail_msg("%s: %s of grad %u meets %s of step %u", what, ringx__kind_name((ringx_kind)x->kind), grad,
                         ringx__kind_name((ringx_kind)y->kind), other);
            met++;
        }
    if (met != times)
        fail_msg("%s: %d blocks of grad %u and step %u meet", what, met, grad, other);
}

static size_t place_of(const ringx_track *track, int lane, uint32_t step)
{
    size_t i = 0;
    while (i < track->count[lane] && track->step[lane][i] != step)
        i++;
    assert_true(i < track->count[lane]);
    return i;
}

/* Steps of the other lane that are done before this one, in the order of its lane. */
static uint32_t done_before(const ringx_track *track, int lane, size_t place)
{
    uint32_t most = 0;
    for (size_t i = 0; i <= place; i++)
        most = track->wait[lane][i] > most ? track->wait[lane][i] : most;
    return most;
}

/* The second grad begins with the first: what it else would have waited for it does not need. */
static void expect_joint(const ringx_program *p, const char *what)
{
    const ringx_track *t = &p->track;
    size_t place = place_of(t, RINGX_COMPUTE_LANE, p->early.grad[0]);
    const uint32_t second = p->early.grad[1];
    assert_int_equal(place_of(t, RINGX_COMPUTE_LANE, second), place + 1);
    assert_int_equal(p->schedule.steps[p->early.grad[0]].slice, p->schedule.geometry.cut.slices - 1);
    assert_int_equal(p->schedule.steps[second].slice, p->schedule.geometry.cut.slices - 1);
    for (uint32_t i = done_before(t, RINGX_COMPUTE_LANE, place); i < done_before(t, RINGX_COMPUTE_LANE, place + 1); i++)
        expect_meet(p, second, t->step[RINGX_COMM_LANE][i], RINGX_KV, 0, what);
}

/* Who sees whom, of the other rank's keys and the own ones. */
static void expect_live(const ringx_program *p, const world *w, int rank, const char *what)
{
    ringx_run query[RINGX_MAX_RUNS], key[2 * RINGX_MAX_RUNS];
    const uint8_t *live = p->early.live;
    int queries = ringx__layout_runs(&w->layout, rank, query);
    int keys = ringx__layout_runs(&w->layout, 1 - rank, key);
    keys += ringx__layout_runs(&w->layout, rank, key + keys);
    assert_int_equal(p->pairs[p->early.grad[0]].keys + p->pairs[p->early.grad[1]].keys, keys);
    for (int q = 0; q < queries; q++)
        for (int k = 0; k < keys; k++)
            if (*live++ != ringx__mask_live(&w->shape.mask, &query[q], &key[k]))
                fail_msg("%s: run %d of queries, %d of keys", what, q, k);
}

/* The exchange that sends what a grad sums up waits for all before that grad, and all after it for the grad. */
static void expect_leaving(const ringx_program *p, const char *what)
{
    const ringx_track *t = &p->track, *early = &p->early.track;
    const uint32_t exchange = p->early.leaving;
    const size_t grad = place_of(t, RINGX_COMPUTE_LANE, p->early.grad[0]);
    const size_t leaving = place_of(t, RINGX_COMM_LANE, exchange);
    expect_meet(p, p->early.grad[0], exchange, RINGX_DKV, 1, what);
    expect_meet(p, p->early.grad[1], exchange, RINGX_DKV, 0, what);
    for (int lane = 0; lane < RINGX_LANES; lane++)
        for (size_t i = 0; i < t->count[lane]; i++) {
            const bool eased = lane == RINGX_COMM_LANE && i == leaving;
            assert_int_equal(early->step[lane][i], t->step[lane][i]);
            if (done_before(early, lane, i) != (eased ? grad : done_before(t, lane, i)))
                fail_msg("%s: step %u waits for %u steps of the other lane", what, t->step[lane][i],
                         done_before(early, lane, i));
            if (eased && grad > 0 && !p->awaited[t->step[RINGX_COMPUTE_LANE][grad - 1]])
                fail_msg("%s: nobody tells exchange %u", what, exchange);
        }
    assert_true(done_before(t, RINGX_COMM_LANE, leaving) > grad);
}

static void check(world *w, bool possible)
{
    char what[160];
    w->own_sums = true;
    build_proved(w);
    for (int r = 0; r < w->ranks; r++) {
        ringx_program p = program_of(w, r);
        snprintf(what, sizeof what, "%s, rank %d, %lld tokens, lookahead %d, %d slices", w->preset->name, r,
                 (long long)w->problem.tokens, w->lookahead, w->slices);
        if (p.early.possible != possible)
            fail_msg("%s: the last grads %s be one launch", what, possible ? "should" : "cannot");
        if (possible) {
            expect_joint(&p, what);
            expect_live(&p, w, r, what);
            expect_leaving(&p, what);
        }
        ringx__program_free(&p);
    }
    world_free(w);
}

static world early_world(const char *preset, unsigned turn)
{
    size_t i;
    assert_int_equal(ringx_preset_find(preset, &i), RINGX_OK);
    world w = small_world(ringx_preset_at(i), 2, 30 + (int64_t)(turn % 7), true);
    w.lookahead = 1 + (int)(turn % 2);
    w.problem.kv_heads = turn % 3 ? 3 : 2; /* keys and their gradients are less than queries and theirs */
    w.slices = 1 + (int)(turn / 2 % (unsigned)w.problem.kv_heads);
    w.taper = turn / 8 % 2;
    w.joined = true;
    w.problem.causal = turn % 3 == 0 && strcmp(preset, "ring") != 0; /* then rank 0 has nothing to do for others */
    return w;
}

static void last_grads_are_one_launch(void **state)
{
    (void)state;
    static const char *const names[] = {"ring", "zigzag", "stripe", "ringX4o"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (unsigned turn = 0; turn < 48; turn++) {
            world w = early_world(names[i], turn);
            check(&w, true);
        }
}

static void others_are_not(void **state)
{
    (void)state;
    static const int64_t halves[] = {0, 17, 35};
    for (int way = 0; way < 4; way++) {
        world w = early_world("zigzag", 5);
        assert_true(w.slices > 1);
        w.problem.kv_heads = way == 0 ? w.problem.q_heads : 3; /* queries travel */
        w.wire = way == 1 ? RINGX_BF16 : RINGX_F32;            /* what travels is another block */
        w.backward = way != 2;
        if (way == 3) { /* nothing is to be done for the keys that come, or for the own ones */
            w = early_world("ring", 5);
            w.problem.documents = 2;
            w.problem.causal = false;
            w.problem.document_starts = halves;
        }
        check(&w, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(last_grads_are_one_launch), cmocka_unit_test(others_are_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
