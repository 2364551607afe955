/* SPDX-License-Identifier: MIT */
/* The defects that the original algorithms and their peers have or had, each a case that breaks them: here it passes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/attention_case.h"
#include "kernel/kernel.h"
#include "schedule/schedules.h"

static const char *const all_presets[] = {"ringX1",  "ringX1o", "ringX2", "ringX2o", "ringX3",   "ringX3b", "ringX4",
                                          "ringX4o", "ring",    "zigzag", "stripe",  "megatron", "ulysses", "usp"};
enum { PRESETS = sizeof all_presets / sizeof *all_presets };

static attention_case case_of(const char *preset, int ranks, int64_t tokens)
{
    attention_case c = {.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = ranks};
    c.problem.batch = 1;
    c.problem.tokens = tokens;
    c.problem.q_heads = 4;
    c.problem.kv_heads = 2;
    c.problem.head_dim = 8;
    c.problem.causal = true;
    c.options.preset = preset;
    c.options.threads = 1;
    c.data_seed = (uint64_t)(tokens * 64 + ranks);
    return c;
}

static void expect_right(attention_case *c)
{
    case_run(c);
    if (!case_right(c))
        fail_msg("%s, %lld tokens, %d ranks", c->options.preset, (long long)c->problem.tokens, c->ranks);
    case_free(c);
}

static void all_right(const attention_case *like)
{
    for (int i = 0; i < PRESETS; i++) {
        attention_case c = *like;
        c.options.preset = all_presets[i];
        expect_right(&c);
    }
}

static const ringx_preset_entry *preset_of(const char *name)
{
    size_t i;
    assert_int_equal(ringx_preset_find(name, &i), RINGX_OK);
    return ringx_preset_at(i);
}

static void every_preset_is_tried(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++) {
        bool found = false;
        for (int j = 0; j < PRESETS; j++)
            found |= strcmp(all_presets[j], ringx_preset_at(i)->name) == 0;
        if (!found)
            fail_msg("%s is in no list here", ringx_preset_at(i)->name);
    }
}

/* ---- the originals: wrong results ---- */

/* X4, X4o: for owners below the rank only the first half of dK,dV was written, all of it was reduced.  The harness
 * fills the workspace with NaN before the backward. */
static void x4_backward_sends_no_stale_second_half(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 5; ranks++)
        for (int64_t tokens = 40; tokens <= 43; tokens++)
            for (int o = 0; o < 2; o++) {
                attention_case c = case_of(o ? "ringX4o" : "ringX4", ranks, tokens);
                expect_right(&c);
            }
}

/* X4o: a rank in its group was compared with a global rank, so that groups other than the first broadcast garbage. */
static void roots_in_groups_other_than_the_first(void **state)
{
    (void)state;
    for (int ranks = 4; ranks <= 8; ranks += 2)
        for (int per = 2; per < ranks; per++)
            if (ranks % per == 0) {
                attention_case c = case_of("ringX3b", ranks, 45);
                c.options.ranks_per_node = per;
                expect_right(&c);
                c = case_of("usp", ranks, 45);
                c.options.head_ranks = per;
                expect_right(&c);
            }
}

static void *run_case(void *c)
{
    case_run(c);
    return NULL;
}

/* … and two groups that are communicators of their own work beside each other. */
static void communicators_beside_each_other(void **state)
{
    (void)state;
    for (int i = 0; i < PRESETS; i++) {
        attention_case c[2] = {case_of(all_presets[i], 2, 33), case_of(all_presets[(i + 5) % PRESETS], 3, 29)};
        pthread_t thread[2];
        for (int k = 0; k < 2; k++)
            assert_int_equal(pthread_create(&thread[k], NULL, run_case, &c[k]), 0);
        for (int k = 0; k < 2; k++)
            pthread_join(thread[k], NULL);
        for (int k = 0; k < 2; k++) {
            if (!case_right(&c[k]))
                fail_msg("%s beside another", c[k].options.preset);
            case_free(&c[k]);
        }
    }
}

/* X4o: a slice of lse was handed to a kernel that took it for contiguous: wrong gradients for heads >= 1. */
static void gradients_of_heads_after_the_first(void **state)
{
    (void)state;
    for (int slices = 1; slices <= 5; slices += 2) {
        attention_case c = case_of(NULL, 3, 31);
        c.problem.batch = 2;
        c.problem.kv_heads = 5;
        c.problem.q_heads = 15;
        c.options.slices = slices;
        all_right(&c);
    }
}

/* X1 backward computed blocks of the future, X1o's ignored causal. */
static void x1_backward_is_causal(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 4; ranks++)
        for (int o = 0; o < 2; o++) {
            attention_case c = case_of(o ? "ringX1o" : "ringX1", ranks, 37);
            expect_right(&c);
        }
}

/* X1o failed for one rank. */
static void one_rank_runs_every_preset(void **state)
{
    (void)state;
    attention_case c = case_of(NULL, 1, 23);
    all_right(&c);
    for (int i = 0; i < PRESETS; i++) {
        ringx_comm *self;
        ringx_plan *plan;
        ringx_plan_info info;
        c = case_of(all_presets[i], 1, 23);
        assert_int_equal(ringx_comm_self(&self), RINGX_OK);
        assert_int_equal(ringx_plan_create(&plan, &c.problem, &c.options, self), RINGX_OK);
        ringx_plan_describe(plan, &info);
        assert_int_equal(info.forward.wire_bytes + info.backward.wire_bytes, 0);
        assert_int_equal(info.local_tokens, 23);
        ringx_plan_destroy(plan);
        ringx_comm_destroy(self);
    }
}

/* ---- the originals: what travels and what is repeated ---- */

static world world_of(const char *name, int ranks, bool backward)
{
    world w = small_world(preset_of(name), ranks, 64 * (int64_t)ranks, backward);
    if (strcmp(name, "usp") == 0)
        w.head_ranks = 2;
    if (strcmp(name, "ringX3b") == 0)
        w.ranks_per_node = 2;
    w.slices = 3;
    return w;
}

static int count_steps(const ringx_schedule *s, ringx_op op, int kind)
{
    int n = 0;
    for (size_t i = 0; i < s->n_steps; i++)
        n += s->steps[i].op == op && (kind < 0 || s->operands[s->steps[i].operand].kind == kind);
    return n;
}

/* X2, X2o reduced a dQ to which only its destination contributed. */
static void no_dq_travels(void **state)
{
    (void)state;
    for (int p = 0; p < PRESETS; p++) {
        world w = world_of(all_presets[p], 4, true);
        if (strcmp(w.preset->algorithm, "headswap") == 0)
            continue; /* there the sums of a head's queries go to their owners, once */
        assert_int_equal(world_build(&w), RINGX_OK);
        for (size_t i = 0; i < w.schedules[1].n_steps; i++)
            for (uint32_t j = 0; j < w.schedules[1].steps[i].operands; j++)
                if (ringx__step_transfers(&w.schedules[1].steps[i]))
                    assert_int_not_equal(w.schedules[1].operands[w.schedules[1].steps[i].operand + j].kind, RINGX_DQ);
        world_free(&w);
    }
}

/* delta and the zeroing of dQ were repeated for every block. */
static void delta_and_dq_are_prepared_once(void **state)
{
    (void)state;
    for (int p = 0; p < PRESETS; p++) {
        world w = world_of(all_presets[p], 4, true);
        bool headswap = strcmp(w.preset->algorithm, "headswap") == 0;
        assert_int_equal(world_build(&w), RINGX_OK);
        for (int r = 0; r < 4; r++) {
            assert_int_equal(count_steps(&w.schedules[r], RINGX_DELTA_, -1), 1);
            if (!headswap)
                assert_int_equal(count_steps(&w.schedules[r], RINGX_CLEAR, RINGX_DQ), w.slices);
        }
        world_free(&w);
    }
}

/* Every rank copied buffers in every step, launched N kernels and merged N times. */
static void own_blocks_are_packed_once_and_gathered_ones_attended_together(void **state)
{
    (void)state;
    for (int p = 0; p < PRESETS; p++)
        for (int backward = 0; backward < 2; backward++) {
            world w = world_of(all_presets[p], 4, backward != 0);
            if (strcmp(w.preset->algorithm, "headswap") == 0)
                continue;
            assert_int_equal(world_build(&w), RINGX_OK);
            for (int r = 0; r < 4; r++) {
                assert_int_equal(count_steps(&w.schedules[r], RINGX_PACK, -1), w.slices);
                if (strcmp(w.preset->algorithm, "kvgather") == 0 && !w.preset->two_level)
                    assert_int_equal(count_steps(&w.schedules[r], backward ? RINGX_GRAD : RINGX_ATTEND, -1),
                                     2 * w.slices);
            }
            world_free(&w);
        }
}

static ringx_plan_info describe(const ringx_problem *p, const ringx_options *o, int ranks, int rank)
{
    ringx_study *s;
    ringx_plan_info info;
    assert_int_equal(ringx_study_create(&s, p, o, ranks), RINGX_OK);
    assert_int_equal(ringx_study_describe(s, rank, &info), RINGX_OK);
    ringx_study_destroy(s);
    return info;
}

/* GQA was not used: K,V of every query head travelled.  Volumes are those of an ideal implementation. */
static void volumes_are_ideal_and_use_gqa(void **state)
{
    (void)state;
    for (int p = 0; p < PRESETS; p++)
        for (int kv_heads = 1; kv_heads <= 8; kv_heads *= 2)
            for (int ranks = 2; ranks <= 8; ranks *= 2) {
                ringx_problem pr = RINGX_PROBLEM_INIT;
                ringx_options o = RINGX_OPTIONS_INIT;
                pr.batch = 1;
                pr.tokens = 256 * ranks;
                pr.q_heads = 8;
                pr.kv_heads = kv_heads;
                pr.head_dim = 64;
                pr.dtype = RINGX_BF16;
                o.preset = all_presets[p];
                o.ranks_per_node = 2;
                const char *algorithm = preset_of(all_presets[p])->algorithm;
                ringx_plan_info info = describe(&pr, &o, ranks, ranks - 1);
                double t = 256, d = 64, q = t * 8 * d * 2, kv = 2 * t * kv_heads * d * 2, o4 = 4 * t * 8 * d,
                       l = 4 * t * 8;
                double dkv4 = 8 * t * kv_heads * d, forward = kv, backward = kv + dkv4;
                if (strcmp(algorithm, "headswap") == 0)
                    continue;
                if (strcmp(algorithm, "qbcast") == 0)
                    forward = q + o4 + (info.lookahead > 0 && ranks <= 4 ? 2 * l : 3 * l);
                if ((double)info.forward.wire_bytes != forward * (ranks - 1) ||
                    (double)info.backward.wire_bytes != backward * (ranks - 1))
                    fail_msg("%s, %d kv heads, %d ranks: %.0f and %.0f bytes, ideal %.0f and %.0f", all_presets[p],
                             kv_heads, ranks, (double)info.forward.wire_bytes, (double)info.backward.wire_bytes,
                             forward * (ranks - 1), backward * (ranks - 1));
            }
}

/* The benchmark ignored causal, and counted what was never run. */
static void flops_are_those_of_live_pairs(void **state)
{
    (void)state;
    static const int64_t bounds[] = {5, 40, 40, 90};
    for (int p = 0; p < PRESETS; p++)
        for (int mask = 0; mask < 4; mask++)
            for (int ranks = 1; ranks <= 5; ranks++) {
                ringx_problem pr = RINGX_PROBLEM_INIT;
                ringx_options o = RINGX_OPTIONS_INIT;
                double pairs = 0, forward = 0, backward = 0;
                pr.batch = 3;
                pr.tokens = 101;
                pr.q_heads = 6;
                pr.kv_heads = 3;
                pr.head_dim = 16;
                pr.value_dim = 8;
                pr.causal = mask > 0;
                pr.window_left = mask == 2 ? 11 : -1;
                pr.document_starts = bounds;
                pr.documents = mask == 3 ? 3 : 0;
                o.preset = all_presets[p];
                for (int64_t i = 0; i < 101; i++)
                    for (int64_t j = 0; j < 101; j++) {
                        bool document =
                            (i >= 5 && j >= 5 && i < 40 && j < 40) || (i >= 40 && j >= 40 && i < 90 && j < 90);
                        pairs += (mask == 0 || j <= i) && (mask != 2 || i - j <= 11) && (mask != 3 || document);
                    }
                if (mask == 1)
                    assert_true(pairs == 101.0 * 102 / 2);
                for (int r = 0; r < ranks; r++) {
                    ringx_plan_info info = describe(&pr, &o, ranks, r);
                    forward += info.forward.flops;
                    backward += info.backward.flops;
                }
                double want = 2.0 * (16 + 8) * pairs * 3 * 6;
                if (fabs(forward / want - 1) > 1e-12 || fabs(backward / (2.5 * want) - 1) > 1e-12)
                    fail_msg("%s, mask %d, %d ranks: %g and %g flops, expected %g and %g", all_presets[p], mask, ranks,
                             forward, backward, want, 2.5 * want);
            }
}

/* ---- the originals: precision ---- */

static double growth(const char *preset, int t)
{
    double one = 0, many = 0;
    for (int draw = 0; draw < 4; draw++) {
        attention_case a = case_of("ring", 1, 128);
        a.problem.dtype = RINGX_BF16;
        a.data_seed = (uint64_t)draw + 11;
        case_run(&a);
        attention_case b = a;
        b.options.preset = preset;
        b.ranks = 8;
        b.like = &a;
        case_run(&b);
        assert_true(case_right(&a) && case_right(&b));
        one += case_error(&a, t);
        many += case_error(&b, t);
        case_free(&a);
        case_free(&b);
    }
    return many / one;
}

/* X3 summed dK,dV in bf16: the error grew with N. */
static void x3_sums_gradients_in_float(void **state)
{
    (void)state;
    static const char *const presets[] = {"ringX3", "ringX3b", "megatron", "ringX4"};
    for (int i = 0; i < 4; i++)
        for (int t = T_DK; t <= T_DV; t++)
            if (!(growth(presets[i], t) <= 1.05))
                fail_msg("%s: the error of %s grows by %g", presets[i], tensor_name[t], growth(presets[i], t));
}

/* Partial results left the kernel in bf16 and were widened afterwards. */
static void partial_results_stay_float(void **state)
{
    (void)state;
    static const char *const presets[] = {"ringX1", "ringX2o", "ring", "ringX4o", "usp"};
    for (int i = 0; i < 5; i++)
        if (!(growth(presets[i], T_OUT) <= 1.05) || !(growth(presets[i], T_LSE) <= 1.05))
            fail_msg("%s: the error of out grows by %g", presets[i], growth(presets[i], T_OUT));
}

/* ---- the originals: overlap ---- */

/* Largest stage of the tiles that must be done before the step at `place` of the communication lane can begin; lanes
 * run in order, so it also waits for what the steps before it wait for. */
static int awaited_stage(const ringx_schedule *s, size_t place)
{
    uint32_t wait = 0;
    int stage = -1;
    for (size_t i = 0; i <= place; i++)
        wait = s->lane_wait[RINGX_COMM_LANE][i] > wait ? s->lane_wait[RINGX_COMM_LANE][i] : wait;
    for (uint32_t i = 0; i < wait; i++) {
        const ringx_step *step = &s->steps[s->lane_step[RINGX_COMPUTE_LANE][i]];
        if ((step->op == RINGX_ATTEND || step->op == RINGX_GRAD) && step->stage > stage)
            stage = step->stage;
    }
    return stage;
}

/* Of the transfers that bring what a stage needs: how many are issued only after the tiles of the stage before. */
static int late_transfers(const world *w, int *transfers)
{
    int late = 0;
    *transfers = 0;
    for (int r = 0; r < w->ranks; r++) {
        const ringx_schedule *s = &w->schedules[r];
        for (size_t i = 0; i < s->lane_count[RINGX_COMM_LANE]; i++) {
            const ringx_step *step = &s->steps[s->lane_step[RINGX_COMM_LANE][i]];
            if (step->shift >= 0 || !ringx__step_transfers(step))
                continue;
            ++*transfers;
            late += awaited_stage(s, i) >= step->stage - 1 && step->stage > 0;
        }
    }
    return late;
}

/* The "o" variants issued the next transfer after the compute it should hide behind: X4o, and the backwards of X1o and
 * X2o, were serial. */
static void the_next_transfer_is_issued_before_the_compute(void **state)
{
    (void)state;
    for (int p = 0; p < PRESETS; p++)
        for (int backward = 0; backward < 2; backward++) {
            world w = world_of(all_presets[p], 4, backward != 0);
            int transfers, late;
            assert_int_equal(world_build(&w), RINGX_OK);
            late = late_transfers(&w, &transfers);
            assert_true(transfers >= 4);
            if (w.lookahead >= 1 && late > 0)
                fail_msg("%s %s: %d of %d transfers come late", all_presets[p], backward ? "backward" : "forward", late,
                         transfers);
            if (w.lookahead == 0) /* one slot: blocking, as these presets promise */
                assert_true(late > 0);
            world_free(&w);
        }
}

static ringx_forecast forecast(const char *preset, bool backward)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    ringx_options o = RINGX_OPTIONS_INIT;
    ringx_study *s;
    ringx_forecast f[2];
    p.batch = 1;
    p.tokens = 65536;
    p.q_heads = 32;
    p.kv_heads = 8;
    p.head_dim = 128;
    p.dtype = RINGX_BF16;
    p.causal = preset_of(preset)->causal;
    o.preset = preset;
    assert_int_equal(ringx_study_create(&s, &p, &o, 8), RINGX_OK);
    assert_int_equal(ringx_study_forecast(s, "h200x8", &f[0], &f[1]), RINGX_OK);
    ringx_study_destroy(s);
    return f[backward];
}

static void overlapped_presets_expose_less(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"ringX1", "ringX1o"}, {"ringX2", "ringX2o"}, {"ringX4", "ringX4o"}};
    for (int i = 0; i < 3; i++)
        for (int backward = 0; backward < 2; backward++) {
            ringx_forecast blocking = forecast(pairs[i][0], backward), overlapped = forecast(pairs[i][1], backward);
            if (!(overlapped.exposed_s < 0.8 * blocking.exposed_s && overlapped.seconds < blocking.seconds))
                fail_msg("%s exposes %g s of %g, %s %g of %g", pairs[i][1], overlapped.exposed_s, overlapped.seconds,
                         pairs[i][0], blocking.exposed_s, blocking.seconds);
        }
}

/* ---- merging ---- */

/* The merge by logsigmoid gave NaN for (-inf) + finite, and NaN output for (-inf) + (-inf). */
static void rescaling_to_minus_infinity_and_from_it(void **state)
{
    (void)state;
    static const struct {
        float m, agreed, acc, l; /* acc and l: what becomes of 3 and 2 */
    } table[] = {
        {-INFINITY, -INFINITY, 0, 0}, {-INFINITY, 1, 0, 0},  {-INFINITY, 3e38f, 0, 0}, {1, 1, 3, 2},
        {0, 2, 0.75f, 0.5f},          {-1e38f, 1e38f, 0, 0}, {-3, -2, 1.5f, 1},        {3e38f, 3e38f, 3, 2},
        {-3e38f, -3e38f, 3, 2},
    };
    const ringx_rowops *ops = ringx__rowops(RINGX_CPU);
    ringx_problem p = RINGX_PROBLEM_INIT;
    ringx_shape shape;
    p.batch = p.tokens = p.q_heads = p.kv_heads = p.head_dim = 1;
    assert_int_equal(ringx__shape_create(&shape, &p), RINGX_OK);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        float m = table[i].m, agreed = table[i].agreed, empty = table[i].m == -INFINITY;
        float acc = empty != 0 ? 0 : 3, l = empty != 0 ? 0 : 2, out = NAN, lse = NAN;
        ringx_view view = {&acc, 1, 1, 1}, result = {&out, 1, 1, 1};
        ringx_rows rm = {&m, 1, 1}, rl = {&l, 1, 1}, ra = {&agreed, 1, 1}, rlse = {&lse, 1, 1};
        assert_int_equal(ops->rescale(&shape, 1, 1, view, rm, rl, ra, 1, NULL), RINGX_OK);
        assert_true(acc == table[i].acc && l == table[i].l && m == agreed);
        assert_int_equal(ops->finish(&shape, 1, 1, &(ringx_state){view, rm, rl}, 1, result, rlse, 1, NULL), RINGX_OK);
        if (l > 0)
            assert_true(out == acc / l && fabsf(lse / (0.6931472f * (m + log2f(l))) - 1) < 1e-6f);
        else
            assert_true(out == 0 && lse == -INFINITY);
    }
    ringx__shape_destroy(&shape);
}

/* Rows whose first blocks, last blocks, or all blocks hold no key they see. */
static void rows_without_keys_merge(void **state)
{
    (void)state;
    static const int64_t bounds[] = {9, 9, 14, 15, 33};
    for (int ranks = 2; ranks <= 5; ranks++)
        for (int causal = 0; causal < 2; causal++) {
            attention_case c = case_of(NULL, ranks, 41);
            c.problem.causal = causal != 0;
            c.problem.window_left = causal ? 2 : 0;
            c.problem.window_right = causal ? -1 : 3;
            c.problem.document_starts = bounds;
            c.problem.documents = 4;
            all_right(&c);
        }
}

/* window_size was passed on with local indices. */
static void windows_reach_over_ranks(void **state)
{
    (void)state;
    static const int64_t reach[][2] = {{3, 0}, {15, 4}, {30, -1}, {0, 20}, {-1, 5}};
    for (int i = 0; i < 5; i++) {
        attention_case c = case_of(NULL, 4, 47); /* shards of about 12 */
        c.problem.causal = i == 0;
        c.problem.window_left = reach[i][0];
        c.problem.window_right = reach[i][1];
        all_right(&c);
    }
}

/* Dropout's backward used a random state that nothing had set. */
static void dropout_is_the_same_in_both_directions_and_everywhere(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 4; ranks++) {
        attention_case c = case_of(NULL, ranks, 39);
        c.problem.dropout = 0.5;
        c.problem.seed = UINT64_C(0x123456789abcdef);
        all_right(&c);
    }
}

/* ---- lengths ---- */

/* Every collective assumed equal shards.  7 over 2: TransformerEngine #1930; 698 over 4: #3331. */
static void lengths_that_do_not_divide(void **state)
{
    (void)state;
    static const struct {
        int64_t tokens;
        int ranks;
    } odd[] = {{7, 2}, {1, 2}, {5, 8}, {127, 4}, {61, 6}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        for (int causal = 0; causal < 2; causal++) {
            attention_case c = case_of(NULL, odd[i].ranks, odd[i].tokens);
            c.problem.causal = causal != 0;
            all_right(&c);
        }
    attention_case c = case_of(NULL, 4, 698);
    c.problem.q_heads = 2;
    c.problem.kv_heads = 1;
    all_right(&c);
}

/* 2999 over 4: EasyContext #47.  4,050 a rank and 64,800 over 64: the climate application. */
static void long_odd_lengths(void **state)
{
    (void)state;
    attention_case c = case_of("zigzag", 4, 2999);
    c.problem.q_heads = c.problem.kv_heads = 1;
    c.problem.head_dim = 4;
    expect_right(&c);
    if (getenv("RINGX_LONG")) {
        attention_case whole = case_of("ring", 1, 8100);
        whole.problem.q_heads = whole.problem.kv_heads = 1;
        whole.problem.causal = false;
        case_run(&whole);
        assert_true(case_right(&whole));
        for (int i = 0; i < PRESETS; i++) {
            attention_case half = whole;
            half.like = &whole;
            half.ranks = 2;
            half.options.preset = all_presets[i];
            expect_right(&half);
        }
        case_free(&whole);
    }
}

static void the_shapes_of_the_climate_application_are_proved(void **state)
{
    (void)state;
    static const struct {
        int64_t tokens;
        int ranks;
    } shapes[] = {{64800, 16}, {64800, 64}};
    for (int i = 0; i < PRESETS; i++)
        for (int k = 0; k < 2; k++) {
            ringx_problem p = RINGX_PROBLEM_INIT;
            ringx_options o = RINGX_OPTIONS_INIT;
            ringx_study *s;
            ringx_proof proof;
            int64_t sum = 0;
            p.batch = 1;
            p.tokens = shapes[k].tokens;
            p.q_heads = p.kv_heads = 16;
            p.head_dim = 48;
            p.dtype = RINGX_BF16;
            o.preset = all_presets[i];
            assert_int_equal(ringx_study_create(&s, &p, &o, shapes[k].ranks), RINGX_OK);
            for (int r = 0; r < shapes[k].ranks; r += 5) {
                ringx_plan_info info;
                assert_int_equal(ringx_study_describe(s, r, &info), RINGX_OK);
                sum += info.local_tokens;
                assert_true(llabs(info.local_tokens - shapes[k].tokens / shapes[k].ranks) <= 2);
            }
            assert_true(sum > 0);
            if (k == 0 && ringx_study_prove(s, &proof) != RINGX_OK)
                fail_msg("%s: %s", all_presets[i], ringx_last_error());
            ringx_study_destroy(s);
        }
}

/* ---- peers ---- */

/* DeepSpeed #7384, #7868: wrong whenever the heads do not divide by the ranks. */
static void ulysses_with_heads_that_do_not_divide(void **state)
{
    (void)state;
    static const int shapes[][3] = {{4, 3, 3}, {4, 3, 6}, {3, 2, 4}, {5, 2, 6},
                                    {6, 4, 4}, {4, 1, 7}, {5, 7, 7}, {8, 1, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int slices = 0; slices <= shapes[i][1]; slices += shapes[i][1])
            for (int usp = 0; usp < 2; usp++) {
                attention_case c = case_of(usp ? "usp" : "ulysses", shapes[i][0], 35);
                c.problem.kv_heads = shapes[i][1];
                c.problem.q_heads = shapes[i][2];
                c.options.slices = slices;
                c.options.ranks_per_node = shapes[i][0] % 2 ? 0 : 2;
                expect_right(&c);
            }
}

/* diffusers #14265: the ring's backward used the first K,V again.  Each owner's K,V are of another size here. */
static void scale_by_owner(attention_case *c)
{
    for (int t = T_K; t <= T_V; t++) {
        size_t n = case_elements(&c->problem, t), row = n / (size_t)c->problem.tokens;
        for (size_t i = 0; i < n; i++)
            c->want[t][i] *= 1 + (double)(i / row * (size_t)c->ranks / (size_t)c->problem.tokens);
    }
}

static void the_ring_takes_everyones_keys_backward(void **state)
{
    (void)state;
    static const char *const presets[] = {"ring", "zigzag", "stripe", "usp"};
    for (int i = 0; i < 4; i++)
        for (int ranks = 2; ranks <= 5; ranks++) {
            attention_case c = case_of(presets[i], ranks, 36);
            c.problem.causal = false;
            c.alter = scale_by_owner;
            expect_right(&c);
        }
}

/* Megatron #1764: shards that are padding altogether gave NaN. */
static void shards_of_padding(void **state)
{
    (void)state;
    static const int64_t bounds[][2] = {{20, 30}, {0, 9}, {31, 40}, {0, 0}, {40, 40}, {13, 14}};
    for (int i = 0; i < 6; i++)
        for (int causal = 0; causal < 2; causal++) {
            attention_case c = case_of(NULL, 4, 40);
            c.problem.document_starts = bounds[i];
            c.problem.documents = 1;
            c.problem.causal = causal != 0;
            all_right(&c);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_preset_is_tried),
                                       cmocka_unit_test(x4_backward_sends_no_stale_second_half),
                                       cmocka_unit_test(roots_in_groups_other_than_the_first),
                                       cmocka_unit_test(communicators_beside_each_other),
                                       cmocka_unit_test(gradients_of_heads_after_the_first),
                                       cmocka_unit_test(x1_backward_is_causal),
                                       cmocka_unit_test(one_rank_runs_every_preset),
                                       cmocka_unit_test(no_dq_travels),
                                       cmocka_unit_test(delta_and_dq_are_prepared_once),
                                       cmocka_unit_test(own_blocks_are_packed_once_and_gathered_ones_attended_together),
                                       cmocka_unit_test(volumes_are_ideal_and_use_gqa),
                                       cmocka_unit_test(flops_are_those_of_live_pairs),
                                       cmocka_unit_test(x3_sums_gradients_in_float),
                                       cmocka_unit_test(partial_results_stay_float),
                                       cmocka_unit_test(the_next_transfer_is_issued_before_the_compute),
                                       cmocka_unit_test(overlapped_presets_expose_less),
                                       cmocka_unit_test(rescaling_to_minus_infinity_and_from_it),
                                       cmocka_unit_test(rows_without_keys_merge),
                                       cmocka_unit_test(windows_reach_over_ranks),
                                       cmocka_unit_test(dropout_is_the_same_in_both_directions_and_everywhere),
                                       cmocka_unit_test(lengths_that_do_not_divide),
                                       cmocka_unit_test(long_odd_lengths),
                                       cmocka_unit_test(the_shapes_of_the_climate_application_are_proved),
                                       cmocka_unit_test(ulysses_with_heads_that_do_not_divide),
                                       cmocka_unit_test(the_ring_takes_everyones_keys_backward),
                                       cmocka_unit_test(shards_of_padding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
