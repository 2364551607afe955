/* SPDX-License-Identifier: MIT */
/* Ranks as threads: every operation, groups, random sequences, churn. */
#include "comm/call_checks.h"
#include "comm/rank_threads.h"
#include "device/device.h"

static void keep(rank_thread *self, const op_check *c, bool good)
{
    self->status = good ? RINGX_OK : RINGX_INTERNAL;
    if (!good)
        snprintf(self->message, sizeof self->message, "%s", c->message);
}

static void expect_good(const rank_thread *t, int ranks)
{
    for (int r = 0; r < ranks; r++)
        expect(t, r, RINGX_OK, NULL);
}

/* ---- every operation -------------------------------------------------------------------------------------------- */

static void each_body(rank_thread *self)
{
    op_check c = whole(self->comm, 60);
    keep(self, &c, check_each(&c, 11));
}

static void test_each(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    for (int ranks = 1; ranks <= 8; ranks++) {
        run_ranks(t, ranks, NULL, each_body, NULL);
        expect_good(t, ranks);
    }
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

/* All apart, all together, two kinds, random. */
static int colour(int split, int rank)
{
    return split == 0 ? rank : split == 1 ? -7 : split == 2 ? rank / 3 : (int)(mix(3, (uint64_t)rank) % 3) - 1;
}

static void groups_body(rank_thread *self)
{
    op_check c = whole(self->comm, 60);
    keep(self, &c, check_groups(&c, 4, colour, true, 100));
}

static void test_groups(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    for (int ranks = 1; ranks <= 8; ranks++) {
        run_ranks(t, ranks, NULL, groups_body, NULL);
        expect_good(t, ranks);
    }
}

static void nodes_body(rank_thread *self)
{
    int node[MOST_TEST_RANKS];
    memset(node, 0xff, sizeof node);
    ringx_call call = {.what = "nodes", .deadline_s = 60};
    note(self, self->comm->ops->nodes(self->comm, node, &call));
    for (int r = 0; r < self->comm->ranks; r++)
        if (node[r] != 0)
            self->status = RINGX_INTERNAL;
}

static void test_nodes(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    run_ranks(t, 5, NULL, nodes_body, NULL);
    expect_good(t, 5);
}

/* ---- random sequences ------------------------------------------------------------------------------------------- */

static void random_body(rank_thread *self)
{
    op_check c = whole(self->comm, 60);
    keep(self, &c, check_random(&c, *(const uint64_t *)self->context, 1500, 300));
}

static void test_random(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    static const int ranks[] = {2, 3, 5, 8};
    for (uint64_t seed = 0; seed < 4; seed++) {
        run_ranks(t, ranks[seed], NULL, random_body, &seed);
        expect_good(t, ranks[seed]);
    }
}

/* One rank's receives of one call may match sends of several calls. */
static void uneven_exchange_body(rank_thread *self)
{
    ringx_comm *comm = self->comm;
    ringx_call call = {.what = "uneven exchange", .deadline_s = 60};
    int data[3] = {10, 11, 12}, got[3] = {-1, -1, -1};
    ringx_message sends[3], receives[3];
    for (int i = 0; i < 3; i++) {
        sends[i] = (ringx_message){1, &data[i], sizeof *data};
        receives[i] = (ringx_message){0, &got[i], sizeof *got};
    }
    ringx_status status = RINGX_OK;
    if (comm->rank == 0)
        for (int i = 0; i < 3 && status == RINGX_OK; i++)
            status = comm->ops->exchange(comm, &sends[i], 1, NULL, 0, &call);
    else
        status = comm->ops->exchange(comm, NULL, 0, receives, 3, &call);
    note(self, status);
    if (status == RINGX_OK && comm->rank == 1 && memcmp(data, got, sizeof got) != 0)
        self->status = RINGX_INTERNAL;
}

static void test_uneven_exchange(void **state)
{
    (void)state;
    rank_thread t[2];
    run_ranks(t, 2, NULL, uneven_exchange_body, NULL);
    expect_good(t, 2);
}

/* ---- churn ------------------------------------------------------------------------------------------------------ */

static void churn_body(rank_thread *self)
{
    op_check c = whole(self->comm, 60);
    keep(self, &c, check_one(&c, 99, 50));
}

static void test_churn(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    for (int i = 0; i < 300; i++) {
        int ranks = 1 + i % 8;
        run_ranks(t, ranks, NULL, churn_body, NULL);
        expect_good(t, ranks);
    }
}

/* ---- waking --------------------------------------------------------------------------------------------------------
 */

/* One message from rank 0 to each other, or the other way round. */
static bool one_way(op_check *c, bool from_0)
{
    unsigned char data[MOST_TEST_RANKS] = {7, 7, 7};
    ringx_message messages[MOST_TEST_RANKS];
    size_t n = 0;
    for (int r = 0; r < c->comm->ranks; r++)
        if (r != c->comm->rank && (c->comm->rank == 0 || r == 0))
            messages[n++] = (ringx_message){r, &data[r], 1};
    bool sends = (c->comm->rank == 0) == from_0;
    ringx_status status = sends ? c->comm->ops->exchange(c->comm, messages, n, NULL, 0, &c->call)
                                : c->comm->ops->exchange(c->comm, NULL, 0, messages, n, &c->call);
    return status == RINGX_OK || bad(c, "exchange", ringx_last_error());
}

/* Rank 0 comes a little later than the others.  A rank that nobody wakes would only look again after 50 ms. */
static void wake_body(rank_thread *self)
{
    enum { REPEATS = 9 };
    op_check c = whole(self->comm, 60);
    double taken[REPEATS], worst = 0;
    bool good = true;
    for (int op = 0; op < 8 && good; op++) {
        for (int i = 0; i < REPEATS && good; i++) {
            c.seed = mix(61, (uint64_t)(op * REPEATS + i));
            good = check_agree(&c, 1);
            if (c.comm->rank == 0)
                sleep_s(2e-3);
            double begin = ringx__now();
            good = good && (op == 0   ? check_broadcast(&c, 10, 0, false)
                            : op == 1 ? check_broadcast(&c, 10, 1, false)
                            : op == 2 ? check_exchange(&c, 50)
                            : op == 3 ? check_reduce(&c, 10, RINGX_F32, 0, false)
                            : op == 4 ? check_allgather(&c, 10, false, false)
                            : op == 5 ? check_reduce_scatter(&c, 10, RINGX_F32, false)
                                      : one_way(&c, op == 6));
            taken[i] = ringx__now() - begin;
        }
        for (int i = 0; i < REPEATS; i++) /* the median */
            for (int k = i; k > 0 && taken[k] < taken[k - 1]; k--) {
                double t = taken[k];
                taken[k] = taken[k - 1];
                taken[k - 1] = t;
            }
        worst = taken[REPEATS / 2] > worst ? taken[REPEATS / 2] : worst;
    }
    keep(self, &c, good);
    self->seconds = worst;
}

static void test_wakes(void **state)
{
    (void)state;
    rank_thread t[3];
    run_ranks(t, 3, NULL, wake_body, NULL);
    expect_good(t, 3);
    for (int r = 0; r < 3; r++)
        assert_true(t[r].seconds < 0.045);
}

static void time_body(rank_thread *self)
{
    for (int op = RINGX_OP_BROADCAST; op <= RINGX_OP_REDUCE_SCATTER; op++)
        for (size_t bytes = 0; bytes < 300000 && self->status == RINGX_OK; bytes = bytes * 7 + 3) {
            double seconds = -1;
            note(self, ringx_comm_time(self->comm, (ringx_comm_op)op, bytes, 4, &seconds));
            if (self->status == RINGX_OK && !(seconds > 0 && seconds < 60))
                self->status = RINGX_INTERNAL;
        }
}

static void test_time(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    for (int ranks = 1; ranks <= 4; ranks++) {
        run_ranks(t, ranks, NULL, time_body, NULL);
        expect_good(t, ranks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_uneven_exchange),
        cmocka_unit_test(test_churn),
        cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
