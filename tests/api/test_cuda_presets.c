/* SPDX-License-Identifier: MIT */
/* On a GPU: every preset, mask and dtype gives the oracle's results, ranks being threads that share the device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/attention_case.h"

static bool no_gpu(void)
{
    void *probe;
    if (ringx_memory_alloc(RINGX_CUDA, 128, &probe) == RINGX_OK) {
        ringx_memory_free(RINGX_CUDA, probe);
        return false;
    }
    fprintf(stderr, "skipped: %s\n", ringx_last_error());
    return true;
}

static void check(const char *preset, const char *kernel, int variant, int ranks)
{
    static const int64_t dims[] = {64, 128, 48, 96, 40, 256, 16, 33};
    int64_t bounds[3] = {2, 70, 190};
    attention_case c = {.problem = RINGX_PROBLEM_INIT, .options = RINGX_OPTIONS_INIT, .ranks = ranks};
    c.problem.batch = 1 + variant % 2;
    c.problem.tokens = (int64_t[]){200, 131, 257, 1, 64, 0, 3, 320}[variant % 8];
    c.problem.kv_heads = 1 + variant % 3;
    c.problem.q_heads = c.problem.kv_heads * (1 + variant / 2 % 3);
    c.problem.head_dim = dims[variant / 3 % 8];
    c.problem.dtype = (ringx_dtype)(variant % 3);
    c.problem.causal = variant % 4 != 0;
    c.problem.window_left = variant % 5 == 3 ? 37 : -1;
    c.problem.softcap = variant % 6 == 2 ? 3.0 : 0;
    c.problem.dropout = variant % 6 == 4 ? 0.3 : 0;
    c.problem.seed = (uint64_t)variant;
    if (variant % 7 == 5 && c.problem.tokens > 190) {
        c.problem.document_starts = bounds;
        c.problem.documents = 2;
    }
    c.options.device = RINGX_CUDA;
    c.options.preset = preset;
    c.options.kernel = kernel;
    c.options.deterministic = variant % 2;
    c.data_seed = (uint64_t)(variant * 100 + ranks);
    case_run(&c);
    if (c.status[0] == RINGX_UNSUPPORTED && kernel) {
        case_free(&c);
        return;
    }
    if (!case_right(&c))
        fail_msg("%s, kernel %s, variant %d, %d ranks", preset, kernel ? kernel : "(best)", variant, ranks);
    case_free(&c);
}

static void every_preset_is_right(void **state)
{
    (void)state;
    if (no_gpu())
        skip();
    int variant = 0;
    for (size_t i = 0; ringx_preset_at(i); i++)
        for (int ranks = 1; ranks <= 4; ranks++, variant++)
            check(ringx_preset_at(i)->name, NULL, variant, ranks);
}

static void every_kernel_is_right(void **state)
{
    (void)state;
    if (no_gpu())
        skip();
    for (size_t k = 0; ringx_kernel_at(k); k++)
        for (int variant = 0; variant < 96 && ringx_kernel_at(k)->device == RINGX_CUDA; variant++)
            check("ringX3", ringx_kernel_at(k)->name, variant, 1 + variant % 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_preset_is_right),
                                       cmocka_unit_test(every_kernel_is_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
