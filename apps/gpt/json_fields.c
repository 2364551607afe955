/* SPDX-License-Identifier: MIT */
/* Parsing JSON with jansson, and messages that say where. */
#include "gpt/json_fields.h"
#include "shared/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int json_parse(const char *path, const byte_list *text, json_t **root)
{
    json_error_t error;
    *root = json_loadb((const char *)text->items, text->count, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!*root)
        return fail(CODE_BAD_INPUT, "%s: line %d, byte %d: %s", path, error.line, error.position, error.text);
    if (json_is_object(*root))
        return CODE_GOOD;
    json_decref(*root);
    *root = NULL;
    return fail(CODE_BAD_INPUT, "%s: it must be one JSON object", path);
}

int json_field(json_t *object, const char *path, const char *name, json_type type, json_t **value)
{
    static const char *const types[] = {"an object", "an array", "a text", "a whole number",
                                        "a number",  "true",     "false",  "null"};
    const char *dot = strrchr(name, '.');
    *value = json_object_get(object, dot ? dot + 1 : name);
    if (!*value || json_typeof(*value) != type)
        return fail(CODE_BAD_INPUT, "%s: %s is %s; it must be %s", path, name, *value ? "of another type" : "missing",
                    types[type]);
    return CODE_GOOD;
}

const char *json_text(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

int in_file(int code, const char *path, const char *what, ...)
{
    if (!code)
        return CODE_GOOD;
    char where[256], why[MESSAGE_BYTES];
    va_list list;
    va_start(list, what);
    vsnprintf(where, sizeof where, what, list);
    va_end(list);
    failure_copy(why);
    return fail(code, "%s: %s: %s", path, where, why);
}
