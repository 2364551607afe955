/* SPDX-License-Identifier: MIT */
/* Machine descriptions: the built-in ones, what is read, and one clear line for everything that is wrong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "schedule/machine.h"

#define GOOD                                                                                                           \
    "name: test\nranks_per_node: 4\nforward_gflops: 100\nbackward_gflops: [[64, 10], [1024, 50]]\n"                    \
    "step_overhead_us: 3\nmemory_gbs: 8\nintra_latency_us: 1\nintra_gbs: 20\n"                                         \
    "inter_latency_us: 2\ninter_gbs: 10\n"

static ringx_status parse(ringx_machine *m, const char *text)
{
    memset(m, 0xA5, sizeof *m);
    return ringx__machine_parse(m, text, strlen(text), "test.yaml");
}

static void test_good(void **state)
{
    (void)state;
    ringx_machine m;
    assert_int_equal(parse(&m, GOOD "cores_per_node: 16\nreduce_gbs: 7 # a comment\n"), RINGX_OK);
    assert_string_equal(m.name, "test");
    assert_int_equal(m.ranks_per_node, 4);
    assert_int_equal(m.cores_per_node, 16);
    assert_int_equal(m.threads_per_rank, 1);
    assert_int_equal(m.nics_per_node, 1);
    assert_true(m.memory_gbs == 8 && m.inter_gbs == 10 && m.reduce_gbs == 7 && m.exchange_gbs == 0);
    assert_true(m.transfer_cores == 0 && m.compute_slowdown == 0);
    assert_int_equal(m.forward.points, 1);
    assert_int_equal(m.backward.points, 2);
}

static void test_rates(void **state)
{
    (void)state;
    ringx_machine m;
    assert_int_equal(parse(&m, GOOD), RINGX_OK);
    assert_true(ringx__machine_rate(&m.forward, 1) == 100e9 && ringx__machine_rate(&m.forward, 1e9) == 100e9);
    assert_true(ringx__machine_rate(&m.backward, 1) == 10e9);
    assert_true(ringx__machine_rate(&m.backward, 64) == 10e9);
    assert_true(fabs(ringx__machine_rate(&m.backward, 256) - 30e9) < 1e3); /* half way in the logarithm */
    assert_true(ringx__machine_rate(&m.backward, 1024) == 50e9 && ringx__machine_rate(&m.backward, 4096) == 50e9);
    assert_true(ringx__machine_share(&m.forward_by_dim, 48) == 1);
    assert_int_equal(parse(&m, GOOD "forward_by_dim: [[64, 0.5], [256, 1]]\n"), RINGX_OK);
    assert_true(fabs(ringx__machine_share(&m.forward_by_dim, 128) - 0.75) < 1e-12);
    assert_true(ringx__machine_share(&m.forward_by_dim, 16) == 0.5 &&
                ringx__machine_share(&m.backward_by_dim, 16) == 1);
}

static void test_built_in(void **state)
{
    (void)state;
    static const char *const names[] = {"h200x2", "h200x8", "frontier", "local"};
    size_t count = 0;
    for (; ringx__machine_texts[count].name; count++) {
        ringx_machine m;
        assert_int_equal(ringx__machine_load(&m, ringx__machine_texts[count].name), RINGX_OK);
        assert_true(ringx__machine_rate(&m.forward, 4096) > 0 && ringx__machine_rate(&m.backward, 4096) > 0);
    }
    assert_true(count >= 4);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ringx_machine m, local;
        assert_int_equal(ringx__machine_load(&m, names[i]), RINGX_OK);
        assert_int_equal(ringx__machine_load(&local, NULL), RINGX_OK);
        assert_int_equal(strcmp(m.name, local.name) == 0, strcmp(names[i], "local") == 0);
    }
}

static void assert_bad(const char *text, const char *says)
{
    ringx_machine m;
    ringx_status status = parse(&m, text);
    if (status != RINGX_BAD_FILE || !strstr(ringx_last_error(), says) || !strstr(ringx_last_error(), "test.yaml"))
        fail_msg("%s: '%s' should say '%s'\n%s", ringx_status_name(status), ringx_last_error(), says, text);
}

static void test_bad(void **state)
{
    (void)state;
    assert_bad("", "description");
    assert_bad("- a\n- b\n", "description");
    assert_bad("just text", "description");
    assert_bad("name: x\n", "ranks_per_node is missing");
    assert_bad(GOOD "memory_gb: 4\n", "line 11: key 'memory_gb' is unknown; the nearest is 'memory_gbs'");
    assert_bad(GOOD "memory_gbs: 4\n", "line 11: memory_gbs is there twice");
    assert_bad(GOOD "cores_per_node: 1.5\n", "'1.5'; it must be a whole number");
    assert_bad(GOOD "cores_per_node: -1\n", "'-1'");
    assert_bad(GOOD "cores_per_node: 12x\n", "'12x'");
    assert_bad(GOOD "cores_per_node: nan\n", "'nan'");
    assert_bad(GOOD "reduce_gbs: inf\n", "'inf'");
    assert_bad(GOOD "reduce_gbs: 0\n", "'0'");
    assert_bad(GOOD "reduce_gbs: ''\n", "''");
    assert_bad(GOOD "reduce_gbs: [1]\n", "no scalar");
    assert_bad(GOOD "compute_slowdown: 1\n", "from 0 to 0.99");
    assert_bad(GOOD "? [a, b]\n: 3\n", "a key is expected");
    assert_bad(GOOD "reduce_gbs: {a: 1}\n", "no scalar");
    assert_bad(GOOD "reduce_gbs: &x 4\nexchange_gbs: *x\n", "aliases");
    assert_bad(GOOD "---\nname: y\n", "one document");
    assert_bad("name: x\n\tranks_per_node: 2\n", "line 2");
    assert_bad("name: \"x\n", "line");
    assert_bad("name: x\nranks_per_node: 2\nforward_gflops: 1\nbackward_gflops: 1\nstep_overhead_us: 1\n"
               "memory_gbs: 1\nintra_latency_us: 1\nintra_gbs: 1\n",
               "inter_gbs is missing");
}

static void test_bad_rates(void **state)
{
    (void)state;
    assert_bad("forward_gflops: []\n", "empty list");
    assert_bad("forward_gflops: [1, 2]\n", "[tokens, number]");
    assert_bad("forward_gflops: {a: 2}\n", "[tokens, number]");
    assert_bad("forward_gflops: [[1, 2, 3]]\n", "the end of a [tokens, number] pair");
    assert_bad("forward_gflops: [[1]]\n", "no scalar");
    assert_bad("forward_by_dim: [1]\n", "[head_dim, number]");
    assert_bad("backward_by_dim: [[64, 1], [48, 1]]\n", "the head_dim of backward_by_dim must ascend");
    assert_bad("forward_gflops: [[64, 2], [64, 3]]\n", "must ascend");
    assert_bad("forward_gflops: [[0, 2]]\n", "tokens is '0'");
    assert_bad("forward_gflops: [[1, -2]]\n", "forward_gflops is '-2'");
    assert_bad("forward_gflops: [[[[[[[[1]]]]]]]]\n", "no scalar");
    char many[1024] = "forward_gflops: [";
    for (int i = 1; i <= RINGX_RATE_POINTS + 1; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "[%d, 1],", i);
    strcat(many, "]\n");
    assert_bad(many, "more than 32 points");
}

/* Deep or large descriptions end early, without recursion. */
static void test_bounds(void **state)
{
    (void)state;
    size_t bytes = 60000;
    char *text = malloc(2 * bytes + 1);
    memset(text, '[', bytes);
    text[bytes] = 0;
    assert_bad(text, "description");
    snprintf(text, 32, "forward_gflops: ");
    memset(text + 16, '[', bytes - 16);
    assert_bad(text, "no scalar");
    memset(text, '#', 2 * bytes);
    text[2 * bytes] = 0;
    assert_bad(text, "more than 65536 bytes");
    free(text);
    char name[128];
    snprintf(name, sizeof name, "name: %065d\n", 0);
    assert_bad(name, "1 … 63 characters");
}

/* Any one byte changed, any length cut: an error or a machine, never a crash. */
static void test_damaged(void **state)
{
    (void)state;
    char text[] = GOOD;
    for (size_t i = 0; i < sizeof text - 1; i++)
        for (int c = 0; c < 256; c += 5) {
            char before = text[i];
            ringx_machine m;
            text[i] = (char)c;
            ringx_status status = ringx__machine_parse(&m, text, sizeof text - 1, "test.yaml");
            assert_true(status == RINGX_OK || status == RINGX_BAD_FILE);
            status = ringx__machine_parse(&m, text, i, "test.yaml");
            assert_true(status == RINGX_OK || status == RINGX_BAD_FILE);
            text[i] = before;
        }
}

static void test_files(void **state)
{
    (void)state;
    ringx_machine m;
    char path[] = "/tmp/ringx-machine-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, GOOD, sizeof GOOD - 1), sizeof GOOD - 1);
    close(fd);
    assert_int_equal(ringx__machine_load(&m, path), RINGX_OK);
    assert_string_equal(m.name, "test");
    unlink(path);
    assert_int_equal(ringx__machine_load(&m, path), RINGX_IO);
    assert_non_null(strstr(ringx_last_error(), path));
    assert_int_equal(ringx__machine_load(&m, "/tmp"), RINGX_IO);
    assert_int_equal(ringx__machine_load(&m, "h200x3"), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "machine 'h200x3' is unknown; the nearest is 'h200x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),    cmocka_unit_test(test_rates),     cmocka_unit_test(test_built_in),
        cmocka_unit_test(test_bad),     cmocka_unit_test(test_bad_rates), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
