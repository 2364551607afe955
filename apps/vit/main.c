/* SPDX-License-Identifier: MIT */
/* ringx-vit: a vision transformer of the weather, with long sequences. */
#include "vit/vit_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const vit_command *const commands[] = {&vit_import_command, &vit_train_command, &vit_predict_command,
                                              &vit_plan_command, &vit_picture_command};
#define COMMANDS (sizeof commands / sizeof *commands)

static void help(FILE *to)
{
    fprintf(to,
            "ringx-vit %s: a vision transformer of the weather, with long sequences\n\n"
            "usage: ringx-vit COMMAND [options]\n\n",
            ringx_version());
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s%s\n", commands[i]->options.name, commands[i]->options.text);
    fputs("\n"
          "  ringx-vit COMMAND --help   options of a command\n"
          "  ringx-vit --version\n\n"
          "Exit codes: 0 good, 1 a wrong result, 64 usage, 65 bad input file, 66 missing file, 69 a peer died,\n"
          "70 internal, 71 out of memory, 73 cannot write output, 74 input/output, 75 stopped by a signal and\n"
          "saved, 76 ranks disagree, 78 configuration, 79 stalled, 80 not finite.\n",
          to);
}

static int unknown(const char *name)
{
    static const char *const options[] = {"help", "version", NULL};
    const char *names[COMMANDS + 1] = {0};
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->options.name;
    if (name[0] == '-')
        return fail(CODE_USAGE, "unknown option '%s'; the nearest is '--%s' (see ringx-vit --help)", name,
                    options_nearest(name + strspn(name, "-"), options));
    return fail(CODE_USAGE, "unknown command '%s'; the nearest is '%s' (see ringx-vit --help)", name,
                options_nearest(name, names));
}

static int run(const vit_command *command, int count, char **arguments)
{
    given_arguments *settings = allocate(command->settings_bytes);
    if (!settings)
        return CODE_NO_MEMORY;
    if (command->options.defaults)
        command->options.defaults(settings);
    int code = options_parse(&command->options, settings, count, arguments);
    if (!code && settings->help)
        options_help(&command->options);
    else if (!code)
        code = command->options.run(settings);
    free(settings);
    return code;
}

static int dispatch(int count, char **arguments, const char **who)
{
    if (strcmp(arguments[0], "--help") == 0) {
        help(stdout);
        return CODE_GOOD;
    }
    if (strcmp(arguments[0], "--version") == 0) {
        printf("ringx-vit %s\n", ringx_version());
        return CODE_GOOD;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->options.name, arguments[0]) != 0)
            continue;
        *who = commands[i]->options.name;
        return run(commands[i], count - 1, arguments + 1);
    }
    return unknown(arguments[0]);
}

/* One line, whatever a file's names hold. */
static void complain(const char *who)
{
    char line[MESSAGE_BYTES];
    failure_copy(line);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    fprintf(stderr, "ringx-vit%s%s: %s\n", who ? " " : "", who ? who : "", line);
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
    if (code && *failure())
        complain(who);
    return code;
}
