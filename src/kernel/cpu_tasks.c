/* SPDX-License-Identifier: MIT */
/* Cutting jobs into pieces of work. */
#include "kernel/cpu_tasks.h"

#define WIDE_CHUNK 4  /* units after which a longer chunk gains nothing */
#define WANTED     16 /* chunks to aim at while they are narrower than that */

static int64_t round_up_divide(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

ringx_range ringx__members(const ringx_run *run, ringx_interval interval)
{
    int64_t lo = interval.lo - run->first, hi = interval.hi - run->first;
    int64_t begin = lo <= 0 ? 0 : round_up_divide(lo, run->step), end = hi <= 0 ? 0 : round_up_divide(hi, run->step);
    end = clamp(end, 0, run->count);
    return begin < end ? (ringx_range){begin, end} : (ringx_range){0, 0};
}

int ringx__useful_threads(const ringx_job *job)
{
    const double worth = 5e5; /* multiply-adds: some ten microseconds */
    double queries = 0, keys = 0;
    for (size_t i = 0; i < job->queries; i++)
        queries += (double)job->query[i].run.count;
    for (size_t i = 0; i < job->keys; i++)
        keys += (double)job->key[i].run.count;
    double work = queries * keys * (double)(job->shape->head_dim + job->shape->value_dim);
    work *= (double)job->shape->batch * (double)job->q_heads;
    return work / worth >= (double)job->threads ? job->threads : 1 + (int)(work / worth);
}

static int64_t chunks_of(int64_t units)
{
    int64_t wide = clamp(round_up_divide(units, WANTED), 1, WIDE_CHUNK);
    if (wide < round_up_divide(units, RINGX_MAX_CHUNKS))
        wide = round_up_divide(units, RINGX_MAX_CHUNKS);
    return round_up_divide(units, wide);
}

ringx_grid ringx__grid(const ringx_job *job)
{
    ringx_grid grid = {0};
    for (size_t i = 0; i < job->queries; i++)
        grid.query_units += round_up_divide(job->query[i].run.count, RINGX_UNIT);
    for (size_t i = 0; i < job->keys; i++)
        grid.key_units += round_up_divide(job->key[i].run.count, RINGX_UNIT);
    grid.query_chunks = chunks_of(grid.query_units);
    grid.key_chunks = chunks_of(grid.key_units);
    return grid;
}

ringx_range ringx__chunk(int64_t units, int64_t chunks, int64_t c)
{
    return (ringx_range){units * c / chunks, units * (c + 1) / chunks};
}

static ringx_piece piece_of(size_t slice, int64_t count, int64_t unit)
{
    int64_t begin = unit * RINGX_UNIT;
    return (ringx_piece){slice, begin, clamp(begin + RINGX_UNIT, 0, count)};
}

ringx_piece ringx__query_unit(const ringx_job *job, int64_t unit)
{
    size_t i = 0;
    for (int64_t here; unit >= (here = round_up_divide(job->query[i].run.count, RINGX_UNIT)); i++)
        unit -= here;
    return piece_of(i, job->query[i].run.count, unit);
}

ringx_piece ringx__key_unit(const ringx_job *job, int64_t unit)
{
    size_t i = 0;
    for (int64_t here; unit >= (here = round_up_divide(job->key[i].run.count, RINGX_UNIT)); i++)
        unit -= here;
    return piece_of(i, job->key[i].run.count, unit);
}

bool ringx__pieces_live(const ringx_job *job, ringx_piece q, ringx_piece k)
{
    if (!job->live[q.slice * job->keys + k.slice])
        return false;
    const ringx_run *queries = &job->query[q.slice].run, *keys = &job->key[k.slice].run;
    const ringx_mask *mask = &job->shape->mask;
    int64_t lo = ringx__mask_keys(mask, queries->first + q.begin * queries->step).lo;
    int64_t hi = ringx__mask_keys(mask, queries->first + (q.end - 1) * queries->step).hi;
    return keys->first + k.begin * keys->step < hi && keys->first + (k.end - 1) * keys->step >= lo;
}
