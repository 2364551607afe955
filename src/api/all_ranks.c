/* SPDX-License-Identifier: MIT */
/* Building and freeing the schedules of all ranks. */
#include "api/all_ranks.h"

#include <stdlib.h>
#include <string.h>

#define WORTH_THREADS 64 /* fewer schedules are built by the calling thread */

ringx_status ringx__all_ranks_build(ringx_all_ranks *all, const ringx_choice *choice, const ringx_shape *shape,
                                    int ranks, bool backward)
{
    memset(all, 0, sizeof *all);
    all->schedule = calloc((size_t)ranks, sizeof *all->schedule);
    all->list = calloc((size_t)ranks, sizeof *all->list);
    if (!all->schedule || !all->list) {
        ringx__all_ranks_free(all);
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the schedules of %d ranks", ranks);
    }
    all->ranks = ranks;
    int failed = ranks;
#pragma omp parallel for schedule(dynamic, 4) reduction(min : failed) if (ranks >= WORTH_THREADS)
    for (int rank = 0; rank < ranks; rank++) {
        all->list[rank] = &all->schedule[rank];
        if (ringx__choice_schedule(&all->schedule[rank], choice, shape, rank, backward) != RINGX_OK)
            failed = rank < failed ? rank : failed;
    }
    if (failed < ranks) { /* once more here: the message is another thread's */
        ringx_schedule again;
        ringx_status status = ringx__choice_schedule(&again, choice, shape, failed, backward);
        ringx__all_ranks_free(all);
        if (status != RINGX_OK)
            return ringx__context(status, "schedule of rank %d", failed);
        ringx__schedule_free(&again); /* with the others' memory free it succeeds */
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the schedules of %d ranks", ranks);
    }
    return RINGX_OK;
}

void ringx__all_ranks_free(ringx_all_ranks *all)
{
    for (int rank = 0; rank < all->ranks; rank++)
        ringx__schedule_free(&all->schedule[rank]);
    free(all->schedule);
    free(all->list);
    memset(all, 0, sizeof *all);
}
