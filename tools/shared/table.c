/* SPDX-License-Identifier: MIT */
/* A table that prints itself as aligned text, CSV or JSON. */
#include "shared/table.h"
#include "shared/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum cell_kind { CELL_TEXT, CELL_WHOLE, CELL_REAL, CELL_BOOL } cell_kind;

typedef struct cell {
    cell_kind kind;
    char *text;
    int64_t whole;
    double real;
} cell;

struct table {
    const table_column *columns;
    size_t count;
    cell *cells;
    size_t used, room;
    bool failed; /* a cell was lost for want of memory */
};

table *table_create(const table_column *columns, size_t count)
{
    table *t = allocate(sizeof *t);
    if (t)
        *t = (table){.columns = columns, .count = count};
    return t;
}

void table_destroy(table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->used; i++)
        free(t->cells[i].text);
    free(t->cells);
    free(t);
}

static void add(table *t, cell value, const char *text)
{
    value.text = strdup(text);
    if (t->used == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        cell *cells = realloc(t->cells, room * sizeof *cells);
        if (!cells) {
            free(value.text);
            fail(CODE_NO_MEMORY, "out of memory: a table of %zu cells", room);
            t->failed = true;
            return;
        }
        t->cells = cells;
        t->room = room;
    }
    t->failed = t->failed || !value.text;
    t->cells[t->used++] = value;
}

void table_text(table *t, const char *text)
{
    add(t, (cell){.kind = CELL_TEXT}, text ? text : "-");
}

void table_whole(table *t, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    add(t, (cell){.kind = CELL_WHOLE, .whole = value}, text);
}

void table_real(table *t, double value, int digits)
{
    char text[64];
    if (isnan(value))
        snprintf(text, sizeof text, "-");
    else if (digits < 0)
        snprintf(text, sizeof text, "%.*e", -digits, value);
    else
        snprintf(text, sizeof text, "%.*f", digits, value);
    add(t, (cell){.kind = CELL_REAL, .real = value}, text);
}

void table_bool(table *t, bool value)
{
    add(t, (cell){.kind = CELL_BOOL, .whole = value}, value ? "yes" : "no");
}

/* Columns of UTF-8 text. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static const char *cell_text(const table *t, size_t i)
{
    return t->cells[i].text ? t->cells[i].text : "?";
}

static int written(FILE *to)
{
    return ferror(to) ? fail(CODE_CANNOT_WRITE, "cannot write a table: %s", strerror(errno)) : CODE_GOOD;
}

static void pad(FILE *to, const char *text, int width, bool right, bool last)
{
    int space = width - width_of(text);
    if (right)
        fprintf(to, "%*s%s", space > 0 ? space : 0, "", text);
    else
        fprintf(to, "%s%*s", text, space > 0 && !last ? space : 0, "");
    fputs(last ? "\n" : "  ", to);
}

int table_print(const table *t, FILE *to)
{
    if (t->failed)
        return CODE_NO_MEMORY;
    size_t rows = t->used / t->count, last = 0;
    for (size_t c = 0; c < t->count; c++)
        if (t->columns[c].title)
            last = c;
    int widths[64] = {0};
    for (size_t c = 0; c < t->count && c < 64; c++) {
        widths[c] = t->columns[c].title ? width_of(t->columns[c].title) : 0;
        for (size_t r = 0; r < rows; r++) {
            int w = width_of(cell_text(t, r * t->count + c));
            widths[c] = w > widths[c] ? w : widths[c];
        }
    }
    for (size_t r = 0; r <= rows; r++) {
        for (size_t c = 0; c < t->count && c < 64; c++) {
            if (!t->columns[c].title)
                continue;
            bool right = rows && t->cells[c].kind != CELL_TEXT && t->cells[c].kind != CELL_BOOL;
            const char *text = r == 0 ? t->columns[c].title : cell_text(t, (r - 1) * t->count + c);
            pad(to, text, widths[c], right, c == last);
        }
    }
    return written(to);
}

static void csv_cell(FILE *to, const char *text)
{
    if (!strpbrk(text, ",\"\n")) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

int table_csv(const table *t, FILE *to)
{
    if (t->failed)
        return CODE_NO_MEMORY;
    for (size_t c = 0; c < t->count; c++)
        fprintf(to, "%s%s", c ? "," : "", t->columns[c].key);
    for (size_t i = 0; i < t->used; i++) {
        fputc(i % t->count ? ',' : '\n', to);
        const cell *x = &t->cells[i];
        if (x->kind == CELL_REAL && !isnan(x->real))
            fprintf(to, "%.9g", x->real);
        else if (x->kind != CELL_REAL)
            csv_cell(to, cell_text(t, i));
    }
    fputc('\n', to);
    return written(to);
}

static json_t *cell_json(const cell *x)
{
    switch (x->kind) {
    case CELL_WHOLE:
        return json_integer(x->whole);
    case CELL_REAL:
        return isfinite(x->real) ? json_real(x->real) : json_null();
    case CELL_BOOL:
        return json_boolean(x->whole != 0);
    case CELL_TEXT:
        break;
    }
    return x->text && strcmp(x->text, "-") != 0 ? json_string(x->text) : json_null();
}

json_t *table_json(const table *t)
{
    json_t *rows = json_array();
    for (size_t r = 0; r < t->used / t->count; r++) {
        json_t *row = json_object();
        for (size_t c = 0; c < t->count; c++)
            json_object_set_new(row, t->columns[c].key, cell_json(&t->cells[r * t->count + c]));
        json_array_append_new(rows, row);
    }
    return rows;
}

int json_emit(json_t *json)
{
    int failed = json_dumpf(json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(json);
    if (failed || putchar('\n') == EOF)
        return fail(CODE_CANNOT_WRITE, "cannot write to standard output: %s", strerror(errno));
    return CODE_GOOD;
}
