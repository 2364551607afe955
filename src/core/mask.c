/* SPDX-License-Identifier: MIT */
/* Masks as intervals per query position. */
#include "core/mask.h"

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Bounds of the document that holds position p; outside all documents both bounds are the nearest edge of padding. */
static ringx_interval document(const ringx_mask *mask, int64_t p)
{
    if (!mask->starts)
        return (ringx_interval){0, mask->tokens};
    size_t low = 0, high = mask->documents + 1; /* number of bounds <= p, by bisection */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mask->starts[middle] <= p)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return (ringx_interval){mask->starts[0], mask->starts[0]};
    if (low == mask->documents + 1)
        return (ringx_interval){mask->starts[low - 1], mask->starts[low - 1]};
    return (ringx_interval){mask->starts[low - 1], mask->starts[low]};
}

ringx_interval ringx__mask_keys(const ringx_mask *mask, int64_t query)
{
    ringx_interval d = document(mask, query);
    if (d.lo >= d.hi)
        return d;
    return (ringx_interval){max64(d.lo, query - mask->left), min64(d.hi, query + 1 + mask->right)};
}

ringx_interval ringx__mask_queries(const ringx_mask *mask, int64_t key)
{
    ringx_interval d = document(mask, key);
    if (d.lo >= d.hi)
        return d;
    return (ringx_interval){max64(d.lo, key - mask->right), min64(d.hi, key + 1 + mask->left)};
}

static int64_t last_of(const ringx_run *run)
{
    return run->first + (run->count - 1) * run->step;
}

bool ringx__mask_live(const ringx_mask *mask, const ringx_run *q, const ringx_run *k)
{
    if (q->count <= 0 || k->count <= 0)
        return false;
    int64_t k_first = k->first, k_last = last_of(k);
    if (mask->starts) { /* padding is seen by nothing */
        k_first = max64(k_first, mask->starts[0]);
        k_last = min64(k_last, mask->starts[mask->documents] - 1);
    }
    if (k_first > k_last)
        return false;
    /* hi is non-decreasing: the first query that reaches past k_first has the smallest lo of all that do. */
    int64_t low = 0, high = q->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (ringx__mask_keys(mask, q->first + middle * q->step).hi > k_first)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == q->count)
        return false;
    return ringx__mask_keys(mask, q->first + low * q->step).lo <= k_last;
}

/* Members of the run in [lo, hi). */
static int64_t members(const ringx_run *run, int64_t lo, int64_t hi)
{
    if (lo >= hi)
        return 0;
    int64_t a = lo <= run->first ? 0 : (lo - run->first + run->step - 1) / run->step;
    int64_t b = hi <= run->first ? 0 : (hi - run->first + run->step - 1) / run->step;
    return max64(0, min64(b, run->count) - min64(a, run->count));
}

/* Does every query of q see every key of k?  Both bounds are non-decreasing, so its ends tell. */
static bool sees_all(const ringx_mask *mask, const ringx_run *q, const ringx_run *k)
{
    return ringx__mask_keys(mask, q->first).hi > last_of(k) && ringx__mask_keys(mask, last_of(q)).lo <= k->first;
}

/* Keys of k that the i-th query of q sees. */
static double keys_of(const ringx_mask *mask, const ringx_run *q, const ringx_run *k, int64_t i)
{
    ringx_interval see = ringx__mask_keys(mask, q->first + i * q->step);
    return (double)members(k, see.lo, see.hi);
}

double ringx__mask_area(const ringx_mask *mask, const ringx_run *q, const ringx_run *k)
{
    if (!ringx__mask_live(mask, q, k))
        return 0;
    if (sees_all(mask, q, k))
        return (double)q->count * (double)k->count;
    /* Long runs are summed in blocks by the mean of both ends: exact wherever the number of keys is linear. */
    int64_t block = q->count <= 512 ? 1 : (q->count + 255) / 256;
    double sum = 0;
    for (int64_t i = 0; i < q->count; i += block) {
        int64_t n = min64(block, q->count - i);
        double first = keys_of(mask, q, k, i), last = n > 1 ? keys_of(mask, q, k, i + n - 1) : first;
        sum += (double)n * 0.5 * (first + last);
    }
    return sum;
}
