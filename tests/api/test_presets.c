/* SPDX-License-Identifier: MIT */
/* Every preset with every mask, dtype, odd lengths and rank counts gives the oracle's results. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/attention_case.h"

enum { FULL, CAUSAL, WINDOW, WINDOW_CAUSAL, DOCUMENTS, MASKS };
static const char *const mask_name[MASKS] = {"full", "causal", "window", "causal window", "documents"};

static void set_mask(ringx_problem *p, int mask, int64_t *bounds)
{
    p->causal = mask == CAUSAL || mask == WINDOW_CAUSAL || mask == DOCUMENTS;
    if (mask == WINDOW || mask == WINDOW_CAUSAL) {
        p->window_left = p->tokens / 5;
        p->window_right = mask == WINDOW ? 2 : -1;
    }
    if (mask == DOCUMENTS) {
        bounds[0] = p->tokens > 3;                                                     /* padding in front */
        bounds[1] = bounds[2] = p->tokens / 3 > bounds[0] ? p->tokens / 3 : bounds[0]; /* an empty document */
        bounds[3] = p->tokens - (p->tokens > 10 ? 2 : 0) > bounds[2] ? p->tokens - (p->tokens > 10 ? 2 : 0) : bounds[2];
        p->document_starts = bounds;
        p->documents = 3;
    }
}

static void check(const char *preset, int mask, int64_t tokens, int ranks, int variant)
{
    int64_t bounds[4];
    attention_case c = {.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = ranks};
    c.problem.batch = 1 + variant % 2;
    c.problem.tokens = tokens;
    c.problem.kv_heads = 1 + variant % 3;
    c.problem.q_heads = c.problem.kv_heads * (1 + variant / 3 % 4);
    c.problem.head_dim = (int64_t[]){8, 5, 16, 33}[variant % 4];
    c.problem.value_dim = variant % 5 == 1 ? 7 : 0;
    c.problem.dtype = (ringx_dtype)(variant % 7 == 1 ? 1 : variant % 7 == 2 ? 2 : 0);
    c.problem.softcap = variant % 6 == 2 ? 3.0 : 0;
    c.problem.dropout = variant % 6 == 4 ? 0.3 : 0;
    c.problem.seed = (uint64_t)variant;
    set_mask(&c.problem, mask, bounds);
    c.options.preset = preset;
    c.options.threads = 1;
    c.options.slices = variant % 2 ? 1 : 0;
    c.options.ranks_per_node = ranks % 2 == 0 ? 2 : 0;
    c.gap = variant % 3 == 2 ? 3 : 0;
    c.data_seed = (uint64_t)(variant * 1000 + ranks);
    case_run(&c);
    if (!case_right(&c))
        fail_msg("%s, %s, %lld tokens, %d ranks, variant %d", preset, mask_name[mask], (long long)tokens, ranks,
                 variant);
    case_free(&c);
}

/* A narrow wire rounds partial results: right to that type's precision, and half the bytes. */
static void narrow_wires_are_right_to_their_precision(void **state)
{
    (void)state;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int wire = RINGX_BF16; wire <= RINGX_F16; wire++)
            for (int ranks = 2; ranks <= 5; ranks++) {
                attention_case c = {.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = ranks};
                c.problem.batch = 1;
                c.problem.tokens = 53;
                c.problem.q_heads = 4;
                c.problem.kv_heads = 2;
                c.problem.head_dim = 12;
                c.problem.causal = true;
                c.options.preset = ringx_preset_at(i)->name;
                c.options.wire = (ringx_dtype)wire;
                c.options.threads = 1;
                c.data_seed = 77;
                case_run(&c);
                for (int r = 0; r < ranks; r++)
                    assert_int_equal(c.status[r], RINGX_OK);
                for (int t = T_OUT; t < TENSORS; t++)
                    if (t != T_DOUT && !(case_error(&c, t) <= (wire == RINGX_BF16 ? 2e-2 : 3e-3)))
                        fail_msg("%s, wire %d, %d ranks: error of %s is %g", c.options.preset, wire, ranks,
                                 tensor_name[t], case_error(&c, t));
                case_free(&c);
            }
}

static void every_preset_is_right(void **state)
{
    (void)state;
    static const int64_t tokens[] = {0, 1, 2, 3, 13, 31, 64, 97};
    int variant = 0;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int mask = 0; mask < MASKS; mask++)
            for (int ranks = 1; ranks <= 8; ranks++, variant++)
                check(ringx_preset_at(i)->name, mask, tokens[(variant * 5) % 8], ranks, variant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_preset_is_right),
                                       cmocka_unit_test(narrow_wires_are_right_to_their_precision)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
