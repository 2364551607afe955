/* SPDX-License-Identifier: MIT */
/* Which GPU each rank of a node gets. */
#include "launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void ranks_take_turns(void **state)
{
    (void)state;
    settings s;
    settings_defaults(&s);
    for (int count = 1; count < 5; count++)
        for (int local = 0; local < 9; local++) {
            int index = -1;
            assert_int_equal(gpu_of_rank(&s, local, count, &index), CODE_GOOD);
            assert_int_equal(index, local % count);
        }
    settings_free(&s);
}

static void a_list_is_obeyed(void **state)
{
    (void)state;
    static const int expected[] = {3, 1, 1, 0, 3, 1, 1, 0, 3};
    settings s;
    settings_defaults(&s);
    s.gpus = "3,1,1,0";
    for (int local = 0; local < 9; local++) {
        int index = -1;
        assert_int_equal(gpu_of_rank(&s, local, 4, &index), CODE_GOOD);
        assert_int_equal(index, expected[local]);
    }
    s.gpus = "2";
    int index = -1;
    assert_int_equal(gpu_of_rank(&s, 5, 3, &index), CODE_GOOD);
    assert_int_equal(index, 2);
    settings_free(&s);
}

static void wrong_lists_are_named(void **state)
{
    (void)state;
    static const char *const lists[] = {"0,4", "0,-1", "0,x", "0,1x", "0,", "0,,1", "0,99999999999999999999"};
    settings s;
    settings_defaults(&s);
    int index;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        s.gpus = lists[i];
        assert_int_equal(gpu_of_rank(&s, 0, 4, &index), CODE_GOOD);
        assert_int_equal(gpu_of_rank(&s, 1, 4, &index), CODE_USAGE);
        assert_non_null(strstr(failure(), lists[i]));
        assert_non_null(strstr(failure(), "item 2 must be a number of a GPU, 0 to 3"));
    }
    s.gpus = "";
    assert_int_equal(gpu_of_rank(&s, 0, 4, &index), CODE_USAGE);
    s.gpus = NULL;
    assert_int_equal(gpu_of_rank(&s, 0, 0, &index), CODE_CONFIGURATION);
    settings_free(&s);
}

static void ranks_of_one_gpu_each_use_nccl(void **state)
{
    (void)state;
    const char *best = launch_has_nccl ? "nccl" : "staged";
    assert_string_equal(gpu_transport(1, 1), "none");
    assert_string_equal(gpu_transport(2, 0), "none");
    assert_string_equal(gpu_transport(2, 2), best);
    assert_string_equal(gpu_transport(2, 4), best);
    assert_string_equal(gpu_transport(3, 2), "staged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_take_turns), cmocka_unit_test(a_list_is_obeyed),
                                       cmocka_unit_test(wrong_lists_are_named),
                                       cmocka_unit_test(ranks_of_one_gpu_each_use_nccl)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
