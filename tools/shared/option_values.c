/* SPDX-License-Identifier: MIT */
/* The text of an option's value becomes a field of settings; what is wrong is said with what would be right. */
#include "shared/options.h"

#include <ringx/ringx_study.h>

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- nearest name ---- */

#define LONGEST 64

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein distance without regard to case, of the first LONGEST bytes. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[LONGEST + 1], na = strnlen(a, LONGEST), nb = strnlen(b, LONGEST);
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 0; i < na; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < nb; j++) {
            size_t change = corner + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[j]));
            corner = row[j + 1];
            row[j + 1] = smaller(change, smaller(row[j], corner) + 1);
        }
    }
    return row[nb];
}

const char *options_nearest(const char *name, const char *const *names)
{
    const char *best = NULL;
    size_t least = SIZE_MAX;
    for (; *names; names++) {
        size_t d = edit_distance(name, *names);
        if (d < least) {
            least = d;
            best = *names;
        }
    }
    return best;
}

/* ---- numbers ---- */

/* A whole decimal number with an optional k, m or g up to `end`; false if it is none or does not fit. */
static bool read_integer(const char *text, const char *end, int64_t *value)
{
    char *stop;
    errno = 0;
    if (text == end || !(isdigit((unsigned char)*text) || (*text == '-' && isdigit((unsigned char)text[1]))))
        return false;
    long long n = strtoll(text, &stop, 10);
    int shift = 0;
    if (errno || stop > end)
        return false;
    if (stop + 1 == end) {
        char unit = (char)tolower((unsigned char)*stop++);
        shift = unit == 'k' ? 10 : unit == 'm' ? 20 : unit == 'g' ? 30 : -1;
    }
    if (stop != end || shift < 0)
        return false;
    return !__builtin_mul_overflow((int64_t)n, (int64_t)1 << shift, value);
}

static int store_integer(const option *row, const char *text, const char *end, int64_t *value)
{
    if (!read_integer(text, end, value))
        return fail(CODE_USAGE, "--%s '%.*s' is not a whole number (k, m and g multiply by 1024, 1024², 1024³)",
                    row->name, (int)(end - text), text);
    if ((double)*value < row->low || (double)*value > row->high)
        return fail(CODE_USAGE, "--%s %.*s is out of range; it must be %.0f … %.0f", row->name, (int)(end - text), text,
                    row->low, row->high);
    return CODE_GOOD;
}

static int store_real(const option *row, const char *text, double *value)
{
    char *stop;
    errno = 0;
    *value = strtod(text, &stop);
    if (stop == text || *stop || isspace((unsigned char)*text) || !isfinite(*value))
        return fail(CODE_USAGE, "--%s '%s' is not a finite number", row->name, text);
    if (*value < row->low || *value > row->high)
        return fail(CODE_USAGE, "--%s %s is out of range; it must be %g … %g", row->name, text, row->low, row->high);
    return CODE_GOOD;
}

static int store_range(const option *row, const char *text, int64_t range[2])
{
    const char *dash = strchr(text, '-'), *end = text + strlen(text);
    int code = store_integer(row, text, dash ? dash : end, &range[0]);
    range[1] = range[0];
    if (!code && dash)
        code = store_integer(row, dash + 1, end, &range[1]);
    if (!code && range[1] < range[0])
        return fail(CODE_USAGE, "--%s %s runs backwards; give the smaller number first", row->name, text);
    return code;
}

static int store_window(const option *row, const char *text, int64_t window[2])
{
    const char *comma = strchr(text, ',');
    if (!comma)
        return fail(CODE_USAGE, "--%s '%s' needs two numbers: LEFT,RIGHT (-1: unlimited)", row->name, text);
    if (!read_integer(text, comma, &window[0]) || !read_integer(comma + 1, text + strlen(text), &window[1]) ||
        window[0] < -1 || window[1] < -1)
        return fail(CODE_USAGE, "--%s '%s' is wrong; it must be LEFT,RIGHT, each -1 (unlimited) or more", row->name,
                    text);
    return CODE_GOOD;
}

static int store_starts(const option *row, const char *text, int_list *list)
{
    size_t count = 0;
    for (const char *c = text; *c; c++)
        count += *c == ',';
    free(list->items);
    *list = (int_list){.items = allocate((count + 1) * sizeof(int64_t))};
    if (!list->items)
        return CODE_NO_MEMORY;
    while (*text) {
        size_t length = strcspn(text, ",");
        int64_t value;
        if (!read_integer(text, text + length, &value) || value < 0)
            return fail(CODE_USAGE, "--%s: '%.*s' is not a token position", row->name, (int)length, text);
        if (list->count && value < list->items[list->count - 1])
            return fail(CODE_USAGE, "--%s: %lld comes after %lld; starts must not decrease", row->name,
                        (long long)value, (long long)list->items[list->count - 1]);
        list->items[list->count++] = value;
        text += length + (text[length] == ',');
    }
    if (list->count == 1)
        return fail(CODE_USAGE, "--%s has one number; it needs the starts of the documents and the end of the last",
                    row->name);
    return CODE_GOOD;
}

static int store_unsigned(const option *row, const char *text, uint64_t *value)
{
    char *stop;
    errno = 0;
    *value = strtoull(text, &stop, 0);
    if (!isdigit((unsigned char)*text) || *stop || errno)
        return fail(CODE_USAGE, "--%s '%s' is not a whole number of at most 64 bits", row->name, text);
    return CODE_GOOD;
}

static int store_bytes(const option *row, const char *text, size_t *value)
{
    int64_t n;
    if (!read_integer(text, text + strlen(text), &n) || n < 0)
        return fail(CODE_USAGE, "--%s '%s' is not a number of bytes (k, m and g multiply by 1024, 1024², 1024³)",
                    row->name, text);
    *value = (size_t)n;
    return CODE_GOOD;
}

/* ---- names ---- */

static int find_choice(const option *row, const char *text, size_t length, const char *const *choices, int64_t *index)
{
    for (int64_t i = 0; choices[i]; i++) {
        if (strlen(choices[i]) == length && memcmp(choices[i], text, length) == 0) {
            *index = i;
            return CODE_GOOD;
        }
    }
    char name[LONGEST];
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    return fail(CODE_USAGE, "--%s '%s' is unknown; the nearest is '%s'", row->name, name,
                options_nearest(name, choices));
}

static int store_choices(const option *row, const char *text, uint64_t *bits)
{
    *bits = 0;
    do {
        size_t length = strcspn(text, ",");
        int64_t index = 0;
        if (length == 3 && memcmp(text, "all", 3) == 0) {
            for (int i = 0; row->choices[i]; i++)
                *bits |= UINT64_C(1) << i;
        } else {
            int code = find_choice(row, text, length, row->choices, &index);
            if (code)
                return code;
            *bits |= UINT64_C(1) << index;
        }
        text += length;
    } while (*text++);
    return CODE_GOOD;
}

/* Names of a table of the library, ended by NULL; room for MAX_NAMES. */
static void table_names(option_kind kind, const char **names)
{
    size_t n = 0;
    for (size_t i = 0; n + 2 < MAX_NAMES; i++) {
        const char *name = NULL;
        if (kind == OPTION_PRESETS)
            name = ringx_preset_at(i) ? ringx_preset_at(i)->name : NULL;
        else if (kind == OPTION_KERNEL)
            name = ringx_kernel_at(i) ? ringx_kernel_at(i)->name : NULL;
        else if (kind == OPTION_LAYOUT)
            name = ringx_layout_at(i) ? ringx_layout_at(i)->name : NULL;
        else
            name = ringx_algorithm_at(i) ? ringx_algorithm_at(i)->name : NULL;
        if (!name)
            break;
        names[n++] = name;
    }
    if (kind == OPTION_PRESETS)
        names[n++] = "auto";
    names[n] = NULL;
}

void presets_all(name_list *list)
{
    table_names(OPTION_PRESETS, list->items);
    for (list->count = 0; list->items[list->count];)
        list->count++;
}

static int store_presets(const option *row, const char *text, name_list *list)
{
    const char *names[MAX_NAMES];
    table_names(OPTION_PRESETS, names);
    list->count = 0;
    do {
        size_t length = strcspn(text, ",");
        int64_t index = 0;
        bool all = length == 3 && memcmp(text, "all", 3) == 0;
        int code = all ? CODE_GOOD : find_choice(row, text, length, names, &index);
        if (code)
            return code;
        for (size_t i = 0; names[i]; i++)
            if ((all || i == (size_t)index) && list->count < MAX_NAMES)
                list->items[list->count++] = names[i];
        text += length;
    } while (*text++);
    return CODE_GOOD;
}

static int store_table_name(const option *row, const char *text, const char **name)
{
    const char *names[MAX_NAMES];
    table_names(row->kind, names);
    int64_t index = 0;
    int code = find_choice(row, text, strlen(text), names, &index);
    if (!code)
        *name = names[index];
    return code;
}

int option_store(const option *row, void *settings, const char *text)
{
    void *field = (char *)settings + row->field;
    if (row->set)
        *(bool *)((char *)settings + row->set) = true;
    switch (row->kind) {
    case OPTION_TEXT:
        if (!*text)
            return fail(CODE_USAGE, "--%s is empty; it must be %s", row->name, row->value);
        *(const char **)field = text;
        return CODE_GOOD;
    case OPTION_INTEGER:
        return store_integer(row, text, text + strlen(text), field);
    case OPTION_UNSIGNED:
        return store_unsigned(row, text, field);
    case OPTION_BYTES:
        return store_bytes(row, text, field);
    case OPTION_REAL:
        return store_real(row, text, field);
    case OPTION_RANGE:
        return store_range(row, text, field);
    case OPTION_WINDOW:
        return store_window(row, text, field);
    case OPTION_STARTS:
        return store_starts(row, text, field);
    case OPTION_CHOICE:
        return find_choice(row, text, strlen(text), row->choices, field);
    case OPTION_CHOICES:
        return store_choices(row, text, field);
    case OPTION_PRESETS:
        return store_presets(row, text, field);
    case OPTION_LAYOUT:
    case OPTION_ALGORITHM:
    case OPTION_KERNEL:
        return store_table_name(row, text, field);
    case OPTION_FLAG:
    case OPTION_SWITCH:
    case OPTION_FILES:
        break; /* take no value of their own: options_parse stores them */
    }
    return fail(CODE_INTERNAL, "option '--%s' has no value", row->name);
}
