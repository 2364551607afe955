/* SPDX-License-Identifier: MIT */
/* What the files of the `ringx` command share: its settings and subcommands. */
#ifndef RINGX_COMMAND_H
#define RINGX_COMMAND_H

#include <ringx/ringx.h>
#include <ringx/ringx_study.h>

#include "shared/program_main.h"

/* ---- settings.c: what the options of all subcommands fill in ---- */

typedef enum comm_kind { COMM_DEFAULT, COMM_THREADS, COMM_MPI, COMM_SELF, COMM_ENV } comm_kind;
typedef enum transport_kind { TRANSPORT_DEFAULT, TRANSPORT_NCCL, TRANSPORT_STAGED } transport_kind;

typedef enum mask_kind { MASK_FULL, MASK_CAUSAL, MASK_WINDOW_CAUSAL, MASK_WINDOW, MASK_PACKED, MASK_KINDS } mask_kind;
extern const char *const mask_names[MASK_KINDS + 1];

typedef struct settings {
    given_arguments given;
    bool json;
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
    int64_t comm, transport;
    const char *gpus; /* --gpu */
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
/* Fails where the device asked for has no kernel on this machine; on paper, in this build. */
int settings_check(const settings *s, bool paper);
/* Where a preset's timeline goes: FILE.svg, or FILE-preset.svg where there are several; NULL if none was asked for. */
const char *settings_timeline(const settings *s, const char *preset, char *path, size_t bytes);
int core_count(void); /* cores this process may use */
/* Options for one of `ranks` ranks of this process: threads shared out if none were asked for. */
ringx_options settings_rank_options(const settings *s, const char *preset, int ranks_here);

/* ---- option_tables.c: rows that subcommands share ---- */

#define FIELD(name) offsetof(settings, name)

extern const option options_common[], options_mask[], options_sizes[], options_how[], options_launch[];
extern const char *const dtype_names[], *const device_names[], *const comm_names[], *const transport_names[];

/* ---- the subcommands ---- */

extern const program_command command_info, command_verify, command_bench, command_plan, command_run;

#endif
