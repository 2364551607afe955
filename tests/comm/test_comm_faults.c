/* SPDX-License-Identifier: MIT */
/* Ranks as threads: what goes wrong ends on every rank, soon, with the same culprit named, and never in a wrong
 * result. */
#include "comm/call_checks.h"
#include "comm/rank_threads.h"
#include "device/device.h"

/* ---- every operation × every rank × every fault ----------------------------------------------------------------- */

enum { RANKS = 3 };

typedef struct fault_case {
    double deadline_s;
} fault_case;

/* All calls in turn until one fails; then the sticky failure must be the same for every later call, at once. */
static void calls_body(rank_thread *self)
{
    const fault_case *f = self->context;
    op_check c = whole(self->comm, f->deadline_s);
    bool good = check_calls(&c, ALL_CALLS, 1);
    note(self, self->comm->ops->poll(self->comm));
    if (good)
        return;
    if (self->status == RINGX_OK) { /* a call returned well and its result is wrong */
        self->status = RINGX_INTERNAL;
        snprintf(self->message, sizeof self->message, "%s", c.message);
        return;
    }
    double begin = ringx__now();
    if (!check_stays_failed(&c, ALL_CALLS, self->status, self->message)) {
        self->status = RINGX_INTERNAL;
        snprintf(self->message, sizeof self->message, "%s", c.message);
    }
    self->seconds = ringx__now() - begin;
}

/* Runs the rule on every operation at once, for one rank. */
static void run_fault(const char *kind, fault_case f, int rank, rank_thread t[ALL_CALLS][RANKS])
{
    char plan[100];
    for (int op = 0; op < ALL_CALLS; op++) {
        snprintf(plan, sizeof plan, " rank=%d , call=%d, kind=%s ;", rank, op, kind);
        start_ranks(t[op], RANKS, plan, calls_body, &f);
    }
    for (int op = 0; op < ALL_CALLS; op++)
        join_ranks(t[op], RANKS);
}

static void test_error(void **state)
{
    (void)state;
    static rank_thread t[ALL_CALLS][RANKS];
    for (int rank = 0; rank < RANKS; rank++) {
        char part[40];
        snprintf(part, sizeof part, "rank %d failed", rank);
        run_fault("error", (fault_case){60}, rank, t);
        for (int op = 0; op < ALL_CALLS; op++)
            for (int r = 0; r < RANKS; r++) {
                expect(t[op], r, r == rank ? RINGX_COMM : RINGX_PEER_DIED, r == rank ? "fault injected" : part);
                assert_true(t[op][r].seconds < 5);
            }
    }
}

static void expect_stall(rank_thread t[ALL_CALLS][RANKS], int rank)
{
    char part[40];
    snprintf(part, sizeof part, "rank %d", rank);
    for (int op = 0; op < ALL_CALLS; op++)
        for (int r = 0; r < RANKS; r++) {
            expect(t[op], r, RINGX_STALLED, part);
            expect(t[op], r, RINGX_STALLED, "step under test");
            assert_true(t[op][r].seconds < 5);
        }
}

static void test_drop(void **state)
{
    (void)state;
    static rank_thread t[ALL_CALLS][RANKS];
    for (int rank = 0; rank < RANKS; rank++) {
        run_fault("drop", (fault_case){0.6}, rank, t);
        expect_stall(t, rank);
    }
}

static void test_delay_too_long(void **state)
{
    (void)state;
    static rank_thread t[ALL_CALLS][RANKS];
    for (int rank = 0; rank < RANKS; rank++) {
        run_fault("delay:120", (fault_case){0.6}, rank, t);
        expect_stall(t, rank);
    }
}

static void test_delay_within(void **state)
{
    (void)state;
    static rank_thread t[ALL_CALLS][RANKS];
    for (int rank = 0; rank < RANKS; rank++) {
        double begin = ringx__now();
        run_fault("delay:.1", (fault_case){60}, rank, t);
        assert_true(ringx__now() - begin >= 0.1);
        for (int op = 0; op < ALL_CALLS; op++)
            for (int r = 0; r < RANKS; r++)
                expect(t[op], r, RINGX_OK, NULL);
    }
}

/* ---- disagreement: rank 1 of 3 does something else -------------------------------------------------------------- */

typedef struct quarrel {
    void (*call)(rank_thread *self, bool odd, const ringx_call *call);
    ringx_status status;
    const char *part; /* of every message */
    const char *also;
} quarrel;

static const ringx_comm_ops *ops_of(rank_thread *self)
{
    return self->comm->ops;
}

static void other_verb(rank_thread *self, bool odd, const ringx_call *call)
{
    float x[3] = {1, 2, 3}, y[9];
    note(self, odd ? ops_of(self)->allreduce_max(self->comm, NULL, x, y, 3, call)
                   : ops_of(self)->agree(self->comm, x, 12, y, call));
}

static void other_root(rank_thread *self, bool odd, const ringx_call *call)
{
    char from[10] = "", to[10];
    note(self, ops_of(self)->broadcast(self->comm, NULL, from, to, 10, odd ? 2 : 0, call));
}

static void other_size(rank_thread *self, bool odd, const ringx_call *call)
{
    char mine[10] = "", all[30];
    note(self, ops_of(self)->agree(self->comm, mine, odd ? 9 : 10, all, call));
}

static void other_dtype(rank_thread *self, bool odd, const ringx_call *call)
{
    float from[10] = {0}, to[10];
    note(self, ops_of(self)->reduce(self->comm, NULL, from, to, 10, odd ? RINGX_F16 : RINGX_F32, 2, call));
}

static void other_part(rank_thread *self, bool odd, const ringx_call *call)
{
    char from[10] = "", to[30];
    size_t bytes[3] = {3, 5, odd ? 7 : 8}, offsets[3] = {0, 10, 20};
    note(self, ops_of(self)->allgather(self->comm, NULL, from, to, bytes, offsets, call));
}

static void other_message(rank_thread *self, bool odd, const ringx_call *call)
{
    char from[10] = "", to[10];
    int ranks = self->comm->ranks, me = self->comm->rank;
    ringx_message send = {(me + 1) % ranks, from, 6}, receive = {(me + ranks - 1) % ranks, to, odd ? 4 : 6};
    note(self, ops_of(self)->exchange(self->comm, &send, 1, &receive, 1, call));
}

/* One of two equal calls is left out, and shows up at the next one. */
static void skipped(rank_thread *self, bool odd, const ringx_call *call)
{
    float x[3] = {1, 2, 3}, y[9];
    ringx_status status = RINGX_OK;
    for (int i = odd; i < 2 && status == RINGX_OK; i++)
        status = ops_of(self)->agree(self->comm, x, 12, y, call);
    if (status == RINGX_OK)
        status = ops_of(self)->allreduce_max(self->comm, NULL, x, y, 3, call);
    note(self, status);
}

/* Each waits for the other: rank 1 in a call of all ranks, rank 0 in an exchange with rank 1. */
static void crossed(rank_thread *self, bool odd, const ringx_call *call)
{
    char x[3] = "", y[9];
    ringx_message send = {1, x, 3};
    ringx_status status = RINGX_OK;
    if (self->comm->rank == 0)
        status = ops_of(self)->exchange(self->comm, &send, 1, NULL, 0, call);
    if (status == RINGX_OK)
        status = ops_of(self)->agree(self->comm, x, 3, y, call);
    send.peer = 0;
    if (odd && status == RINGX_OK)
        status = ops_of(self)->exchange(self->comm, NULL, 0, &send, 1, call);
    note(self, status);
}

static void leaves_early(rank_thread *self, bool odd, const ringx_call *call)
{
    char x[3] = "", y[9];
    if (odd)
        sleep_s(0.1);
    else
        note(self, ops_of(self)->agree(self->comm, x, 3, y, call));
}

static void own_message_lost(rank_thread *self, bool odd, const ringx_call *call)
{
    char x[3] = "", y[9];
    ringx_message send = {1, x, 3};
    if (odd)
        note(self, ops_of(self)->exchange(self->comm, &send, 1, NULL, 0, call));
    else
        note(self, ops_of(self)->agree(self->comm, x, 3, y, call));
}

static void quarrel_body(rank_thread *self)
{
    const quarrel *q = self->context;
    ringx_call call = {.what = "quarrel", .deadline_s = 60};
    double begin = ringx__now();
    char mine = 0, all[MOST_TEST_RANKS];
    q->call(self, self->comm->rank == 1, &call);
    /* a rank that had all it wanted before the others fell out learns of it at the next call */
    if (self->status == RINGX_OK && q->status == RINGX_MISMATCH)
        note(self, self->comm->ops->agree(self->comm, &mine, 1, all, &call));
    self->seconds = ringx__now() - begin;
}

static void test_disagreement(void **state)
{
    (void)state;
    static const quarrel quarrels[] = {
        {other_verb, RINGX_MISMATCH, "agree", "allreduce_max"},
        {other_root, RINGX_MISMATCH, "root", "rank 1 has 2"},
        {other_size, RINGX_MISMATCH, "size of agree", "rank 1 has 9"},
        {other_dtype, RINGX_MISMATCH, "dtype of reduce", "rank 1 has f16"},
        {other_part, RINGX_MISMATCH, "part 2 of allgather", "rank 1 has 7"},
        {other_message, RINGX_MISMATCH, "rank 1 expects 4 bytes from rank 0", "sends 6"},
        {skipped, RINGX_MISMATCH, "agree", "allreduce_max"},
        {crossed, RINGX_MISMATCH, "rank 0 waits in \"quarrel\" (exchange) for rank 1", "rank 1 waits in"},
        {own_message_lost, RINGX_MISMATCH, "rank 1 sends itself 3 bytes", NULL},
    };
    rank_thread t[RANKS];
    for (size_t i = 0; i < sizeof quarrels / sizeof *quarrels; i++) {
        quarrel q = quarrels[i];
        run_ranks(t, RANKS, NULL, quarrel_body, &q);
        for (int r = 0; r < RANKS; r++) {
            expect(t, r, q.status, q.part);
            expect(t, r, q.status, q.also);
            assert_true(t[r].seconds < 20);
        }
    }
}

static void test_destroyed_early(void **state)
{
    (void)state;
    rank_thread t[RANKS];
    quarrel q = {leaves_early, RINGX_PEER_DIED, NULL, NULL};
    run_ranks(t, RANKS, NULL, quarrel_body, &q);
    expect(t, 1, RINGX_OK, NULL);
    for (int r = 0; r < RANKS; r += 2) {
        expect(t, r, RINGX_PEER_DIED, "rank 1 has destroyed its communicator");
        assert_true(t[r].seconds < 20);
    }
}

/* ---- wrong arguments are the failure of the rank that made them ------------------------------------------------- */

static void wrong_body(rank_thread *self)
{
    char x[4] = "", y[16];
    float f[4] = {0};
    size_t sizes[3] = {1, 1, 1};
    int which = *(const int *)self->context;
    bool odd = self->comm->rank == 1;
    ringx_call call = {.what = "wrong argument", .deadline_s = 60};
    ringx_message send = {3, x, 3}, null = {0, NULL, 3};
    const ringx_comm_ops *o = self->comm->ops;
    ringx_status status = RINGX_OK;
    if (odd && which == 0)
        status = o->broadcast(self->comm, NULL, x, y, 4, 3, &call);
    else if (odd && which == 1)
        status = o->exchange(self->comm, &send, 1, NULL, 0, &call);
    else if (odd && which == 2)
        status = o->reduce(self->comm, NULL, f, f, 4, (ringx_dtype)7, 0, &call);
    else if (odd && which == 3)
        status = o->exchange(self->comm, NULL, 0, &null, 1, &call);
    else if (odd && which == 4)
        status = o->allgather(self->comm, NULL, NULL, y, sizes, sizes, &call);
    if (status == RINGX_OK)
        status = o->agree(self->comm, x, 4, y, &call);
    note(self, status);
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    static const char *const parts[] = {"root 3", "peer 3", "dtype 7", "NULL", "NULL"};
    rank_thread t[RANKS];
    for (int which = 0; which < 5; which++) {
        run_ranks(t, RANKS, NULL, wrong_body, &which);
        for (int r = 0; r < RANKS; r++)
            expect(t, r, r == 1 ? RINGX_INVALID : RINGX_PEER_DIED, parts[which]);
        expect(t, 0, RINGX_PEER_DIED, "rank 1 failed");
    }
}

/* ---- whom to blame ---------------------------------------------------------------------------------------------- */

static double chain_begin; /* before any of the ranks */

/* Rank 3 is late for an exchange with rank 2; rank 2 is therefore missing elsewhere, and so is rank 1. */
static void chain_body(rank_thread *self)
{
    int rank = self->comm->rank;
    char x = 1, y[8];
    ringx_call call = {.what = rank == 2 ? "inner step" : "outer step", .deadline_s = rank < 2 ? 0.5 : 60};
    ringx_message next = {rank + 1, &x, 1}, previous = {rank - 1, y, 1};
    ringx_status status = RINGX_OK;
    if (rank == 3)
        sleep_s(1.0);
    if (rank == 2)
        status = self->comm->ops->exchange(self->comm, &next, 1, NULL, 0, &call);
    if (rank == 3)
        status = self->comm->ops->exchange(self->comm, NULL, 0, &previous, 1, &call);
    if (status == RINGX_OK)
        status = self->comm->ops->agree(self->comm, &x, 1, y, &call);
    self->seconds = ringx__now() - chain_begin;
    note(self, status);
}

static void test_blame(void **state)
{
    (void)state;
    rank_thread t[4];
    bool in_time = false;
    for (int attempt = 0; attempt < 4 && !in_time; attempt++) { /* a machine busy with other things is late by chance */
        chain_begin = ringx__now();
        run_ranks(t, 4, NULL, chain_body, NULL);
        in_time = true;
        for (int r = 0; r < 4; r++) {
            expect(t, r, RINGX_STALLED, "waited 0.5 s for rank 3");
            assert_null(strstr(t[r].message, "for ranks"));
            assert_true(r == 3 || t[r].seconds >= 0.499);
            in_time = in_time && (r == 3 || t[r].seconds < 1.0);
        }
    }
    assert_true(in_time);
}

/* All that have not come are named, no one else. */
static void absent_body(rank_thread *self)
{
    int rank = self->comm->rank;
    char x = 1, y[8];
    ringx_call call = {.what = "forward step 12", .deadline_s = 0.4};
    if (rank == 1 || rank == 4)
        sleep_s(1.2);
    note(self, self->comm->ops->agree(self->comm, &x, 1, y, &call));
}

static void test_all_absent_named(void **state)
{
    (void)state;
    rank_thread t[5];
    run_ranks(t, 5, NULL, absent_body, NULL);
    for (int r = 0; r < 5; r++)
        expect(t, r, RINGX_STALLED, "forward step 12: waited 0.4 s for ranks 1 and 4");
}

/* ---- failures while others copy --------------------------------------------------------------------------------- */

/* A rank that fails in the middle frees its memory as soon as its call returns: nobody may still read it. */
static void torn_body(rank_thread *self)
{
    const size_t bytes = 8 << 20;
    int rank = self->comm->rank;
    ringx_call call = {.what = "torn", .deadline_s = 60};
    char *data = malloc(bytes);
    memset(data, 1, bytes);
    const ringx_comm_ops *o = self->comm->ops;
    ringx_group *group;
    ringx_status status = o->split(self->comm, rank == 3, &group, &call);
    if (rank == 3) {
        sleep_s(1e-3 * *(const int *)self->context);
        self->comm->ops->abort(self->comm, 3, RINGX_IO, "a file was lost");
    }
    for (int i = 0; i < 4000 && rank < 3 && status == RINGX_OK; i++) { /* ranks 0 … 2, without rank 3 */
        size_t third = bytes / 12, counts[3] = {third, third, third}, offsets[3] = {0, third, 2 * third};
        char *half = data + bytes / 2;
        ringx_message send = {(rank + 1) % 3, data, bytes / 2}, receive = {(rank + 2) % 3, half, bytes / 2};
        if (i % 4 == 0)
            status = o->exchange(self->comm, &send, 1, &receive, 1, &call);
        else if (i % 4 == 1)
            status = o->broadcast(self->comm, group, data, half, bytes / 2, i / 4 % 3, &call);
        else if (i % 4 == 2)
            status = o->allgather(self->comm, group, data, half, counts, offsets, &call);
        else
            status = o->reduce(self->comm, group, data, half, bytes / 8, RINGX_F32, i / 4 % 3, &call);
    }
    memset(data, 2, bytes);
    free(data);
    o->group_destroy(self->comm, group);
    note(self, rank == 3 ? self->comm->ops->poll(self->comm) : status);
}

static void test_torn(void **state)
{
    (void)state;
    rank_thread t[4];
    for (int i = 0; i < 20; i++) {
        run_ranks(t, 4, NULL, torn_body, &i);
        for (int r = 0; r < 4; r++)
            expect(t, r, r == 3 ? RINGX_IO : RINGX_PEER_DIED,
                   r == 3 ? "a file was lost" : "rank 3 failed: a file was lost");
    }
}

/* ---- rules ------------------------------------------------------------------------------------------------------ */

static void test_rules(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"rank=0,call=1", "has no kind"},
        {"rank=0,kind=drop", "has no call"},
        {"call=0,kind=drop", "has no rank"},
        {"rank=2,call=1,kind=error", "it must be 0 … 1 or *"},
        {"rank=-1,call=1,kind=error", "rank is \"-1\""},
        {"rank=,call=1,kind=error", "rank is \"\""},
        {"rank,call=1,kind=error", "rank is \"\""},
        {"rank=1x,call=1,kind=error", "rank is \"1x\""},
        {"rank=1,call=99999999999999999999,kind=error", "call is \"99999999999999999999\""},
        {"rank=1,call=1.5,kind=error", "call is \"1.5\""},
        {"rank=1,call=1,kind=explode", "kind is \"explode\"; it must be error, delay:SECONDS or drop"},
        {"rank=1,call=1,kind=delay", "kind is \"delay\""},
        {"rank=1,call=1,kind=delay:", "kind is \"delay:\""},
        {"rank=1,call=1,kind=delay:-1", "kind is \"delay:-1\""},
        {"rank=1,call=1,kind=delay:nan", "kind is \"delay:nan\""},
        {"rank=1,call=1,kind=delay:1e400", "kind is \"delay:1e400\""},
        {"rank=1,call=1,kind=delay:1s", "kind is \"delay:1s\""},
        {"rank=1,call=1,kind=drop,", "is unknown"},
        {"rank=1,rank=1,call=1,kind=drop", "given twice"},
        {"rank=1,call=1,kind=drop;size=3", "fault rule 2 \"size=3\": \"size=3\" is unknown"},
        {"rank=1,call=1,kind=drop; rank=1,call=1", "fault rule 2 \"rank=1,call=1\" has no kind"},
    };
    static const char *const right[] = {"", " ; ;", "rank=*,call=*,kind=delay:0",
                                        "kind=delay:1e-3 , rank = 1,call=0;;"};
    ringx_comm *inner[2], *comm;
    assert_int_equal(ringx_comm_threads(2, inner), RINGX_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ringx_comm_faulty(inner[0], wrong[i][0], &comm), RINGX_INVALID);
        if (!strstr(ringx_last_error(), wrong[i][1]))
            fail_msg("\"%s\": \"%s\" does not say \"%s\"", wrong[i][0], ringx_last_error(), wrong[i][1]);
    }
    assert_int_equal(ringx_comm_faulty(inner[0], NULL, &comm), RINGX_INVALID);
    assert_int_equal(ringx_comm_faulty(NULL, "", &comm), RINGX_INVALID);
    assert_int_equal(ringx_comm_faulty(inner[0], "", NULL), RINGX_INVALID);
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) { /* one around the other */
        assert_int_equal(ringx_comm_faulty(inner[0], right[i], &comm), RINGX_OK);
        inner[0] = comm;
    }
    assert_int_equal(ringx_comm_rank(inner[0]), 0);
    assert_int_equal(ringx_comm_ranks(inner[0]), 2);
    ringx_comm_destroy(inner[0]);
    ringx_comm_destroy(inner[1]);
}

static void test_bad_ranks(void **state)
{
    (void)state;
    ringx_comm *comm = NULL;
    assert_int_equal(ringx_comm_threads(0, &comm), RINGX_INVALID);
    assert_int_equal(ringx_comm_threads(-3, &comm), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "-3"));
    assert_int_equal(ringx_comm_threads(1 << 20, &comm), RINGX_INVALID);
    assert_int_equal(ringx_comm_threads(2, NULL), RINGX_INVALID);
    assert_null(comm);
    ringx_comm_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_delay_too_long),
        cmocka_unit_test(test_delay_within),
        cmocka_unit_test(test_disagreement),
        cmocka_unit_test(test_destroyed_early),
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_blame),
        cmocka_unit_test(test_all_absent_named),
        cmocka_unit_test(test_torn),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_bad_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
