/* SPDX-License-Identifier: MIT */
/* Execution: check the arguments, walk the two lanes. */
#include <stdio.h>

#include "api/agree.h"
#include "api/plan.h"
#include "comm/peer.h"

static ringx_status run_step(void *context, uint32_t step, int lane, void *stream)
{
    const ringx_execution *e = context;
    const ringx_fusion *fusion = &e->program->fusion;
    const ringx_early *early = &e->program->early;
    bool comm = lane == RINGX_COMM_LANE;
    if (comm && fusion->on && fusion->word[step])
        ringx__peer_announce(e->plan->data, fusion->word[step] - 1);
    if (comm && early->on && step == early->leaving)
        RINGX_TRY(ringx__peer_hold(e->plan->data, 0, stream));
    ringx_status status = comm ? ringx__step_transfer(e, step, stream) : ringx__step_compute(e, step, stream);
    if (status == RINGX_OK || ringx__step_transfers(&e->program->schedule.steps[step])) /* the transport tells */
        return status;
    return ringx__tell(e->plan->data, status);
}

static ringx_status check_strides(const ringx_plan *plan, const char *name, const ringx_tensor *t, int64_t heads,
                                  int64_t dim)
{
    static const char *const axis[] = {"batch", "token", "head"};
    const int64_t extent[] = {plan->shape.batch, plan->local_tokens, heads};
    int64_t last = dim, most = PTRDIFF_MAX / (int64_t)ringx__dtype_bytes(plan->shape.dtype);
    if (t->stride[0] == 0 && t->stride[1] == 0 && t->stride[2] == 0)
        return RINGX_OK;
    for (int i = 0; i < 3; i++) {
        int64_t step;
        if (t->stride[i] < 0 || (extent[i] > 1 && t->stride[i] < dim))
            RINGX_FAIL(RINGX_INVALID, "%s.stride of %s is %lld elements; it must be at least the %lld of a head", name,
                       axis[i], (long long)t->stride[i], (long long)dim);
        if (extent[i] > 1 && (__builtin_mul_overflow(extent[i] - 1, t->stride[i], &step) ||
                              __builtin_add_overflow(last, step, &last) || last > most))
            RINGX_FAIL(RINGX_INVALID, "%s.stride of %s is %lld elements; the %lld of them overflow the address space",
                       name, axis[i], (long long)t->stride[i], (long long)extent[i]);
    }
    return RINGX_OK;
}

static ringx_status check_tensor(const ringx_plan *plan, const char *name, const ringx_tensor *t, int64_t heads,
                                 int64_t dim)
{
    size_t element = ringx__dtype_bytes(plan->shape.dtype);
    if (plan->shape.batch * plan->local_tokens == 0)
        return RINGX_OK;
    if (!t->data)
        RINGX_FAIL(RINGX_INVALID, "%s.data is NULL; it must point to %lld × %lld × %lld × %lld elements", name,
                   (long long)plan->shape.batch, (long long)plan->local_tokens, (long long)heads, (long long)dim);
    if ((uintptr_t)t->data % element)
        RINGX_FAIL(RINGX_INVALID, "%s.data is %p; it must be aligned to its elements of %zu bytes", name, t->data,
                   element);
    RINGX_TRY(plan->device->usable(name, t->data));
    return check_strides(plan, name, t, heads, dim);
}

/* A result over an argument would be read after it was written. */
static ringx_status check_distinct(const ringx_plan *plan, const ringx_args *a, bool backward)
{
    static const char *const name[] = {"q", "k", "v", "out", "dout", "dq", "dk", "dv"};
    const ringx_tensor *const tensor[] = {&a->q, &a->k, &a->v, &a->out, &a->dout, &a->dq, &a->dk, &a->dv};
    enum { OUT = 3, DQ = 5, ALL = 8 };
    int first = backward ? DQ : OUT, end = backward ? ALL : OUT + 1;
    for (int i = first; i < end && plan->shape.batch * plan->local_tokens > 0; i++)
        for (int j = 0; j < i; j++)
            if (tensor[i]->data == tensor[j]->data)
                RINGX_FAIL(RINGX_INVALID, "%s.data and %s.data are both %p; a result needs memory of its own", name[j],
                           name[i], tensor[i]->data);
    return RINGX_OK;
}

static ringx_status check_args(const ringx_plan *plan, const ringx_args *a, bool backward)
{
    const ringx_shape *s = &plan->shape;
    if (!a)
        RINGX_FAIL(RINGX_INVALID, "args is NULL; it must point to a ringx_args");
    if (a->size != sizeof *a)
        RINGX_FAIL(RINGX_INVALID, "args.size is %zu; it must be sizeof(ringx_args) = %zu: use RINGX_ARGS_INIT", a->size,
                   sizeof *a);
    RINGX_TRY(check_tensor(plan, "q", &a->q, s->q_heads, s->head_dim));
    RINGX_TRY(check_tensor(plan, "k", &a->k, s->kv_heads, s->head_dim));
    RINGX_TRY(check_tensor(plan, "v", &a->v, s->kv_heads, s->value_dim));
    RINGX_TRY(check_tensor(plan, "out", &a->out, s->q_heads, s->value_dim));
    if (backward) {
        RINGX_TRY(check_tensor(plan, "dout", &a->dout, s->q_heads, s->value_dim));
        RINGX_TRY(check_tensor(plan, "dq", &a->dq, s->q_heads, s->head_dim));
        RINGX_TRY(check_tensor(plan, "dk", &a->dk, s->kv_heads, s->head_dim));
        RINGX_TRY(check_tensor(plan, "dv", &a->dv, s->kv_heads, s->value_dim));
    }
    RINGX_TRY(check_distinct(plan, a, backward));
    if ((!a->lse && s->batch * plan->local_tokens > 0) || (uintptr_t)a->lse % sizeof(float))
        RINGX_FAIL(RINGX_INVALID, "lse is %p; it must point to batch × q_heads × local tokens aligned floats",
                   (void *)a->lse);
    if (a->lse)
        RINGX_TRY(plan->device->usable("lse", a->lse));
    if (a->workspace_bytes < plan->workspace_bytes)
        RINGX_FAIL(RINGX_INVALID, "workspace_bytes is %zu; the plan needs %zu", a->workspace_bytes,
                   plan->workspace_bytes);
    if (plan->workspace_bytes && (!a->workspace || (uintptr_t)a->workspace % 128))
        RINGX_FAIL(RINGX_INVALID, "workspace is %p; it must be aligned to 128 bytes", a->workspace);
    if (plan->workspace_bytes && plan->attached && a->workspace != plan->attached)
        RINGX_FAIL(RINGX_INVALID, "workspace is %p; the plan is attached to %p: it must be that", a->workspace,
                   plan->attached);
    return plan->workspace_bytes ? plan->device->usable("workspace", a->workspace) : RINGX_OK;
}

/* Packs at the beginning: kernels, which would wait for the first tiles' end if these were launched before them. */
static size_t first_packs(const ringx_schedule *s)
{
    size_t n = 0;
    while (n < s->lane_count[RINGX_COMM_LANE] && s->steps[s->lane_step[RINGX_COMM_LANE][n]].op == RINGX_PACK &&
           s->lane_wait[RINGX_COMM_LANE][n] == 0)
        n++;
    return n;
}

static ringx_status execute(ringx_plan *plan, ringx_program *program, const ringx_args *args, bool backward)
{
    ringx_status status = check_args(plan, args, backward);
    if (status != RINGX_OK)
        return ringx__tell(plan->data, status);
    ringx_execution execution = {.plan = plan, .program = program};
    ringx_walk walk = {.track = &program->track,
                       .run = run_step,
                       .context = &execution,
                       .stamps = program->stamps,
                       .timing = &program->timing,
                       .pass = backward,
                       .one_lane = plan->one_lane,
                       .compute_first = plan->peer && ringx__peer_reaches(plan->data)};
    walk.ahead = walk.compute_first ? first_packs(&program->schedule) : 0;
    walk.waits_ahead = !backward; /* what comes first in a backward leaves room */
    plan->args = args;
    if (plan->peer)
        status = ringx__peer_begin(plan->data, backward);
    program->fusion.on = status == RINGX_OK && ringx__fuses(&execution);
    if (program->fusion.on) {
        program->fusion.unmeasured = true;
        walk.track = &program->fusion.track;
        walk.ahead = 0;
    }
    program->early.on = status == RINGX_OK && ringx__is_early(&execution);
    if (program->early.on)
        walk.track = &program->early.track;
    if (program->fusion.on || program->early.on)
        status = ringx__peer_expect(plan->data, plan->stream);
    if (status == RINGX_OK)
        status = plan->device->walk(plan->lanes, &walk);
    plan->args = NULL;
    return status;
}

ringx_status ringx_forward(ringx_plan *plan, const ringx_args *args)
{
    if (!plan)
        RINGX_FAIL(RINGX_INVALID, "plan is NULL; ringx_plan_create makes one");
    return execute(plan, &plan->forward, args, false);
}

ringx_status ringx_backward(ringx_plan *plan, const ringx_args *args)
{
    if (!plan)
        RINGX_FAIL(RINGX_INVALID, "plan is NULL; ringx_plan_create makes one");
    if (plan->forward_only)
        RINGX_FAIL(RINGX_INVALID, "the plan was created with forward_only; create one without to run backward");
    return execute(plan, &plan->backward, args, true);
}

static ringx_status poll_ranks(void *context)
{
    const ringx_plan *plan = context;
    return plan->data->ops->poll(plan->data);
}

/* What a forward that is one kernel has waited for inside it was exposed, not computation. */
static ringx_status add_waits(ringx_plan *plan)
{
    ringx_fusion *f = &plan->forward.fusion;
    ringx_timing *t = &plan->forward.timing;
    uint64_t ns = 0;
    if (!f->unmeasured || !plan->forward.stamps)
        return RINGX_OK;
    f->unmeasured = false;
    RINGX_TRY(plan->device->copy(&ns, ringx__peer_waited(plan->data), sizeof ns));
    t->exposed_s += 1e-9 * (double)ns;
    t->compute_s -= 1e-9 * (double)ns;
    return RINGX_OK;
}

ringx_status ringx_plan_wait(ringx_plan *plan)
{
    if (!plan)
        RINGX_FAIL(RINGX_INVALID, "plan is NULL; ringx_plan_create makes one");
    int64_t stuck;
    int pass;
    ringx_status status = plan->device->settle(plan->lanes, plan->deadline_s, poll_ranks, plan, &stuck, &pass);
    if (status == RINGX_OK)
        return add_waits(plan);
    char text[160];
    snprintf(text, sizeof text, "%s%s", pass ? "backward" : "forward",
             status == RINGX_DEVICE ? "" : ", after its last transfer");
    if (stuck >= 0)
        ringx__step_describe(pass ? &plan->backward.schedule : &plan->forward.schedule, (size_t)stuck, text,
                             sizeof text);
    ringx_status why = status == RINGX_STALLED ? ringx__comm_roll_call(plan->data, text) : RINGX_OK;
    return ringx__tell(plan->data, why != RINGX_OK ? why : ringx__context(status, "%s", text));
}
