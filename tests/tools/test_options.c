/* SPDX-License-Identifier: MIT */
/* The option parser: values, limits, and what it says about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

#include <cmocka.h> /* last: it has a macro called fail */

static int parse(const program_command *command, settings *s, int count, const char *const *arguments)
{
    static char *copies[16];
    static char text[16][256];
    for (int i = 0; i < count; i++) {
        snprintf(text[i], sizeof text[i], "%s", arguments[i]);
        copies[i] = text[i];
    }
    settings_free(s);
    settings_defaults(s);
    failure_set("");
    return options_parse(&command->options, s, count, copies);
}

#define PARSE(command, s, ...)                                                                                         \
    parse(command, s, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)),                              \
          (const char *const[]){__VA_ARGS__})

static void values(void **state)
{
    (void)state;
    settings s = {0};
    assert_int_equal(PARSE(&command_bench, &s, "--seq", "64k", "--ranks=3", "--causal", "--softcap", "1.5e1",
                           "--window", "-1,7", "--docs=0,37,101", "--preset", "ringX3,usp", "--dtype", "bf16", "--seed",
                           "0x10"),
                     0);
    assert_int_equal(s.tokens, 65536);
    assert_int_equal(s.ranks[0], 3);
    assert_true(s.ranks_set && s.causal.set && s.causal.value && s.softcap_set && s.window_set && s.docs_set);
    assert_true(s.softcap == 15.0);
    assert_int_equal(s.window[0], -1);
    assert_int_equal(s.window[1], 7);
    assert_int_equal(s.docs.count, 3);
    assert_int_equal(s.docs.items[2], 101);
    assert_int_equal(s.presets.count, 2);
    assert_string_equal(s.presets.items[0], "ringX3");
    assert_string_equal(s.presets.items[1], "usp");
    assert_int_equal(s.dtype, RINGX_BF16);
    assert_int_equal(s.seed, 16);
    assert_int_equal(PARSE(&command_bench, &s, "--no-causal"), 0);
    assert_true(s.causal.set && !s.causal.value);
    assert_int_equal(PARSE(&command_bench, &s, "--docs="), 0);
    assert_int_equal(s.docs.count, 0);
    assert_int_equal(PARSE(&command_bench, &s, "--workspace-limit", "3m"), 0);
    assert_int_equal(s.workspace_limit, 3 << 20);
    assert_int_equal(PARSE(&command_bench, &s, "--lookahead", "-1"), 0);
    assert_int_equal(s.lookahead, -1);
    settings_free(&s);
}

static void lists(void **state)
{
    (void)state;
    settings s = {0};
    assert_int_equal(PARSE(&command_verify, &s, "--ranks", "1-8", "--mask", "full,packed", "--dtype", "all", "--oracle",
                           "a", "b", "--cases", "5"),
                     0);
    assert_int_equal(s.ranks[0], 1);
    assert_int_equal(s.ranks[1], 8);
    assert_int_equal(s.masks, 1u << MASK_FULL | 1u << MASK_PACKED);
    assert_int_equal(s.dtypes, 7);
    assert_int_equal(s.oracle.count, 2);
    assert_string_equal(s.oracle.items[1], "b");
    assert_int_equal(s.cases, 5);
    assert_int_equal(PARSE(&command_verify, &s, "--oracle=x=y"), 0);
    assert_int_equal(s.oracle.count, 1);
    assert_string_equal(s.oracle.items[0], "x=y");
    assert_int_equal(PARSE(&command_verify, &s, "--preset", "all"), 0);
    assert_string_equal(s.presets.items[s.presets.count - 1], "auto");
    size_t presets = 0;
    while (ringx_preset_at(presets))
        presets++;
    assert_int_equal(s.presets.count, presets + 1);
    settings_free(&s);
}

#define REFUSED(command, reason, ...)                                                                                  \
    do {                                                                                                               \
        settings s_ = {0};                                                                                             \
        assert_int_equal(PARSE(command, &s_, __VA_ARGS__), CODE_USAGE);                                                \
        if (!strstr(failure(), reason))                                                                                \
            print_error("'%s' lacks '%s'\n", failure(), reason);                                                       \
        assert_non_null(strstr(failure(), reason));                                                                    \
        assert_null(strchr(failure(), '\n'));                                                                          \
        settings_free(&s_);                                                                                            \
    } while (0)

static void mistakes(void **state)
{
    (void)state;
    REFUSED(&command_bench, "nearest is '--iterations'", "--iteration", "3");
    REFUSED(&command_bench, "nearest is '--head-dim'", "--headdim=3");
    REFUSED(&command_bench, "nearest is '--causal'", "--casual");
    REFUSED(&command_bench, "nearest is 'ringX4o'", "--preset", "ringX3,ringX40o");
    REFUSED(&command_bench, "nearest is 'zigzag'", "--layout", "zigzig");
    REFUSED(&command_bench, "nearest is 'kvgather'", "--algorithm", "kv-gather");
    REFUSED(&command_bench, "nearest is 'cpu_ref'", "--kernel", "cpuref");
    REFUSED(&command_bench, "nearest is 'bf16'", "--dtype", "bfloat16");
    REFUSED(&command_verify, "nearest is 'window-causal'", "--mask", "full,windowcausal");
    REFUSED(&command_bench, "unexpected argument 'ringX3'", "ringX3");
    REFUSED(&command_bench, "unexpected argument '-n'", "-n", "3");
    REFUSED(&command_bench, "unexpected argument '--'", "--");
    REFUSED(&command_bench, "needs a value", "--seq");
    REFUSED(&command_bench, "takes no value", "--causal=1");
    REFUSED(&command_bench, "unknown option '--no-json'", "--no-json");
    REFUSED(&command_bench, "not a whole number", "--seq", "12x");
    REFUSED(&command_bench, "not a whole number", "--seq", "");
    REFUSED(&command_bench, "not a whole number", "--seq", " 1");
    REFUSED(&command_bench, "not a whole number", "--seq", "+1");
    REFUSED(&command_bench, "not a whole number", "--seq", "99999999999999999999");
    REFUSED(&command_bench, "not a whole number", "--seq", "9000000000000000g");
    REFUSED(&command_bench, "it must be 0 …", "--seq", "-1");
    REFUSED(&command_bench, "it must be 1 … 256", "--head-dim", "257");
    REFUSED(&command_bench, "not a finite number", "--softcap", "nan");
    REFUSED(&command_bench, "not a finite number", "--softcap", "1,5");
    REFUSED(&command_bench, "out of range", "--dropout", "1");
    REFUSED(&command_bench, "LEFT,RIGHT", "--window", "3");
    REFUSED(&command_bench, "-1 (unlimited) or more", "--window", "3,-2");
    REFUSED(&command_bench, "must not decrease", "--docs", "0,5,4");
    REFUSED(&command_bench, "not a token position", "--docs", "0,,4");
    REFUSED(&command_bench, "has one number", "--docs", "4");
    REFUSED(&command_bench, "not a number of bytes", "--workspace-limit", "-5");
    REFUSED(&command_verify, "runs backwards", "--ranks", "8-1");
    REFUSED(&command_verify, "not a whole number", "--ranks", "1-");
    REFUSED(&command_verify, "at least one", "--oracle", "--cases", "3");
    REFUSED(&command_verify, "64 bits", "--seed", "-1");
    REFUSED(&command_run, "is empty", "--input", "");
}

/* Every row can be stored, printed and found: nobody forgot a limit, a placeholder or a list of choices. */
static void tables(void **state)
{
    (void)state;
    const program_command *const all[] = {&command_info, &command_verify, &command_bench, &command_plan, &command_run};
    for (size_t c = 0; c < sizeof all / sizeof *all; c++)
        for (const option_group *group = all[c]->options.groups; group->rows; group++)
            for (const option *row = group->rows; row->name; row++) {
                bool flag = row->kind == OPTION_FLAG || row->kind == OPTION_SWITCH;
                assert_true(flag == (row->value == NULL));
                assert_true(row->text && *row->text);
                assert_true(row->field < sizeof(settings) && row->set < sizeof(settings));
                assert_true((row->kind == OPTION_CHOICE || row->kind == OPTION_CHOICES) == (row->choices != NULL));
                if (row->kind == OPTION_INTEGER || row->kind == OPTION_REAL || row->kind == OPTION_RANGE)
                    assert_true(row->low < row->high);
                for (const option_group *g = all[c]->options.groups; g->rows; g++)
                    for (const option *other = g->rows; other->name; other++)
                        assert_true(other == row || strcmp(other->name, row->name) != 0);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(lists),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
