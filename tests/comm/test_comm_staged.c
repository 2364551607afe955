/* SPDX-License-Identifier: MIT */
/* Device memory staged through a host transport: every operation and groups, the CPU standing in for the device. */
#include "comm/op_checks.h"
#include "comm/rank_threads.h"
#include "device/device.h"

#define ROOM (8u << 20)

static void expect_good(const rank_thread *t, int ranks)
{
    for (int r = 0; r < ranks; r++)
        expect(t, r, RINGX_OK, NULL);
}

static op_check staged_check(ringx_comm *staged)
{
    return (op_check){.comm = staged,
                      .members = staged->ranks,
                      .index = staged->rank,
                      .exact = true,
                      .call = {.what = "test", .deadline_s = 60}};
}

static void body(rank_thread *self)
{
    ringx_comm *staged;
    note(self, ringx__comm_staged(self->comm, ringx__device(RINGX_CPU), ROOM, 4096, &staged));
    if (self->status != RINGX_OK)
        return;
    op_check c = staged_check(staged), sub;
    int colours[MOST_TEST_RANKS], rank_of[MOST_TEST_RANKS];
    for (int r = 0; r < staged->ranks; r++)
        colours[r] = r % 2;
    bool good = check_each(&c, 5) && check_split(&c, colours, &sub, rank_of);
    if (!good) {
        self->status = RINGX_INTERNAL;
        snprintf(self->message, sizeof self->message, "%s", c.message);
    } else {
        if (!check_each(&sub, 9)) {
            self->status = RINGX_INTERNAL;
            snprintf(self->message, sizeof self->message, "%s", sub.message);
        }
        staged->ops->group_destroy(staged, sub.group);
    }
    staged->ops->destroy(staged);
}

static void test_each(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    for (int ranks = 2; ranks <= 6; ranks++) {
        run_ranks(t, ranks, NULL, body, NULL);
        expect_good(t, ranks);
    }
}

static void too_little_body(rank_thread *self)
{
    ringx_comm *staged;
    char data[512] = {0};
    ringx_call call = {.what = "test", .deadline_s = 5};
    note(self, ringx__comm_staged(self->comm, ringx__device(RINGX_CPU), 256, 1, &staged));
    if (self->status != RINGX_OK)
        return;
    note(self, staged->ops->broadcast(staged, NULL, data, data, sizeof data, 0, &call));
    staged->ops->destroy(staged);
}

static void test_too_little_room(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    run_ranks(t, 2, NULL, too_little_body, NULL);
    for (int r = 0; r < 2; r++)
        expect(t, r, RINGX_INTERNAL, "256 were planned");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each), cmocka_unit_test(test_too_little_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
