/* SPDX-License-Identifier: MIT */
/* Studies: the schedules of all ranks on paper; tables of what there is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/all_ranks.h"
#include "api/plan.h"
#include "schedule/readers.h"

/* ---- tables ---- */

const ringx_entry *ringx_algorithm_at(size_t i)
{
    static _Thread_local ringx_entry entry;
    const ringx_algo *algo = ringx__algo_at(i);
    if (!algo)
        return NULL;
    entry = (ringx_entry){algo->name, algo->text};
    return &entry;
}

const ringx_entry *ringx_layout_at(size_t i)
{
    static _Thread_local ringx_entry entry;
    if (i >= RINGX_LAYOUT_KINDS)
        return NULL;
    entry = (ringx_entry){ringx__layout_name((ringx_layout_id)i), ringx__layout_text((ringx_layout_id)i)};
    return &entry;
}

const ringx_entry *ringx_transport_at(size_t i)
{
    static _Thread_local ringx_entry entry;
    const ringx_comm_ops *ops = ringx__comm_ops_at(i);
    if (!ops)
        return NULL;
    entry = (ringx_entry){ops->name, ops->text};
    return &entry;
}

const ringx_kernel_entry *ringx_kernel_at(size_t i)
{
    static _Thread_local ringx_kernel_entry entry;
    const ringx_kernel *kernel = ringx__kernel_at(i);
    if (!kernel)
        return NULL;
    entry = (ringx_kernel_entry){kernel->name, kernel->text, kernel->device, kernel->available()};
    return &entry;
}

/* ---- studies ---- */

struct ringx_study {
    ringx_shape shape;
    ringx_choice choice;
    int ranks;
    bool forward_only;
};

/* What ranks discover when they run is on paper the machine's. */
static ringx_status ranks_of_node(const ringx_options *o, int ranks, int *per_node)
{
    ringx_machine machine;
    RINGX_TRY(ringx__machine_load(&machine, o->machine));
    *per_node = machine.ranks_per_node > 0 && machine.ranks_per_node < ranks ? (int)machine.ranks_per_node : ranks;
    return RINGX_OK;
}

static ringx_status study_choose(ringx_study *study, const ringx_problem *problem, const ringx_options *o)
{
    RINGX_TRY(ringx__shape_create(&study->shape, problem));
    RINGX_TRY(ringx__options_check(o, &study->shape, study->ranks, true));
    study->forward_only = o->forward_only;
    int per_node = o->ranks_per_node;
    if (!per_node)
        RINGX_TRY(ranks_of_node(o, study->ranks, &per_node));
    return ringx__choose(&study->choice, o, &study->shape, study->ranks, per_node, true);
}

ringx_status ringx_study_create(ringx_study **study, const ringx_problem *problem, const ringx_options *options,
                                int ranks)
{
    if (!study)
        RINGX_FAIL(RINGX_INVALID, "study is NULL; it must point to a ringx_study pointer");
    *study = NULL;
    if (ranks < 1)
        RINGX_FAIL(RINGX_INVALID, "ranks is %d; it must be >= 1", ranks);
    ringx_options defaults = RINGX_OPTIONS_INIT;
    ringx_study *new = calloc(1, sizeof *new);
    if (!new)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu bytes of a study", sizeof *new);
    new->ranks = ranks;
    ringx_status status = study_choose(new, problem, options ? options : &defaults);
    if (status != RINGX_OK) {
        ringx_study_destroy(new);
        return status;
    }
    *study = new;
    return RINGX_OK;
}

void ringx_study_destroy(ringx_study *study)
{
    if (!study)
        return;
    ringx__shape_destroy(&study->shape);
    free(study);
}

static ringx_status not_null(const void *study, const char *name, const void *result)
{
    if (!study)
        RINGX_FAIL(RINGX_INVALID, "study is NULL; ringx_study_create makes one");
    if (!result)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must point to what is to be filled", name);
    return RINGX_OK;
}

ringx_status ringx_study_describe(const ringx_study *study, int rank, ringx_plan_info *info)
{
    RINGX_TRY(not_null(study, "info", info));
    const ringx_choice *c = &study->choice;
    ringx_schedule forward, backward = {.status = RINGX_OK};
    if (rank < 0 || rank >= study->ranks)
        RINGX_FAIL(RINGX_INVALID, "rank is %d; it must be 0 … %d", rank, study->ranks - 1);
    RINGX_TRY(ringx__choice_schedule(&forward, c, &study->shape, rank, false));
    ringx_status status =
        study->forward_only ? RINGX_OK : ringx__choice_schedule(&backward, c, &study->shape, rank, true);
    if (status != RINGX_OK) {
        ringx__schedule_free(&forward);
        return status;
    }
    size_t schedule_bytes;
    *info = (ringx_plan_info){.preset = c->preset,
                              .algorithm = c->algo->name,
                              .layout = ringx__layout_name(c->layout.id),
                              .kernel = c->kernel->name,
                              .transport = "paper",
                              .rank = rank,
                              .ranks = study->ranks,
                              .lookahead = c->lookahead,
                              .slices = c->slices,
                              .head_ranks = c->head_ranks,
                              .ranks_per_node = c->ranks_per_node,
                              .threads = c->threads,
                              .local_tokens = ringx__layout_count(&c->layout, rank),
                              .workspace_bytes = ringx__choice_workspace(
                                  c, &study->shape, &forward, study->forward_only ? NULL : &backward, &schedule_bytes),
                              .forward = ringx__schedule_traffic(&forward)};
    if (!study->forward_only)
        info->backward = ringx__schedule_traffic(&backward);
    ringx__schedule_free(&forward);
    ringx__schedule_free(&backward);
    return RINGX_OK;
}

ringx_status ringx_study_prove(const ringx_study *study, ringx_proof *proof)
{
    RINGX_TRY(not_null(study, "proof", proof));
    *proof = (ringx_proof){.steps = 0};
    for (int backward = 0; backward <= !study->forward_only; backward++) {
        ringx_all_ranks all;
        ringx_proof part;
        RINGX_TRY(ringx__all_ranks_build(&all, &study->choice, &study->shape, study->ranks, backward != 0));
        ringx_status status = ringx__prove(all.list, study->ranks, &part);
        ringx__all_ranks_free(&all);
        RINGX_TRY(status);
        proof->steps += part.steps;
        proof->transfers += part.transfers;
        proof->tiles += part.tiles;
        if (part.workspace_bytes > proof->workspace_bytes)
            proof->workspace_bytes = part.workspace_bytes;
    }
    return RINGX_OK;
}

ringx_status ringx_study_forecast(const ringx_study *study, const char *name, ringx_forecast *forward,
                                  ringx_forecast *backward)
{
    ringx_machine machine;
    RINGX_TRY(ringx__machine_load(&machine, name));
    ringx_forecast *const out[] = {forward, backward};
    for (int direction = 0; direction <= !study->forward_only; direction++) {
        ringx_all_ranks all;
        if (!out[direction])
            continue;
        RINGX_TRY(ringx__all_ranks_build(&all, &study->choice, &study->shape, study->ranks, direction != 0));
        ringx_status status = ringx__forecast(all.list, study->ranks, &machine, out[direction], NULL);
        ringx__all_ranks_free(&all);
        RINGX_TRY(status);
    }
    return RINGX_OK;
}

/* ---- drawing ---- */

static ringx_status forecast_boxes(const ringx_study *study, const ringx_machine *machine, bool backward,
                                   ringx_box **boxes, size_t *count)
{
    ringx_all_ranks all;
    ringx_forecast forecast;
    RINGX_TRY(ringx__all_ranks_build(&all, &study->choice, &study->shape, study->ranks, backward));
    size_t total = 0, at = 0;
    for (int r = 0; r < study->ranks; r++)
        total += all.schedule[r].n_steps;
    ringx_stamp *stamps = calloc(total + 1, sizeof *stamps),
                **of_rank = calloc((unsigned)study->ranks, sizeof *of_rank);
    *boxes = calloc(total + 1, sizeof **boxes);
    ringx_status status = RINGX_OK;
    if (!stamps || !of_rank || !*boxes)
        status = ringx__fail(RINGX_NO_MEMORY, "no memory to draw %zu steps", total);
    for (int r = 0; r < study->ranks && status == RINGX_OK; at += all.schedule[r++].n_steps)
        of_rank[r] = stamps + at;
    if (status == RINGX_OK)
        status = ringx__forecast(all.list, study->ranks, machine, &forecast, of_rank);
    at = 0;
    for (int r = 0; r < study->ranks && status == RINGX_OK; at += all.schedule[r++].n_steps)
        ringx__boxes(&all.schedule[r], of_rank[r], *boxes + at);
    free(stamps);
    free(of_rank);
    ringx__all_ranks_free(&all);
    *count = total;
    if (status != RINGX_OK) {
        free(*boxes);
        *boxes = NULL;
    }
    return status;
}

ringx_status ringx_study_draw(const ringx_study *study, const char *name, const char *path)
{
    ringx_machine machine;
    RINGX_TRY(ringx__machine_load(&machine, name));
    ringx_panel panel[2] = {{.title = "forward"}, {.title = "backward"}};
    ringx_box *boxes[2] = {NULL, NULL};
    ringx_status status = RINGX_OK;
    size_t panels = 0;
    for (int direction = 0; direction <= !study->forward_only && status == RINGX_OK; direction++) {
        status = forecast_boxes(study, &machine, direction != 0, &boxes[direction], &panel[direction].count);
        panel[direction].boxes = boxes[direction];
        panel[direction].ranks = study->ranks;
        panels++;
    }
    if (status == RINGX_OK) {
        char title[256];
        snprintf(title, sizeof title, "%s, %d ranks, %lld tokens: forecast on %s", study->choice.preset, study->ranks,
                 (long long)study->shape.tokens, machine.name);
        status = ringx__draw(path, title, panel, panels);
    }
    free(boxes[0]);
    free(boxes[1]);
    return status;
}
