/* SPDX-License-Identifier: MIT */
/* ringx plan --sweep: forecasts over all combinations of some sizes, as a table, CSV and a plot. */
#include "plan_sweep.h"
#include "shared/options.h"
#include "shared/plot.h"
#include "shared/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEYS   8
#define MAX_VALUES 64
#define MAX_POINTS 4096

typedef struct sweep_key {
    const char *name;
    size_t field; /* int64_t in settings */
    double low, high;
} sweep_key;

static const sweep_key keys[] = {
    {"ranks", FIELD(ranks), 1, 4096},       {"seq", FIELD(tokens), 0, 1e15},
    {"batch", FIELD(batch), 0, 1e9},        {"heads", FIELD(q_heads), 1, 1e6},
    {"kv-heads", FIELD(kv_heads), 1, 1e6},  {"head-dim", FIELD(head_dim), 1, 256},
    {"lookahead", FIELD(lookahead), -1, 8}, {"slices", FIELD(slices), 0, 1e6},
};
#define KEYS (sizeof keys / sizeof *keys)

typedef struct sweep_list {
    const sweep_key *key;
    int64_t values[MAX_VALUES];
    size_t count;
} sweep_list;

typedef struct sweep {
    const settings *settings;
    sweep_list lists[MAX_KEYS];
    size_t n_lists;
    size_t combinations;
    double *y; /* for the plot: [preset][combination] */
} sweep;

static int find_key(const char *name, size_t length, const sweep_key **found)
{
    const char *names[KEYS + 1] = {0};
    char text[32];
    for (size_t i = 0; i < KEYS; i++) {
        names[i] = keys[i].name;
        if (strlen(keys[i].name) == length && memcmp(keys[i].name, name, length) == 0) {
            *found = &keys[i];
            return CODE_GOOD;
        }
    }
    snprintf(text, sizeof text, "%.*s", (int)length, name);
    return fail(CODE_USAGE, "--sweep: '%s' is unknown; the nearest is '%s'", text, options_nearest(text, names));
}

/* One more value of a list: as the option of that name would be read. */
static int add_value(sweep_list *list, const char *text, size_t length)
{
    char value[32], name[48];
    settings scratch;
    settings_defaults(&scratch);
    if (list->count == MAX_VALUES)
        return fail(CODE_USAGE, "--sweep: %s has more than %d values", list->key->name, MAX_VALUES);
    snprintf(value, sizeof value, "%.*s", (int)length, text);
    snprintf(name, sizeof name, "sweep: %s", list->key->name);
    option row = {.name = name,
                  .kind = OPTION_INTEGER,
                  .field = list->key->field,
                  .low = list->key->low,
                  .high = list->key->high};
    int code = option_store(&row, &scratch, value);
    if (!code)
        list->values[list->count++] = *(int64_t *)((char *)&scratch + list->key->field);
    return code;
}

/* "ranks=1,2,4,seq=1024,2048": a piece with '=' begins a list. */
static int parse(sweep *w)
{
    const char *at = w->settings->sweep;
    do {
        size_t length = strcspn(at, ",");
        const char *equals = memchr(at, '=', length), *value = at;
        int code = CODE_GOOD;
        if (equals) {
            if (w->n_lists == MAX_KEYS)
                return fail(CODE_USAGE, "--sweep has more than %d lists", MAX_KEYS);
            sweep_list *list = &w->lists[w->n_lists];
            code = find_key(at, (size_t)(equals - at), &list->key);
            for (size_t i = 0; i < w->n_lists && !code; i++)
                if (w->lists[i].key == list->key)
                    return fail(CODE_USAGE, "--sweep: %s is there twice", list->key->name);
            w->n_lists++;
            value = equals + 1;
        }
        if (!code && w->n_lists == 0)
            return fail(CODE_USAGE, "--sweep '%s' must begin with a name, like ranks=1,2,4,seq=1k,2k",
                        w->settings->sweep);
        if (!code)
            code = add_value(&w->lists[w->n_lists - 1], value, (size_t)(at + length - value));
        if (code)
            return code;
        at += length;
    } while (*at++);
    w->combinations = 1;
    for (size_t i = 0; i < w->n_lists; i++)
        w->combinations *= w->lists[i].count; /* at most 64^8 */
    if (w->combinations > MAX_POINTS)
        return fail(CODE_USAGE, "--sweep has %zu combinations; at most %d are drawn", w->combinations, MAX_POINTS);
    return CODE_GOOD;
}

/* Settings of one combination; the first list varies fastest. */
static settings combination(const sweep *w, size_t index, int64_t values[MAX_KEYS])
{
    settings s = *w->settings;
    for (size_t i = 0; i < w->n_lists; i++) {
        values[i] = w->lists[i].values[index % w->lists[i].count];
        index /= w->lists[i].count;
        *(int64_t *)((char *)&s + w->lists[i].key->field) = values[i];
    }
    return s;
}

static double chosen(const settings *s, const ringx_forecast *f, const ringx_forecast *b)
{
    double seconds = f->seconds + b->seconds;
    switch (s->plot_y) {
    case 0:
        return seconds;
    case 1:
        return seconds > 0 ? (f->efficiency * f->seconds + b->efficiency * b->seconds) / seconds : NAN;
    case 2:
        return (double)(f->workspace_bytes > b->workspace_bytes ? f->workspace_bytes : b->workspace_bytes) / 1048576;
    default:
        return (double)(f->wire_bytes + b->wire_bytes) / 1048576;
    }
}

static int one_point(sweep *w, size_t preset, size_t index, table *t)
{
    int64_t values[MAX_KEYS];
    settings s = combination(w, index, values);
    const char *name = s.presets.items[preset];
    ringx_study *study = NULL;
    ringx_forecast f = {0}, b = {0};
    int code = study_open(&s, name, &study);
    if (!code)
        code =
            fail_status(ringx_study_forecast(study, s.machine, &f, s.forward_only ? NULL : &b), "%s: forecast", name);
    ringx_study_destroy(study);
    if (code)
        return code;
    table_text(t, name);
    for (size_t i = 0; i < w->n_lists; i++)
        table_whole(t, values[i]);
    table_real(t, f.seconds * 1e3, 3);
    table_real(t, s.forward_only ? NAN : b.seconds * 1e3, 3);
    table_real(t, (f.exposed_s + b.exposed_s) * 1e3, 3);
    table_real(t, f.efficiency, 3);
    table_real(t, s.forward_only ? NAN : b.efficiency, 3);
    table_real(t, (double)(f.wire_bytes + b.wire_bytes) / 1048576, 2);
    table_whole(t, (int64_t)(f.messages + b.messages));
    table_real(t, (double)(f.workspace_bytes > b.workspace_bytes ? f.workspace_bytes : b.workspace_bytes) / 1048576, 2);
    w->y[preset * w->combinations + index] = chosen(&s, &f, &b);
    return CODE_GOOD;
}

/* A series for each preset and each combination of all lists but the first. */
static int draw(const sweep *w)
{
    static const char *const labels[] = {"seconds, forward and backward", "efficiency", "workspace a rank, MiB",
                                         "sent by a rank, MiB"};
    const settings *s = w->settings;
    size_t points = w->lists[0].count, others = w->combinations / points;
    double x[MAX_VALUES];
    plot p = {.title = s->machine ? s->machine : "local",
              .x_label = w->lists[0].key->name,
              .y_label = s->plot_y == 0 && s->forward_only ? "seconds, forward" : labels[s->plot_y],
              .x = x,
              .points = points,
              .share = s->plot_y == 1};
    if (s->presets.count * others > PLOT_MAX_SERIES)
        return fail(CODE_USAGE, "--plot would draw %zu lines; at most %d can be told apart", s->presets.count * others,
                    PLOT_MAX_SERIES);
    for (size_t i = 0; i < points; i++)
        x[i] = (double)w->lists[0].values[i];
    for (size_t preset = 0; preset < s->presets.count; preset++)
        for (size_t k = 0; k < others; k++) {
            plot_series *line = &p.series[p.n_series++];
            int64_t values[MAX_KEYS];
            combination(w, k * points, values);
            int n = snprintf(line->name, sizeof line->name, "%s", s->presets.items[preset]);
            for (size_t i = 1; i < w->n_lists && (size_t)n < sizeof line->name; i++)
                n += snprintf(line->name + n, sizeof line->name - (size_t)n, ", %s %lld", w->lists[i].key->name,
                              (long long)values[i]);
            line->y = w->y + preset * w->combinations + k * points;
        }
    return plot_write(&p, s->plot);
}

static int output(const sweep *w, const table *t)
{
    const settings *s = w->settings;
    int code = CODE_GOOD;
    if (s->csv) {
        text_file f;
        code = text_create(&f, s->csv);
        if (!code)
            code = text_finish(&f, table_csv(t, f.to));
    }
    if (!code && s->plot)
        code = draw(w);
    if (code)
        return code;
    if (s->json)
        return json_emit(
            json_pack("{s:s, s:s, s:o}", "command", "plan", "version", ringx_version(), "sweep", table_json(t)));
    return table_print(t, stdout);
}

int plan_sweep(const settings *s)
{
    static const table_column figures[] = {{"forward_ms", "forward ms"},
                                           {"backward_ms", "backward ms"},
                                           {"exposed_ms", "exposed ms"},
                                           {"forward_efficiency", "forward eff."},
                                           {"backward_efficiency", "backward eff."},
                                           {"wire_mib", "wire MiB"},
                                           {"messages", "messages"},
                                           {"workspace_mib", "workspace MiB"}};
    sweep w = {.settings = s};
    int code = parse(&w);
    if (code)
        return code;
    table_column columns[1 + MAX_KEYS + 8] = {{"preset", "preset"}};
    size_t n = 1;
    for (size_t i = 0; i < w.n_lists; i++)
        columns[n++] = (table_column){w.lists[i].key->name, w.lists[i].key->name};
    for (size_t i = 0; i < 8; i++)
        columns[n++] = figures[i];
    table *t = table_create(columns, n);
    size_t total = w.combinations * s->presets.count;
    w.y = allocate(total * sizeof *w.y);
    code = t && w.y ? CODE_GOOD : CODE_NO_MEMORY;
    progress_begin("forecasting", total);
    for (size_t i = 0; i < total && !code; i++) {
        code = one_point(&w, i / w.combinations, i % w.combinations, t);
        progress_step(i + 1, NULL);
    }
    progress_end();
    if (!code)
        code = output(&w, t);
    table_destroy(t);
    free(w.y);
    return code;
}
