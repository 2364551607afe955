/* SPDX-License-Identifier: MIT */
/* Every preset proves for every combination of lookahead, slices, head ranks, node size and wire, not only its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include <ringx/ringx_study.h>

static void prove(const ringx_options *o, int ranks)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 1;
    p.tokens = 40;
    p.q_heads = 10;
    p.kv_heads = 5;
    p.head_dim = 4;
    ringx_study *study;
    ringx_proof proof;
    if (ringx_study_create(&study, &p, o, ranks) != RINGX_OK)
        fail_msg("%s: %s", o->preset, ringx_last_error());
    if (ringx_study_prove(study, &proof) != RINGX_OK)
        fail_msg("%s, %d ranks, lookahead %d, %d slices, %d head ranks, %d a node, wire %d: %s", o->preset, ranks,
                 o->lookahead, o->slices, o->head_ranks, o->ranks_per_node, (int)o->wire, ringx_last_error());
    ringx_study_destroy(study);
}

/* Divisors of ranks, or only one where the option means nothing to the preset. */
static bool sensible(int value, int ranks, bool meant)
{
    return value == 1 || (meant && ranks % value == 0);
}

static void prove_preset(const ringx_preset_entry *preset, int ranks)
{
    static const int lookaheads[] = {0, 1, 2, 3, 5, 8};
    bool heads = strcmp(preset->algorithm, "headswap") == 0;
    for (size_t l = 0; l < sizeof lookaheads / sizeof *lookaheads; l++)
        for (int slices = 1; slices <= 5; slices += 2)
            for (int head_ranks = 1; head_ranks <= ranks; head_ranks++)
                for (int node = 1; node <= ranks; node++)
                    for (int wire = RINGX_F32; wire <= RINGX_BF16; wire++) {
                        ringx_options o = RINGX_OPTIONS_INIT;
                        if (!sensible(head_ranks, ranks, heads) || !sensible(node, ranks, preset->two_level) ||
                            (head_ranks > 1 && node > 1))
                            continue;
                        o.preset = preset->name;
                        o.lookahead = lookaheads[l];
                        o.slices = slices;
                        o.head_ranks = heads ? head_ranks : 0;
                        o.ranks_per_node = node;
                        o.wire = (ringx_dtype)wire;
                        o.threads = 1;
                        prove(&o, ranks);
                    }
}

static void every_combination_proves(void **state)
{
    (void)state;
    static const int ranks[] = {2, 3, 4, 6, 8};
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (size_t r = 0; r < sizeof ranks / sizeof *ranks; r++)
            prove_preset(ringx_preset_at(i), ranks[r]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_combination_proves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
