/* SPDX-License-Identifier: MIT */
/* For tests: the closed schedules of all ranks of a preset, in one direction. */
#ifndef RINGX_TEST_SCHEDULES_H
#define RINGX_TEST_SCHEDULES_H

#include <stdlib.h>

#include "algo/algo.h"
#include "schedule/readers.h"

typedef struct world { /* all ranks on paper */
    const ringx_preset_entry *preset;
    ringx_problem problem;
    ringx_shape shape;
    ringx_layout layout;
    int ranks, lookahead, slices, first, head_ranks, ranks_per_node;
    ringx_dtype wire;
    bool taper, joined, awaits;
    bool own_sums; /* the kernel starts and ends sums of dK,dV */
    bool backward;
    ringx_schedule *schedules;
    const ringx_schedule **list;
} world;

static inline void world_free(world *w)
{
    for (int r = 0; w->schedules && r < w->ranks; r++)
        ringx__schedule_free(&w->schedules[r]);
    free(w->schedules);
    free(w->list);
    w->schedules = NULL;
    w->list = NULL;
    ringx__shape_destroy(&w->shape);
}

static inline ringx_geometry world_geometry(const world *w, int rank)
{
    return (ringx_geometry){.rank = rank,
                            .ranks = w->ranks,
                            .lookahead = w->lookahead,
                            .head_ranks = w->head_ranks,
                            .ranks_per_node = w->ranks_per_node,
                            .two_level = w->preset->two_level && w->ranks_per_node > 1 && w->ranks_per_node < w->ranks,
                            .cut = {.slices = w->slices, .first = w->first, .taper = w->taper},
                            .joined = w->joined,
                            .awaits = w->awaits && !w->backward,
                            .starts_keys = w->own_sums,
                            .ends_keys = w->own_sums,
                            .wire = w->wire,
                            .parts = ringx__headswap_parts(&w->shape, w->head_ranks),
                            .shape = &w->shape,
                            .layout = &w->layout};
}

/* The caller has set all fields up to backward, but for shape and layout; world_free also after a failure. */
static inline ringx_status world_build(world *w)
{
    const ringx_algo *algo;
    w->schedules = NULL;
    w->list = NULL;
    RINGX_TRY(ringx__shape_create(&w->shape, &w->problem));
    w->layout = (ringx_layout){.ranks = w->ranks, .tokens = w->problem.tokens};
    RINGX_TRY(ringx__layout_find(w->preset->layout, &w->layout.id));
    RINGX_TRY(ringx__algo_find(w->preset->algorithm, &algo));
    w->schedules = calloc((size_t)w->ranks, sizeof *w->schedules);
    w->list = calloc((size_t)w->ranks, sizeof *w->list);
    if (!w->schedules || !w->list)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %d schedules", w->ranks);
    ringx_emit emit = w->backward ? algo->backward : algo->forward;
    if (w->awaits && !w->backward)
        emit = ringx__awaited_forward;
    if (w->ranks == 1)
        emit = w->backward ? ringx__local_backward : ringx__local_forward;
    for (int r = 0; r < w->ranks; r++) {
        ringx_geometry g = world_geometry(w, r);
        RINGX_TRY(ringx__schedule_build(&w->schedules[r], emit, &g, w->backward));
        w->list[r] = &w->schedules[r];
    }
    return RINGX_OK;
}

static inline ringx_problem small_problem(int64_t tokens)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 2;
    p.tokens = tokens;
    p.q_heads = 6;
    p.kv_heads = 3;
    p.head_dim = 16;
    p.value_dim = 8;
    return p;
}

static inline world small_world(const ringx_preset_entry *preset, int ranks, int64_t tokens, bool backward)
{
    return (world){.preset = preset,
                   .problem = small_problem(tokens),
                   .ranks = ranks,
                   .lookahead = preset->lookahead,
                   .slices = 1,
                   .head_ranks = ranks,
                   .ranks_per_node = 1,
                   .backward = backward};
}

#endif
