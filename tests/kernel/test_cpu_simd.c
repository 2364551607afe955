/* SPDX-License-Identifier: MIT */
/* cpu_simd, each instruction set that this machine has, against the definition and against cpu_ref. */
#include "kernel/cpu_simd.h"
#include "kernel/kernel_oracle.h"
#include "kernel/kernel_run.h"

static void compare(uint64_t seed, kernel_size size)
{
    kernel_case c;
    oracle o;
    case_create(&c, seed, size);
    start_gradients(&c);
    oracle_create(&o, &c);
    for (size_t i = 0; ringx__simd_at(i); i++) {
        const ringx_kernel *kernel = &ringx__simd_at(i)->kernel;
        if (!kernel->available())
            continue;
        run_forward(&c, kernel, (run_how){.threads = 1 + (int)(seed % 3)});
        check_forward(&c, &o, 1e-6);
        run_backward(&c, kernel, (run_how){.threads = 1 + (int)(seed % 3)});
        check_backward(&c, &o, 1e-6);
    }
    oracle_destroy(&o, &c);
    case_destroy(&c);
}

static void small_cases(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1000; seed < 1400; seed++)
        compare(seed, (kernel_size){.tokens = 70, .dim = 64, .heads = 2});
}

static void wide_heads(void **unused)
{
    (void)unused;
    for (uint64_t seed = 2000; seed < 2040; seed++)
        compare(seed, (kernel_size){.tokens = 40, .dim = 256, .heads = 2});
}

static void long_sequences(void **unused)
{
    (void)unused;
    for (uint64_t seed = 3000; seed < 3012; seed++)
        compare(seed, (kernel_size){.tokens = 900, .dim = 20, .heads = 1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cases),
        cmocka_unit_test(wide_heads),
        cmocka_unit_test(long_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
