/* SPDX-License-Identifier: MIT */
/* ringx-gpt: tokenizers, data and training of Llama models with long context. */
#include "gpt/gpt_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const gpt_command *const commands[] = {&gpt_tokenizer_train,
                                              &gpt_tokenizer_encode,
                                              &gpt_tokenizer_decode,
                                              &gpt_preprocess,
                                              &gpt_generate_command,
                                              &gpt_convert,
                                              &gpt_evaluate,
                                              &gpt_train,
                                              &gpt_plan,
                                              &gpt_curves};
#define COMMANDS (sizeof commands / sizeof *commands)

static void list_commands(FILE *to, const char *group)
{
    size_t length = strlen(group);
    for (size_t i = 0; i < COMMANDS; i++)
        if (strncmp(commands[i]->options.name, group, length) == 0)
            fprintf(to, "  %-18s%s\n", commands[i]->options.name, commands[i]->options.text);
}

static void help(FILE *to)
{
    fprintf(to,
            "ringx-gpt %s: Llama models with long context\n\n"
            "usage: ringx-gpt COMMAND [options]\n\n",
            ringx_version());
    list_commands(to, "");
    fputs("\n"
          "  ringx-gpt COMMAND --help   options of a command\n"
          "  ringx-gpt --version\n\n"
          "Exit codes: 0 good, 1 a wrong result, 64 usage, 65 bad input file, 66 missing file, 69 a peer died,\n"
          "70 internal, 71 out of memory, 73 cannot write output, 74 input/output, 75 stopped by a signal and\n"
          "saved, 76 ranks disagree, 78 configuration, 79 stalled, 80 not finite.\n",
          to);
}

static int unknown(const char *name)
{
    const char *names[COMMANDS + 1] = {0};
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->options.name;
    if (name[0] == '-') {
        static const char *const options[] = {"help", "version", NULL};
        return fail(CODE_USAGE, "unknown option '%s'; the nearest is '--%s' (see ringx-gpt --help)", name,
                    options_nearest(name + strspn(name, "-"), options));
    }
    return fail(CODE_USAGE, "unknown command '%s'; the nearest is '%s' (see ringx-gpt --help)", name,
                options_nearest(name, names));
}

static int run(const gpt_command *command, int count, char **arguments)
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

/* The first word of a command of two words, such as tokenizer. */
static bool is_group(const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; i < COMMANDS; i++)
        if (strncmp(commands[i]->options.name, word, length) == 0 && commands[i]->options.name[length] == ' ')
            return true;
    return false;
}

static int dispatch(int count, char **arguments, const char **who)
{
    char name[64] = "";
    int words = is_group(arguments[0]) && count > 1 ? 2 : 1;
    if (strcmp(arguments[0], "--help") == 0) {
        help(stdout);
        return CODE_GOOD;
    }
    if (strcmp(arguments[0], "--version") == 0) {
        printf("ringx-gpt %s\n", ringx_version());
        return CODE_GOOD;
    }
    snprintf(name, sizeof name, "%s%s%s", arguments[0], words == 2 ? " " : "", words == 2 ? arguments[1] : "");
    if (words == 2 && strcmp(arguments[1], "--help") == 0) {
        printf("usage: ringx-gpt COMMAND [options]\n\n");
        list_commands(stdout, arguments[0]);
        return CODE_GOOD;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->options.name, name) != 0)
            continue;
        *who = commands[i]->options.name;
        return run(commands[i], count - words, arguments + words);
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
    fprintf(stderr, "ringx-gpt%s%s: %s\n", who ? " " : "", who ? who : "", line);
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
