/* SPDX-License-Identifier: MIT */
/* The table of docs/ALGORITHMS.md: wire bytes and workspace of each algorithm are what it says, to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ringx/ringx_study.h>

enum { RANKS = 4, TOKENS = 1024, Q_HEADS = 8, KV_HEADS = 4, DIM = 64, ELEMENT = 2 };

typedef struct sizes { /* of one rank, forward and backward */
    uint64_t wire[2], workspace[2];
} sizes;

static sizes planned(const char *algorithm, int lookahead, int head_ranks)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 1, p.tokens = TOKENS, p.q_heads = Q_HEADS, p.kv_heads = KV_HEADS, p.head_dim = DIM, p.dtype = RINGX_BF16;
    sizes got = {{0, 0}, {0, 0}};
    for (int backward = 0; backward < 2; backward++) {
        ringx_options o = RINGX_OPTIONS_INIT;
        o.preset = "ring", o.algorithm = algorithm, o.layout = "contiguous", o.kernel = "cpu_ref"; /* no scratch */
        o.lookahead = lookahead, o.head_ranks = head_ranks, o.slices = 1, o.threads = 1;
        o.forward_only = !backward;
        ringx_study *study;
        ringx_plan_info info;
        assert_int_equal(ringx_study_create(&study, &p, &o, RANKS), RINGX_OK);
        for (int rank = 0; rank < RANKS; rank++) {
            assert_int_equal(ringx_study_describe(study, rank, &info), RINGX_OK);
            uint64_t wire = backward ? info.backward.wire_bytes : info.forward.wire_bytes;
            got.wire[backward] = wire > got.wire[backward] ? wire : got.wire[backward];
            if (info.workspace_bytes > got.workspace[backward])
                got.workspace[backward] = info.workspace_bytes;
        }
        ringx_study_destroy(study);
    }
    return got;
}

static void check(const char *what, int lookahead, sizes want, sizes got)
{
    for (int b = 0; b < 2; b++)
        if (want.wire[b] != got.wire[b] || want.workspace[b] != got.workspace[b])
            fail_msg("%s, lookahead %d, %s: wire %llu, documented %llu; workspace %llu, documented %llu", what,
                     lookahead, b ? "backward" : "forward", (unsigned long long)got.wire[b],
                     (unsigned long long)want.wire[b], (unsigned long long)got.workspace[b],
                     (unsigned long long)want.workspace[b]);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void sizes_are_as_documented(void **state)
{
    (void)state;
    const uint64_t T = TOKENS / RANKS, e = ELEMENT, N = RANKS;
    const uint64_t Q = e * T * Q_HEADS * DIM, KV = 2 * e * T * KV_HEADS * DIM, L4 = 4 * T * Q_HEADS, Out = Q + L4;
    const uint64_t Qdo = 2 * Q + 2 * L4, O4 = 4 * T * Q_HEADS * DIM, S = O4 + 2 * L4, dKV = 8 * T * KV_HEADS * DIM;
    const uint64_t dQ = 4 * T * Q_HEADS * DIM;
    for (int lookahead = 0; lookahead <= 3; lookahead++) {
        const uint64_t L = (uint64_t)lookahead, kv_slots = L + 1 > 2 ? L + 1 : 2;
        const uint64_t wire = (N - 1) * KV, wire_back = (N - 1) * (KV + dKV);
        const uint64_t broadcast_back = (L + 1) * (KV + dKV) + dQ + L4;
        check("kvgather", lookahead, (sizes){{wire, wire_back}, {N * KV + S, N * (KV + dKV) + dKV + dQ + L4}},
              planned("kvgather", lookahead, 0));
        check("kvbcast", lookahead, (sizes){{wire, wire_back}, {(L + 1) * KV + S, broadcast_back}},
              planned("kvbcast", lookahead, 0));
        uint64_t states = least(2 * L + 2, N) * S + (L + 1) * (Q + L4);
        uint64_t direct = (least(L + 1, N - 1) + 1) * Q + (least(L + 1, N - 1) + N) * S; /* 4 ranks are few */
        uint64_t queries = L ? direct : states;
        check("qbcast", lookahead,
              (sizes){{(N - 1) * (Q + O4 + L4) + (L ? 1 : 2) * (N - 1) * L4, wire_back},
                      {queries, queries > broadcast_back ? queries : broadcast_back}},
              planned("qbcast", lookahead, 0));
        uint64_t dkvs = least(L + 1, N - 1) + 3;
        check("ring", lookahead,
              (sizes){{wire, wire_back}, {least(kv_slots, N) * KV + S, least(kv_slots, N) * KV + dkvs * dKV + dQ + L4}},
              planned("ring", lookahead, 0));
    }
    for (uint64_t Nu = 2; Nu <= N; Nu += 2) {
        uint64_t ring = Nu < N, across = N / Nu - 1;
        check("headswap", 1,
              (sizes){{(Nu - 1) * (Q + KV + Out) / Nu + across * KV,
                       (Nu - 1) * (Qdo + KV + dQ + dKV) / Nu + across * (KV + dKV)},
                      {2 * (Q + KV + Out) + ring * (KV + S), 2 * (Qdo + KV + dQ + dKV) + ring * (KV + 2 * dKV) + L4}},
              planned("headswap", 1, (int)Nu));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_are_as_documented)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
