/* SPDX-License-Identifier: MIT */
/* For tests: the programs of all ranks on paper. */
#ifndef RINGX_TEST_PROGRAMS_H
#define RINGX_TEST_PROGRAMS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/plan.h"
#include "schedule/schedules.h"

static inline void build_proved(world *w)
{
    ringx_proof proof;
    if (world_build(w) != RINGX_OK || ringx__prove(w->list, w->ranks, &proof) != RINGX_OK)
        fail_msg("%s", ringx_last_error());
}

/* Of one rank, whose schedule leaves the world: free with ringx__program_free. */
static inline ringx_program program_of(world *w, int rank)
{
    ringx_program p = {.schedule = w->schedules[rank]};
    w->schedules[rank] = (ringx_schedule){.status = RINGX_OK};
    assert_int_equal(ringx__program_prepare(&p, false), RINGX_OK);
    return p;
}

#endif
