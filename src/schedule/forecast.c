/* SPDX-License-Identifier: MIT */
/* Discrete-event simulation of all ranks' schedules on a described machine.
 *
 * A step begins when its lane gets to it and its waits are over; a transfer moves once all its participants are there
 * and its latency is over, which costs nobody anything but time.
 * Steps run at full speed unless they compete: where a node has fewer cores than its computing and transferring ranks
 * keep busy, all of that node's steps slow down alike; and a rank that transfers computes slower by a given share.
 * Steps that slow down alike share a clock, which runs slower than time, so that a change of speed is O(1).
 * A kernel that awaits keys begins with the own ones: all of its work but the last owner's may go on before that one's
 * keys have come, which is little more than what it waits for owner by owner.
 * O(log(ranks)) a step. */
#include "schedule/forecast.h"

#include <math.h>
#include <stdlib.h>

#include "schedule/readers.h"

typedef struct ringx_clock { /* tasks by the clock's own time at which they end: a heap */
    double time, speed, at;  /* the clock's time and speed at real time `at` */
    double demand;           /* cores that are wanted */
    int32_t *heap;           /* tasks */
    int32_t count;
} ringx_clock;

typedef struct ringx_task { /* what a lane is doing: 2·rank + lane; a collective is its first member's */
    ringx_action action;
    double work;       /* seconds at full speed, after the latency */
    bool works;        /* the latency is over */
    double rest;       /* seconds of it that await what is under way */
    bool held;         /* it has not come */
    double since;      /* when that was found */
    double end, speed; /* in the clock's time */
    int32_t clock, place;
} ringx_task;

typedef struct ringx_simulation {
    ringx_costs costs;
    ringx_engine *engine;
    ringx_clock *clocks; /* 0: real time; 1 + node: the cores of a node */
    int n_clocks;
    ringx_task *tasks;  /* [rank][lane] */
    double *begin;      /* [rank][lane]: of the current step */
    double *busy;       /* [rank][lane] so far */
    double *ended;      /* [rank] */
    bool *transferring; /* [rank] */
    int running;        /* tasks */
    double now;
    ringx_stamp *const *stamps;
} simulation;

/* ---- heaps of tasks by end ---- */

static void put_at(simulation *s, ringx_clock *c, int32_t place, int32_t task)
{
    c->heap[place] = task;
    s->tasks[task].place = place;
}

/* Moves the task at a place to where it belongs. */
static void settle(simulation *s, ringx_clock *c, int32_t place)
{
    int32_t task = c->heap[place];
    double end = s->tasks[task].end;
    while (place > 0 && s->tasks[c->heap[(place - 1) / 2]].end > end) {
        put_at(s, c, place, c->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        int32_t child = 2 * place + 1;
        if (child + 1 < c->count && s->tasks[c->heap[child + 1]].end < s->tasks[c->heap[child]].end)
            child++;
        if (child >= c->count || s->tasks[c->heap[child]].end >= end)
            break;
        put_at(s, c, place, c->heap[child]);
        place = child;
    }
    put_at(s, c, place, task);
}

static void push(simulation *s, ringx_clock *c, int32_t task)
{
    put_at(s, c, c->count++, task);
    settle(s, c, c->count - 1);
}

static int32_t pop(simulation *s, ringx_clock *c)
{
    int32_t first = c->heap[0];
    if (--c->count > 0) {
        put_at(s, c, 0, c->heap[c->count]);
        settle(s, c, 0);
    }
    return first;
}

/* ---- clocks and speeds ---- */

static void advance(simulation *s, ringx_clock *c)
{
    c->time += (s->now - c->at) * c->speed;
    c->at = s->now;
}

/* The ranks of a node want more or fewer cores. */
static void demand(simulation *s, int rank, double cores)
{
    int64_t available = s->costs.machine->cores_per_node;
    if (available == 0)
        return;
    ringx_clock *c = &s->clocks[1 + rank / s->costs.per_node];
    advance(s, c);
    c->demand += cores;
    c->speed = c->demand > (double)available ? (double)available / c->demand : 1;
}

static double compute_speed(const simulation *s, int rank)
{
    return s->transferring[rank] ? 1 - s->costs.machine->compute_slowdown : 1;
}

/* A rank begins or ends a transfer: its computation goes on at another speed. */
static void set_transferring(simulation *s, int rank, bool on)
{
    demand(s, rank, on ? s->costs.machine->transfer_cores : -s->costs.machine->transfer_cores);
    s->transferring[rank] = on;
    ringx_task *task = &s->tasks[rank * RINGX_LANES + RINGX_COMPUTE_LANE];
    if (task->place < 0 || s->costs.machine->compute_slowdown == 0)
        return;
    ringx_clock *c = &s->clocks[task->clock];
    double speed = compute_speed(s, rank);
    advance(s, c);
    task->end = c->time + (task->end - c->time) * task->speed / speed;
    task->speed = speed;
    settle(s, c, task->place);
}

/* ---- tasks ---- */

static int member_at(const ringx_action *a, int i)
{
    return a->kind != RINGX_COLLECTIVE ? a->rank : a->members ? a->members[i] : i;
}

static int members(const ringx_action *a)
{
    return a->kind == RINGX_COLLECTIVE ? a->count : 1;
}

/* Puts a task on a clock, for so many seconds at full speed. */
static void run(simulation *s, int32_t index, int32_t clock, double seconds)
{
    ringx_clock *c = &s->clocks[clock];
    ringx_task *task = &s->tasks[index];
    advance(s, c);
    task->end = c->time + seconds / task->speed;
    task->clock = clock;
    push(s, c, index);
}

/* The part of a task that keeps cores busy. */
static void work(simulation *s, int32_t index)
{
    ringx_task *task = &s->tasks[index];
    const ringx_action *a = &task->action;
    bool crosses = a->kind == RINGX_COLLECTIVE && ringx__crosses_nodes(&s->costs, a);
    int rank = member_at(a, 0);
    double seconds = task->work;
    task->works = true;
    task->speed = 1;
    if (a->lane == RINGX_COMPUTE_LANE) {
        demand(s, a->rank, (double)s->costs.machine->threads_per_rank);
        task->speed = compute_speed(s, a->rank);
    } else {
        for (int i = 0; i < members(a); i++)
            set_transferring(s, member_at(a, i), true);
    }
    run(s, index, s->n_clocks > 1 && !crosses ? 1 + rank / s->costs.per_node : 0, seconds);
}

/* ---- kernels that await keys ---- */

static bool awaits(const simulation *s, int rank, uint32_t step)
{
    const ringx_schedule *schedule = s->costs.schedules[rank];
    return schedule->geometry.awaits && schedule->steps[step].op == RINGX_ATTEND;
}

/* Their own keys are there: a slice's exchanges with all others may be under way. */
static uint32_t wait_to_begin(void *context, int rank, uint32_t step)
{
    const simulation *s = context;
    uint32_t wait = s->costs.schedules[rank]->steps[step].wait, others = (uint32_t)s->costs.ranks - 1;
    return awaits(s, rank, step) ? (wait > others ? wait - others : 0) : wait;
}

/* The last keys' part of a task's work waits, if they have not come; else it is not over yet either. */
static bool goes_on(simulation *s, int32_t index)
{
    ringx_task *task = &s->tasks[index];
    const ringx_action *a = &task->action;
    if (task->rest == 0)
        return false;
    task->held =
        ringx__engine_steps(s->engine, a->rank, RINGX_COMM_LANE) < s->costs.schedules[a->rank]->steps[a->step].wait;
    if (!task->held) {
        run(s, index, task->clock, task->rest);
        task->rest = 0;
    }
    return true;
}

/* A rank's transfer has ended: what it computes may have waited for that. */
static void let_go(simulation *s, int rank)
{
    int32_t index = rank * RINGX_LANES + RINGX_COMPUTE_LANE;
    ringx_task *task = &s->tasks[index];
    if (!task->held)
        return;
    task->speed = compute_speed(s, rank);
    if (goes_on(s, index) && !task->held)
        s->busy[index] -= s->now - task->since;
}

static ringx_status start(simulation *s, const ringx_action *a)
{
    ringx_cost cost;
    if (a->kind == RINGX_LOCAL)
        RINGX_TRY(ringx__cost_local(&s->costs, a->rank, a->step, &cost));
    else if (a->kind == RINGX_EXCHANGED)
        cost = ringx__cost_exchange(&s->costs, a->rank, a->step);
    else
        cost = ringx__cost_collective(&s->costs, a, s->engine);
    int32_t index = member_at(a, 0) * RINGX_LANES + a->lane;
    double rest = a->kind == RINGX_LOCAL && awaits(s, a->rank, a->step) ? cost.work / s->costs.ranks : 0;
    s->tasks[index] = (ringx_task){.action = *a, .work = cost.work - rest, .rest = rest, .speed = 1, .place = -1};
    if (cost.latency > 0)
        run(s, index, 0, cost.latency);
    else
        work(s, index);
    s->running++;
    return RINGX_OK;
}

static void end(simulation *s, const ringx_task *task)
{
    const ringx_action *a = &task->action;
    if (a->lane == RINGX_COMPUTE_LANE)
        demand(s, a->rank, -(double)s->costs.machine->threads_per_rank);
    for (int i = 0; i < members(a); i++) {
        int rank = member_at(a, i), lane = rank * RINGX_LANES + a->lane;
        if (a->lane == RINGX_COMM_LANE)
            set_transferring(s, rank, false);
        uint32_t step = ringx__engine_at(s->engine, rank, a->lane);
        if (s->stamps && s->stamps[rank])
            s->stamps[rank][step] = (ringx_stamp){s->begin[lane], s->now};
        s->busy[lane] += s->now - s->begin[lane];
        s->ended[rank] = s->now;
        ringx__engine_done(s->engine, rank, a->lane);
        if (a->lane == RINGX_COMM_LANE)
            let_go(s, rank);
    }
    s->running--;
}

/* Goes to the earliest end of all tasks. */
static void end_next(simulation *s)
{
    double earliest = INFINITY;
    ringx_clock *which = s->clocks;
    for (int i = 0; i < s->n_clocks; i++) {
        ringx_clock *c = &s->clocks[i];
        if (c->count == 0)
            continue;
        double when = c->at + (s->tasks[c->heap[0]].end - c->time) / c->speed;
        if (when < earliest) {
            earliest = when;
            which = c;
        }
    }
    s->now = fmax(s->now, earliest);
    ringx_task *task = &s->tasks[pop(s, which)];
    task->place = -1;
    int32_t index = (int32_t)(task - s->tasks);
    if (!task->works) {
        work(s, index);
        return;
    }
    if (goes_on(s, index)) {
        task->since = s->now;
        return;
    }
    ringx_task ended = *task;
    end(s, &ended);
}

static void started(void *context, int rank, int lane, uint32_t step)
{
    simulation *s = context;
    (void)step;
    s->begin[rank * RINGX_LANES + lane] = s->now;
}

static ringx_status simulate(simulation *s)
{
    for (;;) {
        ringx_action action;
        RINGX_TRY(ringx__engine_next(s->engine, &action));
        if (action.kind != RINGX_NOTHING)
            RINGX_TRY(start(s, &action));
        else if (s->running > 0)
            end_next(s);
        else
            return ringx__engine_finished(s->engine);
    }
}

/* ---- making and reporting ---- */

static void free_simulation(simulation *s)
{
    ringx__engine_destroy(s->engine);
    ringx__costs_destroy(&s->costs);
    for (int i = 0; s->clocks && i < s->n_clocks; i++)
        free(s->clocks[i].heap);
    free(s->clocks);
    free(s->tasks);
    free(s->begin);
    free(s->busy);
    free(s->ended);
    free(s->transferring);
}

static ringx_status make_simulation(simulation *s, int ranks)
{
    size_t n = (size_t)ranks, lanes = n * RINGX_LANES;
    s->n_clocks = s->costs.machine->cores_per_node > 0 ? 1 + s->costs.nodes : 1;
    s->clocks = calloc((size_t)s->n_clocks, sizeof *s->clocks);
    s->tasks = calloc(lanes, sizeof *s->tasks);
    s->begin = calloc(lanes, sizeof *s->begin);
    s->busy = calloc(lanes, sizeof *s->busy);
    s->ended = calloc(n, sizeof *s->ended);
    s->transferring = calloc(n, sizeof *s->transferring);
    bool room = s->clocks && s->tasks && s->begin && s->busy && s->ended && s->transferring;
    for (int i = 0; room && i < s->n_clocks; i++) {
        size_t most = i == 0 ? lanes : (size_t)s->costs.per_node * RINGX_LANES;
        s->clocks[i] = (ringx_clock){.speed = 1, .heap = calloc(most, sizeof *s->clocks[i].heap)};
        room = s->clocks[i].heap;
    }
    if (!room)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory to forecast %d ranks", ranks);
    for (size_t i = 0; i < lanes; i++)
        s->tasks[i].place = -1;
    return RINGX_OK;
}

static double compute_busy(const simulation *s, int rank)
{
    return s->busy[rank * RINGX_LANES + RINGX_COMPUTE_LANE];
}

/* Where a collective ends several ranks at once, the one that computes most is the slowest. */
static void report(const simulation *s, ringx_forecast *f)
{
    int slowest = 0;
    for (int rank = 0; rank < s->costs.ranks; rank++) {
        const ringx_schedule *schedule = s->costs.schedules[rank];
        uint64_t bytes = 0, messages = 0;
        for (size_t i = 0; i < schedule->n_steps; i++) {
            const ringx_step *step = &schedule->steps[i];
            bytes += ringx__step_wire_bytes(schedule, step);
            messages += ringx__step_transfers(step);
        }
        f->wire_bytes = bytes > f->wire_bytes ? bytes : f->wire_bytes;
        f->messages = messages > f->messages ? messages : f->messages;
        if (schedule->workspace_bytes > f->workspace_bytes)
            f->workspace_bytes = schedule->workspace_bytes;
        if (s->ended[rank] > s->ended[slowest] ||
            (s->ended[rank] == s->ended[slowest] && compute_busy(s, rank) > compute_busy(s, slowest)))
            slowest = rank;
    }
    f->seconds = s->ended[slowest];
    f->compute_s = compute_busy(s, slowest);
    f->transfer_s = s->busy[slowest * RINGX_LANES + RINGX_COMM_LANE];
    f->exposed_s = fmax(0, f->seconds - f->compute_s);
    f->efficiency = f->seconds > 0 ? ringx__cost_whole(&s->costs) / s->costs.ranks / f->seconds : 1;
}

ringx_status ringx__forecast(const ringx_schedule *const *schedules, int ranks, const ringx_machine *machine,
                             ringx_forecast *forecast, ringx_stamp *const *stamps)
{
    *forecast = (ringx_forecast){.seconds = 0};
    if (ranks < 1)
        RINGX_FAIL(RINGX_INVALID, "ranks is %d; it must be at least 1", ranks);
    simulation s = {.stamps = stamps};
    ringx_engine_client client = {.context = &s, .wait = wait_to_begin, .started = started};
    ringx_status status = ringx__costs_create(&s.costs, schedules, ranks, machine);
    if (status == RINGX_OK)
        status = make_simulation(&s, ranks);
    if (status == RINGX_OK)
        status = ringx__engine_create(&s.engine, schedules, ranks, &client);
    if (status == RINGX_OK)
        status = simulate(&s);
    if (status == RINGX_OK)
        report(&s, forecast);
    free_simulation(&s);
    return status;
}
