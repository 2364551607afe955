/* SPDX-License-Identifier: MIT */
/* Figures of machine descriptions, and what a transfer costs by them. */
#include <stdio.h>

#include <ringx/ringx_study.h>

#include "schedule/forecast.h"

static double best(const ringx_rate *rate)
{
    double most = 0;
    for (size_t i = 0; i < rate->points; i++)
        most = rate->gflops[i] > most ? rate->gflops[i] : most;
    return most;
}

ringx_status ringx_machine_describe(const char *name, ringx_machine_figures *figures)
{
    ringx_machine m;
    if (!figures)
        RINGX_FAIL(RINGX_INVALID, "figures is NULL; it must point to what is to be filled");
    RINGX_TRY(ringx__machine_load(&m, name));
    *figures = (ringx_machine_figures){.ranks_per_node = (int)m.ranks_per_node,
                                       .matrix_flops = 1e9 * (m.matrix_gflops > 0 ? m.matrix_gflops : best(&m.forward)),
                                       .peak_flops = 1e9 * m.peak_gflops,
                                       .memory_gbs = m.memory_gbs,
                                       .device_memory = (size_t)(m.device_memory_gib * 0x1p30),
                                       .driver_memory = (size_t)(m.driver_gib * 0x1p30),
                                       .comm_memory = (size_t)(m.communicator_gib * 0x1p30)};
    snprintf(figures->name, sizeof figures->name, "%s", m.name);
    return RINGX_OK;
}

static ringx_status find_op(ringx_comm_op op, ringx_op *found)
{
    static const ringx_op ops[] = {[RINGX_OP_BROADCAST] = RINGX_BROADCAST,
                                   [RINGX_OP_ALLGATHER] = RINGX_ALLGATHER,
                                   [RINGX_OP_REDUCE] = RINGX_REDUCE,
                                   [RINGX_OP_REDUCE_SCATTER] = RINGX_REDUCE_SCATTER};
    if ((int)op < 0 || op > RINGX_OP_REDUCE_SCATTER || op == RINGX_OP_EXCHANGE)
        RINGX_FAIL(RINGX_INVALID, "op is %d; it must be a collective of ringx_comm_op", (int)op);
    *found = ops[op];
    return RINGX_OK;
}

ringx_status ringx_machine_transfer(const char *name, ringx_comm_op op, int ranks, int stride, double wire_bytes,
                                    double *seconds)
{
    ringx_machine m;
    ringx_op inner = RINGX_ALLGATHER;
    if (!seconds)
        RINGX_FAIL(RINGX_INVALID, "seconds is NULL; it must point to what is to be filled");
    if (ranks < 1 || stride < 1 || !(wire_bytes >= 0))
        RINGX_FAIL(RINGX_INVALID, "ranks is %d, stride %d, wire_bytes %g; they must be >= 1, >= 1, >= 0", ranks, stride,
                   wire_bytes);
    RINGX_TRY(find_op(op, &inner));
    RINGX_TRY(ringx__machine_load(&m, name));
    int64_t spread = (int64_t)ranks * stride;
    int per_node = m.ranks_per_node > 0 && m.ranks_per_node < spread ? (int)m.ranks_per_node : (int)spread;
    int together = per_node / stride;
    together = together < 1 ? 1 : together < ranks ? together : ranks;
    ringx_cost cost = ringx__cost_of_group(&m, inner, ranks, together, per_node, wire_bytes);
    *seconds = ranks > 1 ? cost.latency + cost.work : 0;
    return RINGX_OK;
}
