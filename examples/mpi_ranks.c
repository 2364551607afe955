/* SPDX-License-Identifier: MIT */
/* Ranks that are MPI processes:  mpirun -n 4 example_mpi_ranks  (any number).  Each rank makes its own tokens' q, k, v;
 * values are a function of the global position, so every number of ranks prints the same sum. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <ringx/ringx_mpi.h>

enum { HEADS = 4, DIM = 32 };

static void must(ringx_status status)
{
    if (status == RINGX_OK)
        return;
    fprintf(stderr, "%s: %s\n", ringx_status_name(status), ringx_last_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* This rank's tensors, [local tokens][HEADS][DIM] each, and workspace; free args.q.data and args.workspace. */
static ringx_args tensors(const ringx_plan *plan)
{
    ringx_args args = RINGX_ARGS_INIT;
    size_t tokens = (size_t)ringx_plan_local_tokens(plan), n = tokens * HEADS * DIM;
    int64_t *position = malloc((tokens + 1) * sizeof *position);
    float *q = malloc((5 * n + 1) * sizeof *q), *k = q + n, *v = k + n, *out = v + n;
    ringx_plan_positions(plan, position);
    for (size_t i = 0; i < n; i++) {
        float x = (float)position[i / (HEADS * DIM)] + 0.37f * (float)(i % (HEADS * DIM));
        q[i] = sinf(x), k[i] = cosf(1.1f * x), v[i] = sinf(0.7f * x);
    }
    free(position);
    args.q.data = q, args.k.data = k, args.v.data = v, args.out.data = out, args.lse = out + n;
    args.workspace_bytes = ringx_plan_workspace(plan);
    args.workspace = aligned_alloc(128, (args.workspace_bytes + 127) / 128 * 128);
    return args;
}

int main(int argc, char **argv)
{
    int rank, ranks, level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level); /* lets transfers run beside computation */
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);

    ringx_comm *comm;
    ringx_plan *plan;
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1, problem.tokens = 1000, problem.q_heads = problem.kv_heads = HEADS, problem.head_dim = DIM;
    problem.causal = true;
    must(ringx_comm_from_mpi(MPI_COMM_WORLD, &comm));
    must(ringx_plan_create(&plan, &problem, NULL, comm)); /* chooses, sizes, and agrees across ranks, or fails on all */
    ringx_args args = tensors(plan);                      /* this rank's q, k, v, out, lse, and a workspace */
    must(ringx_forward(plan, &args));

    const float *out = args.out.data;
    double sum = 0, total;
    for (int64_t i = 0; i < ringx_plan_local_tokens(plan) * HEADS * DIM; i++)
        sum += (double)out[i] * (double)out[i];
    MPI_Reduce(&sum, &total, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%d ranks: sum of out² = %.4f\n", ranks, total);

    free(args.q.data);
    free(args.workspace);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
    MPI_Finalize();
    return 0;
}
