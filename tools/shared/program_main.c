/* SPDX-License-Identifier: MIT */
/* From the arguments to a command: help, version, the nearest of what is not known, one line for a failure. */
#include "shared/program_main.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void list_commands(const program *p, FILE *to, const char *group)
{
    for (const program_command *const *c = p->commands; *c; c++)
        if (strncmp((*c)->options.name, group, strlen(group)) == 0)
            fprintf(to, "  %-*s%s\n", p->column, (*c)->options.name, (*c)->options.text);
}

static void help(const program *p, FILE *to)
{
    fprintf(to, "%s %s: %s\n\nusage: %s COMMAND [options]\n\n", p->name, ringx_version(), p->tagline, p->name);
    list_commands(p, to, "");
    fprintf(to,
            "\n"
            "  %s COMMAND --help   options of a command\n"
            "  %s --version\n\n"
            "Exit codes: 0 good, 1 a wrong result, 64 usage, 65 bad input file, 66 missing file, 69 a peer died,\n"
            "70 internal, 71 out of memory, 73 cannot write output, 74 input/output, %s",
            p->name, p->name,
            p->trains ? "75 stopped by a signal and\n"
                        "saved, 76 ranks disagree, 78 configuration, 79 stalled, 80 not finite.\n"
                      : "76 ranks disagree,\n"
                        "78 configuration, 79 stalled.\n");
}

static int unknown(const program *p, const char *name)
{
    enum { MOST_COMMANDS = 32 };
    static const char *const options[] = {"help", "version", NULL};
    const char *names[MOST_COMMANDS + 1] = {0};
    if (name[0] == '-')
        return fail(CODE_USAGE, "unknown option '%s'; the nearest is '--%s' (see %s --help)", name,
                    options_nearest(name + strspn(name, "-"), options), p->name);
    for (size_t i = 0; i < MOST_COMMANDS && p->commands[i]; i++)
        names[i] = p->commands[i]->options.name;
    return fail(CODE_USAGE, "unknown command '%s'; the nearest is '%s' (see %s --help)", name,
                options_nearest(name, names), p->name);
}

static int run(const program *p, const program_command *command, int count, char **arguments)
{
    given_arguments *settings = allocate(command->settings_bytes);
    if (!settings)
        return CODE_NO_MEMORY;
    if (p->defaults)
        p->defaults(settings);
    if (command->options.defaults)
        command->options.defaults(settings);
    int code = options_parse(&command->options, settings, count, arguments);
    if (!code && settings->help)
        options_help(&command->options);
    else if (!code)
        code = command->options.run(settings);
    if (p->release)
        p->release(settings);
    free(settings);
    return code;
}

/* The first word of a command of two words. */
static bool is_group(const program *p, const char *word)
{
    size_t length = strlen(word);
    for (const program_command *const *c = p->commands; *c; c++)
        if (strncmp((*c)->options.name, word, length) == 0 && (*c)->options.name[length] == ' ')
            return true;
    return false;
}

static int dispatch(const program *p, int count, char **arguments, const char **who)
{
    char joined[64];
    const char *name = arguments[0];
    int words = p->two_words && count > 1 && is_group(p, name) ? 2 : 1;
    if (strcmp(name, "--help") == 0) {
        help(p, stdout);
        return CODE_GOOD;
    }
    if (strcmp(name, "--version") == 0) {
        printf("%s %s\n", p->name, ringx_version());
        return CODE_GOOD;
    }
    if (words == 2 && strcmp(arguments[1], "--help") == 0) {
        printf("usage: %s COMMAND [options]\n\n", p->name);
        list_commands(p, stdout, name);
        return CODE_GOOD;
    }
    if (p->two_words) { /* what does not fit is no command */
        snprintf(joined, sizeof joined, "%s%s%s", name, words == 2 ? " " : "", words == 2 ? arguments[1] : "");
        name = joined;
    }
    for (const program_command *const *c = p->commands; *c; c++) {
        if (strcmp((*c)->options.name, name) != 0)
            continue;
        *who = (*c)->options.name;
        return run(p, *c, count - words, arguments + words);
    }
    return unknown(p, name);
}

/* One line, whatever a file's names hold. */
static void complain(const program *p, const char *who)
{
    char line[MESSAGE_BYTES];
    failure_copy(line);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    fprintf(stderr, "%s%s%s: %s\n", p->name, who ? " " : "", who ? who : "", line);
}

int program_main(const program *p, int argc, char **argv)
{
    if (argc < 2) {
        help(p, stderr);
        return CODE_USAGE;
    }
    const char *who = NULL;
    int code = dispatch(p, argc - 1, argv + 1, &who);
    if (fflush(stdout) != 0 && code == CODE_GOOD)
        code = fail(CODE_CANNOT_WRITE, "cannot write to standard output: %s", strerror(errno));
    if (code && *failure() && (!p->speaks || p->speaks()))
        complain(p, who);
    if (p->finish)
        p->finish();
    return code;
}
