/* SPDX-License-Identifier: MIT */
/* Costs of steps, in the α-β model (Hockney 1994): α latency, β seconds a byte.  V is the most that a member sends in
 * an ideal implementation (ringx__step_wire_bytes), n the members, m of them in each of k = n/m nodes.
 *
 *   broadcast, reduce           ⌈log2 k⌉·α_inter + ⌈log2 m⌉·α_intra + V·β   pipelined tree (Sanders, Speck, Träff 2009)
 *   all-gather, reduce-scatter  (k-1)·α_inter + (m-1)·α_intra + V·β         ring (Thakur, Rabenseifner, Gropp 2005)
 *   all-reduce of maxima        2·(as a reduce's latencies) + V·β           Rabenseifner: V = 2(n-1)/n of the bytes
 *   exchange                    α a message + max(sent, received)·β
 *
 * Within a node β is that of one rank's link; between nodes the bytes that enter a node come through its NICs, of which
 * a group with m members in a node has a share of m/(ranks a node); both proceed together, so the slower one counts. */
#include <math.h>
#include <stdlib.h>

#include "schedule/forecast.h"

static int node_of(const ringx_costs *c, int rank)
{
    return rank / c->per_node;
}

static double seconds(double bytes, double gbs)
{
    return bytes / (gbs * 1e9);
}

/* ---- making ---- */

static bool sends_across(const ringx_costs *c, const ringx_schedule *s)
{
    int node = node_of(c, s->geometry.rank);
    for (size_t i = 0; i < s->n_steps; i++)
        for (uint32_t j = 0; s->steps[i].op == RINGX_EXCHANGE && j < s->steps[i].operands; j++) {
            const ringx_operand *o = &s->operands[s->steps[i].operand + j];
            if (o->mode == RINGX_IN && o->bytes > 0 && node_of(c, o->peer) != node)
                return true;
        }
    return false;
}

ringx_status ringx__costs_create(ringx_costs *c, const ringx_schedule *const *schedules, int ranks,
                                 const ringx_machine *machine)
{
    int64_t per = machine->ranks_per_node;
    *c = (ringx_costs){.schedules = schedules, .ranks = ranks, .machine = machine};
    c->per_node = per > 0 && per < ranks ? (int)per : ranks;
    c->nodes = (ranks + c->per_node - 1) / c->per_node;
    c->crossing = calloc((size_t)c->nodes, sizeof *c->crossing);
    if (!c->crossing)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to forecast %d ranks", ranks);
    for (int rank = 0; c->nodes > 1 && rank < ranks; rank++)
        c->crossing[node_of(c, rank)] += sends_across(c, schedules[rank]);
    return RINGX_OK;
}

void ringx__costs_destroy(ringx_costs *c)
{
    free(c->crossing);
    free(c->memo);
}

/* ---- computation ---- */

static bool is_query(int kind)
{
    return kind == RINGX_Q || kind == RINGX_QDO;
}

/* Live pairs of all query owners × all key owners of a step, of one head and batch. */
static double owners_area(const ringx_schedule *s, const ringx_step *step)
{
    const ringx_operand *o = &s->operands[step->operand];
    double area = 0;
    for (uint32_t i = 0; i < step->operands; i++) {
        if (!is_query(o[i].kind))
            continue;
        ringx_run q[RINGX_MAX_RUNS], k[RINGX_MAX_RUNS];
        int nq = ringx__layout_runs(s->geometry.layout, o[i].owner, q);
        for (uint32_t j = 0; j < step->operands; j++) {
            if (o[j].kind != RINGX_KV)
                continue;
            int nk = ringx__layout_runs(s->geometry.layout, o[j].owner, k);
            for (int a = 0; a < nq; a++)
                for (int b = 0; b < nk; b++)
                    area += ringx__mask_area(&s->geometry.shape->mask, &q[a], &k[b]);
        }
    }
    return area;
}

static uint64_t owners_key(const ringx_schedule *s, const ringx_step *step)
{
    const ringx_operand *o = &s->operands[step->operand];
    uint64_t key = UINT64_C(0xCBF29CE484222325);
    for (uint32_t i = 0; i < step->operands; i++)
        if (is_query(o[i].kind) || o[i].kind == RINGX_KV) {
            key ^= (uint64_t)(uint32_t)o[i].owner << 1 | (o[i].kind == RINGX_KV);
            key *= UINT64_C(0x9E3779B97F4A7C15);
            key ^= key >> 29;
        }
    return key ? key : 1;
}

static ringx_area_memo *memo_place(ringx_area_memo *memo, size_t cap, uint64_t key)
{
    size_t at = (size_t)key & (cap - 1);
    while (memo[at].key && memo[at].key != key)
        at = (at + 1) & (cap - 1);
    return &memo[at];
}

static ringx_status grow_memo(ringx_costs *c)
{
    size_t cap = c->memo_cap ? c->memo_cap * 2 : 1024;
    ringx_area_memo *bigger = calloc(cap, sizeof *bigger);
    if (!bigger)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to forecast %d ranks", c->ranks);
    for (size_t i = 0; i < c->memo_cap; i++)
        if (c->memo[i].key)
            *memo_place(bigger, cap, c->memo[i].key) = c->memo[i];
    free(c->memo);
    c->memo = bigger;
    c->memo_cap = cap;
    return RINGX_OK;
}

/* Many ranks and slices attend the same owners: each set is looked at once. */
static ringx_status area_of(ringx_costs *c, const ringx_schedule *s, const ringx_step *step, double *area)
{
    if (2 * c->memo_count >= c->memo_cap)
        RINGX_TRY(grow_memo(c));
    ringx_area_memo *memo = memo_place(c->memo, c->memo_cap, owners_key(s, step));
    if (!memo->key) {
        *memo = (ringx_area_memo){owners_key(s, step), owners_area(s, step)};
        c->memo_count++;
    }
    *area = memo->area;
    return RINGX_OK;
}

/* area: live pairs of one head and batch.  Its root stands for the tokens of a square of the same work. */
static double attention_seconds(const ringx_costs *c, double area, double heads)
{
    const ringx_shape *shape = c->schedules[0]->geometry.shape;
    bool backward = c->schedules[0]->backward;
    double flops = 2.0 * (double)(shape->head_dim + shape->value_dim) * area * heads * (double)shape->batch;
    const ringx_rate *rate = backward ? &c->machine->backward : &c->machine->forward;
    const ringx_rate *by_dim = backward ? &c->machine->backward_by_dim : &c->machine->forward_by_dim;
    double speed = ringx__machine_rate(rate, sqrt(area)) * ringx__machine_share(by_dim, (double)shape->head_dim);
    return flops > 0 ? flops * (backward ? 2.5 : 1.0) / speed : 0;
}

double ringx__cost_whole(const ringx_costs *c)
{
    const ringx_shape *shape = c->schedules[0]->geometry.shape;
    ringx_run all = {.count = shape->tokens, .first = 0, .step = 1};
    return attention_seconds(c, ringx__mask_area(&shape->mask, &all, &all), (double)shape->q_heads) +
           c->machine->step_overhead_us * 1e-6;
}

/* Copies and row operations: every operand once through memory, twice if it is read and written. */
static double memory_seconds(const ringx_costs *c, const ringx_schedule *s, const ringx_step *step)
{
    double bytes = 0;
    for (uint32_t i = 0; i < step->operands; i++) {
        const ringx_operand *o = &s->operands[step->operand + i];
        int64_t tokens = ringx__layout_count(s->geometry.layout, o->owner);
        size_t block = ringx__block_bytes(s->geometry.shape, (ringx_kind)o->kind, tokens, o->heads);
        bytes += (double)block * (o->mode == RINGX_INOUT ? 2 : 1);
    }
    return seconds(bytes, c->machine->memory_gbs);
}

/* Of many ranks all steps count: to know for each takes longer than all else. */
static bool left_out(const ringx_schedule *s, uint32_t number)
{
    return s->geometry.joined && (ringx__clear_left_out(s, number) || ringx__store_left_out(s, number));
}

ringx_status ringx__cost_local(ringx_costs *c, int rank, uint32_t number, ringx_cost *cost)
{
    const ringx_schedule *s = c->schedules[rank];
    const ringx_step *step = &s->steps[number];
    *cost = (ringx_cost){0};
    if (left_out(s, number))
        return RINGX_OK;
    cost->work = c->machine->step_overhead_us * 1e-6;
    if (step->op != RINGX_ATTEND && step->op != RINGX_GRAD) {
        cost->work += memory_seconds(c, s, step);
        return RINGX_OK;
    }
    double area, heads = 0;
    RINGX_TRY(area_of(c, s, step, &area));
    for (uint32_t i = 0; i < step->operands && heads == 0; i++)
        heads = is_query(s->operands[step->operand + i].kind) ? s->operands[step->operand + i].heads : 0;
    cost->work += attention_seconds(c, area, heads);
    return RINGX_OK;
}

/* ---- communication ---- */

ringx_cost ringx__cost_exchange(const ringx_costs *c, int rank, uint32_t number)
{
    const ringx_schedule *s = c->schedules[rank];
    const ringx_machine *m = c->machine;
    double bytes[2][2] = {{0, 0}, {0, 0}}; /* [between nodes][received] */
    int messages[2][2] = {{0, 0}, {0, 0}};
    for (uint32_t i = 0; i < s->steps[number].operands; i++) {
        const ringx_operand *o = &s->operands[s->steps[number].operand + i];
        bool inter = node_of(c, o->peer) != node_of(c, rank), received = o->mode != RINGX_IN;
        bytes[inter][received] += (double)o->bytes;
        messages[inter][received] += o->bytes > 0;
    }
    double within = fmax(bytes[0][0], bytes[0][1]), between = fmax(bytes[1][0], bytes[1][1]);
    double latency = m->intra_latency_us * fmax(messages[0][0], messages[0][1]) +
                     m->inter_latency_us * fmax(messages[1][0], messages[1][1]);
    /* A rank uses one NIC, or its share where there are fewer NICs than ranks that send to other nodes. */
    double sharing = fmax(1, c->crossing[node_of(c, rank)]);
    double nic = m->inter_gbs * fmin(1, (double)m->nics_per_node / sharing);
    double moving = seconds(within, m->exchange_gbs > 0 ? m->exchange_gbs : m->intra_gbs);
    if (between > 0)
        moving = fmax(moving, seconds(between, nic));
    return (ringx_cost){.latency = latency * 1e-6, .work = m->step_overhead_us * 1e-6 + moving};
}

static double op_gbs(const ringx_machine *m, ringx_op op)
{
    double own = op == RINGX_BROADCAST        ? m->broadcast_gbs
                 : op == RINGX_ALLGATHER      ? m->allgather_gbs
                 : op == RINGX_REDUCE_SCATTER ? m->reduce_scatter_gbs
                                              : m->reduce_gbs;
    return own > 0 ? own : m->intra_gbs;
}

static int member_at(const ringx_action *a, int i)
{
    return a->members ? a->members[i] : i;
}

bool ringx__crosses_nodes(const ringx_costs *c, const ringx_action *a)
{
    return node_of(c, member_at(a, 0)) != node_of(c, member_at(a, a->count - 1));
}

ringx_cost ringx__cost_of_group(const ringx_machine *m, ringx_op op, int n, int together, int per_node, double volume)
{
    if (n < 2)
        return (ringx_cost){.work = m->step_overhead_us * 1e-6};
    double nodes = ceil((double)n / together);
    bool ring = op == RINGX_ALLGATHER || op == RINGX_REDUCE_SCATTER;
    double rounds = op == RINGX_ALLREDUCE_MAX ? 2 : 1;
    double intra_hops = ring ? together - 1 : rounds * ceil(log2(together));
    double inter_hops = ring ? nodes - 1 : rounds * ceil(log2(nodes));
    double moving = together > 1 ? seconds(volume, op_gbs(m, op)) : 0;
    if (nodes > 1) {
        double entering = ring ? volume * (n - together) / (n - 1) : volume;
        double share = m->inter_gbs * (double)m->nics_per_node * together / per_node;
        moving = fmax(moving, seconds(entering, share));
    }
    double latency = m->intra_latency_us * intra_hops + m->inter_latency_us * inter_hops;
    return (ringx_cost){.latency = latency * 1e-6, .work = m->step_overhead_us * 1e-6 + moving};
}

ringx_cost ringx__cost_collective(const ringx_costs *c, const ringx_action *a, const ringx_engine *engine)
{
    ringx_op op = c->schedules[a->rank]->steps[a->step].op;
    int first = node_of(c, member_at(a, 0)), together = 0;
    double volume = 0;
    for (int i = 0; i < a->count; i++) {
        int rank = member_at(a, i);
        const ringx_schedule *s = c->schedules[rank];
        uint32_t step = ringx__engine_at(engine, rank, RINGX_COMM_LANE);
        volume = fmax(volume, (double)ringx__step_wire_bytes(s, &s->steps[step]));
        together += node_of(c, rank) == first;
    }
    return ringx__cost_of_group(c->machine, op, a->count, together, c->per_node, volume);
}
