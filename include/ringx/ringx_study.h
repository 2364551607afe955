/* SPDX-License-Identifier: MIT */
/* ringx, looked at before (and after) it runs: what there is, the float64 oracle, proofs, forecasts, drawings.
 * Everything here is local to the caller; no communicator is needed unless one is an argument. */
#ifndef RINGX_STUDY_H
#define RINGX_STUDY_H

#include <ringx/ringx.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- tables: the i-th name, its one-line text (NULL past the end) ---- */

typedef struct ringx_entry {
    const char *name;
    const char *text;
} ringx_entry;

typedef struct ringx_preset_entry {
    const char *name, *text;
    const char *algorithm, *layout;
    int lookahead;
    bool two_level, causal; /* two_level: node-aware; causal: the mask it is meant for (it is right for all) */
} ringx_preset_entry;

typedef struct ringx_kernel_entry {
    const char *name, *text;
    ringx_device device;
    bool available; /* on this machine, in this build */
} ringx_kernel_entry;

RINGX_API const ringx_preset_entry *ringx_preset_at(size_t i); /* NULL past the end */
RINGX_API const ringx_entry *ringx_algorithm_at(size_t i);
RINGX_API const ringx_entry *ringx_layout_at(size_t i);
RINGX_API const ringx_entry *ringx_transport_at(size_t i);
RINGX_API const ringx_kernel_entry *ringx_kernel_at(size_t i);
RINGX_API ringx_status ringx_preset_find(const char *name, size_t *i); /* unknown: the message names the nearest */

/* ---- the oracle --------------------------------------------------------------------------------------------------
 * The definition, evaluated in double over whole packed tensors, O(tokens²) per head.  Independent of
 * masks-as-intervals, layouts, schedules and kernels.  dout may be NULL: forward only.  Any result may be NULL. */
typedef struct ringx_reference_tensors {
    const double *q, *k, *v, *dout;   /* [batch][tokens][heads][dim] */
    double *out, *lse, *dq, *dk, *dv; /* lse: [batch][q_heads][tokens] */
} ringx_reference_tensors;
RINGX_API ringx_status ringx_reference(const ringx_problem *problem, const ringx_reference_tensors *tensors);

/* ---- studies: the schedules of all ranks, on paper ------------------------------------------------------------------
 */

typedef struct ringx_study ringx_study;

/* Writes and closes the schedules of all `ranks` ranks (options->preset as for a plan).  This machine need not have the
 * device. */
RINGX_API ringx_status ringx_study_create(ringx_study **study, const ringx_problem *problem,
                                          const ringx_options *options, int ranks);
RINGX_API void ringx_study_destroy(ringx_study *study);
RINGX_API ringx_status ringx_study_describe(const ringx_study *study, int rank, ringx_plan_info *info);

/* Walks all ranks together and shows: every (query, key) pair is attended exactly once in each direction; every
 * gradient reaches its owner exactly once; nothing is read before it is written nor overwritten while needed; all
 * ranks issue matching collectives in one order, so nothing deadlocks.  A failure names direction, rank, step, reason.
 */
typedef struct ringx_proof {
    uint64_t steps, transfers, tiles; /* walked */
    size_t workspace_bytes;           /* largest over ranks */
} ringx_proof;
RINGX_API ringx_status ringx_study_prove(const ringx_study *study, ringx_proof *proof);

typedef struct ringx_forecast {    /* of one direction */
    double seconds;                /* slowest rank */
    double compute_s, transfer_s;  /* of that rank: busy time of each lane */
    double exposed_s;              /* of that rank: compute lane waiting for transfers */
    double efficiency;             /* single-device time of the whole ÷ ranks ÷ seconds */
    uint64_t wire_bytes, messages; /* largest over ranks */
    size_t workspace_bytes;        /* largest over ranks */
} ringx_forecast;
/* machine: a description file, a built-in name ("h200x2", "h200x8", "frontier", "local"), or NULL: "local". */
RINGX_API ringx_status ringx_study_forecast(const ringx_study *study, const char *machine, ringx_forecast *forward,
                                            ringx_forecast *backward);
/* Forecast timeline of all ranks, both directions; by the ending of path: .svg, or .json (Chrome trace, Perfetto). */
RINGX_API ringx_status ringx_study_draw(const ringx_study *study, const char *machine, const char *path);
/* Measured timeline of the last execute of each direction.  Collective; rank 0 writes.  Needs options.timeline. */
RINGX_API ringx_status ringx_plan_draw(ringx_plan *plan, const char *path);

/* ---- machines: figures of a description, for programs that plan more than attention ---- */

typedef struct ringx_machine_figures { /* of one rank; 0: the description does not say */
    char name[64];
    int ranks_per_node;   /* 0: all ranks are in one node */
    double matrix_flops;  /* a second, in large matrix products; the attention's best if the description does not say */
    double peak_flops;    /* a second, that shares of the peak refer to */
    double memory_gbs;    /* read plus written */
    size_t device_memory; /* bytes of a device */
    size_t driver_memory; /* of them, what the driver takes before a program allocates anything */
    size_t comm_memory;   /* what communicators of several ranks take beside what is allocated */
} ringx_machine_figures;
RINGX_API ringx_status ringx_machine_describe(const char *machine, ringx_machine_figures *figures);

/* ---- calibration ----------------------------------------------------------------------------------------------------
 */

/* Measured f32 flop/s of multiply-adds in registers, on that many OpenMP threads, by the best instruction set. */
RINGX_API double ringx_fma_peak(int threads);

typedef enum ringx_comm_op {
    RINGX_OP_BROADCAST,
    RINGX_OP_EXCHANGE, /* with both neighbours of a ring */
    RINGX_OP_ALLGATHER,
    RINGX_OP_REDUCE,
    RINGX_OP_REDUCE_SCATTER
} ringx_comm_op;
/* Collective: median seconds of one operation in which a rank contributes `bytes`. */
RINGX_API ringx_status ringx_comm_time(ringx_comm *comm, ringx_comm_op op, size_t bytes, int repeats, double *seconds);
/* Forecast on a described machine: seconds of one collective operation among `ranks` ranks, each `stride` after the one
 * before, in which a rank sends wire_bytes.  Not for RINGX_OP_EXCHANGE. */
RINGX_API ringx_status ringx_machine_transfer(const char *machine, ringx_comm_op op, int ranks, int stride,
                                              double wire_bytes, double *seconds);

#ifdef __cplusplus
}
#endif
#endif
