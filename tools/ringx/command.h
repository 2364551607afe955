/* SPDX-License-Identifier: MIT */
/* What the files of the `ringx` command share: exit codes, failures, progress, settings. */
#ifndef RINGX_COMMAND_H
#define RINGX_COMMAND_H

#include <ringx/ringx.h>
#include <ringx/ringx_study.h>

#include <stdio.h>

/* Exit codes; functions of the command return them. */
typedef enum exit_code {
    CODE_GOOD = 0,
    CODE_WRONG = 1, /* a wrong result */
    CODE_USAGE = 64,
    CODE_BAD_INPUT = 65,
    CODE_MISSING = 66,
    CODE_PEER_DIED = 69,
    CODE_INTERNAL = 70,
    CODE_NO_MEMORY = 71,
    CODE_CANNOT_WRITE = 73,
    CODE_IO = 74,
    CODE_DISAGREE = 76,
    CODE_CONFIGURATION = 78,
    CODE_STALLED = 79
} exit_code;

/* ---- report.c ---- */

#define MESSAGE_BYTES 1400

/* Keeps the message (this thread's) for main to print, and returns code. */
int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a library status: "format: the library's last error".  RINGX_OK gives CODE_GOOD. */
int fail_status(ringx_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
int status_code(ringx_status status);
const char *failure(void); /* this thread's message, "" for none */
void failure_copy(char to[MESSAGE_BYTES]);
void failure_set(const char *message);

void *allocate(size_t bytes); /* zeroed; NULL with fail(CODE_NO_MEMORY) kept; never NULL for 0 bytes */
bool multiply(size_t a, size_t b, size_t *product); /* false if it does not fit */
double seconds_now(void);                           /* monotonic */

/* A text file that appears under its path when it is finished without failure, and not before. */
typedef struct text_file {
    FILE *to;
    const char *path;
    char *temporary; /* NULL: the path is a terminal, a pipe, … */
} text_file;
int text_create(text_file *f, const char *path);
int text_finish(text_file *f, int code); /* with a code: removes it; returns code, or that of writing */

/* A line on standard error, if that is a terminal and the work lasts over two seconds.  Safe from any thread. */
void progress_begin(const char *what, size_t total);
void progress_step(size_t done, const char *note);
void progress_clear(void); /* before another line is printed */
void progress_end(void);

/* ---- settings.c: what the options of all subcommands fill in ---- */

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

typedef enum comm_kind { COMM_DEFAULT, COMM_THREADS, COMM_MPI, COMM_SELF } comm_kind;

typedef enum mask_kind { MASK_FULL, MASK_CAUSAL, MASK_WINDOW_CAUSAL, MASK_WINDOW, MASK_PACKED, MASK_KINDS } mask_kind;
extern const char *const mask_names[MASK_KINDS + 1];

typedef struct settings {
    bool help, json;
    int argument_count; /* as they were given */
    char **arguments;
    /* the problem */
    int64_t batch, tokens, q_heads, kv_heads, head_dim, value_dim;
    int64_t dtype;
    double scale, softcap, dropout;
    optional_bool causal;
    int64_t window[2];
    bool window_set, softcap_set, scale_set, docs_set;
    int_list docs;
    uint64_t seed;
    /* how */
    name_list presets;
    const char *algorithm, *layout, *kernel, *machine;
    int64_t lookahead, slices, head_ranks, ranks_per_node, wire, device, threads;
    size_t workspace_limit;
    double timeout;
    bool forward_only;
    /* with whom */
    int64_t comm;
    int64_t ranks[2]; /* a range; equal for one number */
    bool ranks_set;
    const char *fault;
    /* verify */
    uint64_t masks, dtypes; /* bits */
    bool dtypes_set;
    int64_t cases, only;
    file_list oracle;
    /* bench */
    int64_t iterations, warmup;
    bool baseline;
    const char *csv, *timeline;
    /* plan */
    bool prove;
    const char *sweep, *plot;
    int64_t plot_y;
    /* info */
    const char *calibrate;
    /* run */
    const char *input, *output;
} settings;

void settings_defaults(settings *s);
void settings_free(settings *s);
/* documents of the problem point into s->docs. */
ringx_problem settings_problem(const settings *s);
ringx_options settings_options(const settings *s, const char *preset);
/* Fails where the device asked for has no kernel on this machine. */
int settings_check(const settings *s);
/* Where a preset's timeline goes: FILE.svg, or FILE-preset.svg where there are several; NULL if none was asked for. */
const char *settings_timeline(const settings *s, const char *preset, char *path, size_t bytes);
int core_count(void); /* cores this process may use */
/* Options for one of `ranks` ranks of this process: threads shared out if none were asked for. */
ringx_options settings_rank_options(const settings *s, const char *preset, int ranks_here);

/* ---- the subcommands ---- */

struct subcommand;
extern const struct subcommand command_info, command_verify, command_bench, command_plan, command_run;

#endif
