/* SPDX-License-Identifier: MIT */
/* Parsing of arguments and printing of help, from the tables of options. */
#include "shared/options.h"

#include <stdio.h>
#include <string.h>

#define MAX_OPTIONS 128

static const option *find_row(const subcommand *command, const char *name, size_t length)
{
    for (const option_group *group = command->groups; group->rows; group++)
        for (const option *row = group->rows; row->name; row++)
            if (strlen(row->name) == length && memcmp(row->name, name, length) == 0)
                return row;
    return NULL;
}

static int unknown_option(const subcommand *command, const char *argument, const char *name)
{
    const char *names[MAX_OPTIONS];
    size_t n = 0;
    for (const option_group *group = command->groups; group->rows; group++)
        for (const option *row = group->rows; row->name && n + 1 < MAX_OPTIONS; row++)
            names[n++] = row->name;
    names[n] = NULL;
    char bare[64];
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(name, "="), name);
    return fail(CODE_USAGE, "unknown option '%s'; the nearest is '--%s' (see %s %s --help)", argument,
                options_nearest(bare, names), command->program, command->name);
}

/* --files A B C: everything up to the next option. */
static int store_files(const option *row, void *settings, int count, char **arguments, int *next)
{
    file_list *files = (file_list *)((char *)settings + row->field);
    files->items = arguments + *next;
    files->count = 0;
    while (*next < count && strncmp(arguments[*next], "--", 2) != 0) {
        files->count++;
        ++*next;
    }
    if (files->count == 0)
        return fail(CODE_USAGE, "--%s needs at least one %s after it", row->name, row->value);
    return CODE_GOOD;
}

/* A B C without a name: everything up to the next option. */
static int store_rest(const subcommand *command, void *settings, int count, char **arguments, int *next)
{
    file_list *files = (file_list *)((char *)settings + command->rest->field);
    if (files->count)
        return fail(CODE_USAGE, "unexpected argument '%s'; the %s stand side by side", arguments[*next],
                    command->rest->value);
    files->items = arguments + *next;
    for (; *next < count && arguments[*next][0] != '-'; ++*next)
        files->count++;
    return CODE_GOOD;
}

/* The row that -x stands for; NULL: none. */
static const option *find_letter(const subcommand *command, const char *argument)
{
    const char *letters = command->letters;
    if (!letters || argument[0] != '-' || argument[1] != letters[0] || argument[2])
        return NULL;
    return find_row(command, letters + 2, strlen(letters + 2));
}

static int parse_one(const subcommand *command, void *settings, int count, char **arguments, int *next)
{
    const option *short_row = find_letter(command, arguments[*next]);
    if (command->rest && arguments[*next][0] != '-')
        return store_rest(command, settings, count, arguments, next);
    const char *argument = arguments[(*next)++];
    if (short_row && *next == count)
        return fail(CODE_USAGE, "option '%s' needs a value: %s %s", argument, argument, short_row->value);
    if (short_row)
        return option_store(short_row, settings, arguments[(*next)++]);
    if (strncmp(argument, "--", 2) != 0 || argument[2] == '\0')
        return fail(CODE_USAGE, "unexpected argument '%s'; %s %s takes options only (see %s %s --help)", argument,
                    command->program, command->name, command->program, command->name);
    const char *name = argument + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const option *row = find_row(command, name, length);
    bool no = false;
    if (!row && length > 3 && memcmp(name, "no-", 3) == 0) {
        row = find_row(command, name + 3, length - 3);
        no = row && row->kind == OPTION_SWITCH;
        row = no ? row : NULL;
    }
    if (!row)
        return unknown_option(command, argument, name);

    if (row->kind == OPTION_FLAG || row->kind == OPTION_SWITCH) {
        if (equals)
            return fail(CODE_USAGE, "option '--%s' takes no value, but '%s' was given", row->name, equals + 1);
        if (row->kind == OPTION_FLAG)
            *(bool *)((char *)settings + row->field) = true;
        else
            *(optional_bool *)((char *)settings + row->field) = (optional_bool){.set = true, .value = !no};
        return CODE_GOOD;
    }
    if (row->kind == OPTION_FILES && !equals)
        return store_files(row, settings, count, arguments, next);
    if (row->kind == OPTION_FILES) {
        arguments[*next - 1] = arguments[*next - 1] + 2 + length + 1;
        *(file_list *)((char *)settings + row->field) = (file_list){.items = &arguments[*next - 1], .count = 1};
        return CODE_GOOD;
    }
    if (!equals && *next == count)
        return fail(CODE_USAGE, "option '--%s' needs a value: --%s %s", row->name, row->name, row->value);
    return option_store(row, settings, equals ? equals + 1 : arguments[(*next)++]);
}

int options_parse(const subcommand *command, void *settings, int count, char **arguments)
{
    given_arguments *given = settings;
    given->count = count;
    given->items = arguments;
    for (int next = 0; next < count;) {
        int code = parse_one(command, settings, count, arguments, &next);
        if (code)
            return code;
        if (given->help)
            return CODE_GOOD;
    }
    return CODE_GOOD;
}

/* ---- help ---- */

#define TEXT_COLUMN 28
#define WIDTH       100

/* Columns that UTF-8 text takes, one per character. */
static int columns(const char *text, size_t bytes)
{
    int n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void print_wrapped(const char *text, int column)
{
    int at = column;
    while (*text) {
        size_t word = strcspn(text, " ");
        int width = columns(text, word);
        if (at > column && at + 1 + width > WIDTH) {
            printf("\n%*s", column, "");
            at = column;
        } else if (at > column) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)word, text);
        at += width;
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

void options_help(const subcommand *command)
{
    printf("%s %s: %s\n\nusage: %s %s [options]%s%s\n", command->program, command->name, command->text,
           command->program, command->name, command->rest ? " " : "", command->rest ? command->rest->value : "");
    for (const option_group *group = command->groups; group->rows; group++) {
        printf("\n%s\n", group->title);
        for (const option *row = group->rows; row->name; row++) {
            char head[80];
            int n = snprintf(head, sizeof head, "  --%s%s%s%s", row->kind == OPTION_SWITCH ? "[no-]" : "", row->name,
                             row->value ? " " : "", row->value ? row->value : "");
            int width = columns(head, (size_t)n);
            printf("%s%*s", head, width < TEXT_COLUMN ? TEXT_COLUMN - width : 2, "");
            print_wrapped(row->text, width < TEXT_COLUMN ? TEXT_COLUMN : width + 2);
        }
    }
    if (command->help)
        printf("\n%s", command->help);
}
