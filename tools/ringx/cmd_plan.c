/* SPDX-License-Identifier: MIT */
/* ringx plan: schedules on paper: their figures, proofs, forecasts, drawings. */
#include "launch.h"
#include "shared/options.h"
#include "plan_sweep.h"
#include "shared/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int study_open(const settings *s, const char *preset, ringx_study **study)
{
    ringx_problem p = settings_problem(s);
    ringx_options o = settings_options(s, preset);
    o.threads = o.threads ? o.threads : 1;
    return fail_status(ringx_study_create(study, &p, &o, (int)s->ranks[0]), "%s", preset);
}

typedef struct figures { /* of all ranks */
    ringx_plan_info first;
    uint64_t wire[2], messages[2], steps[2]; /* the most of any rank; forward, backward */
    double flops[2], most_flops[2];          /* of all ranks; the most of any rank */
    size_t workspace;
    int64_t most_tokens, least_tokens;
} figures;

static void gather_direction(figures *f, int which, const ringx_traffic *t)
{
    f->wire[which] = t->wire_bytes > f->wire[which] ? t->wire_bytes : f->wire[which];
    f->messages[which] = t->messages > f->messages[which] ? t->messages : f->messages[which];
    f->steps[which] = t->steps > f->steps[which] ? t->steps : f->steps[which];
    f->most_flops[which] = t->flops > f->most_flops[which] ? t->flops : f->most_flops[which];
    f->flops[which] += t->flops;
}

static int gather(const ringx_study *study, int ranks, figures *f)
{
    *f = (figures){.least_tokens = INT64_MAX};
    ringx_plan_info *info = allocate((size_t)ranks * sizeof *info);
    if (!info)
        return CODE_NO_MEMORY;
    int failed = ranks;
#pragma omp parallel for schedule(dynamic, 4) reduction(min : failed)
    for (int r = 0; r < ranks; r++)
        if (ringx_study_describe(study, r, &info[r]) != RINGX_OK)
            failed = r < failed ? r : failed;
    if (failed < ranks) { /* once more here: the message is another thread's */
        free(info);
        return fail_status(ringx_study_describe(study, failed, &f->first), "rank %d", failed);
    }
    for (int r = 0; r < ranks; r++) {
        gather_direction(f, 0, &info[r].forward);
        gather_direction(f, 1, &info[r].backward);
        f->workspace = info[r].workspace_bytes > f->workspace ? info[r].workspace_bytes : f->workspace;
        f->most_tokens = info[r].local_tokens > f->most_tokens ? info[r].local_tokens : f->most_tokens;
        f->least_tokens = info[r].local_tokens < f->least_tokens ? info[r].local_tokens : f->least_tokens;
    }
    f->first = info[0];
    free(info);
    return CODE_GOOD;
}

static double mib(double bytes)
{
    return bytes / 1048576;
}

static const table_column columns[] = {{"preset", "preset"},
                                       {"pass", "pass"},
                                       {"algorithm", "algorithm"},
                                       {"layout", "layout"},
                                       {"lookahead", "ahead"},
                                       {"slices", "slices"},
                                       {"steps", "steps"},
                                       {"messages", "messages"},
                                       {"wire_mib", "wire MiB"},
                                       {"workspace_mib", "workspace MiB"},
                                       {"balance", "balance"},
                                       {"forecast_ms", "forecast ms"},
                                       {"compute_ms", "compute ms"},
                                       {"transfer_ms", "transfer ms"},
                                       {"exposed_ms", "exposed ms"},
                                       {"efficiency", "efficiency"},
                                       {"proof", "proof"}};

static void add_row(table *t, const char *preset, const figures *f, int which, const ringx_forecast *forecast,
                    const char *proof, int ranks)
{
    double share = f->flops[which] / ranks;
    table_text(t, preset);
    table_text(t, which ? "backward" : "forward");
    table_text(t, f->first.algorithm);
    table_text(t, f->first.layout);
    table_whole(t, f->first.lookahead);
    table_whole(t, (which ? &f->first.backward : &f->first.forward)->slices);
    table_whole(t, (int64_t)f->steps[which]);
    table_whole(t, (int64_t)f->messages[which]);
    table_real(t, mib((double)f->wire[which]), 2);
    table_real(t, mib((double)f->workspace), 2);
    table_real(t, f->most_flops[which] > 0 ? share / f->most_flops[which] : NAN, 3);
    table_real(t, forecast->seconds * 1e3, 3);
    table_real(t, forecast->compute_s * 1e3, 3);
    table_real(t, forecast->transfer_s * 1e3, 3);
    table_real(t, forecast->exposed_s * 1e3, 3);
    table_real(t, forecast->efficiency, 3);
    if (proof)
        table_text(t, proof);
}

static int plan_one(const settings *s, const char *preset, table *t)
{
    int ranks = (int)s->ranks[0];
    ringx_study *study = NULL;
    figures f;
    ringx_forecast forward = {0}, backward = {0};
    ringx_proof proof;
    char proved[80] = "";
    int code = study_open(s, preset, &study);
    if (!code)
        code = gather(study, ranks, &f);
    if (!code && s->prove) {
        code = fail_status(ringx_study_prove(study, &proof), "%s: not proved", preset);
        if (code)
            code = CODE_WRONG;
        else
            snprintf(proved, sizeof proved, "%llu steps, %llu tiles", (unsigned long long)proof.steps,
                     (unsigned long long)proof.tiles);
    }
    if (!code)
        code = fail_status(ringx_study_forecast(study, s->machine, &forward, s->forward_only ? NULL : &backward),
                           "%s: forecast", preset);
    if (!code && s->timeline) {
        char path[4096];
        ringx_status status = ringx_study_draw(study, s->machine, settings_timeline(s, preset, path, sizeof path));
        code = fail_status(status, "%s: timeline", preset);
        if (status == RINGX_IO)
            code = CODE_CANNOT_WRITE;
    }
    if (!code)
        add_row(t, preset, &f, 0, &forward, s->prove ? proved : NULL, ranks);
    if (!code && !s->forward_only)
        add_row(t, preset, &f, 1, &backward, s->prove ? proved : NULL, ranks);
    ringx_study_destroy(study);
    return code;
}

static int plan_all(const settings *s)
{
    table *t = table_create(columns, sizeof columns / sizeof *columns - (s->prove ? 0 : 1));
    int code = t ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t i = 0; i < s->presets.count && !code; i++) {
        progress_begin(s->presets.items[i], (size_t)s->ranks[0]);
        code = plan_one(s, s->presets.items[i], t);
        progress_end();
    }
    if (!code && s->json)
        code = json_emit(json_pack("{s:s, s:s, s:I, s:o}", "command", "plan", "version", ringx_version(), "ranks",
                                   (json_int_t)s->ranks[0], "plans", table_json(t)));
    else if (!code)
        code = table_print(t, stdout);
    table_destroy(t);
    return code;
}

/* ---- the command ---- */

static const char *const plot_names[] = {"seconds", "efficiency", "workspace", "wire", NULL};

static const option plan_options[] = {
    {"preset", "LIST", "presets, comma separated, or all (default auto)", OPTION_PRESETS, FIELD(presets), 0, 0, 0,
     NULL},
    {"ranks", "N", "1 to 4096 (default 4); none of them is started", OPTION_INTEGER, FIELD(ranks), FIELD(ranks_set), 1,
     4096, NULL},
    {"forward-only", NULL, "no backward pass", OPTION_FLAG, FIELD(forward_only), 0, 0, 0, NULL},
    {"prove", NULL, "show that every pair is attended once, every gradient arrives, nothing deadlocks", OPTION_FLAG,
     FIELD(prove), 0, 0, 0, NULL},
    {"timeline", "FILE", "draw the forecast: .svg, or .json for Perfetto", OPTION_TEXT, FIELD(timeline), 0, 0, 0, NULL},
    {"sweep", "LISTS",
     "ranks=1,2,4,seq=1k,2k,…: all combinations of ranks, seq, batch, heads, kv-heads, head-dim, "
     "lookahead, slices",
     OPTION_TEXT, FIELD(sweep), 0, 0, 0, NULL},
    {"plot", "FILE", "draw the sweep as SVG; the first list is the horizontal axis", OPTION_TEXT, FIELD(plot), 0, 0, 0,
     NULL},
    {"plot-y", "NAME", "seconds, efficiency, workspace or wire (default seconds)", OPTION_CHOICE, FIELD(plot_y), 0, 0,
     0, plot_names},
    {"csv", "FILE", "write the sweep as CSV", OPTION_TEXT, FIELD(csv), 0, 0, 0, NULL},
    {0},
};

static const option_group groups[] = {{"What is planned", plan_options}, {"The problem", options_sizes},
                                      {"The mask", options_mask},        {"How", options_how},
                                      {"Output", options_common},        {NULL, NULL}};

static void defaults(void *settings_of_command)
{
    settings *s = settings_of_command;
    s->ranks[0] = 4;
    s->presets.items[0] = "auto";
    s->presets.count = 1;
}

static int ends_wrongly(const char *what, const char *path, const char *const *endings, const char *right)
{
    const char *dot = path ? strrchr(path, '.') : NULL;
    for (int i = 0; path && endings[i]; i++)
        if (dot && strcmp(dot, endings[i]) == 0)
            return CODE_GOOD;
    return path ? fail(CODE_USAGE, "--%s '%s' must end in %s", what, path, right) : CODE_GOOD;
}

static int run(void *settings_of_command)
{
    settings *s = settings_of_command;
    static const char *const drawings[] = {".svg", ".json", NULL}, *const plots[] = {".svg", NULL};
    int code = ends_wrongly("timeline", s->timeline, drawings, ".svg or .json");
    if (!code)
        code = ends_wrongly("plot", s->plot, plots, ".svg");
    if (!code && (s->plot || s->csv) && !s->sweep)
        code = fail(CODE_USAGE, "--%s needs --sweep, which says what is drawn", s->plot ? "plot" : "csv");
    if (!code)
        code = settings_check(s, true);
    if (!code && s->machine && strchr(s->machine, '/') && access(s->machine, F_OK) != 0)
        code = fail(CODE_MISSING, "%s: there is no such file", s->machine);
    if (code || !launch_speaks())
        return code; /* under a launcher one process is enough */
    return s->sweep ? plan_sweep(s) : plan_all(s);
}

static const char help[] =
    "Steps, messages and wire bytes are those of the rank that has most; balance is the mean share of work\n"
    "over the largest.  Built-in machines: local, h200x2, h200x8, frontier; ringx info --calibrate writes one.\n";

const program_command command_plan = {
    .options = {.program = "ringx",
                .name = "plan",
                .text = "schedules on paper: their figures, proofs, forecasts, drawings",
                .help = help,
                .groups = groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(settings),
};
