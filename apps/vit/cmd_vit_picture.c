/* SPDX-License-Identifier: MIT */
/* ringx-vit picture: a channel of yearly files as a map, with what becomes of it some steps later. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vit/dataset.h"
#include "vit/picture.h"
#include "vit/vit_command.h"

typedef struct picture_settings {
    given_arguments given;
    const char *data, *channel, *date, *output;
    int64_t lead, map, width, height;
} picture_settings;

typedef struct maps { /* what is drawn, in physical units */
    vit_dataset *d;
    int64_t channel, channels, rows, columns;
    float *fields[3]; /* the state, the later one, their difference */
} maps;

/* The channel of one moment, NaN where it is missing. */
static int read_map(maps *m, vit_moment at, float *to)
{
    size_t plane = (size_t)(m->rows * m->columns), all = plane * (size_t)m->channels,
           first = plane * (size_t)m->channel;
    vit_band band = {.first = 0, .count = m->rows};
    float *values = allocate(all * sizeof *values);
    uint8_t *gaps = allocate(all);
    int code = values && gaps ? vit_dataset_read(m->d, at, band, values) : CODE_NO_MEMORY;
    if (!code)
        code = vit_dataset_gaps(m->d, at, band, gaps);
    for (size_t i = 0; i < plane && !code; i++)
        to[i] = gaps[first + i] ? NAN : values[first + i];
    free(values);
    free(gaps);
    return code;
}

static int read_maps(maps *m, vit_moment start, int64_t lead)
{
    vit_moment later = {.year = start.year, .step = start.step + lead};
    size_t plane = (size_t)(m->rows * m->columns);
    if (later.step >= vit_dataset_steps(m->d, start.year))
        return fail(CODE_USAGE, "lead is %lld; the file has %lld steps after this one", (long long)lead,
                    (long long)(vit_dataset_steps(m->d, start.year) - start.step - 1));
    for (int i = 0; i < 3; i++) {
        m->fields[i] = allocate(plane * sizeof(float));
        if (!m->fields[i])
            return CODE_NO_MEMORY;
    }
    int code = read_map(m, start, m->fields[0]);
    if (!code && lead)
        code = read_map(m, later, m->fields[1]);
    for (size_t i = 0; i < plane && !code; i++)
        m->fields[2][i] = m->fields[1][i] - m->fields[0][i];
    return code;
}

static int draw(const maps *m, const picture_settings *s, vit_moment start)
{
    char title[80], first[VIT_NAME], second[VIT_NAME];
    const vit_channel *c = &vit_dataset_channels(m->d)[m->channel];
    colour_map map = (colour_map)s->map;
    picture p = {.rows = m->rows,
                 .columns = m->columns,
                 .latitudes = vit_dataset_latitudes(m->d),
                 .longitudes = vit_dataset_longitudes(m->d),
                 .title = title,
                 .subtitle = "",
                 .n_panels = s->lead ? 3 : 1,
                 .width = (int)s->width,
                 .height = (int)s->height};
    vit_dataset_date(m->d, start, first);
    p.panels[0] = (picture_panel){.title = first, .values = m->fields[0], .map = map, .unit = c->unit};
    if (s->lead) {
        vit_dataset_date(m->d, (vit_moment){start.year, start.step + s->lead}, second);
        p.panels[1] = (picture_panel){.title = second, .values = m->fields[1], .map = map, .unit = c->unit};
        p.panels[2] =
            (picture_panel){.title = "change", .values = m->fields[2], .map = COLOURS_BALANCE, .unit = c->unit};
    }
    snprintf(title, sizeof title, "%s", c->name);
    return picture_write(&p, s->output);
}

static int run(void *settings)
{
    const picture_settings *s = settings;
    vit_data_options o = {.folder = s->data, .missing = VIT_MISSING_MEAN};
    maps m = {.d = NULL};
    vit_moment start = {0};
    if (!s->data || !s->output)
        return fail(CODE_USAGE, "%s is missing; it names %s", s->data ? "output" : "data",
                    s->data ? "the picture to write" : "a folder of yearly files");
    int code = vit_dataset_open(&m.d, &o);
    if (code)
        return code;
    vit_dataset_shape(m.d, &m.channels, &m.rows, &m.columns);
    code = vit_dataset_channel(m.d, s->channel, &m.channel);
    if (!code && s->date)
        code = vit_dataset_find(m.d, s->date, &start);
    if (!code)
        code = read_maps(&m, start, s->lead);
    if (!code)
        code = draw(&m, s, start);
    for (int i = 0; i < 3; i++)
        free(m.fields[i]);
    vit_dataset_close(m.d);
    return code;
}

static void defaults(void *settings)
{
    ((picture_settings *)settings)->channel = "0";
}

#define FIELD(name) offsetof(picture_settings, name)

static const option what_rows[] = {{.name = "data",
                                    .value = "FOLDER",
                                    .text = "yearly files, as import writes them",
                                    .kind = OPTION_TEXT,
                                    .field = FIELD(data)},
                                   {.name = "channel",
                                    .value = "NAME",
                                    .text = "a name or a number (default 0)",
                                    .kind = OPTION_TEXT,
                                    .field = FIELD(channel)},
                                   {.name = "date",
                                    .value = "TEXT",
                                    .text = "\"1996-01-05 06:00\", or \"1996, step 5\" (default: the first)",
                                    .kind = OPTION_TEXT,
                                    .field = FIELD(date)},
                                   {.name = "lead",
                                    .value = "N",
                                    .text = "also the state N steps later, and the change",
                                    .kind = OPTION_INTEGER,
                                    .field = FIELD(lead),
                                    .high = 1e9},
                                   {0}};
static const option how_rows[] = {
    {.name = "output", .value = "FILE", .text = "the PNG to write", .kind = OPTION_TEXT, .field = FIELD(output)},
    {.name = "map",
     .value = "NAME",
     .text = "colours: turbo (default), viridis or balance",
     .kind = OPTION_CHOICE,
     .field = FIELD(map),
     .choices = colour_map_names},
    {.name = "width",
     .value = "PIXELS",
     .text = "of the picture (default 1800 a panel)",
     .kind = OPTION_INTEGER,
     .field = FIELD(width),
     .high = 30000},
    {.name = "height",
     .value = "PIXELS",
     .text = "of the picture (default: what the maps need)",
     .kind = OPTION_INTEGER,
     .field = FIELD(height),
     .high = 30000},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};
static const option_group groups[] = {{"What", what_rows}, {"How", how_rows}, {0}};

const program_command vit_picture_command = {
    .options = {.program = "ringx-vit",
                .name = "picture",
                .text = "a channel of yearly files as a map",
                .groups = groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(picture_settings),
};
