/* SPDX-License-Identifier: MIT */
/* Values of a configuration: from text, with limits and messages, and back to lines. */
#include "vit/vit_config_keys.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int refuse(const vit_key *key, const char *text, const char *from, const char *right)
{
    return fail(CODE_CONFIGURATION, "%s: %s is '%s'; it must be %s", from, key->name, text, right);
}

/* A number at text, in the key's limits; *end is behind it. */
static bool number_at(const vit_key *key, const char *text, bool whole, double *value, const char **end)
{
    size_t length = strspn(text, "0123456789+-.eE"); /* no inf, no hexadecimal */
    char *stop;
    errno = 0;
    *value = strtod(text, &stop);
    *end = stop;
    return length && stop == text + length && !errno && (!whole || *value == floor(*value)) && *value >= key->low &&
           *value <= key->high;
}

static int store_number(const vit_key *key, const char *text, const char *from, double *value)
{
    const char *end;
    char right[120];
    bool whole = key->kind == VIT_KEY_INT;
    if (number_at(key, text, whole, value, &end) && !*end)
        return CODE_GOOD;
    snprintf(right, sizeof right, "a %snumber from %g to %g", whole ? "whole " : "", key->low, key->high);
    return refuse(key, text, from, right);
}

/* "[a, b]", "a, b" or "a b" */
static int store_pair(const vit_key *key, const char *text, const char *from, int64_t pair[2])
{
    const char *at = text + strspn(text, "[ ");
    double value[2];
    for (int i = 0; i < 2; i++) {
        if (!number_at(key, at, true, &value[i], &at))
            return refuse(key, text, from, "two whole numbers, as in [360, 720]");
        at += strspn(at, ", ");
    }
    at += strspn(at, "] ");
    if (*at)
        return refuse(key, text, from, "two whole numbers, as in [360, 720]");
    pair[0] = (int64_t)value[0], pair[1] = (int64_t)value[1];
    return CODE_GOOD;
}

static int store_bool(const vit_key *key, const char *text, const char *from, bool *value)
{
    static const char *const forms[] = {"false", "true", "no", "yes", "off", "on", NULL};
    for (int i = 0; forms[i]; i++)
        if (strcasecmp(text, forms[i]) == 0) {
            *value = i & 1;
            return CODE_GOOD;
        }
    return refuse(key, text, from, "true or false");
}

static int store_choice(const vit_key *key, const char *text, const char *from, int64_t *value)
{
    char right[200];
    int used = snprintf(right, sizeof right, "one of");
    for (int i = 0; key->choices[i]; i++) {
        if (strcasecmp(text, key->choices[i]) == 0) {
            *value = i;
            return CODE_GOOD;
        }
        used += snprintf(right + used, sizeof right - (size_t)used, "%s %s", i ? "," : "", key->choices[i]);
    }
    return refuse(key, text, from, right);
}

static int store_text(const char *text, char **field)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return fail(CODE_NO_MEMORY, "out of memory for a configuration");
    free(*field);
    *field = copy;
    return CODE_GOOD;
}

static int store(vit_config *c, const vit_key *key, const char *text, const char *from)
{
    void *field = (char *)c + key->field;
    double number = 0;
    int code = CODE_GOOD;
    switch (key->kind) {
    case VIT_KEY_INT:
        code = store_number(key, text, from, &number);
        if (!code)
            *(int64_t *)field = (int64_t)number;
        return code;
    case VIT_KEY_REAL:
        return store_number(key, text, from, field);
    case VIT_KEY_BOOL:
        return store_bool(key, text, from, field);
    case VIT_KEY_TEXT:
        return store_text(text, field);
    case VIT_KEY_CHOICE:
        return store_choice(key, text, from, field);
    case VIT_KEY_PAIR:
        return store_pair(key, text, from, field);
    case VIT_KEY_IGNORED:
        break;
    }
    return CODE_GOOD;
}

static void clear(vit_config *c, const vit_key *key)
{
    if (key->kind == VIT_KEY_TEXT)
        (void)store_text(NULL, (char **)((char *)c + key->field));
    if (key->kind == VIT_KEY_INT)
        *(int64_t *)((char *)c + key->field) = 0;
}

static bool is_null(const char *text)
{
    return !*text || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0 || strcmp(text, "None") == 0;
}

int vit_key_store(vit_config *c, size_t row, const char *text, const char *from)
{
    const vit_key *key = &vit_keys[row];
    vit_source *source = &c->from[row];
    bool null = is_null(text);
    const char *value = null ? key->value : text;
    int code = CODE_GOOD;
    if (!value)
        clear(c, key);
    else
        code = store(c, key, value, from);
    if (!code)
        code = store_text(value, &source->text);
    if (!code)
        code = store_text(null ? NULL : from, &source->from);
    return code;
}

void vit_config_free(vit_config *c)
{
    for (size_t row = 0; vit_keys[row].name; row++) {
        if (vit_keys[row].kind == VIT_KEY_TEXT)
            free(*(char **)((char *)c + vit_keys[row].field));
        free(c->from[row].text);
        free(c->from[row].from);
    }
    free(c->file);
    free(c->name);
    *c = (vit_config){.file = NULL};
}

#define DASHES "--------------------"

void vit_config_print(const vit_config *c, void (*print)(void *context, const char *line), void *context)
{
    char line[4400];
    print(context, DASHES " Configuration " DASHES);
    snprintf(line, sizeof line, "Configuration file: %s", c->file);
    print(context, line);
    snprintf(line, sizeof line, "Configuration name: %s", c->name);
    print(context, line);
    for (size_t row = 0; vit_keys[row].name; row++) {
        snprintf(line, sizeof line, "%s %s", vit_keys[row].name, c->from[row].text ? c->from[row].text : "None");
        if (vit_keys[row].kind != VIT_KEY_IGNORED || c->from[row].text)
            print(context, line);
    }
    print(context, DASHES DASHES "---------------");
}

/* Appends to the list in text. */
static void add(char *text, size_t bytes, const char *what)
{
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, "%s%s", used ? ", " : "without effect: ", what);
}

const char *vit_config_ignored(const vit_config *c, char *text, size_t bytes)
{
    char item[200];
    text[0] = '\0';
    for (size_t row = 0; vit_keys[row].name; row++)
        if (vit_keys[row].kind == VIT_KEY_IGNORED && c->from[row].text)
            add(text, bytes, vit_keys[row].name);
    const char *s = c->lr_schedule;
    if (strcmp(s, "constant") != 0 && strcmp(s, "cosine") != 0 && strcmp(s, "linear") != 0) {
        snprintf(item, sizeof item, "lr_schedule %.100s (neither cosine, linear nor constant: the rate is constant)",
                 s);
        add(text, bytes, item);
    }
    return text;
}
