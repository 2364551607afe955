/* SPDX-License-Identifier: MIT */
/* Machines to forecast on: a handful of figures, from YAML (docs/machines.md) or built in (machines/). */
#ifndef RINGX_SCHEDULE_MACHINE_H
#define RINGX_SCHEDULE_MACHINE_H

#include "core/status.h"

#define RINGX_RATE_POINTS 32

typedef struct ringx_rate { /* GFLOP/s of one rank by size; log-linear between points, constant outside */
    size_t points;
    double tokens[RINGX_RATE_POINTS], gflops[RINGX_RATE_POINTS]; /* tokens ascending; one point: any size */
} ringx_rate;

typedef struct ringx_machine {
    char name[64];
    int64_t ranks_per_node;   /* 0: all ranks are in one node */
    int64_t cores_per_node;   /* that the ranks of a node share; 0: ranks do not compete */
    int64_t threads_per_rank; /* cores that a computing rank keeps busy */
    double transfer_cores;    /* cores that a transferring rank keeps busy */
    double compute_slowdown;  /* share of its compute speed that a rank loses while it transfers, 0 … 1 */
    ringx_rate forward, backward;
    ringx_rate forward_by_dim, backward_by_dim; /* shares of these by head_dim, in place of gflops; no points: all */
    double step_overhead_us;                    /* of every step */
    double memory_gbs;                          /* read plus written by one rank, outside attention */
    double intra_latency_us, intra_gbs;         /* within a node, one rank's link, each direction */
    double inter_latency_us, inter_gbs;         /* between nodes, one NIC, each direction */
    int64_t nics_per_node;
    /* Within a node, in place of intra_gbs: bytes as in the op's cost (forecast_cost.c); 0: intra_gbs */
    double broadcast_gbs, reduce_gbs, allgather_gbs, reduce_scatter_gbs, exchange_gbs;
    /* For programs that plan more than attention; 0: not said */
    double matrix_gflops;     /* of large matrix products on one rank, in the dtype of the attention's rates */
    double peak_gflops;       /* that shares of the peak refer to */
    double device_memory_gib; /* that one rank can have */
    double driver_gib;        /* of it, what the driver takes before a program allocates anything, */
    double communicator_gib;  /* and what communicators of several ranks take */
} ringx_machine;

/* A built-in name, else the path of a description; NULL: "local".  Needs no freeing. */
ringx_status ringx__machine_load(ringx_machine *machine, const char *name_or_path);
/* A description's text; origin names it in messages. */
ringx_status ringx__machine_parse(ringx_machine *machine, const char *text, size_t bytes, const char *origin);
double ringx__machine_rate(const ringx_rate *rate, double tokens); /* FLOP/s */
double ringx__machine_share(const ringx_rate *by_dim, double head_dim);

typedef struct ringx_machine_text {
    const char *name, *text;
} ringx_machine_text;
extern const ringx_machine_text ringx__machine_texts[]; /* one for each file in machines/, generated; ends with NULLs */

#endif
