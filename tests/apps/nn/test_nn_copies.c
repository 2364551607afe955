/* SPDX-License-Identifier: MIT */
/* Contexts on CPUs, and copies that run beside the operators. */
#include "shared/report.h" /* before cmocka, which has a fail of its own */

#include "nn_case.h"

static void opened(nn_context *on)
{
    assert_int_equal(nn_open(on, RINGX_CPU), 0);
    assert_ptr_equal(on->ops, &nn_cpu);
}

/* There and back, of all sizes around a page, with an operator before the one and after the other. */
static void copies(void **state)
{
    (void)state;
    nn_context on;
    opened(&on);
    const size_t sizes[] = {0, 1, 3, 4095, 4096, 4097, 100003};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i];
        unsigned char *there = malloc(n + 1), *back = malloc(n + 1);
        void *host = NULL;
        assert_int_equal(on.ops->host_alloc(n, &host), 0);
        assert_non_null(host);
        poison(host, n), poison(back, n + 1), poison(there, n + 1);
        assert_int_equal(on.ops->zero(&on, there, n), 0);
        for (size_t b = 0; b < n; b++)
            there[b] = (unsigned char)(b * 7 + i);
        assert_int_equal(on.ops->copy_begin(&on, host, there, n), 0);
        assert_int_equal(on.ops->copy_wait(&on), 0);
        assert_int_equal(on.ops->copy_begin(&on, back, host, n), 0);
        assert_int_equal(on.ops->wait(&on), 0);
        assert_same_bits(back, there, n);
        assert_int_equal(back[n], POISON);
        on.ops->host_free(host);
        free(there), free(back);
    }
    on.ops->host_free(NULL);
    nn_close(&on);
    assert_null(on.ops);
}

static void devices(void **state)
{
    (void)state;
    nn_context on = {.ops = &nn_cpu};
    assert_int_equal(nn_open(&on, (ringx_device)7), CODE_USAGE);
    assert_non_null(strstr(failure(), "7"));
    assert_null(on.ops);
    nn_close(&on); /* of what was not opened */
#ifndef RINGX_NN_CUDA
    assert_int_equal(nn_open(&on, RINGX_CUDA), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "no CUDA"));
    nn_close(&on);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies), cmocka_unit_test(devices)};
    return cmocka_run_group_tests_name("nn_copies", tests, NULL, NULL);
}
