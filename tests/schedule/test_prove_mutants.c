/* SPDX-License-Identifier: MIT */
/* Good schedules, damaged in every place and way: the prover must catch each, and only harmless ones may pass.  What is
 * harmless is derived here, not assumed: idempotent steps done twice, results that nobody reads, waits that an earlier
 * step of the lane has already waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "schedule/mutants.h"

typedef void (*damage)(world *w, const ringx_schedule *good, size_t step);

static char context[512]; /* of a failure: what was damaged */

static void note(const world *w, const ringx_schedule *s, size_t step, const char *what)
{
    char text[160];
    ringx__step_describe(s, step, text, sizeof text);
    snprintf(context, sizeof context, "%s of %d, lookahead %d, %d slices: rank %d, %s: %s", w->preset->name, w->ranks,
             w->lookahead, w->slices, s->geometry.rank, text, what);
}

static void assert_caught(ringx_status status)
{
    if (status == RINGX_OK)
        fail_msg("not caught: %s", context);
    assert_int_equal(status, RINGX_INTERNAL);
    assert_true(strlen(ringx_last_error()) > 20);
}

static void assert_passes(ringx_status status)
{
    if (status != RINGX_OK)
        fail_msg("refused, but harmless: %s: %s", context, ringx_last_error());
}

/* A damage that is closed again as if it had been written so; close() itself may refuse it. */
static void judge_written(world *w, ringx_schedule *m, bool harmless)
{
    ringx_status status = mutant_close(m);
    if (status == RINGX_OK)
        status = mutant_prove(w, m);
    mutant_free(m);
    if (harmless)
        assert_passes(status);
    else
        assert_caught(status);
}

static void judge(world *w, ringx_schedule *m)
{
    ringx_status status = mutant_prove(w, m);
    mutant_free(m);
    assert_caught(status);
}

/* Every preset, 2 … 4 ranks, both directions, lookahead and slices in turn, every rank, every step. */
static void for_all_steps(damage inflict)
{
    int turn = 0;
    for (size_t preset = 0; ringx_preset_at(preset); preset++)
        for (int ranks = 2; ranks <= 4; ranks++)
            for (int backward = 0; backward < 2; backward++, turn++) {
                world w = small_world(ringx_preset_at(preset), ranks, 53, backward != 0);
                w.lookahead = turn % 3;
                w.slices = 1 + turn / 3 % 2;
                w.head_ranks = w.ranks_per_node = ranks == 4 ? 2 : ranks;
                w.wire = turn % 5 == 0 ? RINGX_BF16 : RINGX_F32;
                assert_int_equal(world_build(&w), RINGX_OK);
                for (int rank = 0; rank < ranks; rank++)
                    for (size_t step = 0; step < w.schedules[rank].n_steps; step++)
                        inflict(&w, &w.schedules[rank], step);
                world_free(&w);
            }
}

/* ---- as an algorithm might have written it wrongly: dropped, doubled, misplaced, misnamed ---- */

static void drop(world *w, const ringx_schedule *good, size_t step)
{
    ringx_schedule m = mutant_create(good);
    note(w, good, step, "dropped");
    mutant_drop(&m, step);
    judge_written(w, &m, false);
}

static void test_dropped_step(void **state)
{
    (void)state;
    for_all_steps(drop);
}

/* Doing it twice in a row changes nothing: the result is a function of inputs that it does not change. */
static bool is_idempotent(const ringx_schedule *s, const ringx_step *step)
{
    bool delivers = s->operands[step->operand + step->operands - 1].buffer == RINGX_USER;
    switch (step->op) {
    case RINGX_PACK:
    case RINGX_CLEAR:
    case RINGX_WIPE:
    case RINGX_DELTA_:
    case RINGX_RESCALE:
    case RINGX_CONVERT:
        return true;
    case RINGX_FINISH:
        return !delivers;
    case RINGX_ATTEND: /* a state that is begun anew, or only read */
        return (step->fresh || step->final) && !delivers;
    default:
        return false;
    }
}

static void twice(world *w, const ringx_schedule *good, size_t step)
{
    ringx_schedule m = mutant_create(good);
    note(w, good, step, "doubled");
    mutant_double(&m, step);
    judge_written(w, &m, is_idempotent(good, &good->steps[step]));
}

static void test_doubled_step(void **state)
{
    (void)state;
    for_all_steps(twice);
}

/* A block that is read or written 128 bytes beside its place. */
static void misplace(world *w, const ringx_schedule *good, size_t step)
{
    for (uint32_t i = 0; i < good->steps[step].operands; i++) {
        const ringx_operand *o = &good->operands[good->steps[step].operand + i];
        if (o->buffer < 0 || o->bytes == 0)
            continue;
        ringx_schedule m = mutant_create(good);
        note(w, good, step, "operand misplaced");
        ringx_operand *moved = &m.operands[good->steps[step].operand + i];
        moved->offset += 128;
        /* The own block of a gather may be written elsewhere if nobody reads it there. */
        bool harmless = o->mode == RINGX_OUT_ && !is_read_later(good, step, o);
        for (uint32_t j = 0; j < good->steps[step].operands; j++)
            harmless =
                harmless && (j == i || !operands_conflict(&m, moved, &m.operands[good->steps[step].operand + j]));
        judge_written(w, &m, harmless);
    }
}

static void test_misplaced_operand(void **state)
{
    (void)state;
    for_all_steps(misplace);
}

/* A block that is read from, or written to, another slot of its pool. */
static void wrong_slot(world *w, const ringx_schedule *good, size_t step)
{
    for (uint32_t i = 0; i < good->steps[step].operands; i++) {
        const ringx_operand *o = &good->operands[good->steps[step].operand + i];
        for (int32_t b = 0; b < (int32_t)good->n_buffers && o->buffer >= 0; b++) {
            bool unread = o->mode == RINGX_OUT_ && !is_read_later(good, step, o);
            if (b == o->buffer || strcmp(good->buffers[b].pool, good->buffers[o->buffer].pool) != 0 || unread)
                continue;
            ringx_schedule m = mutant_create(good);
            note(w, good, step, "operand in another slot");
            m.operands[good->steps[step].operand + i].buffer = b;
            judge_written(w, &m, false);
        }
    }
}

static void test_wrong_slot(void **state)
{
    (void)state;
    for_all_steps(wrong_slot);
}

/* ---- what an operand or step says of itself ---- */

static void misname(world *w, const ringx_schedule *good, size_t step)
{
    for (uint32_t i = 0; i < good->steps[step].operands; i++)
        for (int what = 0; what < 7; what++) {
            ringx_schedule m = mutant_create(good);
            ringx_operand *o = &m.operands[good->steps[step].operand + i];
            static const char *const names[] = {"owner", "head", "heads", "bytes", "kind", "mode", "narrow"};
            note(w, good, step, names[what]);
            switch (what) {
            case 0:
                o->owner = (o->owner + 1) % w->ranks;
                break;
            case 1:
                o->head++;
                break;
            case 2:
                o->heads--;
                break;
            case 3:
                o->bytes -= o->buffer < 0 ? 1 : 128;
                break;
            case 4:
                o->kind = (uint8_t)((o->kind + 1) % RINGX_KINDS);
                break;
            case 5:
                o->mode = o->mode == RINGX_IN ? RINGX_OUT_ : RINGX_IN;
                break;
            default:
                o->narrow = !o->narrow;
            }
            judge(w, &m);
        }
}

static void test_misnamed_operand(void **state)
{
    (void)state;
    for_all_steps(misname);
}

static void missend(world *w, const ringx_schedule *good, size_t step)
{
    const ringx_step *s = &good->steps[step];
    int count = s->group < 0 ? w->ranks : good->groups[s->group].count;
    if (s->root >= 0) {
        ringx_schedule m = mutant_create(good);
        note(w, good, step, "root");
        m.steps[step].root = (s->root + 1) % count;
        judge(w, &m);
    }
    for (uint32_t i = 0; s->op == RINGX_EXCHANGE && i < s->operands; i++)
        for (int peer = -1; peer <= w->ranks; peer++) {
            if (peer == good->operands[s->operand + i].peer)
                continue;
            ringx_schedule m = mutant_create(good);
            note(w, good, step, "peer");
            m.operands[s->operand + i].peer = peer;
            judge(w, &m);
        }
    if (ringx__step_transfers(s) && s->op != RINGX_EXCHANGE)
        for (int group = -1; group <= good->n_groups; group++) {
            if (group == s->group)
                continue;
            ringx_schedule m = mutant_create(good);
            note(w, good, step, "group");
            m.steps[step].group = group;
            judge(w, &m);
        }
}

static void test_wrong_root_peer_group(void **state)
{
    (void)state;
    for_all_steps(missend);
}

/* A later attend that forgets what came before, and a first one that expects something. */
static void forget(world *w, const ringx_schedule *good, size_t step)
{
    const ringx_step *s = &good->steps[step];
    if (s->op != RINGX_ATTEND || s->final)
        return;
    ringx_schedule m = mutant_create(good);
    note(w, good, step, s->fresh ? "not fresh" : "fresh");
    m.steps[step].fresh = !s->fresh;
    for (uint32_t i = 0; i < s->operands; i++)
        if (m.operands[s->operand + i].kind == RINGX_STATE)
            m.operands[s->operand + i].mode = s->fresh ? RINGX_INOUT : RINGX_OUT_;
    judge_written(w, &m, false);
}

static void test_forgotten_state(void **state)
{
    (void)state;
    for_all_steps(forget);
}

/* ---- order: waits and places, after closing ---- */

/* A wait that is one too low is caught exactly if no earlier step of the lane has waited for as much. */
static void shorten_wait(world *w, const ringx_schedule *good, size_t step)
{
    const ringx_step *s = &good->steps[step];
    uint32_t before = 0;
    for (size_t i = 0; i < s->place; i++)
        before = good->lane_wait[s->lane][i] > before ? good->lane_wait[s->lane][i] : before;
    for (int to_zero = 0; to_zero < 2 && s->wait > 0; to_zero++) {
        ringx_schedule m = mutant_create(good);
        note(w, good, step, to_zero ? "wait removed" : "wait shortened");
        mutant_wait(&m, s->lane, s->place, to_zero ? 0 : s->wait - 1);
        ringx_status status = mutant_prove(w, &m);
        mutant_free(&m);
        if (before >= s->wait)
            assert_passes(status);
        else
            assert_caught(status);
    }
}

static void test_missing_wait(void **state)
{
    (void)state;
    for_all_steps(shorten_wait);
}

/* Do two transfers involve the same other rank?  Exchanges are matched pair by pair. */
static bool meet(const ringx_schedule *s, const ringx_step *a, const ringx_step *b)
{
    for (uint32_t i = 0; i < a->operands && a->op == RINGX_EXCHANGE && b->op == RINGX_EXCHANGE; i++)
        for (uint32_t j = 0; j < b->operands; j++)
            if (s->operands[a->operand + i].peer == s->operands[b->operand + j].peer)
                return true;
    return a->op != RINGX_EXCHANGE || b->op != RINGX_EXCHANGE;
}

/* Neighbours in a lane change places.  Transfers that meet may never; others must be caught if the naive judge finds a
 * pair out of order. */
static void swap_neighbours(world *w, const ringx_schedule *good, size_t step)
{
    const ringx_step *s = &good->steps[step];
    if (s->place + 1 >= good->lane_count[s->lane])
        return;
    const ringx_step *next = &good->steps[good->lane_step[s->lane][s->place + 1]];
    ringx_schedule m = mutant_create(good);
    note(w, good, step, "swapped with the next of its lane");
    mutant_swap(&m, s->lane, s->place);
    bool wrong = (ringx__step_transfers(s) && ringx__step_transfers(next) && meet(good, s, next)) || !naive_ordered(&m);
    ringx_status status = mutant_prove(w, &m);
    mutant_free(&m);
    if (wrong)
        assert_caught(status);
}

static void test_swapped_steps(void **state)
{
    (void)state;
    for_all_steps(swap_neighbours);
}

static uint32_t random_below(uint32_t n)
{
    static uint32_t state = 12345;
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(state >> 8) * n >> 24);
}

/* Random shorter waits: the prover and the naive judge agree, both ways. */
static void shorten_all(world *w, const ringx_schedule *good, size_t step)
{
    ringx_schedule m = mutant_create(good);
    note(w, good, step, "random waits");
    for (int lane = 0; lane < RINGX_LANES; lane++)
        for (size_t i = 0; i < m.lane_count[lane]; i++)
            if (random_below(8) == 0)
                mutant_wait(&m, lane, i, random_below(m.lane_wait[lane][i] + 1));
    bool ordered = naive_ordered(&m);
    ringx_status status = mutant_prove(w, &m);
    mutant_free(&m);
    if (ordered)
        assert_passes(status);
    else
        assert_caught(status);
}

static void test_random_waits(void **state)
{
    (void)state;
    for_all_steps(shorten_all);
}

/* ---- slots reused too early, after closing: two buffers become one, with the waits of two ---- */

static size_t reused; /* slots of one pool, and the naive judge finds it wrong */

static void reuse_early(world *w, const ringx_schedule *good, size_t step)
{
    if (step > 0) /* once a rank */
        return;
    for (int32_t a = 0; a < (int32_t)good->n_buffers; a++)
        for (int32_t b = a + 1; b < (int32_t)good->n_buffers; b++) {
            ringx_schedule m = mutant_create(good);
            note(w, good, step, good->buffers[b].pool);
            m.buffers[b].offset = m.buffers[a].offset;
            if (m.buffers[b].offset + m.buffers[b].bytes > m.workspace_bytes)
                m.workspace_bytes = m.buffers[b].offset + m.buffers[b].bytes;
            bool wrong = !naive_ordered(&m);
            ringx_status status = mutant_prove(w, &m);
            mutant_free(&m);
            if (wrong)
                assert_caught(status);
            reused += wrong && strcmp(good->buffers[a].pool, good->buffers[b].pool) == 0;
        }
}

static void test_slot_reused_too_early(void **state)
{
    (void)state;
    reused = 0;
    for_all_steps(reuse_early);
    assert_true(reused > 200);
}

static void test_outside_workspace(void **state)
{
    (void)state;
    world w = small_world(ringx_preset_at(0), 3, 53, true);
    assert_int_equal(world_build(&w), RINGX_OK);
    for (size_t b = 0; b < w.schedules[1].n_buffers; b++)
        for (int what = 0; what < 3; what++) {
            ringx_schedule m = mutant_create(&w.schedules[1]);
            note(&w, &m, 0, m.buffers[b].pool);
            if (what == 0)
                m.workspace_bytes = m.buffers[b].offset + m.buffers[b].bytes - 128;
            else if (what == 1)
                m.buffers[b].bytes -= 128;
            else
                m.buffers[b].offset += 64;
            judge(&w, &m);
        }
    world_free(&w);
}

/* ---- all ranks wrong alike: everything matches, only the results are wrong ---- */

/* Drops or doubles, on all ranks, every step of an operation that is about one owner (-1: any). */
static ringx_status damage_all(world *w, int op, int owner, bool doubled)
{
    ringx_schedule *m = calloc((size_t)w->ranks, sizeof *m);
    ringx_status status = RINGX_OK;
    ringx_proof proof;
    for (int r = 0; r < w->ranks; r++) {
        m[r] = mutant_create(&w->schedules[r]);
        for (size_t i = m[r].n_steps; i-- > 0;) {
            const ringx_operand *o = &m[r].operands[m[r].steps[i].operand];
            if (m[r].steps[i].op != op || (owner >= 0 && o->owner != owner))
                continue;
            if (doubled) {
                m[r].steps = realloc(m[r].steps, (m[r].n_steps + 2) * sizeof *m[r].steps);
                mutant_double(&m[r], i);
            } else {
                mutant_drop(&m[r], i);
            }
        }
        if (status == RINGX_OK)
            status = mutant_close(&m[r]);
        w->list[r] = &m[r];
    }
    if (status == RINGX_OK)
        status = ringx__prove(w->list, w->ranks, &proof);
    for (int r = 0; r < w->ranks; r++) {
        w->list[r] = &w->schedules[r];
        mutant_free(&m[r]);
    }
    free(m);
    return status;
}

static bool has_op(const world *w, int op, int owner)
{
    for (int r = 0; r < w->ranks; r++)
        for (size_t i = 0; i < w->schedules[r].n_steps; i++) {
            const ringx_step *step = &w->schedules[r].steps[i];
            if (step->op == op && (owner < 0 || w->schedules[r].operands[step->operand].owner == owner))
                return true;
        }
    return false;
}

static void test_all_ranks_wrong_alike(void **state)
{
    (void)state;
    static const int drops[] = {RINGX_ATTEND,  RINGX_GRAD,    RINGX_ADD,   RINGX_RESCALE,        RINGX_ALLREDUCE_MAX,
                                RINGX_REDUCE,  RINGX_FINISH,  RINGX_CLEAR, RINGX_REDUCE_SCATTER, RINGX_ALLGATHER,
                                RINGX_STORE,   RINGX_UNPACK,  RINGX_PACK,  RINGX_DELTA_,         RINGX_BROADCAST,
                                RINGX_CONVERT, RINGX_EXCHANGE};
    static const int doubles[] = {RINGX_GRAD, RINGX_ADD, RINGX_REDUCE, RINGX_STORE, RINGX_UNPACK};
    for (size_t preset = 0; ringx_preset_at(preset); preset++)
        for (int backward = 0; backward < 2; backward++) {
            world w = small_world(ringx_preset_at(preset), 4, 53, backward != 0);
            w.head_ranks = w.ranks_per_node = 2;
            w.wire = preset % 2 ? RINGX_BF16 : RINGX_F32;
            assert_int_equal(world_build(&w), RINGX_OK);
            for (int owner = -1; owner < 4; owner++) {
                for (size_t i = 0; i < sizeof drops / sizeof *drops; i++) {
                    snprintf(context, sizeof context, "%s: every %s of %d dropped", w.preset->name,
                             ringx__op_name((ringx_op)drops[i]), owner);
                    if (has_op(&w, drops[i], owner))
                        assert_caught(damage_all(&w, drops[i], owner, false));
                }
                for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
                    snprintf(context, sizeof context, "%s: every %s of %d doubled", w.preset->name,
                             ringx__op_name((ringx_op)doubles[i]), owner);
                    if (has_op(&w, doubles[i], owner))
                        assert_caught(damage_all(&w, doubles[i], owner, true));
                }
            }
            world_free(&w);
        }
}

/* ---- messages say who, where and why ---- */

static void test_messages(void **state)
{
    (void)state;
    size_t preset;
    assert_int_equal(ringx_preset_find("ringX4o", &preset), RINGX_OK);
    world w = small_world(ringx_preset_at(preset), 3, 53, false);
    assert_int_equal(world_build(&w), RINGX_OK);
    for (size_t i = 0; i < w.schedules[2].n_steps; i++)
        if (w.schedules[2].steps[i].op == RINGX_BROADCAST) {
            ringx_schedule m = mutant_create(&w.schedules[2]);
            mutant_drop(&m, i);
            assert_int_equal(mutant_close(&m), RINGX_OK);
            assert_int_equal(mutant_prove(&w, &m), RINGX_INTERNAL);
            assert_non_null(strstr(ringx_last_error(), "rank 2"));
            assert_non_null(strstr(ringx_last_error(), "forward step"));
            mutant_free(&m);
        }
    /* Nobody sends: both neighbours are named. */
    world ring = small_world(ringx_preset_at(preset), 3, 53, false);
    assert_int_equal(ringx_preset_find("ring", &preset), RINGX_OK);
    ring.preset = ringx_preset_at(preset);
    assert_int_equal(world_build(&ring), RINGX_OK);
    ringx_schedule m = mutant_create(&ring.schedules[1]);
    for (size_t i = m.n_steps; i-- > 0;)
        if (m.steps[i].op == RINGX_EXCHANGE || m.steps[i].stage > 0)
            mutant_drop(&m, i);
    assert_int_equal(mutant_close(&m), RINGX_OK);
    assert_int_equal(mutant_prove(&ring, &m), RINGX_INTERNAL);
    assert_non_null(strstr(ringx_last_error(), "deadlock: rank 0 in forward step"));
    assert_non_null(strstr(ringx_last_error(), "rank 2 in forward step"));
    mutant_free(&m);
    world_free(&ring);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropped_step),          cmocka_unit_test(test_doubled_step),
        cmocka_unit_test(test_misplaced_operand),     cmocka_unit_test(test_wrong_slot),
        cmocka_unit_test(test_misnamed_operand),      cmocka_unit_test(test_wrong_root_peer_group),
        cmocka_unit_test(test_forgotten_state),       cmocka_unit_test(test_missing_wait),
        cmocka_unit_test(test_swapped_steps),         cmocka_unit_test(test_random_waits),
        cmocka_unit_test(test_slot_reused_too_early), cmocka_unit_test(test_outside_workspace),
        cmocka_unit_test(test_all_ranks_wrong_alike), cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
