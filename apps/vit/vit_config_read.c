/* SPDX-License-Identifier: MIT */
/* Reads one named configuration: YAML through libyaml, bounded in size, depth and inheritance. */
#include "vit/vit_config_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#define MAX_BYTES (1 << 20)
#define MAX_DEPTH 16
#define MAX_MAPS  1000 /* visited for one configuration */
#define MAX_TEXT  4096

typedef struct reader {
    yaml_document_t document;
    const char *path;
    vit_config *to;
    bool seen[VIT_MAX_KEYS]; /* by row: set by a map that is nearer */
    int maps;
    char where[MAX_TEXT + 32]; /* "path:line" */
} reader;

static const char *here(reader *r, const yaml_node_t *node)
{
    snprintf(r->where, sizeof r->where, "%s:%zu", r->path, node->start_mark.line + 1);
    return r->where;
}

static const char *scalar(const yaml_node_t *node)
{
    return node && node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

static bool is_merge(const char *key)
{
    return strcmp(key, "<<") == 0;
}

/* libyaml 0.2.5 has no limit of its own on nesting. */
static int check_depth(FILE *from, const char *path)
{
    yaml_parser_t parser;
    yaml_event_t event = {.type = YAML_NO_EVENT};
    int code = CODE_GOOD, depth = 0;
    if (!yaml_parser_initialize(&parser))
        return fail(CODE_NO_MEMORY, "%s: no memory to read it", path);
    yaml_parser_set_input_file(&parser, from);
    while (!code && event.type != YAML_STREAM_END_EVENT) {
        yaml_event_delete(&event);
        if (!yaml_parser_parse(&parser, &event)) {
            code = fail(CODE_CONFIGURATION, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                        parser.problem ? parser.problem : "is not YAML");
            break;
        }
        bool opens = event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT;
        bool closes = event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        depth += opens - closes;
        if (depth > MAX_DEPTH)
            code =
                fail(CODE_CONFIGURATION, "%s:%zu: nested deeper than %d", path, event.start_mark.line + 1, MAX_DEPTH);
    }
    yaml_event_delete(&event);
    yaml_parser_delete(&parser);
    rewind(from);
    return code;
}

static int load_document(yaml_document_t *document, FILE *from, const char *path)
{
    yaml_parser_t parser;
    int code = check_depth(from, path);
    if (code)
        return code;
    if (!yaml_parser_initialize(&parser))
        return fail(CODE_NO_MEMORY, "%s: no memory to read it", path);
    yaml_parser_set_input_file(&parser, from);
    if (!yaml_parser_load(&parser, document))
        code = fail(CODE_CONFIGURATION, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                    parser.problem ? parser.problem : "is not YAML");
    yaml_parser_delete(&parser);
    if (code)
        return code;
    yaml_node_t *root = yaml_document_get_root_node(document);
    if (root && root->type == YAML_MAPPING_NODE)
        return CODE_GOOD;
    yaml_document_delete(document);
    return fail(CODE_CONFIGURATION, "%s: must be a map of named configurations", path);
}

static int open_document(yaml_document_t *document, const char *path)
{
    struct stat status;
    FILE *from = fopen(path, "rbe");
    if (!from)
        return fail(errno == ENOENT ? CODE_MISSING : CODE_IO, "%s: cannot be read: %s", path, strerror(errno));
    int code = CODE_GOOD;
    if (fstat(fileno(from), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > MAX_BYTES)
        code = fail(CODE_CONFIGURATION, "%s: must be a regular file of at most %d bytes", path, MAX_BYTES);
    if (!code)
        code = load_document(document, from, path);
    fclose(from);
    return code;
}

/* The text of a value: a scalar's, or "[a, b]" of a sequence of scalars. */
static int value_text(reader *r, const yaml_node_t *key, const yaml_node_t *value, char text[MAX_TEXT])
{
    size_t used = 0;
    const char *right = "a single value, or [a, b]";
    if (scalar(value) && strlen(scalar(value)) < MAX_TEXT) {
        strcpy(text, scalar(value));
        return CODE_GOOD;
    }
    if (value->type != YAML_SEQUENCE_NODE)
        return fail(CODE_CONFIGURATION, "%s: %s must be %s", here(r, key), scalar(key), right);
    for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top; i++) {
        const char *item = scalar(yaml_document_get_node(&r->document, *i));
        if (!item || used + strlen(item) + 4 > MAX_TEXT)
            return fail(CODE_CONFIGURATION, "%s: %s must be %s", here(r, key), scalar(key), right);
        used += (size_t)snprintf(text + used, MAX_TEXT - used, "%s%s", used ? ", " : "[", item);
    }
    snprintf(text + used, MAX_TEXT - used, used ? "]" : "[]");
    return CODE_GOOD;
}

/* A map's own keys, where no nearer map has them. */
static int read_own(reader *r, const yaml_node_t *map)
{
    bool own[VIT_MAX_KEYS] = {false};
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, p->key);
        const yaml_node_t *value = yaml_document_get_node(&r->document, p->value);
        char text[MAX_TEXT];
        if (!scalar(key))
            return fail(CODE_CONFIGURATION, "%s: a key must be a text", here(r, key));
        if (is_merge(scalar(key)))
            continue;
        size_t row = vit_key_find(scalar(key), strlen(scalar(key)));
        if (!vit_keys[row].name)
            return vit_key_unknown(scalar(key), here(r, key));
        if (own[row])
            return fail(CODE_CONFIGURATION, "%s: key '%s' is set a second time", here(r, key), scalar(key));
        own[row] = true;
        int code = r->seen[row] ? CODE_GOOD : value_text(r, key, value, text);
        if (!code && !r->seen[row])
            code = vit_key_store(r->to, row, text, here(r, key));
        if (code)
            return code;
    }
    for (size_t row = 0; row < VIT_MAX_KEYS; row++)
        r->seen[row] = r->seen[row] || own[row];
    return CODE_GOOD;
}

static int read_map(reader *r, const yaml_node_t *map, int depth);

/* What "<<" names: a map, or a list of maps of which the earlier win. */
static int read_merged(reader *r, const yaml_node_t *value, int depth)
{
    int code = CODE_GOOD;
    if (value->type != YAML_SEQUENCE_NODE)
        return read_map(r, value, depth);
    for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top && !code; i++)
        code = read_map(r, yaml_document_get_node(&r->document, *i), depth);
    return code;
}

static int read_map(reader *r, const yaml_node_t *map, int depth)
{
    if (map->type != YAML_MAPPING_NODE)
        return fail(CODE_CONFIGURATION, "%s: must be a map of keys", here(r, map));
    if (depth > MAX_DEPTH || r->maps++ > MAX_MAPS)
        return fail(CODE_CONFIGURATION, "%s: inherits from itself, or over more than %d maps", here(r, map), MAX_DEPTH);
    int code = read_own(r, map);
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top && !code; p++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, p->key);
        if (is_merge(scalar(key)))
            code = read_merged(r, yaml_document_get_node(&r->document, p->value), depth + 1);
    }
    return code;
}

/* The names of the document's maps, ended by NULL: one block, texts behind the list. */
static int list_names(yaml_document_t *document, const char *path, char ***names)
{
    const yaml_node_t *root = yaml_document_get_root_node(document);
    const yaml_node_pair_t *first = root->data.mapping.pairs.start, *end = root->data.mapping.pairs.top;
    size_t count = (size_t)(end - first), bytes = (count + 1) * sizeof(char *);
    for (const yaml_node_pair_t *p = first; p < end; p++) {
        const char *name = scalar(yaml_document_get_node(document, p->key));
        if (!name)
            return fail(CODE_CONFIGURATION, "%s: the name of a configuration must be a text", path);
        bytes += strlen(name) + 1;
    }
    *names = allocate(bytes);
    if (!*names)
        return CODE_NO_MEMORY;
    char *text = (char *)(*names + count + 1);
    for (size_t i = 0; i < count; i++) {
        (*names)[i] = strcpy(text, scalar(yaml_document_get_node(document, first[i].key)));
        text += strlen(text) + 1;
    }
    return CODE_GOOD;
}

int vit_config_names(const char *file, char ***names)
{
    yaml_document_t document;
    int code = open_document(&document, file);
    if (code)
        return code;
    code = list_names(&document, file, names);
    yaml_document_delete(&document);
    return code;
}

static int read_named(vit_config *c, const char *file, const char *name)
{
    reader r = {.path = file, .to = c};
    char **names = NULL;
    int code = open_document(&r.document, file);
    if (code)
        return code;
    code = list_names(&r.document, file, &names);
    size_t at = 0;
    while (!code && names[at] && strcmp(names[at], name) != 0)
        at++;
    if (!code && !names[at])
        code = fail(CODE_CONFIGURATION, "%s: has no configuration '%s'; the nearest is '%s'", file, name,
                    *names ? options_nearest(name, (const char *const *)names) : "");
    if (!code) {
        const yaml_node_t *root = yaml_document_get_root_node(&r.document);
        code = read_map(&r, yaml_document_get_node(&r.document, root->data.mapping.pairs.start[at].value), 0);
    }
    free(names);
    yaml_document_delete(&r.document);
    return code;
}

static int apply(vit_config *c, const char *setting)
{
    char name[128];
    size_t length = strcspn(setting, "=");
    if (!setting[length] || length >= sizeof name)
        return fail(CODE_USAGE, "'%s' must be key=value", setting);
    snprintf(name, sizeof name, "%.*s", (int)length, setting);
    size_t row = vit_key_find(name, length);
    if (!vit_keys[row].name)
        return vit_key_unknown(name, "command line");
    return vit_key_store(c, row, setting + length + 1, "command line");
}

static int defaults(vit_config *c, const char *file, const char *name)
{
    int code = CODE_GOOD;
    c->file = strdup(file);
    c->name = strdup(name);
    if (!c->file || !c->name)
        return fail(CODE_NO_MEMORY, "out of memory for a configuration");
    for (size_t row = 0; vit_keys[row].name && !code; row++)
        if (vit_keys[row].value)
            code = vit_key_store(c, row, "None", "default");
    return code;
}

int vit_config_read(vit_config *c, const char *file, const char *name, char *const *settings)
{
    *c = (vit_config){.file = NULL};
    int code = defaults(c, file, name);
    if (!code)
        code = read_named(c, file, name);
    for (; settings && *settings && !code; settings++)
        code = apply(c, *settings);
    if (!code)
        code = vit_config_check(c);
    if (code)
        vit_config_free(c);
    return code;
}
