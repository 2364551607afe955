/* SPDX-License-Identifier: MIT */
/* ringx-gpt curves: losses that several runs logged, in one picture. */
#include "gpt/gpt_command.h"
#include "shared/plot.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct curves_settings {
    given_arguments given;
    file_list logs;
    const char *output, *chart;
} curves_settings;

typedef struct loss_point {
    double iteration, loss;
    size_t series;
} loss_point;

typedef struct loss_points {
    loss_point *items;
    size_t count, room;
} loss_points;

static int keep(loss_points *all, loss_point p)
{
    if (all->count == all->room) {
        size_t room = 2 * all->room + 64;
        loss_point *more = realloc(all->items, room * sizeof *more);
        if (!more)
            return fail(CODE_NO_MEMORY, "no memory for %zu losses", room);
        all->items = more, all->room = room;
    }
    all->items[all->count++] = p;
    return CODE_GOOD;
}

/* " validation results at iteration N | lm_loss value: X |": what evaluation logs. */
static bool parse_line(const char *line, const char *chart, loss_point *p)
{
    const char *at = strstr(line, " results at iteration "), *value = strstr(line, "lm_loss value:");
    size_t length = strlen(chart);
    if (!at || !value || (size_t)(at - line) < length || strncmp(at - length, chart, length) != 0)
        return false;
    p->iteration = strtod(at + strlen(" results at iteration "), NULL);
    p->loss = strtod(value + strlen("lm_loss value:"), NULL);
    return true;
}

static int read_log(const curves_settings *s, size_t which, loss_points *all)
{
    const char *path = s->logs.items[which];
    FILE *from = fopen(path, "re");
    if (!from)
        return fail(CODE_MISSING, "%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t room = 0, before = all->count;
    int code = CODE_GOOD;
    while (!code && getline(&line, &room, from) >= 0) {
        loss_point p = {.series = which};
        if (parse_line(line, s->chart, &p))
            code = keep(all, p);
    }
    if (!code && ferror(from))
        code = fail(CODE_IO, "%s: cannot be read", path);
    if (!code && all->count == before)
        code = fail(CODE_BAD_INPUT, "%s: holds no line '%s results at iteration'", path, s->chart);
    free(line);
    fclose(from);
    return code;
}

static int by_iteration(const void *a, const void *b)
{
    double x = ((const loss_point *)a)->iteration, y = ((const loss_point *)b)->iteration;
    return (x > y) - (x < y);
}

/* The file's name without folder and ending. */
static void name_series(char name[96], const char *path)
{
    const char *slash = strrchr(path, '/'), *begin = slash ? slash + 1 : path, *dot = strrchr(begin, '.');
    snprintf(name, 96, "%.*s", dot && dot > begin ? (int)(dot - begin) : (int)strlen(begin), begin);
}

/* One x for each iteration that any run has; the others have no point there. */
static int draw(const curves_settings *s, const loss_points *all)
{
    size_t n_series = s->logs.count, points = 0;
    double *x = allocate(all->count * sizeof *x), *y = allocate(n_series * all->count * sizeof *y);
    char title[64];
    snprintf(title, sizeof title, "%.32s loss", s->chart);
    plot p = {.title = title, .x_label = "iteration", .y_label = "loss", .x = x, .n_series = n_series};
    int code = x && y ? CODE_GOOD : CODE_NO_MEMORY;
    for (size_t i = 0; i < n_series * all->count && !code; i++)
        y[i] = NAN;
    for (size_t i = 0; i < all->count && !code; i++) {
        const loss_point *at = &all->items[i];
        if (i == 0 || at->iteration != x[points - 1])
            x[points++] = at->iteration;
        y[at->series * all->count + points - 1] = at->loss; /* of two at one iteration the later one */
    }
    for (size_t i = 0; i < n_series && !code; i++) {
        p.series[i].y = y + i * all->count;
        name_series(p.series[i].name, s->logs.items[i]);
    }
    p.points = points;
    code = code ? code : plot_write(&p, s->output);
    free(y), free(x);
    return code;
}

static int curves(void *settings)
{
    curves_settings *s = settings;
    loss_points all = {0};
    s->chart = s->chart ? s->chart : "validation";
    if (s->logs.count == 0 || s->logs.count > PLOT_MAX_SERIES)
        return fail(CODE_USAGE, "%zu logs; it must be 1 to %d", s->logs.count, PLOT_MAX_SERIES);
    if (!s->output)
        return fail(CODE_USAGE, "output is missing; it names the .svg to be written");
    int code = CODE_GOOD;
    for (size_t i = 0; i < s->logs.count && !code; i++)
        code = read_log(s, i, &all);
    if (!code) {
        qsort(all.items, all.count, sizeof *all.items, by_iteration);
        code = draw(s, &all);
    }
    free(all.items);
    return code;
}

#define FIELD(name) offsetof(curves_settings, name)
static const option curves_rows[] = {
    {.name = "output", .value = "FILE", .text = "the .svg to be written", .kind = OPTION_TEXT, .field = FIELD(output)},
    {.name = "chart",
     .value = "NAME",
     .text = "validation (default) or test",
     .kind = OPTION_TEXT,
     .field = FIELD(chart)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};
static const option curves_rest = {.name = "", .value = "LOGS", .kind = OPTION_FILES, .field = FIELD(logs)};
static const option_group curves_groups[] = {{"Options", curves_rows}, {0}};

const program_command gpt_curves = {
    .options = {.program = "ringx-gpt",
                .name = "curves",
                .text = "losses that several runs logged, in one picture",
                .help = "LOGS hold what ringx-gpt train printed; a curve is named as its file.\n",
                .groups = curves_groups,
                .run = curves,
                .rest = &curves_rest},
    .settings_bytes = sizeof(curves_settings),
};
