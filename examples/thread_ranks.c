/* SPDX-License-Identifier: MIT */
/* Ranks that are threads of one process: whole tensors are split, attended by 3 ranks, joined, and compared with 1. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <ringx/ringx.h>

enum { TOKENS = 101, HEADS = 2, DIM = 16, N = TOKENS * HEADS * DIM, MAX_RANKS = 3 }; /* 101: no length is special */

static float q[N], k[N], v[N], joined[2][N]; /* whole tensors; joined: by 1 rank, by 3 ranks */
static float *result;                        /* where the ranks at work join their shards */

static void must(ringx_status status)
{
    if (status == RINGX_OK)
        return;
    fprintf(stderr, "%s: %s\n", ringx_status_name(status), ringx_last_error());
    exit(1);
}

static void *work(void *argument) /* one rank */
{
    ringx_comm *comm = argument;
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1, problem.tokens = TOKENS, problem.q_heads = problem.kv_heads = HEADS, problem.head_dim = DIM;
    problem.window_left = 40; /* a sliding window: each query sees 40 keys before it and itself */
    problem.window_right = 0;
    ringx_options options = RINGX_OPTIONS_INIT;
    options.preset = "zigzag";
    options.forward_only = true;
    options.threads = 1;

    ringx_plan *plan;
    must(ringx_plan_create(&plan, &problem, &options, comm));
    size_t local = (size_t)ringx_plan_local_tokens(plan) * HEADS * DIM, width = HEADS * DIM * sizeof(float);
    float *shard = malloc((4 * local + 1) * sizeof *shard), *lse = malloc((local + 1) * sizeof *lse);
    ringx_args args = RINGX_ARGS_INIT;
    args.q.data = shard, args.k.data = shard + local, args.v.data = shard + 2 * local;
    args.out.data = shard + 3 * local, args.lse = lse;
    args.workspace_bytes = ringx_plan_workspace(plan);
    args.workspace = aligned_alloc(128, (args.workspace_bytes + 127) / 128 * 128);
    ringx_shard(plan, 1, width, q, args.q.data);
    ringx_shard(plan, 1, width, k, args.k.data);
    ringx_shard(plan, 1, width, v, args.v.data);
    must(ringx_forward(plan, &args));
    must(ringx_unshard(plan, 1, width, args.out.data, result, 0)); /* root 0 gets it */

    free(args.workspace);
    free(shard);
    free(lse);
    ringx_plan_destroy(plan);
    return NULL;
}

int main(void)
{
    for (int i = 0; i < N; i++)
        q[i] = sinf((float)i), k[i] = cosf(1.7f * (float)i), v[i] = sinf(0.3f * (float)i);
    for (int i = 0; i < 2; i++) {
        int ranks = i ? MAX_RANKS : 1;
        ringx_comm *comms[MAX_RANKS];
        pthread_t thread[MAX_RANKS];
        result = joined[i];
        must(ringx_comm_threads(ranks, comms));
        for (int r = 0; r < ranks; r++)
            pthread_create(&thread[r], NULL, work, comms[r]);
        for (int r = 0; r < ranks; r++)
            pthread_join(thread[r], NULL);
        for (int r = 0; r < ranks; r++)
            ringx_comm_destroy(comms[r]);
    }
    float worst = 0;
    for (int i = 0; i < N; i++)
        worst = fmaxf(worst, fabsf(joined[0][i] - joined[1][i]));
    printf("largest difference between 1 and %d ranks: %.1e\n", MAX_RANKS, (double)worst);
    return worst < 1e-5f ? 0 : 1;
}
