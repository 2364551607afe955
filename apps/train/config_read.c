/* SPDX-License-Identifier: MIT */
/* Reads configurations: YAML through libyaml, bounded in size and depth, merged over files. */
#include "train/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <yaml.h>

#define MAX_BYTES (1 << 20)
#define MAX_DEPTH 16
#define MAX_TEXT  4096

typedef struct reader { /* one file being read */
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    const char *path;
    char folder[MAX_TEXT];
    char where[MAX_TEXT + 32]; /* "path:line: " of the current key */
    config *to;
} reader;

static const char *here(reader *r)
{
    snprintf(r->where, sizeof r->where, "%s:%d: ", r->path, (int)r->event.start_mark.line + 1);
    return r->where;
}

static int next(reader *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event))
        return fail(CODE_CONFIGURATION, "%s:%d: %s", r->path, (int)r->parser.problem_mark.line + 1,
                    r->parser.problem ? r->parser.problem : "is not YAML");
    if (r->event.type == YAML_ALIAS_EVENT)
        return fail(CODE_CONFIGURATION, "%san alias; every value must be written out", here(r));
    return CODE_GOOD;
}

static const char *scalar(const reader *r)
{
    return r->event.type == YAML_SCALAR_EVENT ? (const char *)r->event.data.scalar.value : NULL;
}

static bool says_null(const char *text)
{
    return strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0 || strcmp(text, "None") == 0;
}

/* A plain null: the key keeps its default. */
static bool is_null(const reader *r)
{
    const char *text = scalar(r);
    return text && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (!*text || says_null(text));
}

static int skip(reader *r, int depth)
{
    int code = depth < MAX_DEPTH ? CODE_GOOD : fail(CODE_CONFIGURATION, "%snested too deeply", here(r));
    bool map = r->event.type == YAML_MAPPING_START_EVENT;
    if (!map && r->event.type != YAML_SEQUENCE_START_EVENT)
        return code;
    if (!code)
        code = next(r);
    while (!code && r->event.type != YAML_SEQUENCE_END_EVENT && r->event.type != YAML_MAPPING_END_EVENT) {
        code = skip(r, depth + 1);
        if (!code)
            code = next(r);
    }
    return code;
}

/* Notes that a key was given, and where; fails if it was given before. */
static int note(reader *r, size_t row, const char *text)
{
    config_source *from = &r->to->from[row];
    if (from->given)
        return fail(CODE_CONFIGURATION, "%skey '%s' is set a second time; first in %s:%d", here(r),
                    config_keys[row].name, from->file, from->line);
    config_clear(r->to, row);
    *from = (config_source){strdup(text), strdup(r->path), (int)r->event.start_mark.line + 1, true};
    return from->text && from->file ? CODE_GOOD : fail(CODE_NO_MEMORY, "out of memory for a configuration");
}

/* Adds an item to what a list says of itself. */
static int note_item(reader *r, size_t row, const char *item)
{
    config_source *from = &r->to->from[row];
    size_t room = strlen(from->text) + strlen(item) + 3;
    char *text = realloc(from->text, room);
    if (!text)
        return fail(CODE_NO_MEMORY, "out of memory for a configuration");
    from->text = text;
    if (*text)
        strcat(text, ", ");
    strcat(text, item);
    return CODE_GOOD;
}

static int wrong_kind(reader *r, size_t row, const char *right)
{
    return fail(CODE_CONFIGURATION, "%s%s must be %s", here(r), config_keys[row].name, right);
}

static int read_items(reader *r, size_t row)
{
    int code = next(r);
    while (!code && r->event.type != YAML_SEQUENCE_END_EVENT) {
        if (!scalar(r))
            return wrong_kind(r, row, "a list of single values");
        code = config_append(r->to, row, scalar(r), r->folder, here(r));
        if (!code)
            code = note_item(r, row, scalar(r));
        if (!code)
            code = next(r);
    }
    return code;
}

/* One [[names], count] of a pattern, as "name+name*count". */
static int read_entry(reader *r, size_t row)
{
    char text[MAX_TEXT] = "";
    size_t used = 0;
    static const char right[] = "a list of [[name, …], count], as in [[[\"ring\"], \"all\"]]";
    int code = r->event.type == YAML_SEQUENCE_START_EVENT ? next(r) : wrong_kind(r, row, right);
    if (!code && r->event.type != YAML_SEQUENCE_START_EVENT)
        return wrong_kind(r, row, right);
    for (code = code ? code : next(r); !code && r->event.type != YAML_SEQUENCE_END_EVENT; code = next(r)) {
        if (!scalar(r) || used + strlen(scalar(r)) + 32 > sizeof text)
            return wrong_kind(r, row, right);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? "+" : "", scalar(r));
    }
    if (!code)
        code = next(r);
    if (!code && (!scalar(r) || !used || strlen(scalar(r)) > 16))
        return wrong_kind(r, row, right);
    if (!code) {
        snprintf(text + used, sizeof text - used, "*%s", scalar(r));
        code = config_append(r->to, row, text, NULL, here(r));
    }
    if (!code)
        code = note_item(r, row, text);
    if (!code)
        code = next(r);
    return code || r->event.type == YAML_SEQUENCE_END_EVENT ? code : wrong_kind(r, row, right);
}

static int read_pattern(reader *r, size_t row)
{
    int code = next(r);
    while (!code && r->event.type != YAML_SEQUENCE_END_EVENT) {
        code = read_entry(r, row);
        if (!code)
            code = next(r);
    }
    return code;
}

static int read_map(reader *r, const char *prefix, int depth);

/* The value of a key; the current event is its first. */
static int read_value(reader *r, size_t row, int depth)
{
    const config_key *key = &config_keys[row];
    bool list = key->kind == KEY_TEXTS || key->kind == KEY_PATHS || key->kind == KEY_REALS;
    const char *text = scalar(r);
    if (is_null(r) && key->kind != KEY_IGNORED)
        return CODE_GOOD;
    int code = note(r, row, text && key->kind != KEY_IGNORED ? text : "");
    if (code)
        return code;
    if (key->kind == KEY_IGNORED)
        return skip(r, depth);
    if (key->kind == KEY_GROUP) {
        char prefix[128];
        snprintf(prefix, sizeof prefix, "%.120s.", key->name);
        return r->event.type == YAML_MAPPING_START_EVENT ? read_map(r, prefix, depth + 1)
                                                         : wrong_kind(r, row, "a map of keys");
    }
    if (r->event.type == YAML_SEQUENCE_START_EVENT && list)
        return read_items(r, row);
    if (r->event.type == YAML_SEQUENCE_START_EVENT && key->kind == KEY_PATTERN)
        return read_pattern(r, row);
    if (!text)
        return wrong_kind(r, row, "a single value");
    return list ? config_append(r->to, row, text, r->folder, here(r))
                : config_store(r->to, row, text, r->folder, here(r));
}

/* Keys and values up to the map's end. */
static int read_map(reader *r, const char *prefix, int depth)
{
    int code = depth < MAX_DEPTH ? next(r) : fail(CODE_CONFIGURATION, "%snested too deeply", here(r));
    while (!code && r->event.type != YAML_MAPPING_END_EVENT) {
        char name[MAX_TEXT];
        if (!scalar(r) || snprintf(name, sizeof name, "%s%s", prefix, scalar(r)) >= (int)sizeof name)
            return fail(CODE_CONFIGURATION, "%sa key must be a short text", here(r));
        size_t row = config_find(name);
        if (row == config_key_count())
            return config_unknown(name, here(r));
        code = next(r);
        if (!code)
            code = read_value(r, row, depth);
        if (!code)
            code = next(r);
    }
    return code;
}

/* STREAM-START, then at most one document that is a map. */
static int read_stream(reader *r)
{
    int code = next(r);
    if (!code)
        code = next(r);
    if (code || r->event.type == YAML_STREAM_END_EVENT)
        return code;
    code = next(r);
    if (!code && r->event.type != YAML_MAPPING_START_EVENT)
        code = fail(CODE_CONFIGURATION, "%sa map of keys must begin here", here(r));
    if (!code)
        code = read_map(r, "", 0);
    if (!code)
        code = next(r);
    if (!code)
        code = next(r);
    if (!code && r->event.type != YAML_STREAM_END_EVENT)
        code = fail(CODE_CONFIGURATION, "%sa second document; one is allowed", here(r));
    return code;
}

static int read_file(config *c, const char *path)
{
    struct stat status;
    FILE *from = fopen(path, "rbe");
    if (!from)
        return fail(errno == ENOENT ? CODE_MISSING : CODE_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (fstat(fileno(from), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > MAX_BYTES) {
        fclose(from);
        return fail(CODE_CONFIGURATION, "%s: must be a regular file of at most %d bytes", path, MAX_BYTES);
    }
    reader r = {.path = path, .to = c};
    const char *slash = strrchr(path, '/');
    snprintf(r.folder, sizeof r.folder, "%.*s", slash ? (int)(slash - path) : 0, path);
    int code = yaml_parser_initialize(&r.parser) ? CODE_GOOD : fail(CODE_NO_MEMORY, "%s: no memory to read it", path);
    if (!code) {
        yaml_parser_set_input_file(&r.parser, from);
        code = read_stream(&r);
        yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);
    }
    fclose(from);
    return code;
}

/* "name" in folder, with or without .yml. */
static int read_named(config *c, const char *folder, const char *name)
{
    char path[MAX_TEXT];
    const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    bool whole = dot && (!slash || dot > slash) && (strcmp(dot, ".yml") == 0 || strcmp(dot, ".yaml") == 0);
    bool inside = folder && *folder && *name != '/';
    int n = snprintf(path, sizeof path, "%s%s%s%s", inside ? folder : "", inside ? "/" : "", name, whole ? "" : ".yml");
    return n < (int)sizeof path ? read_file(c, path) : fail(CODE_CONFIGURATION, "%s: too long a path", name);
}

/* key=value; key=null: what the files say of it is forgotten. */
static int apply(config *c, const char *setting)
{
    char name[MAX_TEXT];
    size_t length = strcspn(setting, "=");
    if (!setting[length] || length >= sizeof name)
        return fail(CODE_USAGE, "'%s' must be key=value", setting);
    snprintf(name, sizeof name, "%.*s", (int)length, setting);
    size_t row = config_find(name);
    if (row == config_key_count())
        return config_unknown(name, "command line: ");
    config_clear(c, row);
    const char *value = setting + length + 1;
    bool forget = says_null(value);
    value = forget ? config_keys[row].value : value;
    if (!value)
        return CODE_GOOD;
    c->from[row] = (config_source){.text = strdup(value), .given = !forget};
    return c->from[row].text ? config_store(c, row, value, NULL, "command line: ")
                             : fail(CODE_NO_MEMORY, "out of memory for a configuration");
}

static int defaults(config *c)
{
    int code = CODE_GOOD;
    for (size_t row = 0; config_keys[row].name && !code; row++) {
        const char *value = config_keys[row].value;
        if (!value)
            continue;
        code = config_store(c, row, value, NULL, "default: ");
        c->from[row].text = strdup(value);
        if (!c->from[row].text)
            code = fail(CODE_NO_MEMORY, "out of memory for a configuration");
    }
    return code;
}

int config_read(config *c, const char *folder, char *const *files, size_t count, char *const *settings)
{
    *c = (config){.seed = 0};
    int code = defaults(c);
    for (size_t i = 0; i < count && !code; i++)
        code = read_named(c, folder, files[i]);
    for (; settings && *settings && !code; settings++)
        code = apply(c, *settings);
    if (!code)
        code = config_check(c);
    if (code)
        config_free(c);
    return code;
}
