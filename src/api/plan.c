/* SPDX-License-Identifier: MIT */
/* Plans: validate, choose, build, agree, size.  Everything that can fail by choice fails here, on every rank. */
#include "api/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/agree.h"
#include "comm/peer.h"

#define DEFAULT_TIMEOUT_S 300.0

static const char create_call[] = "ringx_plan_create", attach_call[] = "ringx_plan_attach";

/* ---- what all ranks must have in common ---- */

static void card_problem(ringx_card *card, const ringx_problem *p)
{
    uint64_t digest = 0;
    if (p->documents)
        digest = ringx__digest(0, p->document_starts, (p->documents + 1) * sizeof *p->document_starts);
    ringx__card_text(card, "batch", "%lld", (long long)p->batch);
    ringx__card_text(card, "tokens", "%lld", (long long)p->tokens);
    ringx__card_text(card, "q_heads", "%lld", (long long)p->q_heads);
    ringx__card_text(card, "kv_heads", "%lld", (long long)p->kv_heads);
    ringx__card_text(card, "head_dim", "%lld", (long long)p->head_dim);
    ringx__card_text(card, "value_dim", "%lld", (long long)p->value_dim);
    ringx__card_text(card, "dtype", "%d", (int)p->dtype);
    ringx__card_text(card, "scale", "%.17g", p->scale);
    ringx__card_text(card, "causal", "%d", (int)p->causal);
    ringx__card_text(card, "window_left", "%lld", (long long)p->window_left);
    ringx__card_text(card, "window_right", "%lld", (long long)p->window_right);
    ringx__card_text(card, "documents", "%zu", p->documents);
    ringx__card_text(card, "document_starts", "contents with digest %016llx", (unsigned long long)digest);
    ringx__card_text(card, "softcap", "%.17g", p->softcap);
    ringx__card_text(card, "dropout", "%.17g", p->dropout);
    ringx__card_text(card, "seed", "%llu", (unsigned long long)p->seed);
}

static const char *or_default(const char *name)
{
    return name ? name : "(default)";
}

static void card_options(ringx_card *card, const ringx_options *o)
{
    ringx__card_text(card, "preset", "%s", or_default(o->preset));
    ringx__card_text(card, "algorithm", "%s", or_default(o->algorithm));
    ringx__card_text(card, "layout", "%s", or_default(o->layout));
    ringx__card_text(card, "lookahead", "%d", o->lookahead);
    ringx__card_text(card, "slices", "%d", o->slices);
    ringx__card_text(card, "head_ranks", "%d", o->head_ranks);
    ringx__card_text(card, "ranks_per_node", "%d", o->ranks_per_node);
    ringx__card_text(card, "wire", "%d", (int)o->wire);
    ringx__card_text(card, "device", "%d", (int)o->device);
    ringx__card_text(card, "kernel", "%s", or_default(o->kernel));
    ringx__card_text(card, "machine", "%s", or_default(o->machine));
    ringx__card_text(card, "forward_only", "%d", (int)o->forward_only);
    ringx__card_text(card, "deterministic", "%d", (int)o->deterministic);
}

/* A rank whose own arguments are wrong passes on its status alone: what it was given may not be readable. */
static ringx_status agree_arguments(ringx_plan *plan, const ringx_problem *problem, const ringx_options *options,
                                    ringx_status status)
{
    ringx_card card;
    ringx__card_begin(&card, status);
    ringx__card_text(&card, "library version", "%s", ringx_version());
    ringx__card_text(&card, "ranks", "%d", plan->comm->ranks);
    if (status == RINGX_OK) {
        card_problem(&card, problem);
        card_options(&card, options);
    }
    return ringx__agree(plan->comm, &card, create_call, plan->deadline_s, NULL);
}

static ringx_status agree_status(ringx_plan *plan, ringx_status status, int64_t number, int64_t *largest)
{
    return ringx__agree_status(plan->comm, status, create_call, plan->deadline_s, number, largest);
}

/* ---- choosing ---- */

/* Ranks per node if nodes are equal and consecutive, else 1. */
static ringx_status discover_nodes(ringx_plan *plan, int *per_node)
{
    int ranks = plan->comm->ranks;
    int *node = malloc((size_t)ranks * sizeof *node);
    ringx_call call = {.what = "ringx_plan_create: discovery of nodes", .deadline_s = plan->deadline_s};
    if (!node)
        return ringx__tell(plan->comm, ringx__fail(RINGX_NO_MEMORY, "no memory for the nodes of %d ranks", ranks));
    ringx_status status = plan->comm->ops->nodes(plan->comm, node, &call);
    int per = 1;
    while (status == RINGX_OK && per < ranks && node[per] == node[0])
        per++;
    *per_node = per;
    for (int r = 0; r < ranks && status == RINGX_OK; r++)
        if (ranks % per || node[r] != node[r / per * per] || (r % per == 0 && r > 0 && node[r] == node[r - 1]))
            *per_node = 1;
    free(node);
    return status;
}

static ringx_status build(ringx_plan *plan)
{
    int rank = plan->comm->rank;
    ringx__schedule_free(&plan->forward.schedule);
    ringx__schedule_free(&plan->backward.schedule);
    RINGX_TRY(ringx__choice_schedule(&plan->forward.schedule, &plan->choice, &plan->shape, rank, false));
    if (!plan->forward_only)
        RINGX_TRY(ringx__choice_schedule(&plan->backward.schedule, &plan->choice, &plan->shape, rank, true));
    plan->workspace_bytes =
        ringx__choice_workspace(&plan->choice, &plan->shape, &plan->forward.schedule,
                                plan->forward_only ? NULL : &plan->backward.schedule, &plan->schedule_bytes);
    return RINGX_OK;
}

/* Candidate i of 0 … kv_heads-1 for the number of slices: the one preferred, more, and then fewer. */
static int slices_to_try(int preferred, int kv_heads, int i)
{
    return preferred + i <= kv_heads ? preferred + i : kv_heads - i;
}

/* Builds with the first number of slices with which every rank meets its limit. */
static ringx_status build_within_limit(ringx_plan *plan, const ringx_options *o)
{
    int preferred = plan->choice.slices, kv_heads = (int)plan->shape.kv_heads, tries = o->slices ? 1 : kv_heads;
    int64_t smallest = INT64_MAX;
    int best = preferred;
    for (int i = 0; i < tries; i++) {
        int64_t over = 0; /* the workspace, where it is over the limit */
        if (i > 0) {
            plan->choice.slices = slices_to_try(preferred, kv_heads, i);
            plan->choice.forward = plan->choice.backward = (ringx_slicing){.slices = plan->choice.slices};
        }
        ringx_status status = build(plan);
        if (status == RINGX_OK && o->workspace_limit && plan->workspace_bytes > o->workspace_limit)
            over = (int64_t)plan->workspace_bytes;
        RINGX_TRY(agree_status(plan, status, over, &over));
        if (over == 0)
            return RINGX_OK;
        if (over < smallest) {
            smallest = over;
            best = plan->choice.slices;
        }
    }
    RINGX_FAIL(RINGX_NO_MEMORY,
               "workspace_limit is %zu bytes here; preset %s needs at least %lld bytes on the rank that needs most, in "
               "%d slice%s",
               o->workspace_limit, plan->choice.preset, (long long)smallest, best, best == 1 ? "" : "s");
}

/* ---- what the schedule must have in common: the collectives, in order ---- */

static uint64_t schedule_digest(const ringx_schedule *s)
{
    uint64_t h = 0;
    for (size_t i = 0; i < s->lane_count[RINGX_COMM_LANE]; i++) {
        const ringx_step *step = &s->steps[s->lane_step[RINGX_COMM_LANE][i]];
        int32_t line[4] = {step->op, step->group, step->root, step->stage};
        if (step->root >= 0 || step->op == RINGX_ALLREDUCE_MAX ||
            (step->group < 0 && (step->op == RINGX_ALLGATHER || step->op == RINGX_REDUCE_SCATTER)))
            h = ringx__digest(h, line, sizeof line);
    }
    return h;
}

static ringx_status agree_schedule(ringx_plan *plan, ringx_status status)
{
    ringx_card card;
    ringx__card_begin(&card, status);
    ringx__card_text(&card, "chosen preset", "%s", plan->choice.preset);
    ringx__card_text(&card, "chosen kernel", "%s", plan->choice.kernel->name);
    ringx__card_text(&card, "chosen slices", "%d", plan->choice.slices);
    if (status == RINGX_OK) {
        ringx__card_text(&card, "forward schedule", "%016llx",
                         (unsigned long long)schedule_digest(&plan->forward.schedule));
        ringx__card_text(&card, "backward schedule", "%016llx",
                         (unsigned long long)schedule_digest(&plan->backward.schedule));
    }
    return ringx__agree(plan->comm, &card, create_call, plan->deadline_s, NULL);
}

static ringx_status split_groups(ringx_plan *plan)
{
    const ringx_schedule *s = &plan->forward.schedule;
    ringx_call call = {.what = "ringx_plan_create: forming groups", .deadline_s = plan->deadline_s};
    for (int i = 0; i < s->n_groups; i++) {
        RINGX_TRY(plan->data->ops->split(plan->data, s->groups[i].colour, &plan->groups[i], &call));
        plan->n_groups = i + 1;
    }
    return RINGX_OK;
}

/* ---- create ---- */

static ringx_status validate(ringx_plan *plan, const ringx_problem *problem, const ringx_options *options)
{
    RINGX_TRY(ringx__shape_create(&plan->shape, problem));
    RINGX_TRY(ringx__options_check(options, &plan->shape, plan->comm->ranks, false));
    if (plan->comm->ops->device_memory && options->device == RINGX_CPU)
        RINGX_FAIL(RINGX_INVALID,
                   "the %s communicator moves device memory; options.device is RINGX_CPU: use RINGX_CUDA",
                   plan->comm->ops->name);
    return RINGX_OK;
}

/* The most bytes (padded) and blocks that one transfer of a schedule touches. */
static void largest_transfer(const ringx_schedule *s, size_t *bytes, size_t *messages)
{
    for (size_t i = 0; i < s->n_steps; i++) {
        const ringx_step *step = &s->steps[i];
        size_t sum = 0;
        for (uint32_t j = 0; j < step->operands && ringx__step_transfers(step); j++)
            sum += ((size_t)s->operands[step->operand + j].bytes + 127) / 128 * 128 + 128;
        *bytes = sum > *bytes ? sum : *bytes;
        *messages = step->operands > *messages ? step->operands : *messages;
    }
}

/* A device's memory is served directly (by the ranks that reach it, once a workspace is attached), or staged through
 * the host. */
static ringx_status connect_data(ringx_plan *plan)
{
    size_t bytes = 0, messages = 0;
    plan->data = plan->comm;
    if (plan->device->device == RINGX_CPU || plan->comm->ranks == 1)
        return RINGX_OK;
    largest_transfer(&plan->forward.schedule, &bytes, &messages);
    largest_transfer(&plan->backward.schedule, &bytes, &messages);
    if (!plan->comm->ops->device_memory) {
        RINGX_TRY(ringx__comm_staged(plan->comm, plan->device, bytes, messages, &plan->staged));
        plan->data = plan->staged;
    }
    if (!plan->device->peer || !plan->rowops->add_far)
        return RINGX_OK;
    ringx_comm *peer;
    RINGX_TRY(ringx__comm_peer(plan->data, plan->comm, plan->device, plan->rowops->add_far, messages, &peer));
    plan->data = peer;
    plan->peer = true;
    return RINGX_OK;
}

static ringx_status prepare(ringx_plan *plan, const ringx_options *o)
{
    plan->device = ringx__device(o->device);
    plan->stream = o->stream;
    plan->rowops = ringx__rowops(o->device);
    if (!plan->rowops)
        RINGX_FAIL(RINGX_UNSUPPORTED, "this build has no row operations for the device");
    RINGX_TRY(ringx__program_prepare(&plan->forward, o->timeline));
    if (!plan->forward_only)
        RINGX_TRY(ringx__program_prepare(&plan->backward, o->timeline));
    RINGX_TRY(connect_data(plan));
    if (plan->rowops->prepare)
        RINGX_TRY(plan->rowops->prepare(&plan->shape));
    if (plan->choice.kernel->prepare)
        RINGX_TRY(plan->choice.kernel->prepare(&plan->shape));
    size_t forward = plan->forward.schedule.n_steps, backward = plan->backward.schedule.n_steps;
    return plan->device->lanes_create(&plan->lanes, o->stream, plan->one_lane, forward > backward ? forward : backward,
                                      o->timeline);
}

/* options.timeout, else RINGX_TIMEOUT, else the default; the same where that is wrong, so that ranks can still agree.
 */
static ringx_status read_timeout(const ringx_options *o, double *seconds)
{
    const char *text = getenv("RINGX_TIMEOUT");
    char *end = NULL;
    *seconds = DEFAULT_TIMEOUT_S;
    if (o->timeout > 0 && isfinite(o->timeout))
        *seconds = o->timeout;
    if (o->timeout != 0 || !text)
        return RINGX_OK;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0) || isinf(value))
        RINGX_FAIL(RINGX_INVALID, "RINGX_TIMEOUT is '%s'; it must be a number of seconds > 0", text);
    *seconds = value;
    return RINGX_OK;
}

static ringx_status create(ringx_plan *plan, const ringx_problem *problem, const ringx_options *o, ringx_status status)
{
    int per_node = 1;
    if (status == RINGX_OK)
        status = validate(plan, problem, o);
    RINGX_TRY(agree_arguments(plan, problem, o, status));
    plan->forward_only = o->forward_only;
    plan->deterministic = o->deterministic;
    plan->one_lane = !plan->comm->ops->overlaps || plan->comm->ranks == 1;
    if (!o->ranks_per_node)
        RINGX_TRY(discover_nodes(plan, &per_node));
    status = ringx__choose(&plan->choice, o, &plan->shape, plan->comm->ranks, per_node, false);
    RINGX_TRY(agree_status(plan, status, 0, NULL));
    plan->local_tokens = ringx__layout_count(&plan->choice.layout, plan->comm->rank);
    RINGX_TRY(build_within_limit(plan, o));
    RINGX_TRY(agree_schedule(plan, prepare(plan, o)));
    return split_groups(plan);
}

ringx_status ringx_plan_create(ringx_plan **plan, const ringx_problem *problem, const ringx_options *options,
                               ringx_comm *comm)
{
    const ringx_options defaults = RINGX_OPTIONS_INIT;
    if (plan)
        *plan = NULL;
    if (!comm)
        RINGX_FAIL(RINGX_INVALID, "comm is NULL; ringx_comm_self makes one for a single rank");
    ringx_plan *new = calloc(1, sizeof *new);
    if (!new)
        return ringx__tell(comm, ringx__fail(RINGX_NO_MEMORY, "no memory for %zu bytes of a plan", sizeof *new));
    new->comm = comm;
    if (!options)
        options = &defaults;
    ringx_status status = read_timeout(options->size == sizeof *options ? options : &defaults, &new->deadline_s);
    if (!plan) /* the other ranks hear of it in the first agreement */
        status = ringx__fail(RINGX_INVALID, "plan is NULL; it must point to a ringx_plan pointer");
    status = create(new, problem, options, status);
    if (status != RINGX_OK) {
        ringx_plan_destroy(new);
        return status;
    }
    *plan = new;
    return RINGX_OK;
}

void ringx_plan_destroy(ringx_plan *plan)
{
    if (!plan)
        return;
    for (int i = 0; i < plan->n_groups; i++)
        plan->data->ops->group_destroy(plan->data, plan->groups[i]);
    if (plan->peer) /* frees a lane's stream from waits that nobody will end */
        plan->data->ops->destroy(plan->data);
    if (plan->staged)
        plan->staged->ops->destroy(plan->staged);
    if (plan->device)
        plan->device->lanes_destroy(plan->lanes);
    ringx__program_free(&plan->forward);
    ringx__program_free(&plan->backward);
    ringx__shape_destroy(&plan->shape);
    free(plan);
}

/* ---- attach ---- */

static ringx_status check_workspace(const ringx_plan *plan, const void *workspace)
{
    if (plan->workspace_bytes && (!workspace || (uintptr_t)workspace % 128))
        RINGX_FAIL(RINGX_INVALID, "workspace is %p; it must be %zu bytes aligned to 128", workspace,
                   plan->workspace_bytes);
    return plan->workspace_bytes ? plan->device->usable("workspace", workspace) : RINGX_OK;
}

/* The transfers of a pass, in order: what they send is noted. */
static ringx_status record(ringx_plan *plan, ringx_program *program, int pass)
{
    const ringx_schedule *s = &program->schedule;
    ringx_execution e = {.plan = plan, .program = program};
    RINGX_TRY(ringx__peer_begin(plan->data, pass));
    for (size_t i = 0; i < s->lane_count[RINGX_COMM_LANE]; i++) {
        uint32_t step = s->lane_step[RINGX_COMM_LANE][i];
        if (ringx__step_transfers(&s->steps[step]))
            RINGX_TRY(ringx__step_transfer(&e, step, NULL));
    }
    return RINGX_OK;
}

static ringx_status attach(ringx_plan *plan, void *workspace)
{
    ringx_args args = {.size = sizeof args, .workspace = workspace, .workspace_bytes = plan->workspace_bytes};
    ringx_call call = {.what = attach_call, .deadline_s = plan->deadline_s};
    RINGX_TRY(ringx__peer_open(plan->data, plan->workspace_bytes ? workspace : NULL, &call));
    plan->args = &args;
    ringx_status status = record(plan, &plan->forward, 0);
    if (status == RINGX_OK && !plan->forward_only)
        status = record(plan, &plan->backward, 1);
    plan->args = NULL;
    if (status != RINGX_OK)
        return ringx__tell(plan->comm, status);
    return ringx__peer_attach(plan->data, &call);
}

ringx_status ringx_plan_attach(ringx_plan *plan, void *workspace)
{
    if (!plan)
        RINGX_FAIL(RINGX_INVALID, "plan is NULL; ringx_plan_create makes one");
    ringx_status status = check_workspace(plan, workspace);
    RINGX_TRY(ringx__agree_status(plan->comm, status, attach_call, plan->deadline_s, 0, NULL));
    if (plan->peer)
        RINGX_TRY(attach(plan, workspace));
    plan->attached = workspace;
    return RINGX_OK;
}

/* ---- questions ---- */

void ringx_plan_describe(const ringx_plan *plan, ringx_plan_info *info)
{
    const ringx_choice *c = &plan->choice;
    *info = (ringx_plan_info){.preset = c->preset,
                              .algorithm = c->algo->name,
                              .layout = ringx__layout_name(c->layout.id),
                              .kernel = c->kernel->name,
                              .transport = plan->peer && ringx__peer_reaches(plan->data) ? plan->data->ops->name
                                                                                         : plan->comm->ops->name,
                              .rank = plan->comm->rank,
                              .ranks = plan->comm->ranks,
                              .lookahead = c->lookahead,
                              .slices = c->slices,
                              .head_ranks = c->head_ranks,
                              .ranks_per_node = c->ranks_per_node,
                              .threads = c->threads,
                              .local_tokens = plan->local_tokens,
                              .workspace_bytes = plan->workspace_bytes,
                              .forward = plan->forward.traffic,
                              .backward = plan->backward.traffic};
}

size_t ringx_plan_workspace(const ringx_plan *plan)
{
    return plan->workspace_bytes;
}

int64_t ringx_plan_local_tokens(const ringx_plan *plan)
{
    return plan->local_tokens;
}

void ringx_plan_timing(const ringx_plan *plan, ringx_timing *forward, ringx_timing *backward)
{
    if (forward)
        *forward = plan->forward.timing;
    if (backward)
        *backward = plan->backward.timing;
}
