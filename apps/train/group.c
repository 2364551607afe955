/* SPDX-License-Identifier: MIT */
/* Groups of ranks: reductions, gathers, broadcasts and agreement, all from one exchange of bytes. */
#include "train/group_nccl.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PART_BYTES ((size_t)1 << 22) /* of one rank's share in a round of a reduction */
#define SMALL      ((size_t)1 << 14) /* up to so many bytes every rank gets all and reduces by itself: one round */

int group_rank(const group *g)
{
    return g->rank;
}

int group_ranks(const group *g)
{
    return g->ranks;
}

void group_set_timeout(group *g, double seconds)
{
    g->timeout = seconds;
}

void group_destroy(group *g)
{
    if (!g)
        return;
    ringx_comm_destroy(g->comm);
    gpus_destroy(g);
    g->ops->destroy(g);
}

int group_split(group *g, int color, int key, group **part)
{
    *part = NULL;
    int code = g->ops->split(g, color, key, part);
    if (!code)
        (*part)->timeout = g->timeout;
    return code;
}

int group_comm(group *g, ringx_comm **comm)
{
    int code = CODE_GOOD;
    if (!g->comm) {
        ringx_comm *host = NULL;
        code = g->ops->comm(g, &host);
        if (!code && g->gpus)
            code = gpus_comm(g, host, &g->comm);
        else
            g->comm = host;
        if (code)
            ringx_comm_destroy(host);
    }
    *comm = g->comm;
    return code;
}

/* Room for ranks pieces to send and as many to receive. */
static group_piece *make_pieces(const group *g)
{
    return allocate(2 * (size_t)g->ranks * sizeof(group_piece));
}

/* ---- gathers ---- */

int group_all_gather(group *g, void *data, const size_t *bounds)
{
    group_piece *send = make_pieces(g), *receive = send + g->ranks;
    if (!send)
        return CODE_NO_MEMORY;
    for (int r = 0; r < g->ranks; r++) {
        size_t mine = bounds[g->rank], theirs = bounds[r];
        send[r] = (group_piece){(char *)data + mine, bounds[g->rank + 1] - mine};
        receive[r] = (group_piece){(char *)data + theirs, bounds[r + 1] - theirs};
    }
    int code = g->ops->exchange(g, send, receive);
    free(send);
    return code;
}

int group_gather(group *g, const void *mine, size_t bytes, void *all)
{
    group_piece *send = make_pieces(g), *receive = send + g->ranks;
    if (!send)
        return CODE_NO_MEMORY;
    for (int r = 0; r < g->ranks; r++) {
        send[r] = (group_piece){(void *)(uintptr_t)mine, bytes};
        receive[r] = (group_piece){(char *)all + (size_t)r * bytes, bytes};
    }
    int code = g->ops->exchange(g, send, receive);
    free(send);
    return code;
}

/* Part r of n things in as many parts as there are ranks begins here. */
static size_t part_begin(const group *g, size_t n, int r)
{
    size_t ranks = (size_t)g->ranks, whole = n / ranks, rest = n % ranks;
    return (size_t)r * whole + (size_t)r * rest / ranks;
}

static size_t *make_bounds(const group *g, size_t n)
{
    size_t *bounds = allocate(((size_t)g->ranks + 1) * sizeof *bounds);
    for (int r = 0; bounds && r <= g->ranks; r++)
        bounds[r] = part_begin(g, n, r);
    return bounds;
}

/* The root deals out one part to each rank, and all gather: twice the bytes for everyone, not ranks times for one. */
int group_broadcast(group *g, void *data, size_t bytes, int root)
{
    if (bytes == 0) /* data may be NULL */
        return CODE_GOOD;
    group_piece *send = make_pieces(g), *receive = send + g->ranks;
    size_t *bounds = make_bounds(g, bytes);
    int code = send && bounds ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code) {
        size_t begin = bounds[g->rank];
        for (int r = 0; g->rank == root && r < g->ranks; r++)
            send[r] = (group_piece){(char *)data + bounds[r], bounds[r + 1] - bounds[r]};
        receive[root] = (group_piece){(char *)data + begin, bounds[g->rank + 1] - begin};
        code = g->ops->exchange(g, send, receive);
    }
    if (!code)
        code = group_all_gather(g, data, bounds);
    free(bounds);
    free(send);
    return code;
}

/* ---- agreement ---- */

typedef struct verdict {
    int code;
    char message[MESSAGE_BYTES];
} verdict;

int group_agree(group *g, int code)
{
    int *codes = allocate((size_t)g->ranks * sizeof *codes);
    int own = codes ? code : CODE_NO_MEMORY, first = 0;
    int *all = codes ? codes : &own;
    if (!codes && g->ranks > 1)
        return CODE_NO_MEMORY;
    int got = group_gather(g, &own, sizeof own, all);
    while (!got && first < g->ranks && !all[first])
        first++;
    if (!got && first < g->ranks && g->ranks > 1) {
        verdict v = {.code = all[first]};
        if (first == g->rank) /* a message that says its rank already came through a smaller group */
            snprintf(v.message, sizeof v.message, "%s", failure());
        got = group_broadcast(g, &v, sizeof v, first);
        if (!got) {
            char text[MESSAGE_BYTES + 32];
            bool named = strncmp(v.message, "rank ", 5) == 0;
            snprintf(text, sizeof text, "rank %d: %s", first, v.message);
            failure_set(named ? v.message : text);
            got = v.code;
        }
    } else if (!got) {
        got = own;
    }
    free(codes);
    return got;
}

int group_barrier(group *g)
{
    return group_agree(g, CODE_GOOD);
}

/* ---- reductions ---- */

static size_t type_bytes(group_type type)
{
    return type == GROUP_F64 ? sizeof(double) : sizeof(float);
}

#define REDUCE(T)                                                                                                      \
    static void reduce_##T(group_op op, T *restrict to, const T *restrict from, size_t count)                          \
    {                                                                                                                  \
        if (op == GROUP_SUM)                                                                                           \
            for (size_t i = 0; i < count; i++)                                                                         \
                to[i] += from[i];                                                                                      \
        else                                                                                                           \
            for (size_t i = 0; i < count; i++)                                                                         \
                to[i] = from[i] > to[i] || isnan(from[i]) ? from[i] : to[i];                                           \
    }
REDUCE(float)
REDUCE(double)

/* parts: ranks × count elements.  The result, in the order of the ranks, is left in the first. */
static void reduce_parts(const group *g, group_op op, group_type type, void *parts, size_t count)
{
    for (int r = 1; r < g->ranks; r++)
        if (type == GROUP_F64)
            reduce_double(op, parts, (double *)parts + (size_t)r * count, count);
        else
            reduce_float(op, parts, (float *)parts + (size_t)r * count, count);
}

/* Elements per rank and round: PART_BYTES, less where many ranks would need much memory. */
static size_t round_elements(const group *g, size_t width)
{
    size_t most = 16 * PART_BYTES / (size_t)g->ranks;
    size_t bytes = most < PART_BYTES ? most : PART_BYTES;
    return bytes > 64 * width ? bytes / width : 64;
}

/* The at-th round of count elements of what rank r owns: what is left of it. */
static size_t in_round(const size_t *bounds, int r, size_t at, size_t count)
{
    size_t owned = bounds[r + 1] - bounds[r];
    return at >= owned ? 0 : owned - at < count ? owned - at : count;
}

/* One round: elements at … at+count-1 of every rank's share travel to their owner, into parts, and are reduced. */
static int reduce_round(group *g, group_op op, group_type type, const char *data, const size_t *bounds, size_t at[2],
                        group_piece *send, char *parts)
{
    size_t width = type_bytes(type), mine = in_round(bounds, g->rank, at[0], at[1]);
    group_piece *receive = send + g->ranks;
    for (int r = 0; r < g->ranks; r++) {
        size_t n = in_round(bounds, r, at[0], at[1]);
        send[r] = (group_piece){(void *)(uintptr_t)(data + (bounds[r] + (n ? at[0] : 0)) * width), n * width};
        receive[r] = (group_piece){parts + (size_t)r * mine * width, mine * width};
    }
    int code = g->ops->exchange(g, send, receive);
    if (!code)
        reduce_parts(g, op, type, parts, mine);
    return code;
}

int group_reduce_scatter(group *g, group_op op, group_type type, const void *data, const size_t *bounds, void *mine)
{
    size_t width = type_bytes(type), count = round_elements(g, width), longest = 0;
    for (int r = 0; r < g->ranks; r++)
        longest = bounds[r + 1] - bounds[r] > longest ? bounds[r + 1] - bounds[r] : longest;
    count = longest < count ? longest : count;
    group_piece *send = make_pieces(g);
    char *parts = allocate((size_t)g->ranks * count * width);
    int code = send && parts ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t at = 0; !code && at < longest; at += count) {
        code = reduce_round(g, op, type, data, bounds, (size_t[2]){at, count}, send, parts);
        size_t n = in_round(bounds, g->rank, at, count);
        if (!code && n)
            memcpy((char *)mine + at * width, parts, n * width);
    }
    free(parts);
    free(send);
    return code;
}

static int reduce_small(group *g, group_op op, group_type type, void *data, size_t count)
{
    size_t bytes = count * type_bytes(type);
    char *parts = allocate((size_t)g->ranks * bytes);
    int code = parts ? group_gather(g, data, bytes, parts) : CODE_NO_MEMORY;
    if (!code) {
        reduce_parts(g, op, type, parts, count);
        memcpy(data, parts, bytes);
    }
    free(parts);
    return code;
}

int group_all_reduce(group *g, group_op op, group_type type, void *data, size_t count)
{
    size_t width = type_bytes(type);
    if (g->ranks == 1 || count == 0)
        return CODE_GOOD;
    if (count <= SMALL / width / (size_t)g->ranks)
        return reduce_small(g, op, type, data, count);
    size_t *bounds = make_bounds(g, count);
    if (!bounds)
        return CODE_NO_MEMORY;
    int code = group_reduce_scatter(g, op, type, data, bounds, (char *)data + bounds[g->rank] * width);
    for (int r = 0; r <= g->ranks; r++)
        bounds[r] *= width;
    if (!code)
        code = group_all_gather(g, data, bounds);
    free(bounds);
    return code;
}

int group_sum(group *g, double *value)
{
    return group_all_reduce(g, GROUP_SUM, GROUP_F64, value, 1);
}

int group_max(group *g, double *value)
{
    return group_all_reduce(g, GROUP_MAX, GROUP_F64, value, 1);
}
