/* SPDX-License-Identifier: MIT */
/* Two ranks with a GPU each, as processes: a graph of both directions; what the other one is told when a rank is
 * killed, stopped, or meets an illegal address while both run.  Two ranks of one GPU. */
#include <signal.h>

#include "comm/rank_processes.h"
#include "cuda_case.h"
#include "device/device.h"
#include "kernel/kernel.h"

#ifdef RINGX_HAVE_NCCL
#include <ringx/ringx_nccl.h>
#endif

enum { RANKS = 2, REPLAYS = 100, GOOD_RUNS = 3, PATIENCE_S = 6 };
enum { MOST_S = 40 }; /* a rank that hangs ends then */

typedef enum way { KILLED, STOPPED, ILLEGAL } way;

static ringx_problem problem_of(void)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 2;
    p.tokens = 4003;
    p.q_heads = 8;
    p.kv_heads = 4;
    p.head_dim = 128;
    p.dtype = RINGX_BF16;
    p.causal = true;
    return p;
}

/* Each rank's communicator, on its own GPU. */
static ringx_status meet(int rank, ringx_comm **comm)
{
    ringx_comm *host;
    RINGX_TRY(ringx_device_use(RINGX_CUDA, rank));
    RINGX_TRY(ringx_comm_from_environment(&host));
    *comm = host;
#ifdef RINGX_HAVE_NCCL
    return ringx_comm_nccl(host, comm);
#else
    return RINGX_OK;
#endif
}

static void count_gpus(int rank, rank_process *found, void *context)
{
    (void)rank, (void)context;
    int count = 0;
    ringx_device_count(RINGX_CUDA, &count);
    found->seconds = count;
}

/* CUDA must not have been used before processes are forked. */
static bool too_few_gpus(int least)
{
    process_world w;
    start_processes(&w, 1, count_gpus, NULL);
    join_processes(&w);
    bool few = w.found[0].seconds < least;
    if (few)
        fprintf(stderr, "skipped: %d GPUs, not %d\n", (int)w.found[0].seconds, least);
    drop_processes(&w);
    return few;
}

/* ---- a graph ---- */

static ringx_status replay(int rank, const char *preset)
{
    ringx_comm *comm;
    cuda_case c;
    ringx_problem p = problem_of();
    alarm(MOST_S);
    RINGX_TRY(meet(rank, &comm));
    RINGX_TRY(case_create(&c, &p, preset, PATIENCE_S, comm));
    ringx_status status = case_replay(&c, cudaStreamCaptureModeThreadLocal, REPLAYS) /* NCCL has threads */;
    case_destroy(&c);
    ringx_comm_destroy(comm);
    return status;
}

static void replay_body(int rank, rank_process *found, void *context)
{
    found_status(found, replay(rank, context));
}

static void graphs_of_two_ranks_replay(void **state)
{
    (void)state;
    if (too_few_gpus(RANKS))
        skip();
    static const char *const presets[] = {"ringX3", "ringX4o", "zigzag", "ringX2o"};
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        process_world w;
        start_processes(&w, RANKS, replay_body, (void *)(uintptr_t)presets[i]);
        join_processes(&w);
        for (int r = 0; r < RANKS; r++)
            expect_found(&w, r, RINGX_OK, NULL);
        drop_processes(&w);
    }
}

/* ---- one GPU ---- */

/* Tiles for all multiprocessors twice: a kernel that waited for keys would leave none to the copies. */
static ringx_status share(void)
{
    ringx_comm *comm;
    cuda_case c;
    ringx_problem p = problem_of();
    alarm(MOST_S);
    RINGX_TRY(ringx_device_use(RINGX_CUDA, 0));
    RINGX_TRY(ringx_comm_from_environment(&comm));
    RINGX_TRY(case_create(&c, &p, "ringX3", PATIENCE_S, comm));
    ringx_status status = RINGX_OK;
    for (int run = 0; status == RINGX_OK && run < GOOD_RUNS; run++)
        status = case_execute(&c);
    case_destroy(&c);
    ringx_comm_destroy(comm);
    return status;
}

static void share_body(int rank, rank_process *found, void *context)
{
    (void)rank, (void)context;
    found_status(found, share());
}

static void ranks_of_one_gpu_do_not_wait_for_each_other(void **state)
{
    (void)state;
    process_world w;
    if (too_few_gpus(1))
        skip();
    start_processes(&w, RANKS, share_body, NULL);
    join_processes(&w);
    for (int r = 0; r < RANKS; r++)
        expect_found(&w, r, RINGX_OK, NULL);
    drop_processes(&w);
}

/* ---- a rank that fails ---- */

/* Something that this rank's stream does at an address where nothing is. */
static ringx_status go_astray(const cuda_case *c)
{
    float *const nowhere = (float *)(uintptr_t)4096;
    return ringx__rowops(RINGX_CUDA)->add(1024, nowhere, nowhere + 1024, 1, c->stream);
}

static ringx_status fail_now(const cuda_case *c, way how)
{
    if (how == KILLED)
        raise(SIGKILL);
    if (how == STOPPED)
        raise(SIGSTOP);
    return go_astray(c);
}

/* Runs until something fails; the last rank sees to that. */
static ringx_status run_on(int rank, way how, double *seconds)
{
    ringx_comm *comm;
    cuda_case c;
    ringx_problem p = problem_of();
    double begin = 0;
    alarm(MOST_S);
    RINGX_TRY(meet(rank, &comm));
    RINGX_TRY(case_create(&c, &p, "ringX3", PATIENCE_S, comm));
    ringx_status status = RINGX_OK;
    for (int run = 0; status == RINGX_OK && run < 1000; run++) {
        begin = ringx__now();
        if (run == GOOD_RUNS && rank == RANKS - 1)
            status = fail_now(&c, how);
        if (status == RINGX_OK)
            status = case_execute(&c);
    }
    *seconds = ringx__now() - begin;
    char message[RINGX_MESSAGE_BYTES];
    ringx__error_take(message, sizeof message);
    if (case_execute(&c) == RINGX_OK)
        return ringx__fail(RINGX_INTERNAL, "it goes on after: %s", message);
    ringx__error_put(message);
    return status; /* what a device that failed holds goes with the process */
}

static void run_body(int rank, rank_process *found, void *context)
{
    found_status(found, run_on(rank, *(way *)context, &found->seconds));
}

/* The first rank hears of it in time; its message has the other one's name, and a step's. */
static void fails(way how)
{
    process_world w;
    if (too_few_gpus(RANKS))
        skip();
    start_processes(&w, RANKS, run_body, &how);
    int code;
    assert_int_equal(waitpid(w.pid[0], &code, 0), w.pid[0]);
    if (how == STOPPED)
        kill(w.pid[1], SIGKILL);
    assert_int_equal(waitpid(w.pid[1], &code, 0), w.pid[1]);
    fprintf(stderr, "after %.2f s: %s\n", w.found[0].seconds, w.found[0].message);
    expect_found(&w, 0, how == STOPPED ? RINGX_STALLED : RINGX_PEER_DIED, "rank 1");
    assert_non_null(strstr(w.found[0].message, "step "));
    assert_true(w.found[0].seconds < PATIENCE_S + 5);
    if (how == ILLEGAL) {
        fprintf(stderr, "the other one: %s\n", w.found[1].message);
        expect_found(&w, 1, RINGX_DEVICE, "illegal");
    }
    drop_processes(&w);
}

static void a_killed_rank_is_named(void **state)
{
    (void)state;
    fails(KILLED);
}

static void a_stopped_rank_is_named(void **state)
{
    (void)state;
    fails(STOPPED);
}

static void a_rank_with_an_illegal_address_is_named(void **state)
{
    (void)state;
    fails(ILLEGAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_rank_is_named), cmocka_unit_test(a_stopped_rank_is_named),
        cmocka_unit_test(a_rank_with_an_illegal_address_is_named), cmocka_unit_test(graphs_of_two_ranks_replay),
        cmocka_unit_test(ranks_of_one_gpu_do_not_wait_for_each_other)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
