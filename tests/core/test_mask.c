/* SPDX-License-Identifier: MIT */
/* Masks as intervals agree with the definition, pair by pair; what is asked of whole runs agrees with counting. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/shape.h"

/* ---- the definition, from the problem's own fields ---- */

static int document_of(const ringx_problem *p, int64_t token)
{
    for (size_t i = 0; i < p->documents; i++)
        if (p->document_starts[i] <= token && token < p->document_starts[i + 1])
            return (int)i;
    return -1;
}

static bool sees(const ringx_problem *p, int64_t query, int64_t key)
{
    bool left = p->window_left < 0 || query - key <= p->window_left;
    bool right = p->window_right < 0 || key - query <= p->window_right;
    bool past = !p->causal || key <= query;
    int d = p->documents ? document_of(p, query) : 0;
    return left && right && past && d >= 0 && (!p->documents || d == document_of(p, key));
}

/* ---- problems: every window and causality, with document bounds numbered by `code` ---- */

static const int64_t windows[] = {-1, 0, 1, 3, INT64_MAX};
enum { WINDOWS = 5, BOUNDS = 4 };

static ringx_problem problem_at(int64_t tokens, int window, bool causal, int64_t code, int64_t bounds[BOUNDS])
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = p.q_heads = p.kv_heads = p.head_dim = 1;
    p.tokens = tokens;
    p.window_left = windows[window / WINDOWS];
    p.window_right = windows[window % WINDOWS];
    p.causal = causal;
    if (code == 0)
        return p;
    int64_t before = 0;
    code--;
    for (int i = 0; i < BOUNDS; i++) { /* non-decreasing; equal ones are empty documents, the outside is padding */
        bounds[i] = before + code % (tokens - before + 1);
        code /= tokens - before + 1;
        before = bounds[i];
    }
    p.document_starts = bounds;
    p.documents = BOUNDS - 1;
    return p;
}

static int64_t codes(int64_t tokens)
{
    return 1 + (tokens + 1) * (tokens + 1) * (tokens + 1) * (tokens + 1);
}

/* ---- intervals ---- */

static void check_intervals(const ringx_problem *p)
{
    ringx_shape shape;
    ringx_interval before[2] = {{0, 0}, {0, 0}};
    assert_int_equal(ringx__shape_create(&shape, p), RINGX_OK);
    for (int64_t a = 0; a < p->tokens; a++) {
        ringx_interval keys = ringx__mask_keys(&shape.mask, a), queries = ringx__mask_queries(&shape.mask, a);
        for (int64_t b = 0; b < p->tokens; b++)
            if ((keys.lo <= b && b < keys.hi) != sees(p, a, b) || (queries.lo <= b && b < queries.hi) != sees(p, b, a))
                fail_msg("%lld tokens, window %lld %lld, causal %d, %zu documents: pair %lld, %lld",
                         (long long)p->tokens, (long long)p->window_left, (long long)p->window_right, p->causal,
                         p->documents, (long long)a, (long long)b);
        assert_true(keys.lo >= before[0].lo && keys.hi >= before[0].hi);
        assert_true(queries.lo >= before[1].lo && queries.hi >= before[1].hi);
        before[0] = keys;
        before[1] = queries;
    }
    ringx__shape_destroy(&shape);
}

static void intervals_are_the_definition(void **state)
{
    (void)state;
    int64_t bounds[BOUNDS];
    for (int64_t tokens = 0; tokens <= 9; tokens++)
        for (int window = 0; window < WINDOWS * WINDOWS; window++)
            for (int causal = 0; causal < 2; causal++) {
                int64_t step = tokens > 5 ? 37 : 1;
                for (int64_t code = 0; code < codes(tokens); code += code ? step : 1) {
                    ringx_problem p = problem_at(tokens, window, causal, code, bounds);
                    check_intervals(&p);
                }
            }
}

/* ---- runs ---- */

static double count_pairs(const ringx_problem *p, const ringx_run *q, const ringx_run *k)
{
    double n = 0;
    for (int64_t i = 0; i < q->count; i++)
        for (int64_t j = 0; j < k->count; j++)
            n += sees(p, q->first + i * q->step, k->first + j * k->step);
    return n;
}

static void check_pair_of_runs(const ringx_problem *p, const ringx_shape *shape, const ringx_run *q, const ringx_run *k)
{
    double pairs = count_pairs(p, q, k);
    bool live = ringx__mask_live(&shape->mask, q, k), exact = q->step == 1 && k->step == 1;
    if ((pairs > 0 && !live) || (exact && live && pairs == 0) || ringx__mask_area(&shape->mask, q, k) != pairs)
        fail_msg("window %lld %lld, causal %d, %zu documents: queries %lld+%lld·%lld, keys %lld+%lld·%lld: live %d, "
                 "area %g, counted %g",
                 (long long)p->window_left, (long long)p->window_right, p->causal, p->documents, (long long)q->first,
                 (long long)q->count, (long long)q->step, (long long)k->first, (long long)k->count, (long long)k->step,
                 live, ringx__mask_area(&shape->mask, q, k), pairs);
}

static int all_runs(int64_t tokens, ringx_run *runs)
{
    int n = 0;
    for (int64_t step = 1; step <= 3; step++)
        for (int64_t first = 0; first < tokens; first++)
            for (int64_t count = 0; count == 0 || first + (count - 1) * step < tokens; count++)
                runs[n++] = (ringx_run){.count = count, .first = first, .step = step};
    return n;
}

static void runs_are_judged_exactly(void **state)
{
    (void)state;
    ringx_run runs[256];
    int64_t bounds[BOUNDS], tokens = 7;
    int n = all_runs(tokens, runs);
    assert_true(n > 50 && n < 256);
    for (int window = 0; window < WINDOWS * WINDOWS; window++)
        for (int causal = 0; causal < 2; causal++)
            for (int64_t code = 0; code < codes(tokens); code += code ? 401 : 1) {
                ringx_problem p = problem_at(tokens, window, causal, code, bounds);
                ringx_shape shape;
                assert_int_equal(ringx__shape_create(&shape, &p), RINGX_OK);
                for (int i = 0; i < n; i++)
                    for (int j = 0; j < n; j++)
                        check_pair_of_runs(&p, &shape, &runs[i], &runs[j]);
                ringx__shape_destroy(&shape);
            }
}

/* Beyond 512 queries the area is exact where it is linear, and near elsewhere. */
static void areas_of_long_runs(void **state)
{
    (void)state;
    static const int64_t lengths[] = {513, 1000, 1025, 4099, 65536};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int64_t s = lengths[i];
        ringx_problem p = RINGX_PROBLEM_INIT;
        p.batch = p.q_heads = p.kv_heads = p.head_dim = 1;
        p.tokens = 3 * s;
        for (int kind = 0; kind < 3; kind++) {
            p.causal = kind > 0;
            p.window_left = kind == 2 ? s / 3 : -1;
            ringx_shape shape;
            assert_int_equal(ringx__shape_create(&shape, &p), RINGX_OK);
            ringx_run q = {.count = s, .first = s, .step = 1}, k = {.count = 2 * s, .first = 0, .step = 1};
            double n = (double)s, exact = kind == 0   ? n * 2 * n
                                          : kind == 1 ? n * n + n * (n + 1) / 2
                                                      : n * (double)(s / 3 + 1);
            assert_true(ringx__mask_area(&shape.mask, &q, &k) == exact);
            /* own tokens under the window: linear, then constant */
            q.first = k.first = 0;
            k.count = s;
            if (kind == 2) {
                double w = (double)(s / 3 + 1), near = w * (w + 1) / 2 + (n - w) * w;
                assert_true(fabs(ringx__mask_area(&shape.mask, &q, &k) / near - 1) < 1e-4);
            }
            ringx__shape_destroy(&shape);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(intervals_are_the_definition),
                                       cmocka_unit_test(runs_are_judged_exactly), cmocka_unit_test(areas_of_long_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
