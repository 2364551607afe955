/* SPDX-License-Identifier: MIT */
/* What every kind of group must do, as functions that return CODE_WRONG with a message where it does not. */
#ifndef RINGX_TESTS_GROUP_CHECKS_H
#define RINGX_TESTS_GROUP_CHECKS_H

#include "shared/numbers.h"
#include "train/group.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Value i of rank r: of very different sizes, so that the order of a sum shows in its bits. */
static inline double group_value(int r, size_t i)
{
    return random_normal((uint64_t)r + 1, i) * exp2((double)((i + (size_t)r * 5) % 40) - 20);
}

static inline double group_expected(group_op op, group_type type, int ranks, size_t i)
{
    double all = group_value(0, i);
    float narrow = (float)all;
    for (int r = 1; r < ranks; r++) {
        double v = group_value(r, i);
        all = op == GROUP_SUM ? all + v : fmax(all, v);
        narrow = op == GROUP_SUM ? narrow + (float)v : fmaxf(narrow, (float)v);
    }
    return type == GROUP_F64 ? all : (double)narrow;
}

static inline void group_fill(group_type type, int rank, void *data, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (type == GROUP_F64)
            ((double *)data)[i] = group_value(rank, i);
        else
            ((float *)data)[i] = (float)group_value(rank, i);
}

/* Elements first … of the whole, at data[0 … count-1], bit for bit. */
static inline int group_compare(group *g, group_op op, group_type type, const void *data, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double got = type == GROUP_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
        double right = group_expected(op, type, group_ranks(g), first + i);
        if (!(got == right))
            return fail(CODE_WRONG, "op %d, type %d, element %zu of %zu: %.17g, expected %.17g", (int)op, (int)type, i,
                        count, got, right);
    }
    return CODE_GOOD;
}

static inline int check_all_reduce(group *g, group_op op, group_type type, size_t count)
{
    void *data = allocate(count * sizeof(double));
    if (!data)
        return CODE_NO_MEMORY;
    group_fill(type, group_rank(g), data, count);
    int code = group_all_reduce(g, op, type, data, count);
    if (!code)
        code = group_compare(g, op, type, data, 0, count);
    free(data);
    return code;
}

/* Uneven shares: rank r owns what follows from r², so that the first owns nothing. */
static inline int check_reduce_scatter(group *g, size_t count)
{
    int ranks = group_ranks(g), rank = group_rank(g);
    size_t bounds[65], all = (size_t)ranks * (size_t)ranks;
    for (int r = 0; r <= ranks; r++)
        bounds[r] = ranks == 1 ? (size_t)r * count : count * (size_t)r * (size_t)(r > 1 ? r : 0) / all;
    size_t mine = bounds[rank + 1] - bounds[rank];
    float *data = allocate(count * sizeof(float)), *part = allocate(mine * sizeof(float));
    group_fill(GROUP_F32, rank, data, count);
    int code = group_reduce_scatter(g, GROUP_SUM, GROUP_F32, data, bounds, part);
    if (!code)
        code = group_compare(g, GROUP_SUM, GROUP_F32, part, bounds[rank], mine);
    if (!code) /* in place, then gathered: an all-reduce by hand */
        code = group_reduce_scatter(g, GROUP_SUM, GROUP_F32, data, bounds, data + bounds[rank]);
    for (int r = 0; r <= ranks; r++)
        bounds[r] *= sizeof(float);
    if (!code)
        code = group_all_gather(g, data, bounds);
    if (!code)
        code = group_compare(g, GROUP_SUM, GROUP_F32, data, 0, count);
    free(part);
    free(data);
    return code;
}

static inline int check_broadcast(group *g, size_t bytes, int root)
{
    unsigned char *data = allocate(bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)(group_rank(g) == root ? i * 7 + (size_t)root : 255);
    int code = group_broadcast(g, data, bytes, root);
    for (size_t i = 0; i < bytes && !code; i++)
        if (data[i] != (unsigned char)(i * 7 + (size_t)root))
            code = fail(CODE_WRONG, "broadcast of %zu bytes from %d: byte %zu", bytes, root, i);
    free(data);
    return code;
}

static inline int check_agreement(group *g)
{
    int rank = group_rank(g), ranks = group_ranks(g), last = ranks - 1;
    int code = group_agree(g, CODE_GOOD);
    if (!code && ranks > 1) {
        code = group_agree(g, rank == last ? fail(CODE_BAD_INPUT, "reason %d", rank) : CODE_GOOD);
        char right[64];
        snprintf(right, sizeof right, "rank %d: reason %d", last, last);
        if (code != CODE_BAD_INPUT || strcmp(failure(), right) != 0)
            return fail(CODE_WRONG, "agreement gave %d, not %d", code, CODE_BAD_INPUT);
        code = CODE_GOOD;
    }
    double sum = rank + 1, most = -rank, none = rank == last ? NAN : 1;
    if (!code)
        code = group_sum(g, &sum);
    if (!code)
        code = group_max(g, &most);
    if (!code)
        code = group_max(g, &none);
    if (!code && !(sum == ranks * (ranks + 1) / 2 && most == 0 && isnan(none)))
        code = fail(CODE_WRONG, "sum %g, maximum %g, maximum with a NaN %g", sum, most, none);
    return code;
}

static inline int check_data(group *g)
{
    static const size_t counts[] = {0, 1, 2, 5, 1000, 4097, 70001};
    int code = CODE_GOOD;
    for (size_t i = 0; i < sizeof counts / sizeof *counts && !code; i++) {
        for (int kind = 0; kind < 4 && !code; kind++)
            code = check_all_reduce(g, kind & 1 ? GROUP_MAX : GROUP_SUM, kind & 2 ? GROUP_F64 : GROUP_F32, counts[i]);
        if (!code)
            code = check_reduce_scatter(g, counts[i]);
        for (int root = 0; root < group_ranks(g) && !code; root++)
            code = check_broadcast(g, counts[i], root);
    }
    return code;
}

/* One attention over the group's communicator: it is a real one, over these ranks. */
static inline int check_comm(group *g)
{
    ringx_comm *comm, *again;
    int code = group_comm(g, &comm);
    if (!code)
        code = group_comm(g, &again);
    if (!code && (comm != again || ringx_comm_rank(comm) != group_rank(g) || ringx_comm_ranks(comm) != group_ranks(g)))
        code = fail(CODE_WRONG, "the communicator is not over the group's ranks");
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = 1, problem.tokens = 40, problem.q_heads = problem.kv_heads = 1, problem.head_dim = 8;
    ringx_plan *plan = NULL;
    if (!code)
        code = fail_status(ringx_plan_create(&plan, &problem, NULL, comm), "plan");
    ringx_plan_destroy(plan);
    return code;
}

/* A layout's places and groups are what the formula says. */
static inline int check_layout(group *g, const int size[AXES], const axis order[AXES])
{
    parallel p;
    int code = parallel_create(&p, g, size, order), rank = 0, stride = 1;
    if (code)
        return code;
    for (int i = 0; i < AXES; i++) {
        rank += stride * p.at[p.order[i]];
        stride *= p.size[p.order[i]];
    }
    group *parts[] = {p.tensor, p.context, p.data};
    if (rank != group_rank(g) || stride != group_ranks(g))
        code = fail(CODE_WRONG, "place (%d, %d, %d) is not that of rank %d", p.at[0], p.at[1], p.at[2], group_rank(g));
    for (int i = 0; i < AXES && !code; i++)
        if (group_rank(parts[i]) != p.at[i] || group_ranks(parts[i]) != p.size[i])
            code = fail(CODE_WRONG, "axis %d: rank %d of %d", i, group_rank(parts[i]), group_ranks(parts[i]));
    if (!code && (group_rank(p.gradient) != p.at[AXIS_CONTEXT] + p.size[AXIS_CONTEXT] * p.at[AXIS_DATA] ||
                  group_ranks(p.gradient) != p.size[AXIS_CONTEXT] * p.size[AXIS_DATA]))
        code =
            fail(CODE_WRONG, "the gradient's group has rank %d of %d", group_rank(p.gradient), group_ranks(p.gradient));
    /* who is in a group: the digits of the others' places are this rank's */
    for (int i = 0; i < AXES && !code; i++) {
        double sum = 1 + p.at[0] + 100 * p.at[1] + 10000 * p.at[2], right = 0, unit = i == 0 ? 1 : i == 1 ? 100 : 10000;
        for (int j = 0; j < p.size[i]; j++)
            right += sum + (j - p.at[i]) * unit;
        code = group_sum(parts[i], &sum);
        if (!code && !(sum == right))
            code = fail(CODE_WRONG, "axis %d holds other ranks than it should", i);
    }
    if (!code)
        code = check_comm(p.context);
    if (!code)
        code = check_all_reduce(p.gradient, GROUP_SUM, GROUP_F32, 1001);
    parallel_destroy(&p);
    return group_agree(g, code);
}

#endif
