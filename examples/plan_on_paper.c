/* SPDX-License-Identifier: MIT */
/* No ranks, no hardware: the schedules of 64 ranks over a million tokens are proved, forecast and drawn.
 *     example_plan_on_paper [picture.svg] */
#include <stdio.h>
#include <stdlib.h>

#include <ringx/ringx_study.h>

enum { RANKS = 64 };

static void must(ringx_status status)
{
    if (status == RINGX_OK)
        return;
    fprintf(stderr, "%s: %s\n", ringx_status_name(status), ringx_last_error());
    exit(1);
}

int main(int argc, char **argv)
{
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1;
    problem.tokens = 1 << 20;
    problem.q_heads = 32;
    problem.kv_heads = 8;
    problem.head_dim = 128;
    problem.dtype = RINGX_BF16;
    problem.causal = true;

    printf("%d ranks, %lld tokens, forecast on nodes of eight H200\n\n", RANKS, (long long)problem.tokens);
    printf("%-9s %12s %12s %8s %14s %14s %10s\n", "preset", "forward ms", "backward ms", "eff. %", "exposed fwd ms",
           "wire MiB/rank", "work MiB");
    for (size_t i = 0; ringx_preset_at(i); i++) {
        ringx_options options = RINGX_OPTIONS_INIT;
        options.preset = ringx_preset_at(i)->name;
        options.ranks_per_node = 8;
        ringx_study *study;
        ringx_proof proof;
        ringx_forecast forward, backward;
        must(ringx_study_create(&study, &problem, &options, RANKS));
        must(ringx_study_prove(study, &proof)); /* a wrong schedule would be refused here */
        must(ringx_study_forecast(study, "h200x8", &forward, &backward));
        printf("%-9s %12.2f %12.2f %8.1f %14.2f %14.0f %10.0f\n", options.preset, 1e3 * forward.seconds,
               1e3 * backward.seconds, 100 * forward.efficiency, 1e3 * forward.exposed_s,
               (double)(forward.wire_bytes + backward.wire_bytes) / (1 << 20),
               (double)forward.workspace_bytes / (1 << 20));
        if (argc > 1 && i == 0)
            must(ringx_study_draw(study, "h200x8", argv[1]));
        ringx_study_destroy(study);
    }
    return 0;
}
