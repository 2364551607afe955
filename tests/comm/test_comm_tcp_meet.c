/* SPDX-License-Identifier: MIT */
/* How processes meet over TCP: what the environment may say, strangers, ranks that are missing, twice there, or wrong.
 */
#include "comm/rank_processes.h"
#include "comm/tcp.h"
#include "device/device.h"

#include <errno.h>
#include <time.h>

/* ---- the environment -------------------------------------------------------------------------------------------- */

static const char *const names[] = {"RANK",
                                    "WORLD_SIZE",
                                    "MASTER_ADDR",
                                    "MASTER_PORT",
                                    "RINGX_PORT",
                                    "RINGX_JOB",
                                    "SLURM_PROCID",
                                    "SLURM_NTASKS",
                                    "SLURM_JOB_ID",
                                    "SLURM_STEP_ID",
                                    "SLURM_JOB_NODELIST",
                                    "SLURM_STEP_NODELIST",
                                    "TORCHELASTIC_RUN_ID",
                                    "TORCHELASTIC_USE_AGENT_STORE"};

/* "NAME=value NAME=value" and nothing else. */
static void set_environment(const char *words)
{
    char copy[500], *rest = copy;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word; (word = strsep(&rest, " "));) {
        char *value = strchr(word, '=');
        if (value) {
            *value = 0;
            setenv(word, value + 1, 1);
        }
    }
}

static void test_environment_bad(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"},
        {"MASTER_ADDR=a MASTER_PORT=5", "RANK, WORLD_SIZE"},
        {"RANK=0", "WORLD_SIZE is not set"},
        {"WORLD_SIZE=2", "RANK is not set; it must be a number, 0 … 1"},
        {"RANK=2 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=5", "RANK is \"2\"; it must be a number, 0 … 1"},
        {"RANK=-1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=5", "RANK is \"-1\""},
        {"RANK=1x WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=5", "RANK is \"1x\""},
        {"RANK=0 WORLD_SIZE=0 MASTER_ADDR=a MASTER_PORT=5", "WORLD_SIZE is \"0\""},
        {"RANK=0 WORLD_SIZE=99999999999999999999", "WORLD_SIZE is \"99999999999999999999\""},
        {"RANK=0 WORLD_SIZE=2 MASTER_PORT=5", "MASTER_ADDR is not set"},
        {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=a", "MASTER_PORT is not set"},
        {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=70000", "MASTER_PORT is \"70000\""},
        {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=5 RINGX_PORT=no", "RINGX_PORT is \"no\""},
        {"SLURM_PROCID=0", "SLURM_NTASKS is not set"},
        {"SLURM_PROCID=4 SLURM_NTASKS=4 SLURM_JOB_ID=1", "SLURM_PROCID is \"4\""},
        {"SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_JOB_ID=1", "SLURM_JOB_NODELIST"},
        {"SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_JOB_NODELIST=a", "SLURM_JOB_ID is not set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ringx_meeting m;
        ringx_comm *comm = NULL;
        set_environment(cases[i][0]);
        assert_int_equal(ringx__meeting_from_environment(&m), RINGX_INVALID);
        if (!strstr(ringx_last_error(), cases[i][1]))
            fail_msg("\"%s\": \"%s\" lacks \"%s\"", cases[i][0], ringx_last_error(), cases[i][1]);
        assert_int_equal(ringx_comm_from_environment(&comm), RINGX_INVALID);
        assert_null(comm);
    }
    assert_int_equal(ringx_comm_from_environment(NULL), RINGX_INVALID);
}

static void test_environment_good(void **state)
{
    (void)state;
    static const struct {
        const char *words, *host;
        int rank, ranks, port;
    } cases[] = {
        {"RANK=1 WORLD_SIZE=3 MASTER_ADDR=here MASTER_PORT=500", "here", 1, 3, 500},
        {"RANK=1 WORLD_SIZE=3 MASTER_ADDR=here MASTER_PORT=500 RINGX_PORT=77", "here", 1, 3, 77},
        {"RANK=1 WORLD_SIZE=3 MASTER_ADDR=here MASTER_PORT=500 TORCHELASTIC_USE_AGENT_STORE=True", "here", 1, 3, 501},
        {"RANK=1 WORLD_SIZE=3 MASTER_ADDR=here MASTER_PORT=500 SLURM_PROCID=5 SLURM_NTASKS=9", "here", 1, 3, 500},
        {"SLURM_PROCID=2 SLURM_NTASKS=4 SLURM_JOB_ID=12345 SLURM_JOB_NODELIST=n[07-9],m", "n07", 2, 4, 20345},
        {"SLURM_PROCID=2 SLURM_NTASKS=4 SLURM_JOB_ID=1 SLURM_JOB_NODELIST=n1,n2 SLURM_STEP_NODELIST=n2", "n2", 2, 4,
         20001},
        {"SLURM_PROCID=0 SLURM_NTASKS=2 SLURM_JOB_NODELIST=n1 MASTER_ADDR=x MASTER_PORT=9", "x", 0, 2, 9},
        {"RANK=0 WORLD_SIZE=1", "", 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ringx_meeting m;
        set_environment(cases[i].words);
        assert_int_equal(ringx__meeting_from_environment(&m), RINGX_OK);
        assert_string_equal(m.host, cases[i].host);
        assert_int_equal(m.rank, cases[i].rank);
        assert_int_equal(m.ranks, cases[i].ranks);
        assert_int_equal(m.port, cases[i].port);
    }
}

static void test_first_host(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"a", "a"},
                                           {"a,b", "a"},
                                           {"node[003-007,9],login", "node003"},
                                           {"node[12]", "node12"},
                                           {"node[4,6-8]-ib", "node4-ib"},
                                           {"rack-[1-2]n[5,7-9],x[1-2]", "rack-1n5"},
                                           {"plain-1,x[1-2]", "plain-1"}};
    char host[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(ringx__first_host(cases[i][0], host, sizeof host));
        assert_string_equal(host, cases[i][1]);
    }
    assert_false(ringx__first_host("", host, sizeof host));
    assert_true(ringx__first_host("a-very-long-name", host, 5));
    assert_string_equal(host, "a-ve");
}

static void test_alone(void **state)
{
    (void)state;
    ringx_comm *comm = NULL;
    int mine = 5, all = 0;
    ringx_call call = {.what = "alone", .deadline_s = 1};
    set_environment("RANK=0 WORLD_SIZE=1");
    assert_int_equal(ringx_comm_from_environment(&comm), RINGX_OK);
    assert_int_equal(comm->ops->agree(comm, &mine, sizeof mine, &all, &call), RINGX_OK);
    assert_int_equal(all, 5);
    ringx_comm_destroy(comm);
}

/* ---- meeting ---------------------------------------------------------------------------------------------------- */

typedef enum trouble {
    TWICE,       /* rank 2 says it is rank 1 */
    SIZES,       /* rank 1 says there are 4 */
    OTHER_JOB,   /* rank 2 is of another job */
    MISSING,     /* rank 2 never comes */
    NO_ROOT,     /* rank 0 never comes */
    DIES_JOINING /* rank 1, when it has joined */
} trouble;

/* What a rank says first, and what it is told; without the rest. */
static void knock_only(rank_process *found, const char *words, size_t bytes)
{
    ringx_meeting m;
    ringx_address address[4];
    int n, socket = -1;
    ringx__meeting_from_environment(&m);
    ringx_hello hello;
    ringx__hello_fill(&hello, &m, RINGX_JOINS);
    found_status(found, ringx__socket_resolve(m.host, m.port, address, 4, &n));
    for (double end = ringx__now() + 20; socket < 0 && ringx__now() < end;)
        socket = ringx__socket_connect(&address[0], end);
    found->wrong = socket < 0 || !ringx__socket_send(socket, words ? words : (char *)&hello,
                                                     words ? bytes : sizeof hello, ringx__now() + 20);
    if (words) /* it is turned away */
        found->wrong = found->wrong || ringx__socket_receive(socket, &n, 1, ringx__now() + 20) || errno != ECONNRESET;
    close(socket);
}

static void agree_on_rank(int rank, rank_process *found)
{
    ringx_comm *comm = NULL;
    double begin = ringx__now();
    found_status(found, ringx_comm_from_environment(&comm));
    found->seconds = ringx__now() - begin;
    if (found->status != RINGX_OK)
        return;
    int all[MOST_PROCESSES] = {-1, -1, -1};
    ringx_call call = {.what = "after meeting", .deadline_s = 20};
    found_status(found, comm->ops->agree(comm, &rank, sizeof rank, all, &call));
    for (int r = 0; r < comm->ranks; r++)
        found->wrong = found->wrong || all[r] != r;
    ringx_comm_destroy(comm);
}

static void meet_body(int rank, rank_process *found, void *context)
{
    trouble what = *(const trouble *)context;
    if (what == MISSING || what == NO_ROOT || what == OTHER_JOB)
        setenv("RINGX_TIMEOUT", "1", 1);
    if ((what == MISSING && rank == 2) || (what == NO_ROOT && rank == 0))
        return;
    if (what == TWICE && rank == 2)
        set_number("RANK", 1);
    if (what == SIZES && rank == 1)
        set_number("WORLD_SIZE", 4);
    if (what == OTHER_JOB && rank == 2)
        setenv("RINGX_JOB", "another", 1);
    if (what == DIES_JOINING && rank == 1)
        knock_only(found, NULL, 0);
    else
        agree_on_rank(rank, found);
}

static void meet(trouble what, process_world *w)
{
    start_processes(w, 3, meet_body, &what);
    join_processes(w);
}

/* Rank 3 of this test is no rank: it says something else, before the ranks have met. */
static void nonsense_body(int rank, rank_process *found, void *context)
{
    (void)context;
    if (rank < 3)
        set_number("WORLD_SIZE", 3);
    if (rank == 1) /* the stranger comes first */
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    if (rank < 3)
        agree_on_rank(rank, found);
    else
        knock_only(found, "GET / HTTP/1.0\r\n\r\n", 18);
}

static void test_strangers(void **state)
{
    (void)state;
    process_world w;
    start_processes(&w, 4, nonsense_body, NULL);
    join_processes(&w);
    for (int r = 0; r < 4; r++)
        expect_found(&w, r, RINGX_OK, NULL);
    drop_processes(&w);
}

/* Rank 2 of this test is a crowd that says nothing, and then leaves. */
static void crowd_body(int rank, rank_process *found, void *context)
{
    (void)context;
    enum { CROWD = RINGX_DOOR_PLACES + 20 };
    int sockets[CROWD];
    ringx_address here = {.bytes = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
    if (rank < 2) {
        set_number("WORLD_SIZE", 2);
        if (rank == 1)
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        agree_on_rank(rank, found);
        return;
    }
    here.port = (uint16_t)atoi(getenv("MASTER_PORT"));
    double end = ringx__now() + 2;
    for (int i = 0; i < CROWD; i++) {
        do
            sockets[i] = ringx__socket_connect(&here, end);
        while (sockets[i] < 0 && ringx__now() < end);
    }
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    for (int i = 0; i < CROWD; i++)
        close(sockets[i]);
}

static void test_crowd(void **state)
{
    (void)state;
    process_world w;
    start_processes(&w, 3, crowd_body, NULL);
    join_processes(&w);
    for (int r = 0; r < 2; r++)
        expect_found(&w, r, RINGX_OK, NULL);
    drop_processes(&w);
}

static void test_wrong_ranks(void **state)
{
    (void)state;
    process_world w;
    setenv("RINGX_TIMEOUT", "1", 1); /* who comes when the meeting has ended finds nobody */
    meet(TWICE, &w);
    int told = 0; /* rank 0 and those who came before the meeting ended */
    for (int r = 0; r < 3; r++)
        told += w.found[r].status == RINGX_MISMATCH && strstr(w.found[r].message, "two of rank 1");
    assert_int_equal(told, 3);
    drop_processes(&w);
    meet(DIES_JOINING, &w);
    expect_found(&w, 0, RINGX_PEER_DIED, "rank 1");
    drop_processes(&w);
    setenv("RINGX_TIMEOUT", "30", 1);
}

static void test_sizes(void **state)
{
    (void)state;
    process_world w;
    setenv("RINGX_TIMEOUT", "1", 1);
    meet(SIZES, &w);
    expect_found(&w, 0, RINGX_MISMATCH, "rank 1 of");
    expect_found(&w, 1, RINGX_MISMATCH, "there are 4 ranks, rank 0 that there are 3");
    assert_true(w.found[0].seconds < 0.9);
    drop_processes(&w);
    setenv("RINGX_TIMEOUT", "30", 1);
}

/* All at once: nearly all of the time is waiting. */
static void test_missing(void **state)
{
    (void)state;
    process_world missing, no_root, other;
    trouble what[] = {MISSING, NO_ROOT, OTHER_JOB};
    start_processes(&missing, 3, meet_body, &what[0]);
    start_processes(&no_root, 3, meet_body, &what[1]);
    start_processes(&other, 3, meet_body, &what[2]);
    join_processes(&missing);
    join_processes(&no_root);
    join_processes(&other);
    for (int r = 0; r < 2; r++)
        expect_found(&missing, r, RINGX_STALLED, "for rank 2");
    for (int r = 1; r < 3; r++)
        expect_found(&no_root, r, RINGX_STALLED, "cannot meet rank 0 at 127.0.0.1");
    expect_found(&other, 0, RINGX_STALLED, "for rank 2");
    expect_found(&other, 2, RINGX_MISMATCH, "another job");
    drop_processes(&missing);
    drop_processes(&no_root);
    drop_processes(&other);
}

static void test_port_in_use(void **state)
{
    (void)state;
    int port = free_port(), listener;
    char words[200];
    ringx_comm *comm = NULL;
    assert_int_equal(ringx__socket_listen(&port, &listener), RINGX_OK);
    snprintf(words, sizeof words, "RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=%d", port);
    set_environment(words);
    assert_int_equal(ringx_comm_from_environment(&comm), RINGX_COMM);
    snprintf(words, sizeof words, "port %d", port);
    assert_non_null(strstr(ringx_last_error(), words));
    assert_non_null(strstr(ringx_last_error(), "RINGX_PORT"));
    close(listener);
    set_environment("RANK=1 WORLD_SIZE=2 MASTER_ADDR=no.such.host.invalid MASTER_PORT=9");
    assert_int_equal(ringx_comm_from_environment(&comm), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "no.such.host.invalid"));
    set_environment("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment_bad), cmocka_unit_test(test_environment_good),
        cmocka_unit_test(test_first_host),      cmocka_unit_test(test_alone),
        cmocka_unit_test(test_strangers),       cmocka_unit_test(test_wrong_ranks),
        cmocka_unit_test(test_crowd),           cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_missing),         cmocka_unit_test(test_port_in_use),
    };
    set_environment("");
    setenv("RINGX_TIMEOUT", "30", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
