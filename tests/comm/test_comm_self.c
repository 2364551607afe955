/* SPDX-License-Identifier: MIT */
/* One rank, alone; and the table of transports. */
#include "comm/op_checks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static op_check alone(ringx_comm *comm)
{
    return (op_check){.comm = comm, .members = 1, .exact = true, .call = {.what = "test", .deadline_s = 1}};
}

static void test_operations(void **state)
{
    (void)state;
    ringx_comm *comm;
    assert_int_equal(ringx_comm_self(&comm), RINGX_OK);
    assert_int_equal(ringx_comm_rank(comm), 0);
    assert_int_equal(ringx_comm_ranks(comm), 1);
    op_check c = alone(comm), sub;
    if (!check_each(&c, 31))
        fail_msg("%s", c.message);
    for (uint64_t i = 0; i < 500; i++)
        if (!check_one(&c, i, 200))
            fail_msg("%s", c.message);
    int colour = 9, rank_of[1], node = -1;
    assert_true(check_split(&c, &colour, &sub, rank_of));
    if (!check_each(&sub, 32))
        fail_msg("%s", sub.message);
    comm->ops->group_destroy(comm, sub.group);
    assert_int_equal(comm->ops->nodes(comm, &node, &c.call), RINGX_OK);
    assert_int_equal(node, 0);
    double seconds = -1;
    assert_int_equal(ringx_comm_time(comm, RINGX_OP_ALLGATHER, 1000, 3, &seconds), RINGX_OK);
    assert_true(seconds >= 0 && seconds < 1);
    ringx_comm_destroy(comm);
}

/* Each failure is of its own communicator, and stays. */
static void test_failures(void **state)
{
    (void)state;
    char x[4] = "", y[4];
    float f[4] = {0};
    ringx_call call = {.what = "here", .deadline_s = 1};
    ringx_message to_self = {0, x, 4}, from_self = {0, y, 3}, elsewhere = {1, x, 4};
    for (int which = 0; which < 7; which++) {
        ringx_comm *comm;
        assert_int_equal(ringx_comm_self(&comm), RINGX_OK);
        const ringx_comm_ops *o = comm->ops;
        ringx_status status = RINGX_OK, expected = RINGX_INVALID;
        if (which == 0)
            status = o->broadcast(comm, NULL, x, y, 4, 1, &call);
        else if (which == 1)
            status = o->reduce(comm, NULL, f, f, 4, RINGX_F32, -1, &call);
        else if (which == 2)
            status = o->reduce(comm, NULL, f, f, 4, (ringx_dtype)3, 0, &call);
        else if (which == 3)
            status = o->exchange(comm, &elsewhere, 1, NULL, 0, &call);
        else if (which == 4)
            status = o->broadcast(comm, NULL, NULL, y, 4, 0, &call);
        else if (which == 5)
            expected = RINGX_MISMATCH, status = o->exchange(comm, &to_self, 1, &from_self, 1, &call);
        else
            expected = RINGX_MISMATCH, status = o->exchange(comm, NULL, 0, &from_self, 1, &call);
        assert_int_equal(status, expected);
        assert_non_null(strstr(ringx_last_error(), "here: "));
        assert_int_equal(o->agree(comm, x, 4, y, &call), expected);
        assert_int_equal(o->poll(comm), expected);
        ringx_comm_destroy(comm);
    }
    assert_int_equal(ringx_comm_self(NULL), RINGX_INVALID);
}

static void test_time_arguments(void **state)
{
    (void)state;
    ringx_comm *comm;
    double seconds;
    assert_int_equal(ringx_comm_self(&comm), RINGX_OK);
    assert_int_equal(ringx_comm_time(comm, (ringx_comm_op)5, 8, 1, &seconds), RINGX_INVALID);
    assert_int_equal(ringx_comm_time(comm, RINGX_OP_REDUCE, 8, 0, &seconds), RINGX_INVALID);
    assert_int_equal(ringx_comm_time(NULL, RINGX_OP_REDUCE, 8, 1, &seconds), RINGX_INVALID);
    assert_int_equal(ringx_comm_time(comm, RINGX_OP_REDUCE, 8, 1, NULL), RINGX_INVALID);
    assert_int_equal(ringx_comm_time(comm, RINGX_OP_BROADCAST, SIZE_MAX - 1, 1, &seconds), RINGX_NO_MEMORY);
    ringx_comm_destroy(comm);
}

static void test_table(void **state)
{
    (void)state;
    size_t n = 0;
    for (const ringx_comm_ops *o; (o = ringx__comm_ops_at(n)); n++) {
        assert_non_null(o->name);
        assert_non_null(o->text);
        assert_non_null(o->poll);
        for (size_t i = 0; i < n; i++)
            assert_string_not_equal(o->name, ringx__comm_ops_at(i)->name);
    }
    assert_true(n >= 3);
    assert_null(ringx__comm_ops_at(n + 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_time_arguments),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
