/* SPDX-License-Identifier: MIT */
/* Tests that need GPUs are skipped elsewhere, and say so. */
#ifndef RINGX_TESTS_NEED_GPUS_H
#define RINGX_TESTS_NEED_GPUS_H

#include <ringx/ringx.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static inline void need_gpus(int least)
{
    int count = 0;
    if (ringx_device_count(RINGX_CUDA, &count) != RINGX_OK)
        count = 0; /* a build without CUDA */
    if (count < least) {
        fprintf(stderr, "skipped: %d GPUs, not %d\n", count, least);
        skip();
    }
}

#endif
