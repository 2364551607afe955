/* SPDX-License-Identifier: MIT */
/* From options to a choice: preset rows, overrides, slices, "auto" by forecast. */
#include "api/choose.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "core/names.h"
#include "api/all_ranks.h"
#include "comm/peer.h"
#include "schedule/readers.h"

/* Key runs that every CUDA kernel takes in one launch. */
enum { MOST_JOINED_RUNS = 24 };

static const char *kernel_name(size_t i)
{
    const ringx_kernel *kernel = ringx__kernel_at(i);
    return kernel ? kernel->name : NULL;
}

static ringx_status check_numbers(const ringx_options *o, const ringx_shape *shape, int ranks)
{
    if (o->lookahead < -1 || o->lookahead > 8)
        RINGX_FAIL(RINGX_INVALID, "lookahead is %d; it must be -1 (the preset's) or 0 … 8", o->lookahead);
    if (o->slices < 0 || o->slices > shape->kv_heads)
        RINGX_FAIL(RINGX_INVALID, "slices is %d; it must be 0 (chosen) or 1 … kv_heads = %lld", o->slices,
                   (long long)shape->kv_heads);
    if (o->head_ranks < 0 || (o->head_ranks > 0 && ranks % o->head_ranks))
        RINGX_FAIL(RINGX_INVALID, "head_ranks is %d; it must be 0 (chosen) or a divisor of the %d ranks", o->head_ranks,
                   ranks);
    if (o->ranks_per_node < 0)
        RINGX_FAIL(RINGX_INVALID, "ranks_per_node is %d; it must be >= 0 (0: discovered)", o->ranks_per_node);
    if (o->ranks_per_node > 0 && o->ranks_per_node < ranks && ranks % o->ranks_per_node)
        RINGX_FAIL(RINGX_INVALID, "ranks_per_node is %d; it must be a divisor of the %d ranks", o->ranks_per_node,
                   ranks);
    if (o->threads < 0)
        RINGX_FAIL(RINGX_INVALID, "threads is %d; it must be >= 0 (0: OpenMP's default)", o->threads);
    if (!(o->timeout >= 0) || isinf(o->timeout))
        RINGX_FAIL(RINGX_INVALID, "timeout is %g s; it must be finite and >= 0 (0: RINGX_TIMEOUT, else 300)",
                   o->timeout);
    if ((unsigned)o->wire > RINGX_F16)
        RINGX_FAIL(RINGX_INVALID, "wire is %d; it must be RINGX_F32, RINGX_BF16 or RINGX_F16", (int)o->wire);
    return RINGX_OK;
}

/* On paper a device that this machine has not is as good as any. */
static bool can_run(const ringx_kernel *kernel, bool paper)
{
    const ringx_device_ops *device = ringx__device(kernel->device);
    return kernel->available() || (paper && device && device->available() != RINGX_OK);
}

static ringx_status find_kernel(const ringx_options *o, const ringx_shape *shape, bool paper,
                                const ringx_kernel **found)
{
    if (o->kernel) {
        size_t i;
        RINGX_TRY(ringx__name_find("kernel", o->kernel, kernel_name, &i));
        *found = ringx__kernel_at(i);
        if ((*found)->device != o->device)
            RINGX_FAIL(RINGX_INVALID, "kernel '%s' is for another device than the one asked for", o->kernel);
        if (!can_run(*found, paper))
            RINGX_FAIL(RINGX_UNSUPPORTED, "kernel '%s' cannot run on this machine", o->kernel);
        if (!(*found)->supports(shape))
            RINGX_FAIL(RINGX_UNSUPPORTED, "kernel '%s' cannot do %s, head_dim %lld, value_dim %lld", o->kernel,
                       ringx__dtype_name(shape->dtype), (long long)shape->head_dim, (long long)shape->value_dim);
        return RINGX_OK;
    }
    for (size_t i = 0; (*found = ringx__kernel_at(i)); i++)
        if ((*found)->device == o->device && can_run(*found, paper) && (*found)->supports(shape))
            return RINGX_OK;
    RINGX_FAIL(RINGX_UNSUPPORTED, "no kernel for %s, head_dim %lld, value_dim %lld on this device",
               ringx__dtype_name(shape->dtype), (long long)shape->head_dim, (long long)shape->value_dim);
}

ringx_status ringx__options_check(const ringx_options *o, const ringx_shape *shape, int ranks, bool paper)
{
    if (o->size != sizeof *o)
        RINGX_FAIL(RINGX_INVALID, "options.size is %zu; it must be sizeof(ringx_options) = %zu: use RINGX_OPTIONS_INIT",
                   o->size, sizeof *o);
    const ringx_kernel *kernel;
    const ringx_device_ops *device = ringx__device(o->device);
    size_t preset;
    ringx_layout_id layout;
    const ringx_algo *algo;
    RINGX_TRY(check_numbers(o, shape, ranks));
    if (!device)
        RINGX_FAIL(RINGX_UNSUPPORTED, "device %d is not in this build; 0 is the CPU", (int)o->device);
    if (!paper)
        RINGX_TRY(device->available());
    if (o->preset && strcmp(o->preset, "auto") != 0)
        RINGX_TRY(ringx_preset_find(o->preset, &preset));
    if (o->algorithm)
        RINGX_TRY(ringx__algo_find(o->algorithm, &algo));
    if (o->layout)
        RINGX_TRY(ringx__layout_find(o->layout, &layout));
    return find_kernel(o, shape, paper, &kernel);
}

/* ---- one preset ---- */

/* Ulysses degree: all ranks, or for a node-aware preset the largest divisor of the ranks that fits a node and the kv
 * heads (so that K,V are not copied), at least 2 if it can be. */
static int choose_head_ranks(const ringx_shape *shape, int ranks, int node_ranks, bool node_aware)
{
    if (!node_aware)
        return ranks;
    int best = 1;
    for (int n = 2; n <= ranks; n++)
        if (ranks % n == 0 && (best == 1 || (n <= shape->kv_heads && (node_ranks <= 1 || n <= node_ranks))))
            best = n;
    return best;
}

/* Between two GPUs a gather, two broadcasts and a ring's hop are the same, and K,V are less than Q and its states. */
static bool one_hop(const ringx_choice *c)
{
    static const char *const names[] = {"kvgather", "kvbcast", "ring"};
    bool any = ringx__choice_is(c, "qbcast") && c->lookahead > 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        any = any || ringx__choice_is(c, names[i]);
    return any && c->joined && c->layout.ranks == 2;
}

/* Has a rank room for the keys of all others, who send them straight to it?  Over a network a gather sends less. */
static bool gathers_keys(const ringx_choice *c)
{
    const int ranks = c->layout.ranks;
    bool all = ringx__choice_is(c, "kvgather") && c->joined && ranks > 2 && c->ranks_per_node == ranks;
    return c->lookahead > 0 && (one_hop(c) || all);
}

static ringx_status choose_preset(ringx_choice *c, const ringx_options *o, const ringx_shape *shape, int ranks,
                                  int node_ranks, const ringx_preset_entry *preset)
{
    ringx_layout_id layout;
    RINGX_TRY(ringx__algo_find(o->algorithm ? o->algorithm : preset->algorithm, &c->algo));
    RINGX_TRY(ringx__layout_find(o->layout ? o->layout : preset->layout, &layout));
    bool custom = (o->algorithm && strcmp(o->algorithm, preset->algorithm) != 0) ||
                  (o->layout && strcmp(o->layout, preset->layout) != 0) ||
                  (o->lookahead >= 0 && o->lookahead != preset->lookahead);
    int per = o->ranks_per_node ? o->ranks_per_node : node_ranks;
    c->preset = custom ? "custom" : preset->name;
    c->layout = (ringx_layout){.id = layout, .ranks = ranks, .tokens = shape->tokens};
    c->lookahead = o->lookahead >= 0 ? o->lookahead : preset->lookahead;
    c->ranks_per_node = per >= 1 && per <= ranks && ranks % per == 0 ? per : 1;
    c->two_level =
        preset->two_level && ringx__choice_is(c, "kvgather") && c->ranks_per_node > 1 && c->ranks_per_node < ranks;
    c->head_ranks = 1;
    c->joined = c->kernel->device != RINGX_CPU && ranks * RINGX_MAX_RUNS <= MOST_JOINED_RUNS;
    c->awaits =
        c->kernel->awaits_keys && gathers_keys(c) && o->workspace_limit == 0 && o->slices <= ringx__most_awaited(ranks);
    c->early = c->kernel->tells_keys && one_hop(c) && c->lookahead > 0 && c->wire == RINGX_F32 && !o->deterministic;
    if (ringx__choice_is(c, "headswap"))
        c->head_ranks =
            o->head_ranks ? o->head_ranks : choose_head_ranks(shape, ranks, c->ranks_per_node, preset->two_level);
    ringx__choose_slices(c, o, shape, ranks);
    return RINGX_OK;
}

/* ---- auto ---- */

static ringx_status forecast_choice(const ringx_choice *c, const ringx_options *o, const ringx_shape *shape, int ranks,
                                    const ringx_machine *machine, double *seconds)
{
    *seconds = 0;
    for (int backward = 0; backward <= !o->forward_only; backward++) {
        ringx_all_ranks all;
        ringx_forecast forecast;
        RINGX_TRY(ringx__all_ranks_build(&all, c, shape, ranks, backward != 0));
        ringx_status status = ringx__forecast(all.list, ranks, machine, &forecast, NULL);
        ringx__all_ranks_free(&all);
        RINGX_TRY(status);
        *seconds += forecast.seconds;
    }
    return RINGX_OK;
}

/* The preset with the least forecast time; the first of equals. */
static ringx_status choose_auto(ringx_choice *best, const ringx_options *o, const ringx_shape *shape, int ranks,
                                int node_ranks)
{
    ringx_machine machine;
    RINGX_TRY(ringx__machine_load(&machine, o->machine));
    double least = INFINITY;
    ringx_status status = RINGX_OK;
    for (size_t i = 0; ringx_preset_at(i) && status == RINGX_OK; i++) {
        ringx_choice c = *best;
        double seconds;
        status = choose_preset(&c, o, shape, ranks, node_ranks, ringx_preset_at(i));
        if (status == RINGX_OK)
            status = forecast_choice(&c, o, shape, ranks, &machine, &seconds);
        if (status == RINGX_OK && seconds < least) {
            least = seconds;
            *best = c;
        }
    }
    return status;
}

ringx_status ringx__choose(ringx_choice *c, const ringx_options *o, const ringx_shape *shape, int ranks, int node_ranks,
                           bool paper)
{
    memset(c, 0, sizeof *c);
    RINGX_TRY(find_kernel(o, shape, paper, &c->kernel));
    c->wire = o->wire;
    c->threads = o->threads ? o->threads : omp_get_max_threads();
    if (o->preset && strcmp(o->preset, "auto") != 0) {
        size_t i;
        RINGX_TRY(ringx_preset_find(o->preset, &i));
        return choose_preset(c, o, shape, ranks, node_ranks, ringx_preset_at(i));
    }
    return choose_auto(c, o, shape, ranks, node_ranks);
}

/* ---- what follows from a choice ---- */

ringx_geometry ringx__choice_geometry(const ringx_choice *c, const ringx_shape *shape, int rank)
{
    return (ringx_geometry){.rank = rank,
                            .ranks = c->layout.ranks,
                            .lookahead = c->lookahead,
                            .head_ranks = c->head_ranks,
                            .ranks_per_node = c->ranks_per_node,
                            .two_level = c->two_level,
                            .wire = c->wire,
                            .cut = c->backward,
                            .joined = c->joined,
                            .starts_keys = c->kernel->starts_keys,
                            .ends_keys = c->kernel->ends_keys,
                            .parts = ringx__headswap_parts(shape, c->head_ranks),
                            .shape = shape,
                            .layout = &c->layout};
}

ringx_status ringx__choice_schedule(ringx_schedule *schedule, const ringx_choice *c, const ringx_shape *shape, int rank,
                                    bool backward)
{
    ringx_geometry geometry = ringx__choice_geometry(c, shape, rank);
    geometry.cut = backward ? c->backward : c->forward;
    geometry.awaits = c->awaits && !backward;
    ringx_emit emit = backward ? c->algo->backward : c->algo->forward;
    if (c->layout.ranks == 1)
        emit = backward ? ringx__local_backward : ringx__local_forward;
    else if (geometry.awaits)
        emit = ringx__awaited_forward;
    else if (one_hop(c))
        emit = backward ? ringx__ring_backward : ringx__ring_forward;
    return ringx__schedule_build(schedule, emit, &geometry, backward);
}

/* Most heads and tokens in one attend or grad of a schedule. */
static void largest_job(const ringx_schedule *s, int64_t *q_heads, int64_t *kv_heads, int64_t *tokens)
{
    for (size_t i = 0; i < s->n_steps; i++) {
        const ringx_step *step = &s->steps[i];
        if (step->op != RINGX_ATTEND && step->op != RINGX_GRAD)
            continue;
        int64_t queries = 0, keys = 0;
        for (uint32_t j = 0; j < step->operands; j++) {
            const ringx_operand *o = &s->operands[step->operand + j];
            int64_t count = ringx__layout_count(s->geometry.layout, o->owner);
            if (o->kind == RINGX_Q || o->kind == RINGX_QDO) {
                queries += count;
                *q_heads = o->heads > *q_heads ? o->heads : *q_heads;
            } else if (o->kind == RINGX_KV) {
                keys += count;
                *kv_heads = o->heads > *kv_heads ? o->heads : *kv_heads;
            }
        }
        int64_t most = queries > keys ? queries : keys;
        *tokens = most > *tokens ? most : *tokens;
    }
    if (s->geometry.awaits && *tokens) { /* all slices may be one job */
        *q_heads = s->geometry.shape->q_heads;
        *kv_heads = s->geometry.shape->kv_heads;
    }
}

static size_t scratch_of(const ringx_choice *c, const ringx_shape *shape, const ringx_schedule *s)
{
    int64_t q_heads = 0, kv_heads = 0, tokens = 0;
    largest_job(s, &q_heads, &kv_heads, &tokens);
    return tokens ? c->kernel->scratch_bytes(shape, q_heads, kv_heads, tokens, c->threads, s->backward) : 0;
}

size_t ringx__choice_workspace(const ringx_choice *c, const ringx_shape *shape, const ringx_schedule *forward,
                               const ringx_schedule *backward, size_t *schedule_bytes)
{
    size_t schedule = forward->workspace_bytes, scratch = scratch_of(c, shape, forward);
    if (backward) {
        size_t more = scratch_of(c, shape, backward);
        scratch = more > scratch ? more : scratch;
        schedule = backward->workspace_bytes > schedule ? backward->workspace_bytes : schedule;
    }
    *schedule_bytes = schedule;
    return schedule + scratch;
}

ringx_traffic ringx__schedule_traffic(const ringx_schedule *s)
{
    ringx_traffic traffic = {.steps = s->n_steps, .slices = s->geometry.cut.slices};
    double area = 0;
    for (size_t i = 0; i < s->n_steps; i++) {
        traffic.wire_bytes += ringx__step_wire_bytes(s, &s->steps[i]);
        traffic.messages += ringx__step_transfers(&s->steps[i]);
        area += ringx__step_area(s, &s->steps[i]);
    }
    const ringx_shape *shape = s->geometry.shape;
    traffic.flops = 2.0 * (double)(shape->head_dim + shape->value_dim) * area * (s->backward ? 2.5 : 1.0);
    return traffic;
}
