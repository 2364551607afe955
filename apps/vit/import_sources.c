/* SPDX-License-Identifier: MIT */
/* What the inputs of an import bring: channels, grid and times, which must be the same in all of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vit/import.h"
#include "vit/netcdf_fields.h"
#include "vit/vit_dates.h"

#define MAX_TEXT 4096

/* *items gets room for one more of `bytes`, zeroed; NULL: out of memory, with the failure kept. */
static void *grow(void **items, size_t count, size_t bytes)
{
    char *more = realloc(*items, (count + 1) * bytes);
    if (!more) {
        fail(CODE_NO_MEMORY, "out of memory for what is imported");
        return NULL;
    }
    *items = more;
    return memset(more + count * bytes, 0, bytes);
}

static import_channel *find_channel(import_sources *s, const char *name)
{
    for (size_t i = 0; i < s->n_channels; i++)
        if (strcmp(s->channels[i].name, name) == 0)
            return &s->channels[i];
    import_channel *c = grow((void **)&s->channels, s->n_channels, sizeof *c);
    if (c) {
        snprintf(c->name, sizeof c->name, "%s", name);
        s->n_channels++;
    }
    return c;
}

static int add_source(import_sources *s, const char *name, netcdf_field *field, int64_t level)
{
    if (strlen(name) >= VIT_NAME || !*name)
        return fail(CODE_USAGE, "'%s' must be a name of 1 to %d letters", name, VIT_NAME - 1);
    import_channel *c = find_channel(s, name);
    import_source *from = c ? grow((void **)&c->sources, c->count, sizeof *from) : NULL;
    if (!from)
        return CODE_NO_MEMORY;
    if (c->count == 0)
        snprintf(c->unit, sizeof c->unit, "%.*s", VIT_NAME - 1, field->unit);
    *from = (import_source){.field = field, .level = level, .steps = field->steps};
    c->count++;
    return CODE_GOOD;
}

/* ---- levels and names of one variable ---- */

/* "t850" of level 85000 Pa: pressures are named in hPa, as usual. */
static void level_name(const char *variable, double level, const char *unit, char *name, size_t bytes)
{
    snprintf(name, bytes, "%.200s%g", variable, strcmp(unit, "Pa") == 0 ? level / 100 : level);
}

static bool same_level(double level, const char *unit, double wanted)
{
    double near = 1e-5 * fabs(level);
    return fabs(level - wanted) <= near || (strcmp(unit, "Pa") == 0 && fabs(level / 100 - wanted) <= near / 100);
}

/* The next item of a comma-separated list, "" at its end. */
static const char *next_item(const char **list, char *item, size_t bytes)
{
    size_t length = *list ? strcspn(*list, ",") : 0;
    snprintf(item, bytes, "%.*s", (int)length, *list ? *list : "");
    if (*list)
        *list += length + ((*list)[length] == ',');
    return item;
}

/* Every level of the variable that `wanted` names (NULL: all), as a channel of its own. */
static int add_levels(import_sources *s, netcdf_field *field, const char *wanted, const char *names)
{
    char unit[64], item[64], name[NETCDF_NAME + 32], given[128];
    double *levels = allocate((size_t)field->levels * sizeof *levels);
    int code = levels ? netcdf_levels(field, levels, unit) : CODE_NO_MEMORY;
    for (int64_t k = 0; k < field->levels && !code && !wanted; k++) {
        level_name(field->name, levels[k], unit, name, sizeof name);
        code = add_source(s, *next_item(&names, given, sizeof given) ? given : name, field, k);
    }
    while (!code && wanted && *next_item(&wanted, item, sizeof item)) {
        char *end;
        double level = strtod(item, &end);
        int64_t k = 0;
        while (k < field->levels && !same_level(levels[k], unit, level))
            k++;
        if (*end || k == field->levels) {
            code = fail(CODE_USAGE, "%s: '%s' has no level '%s'; its %lld levels go from %g to %g %s",
                        netcdf_path(field->file), field->name, item, (long long)field->levels, levels[0],
                        levels[field->levels - 1], unit);
            break;
        }
        level_name(field->name, levels[k], unit, name, sizeof name);
        code = add_source(s, *next_item(&names, given, sizeof given) ? given : name, field, k);
    }
    free(levels);
    return code;
}

static int add_variable(import_sources *s, netcdf_file *file, const char *variable, const char *levels,
                        const char *names)
{
    netcdf_field **place = grow((void **)&s->fields, s->n_fields, sizeof *place);
    netcdf_field *field = place ? *place = allocate(sizeof *field) : NULL;
    if (!field)
        return CODE_NO_MEMORY;
    s->n_fields++;
    int code = netcdf_field_open(file, variable, field);
    if (code)
        return code;
    if (field->levels)
        return add_levels(s, field, levels, names);
    if (levels)
        return fail(CODE_USAGE, "%s: '%s' has no levels, but '%s' were asked for", netcdf_path(file), variable, levels);
    return add_source(s, names ? names : variable, field, 0);
}

/* FILE[:VARIABLE[@LEVELS]][=NAMES] */
static int add_input(import_sources *s, const char *input)
{
    char text[MAX_TEXT], (*all)[NETCDF_NAME];
    size_t count = 0;
    if ((size_t)snprintf(text, sizeof text, "%s", input) >= sizeof text)
        return fail(CODE_USAGE, "an input of more than %d letters", MAX_TEXT - 1);
    char *names = strrchr(text, '='), *slash = strrchr(text, '/');
    if (names)
        *names++ = '\0';
    char *variable = strchr(slash ? slash : text, ':'), *levels = variable ? strchr(variable, '@') : NULL;
    if (variable)
        *variable++ = '\0';
    if (levels)
        *levels++ = '\0';
    netcdf_file **file = grow((void **)&s->files, s->n_files, sizeof *file);
    int code = file ? netcdf_open(file, text) : CODE_NO_MEMORY;
    if (code)
        return code;
    s->n_files++;
    if (variable)
        return add_variable(s, *file, variable, levels, names);
    code = netcdf_fields(*file, &all, &count);
    if (code)
        return code;
    if (names && count > 1)
        code = fail(CODE_USAGE, "%s: has %zu variables; say which of them is '%s', as in %s:%s=%s", text, count, names,
                    text, all[0], names);
    for (size_t i = 0; i < count && !code; i++)
        code = add_variable(s, *file, all[i], NULL, names);
    free(all);
    return code;
}

/* ---- grid ---- */

static int read_grid(const netcdf_field *field, double *latitude, double *longitude)
{
    int code = netcdf_latitudes(field, latitude);
    return code ? code : netcdf_longitudes(field, longitude);
}

static int check_grid(const import_sources *s, const netcdf_field *field)
{
    if (field->latitudes != s->latitudes || field->longitudes != s->longitudes)
        return fail(CODE_BAD_INPUT,
                    "%s: '%s' has %lld latitudes and %lld longitudes; the first input has %lld and %lld",
                    netcdf_path(field->file), field->name, (long long)field->latitudes, (long long)field->longitudes,
                    (long long)s->latitudes, (long long)s->longitudes);
    double *values = allocate((size_t)(s->latitudes + s->longitudes) * sizeof *values);
    int code = values ? read_grid(field, values, values + s->latitudes) : CODE_NO_MEMORY;
    for (int64_t i = 0; i < s->latitudes + s->longitudes && !code; i++) {
        double first = i < s->latitudes ? s->latitude[i] : s->longitude[i - s->latitudes];
        if (!(fabs(values[i] - first) <= 1e-3))
            code = fail(CODE_BAD_INPUT, "%s: '%s' has the %s %g where the first input has %g", netcdf_path(field->file),
                        field->name, i < s->latitudes ? "latitude" : "longitude", values[i], first);
    }
    free(values);
    return code;
}

static int open_grid(import_sources *s)
{
    const netcdf_field *first = s->fields[0];
    s->latitudes = first->latitudes, s->longitudes = first->longitudes;
    s->latitude = allocate((size_t)s->latitudes * sizeof(double));
    s->longitude = allocate((size_t)s->longitudes * sizeof(double));
    int code = s->latitude && s->longitude ? read_grid(first, s->latitude, s->longitude) : CODE_NO_MEMORY;
    for (size_t i = 1; i < s->n_fields && !code; i++)
        code = check_grid(s, s->fields[i]);
    return code;
}

/* ---- times ---- */

/* Seconds of the field's steps. */
static int read_times(const netcdf_field *field, const char *given, int64_t *seconds)
{
    char unit[128], calendar[64];
    date_units units;
    double *values = allocate((size_t)field->steps * sizeof *values);
    int code = values ? netcdf_times(field, values, unit, calendar) : CODE_NO_MEMORY;
    if (!code && !date_units_parse(given ? given : unit, given ? NULL : calendar, &units))
        code = given ? fail(CODE_USAGE, "time-units is '%s'; it must be as in 'hours since 1996-01-05 00:00'", given)
                     : fail(CODE_BAD_INPUT,
                            "%s: the times of '%s' have the units '%s' and the calendar '%s', which give no "
                            "dates; --time-units 'hours since 1996-01-05' would",
                            netcdf_path(field->file), field->name, unit, calendar);
    for (int64_t t = 0; t < field->steps && !code; t++)
        seconds[t] = date_of_value(&units, values[t]);
    free(values);
    return code;
}

/* Times of all of a channel's sources, one behind the other. */
static int channel_times(const import_channel *c, const char *given, int64_t *seconds)
{
    int code = CODE_GOOD;
    for (size_t i = 0; i < c->count && !code; i++) {
        code = read_times(c->sources[i].field, given, seconds);
        seconds += c->sources[i].steps;
    }
    return code;
}

static int64_t channel_steps(const import_channel *c)
{
    int64_t steps = 0;
    for (size_t i = 0; i < c->count; i++)
        steps += c->sources[i].steps;
    return steps;
}

static int check_times(const import_sources *s, const import_channel *c, const int64_t *seconds)
{
    char a[VIT_NAME], b[VIT_NAME];
    for (int64_t t = 0; t < s->steps; t++) {
        date_text(seconds[t], a, sizeof a);
        date_text(s->seconds[t], b, sizeof b);
        if (seconds[t] != s->seconds[t])
            return fail(CODE_BAD_INPUT, "step %lld of channel '%s' is of %s, but of %s in channel '%s'", (long long)t,
                        c->name, a, b, s->channels[0].name);
        if (t && seconds[t] <= seconds[t - 1])
            return fail(CODE_BAD_INPUT, "step %lld of channel '%s' is of %s, which is not after the step before it",
                        (long long)t, c->name, a);
    }
    return CODE_GOOD;
}

static int open_times(import_sources *s, const char *given)
{
    s->steps = channel_steps(&s->channels[0]);
    s->seconds = allocate((size_t)s->steps * sizeof *s->seconds);
    int64_t *seconds = allocate((size_t)s->steps * sizeof *seconds);
    int code = s->seconds && seconds ? channel_times(&s->channels[0], given, s->seconds) : CODE_NO_MEMORY;
    for (size_t i = 0; i < s->n_channels && !code; i++) {
        const import_channel *c = &s->channels[i];
        if (channel_steps(c) != s->steps)
            code = fail(CODE_BAD_INPUT, "channel '%s' has %lld steps, but '%s' has %lld", c->name,
                        (long long)channel_steps(c), s->channels[0].name, (long long)s->steps);
        if (!code)
            code = channel_times(c, given, seconds);
        if (!code)
            code = check_times(s, c, seconds);
    }
    free(seconds);
    return code;
}

int import_sources_open(import_sources *s, const import_options *o)
{
    int code = o->n_inputs ? CODE_GOOD : fail(CODE_USAGE, "input is missing; it names netCDF files");
    *s = (import_sources){.files = NULL};
    for (size_t i = 0; i < o->n_inputs && !code; i++)
        code = add_input(s, o->inputs[i]);
    if (!code)
        code = open_grid(s);
    if (!code)
        code = open_times(s, o->time_units);
    if (code)
        import_sources_close(s);
    return code;
}

void import_sources_close(import_sources *s)
{
    for (size_t i = 0; i < s->n_fields; i++)
        free(s->fields[i]);
    for (size_t i = 0; i < s->n_files; i++)
        netcdf_close(s->files[i]);
    for (size_t i = 0; i < s->n_channels; i++)
        free(s->channels[i].sources);
    free(s->fields);
    free(s->files);
    free(s->channels);
    free(s->latitude);
    free(s->longitude);
    free(s->seconds);
    *s = (import_sources){.files = NULL};
}

int import_sources_read(const import_sources *s, size_t channel, int64_t step, float *to)
{
    const import_source *from = s->channels[channel].sources;
    for (; step >= from->steps; from++)
        step -= from->steps;
    return netcdf_read(from->field, step, from->level, to);
}
