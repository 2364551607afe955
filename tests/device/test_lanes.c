/* SPDX-License-Identifier: MIT */
/* The two lanes of a CPU: each in its order, no step before what it waits for, the first failure reported, and time
 * accounted for. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "device/device.h"

enum { MOST = 200, NOBODY = -1 };

static const int other[RINGX_LANES] = {RINGX_COMPUTE_LANE, RINGX_COMM_LANE};

typedef struct course { /* a track, and what its steps saw */
    uint32_t step[RINGX_LANES][MOST], wait[RINGX_LANES][MOST];
    size_t count[RINGX_LANES];
    uint32_t log[RINGX_LANES][MOST];
    atomic_size_t begun[RINGX_LANES], done[RINGX_LANES];
    atomic_int wrong; /* steps that came in a wrong place */
    pthread_t thread[RINGX_LANES];
    double seconds[2 * MOST]; /* that a step sleeps */
    int failing[RINGX_LANES]; /* place of the step that fails, or NOBODY */
    atomic_bool failed;
    ringx_stamp stamp[2 * MOST];
    ringx_timing timing;
} course;

static void sleep_for(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&t, &t) != 0)
        ;
}

static ringx_status run(void *context, uint32_t step, int lane, void *stream)
{
    course *c = context;
    size_t place = atomic_fetch_add(&c->begun[lane], 1);
    c->thread[lane] = pthread_self();
    if (place >= c->count[lane] || c->step[lane][place] != step || stream != NULL ||
        atomic_load(&c->done[other[lane]]) < c->wait[lane][place])
        atomic_fetch_add(&c->wrong, 1);
    else
        c->log[lane][place] = step;
    if (c->seconds[step] > 0)
        sleep_for(c->seconds[step]);
    if (c->failing[lane] == (int)place) {
        atomic_store(&c->failed, true);
        return ringx__fail(lane ? RINGX_DEVICE : RINGX_COMM, "step %u of lane %d fails", step, lane);
    }
    atomic_fetch_add(&c->done[lane], 1);
    return RINGX_OK;
}

static ringx_status walk(ringx_lanes *lanes, course *c, bool one_lane)
{
    ringx_track track;
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        track.step[lane] = c->step[lane];
        track.wait[lane] = c->wait[lane];
        track.count[lane] = c->count[lane];
        atomic_store(&c->begun[lane], 0);
        atomic_store(&c->done[lane], 0);
    }
    atomic_store(&c->wrong, 0);
    atomic_store(&c->failed, false);
    memset(c->stamp, 0xff, sizeof c->stamp);
    memset(&c->timing, 0xff, sizeof c->timing);
    ringx_walk w = {
        .track = &track, .run = run, .context = c, .stamps = c->stamp, .timing = &c->timing, .one_lane = one_lane};
    return ringx__device(RINGX_CPU)->walk(lanes, &w);
}

static ringx_lanes *lanes_of(bool one_lane)
{
    ringx_lanes *lanes = NULL;
    assert_int_equal(ringx__device(RINGX_CPU)->lanes_create(&lanes, NULL, one_lane, 2 * MOST, true), RINGX_OK);
    assert_non_null(lanes);
    return lanes;
}

static void destroy(ringx_lanes *lanes)
{
    ringx__device(RINGX_CPU)->lanes_destroy(lanes);
}

static void clear(course *c)
{
    memset(c, 0, sizeof *c);
    c->failing[0] = c->failing[1] = NOBODY;
}

static uint32_t draw(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

static void append(course *c, int lane, uint32_t step, uint32_t wait)
{
    c->step[lane][c->count[lane]] = step;
    c->wait[lane][c->count[lane]++] = wait;
}

/* A program order cut into two lanes: a step waits for some of the other lane's earlier ones, so it can always go on.
 */
static void random_course(course *c, uint64_t seed, uint32_t steps)
{
    clear(c);
    for (uint32_t i = 0; i < steps; i++) {
        int lane = (int)draw(&seed, 2);
        uint32_t before = (uint32_t)c->count[other[lane]], wait = draw(&seed, before + 1);
        if (draw(&seed, 3) == 0)
            wait = before;
        append(c, lane, steps - 1 - i, wait);
        c->seconds[i] = draw(&seed, 20) == 0 ? 1e-5 : 0;
    }
}

static void expect_all_done(const course *c)
{
    assert_int_equal(atomic_load(&c->wrong), 0);
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        assert_int_equal(atomic_load(&c->done[lane]), c->count[lane]);
        assert_int_equal(atomic_load(&c->begun[lane]), c->count[lane]);
        for (size_t i = 0; i < c->count[lane]; i++)
            assert_int_equal(c->log[lane][i], c->step[lane][i]);
    }
}

/* ---- order and waits ---- */

static void steps_run_in_order_after_what_they_wait_for(void **state)
{
    (void)state;
    static course c;
    for (int mode = 0; mode < 3; mode++) { /* two threads; a walk on one lane of two threads; one thread */
        ringx_lanes *lanes = lanes_of(mode == 2);
        for (uint64_t seed = 0; seed < 400; seed++) {
            random_course(&c, seed * 3 + (uint64_t)mode + 1, (uint32_t)(seed % MOST) / (seed % 7 ? 4 : 1) + 1);
            assert_int_equal(walk(lanes, &c, mode == 1), RINGX_OK);
            expect_all_done(&c);
        }
        destroy(lanes);
    }
}

static void lanes_run_on_their_threads(void **state)
{
    (void)state;
    static course c;
    for (int mode = 0; mode < 3; mode++) {
        ringx_lanes *lanes = lanes_of(mode == 2);
        clear(&c);
        append(&c, RINGX_COMM_LANE, 0, 0);
        append(&c, RINGX_COMPUTE_LANE, 1, 1);
        assert_int_equal(walk(lanes, &c, mode == 1), RINGX_OK);
        assert_true(pthread_equal(c.thread[RINGX_COMPUTE_LANE], pthread_self()));
        assert_int_equal(pthread_equal(c.thread[RINGX_COMM_LANE], pthread_self()) != 0, mode != 0);
        destroy(lanes);
    }
}

static void lanes_may_be_empty(void **state)
{
    (void)state;
    static course c;
    for (int mode = 0; mode < 2; mode++) {
        ringx_lanes *lanes = lanes_of(mode == 1);
        for (int full = 0; full < 4; full++) {
            clear(&c);
            for (uint32_t i = 0; i < 3; i++)
                for (int lane = 0; lane < RINGX_LANES; lane++)
                    if (full >> lane & 1)
                        append(&c, lane, i + 3 * (uint32_t)lane, 0);
            assert_int_equal(walk(lanes, &c, false), RINGX_OK);
            expect_all_done(&c);
            assert_true(c.timing.total_s >= 0 && c.timing.total_s < 10);
        }
        destroy(lanes);
    }
    destroy(NULL);
}

/* ---- failures ---- */

static void the_failure_of_either_lane_is_reported(void **state)
{
    (void)state;
    static course c;
    for (int one_lane = 0; one_lane < 2; one_lane++) {
        ringx_lanes *lanes = lanes_of(one_lane != 0);
        for (uint64_t seed = 0; seed < 300; seed++) {
            random_course(&c, seed + 1000, 40);
            int lane = (int)(seed % 2);
            c.failing[lane] = (int)(seed / 2 % c.count[lane]);
            char message[64];
            snprintf(message, sizeof message, "step %u of lane %d fails", c.step[lane][c.failing[lane]], lane);
            ringx__fail(RINGX_IO, "something older");
            assert_int_equal(walk(lanes, &c, false), lane ? RINGX_DEVICE : RINGX_COMM);
            assert_string_equal(ringx_last_error(), message);
            assert_int_equal(atomic_load(&c.wrong), 0);
            assert_int_equal(atomic_load(&c.begun[lane]), c.failing[lane] + 1);
            c.failing[lane] = NOBODY; /* the lanes are as good as new */
            assert_int_equal(walk(lanes, &c, false), RINGX_OK);
            expect_all_done(&c);
        }
        destroy(lanes);
    }
}

static void of_two_failures_the_first_is_reported_whole(void **state)
{
    (void)state;
    static course c;
    ringx_lanes *lanes = lanes_of(false);
    int seen[RINGX_LANES] = {0, 0};
    for (int i = 0; i < 200; i++) {
        clear(&c);
        for (uint32_t lane = 0; lane < RINGX_LANES; lane++)
            append(&c, (int)lane, lane, 0);
        c.failing[0] = c.failing[1] = 0;
        c.seconds[i % 2] = 1e-4;
        ringx_status status = walk(lanes, &c, false);
        int lane = status == RINGX_DEVICE;
        char message[64];
        snprintf(message, sizeof message, "step %d of lane %d fails", lane, lane);
        assert_true(status == RINGX_DEVICE || status == RINGX_COMM);
        assert_string_equal(ringx_last_error(), message);
        seen[lane]++;
    }
    assert_true(seen[0] > 0 && seen[1] > 0);
    for (int late = 0; late < RINGX_LANES; late++) { /* it is the first */
        clear(&c);
        for (uint32_t lane = 0; lane < RINGX_LANES; lane++)
            append(&c, (int)lane, lane, 0);
        c.failing[0] = c.failing[1] = 0;
        c.seconds[late] = 0.1;
        c.seconds[other[late]] = 0.01;
        assert_int_equal(walk(lanes, &c, false), late ? RINGX_COMM : RINGX_DEVICE);
    }
    destroy(lanes);
}

/* The other lane ends its current step and begins no further one. */
static void a_failure_stops_the_other_lane(void **state)
{
    (void)state;
    static course c;
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        ringx_lanes *lanes = lanes_of(false);
        clear(&c);
        append(&c, lane, 0, 0);
        for (uint32_t i = 1; i < 50; i++)
            append(&c, other[lane], i, 0);
        c.failing[lane] = 0;
        c.seconds[0] = 0.01;
        for (int i = 1; i < 50; i++)
            c.seconds[i] = 0.1;
        assert_int_not_equal(walk(lanes, &c, false), RINGX_OK);
        assert_true(atomic_load(&c.begun[other[lane]]) <= 3);
        destroy(lanes);
    }
}

/* ---- time ---- */

static void expect_stamps(const course *c)
{
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        double before = 0, busy = 0;
        for (size_t i = 0; i < c->count[lane]; i++) {
            const ringx_stamp *s = &c->stamp[c->step[lane][i]];
            assert_true(s->begin >= before && s->end >= s->begin && s->end <= c->timing.total_s);
            assert_true(s->end - s->begin >= c->seconds[c->step[lane][i]]);
            if (c->wait[lane][i] > 0)
                assert_true(s->begin >= c->stamp[c->step[other[lane]][c->wait[lane][i] - 1]].end);
            before = s->end;
            busy += s->end - s->begin;
        }
        double told = lane == RINGX_COMM_LANE ? c->timing.transfer_s : c->timing.compute_s;
        assert_true(told >= busy - 1e-6 && told <= busy + 1e-6);
    }
    assert_true(c->timing.exposed_s >= 0);
    assert_true(c->timing.compute_s + c->timing.exposed_s <= c->timing.total_s + 1e-6);
}

static void time_is_accounted_for(void **state)
{
    (void)state;
    static course c;
    for (int one_lane = 0; one_lane < 2; one_lane++) {
        ringx_lanes *lanes = lanes_of(one_lane != 0);
        for (uint64_t seed = 0; seed < 50; seed++) {
            random_course(&c, seed + 77, 60);
            assert_int_equal(walk(lanes, &c, false), RINGX_OK);
            expect_stamps(&c);
        }
        destroy(lanes);
    }
}

/* Four transfers of 50 ms, each needed by a computation of 50 ms: beside each other all but the first are hidden. */
static void transfers_hide_behind_computation(void **state)
{
    (void)state;
    static course c;
    const double nap = 0.05;
    clear(&c);
    for (uint32_t i = 0; i < 4; i++) {
        append(&c, RINGX_COMM_LANE, i, 0);
        append(&c, RINGX_COMPUTE_LANE, i + 4, i + 1);
        c.seconds[i] = c.seconds[i + 4] = nap;
    }
    ringx_lanes *lanes = lanes_of(false);
    assert_int_equal(walk(lanes, &c, false), RINGX_OK);
    expect_stamps(&c);
    assert_true(c.timing.total_s >= 5 * nap && c.timing.total_s < 7 * nap);
    assert_true(c.timing.exposed_s >= 0.9 * nap && c.timing.exposed_s < 3 * nap);
    assert_int_equal(walk(lanes, &c, true), RINGX_OK); /* on one lane nothing hides */
    expect_stamps(&c);
    assert_true(c.timing.total_s >= 8 * nap);
    assert_true(c.timing.exposed_s >= 4 * nap);
    destroy(lanes);
}

/* After the computation is done its lane waits for the last transfers: they are exposed too. */
static void transfers_at_the_end_are_exposed(void **state)
{
    (void)state;
    static course c;
    clear(&c);
    append(&c, RINGX_COMPUTE_LANE, 0, 0);
    append(&c, RINGX_COMM_LANE, 1, 1);
    c.seconds[1] = 0.05;
    ringx_lanes *lanes = lanes_of(false);
    assert_int_equal(walk(lanes, &c, false), RINGX_OK);
    assert_true(c.timing.exposed_s >= 0.045);
    expect_stamps(&c);
    destroy(lanes);
}

/* ---- many ---- */

/* Sanitizers, too, answer requests that no memory can meet with NULL. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static long threads_now(void)
{
    char line[256];
    long n = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "Threads:", 8) == 0)
            n = strtol(line + 8, NULL, 10);
    if (f)
        fclose(f);
    return n;
}

static void many_lanes_leave_nothing_behind(void **state)
{
    (void)state;
    static course c;
    random_course(&c, 5, 30);
    destroy(lanes_of(false));
    long before = threads_now();
    for (int i = 0; i < 300; i++) {
        ringx_lanes *lanes = lanes_of(i % 3 == 0);
        if (i % 2) /* lanes that never walk end too */
            assert_int_equal(walk(lanes, &c, false), RINGX_OK);
        destroy(lanes);
    }
    assert_int_equal(threads_now(), before);
}

static void a_thousand_walks(void **state)
{
    (void)state;
    static course c;
    random_course(&c, 9, 50);
    ringx_lanes *lanes = lanes_of(false);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(walk(lanes, &c, i % 10 == 0), RINGX_OK);
        expect_all_done(&c);
    }
    int64_t stuck = 0; /* what was walked is done: there is nothing to wait for */
    int pass = 7;
    assert_int_equal(ringx__device(RINGX_CPU)->settle(lanes, 1e-9, NULL, NULL, &stuck, &pass), RINGX_OK);
    assert_int_equal(stuck, -1);
    destroy(lanes);
}

static void memory_and_copies(void **state)
{
    (void)state;
    const ringx_device_ops *cpu = ringx__device(RINGX_CPU);
    unsigned char *a = NULL, *b = NULL;
    assert_int_equal(cpu->alloc(1000, (void **)&a), RINGX_OK);
    assert_int_equal(cpu->host_alloc(1000, (void **)&b), RINGX_OK);
    assert_int_equal((uintptr_t)a % 128, 0);
    assert_int_equal((uintptr_t)b % 128, 0);
    for (int i = 0; i < 1000; i++)
        a[i] = (unsigned char)(i * 7);
    assert_int_equal(cpu->copy(b, a, 1000), RINGX_OK);
    assert_memory_equal(a, b, 1000);
    memset(b, 0, 1000);
    assert_int_equal(cpu->copy_on(b, a, 500, NULL), RINGX_OK);
    assert_int_equal(cpu->drain(NULL), RINGX_OK);
    assert_memory_equal(a, b, 500);
    assert_int_equal(b[500], 0);
    assert_int_equal(cpu->copy(NULL, NULL, 0), RINGX_OK);
    cpu->free(a);
    cpu->host_free(b);
    void *nothing = &a;
    assert_int_equal(cpu->alloc(SIZE_MAX / 2, &nothing), RINGX_NO_MEMORY);
    assert_null(nothing);
    assert_non_null(strstr(ringx_last_error(), "9223372036854775807 bytes"));
    assert_int_equal(cpu->alloc(0, &nothing), RINGX_OK);
    assert_non_null(nothing);
    cpu->free(nothing);
    cpu->free(NULL);
}

static void the_table_of_devices(void **state)
{
    (void)state;
    const ringx_device_ops *cpu = ringx__device(RINGX_CPU);
    assert_non_null(cpu);
    assert_string_equal(cpu->name, "cpu");
    assert_int_equal(cpu->device, RINGX_CPU);
    assert_int_equal(cpu->available(), RINGX_OK);
    assert_null(ringx__device((ringx_device)7));
    double a = ringx__now();
    sleep_for(0.002);
    double b = ringx__now();
    assert_true(b - a >= 0.002 && b - a < 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_run_in_order_after_what_they_wait_for),
                                       cmocka_unit_test(lanes_run_on_their_threads),
                                       cmocka_unit_test(lanes_may_be_empty),
                                       cmocka_unit_test(the_failure_of_either_lane_is_reported),
                                       cmocka_unit_test(of_two_failures_the_first_is_reported_whole),
                                       cmocka_unit_test(a_failure_stops_the_other_lane),
                                       cmocka_unit_test(time_is_accounted_for),
                                       cmocka_unit_test(transfers_hide_behind_computation),
                                       cmocka_unit_test(transfers_at_the_end_are_exposed),
                                       cmocka_unit_test(many_lanes_leave_nothing_behind),
                                       cmocka_unit_test(a_thousand_walks),
                                       cmocka_unit_test(memory_and_copies),
                                       cmocka_unit_test(the_table_of_devices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
