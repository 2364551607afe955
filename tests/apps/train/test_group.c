/* SPDX-License-Identifier: MIT */
/* Groups of ranks: sums in the group's order to the bit, uneven shares, agreement, layouts, and ranks that end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "apps/train/group_checks.h"
#include "apps/train/group_ranks.h"

#include <time.h>

static int all_checks(group *g, void *context)
{
    (void)context;
    int code = check_data(g);
    if (!code)
        code = check_agreement(g);
    return code ? code : check_comm(g);
}

static void threads_of_every_number(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 7; ranks++)
        run_group_good(ranks, all_checks, NULL);
    run_group_good(16, all_checks, NULL);
}

static void one_rank_alone(void **state)
{
    (void)state;
    group *g, *part;
    assert_int_equal(group_self(&g), CODE_GOOD);
    assert_int_equal(all_checks(g, NULL), CODE_GOOD);
    assert_int_equal(group_split(g, 3, 1, &part), CODE_GOOD);
    assert_int_equal(all_checks(part, NULL), CODE_GOOD);
    assert_int_equal(group_agree(part, (fail)(CODE_IO, "as it was")), CODE_IO);
    assert_string_equal(failure(), "as it was");
    group_destroy(part);
    group_destroy(g);
}

/* More than one round: longer than the room for parts. */
static int long_sums(group *g, void *context)
{
    (void)context;
    return check_all_reduce(g, GROUP_SUM, GROUP_F32, ((size_t)1 << 21) + 13);
}

static void sums_in_rounds(void **state)
{
    (void)state;
    run_group_good(3, long_sums, NULL);
}

typedef struct layout_case {
    int size[AXES];
    axis order[AXES];
} layout_case;

static int layout_body(group *g, void *context)
{
    const layout_case *c = context;
    return check_layout(g, c->size, c->order);
}

static void layouts(void **state)
{
    (void)state;
    static const int sizes[][AXES] = {{1, 1, 1}, {1, 2, 1}, {1, 3, 1}, {2, 1, 1},
                                      {2, 2, 1}, {1, 2, 2}, {2, 2, 2}, {2, 3, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int a = 0; a < AXES; a++)
            for (int b = 0; b < AXES; b++)
                if (a != b) {
                    layout_case c = {.order = {(axis)a, (axis)b, (axis)(3 - a - b)}};
                    memcpy(c.size, sizes[i], sizeof c.size);
                    run_group_good(sizes[i][0] * sizes[i][1] * sizes[i][2], layout_body, &c);
                }
}

static int usual_layout(group *g, void *context)
{
    (void)context;
    parallel p;
    int code = parallel_create(&p, g, (const int[AXES]){2, 2, 0}, NULL);
    if (code)
        return code;
    int rank = p.at[AXIS_TENSOR] + 2 * (p.at[AXIS_CONTEXT] + 2 * p.at[AXIS_DATA]);
    if (rank != group_rank(g) || p.size[AXIS_DATA] != 3)
        code = (fail)(CODE_WRONG, "rank %d stands where rank %d should", group_rank(g), rank);
    parallel_destroy(&p);
    return code;
}

static int wrong_layout(group *g, void *context)
{
    parallel p;
    return parallel_create(&p, g, context, NULL);
}

static void layouts_that_do_not_multiply(void **state)
{
    (void)state;
    group_run runs[4];
    run_group_good(12, usual_layout, NULL);
    run_group(runs, 4, wrong_layout, (int[AXES]){1, 3, 0});
    for (int r = 0; r < 4; r++) {
        assert_int_equal(runs[r].code, CODE_CONFIGURATION);
        assert_non_null(strstr(runs[r].message, "tensor 1 × context 3 × data 1 ranks are 3, but there are 4"));
    }
    run_group(runs, 2, wrong_layout, (int[AXES]){0, 1, 2});
    assert_int_equal(runs[1].code, CODE_CONFIGURATION);
}

static int one_leaves(group *g, void *context)
{
    (void)context;
    if (group_rank(g) == 1)
        return CODE_GOOD;
    double value = 1;
    return group_sum(g, &value);
}

static int one_is_late(group *g, void *context)
{
    (void)context;
    double value = 1;
    group_set_timeout(g, 0.1);
    if (group_rank(g) == 1)
        nanosleep(&(struct timespec){.tv_nsec = 600000000}, NULL);
    return group_sum(g, &value);
}

static void nobody_waits_for_ever(void **state)
{
    (void)state;
    group_run runs[3];
    run_group(runs, 3, one_leaves, NULL);
    assert_int_equal(runs[0].code, CODE_PEER_DIED);
    assert_int_equal(runs[2].code, CODE_PEER_DIED);
    run_group(runs, 2, one_is_late, NULL);
    assert_int_equal(runs[0].code, CODE_STALLED);
    assert_true(runs[1].code != CODE_GOOD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_of_every_number),
                                       cmocka_unit_test(one_rank_alone),
                                       cmocka_unit_test(sums_in_rounds),
                                       cmocka_unit_test(layouts),
                                       cmocka_unit_test(layouts_that_do_not_multiply),
                                       cmocka_unit_test(nobody_waits_for_ever)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
