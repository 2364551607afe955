/* SPDX-License-Identifier: MIT */
/* The measured timeline: every rank's stamps travel to rank 0, which draws them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/agree.h"
#include "api/plan.h"
#include "schedule/readers.h"

typedef struct ringx_count { /* what a rank will send */
    uint64_t forward, backward;
} count;

/* Of the steps that were run: others have no stamps. */
static uint64_t boxes_of(const ringx_program *program, ringx_box *boxes)
{
    uint64_t n = 0;
    ringx__boxes(&program->schedule, program->stamps, boxes);
    for (size_t i = 0; i < program->schedule.n_steps; i++)
        if (boxes[i].end > 0)
            boxes[n++] = boxes[i];
    return n;
}

static ringx_status own_boxes(const ringx_plan *plan, ringx_box **boxes, count *n)
{
    size_t most = plan->forward.schedule.n_steps + (plan->forward_only ? 0 : plan->backward.schedule.n_steps);
    if (!plan->forward.stamps)
        RINGX_FAIL(RINGX_INVALID, "the plan was created without options.timeline; nothing was recorded to draw");
    *boxes = calloc(most + 1, sizeof **boxes);
    if (!*boxes)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to draw %zu steps", most);
    n->forward = boxes_of(&plan->forward, *boxes);
    n->backward = plan->forward_only ? 0 : boxes_of(&plan->backward, *boxes + n->forward);
    return RINGX_OK;
}

/* Rank 0 receives everyone's boxes behind one another: all forwards, then all backwards. */
static ringx_status collect(ringx_plan *plan, const count *all, const ringx_box *own, ringx_box *boxes,
                            const ringx_call *call)
{
    ringx_comm *host = ringx__comm_host(plan->comm);
    uint64_t forwards = 0, at[2] = {0, 0};
    for (int r = 0; r < plan->comm->ranks; r++)
        forwards += all[r].forward;
    at[1] = forwards;
    for (int r = 0; r < plan->comm->ranks; r++) {
        const uint64_t n[2] = {all[r].forward, all[r].backward};
        for (int d = 0; d < 2; d++) {
            ringx_message m = {.peer = r, .data = boxes + at[d], .bytes = (size_t)n[d] * sizeof *boxes};
            if (r == 0)
                memcpy(m.data, own + (d ? n[0] : 0), m.bytes);
            else if (m.bytes)
                RINGX_TRY(host->ops->exchange(host, NULL, 0, &m, 1, call));
            at[d] += n[d];
        }
    }
    return RINGX_OK;
}

static ringx_status draw_all(ringx_plan *plan, const count *all, const ringx_box *own, const char *path,
                             const ringx_call *call)
{
    uint64_t forward = 0, backward = 0;
    for (int r = 0; r < plan->comm->ranks; r++) {
        forward += all[r].forward;
        backward += all[r].backward;
    }
    ringx_box *boxes = calloc(forward + backward + 1, sizeof *boxes);
    if (!boxes)
        return ringx__tell(plan->comm, ringx__fail(RINGX_NO_MEMORY, "no memory to draw %llu steps",
                                                   (unsigned long long)(forward + backward)));
    ringx_status status = collect(plan, all, own, boxes, call);
    ringx_panel panel[2] = {
        {.title = "forward", .boxes = boxes, .count = forward, .ranks = plan->comm->ranks},
        {.title = "backward", .boxes = boxes + forward, .count = backward, .ranks = plan->comm->ranks}};
    char title[256];
    snprintf(title, sizeof title, "%s, %d ranks, %lld tokens: measured (%s, %s)", plan->choice.preset,
             plan->comm->ranks, (long long)plan->shape.tokens, plan->comm->ops->name, plan->choice.kernel->name);
    if (status == RINGX_OK)
        status = ringx__draw(path, title, panel, backward ? 2 : 1);
    free(boxes);
    return status;
}

static ringx_status send_own(ringx_plan *plan, const count *n, ringx_box *own, const ringx_call *call)
{
    ringx_comm *host = ringx__comm_host(plan->comm);
    const uint64_t part[2] = {n->forward, n->backward};
    for (int d = 0; d < 2; d++) {
        ringx_message m = {.peer = 0, .data = own + (d ? part[0] : 0), .bytes = (size_t)part[d] * sizeof *own};
        if (m.bytes)
            RINGX_TRY(host->ops->exchange(host, &m, 1, NULL, 0, call));
    }
    return RINGX_OK;
}

ringx_status ringx_plan_draw(ringx_plan *plan, const char *path)
{
    const char *what = "ringx_plan_draw";
    if (!plan)
        RINGX_FAIL(RINGX_INVALID, "plan is NULL; ringx_plan_create makes one");
    ringx_comm *comm = plan->comm;
    ringx_box *own = NULL;
    count n = {0, 0}, *all = calloc((unsigned)comm->ranks, sizeof *all);
    ringx_call call = {.what = what, .deadline_s = plan->deadline_s};
    ringx_status status = all ? own_boxes(plan, &own, &n) : ringx__fail(RINGX_NO_MEMORY, "no memory to draw");
    if (status == RINGX_OK && !path)
        status = ringx__fail(RINGX_INVALID, "path is NULL; it must name a file that ends in .svg or .json");
    status = ringx__agree_status(comm, status, what, plan->deadline_s, 0, NULL);
    if (status == RINGX_OK)
        status = comm->ops->agree(comm, &n, sizeof n, all, &call);
    if (status == RINGX_OK) {
        status = comm->rank == 0 ? draw_all(plan, all, own, path, &call) : send_own(plan, &n, own, &call);
        status = ringx__agree_status(comm, status, what, plan->deadline_s, 0, NULL); /* the file may not be writable */
    }
    free(own);
    free(all);
    return status;
}
