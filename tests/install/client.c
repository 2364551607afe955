/* SPDX-License-Identifier: MIT */
/* A stranger's program: one rank attends three tokens and finds what can be found by hand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ringx/ringx.h>
#include <ringx/ringx_study.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "version") == 0) {
        printf("%s\n", ringx_version());
        return 0;
    }
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1, problem.tokens = 3, problem.q_heads = problem.kv_heads = 1, problem.head_dim = 1;
    problem.causal = true;
    float q[3] = {0, 0, 0}, k[3] = {1, 2, 3}, v[3] = {1, 3, 8}, out[3] = {NAN, NAN, NAN}, lse[3] = {NAN, NAN, NAN};
    ringx_comm *comm = NULL;
    ringx_plan *plan = NULL;
    if (ringx_comm_self(&comm) != RINGX_OK || ringx_plan_create(&plan, &problem, NULL, comm) != RINGX_OK) {
        fprintf(stderr, "%s\n", ringx_last_error());
        return 1;
    }
    ringx_args args = RINGX_ARGS_INIT;
    args.q.data = q, args.k.data = k, args.v.data = v, args.out.data = out, args.lse = lse;
    args.workspace_bytes = ringx_plan_workspace(plan);
    args.workspace = aligned_alloc(128, (args.workspace_bytes + 127) / 128 * 128);
    ringx_status status = ringx_forward(plan, &args);
    free(args.workspace);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
    /* all scores are 0: means of the values so far, lse = log of how many */
    float worst = fmaxf(fmaxf(fabsf(out[0] - 1), fabsf(out[1] - 2)), fabsf(out[2] - 4));
    worst = fmaxf(worst, fabsf(lse[2] - logf(3)));
    printf("ringx %s: %s\n", ringx_version(), status == RINGX_OK && worst < 1e-6f ? "right" : "wrong");
    return !(status == RINGX_OK && worst < 1e-6f);
}
