/* SPDX-License-Identifier: MIT */
/* ringx_plan_attach: all ranks or none; what it says is held to. */
#include <stdlib.h>

#include "comm/rank_threads.h"

enum { RANKS = 3, TOKENS = 50, HEADS = 2, DIM = 16 };

typedef struct wish {    /* what each rank does */
    size_t skew[RANKS];  /* of the workspace that it attaches, in bytes */
    size_t other[RANKS]; /* of that which it executes with */
} wish;

static ringx_status attach_and_run(ringx_comm *comm, const wish *w)
{
    int rank = comm->rank;
    ringx_plan *plan;
    ringx_problem problem = RINGX_PROBLEM_INIT;
    ringx_options options = RINGX_OPTIONS_INIT;
    problem.batch = 1, problem.tokens = TOKENS, problem.q_heads = problem.kv_heads = HEADS, problem.head_dim = DIM;
    problem.causal = true;
    options.preset = "zigzag", options.threads = 1;
    RINGX_TRY(ringx_plan_create(&plan, &problem, &options, comm));
    size_t bytes = ringx_plan_workspace(plan), count = (size_t)ringx_plan_local_tokens(plan) * HEADS * DIM;
    char *workspace = aligned_alloc(128, (bytes + 127) / 128 * 128 + 256);
    float *tensors = calloc(4 * count + (size_t)TOKENS * HEADS, sizeof *tensors);
    ringx_args args = RINGX_ARGS_INIT;
    args.q.data = tensors, args.k.data = tensors + count, args.v.data = tensors + 2 * count;
    args.out.data = tensors + 3 * count, args.lse = tensors + 4 * count;
    args.workspace = workspace + w->other[rank], args.workspace_bytes = bytes;
    ringx_status status = workspace && tensors ? ringx_plan_attach(plan, workspace + w->skew[rank]) : RINGX_NO_MEMORY;
    if (status == RINGX_OK)
        status = ringx_plan_attach(plan, workspace + w->skew[rank]); /* anew */
    if (status == RINGX_OK)
        status = ringx_forward(plan, &args);
    free(tensors);
    free(workspace);
    ringx_plan_destroy(plan);
    return status;
}

static void body(rank_thread *self)
{
    note(self, attach_and_run(self->comm, self->context));
}

static void attached_runs(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    wish w = {.skew = {0, 128, 0}, .other = {0, 128, 0}};
    run_ranks(t, RANKS, NULL, body, &w);
    for (int r = 0; r < RANKS; r++)
        expect(t, r, RINGX_OK, NULL);
}

static void one_bad_workspace_fails_all(void **state)
{
    (void)state;
    for (int bad = 0; bad < RANKS; bad++) {
        rank_thread t[MOST_TEST_RANKS];
        wish w = {.skew = {0, 0, 0}};
        w.skew[bad] = 64;
        run_ranks(t, RANKS, NULL, body, &w);
        for (int r = 0; r < RANKS; r++)
            expect(t, r, RINGX_INVALID, "aligned to 128");
    }
}

static void another_workspace_is_refused(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    wish w = {.other = {0, 128, 0}};
    run_ranks(t, RANKS, NULL, body, &w);
    expect(t, 1, RINGX_INVALID, "the plan is attached to");
    for (int r = 0; r < RANKS; r += 2)
        if (t[r].status == RINGX_OK)
            fail_msg("rank %d does not hear of it", r);
    assert_int_equal(ringx_plan_attach(NULL, NULL), RINGX_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(attached_runs), cmocka_unit_test(one_bad_workspace_fails_all),
                                       cmocka_unit_test(another_workspace_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
