/* SPDX-License-Identifier: MIT */
/* ringx: informs, verifies, benchmarks, plans, and runs attention on the user's own tensors. */
#include "launch.h"
#include "shared/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const subcommand *const commands[] = {&command_info, &command_verify, &command_bench, &command_plan,
                                             &command_run};
#define COMMANDS (sizeof commands / sizeof *commands)

static void help(FILE *to)
{
    fprintf(to,
            "ringx %s: exact attention over sequences that are split over many ranks\n\n"
            "usage: ringx COMMAND [options]\n\n",
            ringx_version());
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s%s\n", commands[i]->name, commands[i]->text);
    fputs("\n"
          "  ringx COMMAND --help   options of a command\n"
          "  ringx --version\n\n"
          "Exit codes: 0 good, 1 a wrong result, 64 usage, 65 bad input file, 66 missing file, 69 a peer died,\n"
          "70 internal, 71 out of memory, 73 cannot write output, 74 input/output, 76 ranks disagree,\n"
          "78 configuration, 79 stalled.\n",
          to);
}

static int unknown(const char *name)
{
    const char *names[COMMANDS + 1] = {0};
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->name;
    if (name[0] == '-') {
        static const char *const options[] = {"help", "version", NULL};
        return fail(CODE_USAGE, "unknown option '%s'; the nearest is '--%s' (see ringx --help)", name,
                    options_nearest(name + strspn(name, "-"), options));
    }
    return fail(CODE_USAGE, "unknown command '%s'; the nearest is '%s' (see ringx --help)", name,
                options_nearest(name, names));
}

static int dispatch(int count, char **arguments, const char **who)
{
    const char *name = arguments[0];
    if (strcmp(name, "--help") == 0) {
        help(stdout);
        return CODE_GOOD;
    }
    if (strcmp(name, "--version") == 0) {
        printf("ringx %s\n", ringx_version());
        return CODE_GOOD;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) != 0)
            continue;
        *who = name;
        settings s;
        settings_defaults(&s);
        if (commands[i]->defaults)
            commands[i]->defaults(&s);
        int code = options_parse(commands[i], &s, count - 1, arguments + 1);
        if (!code && s.given.help)
            options_help(commands[i]);
        else if (!code)
            code = commands[i]->run(&s);
        settings_free(&s);
        return code;
    }
    return unknown(name);
}

/* One line, whatever a file's names hold. */
static void complain(const char *who)
{
    char line[MESSAGE_BYTES];
    failure_copy(line);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    fprintf(stderr, "ringx%s%s: %s\n", who ? " " : "", who ? who : "", line);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return CODE_USAGE;
    }
    const char *who = NULL;
    int code = dispatch(argc - 1, argv + 1, &who);
    if (fflush(stdout) != 0 && code == CODE_GOOD)
        code = fail(CODE_CANNOT_WRITE, "cannot write to standard output: %s", strerror(errno));
    if (code && *failure() && launch_speaks())
        complain(who);
    launch_finish();
    return code;
}
