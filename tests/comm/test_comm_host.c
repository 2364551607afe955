/* SPDX-License-Identifier: MIT */
/* Communicators for device memory that agree through a host communicator: here one that has nothing but its host. */
#include "comm/rank_threads.h"

#include <time.h>

enum { RANKS = 3 };

typedef struct hosted {
    ringx_comm base;
    ringx_comm *host;
} hosted;

static ringx_comm *host_of(ringx_comm *comm)
{
    return ((hosted *)comm)->host;
}

static const ringx_comm_ops ops = {.name = "hosted", .text = "for this test", .device_memory = true, .host = host_of};

static hosted over(ringx_comm *host)
{
    return (hosted){.base = {.ops = &ops, .rank = host->rank, .ranks = host->ranks}, .host = host};
}

static void talk_body(rank_thread *self)
{
    hosted h = over(self->comm);
    int mine = 100 + self->comm->rank, all[RANKS] = {0}, word = self->comm->rank == 1 ? 77 : -1;
    ringx_status status = ringx_comm_gather(&h.base, &mine, sizeof mine, all);
    if (status == RINGX_OK)
        status = ringx_comm_broadcast(&h.base, &word, sizeof word, 1);
    if (status == RINGX_OK)
        status = ringx__comm_roll_call(&h.base, "roll call");
    note(self, status);
    for (int r = 0; r < RANKS && status == RINGX_OK; r++)
        if (all[r] != 100 + r || word != 77)
            self->status = RINGX_INTERNAL;
}

static void ranks_talk_through_the_host(void **state)
{
    (void)state;
    rank_thread t[RANKS];
    run_ranks(t, RANKS, NULL, talk_body, NULL);
    for (int r = 0; r < RANKS; r++)
        expect(t, r, RINGX_OK, NULL);
}

/* Rank 2 does not come, but stays until the others have been told. */
static void missing_body(rank_thread *self)
{
    hosted h = over(self->comm);
    if (self->comm->rank != 2)
        note(self, ringx__comm_roll_call(&h.base, "forward step 5"));
    for (int i = 0; i < 400 && self->comm->ops->poll(self->comm) == RINGX_OK; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static void who_is_missing_is_named(void **state)
{
    (void)state;
    rank_thread t[RANKS];
    run_ranks(t, RANKS, NULL, missing_body, NULL);
    for (int r = 0; r < 2; r++) {
        expect(t, r, RINGX_STALLED, "forward step 5");
        expect(t, r, RINGX_STALLED, "for rank 2");
    }
}

static void a_host_transport_has_waited_itself(void **state)
{
    (void)state;
    ringx_comm *comms[RANKS];
    assert_int_equal(ringx_comm_threads(RANKS, comms), RINGX_OK);
    assert_int_equal(ringx__comm_roll_call(comms[0], "alone"), RINGX_OK);
    for (int r = 0; r < RANKS; r++)
        ringx_comm_destroy(comms[r]);
}

static void arguments_are_checked(void **state)
{
    (void)state;
    int x = 0, y = 0;
    ringx_comm *self;
    assert_int_equal(ringx_comm_gather(NULL, &x, sizeof x, &y), RINGX_INVALID);
    assert_int_equal(ringx_comm_broadcast(NULL, &x, sizeof x, 0), RINGX_INVALID);
    assert_int_equal(ringx_comm_self(&self), RINGX_OK);
    assert_int_equal(ringx_comm_gather(self, NULL, sizeof x, &y), RINGX_INVALID);
    assert_int_equal(ringx_comm_broadcast(self, &x, sizeof x, 1), RINGX_INVALID);
    ringx_comm_destroy(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_talk_through_the_host), cmocka_unit_test(who_is_missing_is_named),
        cmocka_unit_test(a_host_transport_has_waited_itself), cmocka_unit_test(arguments_are_checked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
