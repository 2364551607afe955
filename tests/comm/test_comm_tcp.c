/* SPDX-License-Identifier: MIT */
/* Ranks as processes that talk over TCP: every operation, groups, random sequences with large and with tiny messages,
 * every fault, ranks that are killed, leave or stop. */
#include "comm/call_checks.h"
#include "comm/rank_processes.h"
#include "comm/wire.h"
#include "device/device.h"

#include <signal.h>

static bool keep(rank_process *found, const op_check *c, bool good)
{
    if (!good && !found->wrong)
        snprintf(found->message, sizeof found->message, "%s", c->message);
    found->wrong = found->wrong || !good;
    return good;
}

static void expect_good(process_world *w)
{
    for (int r = 0; r < w->ranks; r++)
        expect_found(w, r, RINGX_OK, NULL);
    drop_processes(w);
}

/* ---- every operation -------------------------------------------------------------------------------------------- */

/* All apart, two kinds, random. */
static int colour(int split, int rank)
{
    return split == 0 ? rank : split == 1 ? rank / 2 : (int)(mix(3, (uint64_t)rank) % 2);
}

/* context: with which messages; the last is without cuts. */
static void calls_body(int rank, rank_process *found, void *context)
{
    static const size_t cuts[] = {61, 4096, (size_t)1 << 30}, small[] = {0, 100, 64 << 10};
    int which = *(const int *)context;
    ringx_comm *comm = NULL;
    ringx__wire_cut = cuts[which];
    ringx__wire_small = small[which];
    found_status(found, ringx_comm_from_environment(&comm));
    if (found->status != RINGX_OK)
        return;
    op_check c = whole(comm, 60);
    found->wrong = comm->rank != rank || strcmp(comm->ops->name, "tcp") != 0 || !comm->ops->overlaps;
    if (which == 2)
        keep(found, &c, check_each(&c, 11));
    keep(found, &c, check_groups(&c, 3, colour, false, 90));
    keep(found, &c, found->wrong || check_random(&c, 5, 60, 300));
    keep(found, &c, found->wrong || check_random(&c, 6, which ? 8 : 3, which == 0 ? 3000 : 2000000));
    unsigned char word[5] = {0}, all[MOST_PROCESSES];
    if (rank == comm->ranks - 1)
        memcpy(word, "word", 5);
    found_status(found, ringx_comm_broadcast(comm, word, sizeof word, comm->ranks - 1));
    keep(found, &c, found->status == RINGX_OK && memcmp(word, "word", 5) == 0);
    found_status(found, ringx_comm_gather(comm, &word[rank % 5], 1, all));
    for (int r = 0; r < comm->ranks; r++)
        keep(found, &c, all[r] == (unsigned char)"word"[r % 5]);
    int node[MOST_PROCESSES];
    memset(node, 0xff, sizeof node);
    found_status(found, comm->ops->nodes(comm, node, &c.call));
    for (int r = 0; r < comm->ranks; r++)
        keep(found, &c, node[r] == 0);
    ringx_comm_destroy(comm);
}

static void test_calls(void **state)
{
    (void)state;
    process_world w;
    for (int ranks = 1; ranks <= 4; ranks++)
        for (int which = ranks == 3 ? 0 : 2; which < 3; which++) {
            start_processes(&w, ranks, calls_body, &which);
            join_processes(&w);
            expect_good(&w);
        }
}

/* One rank's receives of one call may match sends of several; large messages cross without a deadlock. */
static void exchange_body(int rank, rank_process *found, void *context)
{
    (void)context;
    enum { LARGE = 5000000 };
    ringx_comm *comm = NULL;
    ringx_call call = {.what = "exchange", .deadline_s = 60};
    int data[3] = {10, 11, 12}, got[3] = {-1, -1, -1};
    unsigned char *out = random_bytes(3, rank, LARGE), *in = guarded(LARGE);
    ringx_message sends[3], receives[3];
    ringx_message send = {1 - rank, out, LARGE}, receive = {1 - rank, in, LARGE};
    for (int i = 0; i < 3; i++) {
        sends[i] = (ringx_message){1, &data[i], sizeof *data};
        receives[i] = (ringx_message){0, &got[i], sizeof *got};
    }
    ringx_status status = ringx_comm_from_environment(&comm);
    for (int i = 0; i < 3 && status == RINGX_OK && rank == 0; i++)
        status = comm->ops->exchange(comm, &sends[i], 1, NULL, 0, &call);
    if (status == RINGX_OK && rank == 1)
        status = comm->ops->exchange(comm, NULL, 0, receives, 3, &call);
    if (status == RINGX_OK)
        status = comm->ops->exchange(comm, &send, 1, &receive, 1, &call);
    found_status(found, status);
    found->wrong = (rank == 1 && memcmp(data, got, sizeof got) != 0) || !same_bytes(in, 3, 1 - rank, LARGE) ||
                   !guards_stand(in, LARGE);
    drop_guarded(out);
    drop_guarded(in);
    ringx_comm_destroy(comm);
}

static void test_exchange(void **state)
{
    (void)state;
    process_world w;
    start_processes(&w, 2, exchange_body, NULL);
    join_processes(&w);
    expect_good(&w);
}

/* Communicators one after the other, by the same environment. */
static void churn_body(int rank, rank_process *found, void *context)
{
    (void)context;
    for (int i = 0; i < 12 && found->status == RINGX_OK && !found->wrong; i++) {
        ringx_comm *comm = NULL;
        if (rank == i % 3)
            sleep_s(1e-3);
        found_status(found, ringx_comm_from_environment(&comm));
        if (found->status != RINGX_OK)
            return;
        op_check c = whole(comm, 60);
        keep(found, &c, check_one(&c, 99 + (uint64_t)i, 50));
        ringx_comm_destroy(comm);
    }
}

static void test_churn(void **state)
{
    (void)state;
    process_world w;
    start_processes(&w, 3, churn_body, NULL);
    join_processes(&w);
    expect_good(&w);
}

/* ---- faults ----------------------------------------------------------------------------------------------------- */

enum { RANKS = 3 };

typedef struct fault {
    const char *kind;
    int victim, op;
    double deadline_s;
} fault;

/* All calls until one fails; then the failure must be the same for every later call, at once. */
static void fault_body(int rank, rank_process *found, void *context)
{
    const fault *f = context;
    char plan[100];
    (void)rank;
    ringx_comm *plain = NULL, *comm = NULL;
    snprintf(plan, sizeof plan, "rank=%d,call=%d,kind=%s", f->victim, f->op, f->kind);
    found_status(found, ringx_comm_from_environment(&plain));
    if (found->status == RINGX_OK)
        found_status(found, ringx_comm_faulty(plain, plan, &comm));
    if (found->status != RINGX_OK)
        return;
    op_check c = whole(comm, f->deadline_s);
    bool good = check_calls(&c, DATA_CALLS, 2);
    found_status(found, comm->ops->poll(comm));
    if (found->status == RINGX_OK)
        keep(found, &c, good);
    double begin = ringx__now();
    if (found->status != RINGX_OK)
        keep(found, &c, check_stays_failed(&c, DATA_CALLS, found->status, found->message));
    found->seconds = ringx__now() - begin;
    ringx_comm_destroy(comm);
}

static void expect_fault(process_world *w, const fault *f)
{
    char part[40];
    bool error = strcmp(f->kind, "error") == 0;
    snprintf(part, sizeof part, "rank %d", f->victim);
    for (int r = 0; r < RANKS; r++) {
        if (strcmp(f->kind, "delay:0.05") == 0)
            expect_found(w, r, RINGX_OK, NULL);
        else if (error)
            expect_found(w, r, r == f->victim ? RINGX_COMM : RINGX_PEER_DIED, r == f->victim ? "fault injected" : part);
        else
            expect_found(w, r, RINGX_STALLED, part);
        assert_true(w->found[r].seconds < 5);
    }
    drop_processes(w);
}

static void test_errors(void **state)
{
    (void)state;
    process_world w[2];
    for (int op = 0; op < DATA_CALLS; op++) {
        fault f[2] = {{"error", op % RANKS, op, 60}, {"delay:0.05", (op + 1) % RANKS, op, 60}};
        for (int i = 0; i < 2; i++)
            start_processes(&w[i], RANKS, fault_body, &f[i]);
        for (int i = 0; i < 2; i++) {
            join_processes(&w[i]);
            expect_fault(&w[i], &f[i]);
        }
    }
}

static void quarrel_body(int rank, rank_process *found, void *context)
{
    (void)rank;
    ringx_comm *comm = NULL;
    found_status(found, ringx_comm_from_environment(&comm));
    if (found->status != RINGX_OK)
        return;
    found_status(found, call_at_odds(comm, *(const int *)context, 0.3));
    ringx_comm_destroy(comm);
}

/* ---- ranks that are lost ---------------------------------------------------------------------------------------- */

enum { KILLED, ENDED, LEFT, STOPPED, WAYS };

static void lost_body(int rank, rank_process *found, void *context)
{
    int how = *(const int *)context;
    ringx_comm *comm = NULL;
    found_status(found, ringx_comm_from_environment(&comm));
    if (found->status != RINGX_OK)
        return;
    op_check c = whole(comm, how == STOPPED ? 0.5 : 60);
    if (check_agree(&c, 8)) /* a survivor that is ahead may have failed by now */
        check_allgather(&c, 300000, false, false);
    if (rank == RANKS - 1) {
        if (how == KILLED)
            raise(SIGKILL);
        if (how == STOPPED)
            raise(SIGSTOP);
        if (how == LEFT)
            ringx_comm_destroy(comm);
        return;
    }
    double begin = ringx__now();
    call_until_failure(&c);
    found_status(found, comm->ops->poll(comm));
    found->seconds = ringx__now() - begin;
    ringx_comm_destroy(comm);
}

/* ---- those tests that wait ---------------------------------------------------------------------------------------
 */

static void expect_quarrel(process_world *w)
{
    for (int r = 0; r < RANKS; r++)
        expect_found(w, r, RINGX_MISMATCH, "rank 1");
    drop_processes(w);
}

static void join_lost(process_world *w)
{
    w->ranks = RANKS - 1;
    join_processes(w);
    kill(w->pid[RANKS - 1], SIGKILL);
    waitpid(w->pid[RANKS - 1], NULL, 0);
}

static void expect_lost(process_world *w, int how)
{
    for (int r = 0; r < RANKS - 1; r++) {
        expect_found(w, r, how == STOPPED ? RINGX_STALLED : RINGX_PEER_DIED, "rank 2");
        expect_found(w, r, w->found[r].status,
                     how == STOPPED ? "step under test"
                     : how == LEFT  ? "has destroyed"
                                    : "has died");
        assert_true(w->found[r].seconds < 8);
    }
    drop_processes(w);
}

/* Calls that are late or never made, calls that do not match, ranks that are lost.  All at once: nearly all of the time
 * is waiting. */
static void test_waits(void **state)
{
    (void)state;
    enum { STALLS = 2 * DATA_CALLS };
    process_world late[STALLS], quarrel[QUARRELS], lost[WAYS];
    fault f[STALLS];
    int number[] = {0, 1, 2, 3};
    for (int i = 0; i < STALLS; i++) {
        f[i] = (fault){i % 2 ? "drop" : "delay:6", (i / 2 + i % 2) % RANKS, i / 2, 1};
        start_processes(&late[i], RANKS, fault_body, &f[i]);
    }
    for (int i = 0; i < QUARRELS; i++)
        start_processes(&quarrel[i], RANKS, quarrel_body, &number[i]);
    for (int i = 0; i < WAYS; i++)
        start_processes(&lost[i], RANKS, lost_body, &number[i]);
    for (int i = 0; i < STALLS; i++)
        join_processes(&late[i]);
    for (int i = 0; i < QUARRELS; i++)
        join_processes(&quarrel[i]);
    for (int i = 0; i < WAYS; i++)
        join_lost(&lost[i]);
    for (int i = 0; i < STALLS; i++)
        expect_fault(&late[i], &f[i]);
    for (int i = 0; i < QUARRELS; i++)
        expect_quarrel(&quarrel[i]);
    for (int i = 0; i < WAYS; i++)
        expect_lost(&lost[i], i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),  cmocka_unit_test(test_exchange), cmocka_unit_test(test_churn),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_waits),
    };
    unsetenv("RINGX_PORT");
    unsetenv("TORCHELASTIC_USE_AGENT_STORE");
    setenv("RINGX_TIMEOUT", "30", 1);
    cmocka_set_message_output(CM_OUTPUT_STDOUT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
