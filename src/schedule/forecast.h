/* SPDX-License-Identifier: MIT */
/* Inside of the forecast: what a step costs when nothing else runs.  The formulas are those of forecast_cost.c. */
#ifndef RINGX_SCHEDULE_FORECAST_H
#define RINGX_SCHEDULE_FORECAST_H

#include "schedule/engine.h"
#include "schedule/machine.h"

typedef struct ringx_area_memo { /* live area of a step's owners, by a hash of them */
    uint64_t key;                /* 0: empty */
    double area;
} ringx_area_memo;

typedef struct ringx_costs {
    const ringx_schedule *const *schedules;
    int ranks;
    const ringx_machine *machine;
    int per_node, nodes;   /* ranks a node */
    int32_t *crossing;     /* [node]: ranks of it that ever send to other nodes in exchanges */
    ringx_area_memo *memo; /* open addressing */
    size_t memo_count, memo_cap;
} ringx_costs;

ringx_status ringx__costs_create(ringx_costs *costs, const ringx_schedule *const *schedules, int ranks,
                                 const ringx_machine *machine);
void ringx__costs_destroy(ringx_costs *costs);

typedef struct ringx_cost { /* seconds, one after the other */
    double latency;         /* waiting: keeps no core busy and slows nobody down */
    double work;
} ringx_cost;

/* A step of one rank alone, other than an exchange; an exchange of one rank; a collective of all members. */
ringx_status ringx__cost_local(ringx_costs *costs, int rank, uint32_t step, ringx_cost *cost);
ringx_cost ringx__cost_exchange(const ringx_costs *costs, int rank, uint32_t step);
ringx_cost ringx__cost_collective(const ringx_costs *costs, const ringx_action *action, const ringx_engine *engine);
/* A collective of n members, `together` of them in each node (the last may have fewer) of per_node ranks, of which each
 * sends at most `volume` bytes. */
ringx_cost ringx__cost_of_group(const ringx_machine *machine, ringx_op op, int n, int together, int per_node,
                                double volume);
/* The whole problem on one device that is as fast as one rank. */
double ringx__cost_whole(const ringx_costs *costs);
bool ringx__crosses_nodes(const ringx_costs *costs, const ringx_action *action);

#endif
