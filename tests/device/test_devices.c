/* SPDX-License-Identifier: MIT */
/* Which devices there are, and using one. */
#include <ringx/ringx.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void there_is_one_cpu(void **state)
{
    (void)state;
    int count = -7;
    assert_int_equal(ringx_device_count(RINGX_CPU, &count), RINGX_OK);
    assert_int_equal(count, 1);
    assert_int_equal(ringx_device_use(RINGX_CPU, 0), RINGX_OK);
    assert_int_equal(ringx_device_use(RINGX_CPU, 1), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "index is 1"));
    assert_int_equal(ringx_device_use(RINGX_CPU, -1), RINGX_INVALID);
}

static void gpus_can_be_used_where_they_are(void **state)
{
    (void)state;
    int count = -7;
    assert_int_equal(ringx_device_count(RINGX_CUDA, &count), RINGX_OK);
    assert_true(count >= 0);
    for (int i = 0; i < count; i++)
        assert_int_equal(ringx_device_use(RINGX_CUDA, i), RINGX_OK);
    assert_int_equal(ringx_device_use(RINGX_CUDA, count), count ? RINGX_INVALID : RINGX_UNSUPPORTED);
    assert_non_null(strstr(ringx_last_error(), "CUDA device"));
}

static void arguments_are_checked(void **state)
{
    (void)state;
    int count = -7;
    assert_int_equal(ringx_device_count((ringx_device)7, &count), RINGX_INVALID);
    assert_int_equal(ringx_device_count(RINGX_CPU, NULL), RINGX_INVALID);
    assert_int_equal(ringx_device_use((ringx_device)7, 0), RINGX_INVALID);
    assert_int_equal(count, -7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_is_one_cpu),
                                       cmocka_unit_test(gpus_can_be_used_where_they_are),
                                       cmocka_unit_test(arguments_are_checked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
