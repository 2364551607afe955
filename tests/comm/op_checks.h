/* SPDX-License-Identifier: MIT */
/* Every operation of a communicator against what each rank can compute alone.  Data are a function of (seed, rank,
 * index), so that a rank knows what all others sent.  Results lie in poison between guards.  Used by ranks that are
 * threads and by ranks that are processes: a check returns false and leaves a message, it does not assert. */
#ifndef RINGX_TESTS_OP_CHECKS_H
#define RINGX_TESTS_OP_CHECKS_H

#include "comm/comm.h"
#include "core/half.h"
#include "core/shape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct op_check { /* one rank's view of a group */
    ringx_comm *comm;
    ringx_group *group; /* NULL: all */
    int members, index;
    const int *rank_of; /* NULL: the identity */
    bool exact;         /* sums are bitwise those in group order */
    ringx_call call;
    uint64_t seed;
    char message[RINGX_MESSAGE_BYTES + 128];
} op_check;

enum { GUARD = 64, POISON = 0xA5 };

/* ---- randomness ------------------------------------------------------------------------------------------------- */

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x632BE59BD9B4E019u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint64_t draw(uint64_t *state, uint64_t below)
{
    *state = mix(*state, 1);
    return *state % below;
}

static inline unsigned char byte_of(uint64_t seed, int rank, size_t i)
{
    return (unsigned char)(mix(mix(seed, (uint64_t)rank), i) >> 8);
}

static inline float float_of(uint64_t seed, int rank, size_t i)
{
    uint64_t bits = mix(mix(seed, (uint64_t)rank), i);
    return (float)((double)(bits >> 40) * 0x1p-23 - 1.0) * (bits & 7 ? 1.0f : 64.0f);
}

static inline int rank_at(const op_check *c, int index)
{
    return c->rank_of ? c->rank_of[index] : index;
}

/* ---- buffers ---------------------------------------------------------------------------------------------------- */

static inline unsigned char *guarded(size_t bytes)
{
    unsigned char *data = malloc(bytes + 2 * GUARD);
    if (!data)
        abort();
    memset(data, POISON, bytes + 2 * GUARD);
    return data + GUARD;
}

static inline void drop_guarded(void *data)
{
    free((unsigned char *)data - GUARD);
}

static inline bool guards_stand(const unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < GUARD; i++)
        if ((data - GUARD)[i] != POISON || data[bytes + i] != POISON)
            return false;
    return true;
}

static inline unsigned char *random_bytes(uint64_t seed, int rank, size_t bytes)
{
    unsigned char *data = guarded(bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_of(seed, rank, i);
    return data;
}

static inline void put(void *data, ringx_dtype dtype, size_t i, float x)
{
    if (dtype == RINGX_F32)
        ((float *)data)[i] = x;
    else
        ((uint16_t *)data)[i] = dtype == RINGX_BF16 ? ringx__f32_bf16(x) : ringx__f32_f16(x);
}

static inline float get(const void *data, ringx_dtype dtype, size_t i)
{
    if (dtype == RINGX_F32)
        return ((const float *)data)[i];
    uint16_t h = ((const uint16_t *)data)[i];
    return dtype == RINGX_BF16 ? ringx__bf16_f32(h) : ringx__f16_f32(h);
}

static inline float rounded(ringx_dtype dtype, float x)
{
    float wide;
    put(&wide, dtype, 0, x);
    return get(&wide, dtype, 0);
}

/* ---- verdicts --------------------------------------------------------------------------------------------------- */

static inline bool bad(op_check *c, const char *op, const char *why)
{
    snprintf(c->message, sizeof c->message, "%s on rank %d of %d (member %d of %d): %s", op, c->comm->rank,
             c->comm->ranks, c->index, c->members, why);
    return false;
}

static inline bool same_bytes(const unsigned char *data, uint64_t seed, int rank, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != byte_of(seed, rank, i))
            return false;
    return true;
}

/* Is data[k] the sum over members of element first + k? */
static inline bool is_sum(const op_check *c, const void *data, ringx_dtype dtype, size_t first, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        float sum = 0, size = 0;
        for (int i = 0; i < c->members; i++) {
            float x = rounded(dtype, float_of(c->seed, rank_at(c, i), first + k));
            sum = i == 0 ? x : sum + x;
            size += fabsf(x);
        }
        float got = get(data, dtype, k), want = rounded(dtype, sum);
        float slack = c->exact ? 0 : size * (dtype == RINGX_F32 ? 0x1p-21f : dtype == RINGX_F16 ? 0x1p-10f : 0x1p-7f);
        if (!(fabsf(got - want) <= slack))
            return false;
    }
    return true;
}

/* ---- the operations --------------------------------------------------------------------------------------------- */

static inline bool check_broadcast(op_check *c, size_t bytes, int root, bool in_place)
{
    int owner = rank_at(c, root);
    bool is_root = c->index == root;
    unsigned char *from = random_bytes(c->seed, owner, bytes), *to = guarded(bytes);
    void *target = is_root && in_place ? (c->seed & 1 ? NULL : from) : to;
    ringx_status status =
        c->comm->ops->broadcast(c->comm, c->group, is_root ? from : NULL, target, bytes, root, &c->call);
    bool good = status == RINGX_OK ? same_bytes(target ? target : from, c->seed, owner, bytes) &&
                                         guards_stand(to, bytes) && guards_stand(from, bytes)
                                   : false;
    drop_guarded(from);
    drop_guarded(to);
    return good || bad(c, "broadcast", status == RINGX_OK ? "wrong bytes" : ringx_last_error());
}

static inline void random_parts(const op_check *c, size_t most, bool gaps, size_t *sizes, size_t *offsets,
                                size_t *total)
{
    uint64_t state = mix(c->seed, 77);
    size_t at = 0;
    for (int i = 0; i < c->members; i++) {
        sizes[i] = draw(&state, 4) == 0 ? 0 : draw(&state, most + 1);
        if (gaps)
            at += draw(&state, 9);
        offsets[i] = at;
        at += sizes[i];
    }
    *total = at;
}

static inline bool check_allgather(op_check *c, size_t most, bool in_place, bool gaps)
{
    size_t sizes[64], offsets[64], total;
    random_parts(c, most, gaps, sizes, offsets, &total);
    unsigned char *from = random_bytes(c->seed, c->comm->rank, sizes[c->index]), *to = guarded(total);
    if (in_place)
        memcpy(to + offsets[c->index], from, sizes[c->index]);
    ringx_status status = c->comm->ops->allgather(c->comm, c->group, in_place ? to + offsets[c->index] : from, to,
                                                  sizes, offsets, &c->call);
    bool good = status == RINGX_OK && guards_stand(to, total);
    size_t at = 0;
    for (int i = 0; i < c->members && good; i++) {
        for (; at < offsets[i] && good; at++)
            good = to[at] == POISON;
        good = good && same_bytes(to + offsets[i], c->seed, rank_at(c, i), sizes[i]);
        at = offsets[i] + sizes[i];
    }
    drop_guarded(from);
    drop_guarded(to);
    return good || bad(c, "allgather", status == RINGX_OK ? "wrong bytes" : ringx_last_error());
}

static inline void *random_floats(const op_check *c, ringx_dtype dtype, size_t count)
{
    void *data = guarded(count * ringx__dtype_bytes(dtype));
    for (size_t k = 0; k < count; k++)
        put(data, dtype, k, float_of(c->seed, c->comm->rank, k));
    return data;
}

static inline bool check_reduce(op_check *c, size_t count, ringx_dtype dtype, int root, bool in_place)
{
    size_t bytes = count * ringx__dtype_bytes(dtype);
    void *from = random_floats(c, dtype, count), *to = guarded(bytes);
    bool is_root = c->index == root;
    void *target = !is_root ? NULL : in_place ? from : to;
    ringx_status status = c->comm->ops->reduce(c->comm, c->group, from, target, count, dtype, root, &c->call);
    bool good = status == RINGX_OK && guards_stand(from, bytes) && guards_stand(to, bytes) &&
                (!is_root || is_sum(c, target, dtype, 0, count));
    for (size_t k = 0; k < count && good && target != from; k++) /* what was sent is unchanged */
        good = get(from, dtype, k) == rounded(dtype, float_of(c->seed, c->comm->rank, k));
    drop_guarded(from);
    drop_guarded(to);
    return good || bad(c, "reduce", status == RINGX_OK ? "wrong sum" : ringx_last_error());
}

static inline bool check_reduce_scatter(op_check *c, size_t most, ringx_dtype dtype, bool gaps)
{
    size_t counts[64], offsets[64], total, width = ringx__dtype_bytes(dtype);
    random_parts(c, most, gaps, counts, offsets, &total);
    void *from = random_floats(c, dtype, total), *to = guarded(counts[c->index] * width);
    ringx_status status = c->comm->ops->reduce_scatter(c->comm, c->group, from, to, counts, offsets, dtype, &c->call);
    bool good = status == RINGX_OK && guards_stand(to, counts[c->index] * width) &&
                is_sum(c, to, dtype, offsets[c->index], counts[c->index]);
    drop_guarded(from);
    drop_guarded(to);
    return good || bad(c, "reduce_scatter", status == RINGX_OK ? "wrong sum" : ringx_last_error());
}

static inline bool check_allreduce_max(op_check *c, size_t count, bool in_place, bool nan)
{
    float *from = random_floats(c, RINGX_F32, count), *to = (float *)guarded(count * sizeof *to);
    size_t odd = count ? (size_t)(c->seed % count) : 0; /* one NaN on one rank; one element that is -inf everywhere */
    for (size_t k = 0; k < count; k += 7)
        from[k] = -INFINITY;
    if (nan && count && c->index == c->members / 2)
        from[odd] = NAN;
    float *target = in_place ? from : to;
    ringx_status status = c->comm->ops->allreduce_max(c->comm, c->group, from, target, count, &c->call);
    bool good = status == RINGX_OK && guards_stand((unsigned char *)target, count * sizeof *to);
    for (size_t k = 0; k < count && good; k++) {
        float top = -INFINITY;
        for (int i = 0; i < c->members && k % 7; i++)
            top = fmaxf(top, float_of(c->seed, rank_at(c, i), k));
        good = nan && k == odd ? isnan(target[k]) : target[k] == top;
    }
    drop_guarded(from);
    drop_guarded(to);
    return good || bad(c, "allreduce_max", status == RINGX_OK ? "wrong maximum" : ringx_last_error());
}

static inline bool check_agree(op_check *c, size_t bytes)
{
    size_t ranks = (size_t)c->comm->ranks;
    unsigned char *mine = random_bytes(c->seed, c->comm->rank, bytes), *all = guarded(ranks * bytes);
    ringx_status status = c->comm->ops->agree(c->comm, mine, bytes, all, &c->call);
    bool good = status == RINGX_OK && guards_stand(all, ranks * bytes);
    for (size_t r = 0; r < ranks && good; r++)
        good = same_bytes(all + r * bytes, c->seed, (int)r, bytes);
    drop_guarded(mine);
    drop_guarded(all);
    return good || bad(c, "agree", status == RINGX_OK ? "wrong bytes" : ringx_last_error());
}

/* Messages of each ordered pair of ranks, and their sizes, both known to all. */
static inline size_t messages_between(uint64_t seed, int from, int to)
{
    return mix(mix(seed, (uint64_t)from), (uint64_t)to + 1000) % 4;
}

static inline size_t message_size(uint64_t seed, int from, int to, size_t i, size_t most)
{
    uint64_t x = mix(mix(mix(seed, (uint64_t)from), (uint64_t)to), i);
    return x % 5 == 0 ? 0 : x / 5 % (most + 1);
}

static inline uint64_t message_seed(uint64_t seed, int from, int to, size_t i)
{
    return mix(mix(seed, (uint64_t)(from * 64 + to)), i);
}

static inline void shuffle_peers(uint64_t seed, int *peers, int ranks)
{
    for (int i = 0; i < ranks; i++)
        peers[i] = i;
    for (int i = ranks - 1; i > 0; i--) {
        int j = (int)draw(&seed, (uint64_t)i + 1), t = peers[i];
        peers[i] = peers[j];
        peers[j] = t;
    }
}

static inline bool check_exchange(op_check *c, size_t most)
{
    int ranks = c->comm->ranks, me = c->comm->rank, order[64];
    ringx_message sends[256] = {{0}}, receives[256] = {{0}};
    size_t n_sends = 0, n_receives = 0;
    shuffle_peers(mix(c->seed, (uint64_t)me), order, ranks);
    for (int k = 0; k < ranks; k++) {
        int p = order[k];
        for (size_t i = 0; i < messages_between(c->seed, me, p); i++) {
            size_t bytes = message_size(c->seed, me, p, i, most);
            sends[n_sends++] = (ringx_message){p, random_bytes(message_seed(c->seed, me, p, i), me, bytes), bytes};
        }
    }
    shuffle_peers(mix(c->seed, (uint64_t)me + 500), order, ranks);
    for (int k = 0; k < ranks; k++) {
        int p = order[k];
        for (size_t i = 0; i < messages_between(c->seed, p, me); i++) {
            size_t bytes = message_size(c->seed, p, me, i, most);
            receives[n_receives++] = (ringx_message){p, guarded(bytes), bytes};
        }
    }
    ringx_status status = c->comm->ops->exchange(c->comm, sends, n_sends, receives, n_receives, &c->call);
    bool good = status == RINGX_OK;
    size_t seen[64] = {0};
    for (size_t k = 0; k < n_receives; k++) {
        int p = receives[k].peer;
        if (good)
            good = guards_stand(receives[k].data, receives[k].bytes) &&
                   same_bytes(receives[k].data, message_seed(c->seed, p, me, seen[p]++), p, receives[k].bytes);
        drop_guarded(receives[k].data);
    }
    for (size_t k = 0; k < n_sends; k++)
        drop_guarded(sends[k].data);
    return good || bad(c, "exchange", status == RINGX_OK ? "wrong bytes" : ringx_last_error());
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

/* One operation, all of it drawn from the seed, which is the same on all members.  Whole-communicator operations are
 * drawn only if c->group is NULL. */
static inline bool check_one(op_check *c, uint64_t seed, size_t most)
{
    uint64_t state = seed;
    c->seed = mix(seed, 5);
    ringx_dtype dtype = (ringx_dtype)draw(&state, 3);
    size_t size = draw(&state, 5) == 0 ? draw(&state, 3) : draw(&state, most + 1);
    int root = (int)draw(&state, (uint64_t)c->members);
    bool in_place = draw(&state, 2), odd = draw(&state, 2);
    switch (draw(&state, c->group ? 5 : 7)) {
    case 0:
        return check_broadcast(c, size, root, in_place);
    case 1:
        return check_allgather(c, size, in_place, odd);
    case 2:
        return check_reduce(c, size, dtype, root, in_place);
    case 3:
        return check_reduce_scatter(c, size, dtype, odd);
    case 4:
        return check_allreduce_max(c, size, in_place, odd);
    case 5:
        return check_agree(c, size);
    default:
        return check_exchange(c, size);
    }
}

/* Every operation at least once, sizes around those of lines, blocks and shares. */
static inline bool check_each(op_check *c, uint64_t seed)
{
    static const size_t sizes[] = {0, 1, 2, 3, 31, 64, 127, 1000, 1025, 5003};
    bool good = true;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes && good; s++) {
        for (int root = 0; root < c->members && good; root++) {
            c->seed = mix(seed, s * 64 + (size_t)root);
            for (int in_place = 0; in_place < 2 && good; in_place++) {
                good = check_broadcast(c, sizes[s], root, in_place);
                for (int dtype = RINGX_F32; dtype <= RINGX_F16 && good; dtype++)
                    good = check_reduce(c, sizes[s], (ringx_dtype)dtype, root, in_place);
            }
        }
        c->seed = mix(seed, s);
        for (int variant = 0; variant < 4 && good; variant++) {
            good = check_allgather(c, sizes[s], variant & 1, variant & 2) &&
                   check_allreduce_max(c, sizes[s], variant & 1, variant & 2);
            for (int dtype = RINGX_F32; dtype <= RINGX_F16 && good; dtype++)
                good = check_reduce_scatter(c, sizes[s], (ringx_dtype)dtype, variant & 1);
        }
        if (good && !c->group)
            good = check_agree(c, sizes[s]) && check_exchange(c, sizes[s]);
    }
    return good;
}

/* Ranks of equal colour: what split promises. */
static inline bool check_split(op_check *c, const int *colours, op_check *sub, int *rank_of)
{
    int ranks = c->comm->ranks, me = c->comm->rank;
    *sub = (op_check){.comm = c->comm, .exact = c->exact, .call = c->call, .rank_of = rank_of};
    for (int r = 0; r < ranks; r++)
        if (colours[r] == colours[me]) {
            if (r == me)
                sub->index = sub->members;
            rank_of[sub->members++] = r;
        }
    if (c->comm->ops->split(c->comm, colours[me], &sub->group, &c->call) != RINGX_OK)
        return bad(c, "split", ringx_last_error());
    return true;
}

static inline void sleep_s(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

#endif
