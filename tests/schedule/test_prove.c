/* SPDX-License-Identifier: MIT */
/* Every preset proves: 1 … 64 ranks, awkward lengths, lookaheads, slices, nodes, wires; masks change no schedule. */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "schedule/schedules.h"

#ifdef __has_feature /* clang's way to say what gcc says by macros */
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(SANITIZED) || defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MOST_RANKS 24 /* a slow build that is after other things */
#else
#define MOST_RANKS 64
#endif
#define LENGTHS 7

static int64_t length_at(int i, int ranks)
{
    const int64_t lengths[LENGTHS] = {0, 1, ranks - 1, 63, 64, 127, 65 * (int64_t)ranks + 1};
    return lengths[i];
}

/* The k-th divisor of n, in turn. */
static int divisor(int n, int k)
{
    int count = 0;
    for (int d = 1; d <= n; d++)
        count += n % d == 0;
    k %= count;
    for (int d = 1;; d++)
        if (n % d == 0 && k-- == 0)
            return d;
}

/* Fewer tiles than all owners × all owners would mean that the walk saw less than there is. */
static uint64_t least_tiles(const world *w)
{
    uint64_t n = (uint64_t)w->ranks;
    return w->ranks == 1 || strcmp(w->preset->algorithm, "headswap") == 0 ? n : n * n * (uint64_t)w->slices;
}

/* "" or what went wrong; safe to call from any thread. */
static void try_world(world *w, char *text, size_t bytes)
{
    ringx_proof proof;
    text[0] = 0;
    ringx_status status = world_build(w);
    if (status == RINGX_OK)
        status = ringx__prove(w->list, w->ranks, &proof);
    const char *wrong = NULL;
    if (status != RINGX_OK)
        wrong = ringx_last_error();
    else if (w->problem.tokens >= w->ranks && proof.tiles < least_tiles(w))
        wrong = "fewer tiles than owners × owners";
    else if (proof.steps == 0 || proof.workspace_bytes != w->schedules[0].workspace_bytes)
        wrong = w->problem.tokens > w->ranks && proof.steps == 0 ? "no steps" : NULL;
    if (wrong)
        snprintf(text, bytes,
                 "%s, %s, %d ranks, %lld tokens, lookahead %d, %d slices%s%s, %d head ranks, %d a node: %s",
                 w->preset->name, w->backward ? "backward" : "forward", w->ranks, (long long)w->problem.tokens,
                 w->lookahead, w->slices, w->taper ? " tapered" : "",
                 w->awaits   ? " awaited"
                 : w->joined ? " joined"
                             : "",
                 w->head_ranks, w->ranks_per_node, wrong);
    world_free(w);
}

static void every_preset_at(size_t preset, int ranks, char *text, size_t bytes)
{
    text[0] = 0;
    for (int i = 0; i < LENGTHS && !text[0]; i++)
        for (int backward = 0; backward < 2 && !text[0]; backward++) {
            int turn = ranks + i;
            world w = small_world(ringx_preset_at(preset), ranks, length_at(i, ranks), backward != 0);
            w.lookahead = turn % 4 == 3 ? w.lookahead : turn % 4;
            w.slices = ranks <= 16 ? 1 + turn % 3 : 1;
            w.head_ranks = divisor(ranks, turn + 1);
            w.ranks_per_node = divisor(ranks, turn);
            w.wire = turn % 5 == 0 ? RINGX_BF16 : RINGX_F32;
            w.taper = (turn + ranks / 3) % 2;
            w.joined = turn / 2 % 2;
            w.awaits = w.joined && ranks <= 12 && (turn + ranks) % 3 == 0;
            w.problem.kv_heads = (ranks + 2 * i) % 3 ? w.problem.kv_heads : w.problem.q_heads;
            int but_one = (int)w.problem.kv_heads - 1; /* of two slices the last has one head */
            w.first = turn % 4 == 1 && w.slices > 1 ? but_one / (w.slices - 1) : 0;
            try_world(&w, text, bytes);
        }
}

/* Presets of one algorithm, layout and lookahead write the same schedules: the first stands for them. */
static bool is_first_of_its_kind(size_t preset)
{
    const ringx_preset_entry *a = ringx_preset_at(preset);
    for (size_t i = 0; i < preset; i++) {
        const ringx_preset_entry *b = ringx_preset_at(i);
        if (strcmp(a->algorithm, b->algorithm) == 0 && strcmp(a->layout, b->layout) == 0 &&
            a->lookahead == b->lookahead && a->two_level == b->two_level)
            return false;
    }
    return true;
}

typedef struct queue { /* (preset, ranks) still to do, shared by the workers */
    atomic_size_t next;
    size_t presets;
} queue;

typedef struct worker {
    queue *jobs;
    size_t done, failures;
    char last[1600];
} worker;

static void *work(void *argument)
{
    worker *w = argument;
    for (;;) {
        size_t job = atomic_fetch_add(&w->jobs->next, 1);
        if (job >= w->jobs->presets * MOST_RANKS)
            return NULL;
        char text[sizeof w->last] = "";
        if (is_first_of_its_kind(job % w->jobs->presets))
            every_preset_at(job % w->jobs->presets, MOST_RANKS - (int)(job / w->jobs->presets), text, sizeof text);
        w->done++;
        if (text[0]) {
            w->failures++;
            memcpy(w->last, text, sizeof w->last);
        }
    }
}

static void test_every_preset_proves(void **state)
{
    (void)state;
    queue jobs = {.presets = 0};
    while (ringx_preset_at(jobs.presets))
        jobs.presets++;
    worker workers[2] = {{.jobs = &jobs}, {.jobs = &jobs}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(workers[0].done + workers[1].done, jobs.presets * MOST_RANKS);
    for (int i = 0; i < 2; i++)
        if (workers[i].failures)
            fail_msg("%zu did not prove; the last: %s", workers[i].failures, workers[i].last);
}

/* All combinations of the knobs, at a few sizes. */
static void test_knobs(void **state)
{
    (void)state;
    static const int sizes[] = {2, 3, 4, 6, 8};
    for (size_t preset = 0; ringx_preset_at(preset); preset++)
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++)
            for (int knob = 0; knob < 3 * 3 * 4 * 2; knob++) {
                char text[1600];
                int ranks = sizes[n];
                world w = small_world(ringx_preset_at(preset), ranks, 97, knob / 36 != 0);
                w.lookahead = knob % 3;
                w.slices = 1 + knob / 3 % 3;
                w.head_ranks = w.ranks_per_node = divisor(ranks, knob / 9 % 4);
                w.wire = knob % 2 ? RINGX_F16 : RINGX_F32;
                try_world(&w, text, sizeof text);
                if (text[0])
                    fail_msg("%s", text);
            }
}

static bool same_step(const ringx_step *a, const ringx_step *b)
{
    return a->op == b->op && a->lane == b->lane && a->shift == b->shift && a->fresh == b->fresh &&
           a->final == b->final && a->stage == b->stage && a->slice == b->slice && a->group == b->group &&
           a->root == b->root && a->operand == b->operand && a->operands == b->operands && a->wait == b->wait &&
           a->place == b->place;
}

static bool same_operand(const ringx_operand *a, const ringx_operand *b)
{
    return a->buffer == b->buffer && a->owner == b->owner && a->offset == b->offset && a->bytes == b->bytes &&
           a->head == b->head && a->heads == b->heads && a->peer == b->peer && a->kind == b->kind &&
           a->mode == b->mode && a->narrow == b->narrow;
}

static void assert_same_schedule(const ringx_schedule *a, const ringx_schedule *b)
{
    assert_int_equal(a->n_steps, b->n_steps);
    assert_int_equal(a->n_operands, b->n_operands);
    for (size_t i = 0; i < a->n_steps; i++)
        assert_true(same_step(&a->steps[i], &b->steps[i]));
    for (size_t i = 0; i < a->n_operands; i++)
        assert_true(same_operand(&a->operands[i], &b->operands[i]));
}

/* What proves for one mask therefore proves for all of them. */
static void test_masks_change_no_schedule(void **state)
{
    (void)state;
    static const int64_t starts[] = {3, 3, 20, 90};
    for (size_t preset = 0; ringx_preset_at(preset); preset++)
        for (int mask = 0; mask < 4; mask++)
            for (int backward = 0; backward < 2; backward++) {
                world full = small_world(ringx_preset_at(preset), 5, 97, backward != 0), masked = full;
                masked.problem.causal = mask == 0 || mask == 3;
                masked.problem.window_left = mask == 1 ? 7 : -1;
                masked.problem.window_right = mask == 1 ? 2 : -1;
                masked.problem.document_starts = mask >= 2 ? starts : NULL;
                masked.problem.documents = mask >= 2 ? 3 : 0;
                assert_int_equal(world_build(&full), RINGX_OK);
                assert_int_equal(world_build(&masked), RINGX_OK);
                for (int r = 0; r < 5; r++)
                    assert_same_schedule(&full.schedules[r], &masked.schedules[r]);
                ringx_proof proof;
                assert_int_equal(ringx__prove(masked.list, 5, &proof), RINGX_OK);
                world_free(&full);
                world_free(&masked);
            }
}

/* Llama-3-like heads over 256 ranks: the size at which a person would ask. */
static void test_many_ranks(void **state)
{
    (void)state;
    for (size_t preset = 0; ringx_preset_at(preset); preset++) {
        char text[1600];
        world w = small_world(ringx_preset_at(preset), 256, 1048573, preset % 2 != 0);
        w.problem.batch = 1;
        w.problem.q_heads = 32;
        w.problem.kv_heads = 8;
        w.problem.head_dim = w.problem.value_dim = 128;
        w.head_ranks = w.ranks_per_node = 8;
        try_world(&w, text, sizeof text);
        if (text[0])
            fail_msg("%s", text);
    }
}

static void test_no_ranks(void **state)
{
    (void)state;
    ringx_proof proof;
    assert_int_equal(ringx__prove(NULL, 0, &proof), RINGX_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_preset_proves),
        cmocka_unit_test(test_knobs),
        cmocka_unit_test(test_masks_change_no_schedule),
        cmocka_unit_test(test_many_ranks),
        cmocka_unit_test(test_no_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
