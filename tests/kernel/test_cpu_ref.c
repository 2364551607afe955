/* SPDX-License-Identifier: MIT */
/* cpu_ref against the definition. */
#include "kernel/kernel_oracle.h"
#include "kernel/kernel_run.h"

extern const ringx_kernel ringx__kernel_cpu_ref;

static void random_cases(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 150; seed++) {
        kernel_case c;
        oracle o;
        case_create(&c, seed, (kernel_size){.tokens = 60, .dim = 40, .heads = 2});
        start_gradients(&c);
        oracle_create(&o, &c);
        run_forward(&c, &ringx__kernel_cpu_ref, (run_how){.threads = 2});
        check_forward(&c, &o, 2e-7);
        run_backward(&c, &ringx__kernel_cpu_ref, (run_how){.threads = 2});
        check_backward(&c, &o, 3e-7);
        oracle_destroy(&o, &c);
        case_destroy(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
