/* SPDX-License-Identifier: MIT */
/* The same of groups whose ranks are processes that know their places from the environment: the test starts them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "apps/train/group_checks.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* More than one round: longer than the room for pieces. */
static int check_long(group *g)
{
    return check_all_reduce(g, GROUP_SUM, GROUP_F32, ((size_t)1 << 20) + 13);
}

static int check_all(group *g, const int size[AXES])
{
    int code = group_ranks(g) == size[0] * size[1] * size[2]
                   ? CODE_GOOD
                   : (fail)(CODE_WRONG, "the world has %d ranks", group_ranks(g));
    if (!code)
        code = check_data(g);
    if (!code)
        code = check_long(g);
    if (!code)
        code = check_agreement(g);
    if (!code)
        code = check_comm(g);
    return code ? code : check_layout(g, size, (const axis[AXES]){AXIS_CONTEXT, AXIS_TENSOR, AXIS_DATA});
}

static int whole(group *world, void *context)
{
    int code = check_all(world, context);
    if (code)
        fprintf(stderr, "rank %d: %s\n", group_rank(world), failure());
    return code;
}

/* One rank fails alone before the world's next agreement: the others hear why, and all end. */
static int one_fails(group *world, void *context)
{
    (void)context;
    int code = group_agree(world, group_rank(world) == 1 ? (fail)(CODE_BAD_INPUT, "no such thing") : CODE_GOOD);
    return code == CODE_BAD_INPUT && strcmp(failure(), "rank 1: no such thing") == 0 ? CODE_GOOD : CODE_WRONG;
}

/* A rank is gone: the others are told so long before their patience ends. */
static int one_ends(group *world, void *context)
{
    (void)context;
    double value = 1;
    if (group_rank(world) == 1)
        _exit(0);
    return group_sum(world, &value) == CODE_PEER_DIED ? CODE_GOOD : CODE_WRONG;
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(s >= 0 && bind(s, (struct sockaddr *)&at, sizeof at) == 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&at, &size), 0);
    close(s);
    return ntohs(at.sin_port);
}

static void tell(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

static void start(int ranks, group_body *body, void *context)
{
    int port = free_port(), status;
    pid_t processes[16];
    static const char *const launchers[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "RINGX_PORT"};
    for (int r = 0; r < ranks; r++) {
        processes[r] = fork();
        assert_true(processes[r] >= 0);
        if (processes[r])
            continue;
        for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
            unsetenv(launchers[i]);
        tell("RANK", r), tell("WORLD_SIZE", ranks), tell("MASTER_PORT", port);
        setenv("MASTER_ADDR", "127.0.0.1", 1);
        _exit(group_world_run(body, context));
    }
    for (int r = 0; r < ranks; r++) {
        assert_int_equal(waitpid(processes[r], &status, 0), processes[r]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static void one_process(void **state)
{
    (void)state;
    start(1, whole, (int[AXES]){1, 1, 1});
}

static void three_processes(void **state)
{
    (void)state;
    start(3, whole, (int[AXES]){1, 3, 1});
}

static void eight_processes(void **state)
{
    (void)state;
    start(8, whole, (int[AXES]){2, 2, 2});
}

static void all_hear_of_one(void **state)
{
    (void)state;
    start(3, one_fails, NULL);
    start(3, one_ends, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_process), cmocka_unit_test(three_processes),
                                       cmocka_unit_test(eight_processes), cmocka_unit_test(all_hear_of_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
