/* SPDX-License-Identifier: MIT */
/* A forward as one kernel: which words tell it what has come, and what of it is live. */
#include <stdio.h>
#include <string.h>

#include "api/programs.h"
#include "comm/peer.h"

/* The step that receives a block of another rank's keys. */
static uint32_t fetch_of(const ringx_schedule *s, const ringx_operand *block)
{
    for (uint32_t i = 0; i < s->n_steps; i++)
        for (uint32_t j = 0; j < s->steps[i].operands; j++) {
            const ringx_operand *in = &s->operands[s->steps[i].operand + j];
            if (s->steps[i].op == RINGX_EXCHANGE && in->mode == RINGX_OUT_ && in->buffer == block->buffer &&
                in->offset == block->offset)
                return i;
        }
    fail_msg("nothing fetches the keys of an attend");
    return 0;
}

static const ringx_step *attend_of(const ringx_program *p, int slice)
{
    return &p->schedule.steps[p->schedule.lane_step[RINGX_COMPUTE_LANE][slice]];
}

static const uint8_t *expect_owner(const uint8_t *live, const world *w, const ringx_run *query, int owner,
                                   const char *what)
{
    ringx_run key[RINGX_MAX_RUNS];
    int keys = ringx__layout_runs(&w->layout, owner, key);
    for (int k = 0; k < keys; k++)
        if (*live++ != ringx__mask_live(&w->shape.mask, query, &key[k]))
            fail_msg("%s: run %d of the keys of rank %d", what, k, owner);
    return live;
}

/* For each query run own key runs, then in each slice those of rank r-1, r-2, … */
static void expect_live(const ringx_program *p, const world *w, int rank, const char *what)
{
    ringx_run query[RINGX_MAX_RUNS];
    int queries = ringx__layout_runs(&w->layout, rank, query);
    const uint8_t *live = p->fusion.live;
    for (int q = 0; q < queries; q++) {
        live = expect_owner(live, w, &query[q], rank, what);
        for (int slice = 0; slice < w->slices; slice++)
            for (int i = 1; i < w->ranks; i++)
                live = expect_owner(live, w, &query[q], (rank - i + w->ranks) % w->ranks, what);
    }
}

/* The keys of an attend: own ones first, as in one kernel, or sums would differ; then each behind a word of its own,
 * which the exchange that brings them sets. */
static void expect_arrivals(const ringx_program *p, const world *w, int rank, int slice, const char *what)
{
    const ringx_schedule *s = &p->schedule;
    const ringx_step *attend = attend_of(p, slice);
    int i = 0;
    for (uint32_t j = attend->operand; j < attend->operand + attend->operands; j++) {
        const ringx_operand *o = &s->operands[j];
        if (o->kind != RINGX_KV)
            continue;
        if ((i == 0) != (o->buffer == RINGX_USER) || o->owner != (rank - i + w->ranks) % w->ranks)
            fail_msg("%s: keys %d of attend %d are those of rank %d", what, i, slice, o->owner);
        if (i == 0 && p->fusion.arrival[j])
            fail_msg("%s: attend %d awaits own keys", what, slice);
        if (i > 0 && o->bytes > 0 && (!p->fusion.arrival[j] || p->fusion.arrival[j] != p->fusion.word[fetch_of(s, o)]))
            fail_msg("%s: keys %d of attend %d are told by word %d", what, i, slice, p->fusion.arrival[j]);
        i++;
    }
    assert_int_equal(i, w->ranks);
}

static void expect_words(const ringx_program *p, const world *w, int rank, const char *what)
{
    const ringx_schedule *s = &p->schedule;
    const size_t exchanges = (size_t)(w->slices * (w->ranks - 1));
    size_t told = 0;
    bool used[RINGX_ARRIVALS + 1] = {false};
    if (p->fusion.words != exchanges)
        fail_msg("%s: %zu words, not %zu", what, p->fusion.words, exchanges);
    for (size_t i = 0; i < s->n_steps; i++) {
        size_t word = p->fusion.word[i];
        assert_true(word <= exchanges && !(word && used[word]));
        used[word] = word != 0;
        told += word != 0;
    }
    assert_int_equal(told, exchanges);
    for (int slice = 0; slice < w->slices; slice++)
        expect_arrivals(p, w, rank, slice, what);
    assert_int_equal(p->fusion.track.count[RINGX_COMPUTE_LANE], 1);
    assert_int_equal(p->fusion.track.wait[RINGX_COMPUTE_LANE][0], 0);
    assert_int_equal(p->fusion.track.count[RINGX_COMM_LANE], exchanges);
    for (size_t i = 0; i < exchanges; i++) {
        assert_int_equal(s->steps[p->fusion.track.step[RINGX_COMM_LANE][i]].op, RINGX_EXCHANGE);
        assert_int_equal(p->fusion.track.wait[RINGX_COMM_LANE][i], 0);
    }
}

static void check(world *w, bool fuses)
{
    char what[120];
    build_proved(w);
    for (int r = 0; r < w->ranks; r++) {
        ringx_program p = program_of(w, r);
        snprintf(what, sizeof what, "%s, rank %d of %d, %lld tokens, %d slices", w->preset->name, r, w->ranks,
                 (long long)w->problem.tokens, w->slices);
        if (fuses) {
            expect_words(&p, w, r, what);
            expect_live(&p, w, r, what);
        } else if (p.fusion.words) {
            fail_msg("%s: cannot be one kernel", what);
        }
        ringx__program_free(&p);
    }
    world_free(w);
}

static world random_world(size_t preset, int ranks, unsigned turn)
{
    static const int64_t bounds[] = {0, 7, 7, 30};
    world w = small_world(ringx_preset_at(preset), ranks, 30 + (int64_t)(turn % 7), false);
    w.problem.kv_heads = w.problem.q_heads = 6;
    const unsigned most = (unsigned)ringx__most_awaited(ranks); /* no more than heads, either */
    w.slices = 1 + (int)(turn / 7 % (most < 6 ? most : 6));
    w.taper = turn % 2;
    w.joined = w.awaits = true;
    w.problem.causal = turn % 3 == 0;
    w.problem.window_left = turn % 5 == 0 ? 4 : -1;
    w.problem.documents = turn % 4 == 0 ? 3 : 0;
    w.problem.document_starts = turn % 4 == 0 ? bounds : NULL;
    return w;
}

static void what_all_gather_is_one_kernel(void **state)
{
    (void)state;
    static const char *const names[] = {"ring", "zigzag", "stripe", "ringX3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t preset;
        assert_int_equal(ringx_preset_find(names[i], &preset), RINGX_OK);
        for (int ranks = 2; ranks <= 12; ranks++)
            for (unsigned turn = 0; turn < 42; turn++) {
                world w = random_world(preset, ranks, turn);
                check(&w, true);
            }
    }
}

/* More ranks than tokens: nothing comes from some, whose keys nobody waits for. */
static void empty_ranks_send_no_keys(void **state)
{
    (void)state;
    size_t preset;
    assert_int_equal(ringx_preset_find("ringX3", &preset), RINGX_OK);
    for (int64_t tokens = 1; tokens < 8; tokens++) {
        world w = random_world(preset, 8, 3);
        w.problem.tokens = tokens;
        build_proved(&w);
        for (int r = 0; r < w.ranks; r++) {
            ringx_program p = program_of(&w, r);
            if (ringx__layout_count(&w.layout, r) > 0)
                expect_arrivals(&p, &w, r, 0, "few tokens");
            ringx__program_free(&p);
        }
        world_free(&w);
    }
}

static void what_cannot_be_one_kernel_is_not(void **state)
{
    (void)state;
    size_t preset;
    assert_int_equal(ringx_preset_find("ring", &preset), RINGX_OK);
    for (int way = 0; way < 4; way++) {
        world w = random_world(preset, 2, 25);
        w.awaits = way != 0;   /* the kernel cannot wait */
        w.backward = way == 1; /* gradients */
        if (way == 2) {        /* more than there are words */
            w.ranks = 9;
            w.slices = 5;
        }
        if (way == 3) {
            w.problem.kv_heads = w.problem.q_heads = 2 * RINGX_ARRIVALS;
            w.slices = RINGX_ARRIVALS + 1;
        }
        w.taper = false;
        check(&w, false);
    }
}

/* All others' keys have memory of their own, and what is packed at most as much as one rank's. */
static void memory_is_everyones_keys(void **state)
{
    (void)state;
    size_t preset;
    assert_int_equal(ringx_preset_find("ringX3", &preset), RINGX_OK);
    for (int ranks = 2; ranks <= 12; ranks++)
        for (int slices = 1; slices <= 2; slices++) {
            world w = random_world(preset, ranks, 0);
            w.problem.tokens = 8 * ranks; /* even parts, of whole lines of memory */
            w.problem.documents = 0;
            w.problem.head_dim = w.problem.value_dim = 32;
            w.slices = slices;
            w.taper = false;
            build_proved(&w);
            size_t keys = ringx__block_bytes(&w.shape, RINGX_KV, 8, w.shape.kv_heads);
            assert_int_equal(w.schedules[ranks - 1].workspace_bytes, (size_t)ranks * keys);
            world_free(&w);
        }
}

/* The library's own limit keeps within words and the kernel's runs. */
static void limits_agree(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 12; ranks++) {
        int slices = ringx__most_awaited(ranks);
        assert_true(slices >= 1);
        assert_true(slices * (ranks - 1) <= RINGX_ARRIVALS);
    }
    assert_int_equal(ringx__most_awaited(8), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_all_gather_is_one_kernel),
                                       cmocka_unit_test(empty_ranks_send_no_keys),
                                       cmocka_unit_test(what_cannot_be_one_kernel_is_not),
                                       cmocka_unit_test(memory_is_everyones_keys), cmocka_unit_test(limits_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
