/* SPDX-License-Identifier: MIT */
/* State on a device: walked in order, and groups' sums and gathers of it equal those of host memory bit for bit.  On
 * CPUs, and on a GPU where there is one; there in several pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>

#include "apps/train/group_checks.h"
#include "apps/train/group_ranks.h"
#include "device/need_gpus.h"
#include "train/device_data.h"
#include "train/group_nccl.h"

#define LARGE (((size_t)1 << 25) + 13) /* floats: more than one piece */

static ringx_device device; /* of the test that runs */

static int to_device(const void *host, size_t bytes, float **there)
{
    void *made = NULL;
    ringx_status status = ringx_memory_alloc(device, bytes, &made);
    if (status == RINGX_OK && host)
        status = ringx_memory_copy(device, made, host, bytes);
    *there = made;
    return fail_status(status, "%zu bytes of the device", bytes);
}

static int to_host(const void *there, size_t bytes, float **host)
{
    *host = allocate(bytes);
    return *host ? fail_status(ringx_memory_copy(device, *host, there, bytes), "%zu bytes back", bytes)
                 : CODE_NO_MEMORY;
}

typedef struct walk {
    size_t next;
    float step;
    size_t bad; /* where to stop */
} walk;

static int add_step(void *context, float *values, size_t first, size_t count)
{
    walk *w = context;
    if (first != w->next)
        return (fail)(CODE_WRONG, "a piece at %zu after %zu", first, w->next);
    for (size_t i = 0; i < count; i++) {
        if (values[i] != (float)((first + i) % 1000))
            return (fail)(CODE_WRONG, "element %zu is %g", first + i, (double)values[i]);
        values[i] += w->step;
    }
    w->next = first + count;
    return w->next > w->bad ? (fail)(CODE_IO, "asked to stop") : CODE_GOOD;
}

static void check_walk(size_t count, bool back)
{
    float *host = allocate(count * sizeof *host), *there, *after;
    for (size_t i = 0; i < count; i++)
        host[i] = (float)(i % 1000);
    assert_int_equal(to_device(host, count * sizeof *host, &there), CODE_GOOD);
    walk w = {.step = 0.5f, .bad = SIZE_MAX};
    int code = device_walk(device, there, count, back, add_step, &w);
    if (code)
        fail_msg("%s", failure());
    assert_int_equal(w.next, count);
    assert_int_equal(to_host(there, count * sizeof *host, &after), CODE_GOOD);
    float step = back || device == RINGX_CPU ? 0.5f : 0;
    for (size_t i = 0; i < count; i++)
        assert_true(after[i] == host[i] + step);
    if (count) {
        assert_int_equal(ringx_memory_copy(device, there, host, count * sizeof *host), RINGX_OK);
        w = (walk){.step = 0, .bad = 0};
        assert_int_equal(device_walk(device, there, count, back, add_step, &w), CODE_IO);
    }
    ringx_memory_free(device, there);
    free(host), free(after);
}

static int all_reduce(group *g, void *context)
{
    size_t count = *(size_t *)context, bytes = count * sizeof(float);
    float *host = allocate(bytes), *there = NULL, *after = NULL;
    group_fill(GROUP_F32, group_rank(g), host, count);
    int code = to_device(host, bytes, &there);
    if (!code)
        code = device_all_reduce(g, device, GROUP_SUM, there, count);
    if (!code)
        code = to_host(there, bytes, &after);
    if (!code)
        code = group_compare(g, GROUP_SUM, GROUP_F32, after, 0, count);
    ringx_memory_free(device, there);
    free(host), free(after);
    return code;
}

/* Uneven shares, the first empty where there are several; into place, then gathered: an all-reduce by hand. */
static int scatter_and_gather(group *g, void *context)
{
    size_t count = *(size_t *)context, bytes = count * sizeof(float), bounds[17], ranks = (size_t)group_ranks(g);
    float *host = allocate(bytes), *there = NULL, *apart = NULL, *after = NULL;
    for (size_t r = 0; r <= ranks; r++)
        bounds[r] = ranks == 1 ? r * count : count / (ranks * ranks) * r * (r > 1 ? r : 0);
    bounds[ranks] = count;
    size_t first = bounds[group_rank(g)], mine = bounds[group_rank(g) + 1] - first;
    group_fill(GROUP_F32, group_rank(g), host, count);
    int code = to_device(host, bytes, &there);
    code = code ? code : to_device(NULL, mine * sizeof(float), &apart);
    code = code ? code : device_reduce_scatter(g, device, there, bounds, apart);
    code = code ? code : to_host(apart, mine * sizeof(float), &after);
    code = code ? code : group_compare(g, GROUP_SUM, GROUP_F32, after, first, mine);
    free(after), after = NULL;
    code = code ? code : device_reduce_scatter(g, device, there, bounds, there + first);
    for (size_t r = 0; r <= ranks; r++)
        bounds[r] *= sizeof(float);
    code = code ? code : device_all_gather(g, device, there, bounds);
    code = code ? code : to_host(there, bytes, &after);
    code = code ? code : group_compare(g, GROUP_SUM, GROUP_F32, after, 0, count);
    ringx_memory_free(device, there), ringx_memory_free(device, apart);
    free(host), free(after);
    return code;
}

static void check_all(size_t large)
{
    const size_t counts[] = {0, 1, 1037, large};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t count = counts[i];
        check_walk(count, false);
        check_walk(count, true);
        for (int ranks = 1; ranks <= 3; ranks++) {
            run_group_good(ranks, all_reduce, &count);
            run_group_good(ranks, scatter_and_gather, &count);
        }
    }
}

static void on_the_cpu(void **state)
{
    (void)state;
    device = RINGX_CPU;
    check_all(100003);
}

static void use_gpu(void)
{
    need_gpus(1);
    device = RINGX_CUDA;
}

static void on_a_gpu(void **state)
{
    (void)state;
    use_gpu();
    check_all(LARGE);
}

/* One rank has a GPU for itself; several on one GPU must be told apart and stay with host memory. */
static int nccl_where_it_can(group *g, void *context)
{
    size_t count = 1 << 20;
    bool used;
    int code = group_use_gpus(g, NULL, false, &used);
    if (!code && used != (group_ranks(g) == 1 && *(bool *)context))
        code = (fail)(CODE_WRONG, "%d ranks: NCCL is %s", group_ranks(g), used ? "used" : "not used");
    code = code ? code : all_reduce(g, &count);
    return code ? code : scatter_and_gather(g, &count);
}

static int expect_sums(const float *sums, size_t first, size_t end)
{
    float *after = NULL;
    int code = to_host(sums + first, (end - first) * sizeof *sums, &after);
    for (size_t i = first; i < end && !code; i++)
        if (!(after[i - first] == (float)(i % 1000)))
            code = (fail)(CODE_WRONG, "element %zu is %g", i, (double)after[i - first]);
    free(after);
    return code;
}

/* Beside, calls are enqueued: after the wait for all but the last, the first three of four sums are there.  They take
 * longer than a look at their last elements, which would come too early without that wait. */
static int beside_by_nccl(group *g, void *context)
{
    enum { CALLS = 4, COUNT = 1 << 25, LAST = 1000 };
    const size_t all = (size_t)CALLS * COUNT;
    size_t bounds[2] = {0, COUNT};
    bool used;
    float *host = allocate(all * sizeof *host), *there = NULL, *sums = NULL;
    for (size_t i = 0; i < all; i++)
        host[i] = NAN;
    int code = group_use_gpus(g, NULL, true, &used);
    if (!code && used != *(bool *)context)
        code = (fail)(CODE_WRONG, "NCCL is %s", used ? "used" : "not used");
    code = code ? code : to_device(host, all * sizeof *host, &sums);
    for (size_t i = 0; i < all; i++)
        host[i] = (float)(i % 1000);
    code = code ? code : to_device(host, all * sizeof *host, &there);
    for (int i = 0; i < CALLS && !code; i++)
        code = device_reduce_scatter(g, device, there + (size_t)i * COUNT, bounds, sums + (size_t)i * COUNT);
    for (unsigned behind = 2; behind-- > 0 && !code;) {
        size_t done = (CALLS - behind) * (size_t)COUNT;
        code = device_wait(g, device, behind);
        code = code ? code : expect_sums(sums, done - LAST, done); /* first of all what was written last */
    }
    code = code ? code : expect_sums(sums, 0, all);
    ringx_memory_free(device, there), ringx_memory_free(device, sums);
    free(host);
    return code;
}

static void by_nccl(void **state)
{
    (void)state;
    use_gpu();
#ifdef RINGX_HAVE_NCCL
    bool built = true;
#else
    bool built = false;
#endif
    run_group_good(1, nccl_where_it_can, &built);
    run_group_good(2, nccl_where_it_can, &built);
    run_group_good(1, beside_by_nccl, &built);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_the_cpu), cmocka_unit_test(on_a_gpu),
                                       cmocka_unit_test(by_nccl)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
