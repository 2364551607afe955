/* SPDX-License-Identifier: MIT */
/* One rank: attention forward and backward on packed tensors, then the largest difference from the float64 oracle. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <ringx/ringx.h>
#include <ringx/ringx_study.h>

enum { TOKENS = 250, Q_HEADS = 4, KV_HEADS = 2, DIM = 32, Q = TOKENS * Q_HEADS * DIM, KV = TOKENS * KV_HEADS * DIM };

static float q[Q], k[KV], v[KV], out[Q], dout[Q], dq[Q], dk[KV], dv[KV], lse[Q_HEADS * TOKENS];

static void must(ringx_status status)
{
    if (status == RINGX_OK)
        return;
    fprintf(stderr, "%s: %s\n", ringx_status_name(status), ringx_last_error());
    exit(1);
}

static double *draw(float *to, int n, unsigned seed) /* fills `to`, returns the same numbers as doubles */
{
    double *copy = malloc((size_t)n * sizeof *copy);
    for (int i = 0; copy && i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        copy[i] = to[i] = (float)(seed >> 8) / (1 << 23) - 1.0f;
    }
    return copy;
}

static double difference(const float *got, const double *want, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, fabs((double)got[i] - want[i]));
    return most;
}

int main(void)
{
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1;
    problem.tokens = TOKENS;
    problem.q_heads = Q_HEADS;
    problem.kv_heads = KV_HEADS;
    problem.head_dim = DIM;
    problem.causal = true;

    ringx_comm *comm;
    ringx_plan *plan;
    must(ringx_comm_self(&comm));
    must(ringx_plan_create(&plan, &problem, NULL, comm));

    ringx_reference_tensors r = {
        .q = draw(q, Q, 1), .k = draw(k, KV, 2), .v = draw(v, KV, 3), .dout = draw(dout, Q, 4)};
    ringx_args args = RINGX_ARGS_INIT;
    args.q.data = q, args.k.data = k, args.v.data = v, args.out.data = out, args.lse = lse;
    args.dout.data = dout, args.dq.data = dq, args.dk.data = dk, args.dv.data = dv;
    args.workspace_bytes = ringx_plan_workspace(plan);
    args.workspace = aligned_alloc(128, (args.workspace_bytes + 127) / 128 * 128);
    must(ringx_forward(plan, &args));
    must(ringx_backward(plan, &args));

    double want_out[Q], want_dq[Q], want_dk[KV], want_dv[KV];
    r.out = want_out, r.dq = want_dq, r.dk = want_dk, r.dv = want_dv;
    must(ringx_reference(&problem, &r));
    double worst = fmax(fmax(difference(out, want_out, Q), difference(dq, want_dq, Q)),
                        fmax(difference(dk, want_dk, KV), difference(dv, want_dv, KV)));
    printf("largest difference from float64: %.1e\n", worst);

    free(args.workspace);
    free((void *)r.q), free((void *)r.k), free((void *)r.v), free((void *)r.dout);
    ringx_plan_destroy(plan);
    ringx_comm_destroy(comm);
    return worst < 1e-4 ? 0 : 1; /* NaN fails */
}
