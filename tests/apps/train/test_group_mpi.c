/* SPDX-License-Identifier: MIT */
/* The same of groups over MPI: the test starts itself under mpirun, with as many ranks as each layout has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "apps/train/group_checks.h"

#include <sys/wait.h>
#include <cmocka.h>

static char program[4096], build[4096];

static int on_ranks(const int size[AXES])
{
    group *g;
    int code = group_world(&g);
    if (!code && group_ranks(g) != size[0] * size[1] * size[2])
        code = (fail)(CODE_WRONG, "the world has %d ranks", group_ranks(g));
    if (!code)
        code = check_data(g);
    if (!code && getenv("RINGX_LONG") && group_ranks(g) == 3) /* parts beyond a message: 10 GB in all */
        code = check_broadcast(g, ((size_t)3 << 30) + 17, 1);
    if (!code)
        code = check_agreement(g);
    if (!code)
        code = check_layout(g, size, (const axis[AXES]){AXIS_CONTEXT, AXIS_TENSOR, AXIS_DATA});
    if (code)
        fprintf(stderr, "rank %d: %s\n", group_rank(g), failure());
    group_destroy(g);
    group_mpi_finish();
    return code;
}

static void start(int tensor, int context, int data)
{
    char command[9000];
    snprintf(command, sizeof command, RINGX_TEST_DATA "/../../scripts/mpirun '%s' %d '%s' %d %d %d", build,
             tensor * context * data, program, tensor, context, data);
    int status = system(command);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 69) /* built without MPI */
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void one_process(void **state)
{
    (void)state;
    start(1, 1, 1);
}

static void three_processes(void **state)
{
    (void)state;
    start(1, 3, 1);
}

static void four_processes(void **state)
{
    (void)state;
    start(2, 1, 2);
}

int main(int count, char **arguments)
{
    if (count == 4)
        return on_ranks((const int[AXES]){atoi(arguments[1]), atoi(arguments[2]), atoi(arguments[3])});
    if (!realpath(arguments[0], program))
        return 1;
    snprintf(build, sizeof build, "%.*s/..", (int)(strrchr(program, '/') - program), program);
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_process), cmocka_unit_test(three_processes),
                                       cmocka_unit_test(four_processes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
