/* SPDX-License-Identifier: MIT */
/* Packed documents in the layout that a projection leaves: q, k and v interleaved in one array, attended where they are
 * by their strides; nothing is copied.  Each document attends to itself alone, and padding to nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <ringx/ringx.h>

enum { TOKENS = 120, HEADS = 3, DIM = 8, ROW = 3 * HEADS * DIM }; /* qkv[token][q, k, v][head][dim] */

static float qkv[TOKENS][ROW], out[TOKENS][HEADS * DIM], lse[HEADS * TOKENS];
static const int64_t starts[] = {0, 17, 64, 64, 110}; /* four documents, one of them empty; 110 … 119 are padding */

static void must(ringx_status status)
{
    if (status == RINGX_OK)
        return;
    fprintf(stderr, "%s: %s\n", ringx_status_name(status), ringx_last_error());
    exit(1);
}

static void attend(void)
{
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1, problem.tokens = TOKENS, problem.q_heads = problem.kv_heads = HEADS, problem.head_dim = DIM;
    problem.causal = true;
    problem.document_starts = starts;
    problem.documents = sizeof starts / sizeof *starts - 1;

    ringx_comm *comm;
    ringx_plan *plan;
    must(ringx_comm_self(&comm));
    must(ringx_plan_create(&plan, &problem, NULL, comm));
    ringx_args args = RINGX_ARGS_INIT;
    args.q = (ringx_tensor){qkv[0], {TOKENS * ROW, ROW, DIM}}; /* strides of batch, token, head in elements */
    args.k = (ringx_tensor){qkv[0] + HEADS * DIM, {TOKENS * ROW, ROW, DIM}};
    args.v = (ringx_tensor){qkv[0] + 2 * HEADS * DIM, {TOKENS * ROW, ROW, DIM}};
    args.out.data = out;
    args.lse = lse;
    args.workspace_bytes = ringx_plan_workspace(plan);
    args.workspace = aligned_alloc(128, (args.workspace_bytes + 127) / 128 * 128);
    must(ringx_forward(plan, &args));
    free(args.workspace);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
}

int main(void)
{
    int wrong = 0;
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < ROW; i++)
            qkv[t][i] = t < 110 ? sinf((float)(t * ROW + i)) : NAN; /* what lies in padding must not matter */
    attend();
    for (size_t d = 0; d + 1 < sizeof starts / sizeof *starts; d++)
        for (int h = 0; h < HEADS && starts[d] < starts[d + 1]; h++) /* a document's first query sees itself alone */
            for (int i = 0; i < DIM; i++)
                wrong += out[starts[d]][h * DIM + i] != qkv[starts[d]][(2 * HEADS + h) * DIM + i];
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < HEADS * DIM; i++)
            wrong += t < 110 ? !isfinite(out[t][i]) : out[t][i] != 0;
    for (int i = 0; i < HEADS * TOKENS; i++)
        wrong += (lse[i] == -INFINITY) != (i % TOKENS >= 110);
    printf("%zu documents and 10 tokens of padding: %d wrong elements\n", sizeof starts / sizeof *starts - 1, wrong);
    return wrong != 0;
}
