/* SPDX-License-Identifier: MIT */
/* How fast this machine can multiply and add: what CPU kernels are measured against. */
#include <math.h>
#include <omp.h>
#include <ringx/ringx_study.h>

#include "kernel/cpu_simd.h"

#define ROUNDS  200000 /* about a millisecond */
#define REPEATS 60

/* The sum of each thread's best millisecond while all of them run: others may be using the machine too.  More threads
 * than processors take turns, so they count as that many. */
double ringx_fma_peak(int threads)
{
    const ringx_simd *simd = ringx__simd_at(0);
    for (size_t i = 1; !simd->kernel.available(); i++)
        simd = ringx__simd_at(i);
    double sum = 0;
    int running = 1;
#pragma omp parallel num_threads(threads > 0 ? threads : 1) reduction(+ : sum)
    {
        double best = 0;
        for (int repeat = 0; repeat < REPEATS; repeat++) {
            float sink = 0;
            double start = omp_get_wtime(), flops = simd->fma_rounds(ROUNDS, &sink);
            double rate = flops / (omp_get_wtime() - start);
            if (rate > best && !isnan(sink))
                best = rate;
        }
        sum += best;
#pragma omp master
        running = omp_get_num_threads();
    }
    int processors = omp_get_num_procs();
    return running > processors ? sum * processors / running : sum;
}
