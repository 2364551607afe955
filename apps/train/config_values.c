/* SPDX-License-Identifier: MIT */
/* Values of a configuration: from text, with limits and messages, and back to text. */
#include "train/config.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/options.h"

static int refuse(const config_key *key, const char *text, const char *where, const char *right)
{
    return fail(CODE_CONFIGURATION, "%s%s is '%s'; it must be %s", where, key->name, text, right);
}

static int read_number(const config_key *key, const char *text, const char *where, double *value)
{
    char *end, right[120];
    errno = 0;
    *value = strtod(text, &end);
    bool whole = key->kind != KEY_INT || (*value == floor(*value));
    bool digits = strspn(text, "0123456789+-.eE") == strlen(text); /* no inf, no hexadecimal, no spaces */
    if (*text && !*end && digits && whole && *value >= key->low && *value <= key->high)
        return CODE_GOOD;
    snprintf(right, sizeof right, "a %snumber from %g to %g", key->kind == KEY_INT ? "whole " : "", key->low,
             key->high);
    if (key->low == key->high)
        snprintf(right, sizeof right, "%g: nothing else is offered", key->low);
    return refuse(key, text, where, right);
}

static int read_bool(const config_key *key, const char *text, const char *where, bool *value)
{
    static const char *const forms[] = {"false", "true", "no", "yes", "off", "on", NULL};
    for (int i = 0; forms[i]; i++)
        if (strcasecmp(text, forms[i]) == 0) {
            *value = i & 1;
            return *value && key->high == 0 ? refuse(key, text, where, "false: nothing else is offered") : CODE_GOOD;
        }
    return refuse(key, text, where, "true or false");
}

static int read_choice(const config_key *key, const char *text, const char *where, int64_t *value)
{
    char right[400];
    int used = snprintf(right, sizeof right, "one of");
    for (int i = 0; key->choices[i]; i++) {
        if (strcasecmp(text, key->choices[i]) == 0) {
            *value = i;
            return CODE_GOOD;
        }
        used += snprintf(right + used, sizeof right - (size_t)used, "%s %s", i ? "," : "", key->choices[i]);
    }
    return refuse(key, text, where, right);
}

/* A copy; paths that are relative get the folder in front. */
static char *copy_text(const char *text, bool path, const char *folder)
{
    bool prefix = path && folder && *folder && *text != '/';
    size_t room = strlen(text) + (prefix ? strlen(folder) + 1 : 0) + 1;
    char *copy = allocate(room);
    if (copy)
        snprintf(copy, room, "%s%s%s", prefix ? folder : "", prefix ? "/" : "", text);
    return copy;
}

static int append_text(text_list *list, const char *text, bool path, const char *folder)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return fail(CODE_NO_MEMORY, "out of memory for a list of %zu values", list->count + 1);
    list->items = items;
    items[list->count] = copy_text(text, path, folder);
    return items[list->count++] ? CODE_GOOD : CODE_NO_MEMORY;
}

static int append_real(real_list *list, double value)
{
    double *items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return fail(CODE_NO_MEMORY, "out of memory for a list of %zu values", list->count + 1);
    list->items = items;
    items[list->count++] = value;
    return CODE_GOOD;
}

int config_append(config *c, size_t row, const char *text, const char *folder, const char *where)
{
    const config_key *key = &config_keys[row];
    void *field = (char *)c + key->field;
    double value = 0;
    if (key->kind != KEY_REALS)
        return append_text(field, text, key->kind == KEY_PATHS, folder);
    int code = read_number(key, text, where, &value);
    return code ? code : append_real(field, value);
}

/* Defaults and settings of lists: separated by spaces or commas. */
static int read_list(config *c, size_t row, const char *text, const char *folder, const char *where)
{
    char item[4096];
    int code = CODE_GOOD;
    while (!code && *(text += strspn(text, " ,[]"))) {
        size_t length = strcspn(text, " ,[]");
        if (length >= sizeof item)
            return refuse(&config_keys[row], text, where, "a list of shorter texts");
        snprintf(item, sizeof item, "%.*s", (int)length, text);
        text += length;
        code = config_append(c, row, item, folder, where);
    }
    return code;
}

int config_store(config *c, size_t row, const char *text, const char *folder, const char *where)
{
    const config_key *key = &config_keys[row];
    void *field = (char *)c + key->field;
    double number = 0;
    int code = CODE_GOOD;
    switch (key->kind) {
    case KEY_INT:
        code = read_number(key, text, where, &number);
        *(int64_t *)field = code ? 0 : (int64_t)number;
        return code;
    case KEY_REAL:
        return read_number(key, text, where, field);
    case KEY_BOOL:
        return read_bool(key, text, where, field);
    case KEY_CHOICE:
        return read_choice(key, text, where, field);
    case KEY_TEXT:
    case KEY_PATH:
        free(*(char **)field);
        *(char **)field = copy_text(text, key->kind == KEY_PATH, folder);
        return *(char **)field ? CODE_GOOD : CODE_NO_MEMORY;
    case KEY_TEXTS:
    case KEY_PATHS:
    case KEY_REALS:
    case KEY_PATTERN:
        return read_list(c, row, text, folder, where);
    case KEY_GROUP:
        return refuse(key, text, where, "a map of keys");
    case KEY_IGNORED:
        break;
    }
    return CODE_GOOD;
}

int config_unknown(const char *name, const char *where)
{
    const char *names[CONFIG_MAX_KEYS], *dot = strrchr(name, '.');
    size_t count = 0, group = dot ? (size_t)(dot - name) + 1 : 0;
    for (size_t i = 0; config_keys[i].name; i++) {
        const char *other = config_keys[i].name, *end = strrchr(other, '.');
        if ((end ? (size_t)(end - other) + 1 : 0) == group && strncmp(name, other, group) == 0)
            names[count++] = other;
    }
    names[count] = NULL;
    const char *near = options_nearest(name, names);
    return fail(CODE_CONFIGURATION, "%sunknown key '%s'; did you mean '%s'?", where, name, near ? near : "");
}

void config_clear(config *c, size_t row)
{
    void *field = (char *)c + config_keys[row].field;
    config_kind kind = config_keys[row].kind;
    if (kind == KEY_TEXT || kind == KEY_PATH) {
        free(*(char **)field);
        *(char **)field = NULL;
    } else if (kind == KEY_TEXTS || kind == KEY_PATHS || kind == KEY_PATTERN) {
        text_list *list = field;
        for (size_t i = 0; i < list->count; i++)
            free(list->items[i]);
        free(list->items);
        *list = (text_list){.count = 0};
    } else if (kind == KEY_REALS) {
        free(((real_list *)field)->items);
        *(real_list *)field = (real_list){.count = 0};
    }
    free(c->from[row].text);
    free(c->from[row].file);
    c->from[row] = (config_source){.text = NULL};
}

void config_free(config *c)
{
    for (size_t row = 0; config_keys[row].name; row++)
        config_clear(c, row);
}

int config_print(const config *c, FILE *to)
{
    size_t ignored = 0;
    for (size_t row = 0; config_keys[row].name; row++) {
        const config_source *from = &c->from[row];
        if (!from->text || config_keys[row].kind == KEY_GROUP)
            continue;
        if (config_keys[row].kind == KEY_IGNORED) {
            ignored++;
            continue;
        }
        fprintf(to, "  %-40s %s  ", config_keys[row].name, strcmp(from->text, "\n") == 0 ? "\\n" : from->text);
        if (from->file)
            fprintf(to, "updated (%s:%d)\n", from->file, from->line);
        else
            fprintf(to, "%s\n", from->given ? "updated" : "default");
    }
    if (ignored)
        fprintf(to, "  without effect here, since they concern the Python stack only:");
    for (size_t row = 0; ignored && config_keys[row].name; row++)
        if (config_keys[row].kind == KEY_IGNORED && c->from[row].text)
            fprintf(to, " %s", config_keys[row].name);
    if (ignored)
        fprintf(to, "\n");
    return ferror(to) ? fail(CODE_CANNOT_WRITE, "the configuration cannot be printed") : CODE_GOOD;
}
