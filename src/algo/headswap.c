/* SPDX-License-Identifier: MIT */
/* headswap: groups of Nu ranks exchange tokens for heads, so that each rank attends some heads of the whole group's
 * tokens; between the N/Nu groups K,V travel around a ring.  Nu = N is Ulysses, 1 < Nu < N is USP.
 *
 * Heads are dealt in units: a kv head with its query heads, or, where there are fewer kv heads than ranks, with one of
 * P pieces of them (K,V of that head then go to P ranks, whose dK,dV the owner adds in order).  Any head counts, any
 * Nu: ranks may get no unit.
 *
 *             fetch                    stages 0 … N/Nu-1                deliver
 *   rank      X Q,K,V to heads         A own group, A next group …      X out to tokens        X exchange, A attend
 *
 * Wire     (N-1)/N of Q, K,V and out (backward: Q, dO, dQ, K,V, dK,dV) in the group, plus the ring's K,V (and dK,dV).
 * Memory   copies of Q, K,V, out for the rank's heads of all the group's tokens. */
#include <stdlib.h>

#include "algo/algo.h"

int32_t ringx__headswap_parts(const ringx_shape *shape, int head_ranks)
{
    int64_t parts = (head_ranks + shape->kv_heads - 1) / shape->kv_heads;
    return (int32_t)(parts < shape->group ? parts : shape->group);
}

typedef struct ringx_bundle { /* heads that one rank attends in one piece */
    int32_t kv, kvs, q, qs;
} bundle;

typedef struct ringx_deal { /* who attends which heads of the slice; lists of blocks */
    const ringx_geometry *g;
    int members, groups;                                      /* Nu, N/Nu */
    int position, group;                                      /* of this rank */
    int first;                                                /* rank of the group's first member */
    ringx_span *q, *kv, *kv_new, *dkv, *own_dkv, *travelling; /* [bundle][member] */
    ringx_span *sums;                                         /* STATE in forward, DQ in backward */
    int bundles;                                              /* of this rank */
} deal;

static int units_of(const ringx_geometry *g)
{
    return g->kv_heads * g->parts;
}

/* Units [first, end) of the slice that a position attends.  Shares are equal up to one unit; who gets one more goes on
 * from slice to slice where the last one ended, so that the whole is dealt equally too. */
static void share_of(const ringx_geometry *g, int position, int *first, int *end)
{
    int n = g->head_ranks, base = units_of(g) / n, more = units_of(g) % n;
    int start = (int)((int64_t)g->kv_head * g->parts % n), over = start + more; /* those in [start, over) mod n */
    int before[2];
    for (int i = 0; i < 2; i++) {
        int p = position + i, direct = (p < over ? p : over) - start, wrapped = (p < over - n ? p : over - n);
        before[i] = base * p + (direct > 0 ? direct : 0) + (wrapped > 0 ? wrapped : 0);
    }
    *first = before[0];
    *end = before[1];
}

/* Number of bundles dealt to a position: its units, or all of them as one if kv heads are not cut. */
static int bundles_at(const ringx_geometry *g, int position)
{
    int first, end;
    share_of(g, position, &first, &end);
    return g->parts == 1 ? end > first : end - first;
}

static bundle bundle_at(const ringx_geometry *g, int position, int i)
{
    int first, end;
    int32_t group = (int32_t)g->shape->group;
    share_of(g, position, &first, &end);
    if (g->parts == 1)
        return (bundle){g->kv_head + first, end - first, g->q_head + first * group, (end - first) * group};
    int32_t head = (first + i) / g->parts, part = (first + i) % g->parts;
    int32_t from = part * group / g->parts, to = (part + 1) * group / g->parts;
    return (bundle){g->kv_head + head, 1, g->q_head + head * group + from, to - from};
}

static bool deal_create(deal *d, ringx_schedule *s, const ringx_geometry *g)
{
    *d = (deal){.g = g,
                .members = g->head_ranks,
                .groups = g->ranks / g->head_ranks,
                .position = g->rank % g->head_ranks,
                .group = g->rank / g->head_ranks};
    d->first = d->group * d->members;
    d->bundles = bundles_at(g, d->position);
    int64_t n = (int64_t)d->bundles * d->members;
    ringx_span *all = ringx__spans(s, 7 * n);
    if (!all)
        return false;
    d->q = all;
    d->kv = all + n;
    d->kv_new = all + 2 * n;
    d->sums = all + 3 * n;
    d->dkv = all + 4 * n;
    d->own_dkv = all + 5 * n;
    d->travelling = all + 6 * n;
    return true;
}

static void deal_free(deal *d)
{
    free(d->q);
}

/* Blocks [bundle][member] of a group's tokens for this rank's heads, in a new slot of the pool. */
static void carve_group(ringx_schedule *s, const deal *d, const char *pool, int depth, int least, ringx_kind kind,
                        int group, ringx_span *blocks)
{
    bool kv = kind == RINGX_KV || kind == RINGX_DKV;
    ringx_region region = ringx__slot(s, pool, depth, least);
    for (int b = 0; b < d->bundles; b++) {
        bundle heads = bundle_at(d->g, d->position, b);
        for (int m = 0; m < d->members; m++)
            blocks[b * d->members + m] = ringx__carve(s, &region, kind, group * d->members + m, kv ? heads.kv : heads.q,
                                                      kv ? heads.kvs : heads.qs);
    }
}

/* Own tokens go to whoever attends their heads; the group's tokens of this rank's heads arrive. */
static void tokens_to_heads(ringx_schedule *s, deal *d, ringx_kind query_kind)
{
    const ringx_geometry *g = d->g;
    ringx_region out = ringx__slot(s, "send", 0, 1);
    int count = 0;
    for (int m = 0; m < d->members; m++)
        count += bundles_at(g, m);
    ringx_span *sent = ringx__spans(s, 2 * (int64_t)count);
    if (!sent)
        return;
    int n = 0;
    for (int m = 0; m < d->members; m++)
        for (int b = 0; b < bundles_at(g, m); b++) {
            bundle heads = bundle_at(g, m, b);
            sent[n] = ringx__carve(s, &out, query_kind, g->rank, heads.q, heads.qs);
            sent[n + 1] = ringx__carve(s, &out, RINGX_KV, g->rank, heads.kv, heads.kvs);
            ringx__pack(s, sent[n]);
            ringx__pack(s, sent[n + 1]);
            n += 2;
        }
    carve_group(s, d, "q", 1, 1, query_kind, d->group, d->q);
    carve_group(s, d, "kv", 1, 2, RINGX_KV, d->group, d->kv);

    ringx__exchange_begin(s, -1);
    n = 0;
    for (int m = 0; m < d->members; m++)
        for (int b = 0; b < bundles_at(g, m); b++, n += 2) {
            ringx__exchange_send(s, sent[n], d->first + m);
            ringx__exchange_send(s, sent[n + 1], d->first + m);
        }
    for (int m = 0; m < d->members; m++)
        for (int b = 0; b < d->bundles; b++) {
            ringx__exchange_receive(s, d->q[b * d->members + m], d->first + m);
            ringx__exchange_receive(s, d->kv[b * d->members + m], d->first + m);
        }
    ringx__exchange_end(s);
    free(sent);
}

/* The blocks go to, and new ones come from, the rank of equal position in the neighbouring groups. */
static void pass_on(ringx_schedule *s, const deal *d, const ringx_span *held, const ringx_span *arriving, int shift)
{
    int right = ((d->group + 1) % d->groups) * d->members + d->position;
    int left = ((d->group + d->groups - 1) % d->groups) * d->members + d->position;
    ringx__exchange_begin(s, shift);
    for (int i = 0; i < d->bundles * d->members; i++)
        ringx__exchange_send(s, held[i], right);
    for (int i = 0; i < d->bundles * d->members; i++)
        ringx__exchange_receive(s, arriving[i], left);
    ringx__exchange_end(s);
}

/* K,V of the group i places to the left arrive. */
static void next_group(ringx_schedule *s, deal *d, int i)
{
    int group = (d->group - i + d->groups) % d->groups;
    carve_group(s, d, "kv", 1, 2, RINGX_KV, group, d->kv_new);
    pass_on(s, d, d->kv, d->kv_new, -1);
    ringx_span *swap = d->kv;
    d->kv = d->kv_new;
    d->kv_new = swap;
}

/* Sends results [bundle][member] of the given kind back to the tokens' owners; they arrive in `back`, in the order of
 * positions and bundles.  Returns how many arrive. */
static void send_back(ringx_schedule *s, const deal *d, const ringx_span *results, const ringx_span *back)
{
    int n = 0;
    for (int m = 0; m < d->members; m++)
        for (int b = 0; b < d->bundles; b++)
            ringx__exchange_send(s, results[b * d->members + m], d->first + m);
    for (int m = 0; m < d->members; m++)
        for (int b = 0; b < bundles_at(d->g, m); b++)
            ringx__exchange_receive(s, back[n++], d->first + m);
}

/* One slot is enough where the communication lane unpacks at once what comes back; dK,dV may have to be added first. */
static ringx_span *carve_back(ringx_schedule *s, const deal *d, const char *pool, ringx_kind kind, int *count)
{
    bool kv = kind == RINGX_DKV;
    ringx_region region = ringx__slot(s, pool, kv, 1);
    int n = 0;
    for (int m = 0; m < d->members; m++)
        n += bundles_at(d->g, m);
    ringx_span *back = ringx__spans(s, n);
    *count = back ? n : 0;
    n = 0;
    for (int m = 0; back && m < d->members; m++)
        for (int b = 0; b < bundles_at(d->g, m); b++) {
            bundle heads = bundle_at(d->g, m, b);
            back[n++] = ringx__carve(s, &region, kind, d->g->rank, kv ? heads.kv : heads.q, kv ? heads.kvs : heads.qs);
        }
    return back;
}

/* ---- forward ---- */

static void attend_group(ringx_schedule *s, const deal *d)
{
    for (int b = 0; b < d->bundles; b++) {
        int at = b * d->members;
        ringx__attend(s, &d->sums[at], &d->q[at], d->members, &d->kv[at], d->members);
    }
}

static void heads_to_tokens(ringx_schedule *s, const deal *d)
{
    int count;
    ringx_span *outs = ringx__spans(s, (int64_t)d->bundles * d->members);
    ringx_span *back = carve_back(s, d, "results", RINGX_OUT, &count);
    if (outs && back) {
        carve_group(s, d, "outs", 1, 1, RINGX_OUT, d->group, outs);
        ringx__finish(s, d->sums, outs, d->bundles * d->members, 0);
        ringx__exchange_begin(s, 0);
        send_back(s, d, outs, back);
        ringx__exchange_end(s);
        for (int i = 0; i < count; i++)
            ringx__unpack(s, back[i], 0);
    }
    free(outs);
    free(back);
}

void ringx__headswap_forward(ringx_schedule *s, const ringx_geometry *g)
{
    deal d;
    if (!deal_create(&d, s, g))
        return;
    ringx__stage(s);
    tokens_to_heads(s, &d, RINGX_Q);
    carve_group(s, &d, "state", 0, 1, RINGX_STATE, d.group, d.sums);
    for (int i = 0; i < d.bundles * d.members; i++)
        d.sums[i] = ringx__fresh(d.sums[i]);
    attend_group(s, &d);
    for (int i = 1; i < d.groups; i++) {
        ringx__stage(s);
        next_group(s, &d, i);
        attend_group(s, &d);
    }
    heads_to_tokens(s, &d);
    deal_free(&d);
}

/* ---- backward ---- */

static void grad_group(ringx_schedule *s, const deal *d, const ringx_span *dkv)
{
    for (int i = 0; i < d->bundles * d->members; i++)
        ringx__clear(s, dkv[i]);
    for (int b = 0; b < d->bundles; b++) {
        int at = b * d->members;
        ringx__grad(s, &d->q[at], &d->sums[at], d->members, &d->kv[at], &dkv[at], d->members);
    }
}

/* As in ring.c: the sums travel one hop late and end at the group whose K,V they belong to. */
static void ring_gradients(ringx_schedule *s, deal *d)
{
    int n = d->bundles * d->members;
    for (int i = 1; i < d->groups; i++) {
        ringx__stage(s);
        next_group(s, d, i);
        int group = (d->group - i + d->groups) % d->groups;
        carve_group(s, d, "dkv", 1, 1, RINGX_DKV, group, d->dkv);
        grad_group(s, d, d->dkv);
        for (int j = 0; j < n && i > 1; j++)
            ringx__add(s, d->travelling[j], d->dkv[j], 0);
        bool home = i == d->groups - 1; /* read a lookahead later than the others: not in their slot */
        carve_group(s, d, home ? "home" : "travelling", home, 1, RINGX_DKV, (group + d->groups - 1) % d->groups,
                    d->travelling);
        pass_on(s, d, d->dkv, d->travelling, 0);
    }
}

/* Units of one kv head are neighbours in `back`: add them in order to the first, then unpack each kv head once. */
static void unpack_dkv(ringx_schedule *s, const ringx_span *back, int count)
{
    for (int i = 0; i < count;) {
        int j = i + 1;
        while (j < count && back[j].block.head == back[i].block.head)
            ringx__add(s, back[j++], back[i], 1);
        ringx__unpack(s, back[i], 1);
        i = j;
    }
}

static void gradients_to_tokens(ringx_schedule *s, deal *d)
{
    int n_dq, n_dkv, late = d->groups > 1 ? 1 : 0;
    ringx_span *dq = carve_back(s, d, "dq back", RINGX_DQ, &n_dq);
    ringx_span *dkv = carve_back(s, d, "dkv back", RINGX_DKV, &n_dkv);
    if (dq && dkv) {
        for (int j = 0; j < d->bundles * d->members && late; j++)
            ringx__add(s, d->travelling[j], d->own_dkv[j], 1);
        ringx__exchange_begin(s, late);
        send_back(s, d, d->sums, dq);
        send_back(s, d, d->own_dkv, dkv);
        ringx__exchange_end(s);
        for (int i = 0; i < n_dq; i++)
            ringx__unpack(s, dq[i], late);
        unpack_dkv(s, dkv, n_dkv);
    }
    free(dq);
    free(dkv);
}

void ringx__headswap_backward(ringx_schedule *s, const ringx_geometry *g)
{
    deal d;
    if (!deal_create(&d, s, g))
        return;
    ringx__stage(s);
    tokens_to_heads(s, &d, RINGX_QDO);
    carve_group(s, &d, "dq", 1, 1, RINGX_DQ, d.group, d.sums);
    carve_group(s, &d, "own dkv", 1, 1, RINGX_DKV, d.group, d.own_dkv);
    for (int i = 0; i < d.bundles * d.members; i++)
        ringx__clear(s, d.sums[i]);
    grad_group(s, &d, d.own_dkv);
    ring_gradients(s, &d);
    gradients_to_tokens(s, &d);
    deal_free(&d);
}
