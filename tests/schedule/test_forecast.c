/* SPDX-License-Identifier: MIT */
/* Forecasts against arithmetic done by hand: volumes, costs, overlap, balance, sharing of cores and of NICs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "schedule/forecast.h"
#include "schedule/schedules.h"

static world world_of(const char *preset, int ranks, bool backward)
{
    size_t i;
    assert_int_equal(ringx_preset_find(preset, &i), RINGX_OK);
    world w = small_world(ringx_preset_at(i), ranks, 4096, backward);
    w.problem.batch = 1;
    w.problem.q_heads = 8;
    w.problem.kv_heads = 2;
    w.problem.head_dim = w.problem.value_dim = 64;
    return w;
}

/* 100 GFLOP/s, all else free: what is changed is what a test is about. */
static ringx_machine free_machine(void)
{
    return (ringx_machine){.threads_per_rank = 1,
                           .forward = {.points = 1, .tokens = {1}, .gflops = {100}},
                           .backward = {.points = 1, .tokens = {1}, .gflops = {50}},
                           .memory_gbs = 1e9,
                           .intra_gbs = 1e9,
                           .inter_gbs = 1e9,
                           .nics_per_node = 1};
}

static ringx_forecast forecast_of(world *w, const ringx_machine *m)
{
    ringx_forecast f = {.seconds = NAN};
    ringx_status status = world_build(w);
    if (status == RINGX_OK)
        status = ringx__forecast(w->list, w->ranks, m, &f, NULL);
    if (status != RINGX_OK)
        fail_msg("%s: %s", w->preset->name, ringx_last_error());
    world_free(w);
    return f;
}

static void assert_near(double value, double expected, double part)
{
    if (!(fabs(value - expected) <= part * fabs(expected)))
        fail_msg("%.9g is not %.9g within %g", value, expected, part);
}

/* Seconds of n × n full attention of all heads on the free machine. */
static double attention(double queries, double keys, bool backward)
{
    return 4.0 * 64 * 8 * queries * keys * (backward ? 2.5 / 50e9 : 1 / 100e9);
}

/* ---- volumes: algorithms.md's table ---- */

static void test_volumes(void **state)
{
    (void)state;
    const double N = 4, T = 1024, kv = 2 * T * 2 * 64 * 4, q = T * 8 * 64 * 4, o4 = q, l = T * 8 * 4, dkv = kv;
    const struct {
        const char *preset;
        double forward, backward;
    } rows[] = {
        {"ring", (N - 1) * kv, (N - 1) * (kv + dkv)},
        {"zigzag", (N - 1) * kv, (N - 1) * (kv + dkv)},
        {"stripe", (N - 1) * kv, (N - 1) * (kv + dkv)},
        {"ringX1", (N - 1) * (q + o4 + l) + N * 2 * (N - 1) / N * l, (N - 1) * (kv + dkv)},
        {"ringX3", (N - 1) * kv, (N - 1) * (kv + dkv)},
        {"ringX4o", (N - 1) * kv, (N - 1) * (kv + dkv)},
        /* with its whole own share, fp32 lse, and gradients in fp32; kv heads go to two ranks each */
        {"ulysses", 3. / 4 * (q + 2 * kv + q + l), 3. / 4 * (2 * q + 2 * l + 2 * kv + q + 2 * dkv)},
    };
    ringx_machine m = free_machine();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        world w = world_of(rows[i].preset, 4, false), b = world_of(rows[i].preset, 4, true);
        assert_near((double)forecast_of(&w, &m).wire_bytes, rows[i].forward, 1e-9);
        assert_near((double)forecast_of(&b, &m).wire_bytes, rows[i].backward, 1e-9);
    }
}

/* ---- computation ---- */

static void test_compute_only(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    for (int backward = 0; backward < 2; backward++) {
        world one = world_of("ring", 1, backward != 0);
        ringx_forecast f = forecast_of(&one, &m);
        assert_near(f.seconds, attention(4096, 4096, backward), 1e-3);
        assert_near(f.efficiency, 1, 1e-3);
        assert_int_equal(f.messages, 0);
        for (size_t i = 0; ringx_preset_at(i); i++) {
            world w = world_of(ringx_preset_at(i)->name, 4, backward != 0);
            f = forecast_of(&w, &m);
            assert_near(f.compute_s, attention(4096, 1024, backward), 1e-3);
            if (ringx_preset_at(i)->lookahead == 0) /* blocking: ranks wait for each other's tiles */
                continue;
            assert_near(f.seconds, f.compute_s, 1e-3);
            assert_near(f.efficiency, 1, 1e-3);
        }
    }
}

/* Causal: contiguous is bound by N/(2N-1), zigzag and striped are balanced. */
static void test_causal_balance(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    const struct {
        const char *preset;
        double efficiency;
    } rows[] = {{"megatron", 4. / 7}, {"zigzag", 1}, {"stripe", 1}, {"ringX3", 1}, {"ringX4o", 1}, {"ulysses", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        world w = world_of(rows[i].preset, 4, false);
        w.problem.causal = true;
        assert_near(forecast_of(&w, &m).efficiency, rows[i].efficiency, 2e-3);
    }
}

/* All ranks' tiles together are the whole, whatever the mask, layout and algorithm. */
static void test_area_is_conserved(void **state)
{
    (void)state;
    static const int64_t starts[] = {0, 1000, 1001, 4000};
    ringx_machine m = free_machine();
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int mask = 0; mask < 3; mask++) {
            world w = world_of(ringx_preset_at(i)->name, 5, false);
            w.problem.causal = mask == 0;
            w.problem.window_left = mask == 1 ? 300 : -1;
            w.problem.documents = mask == 2 ? 3 : 0;
            w.problem.document_starts = starts;
            assert_int_equal(world_build(&w), RINGX_OK);
            double sum = 0;
            ringx_costs costs;
            assert_int_equal(ringx__costs_create(&costs, w.list, 5, &m), RINGX_OK);
            for (int r = 0; r < 5; r++)
                for (size_t s = 0; s < w.schedules[r].n_steps; s++) {
                    ringx_cost cost = {.work = 0};
                    if (w.schedules[r].steps[s].op == RINGX_ATTEND)
                        assert_int_equal(ringx__cost_local(&costs, r, (uint32_t)s, &cost), RINGX_OK);
                    sum += cost.latency + cost.work;
                }
            assert_near(sum, ringx__cost_whole(&costs), 5e-3);
            ringx__costs_destroy(&costs);
            world_free(&w);
        }
}

static void test_rate_by_size(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    m.forward = (ringx_rate){.points = 2, .tokens = {64, 4096}, .gflops = {50, 200}};
    world one = world_of("ring", 1, false), two = world_of("ring", 4, false);
    assert_near(forecast_of(&one, &m).seconds, attention(4096, 4096, false) / 2, 1e-3);
    /* tiles of 1024 × 1024: two thirds of the way in the logarithm */
    assert_near(forecast_of(&two, &m).seconds, attention(4096, 1024, false) / 1.5, 1e-3);
}

static void test_overhead(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    m.step_overhead_us = 1e6; /* a second a step: nothing else counts */
    world w = world_of("ringX4", 2, false);
    w.problem.tokens = 8;
    ringx_forecast f = forecast_of(&w, &m);
    /* Blocking: own attend | pack and broadcasts in turn | attend, and what waits for them. */
    assert_true(f.seconds > 3.9 && f.seconds < 7.1);
    assert_near(f.seconds, round(f.seconds), 1e-3);
}

/* ---- transfers: one collective or exchange at a time ---- */

static double cost_of_first(world *w, const ringx_machine *m, int op)
{
    assert_int_equal(world_build(w), RINGX_OK);
    ringx_engine *engine;
    ringx_engine_client client = {.context = NULL};
    ringx_costs costs;
    double seconds = -1;
    assert_int_equal(ringx__engine_create(&engine, w->list, w->ranks, &client), RINGX_OK);
    assert_int_equal(ringx__costs_create(&costs, w->list, w->ranks, m), RINGX_OK);
    for (;;) {
        ringx_action a;
        assert_int_equal(ringx__engine_next(engine, &a), RINGX_OK);
        assert_true(a.kind != RINGX_NOTHING);
        if (w->schedules[a.rank].steps[a.step].op == op) {
            ringx_cost cost = a.kind == RINGX_EXCHANGED ? ringx__cost_exchange(&costs, a.rank, a.step)
                                                        : ringx__cost_collective(&costs, &a, engine);
            seconds = cost.latency + cost.work;
            break;
        }
        for (int i = 0; i < (a.kind == RINGX_COLLECTIVE ? a.count : 1); i++)
            ringx__engine_done(engine, a.kind != RINGX_COLLECTIVE ? a.rank : a.members ? a.members[i] : i, a.lane);
    }
    ringx__costs_destroy(&costs);
    ringx__engine_destroy(engine);
    world_free(w);
    return seconds;
}

static void test_costs_in_a_node(void **state)
{
    (void)state;
    const double kv = 2. * 512 * 2 * 64 * 4;
    ringx_machine m = free_machine();
    m.intra_latency_us = 1000;
    m.intra_gbs = 1e-3; /* 1 MB/s */
    world bcast = world_of("ringX4", 8, false), gather = world_of("megatron", 8, false),
          ring = world_of("ring", 8, false);
    world reduce = world_of("ringX4", 8, true), scatter = world_of("megatron", 8, true);
    world top = world_of("ringX1", 8, false);
    assert_near(cost_of_first(&bcast, &m, RINGX_BROADCAST), 3e-3 + kv / 1e6, 1e-9);
    assert_near(cost_of_first(&reduce, &m, RINGX_REDUCE), 3e-3 + kv / 1e6, 1e-9);
    assert_near(cost_of_first(&gather, &m, RINGX_ALLGATHER), 7e-3 + 7 * kv / 1e6, 1e-9);
    assert_near(cost_of_first(&scatter, &m, RINGX_REDUCE_SCATTER), 7e-3 + 7 * kv / 1e6, 1e-9);
    assert_near(cost_of_first(&ring, &m, RINGX_EXCHANGE), 1e-3 + kv / 1e6, 1e-9);
    assert_near(cost_of_first(&top, &m, RINGX_ALLREDUCE_MAX), 6e-3 + 2 * 7. / 8 * (512 * 8 * 4) / 1e6, 1e-9);
    m.broadcast_gbs = 2e-3;
    m.allgather_gbs = 4e-3;
    m.exchange_gbs = 5e-3;
    world bcast2 = world_of("ringX4", 8, false), gather2 = world_of("megatron", 8, false);
    world ring2 = world_of("ring", 8, false);
    assert_near(cost_of_first(&bcast2, &m, RINGX_BROADCAST), 3e-3 + kv / 2e6, 1e-9);
    assert_near(cost_of_first(&gather2, &m, RINGX_ALLGATHER), 7e-3 + 7 * kv / 4e6, 1e-9);
    assert_near(cost_of_first(&ring2, &m, RINGX_EXCHANGE), 1e-3 + kv / 5e6, 1e-9);
}

/* Two nodes of four ranks and two NICs of 1 MB/s each. */
static void test_costs_between_nodes(void **state)
{
    (void)state;
    const double kv = 2. * 512 * 2 * 64 * 4;
    ringx_machine m = free_machine();
    m.ranks_per_node = 4;
    m.nics_per_node = 2;
    m.inter_latency_us = 1000;
    m.inter_gbs = 1e-3;
    world bcast = world_of("ringX4", 8, false), gather = world_of("megatron", 8, false);
    assert_near(cost_of_first(&bcast, &m, RINGX_BROADCAST), 1e-3 + kv / 2e6, 1e-4);
    assert_near(cost_of_first(&gather, &m, RINGX_ALLGATHER), 1e-3 + 4 * kv / 2e6, 1e-4);
    /* Node-aware: four groups of one rank a node share the NICs. */
    world across = world_of("ringX3b", 8, false);
    across.ranks_per_node = 4;
    assert_int_equal(world_build(&across), RINGX_OK);
    assert_true(across.schedules[0].n_groups == 2);
    world_free(&across);
    /* A flat ring crosses once in each direction and a rank has one NIC; where all four ranks cross, two share one. */
    world ring = world_of("ring", 8, false), usp = world_of("usp", 8, false);
    usp.head_ranks = 4;
    ringx_forecast slow = forecast_of(&ring, &m);
    assert_near(slow.transfer_s, 7 * (1e-3 + kv / 1e6), 0.2);
    ringx_forecast shared = forecast_of(&usp, &m);
    assert_near(shared.transfer_s, 4. * 512 * 2 * 64 * 4 / 0.5e6, 0.05); /* a kv head of four ranks' tokens */
}

/* ---- overlap ---- */

static void test_lookahead_hides_transfers(void **state)
{
    (void)state;
    double tile = attention(1024, 1024, false), kv = 2. * 1024 * 2 * 64 * 4, blocking = 0;
    ringx_machine m = free_machine();
    m.intra_gbs = kv / (tile / 2) * 1e-9; /* a transfer takes half as long as a tile */
    for (int lookahead = 0; lookahead < 3; lookahead++) {
        world ring = world_of("ring", 4, false), bcast = world_of("ringX4", 4, false);
        ring.lookahead = bcast.lookahead = lookahead;
        ringx_forecast f = forecast_of(&ring, &m);
        assert_near(f.seconds, 4 * tile, 1e-2); /* two slots at any lookahead: always hidden */
        assert_true(f.exposed_s < 1e-2 * tile);
        f = forecast_of(&bcast, &m);
        if (lookahead == 0)
            blocking = f.seconds;
        else /* at least the three broadcasts that have a tile to hide behind */
            assert_true(f.seconds < blocking - 1.49 * tile && f.seconds > 3.99 * tile);
        assert_near(f.exposed_s + f.compute_s, f.seconds, 1e-9);
    }
}

/* The bound of what moves: when transfers are slow, they are all that counts. */
static void test_transfer_bound(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    double kv = 2. * 1024 * 2 * 64 * 4;
    m.intra_gbs = 1e-3;
    world w = world_of("ring", 4, false);
    ringx_forecast f = forecast_of(&w, &m);
    assert_near(f.seconds, 3 * kv / 1e6, 1e-1);
    assert_true(f.exposed_s > 0.8 * f.seconds && f.efficiency < 0.2);
}

static void test_compute_slowdown(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    double tile = attention(1024, 1024, false), kv = 2. * 1024 * 2 * 64 * 4;
    m.intra_gbs = kv / (tile / 2) * 1e-9;
    m.compute_slowdown = 0.5;
    world w = world_of("ring", 4, false);
    /* Three hops of half a tile each, during which computation runs at half its speed: a quarter tile lost each. */
    assert_near(forecast_of(&w, &m).seconds, 4.75 * tile, 2e-2);
}

/* Two ranks of one thread on one core take twice as long; on two cores they do not, unless transfers want cores too. */
static void test_cores_are_shared(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    double alone = attention(4096, 2048, false);
    for (int cores = 0; cores <= 3; cores++) {
        m.cores_per_node = cores;
        world w = world_of("ring", 2, false);
        assert_near(forecast_of(&w, &m).seconds, cores == 1 ? 2 * alone : alone, 1e-3);
    }
    double kv = 2. * 2048 * 2 * 64 * 4, hop = alone / 4;
    m.intra_gbs = kv / hop * 1e-9;
    m.transfer_cores = 1;
    m.cores_per_node = 2; /* four tasks on two cores while the hop lasts, which is then 2·hop */
    world w = world_of("ring", 2, false);
    assert_near(forecast_of(&w, &m).seconds, alone + hop, 1e-2);
    m.intra_gbs = 1e9; /* a latency as long takes no core from anyone */
    m.intra_latency_us = hop * 1e6;
    world idle = world_of("ring", 2, false);
    assert_near(forecast_of(&idle, &m).seconds, alone, 1e-2);
    m.intra_latency_us = 0;
    /* Nodes do not share: two nodes of one rank and one core. */
    m.transfer_cores = 0;
    m.ranks_per_node = m.cores_per_node = 1;
    world apart = world_of("ring", 2, false);
    assert_near(forecast_of(&apart, &m).seconds, alone, 1e-3);
}

/* A rank that waits leaves its core to the others: a causal contiguous ring on one core loses nothing to imbalance. */
static void test_waiting_is_free(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    m.cores_per_node = 1;
    world w = world_of("ring", 4, false);
    w.problem.causal = true;
    assert_near(forecast_of(&w, &m).seconds, attention(4096, 4096, false) / 2, 2e-3);
}

/* A kernel that awaits keys does what is there: three transfers, one after the other, of which the last one's share of
 * the work, a quarter, comes after it.  The same steps as launches begin when all three have come. */
static void test_awaited_keys(void **state)
{
    (void)state;
    static const double transfers[] = {0.1, 0.24, 0.26, 0.5, 2}; /* of all the work, each */
    const double all = attention(4096, 1024, false), kv = 2. * 1024 * 2 * 64 * 4;
    for (size_t i = 0; i < sizeof transfers / sizeof *transfers; i++) {
        ringx_machine m = free_machine();
        double one = transfers[i] * all;
        m.intra_gbs = kv / one * 1e-9;
        world w = world_of("ringX3", 4, false), launches = world_of("ringX3", 4, false);
        w.joined = w.awaits = true;
        ringx_forecast f = forecast_of(&w, &m);
        assert_near(f.seconds, fmax(all, 3 * one + all / 4), 1e-3);
        assert_near(f.compute_s, all, 1e-3);
        assert_near(f.seconds - f.exposed_s, all, 1e-3);
        assert_near(forecast_of(&launches, &m).seconds, fmax(all / 4, 3 * one) + 3 * all / 4, 1e-2);
    }
}

/* Two slices: what the second one's kernel work may go on beside is the first one's. */
static void test_awaited_slices(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    const double all = attention(4096, 1024, false), one = all / 16; /* of half a head's keys, all three: 3/16 */
    m.intra_gbs = 1024 * 2. * 64 * 4 / one * 1e-9;
    world w = world_of("ringX3", 4, false);
    w.joined = w.awaits = true;
    w.slices = 2;
    assert_near(forecast_of(&w, &m).seconds, all, 1e-3);
}

/* Clears and stores that a kernel's grads do themselves take no time. */
static void test_left_out(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    m.step_overhead_us = 1e9; /* nothing else counts */
    double computing[2];
    for (int own = 0; own < 2; own++) {
        world w = world_of("ringX4o", 3, true);
        w.joined = true;
        w.own_sums = own;
        w.problem.kv_heads = w.problem.q_heads; /* queries travel: the own dK,dV are cleared and stored once */
        computing[own] = forecast_of(&w, &m).compute_s;
    }
    assert_near(computing[0] - computing[1], 2e3, 1e-3);
}

/* ---- stamps ---- */

static void check_stamps(const world *w, ringx_stamp *const *stamps, double seconds)
{
    double last = 0;
    for (int r = 0; r < w->ranks; r++) {
        const ringx_schedule *s = &w->schedules[r];
        for (int lane = 0; lane < RINGX_LANES; lane++)
            for (size_t i = 0; i < s->lane_count[lane]; i++) {
                const ringx_stamp *t = &stamps[r][s->lane_step[lane][i]];
                uint32_t wait = s->lane_wait[lane][i];
                assert_true(t->begin >= 0 && t->end >= t->begin);
                if (i > 0)
                    assert_true(t->begin >= stamps[r][s->lane_step[lane][i - 1]].end);
                if (wait > 0)
                    assert_true(t->begin >= stamps[r][s->lane_step[1 - lane][wait - 1]].end);
                last = fmax(last, t->end);
            }
    }
    assert_true(last == seconds);
}

static void test_stamps(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int backward = 0; backward < 2; backward++) {
            ringx_machine m;
            ringx_forecast f;
            ringx_stamp *stamps[6];
            assert_int_equal(ringx__machine_load(&m, i % 2 ? "local" : "frontier"), RINGX_OK);
            world w = world_of(ringx_preset_at(i)->name, 6, backward != 0);
            w.ranks_per_node = 3;
            w.slices = 2;
            assert_int_equal(world_build(&w), RINGX_OK);
            for (int r = 0; r < 6; r++) {
                stamps[r] = malloc(w.schedules[r].n_steps * sizeof *stamps[r]);
                memset(stamps[r], 0xFF, w.schedules[r].n_steps * sizeof *stamps[r]); /* NaN */
            }
            assert_int_equal(ringx__forecast(w.list, 6, &m, &f, stamps), RINGX_OK);
            check_stamps(&w, stamps, f.seconds);
            for (int r = 0; r < 6; r++)
                free(stamps[r]);
            world_free(&w);
        }
}

/* ---- odd cases ---- */

static void test_odd_sizes(void **state)
{
    (void)state;
    ringx_machine m;
    assert_int_equal(ringx__machine_load(&m, "h200x8"), RINGX_OK);
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int64_t tokens = 0; tokens < 5; tokens++) {
            world w = world_of(ringx_preset_at(i)->name, 3, tokens % 2 != 0);
            w.problem.tokens = tokens;
            ringx_forecast f = forecast_of(&w, &m);
            assert_true(isfinite(f.seconds) && f.seconds >= 0 && isfinite(f.efficiency));
        }
}

static void test_deadlock(void **state)
{
    (void)state;
    ringx_machine m = free_machine();
    ringx_forecast f;
    world w = world_of("ringX4", 3, false);
    assert_int_equal(world_build(&w), RINGX_OK);
    w.schedules[1].lane_count[RINGX_COMM_LANE]--; /* its last broadcast never happens */
    assert_int_equal(ringx__forecast(w.list, 3, &m, &f, NULL), RINGX_INTERNAL);
    assert_int_equal(ringx__forecast(w.list, 0, &m, &f, NULL), RINGX_INVALID);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_volumes),
        cmocka_unit_test(test_compute_only),
        cmocka_unit_test(test_causal_balance),
        cmocka_unit_test(test_area_is_conserved),
        cmocka_unit_test(test_rate_by_size),
        cmocka_unit_test(test_overhead),
        cmocka_unit_test(test_costs_in_a_node),
        cmocka_unit_test(test_costs_between_nodes),
        cmocka_unit_test(test_lookahead_hides_transfers),
        cmocka_unit_test(test_transfer_bound),
        cmocka_unit_test(test_compute_slowdown),
        cmocka_unit_test(test_cores_are_shared),
        cmocka_unit_test(test_waiting_is_free),
        cmocka_unit_test(test_awaited_keys),
        cmocka_unit_test(test_awaited_slices),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_stamps),
        cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_deadlock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
