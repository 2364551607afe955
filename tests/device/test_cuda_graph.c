/* SPDX-License-Identifier: MIT */
/* On a GPU: executing allocates nothing and waits for nothing, so forward and backward can be captured in a graph; a
 * hundred replays of it give the same bits. */
#include "cuda_case.h"
#include "need_gpus.h"

enum { REPLAYS = 100 };

static void replay(const ringx_problem *p, const char *preset)
{
    cuda_case c;
    ringx_comm *comm;
    assert_int_equal(ringx_comm_self(&comm), RINGX_OK);
    ringx_status status = case_create(&c, p, preset, 0, comm);
    if (status == RINGX_OK)
        status = case_replay(&c, cudaStreamCaptureModeGlobal, REPLAYS);
    if (status != RINGX_OK)
        fail_msg("%s: %s", preset, ringx_last_error());
    case_destroy(&c);
    ringx_comm_destroy(comm);
}

static void test_graph(void **state)
{
    (void)state;
    need_gpus(1);
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 2;
    p.tokens = 1003;
    p.q_heads = 8;
    p.kv_heads = 2;
    p.head_dim = 128;
    p.dtype = RINGX_BF16;
    p.causal = true;
    replay(&p, "ringX3");
    p.head_dim = 64;
    p.causal = false;
    p.window_left = 100;
    replay(&p, "ringX4o");
    static const int64_t bounds[] = {0, 17, 400, 1003};
    p.window_left = -1;
    p.documents = 3;
    p.document_starts = bounds;
    p.dropout = 0.1;
    replay(&p, "zigzag");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_graph)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
