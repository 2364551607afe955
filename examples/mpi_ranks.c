/* SPDX-License-Identifier: MIT */
/* Ranks that are MPI processes:  mpirun -n 4 example_mpi_ranks  (any number).  Each rank makes its own tokens' q, k, v;
 * values are a function of the global position, so every number of ranks prints the same sum. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <ringx/ringx_mpi.h>

enum { TOKENS = 1000, HEADS = 4, DIM = 32 };

/* The rank's own tokens through causal attention; q, k, v, out: [local tokens][HEADS][DIM]. */
static ringx_status attend(ringx_plan *plan, float *q, float *k, float *v, float *out, float *lse)
{
    ringx_args args = RINGX_ARGS_INIT;
    args.q.data = q, args.k.data = k, args.v.data = v, args.out.data = out, args.lse = lse;
    args.workspace_bytes = ringx_plan_workspace(plan);
    args.workspace = aligned_alloc(128, (args.workspace_bytes + 127) / 128 * 128);
    ringx_status status = ringx_forward(plan, &args);
    free(args.workspace);
    return status;
}

static double run(int rank)
{
    ringx_comm *comm;
    ringx_plan *plan;
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1, problem.tokens = TOKENS, problem.q_heads = problem.kv_heads = HEADS, problem.head_dim = DIM;
    problem.causal = true;
    ringx_options options = RINGX_OPTIONS_INIT;
    options.preset = "ringX3"; /* NULL: the one with the least forecast time */
    if (ringx_comm_from_mpi(MPI_COMM_WORLD, &comm) || ringx_plan_create(&plan, &problem, &options, comm)) {
        fprintf(stderr, "rank %d: %s\n", rank, ringx_last_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    int64_t tokens = ringx_plan_local_tokens(plan), *position = malloc((size_t)(tokens + 1) * sizeof *position);
    size_t n = (size_t)tokens * HEADS * DIM;
    float *room = malloc((5 * n + 1) * sizeof *room), *q = room, *k = room + n, *v = k + n, *out = v + n,
          *lse = out + n;
    ringx_plan_positions(plan, position);
    for (size_t i = 0; i < n; i++) {
        float x = (float)position[i / (HEADS * DIM)] + 0.37f * (float)(i % (HEADS * DIM));
        q[i] = sinf(x), k[i] = cosf(1.1f * x), v[i] = sinf(0.7f * x);
    }
    if (attend(plan, q, k, v, out, lse) != RINGX_OK) {
        fprintf(stderr, "rank %d: %s\n", rank, ringx_last_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)out[i] * (double)out[i];
    free(room);
    free(position);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
    return sum;
}

int main(int argc, char **argv)
{
    int rank, ranks, level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level); /* lets transfers run beside computation */
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    double sum = run(rank), total;
    MPI_Reduce(&sum, &total, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%d ranks: sum of out² = %.4f\n", ranks, total);
    MPI_Finalize();
    return 0;
}
