/* SPDX-License-Identifier: MIT */
/* What the lanes of a program walk: the schedule's order and waits, without the steps that need not be run. */
#include <stdlib.h>

#include "api/plan.h"

/* kept[i]: how many of the lane's first i steps are run. */
static void count_kept(const ringx_program *p, int lane, uint32_t *kept)
{
    const ringx_schedule *s = &p->schedule;
    for (size_t i = 0; i < s->lane_count[lane]; i++)
        kept[i + 1] = kept[i] + !p->needless[s->lane_step[lane][i]];
}

ringx_status ringx__track_prepare(ringx_program *p)
{
    const ringx_schedule *s = &p->schedule;
    const size_t n = s->n_steps;
    uint32_t *kept[RINGX_LANES], *counts = calloc(n + 2, sizeof *counts);
    uint32_t *places = calloc(2 * n + 1, sizeof *places), *at = places;
    uint8_t *awaited = calloc(n + 1, 1);
    p->places = places;
    p->awaited = awaited;
    if (!counts || !places || !awaited) {
        free(counts);
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for the order of %zu steps", n);
    }
    kept[0] = counts;
    kept[1] = counts + s->lane_count[0] + 1;
    for (int lane = 0; lane < RINGX_LANES; lane++)
        count_kept(p, lane, kept[lane]);
    for (int lane = 0; lane < RINGX_LANES; lane++) {
        uint32_t *step = at, *wait = at + kept[lane][s->lane_count[lane]];
        size_t m = 0;
        uint32_t most = 0; /* a step relies on what those before it in its lane have waited for */
        for (size_t i = 0; i < s->lane_count[lane]; i++) {
            uint32_t number = s->lane_step[lane][i], needs = kept[1 - lane][s->lane_wait[lane][i]];
            most = needs > most ? needs : most;
            if (p->needless[number])
                continue;
            step[m] = number;
            wait[m++] = most;
            most = 0;
        }
        p->track.step[lane] = step;
        p->track.wait[lane] = wait;
        p->track.count[lane] = m;
        at = wait + m;
    }
    for (int lane = 0; lane < RINGX_LANES; lane++)
        for (size_t i = 0; i < p->track.count[lane]; i++)
            if (p->track.wait[lane][i])
                awaited[p->track.step[1 - lane][p->track.wait[lane][i] - 1]] = 1;
    p->track.awaited = awaited;
    free(counts);
    return RINGX_OK;
}
