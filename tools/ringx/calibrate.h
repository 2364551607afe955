/* SPDX-License-Identifier: MIT */
/* ringx info --calibrate: measures this machine and writes its description for forecasts. */
#ifndef RINGX_COMMAND_CALIBRATE_H
#define RINGX_COMMAND_CALIBRATE_H

#include "command.h"

#define CALIBRATED_SIZES 8

typedef struct calibration { /* as in the description; rates with all ranks at work */
    double tokens[CALIBRATED_SIZES], forward_gflops[CALIBRATED_SIZES], backward_gflops[CALIBRATED_SIZES];
    double peak_gflops; /* of one rank's threads */
    double step_overhead_us, memory_gbs, latency_us, transfer_cores;
    double broadcast_gbs, reduce_gbs, allgather_gbs, reduce_scatter_gbs, exchange_gbs;
    int ranks, threads, cores;
} calibration;

/* Writes the description to s->calibrate. */
int calibrate(const settings *s, calibration *result);

#endif
