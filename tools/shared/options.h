/* SPDX-License-Identifier: MIT */
/* Options as tables: one row gives parsing, limits, help text and suggestions.  Long options only.
 *
 * A program's settings are a struct that begins with given_arguments; rows say where in it their value goes. */
#ifndef RINGX_SHARED_OPTIONS_H
#define RINGX_SHARED_OPTIONS_H

#include "shared/report.h"

#include <stddef.h>

/* ---- the types of settings' fields ---- */

typedef struct given_arguments {
    bool help;
    int count; /* as they were given */
    char **items;
} given_arguments;

typedef struct int_list {
    int64_t *items;
    size_t count;
} int_list;

#define MAX_NAMES 64
typedef struct name_list { /* names live in the library's tables */
    const char *items[MAX_NAMES];
    size_t count;
} name_list;

typedef struct file_list { /* points into argv */
    char **items;
    size_t count;
} file_list;

typedef struct optional_bool {
    bool set, value;
} optional_bool;

/* ---- rows ---- */

typedef enum option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_SWITCH,   /* optional_bool: --name, --no-name */
    OPTION_TEXT,     /* const char * */
    OPTION_INTEGER,  /* int64_t in low … high; k, m, g: times 2^10, 2^20, 2^30 */
    OPTION_UNSIGNED, /* uint64_t */
    OPTION_BYTES,    /* size_t, with the same endings */
    OPTION_REAL,     /* double in low … high */
    OPTION_RANGE,    /* int64_t[2]: A or A-B, each in low … high */
    OPTION_WINDOW,   /* int64_t[2]: LEFT,RIGHT, each >= -1 */
    OPTION_STARTS,   /* int_list: non-decreasing, >= 0, comma separated; may be empty */
    OPTION_CHOICE,   /* int64_t: index into choices */
    OPTION_CHOICES,  /* uint64_t: bit for each of a comma-separated list of choices, or all */
    OPTION_PRESETS,  /* name_list: library presets, auto, or all */
    OPTION_LAYOUT,   /* const char *: name from ringx_layout_at */
    OPTION_ALGORITHM,
    OPTION_KERNEL,
    OPTION_FILES /* file_list: all arguments up to the next option */
} option_kind;

typedef struct option {
    const char *name, *value, *text; /* value: placeholder in the help */
    option_kind kind;
    size_t field; /* offset in settings */
    size_t set;   /* offset of a bool that tells that it was given; 0: none */
    double low, high;
    const char *const *choices; /* ended by NULL */
} option;

typedef struct option_group {
    const char *title;
    const option *rows; /* ended by a NULL name */
} option_group;

typedef struct subcommand {
    const char *program, *name, *text;
    const char *help;           /* paragraphs printed after the options */
    const option_group *groups; /* ended by NULL rows */
    void (*defaults)(void *settings);
    int (*run)(void *settings);
    const char *letters; /* "d folder": -d VALUE is --folder VALUE; NULL: there is none */
    const option *rest;  /* OPTION_FILES: arguments without a name, side by side; NULL: none are taken */
} subcommand;

/* arguments: those after the subcommand's name.  Fails with CODE_USAGE and one line. */
int options_parse(const subcommand *command, void *settings, int count, char **arguments);
void options_help(const subcommand *command);

/* ---- option_values.c ---- */

/* Converts text and stores it in settings, or fails with what would be right. */
int option_store(const option *row, void *settings, const char *text);
void presets_all(name_list *list); /* those of the library, and auto */
/* The nearest of names (ended by NULL) by edit distance; NULL if there are none. */
const char *options_nearest(const char *name, const char *const *names);

#endif
