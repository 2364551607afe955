/* SPDX-License-Identifier: MIT */
/* The main of a program: its commands as a table, its help, and what it says when something fails. */
#ifndef RINGX_SHARED_PROGRAM_MAIN_H
#define RINGX_SHARED_PROGRAM_MAIN_H

#include "shared/options.h"

typedef struct program_command {
    subcommand options;
    size_t settings_bytes; /* of its settings, which begin with given_arguments; they are zeroed, then defaults run */
} program_command;

typedef struct program {
    const char *name, *tagline;
    const program_command *const *commands; /* ended by NULL */
    int column;                             /* of the commands' texts, after their names, in the help */
    bool two_words;                         /* some commands have two words, such as tokenizer train */
    bool trains;                            /* may end with 75 and 80, too */
    void (*defaults)(void *settings);       /* those of all commands, which a command's own follow; NULL: zeros */
    void (*release)(void *settings);        /* what settings point to; NULL: nothing of theirs is to be freed */
    bool (*speaks)(void);                   /* this process says what failed; NULL: every one does */
    void (*finish)(void);                   /* ends what commands began; NULL: nothing */
} program;

/* Runs the command that the arguments name, or prints help or the version.  Returns the exit code; what failed is one
 * line on standard error. */
int program_main(const program *p, int argc, char **argv);

#endif
