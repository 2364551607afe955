/* SPDX-License-Identifier: MIT */
/* Building and freeing the schedules of all ranks. */
#include "api/all_ranks.h"

#include <stdlib.h>
#include <string.h>

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
    for (int rank = 0; rank < ranks; rank++) {
        ringx_status status = ringx__choice_schedule(&all->schedule[rank], choice, shape, rank, backward);
        if (status != RINGX_OK) {
            ringx__all_ranks_free(all);
            return ringx__context(status, "schedule of rank %d", rank);
        }
        all->list[rank] = &all->schedule[rank];
        all->ranks = rank + 1;
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
