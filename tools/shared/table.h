/* SPDX-License-Identifier: MIT */
/* A table that prints itself as aligned text, CSV or JSON. */
#ifndef RINGX_SHARED_TABLE_H
#define RINGX_SHARED_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct table table;

/* keys: names in JSON and CSV, columns in all; titles: the same in text.  NULL: out of memory, as fail() says. */
typedef struct table_column {
    const char *key, *title; /* title NULL: not in text */
} table_column;
table *table_create(const table_column *columns, size_t count);
void table_destroy(table *t);

/* Cells, from left to right; the one after the last of a row begins the next row. */
void table_text(table *t, const char *text);
void table_whole(table *t, int64_t value);
void table_real(table *t, double value, int digits); /* digits after the point in text; NaN: "-", null */
void table_bool(table *t, bool value);               /* yes, no */

int table_print(const table *t, FILE *to);
int table_csv(const table *t, FILE *to);
json_t *table_json(const table *t); /* an array of objects */

/* Prints and releases; CODE_CANNOT_WRITE if standard output fails. */
int json_emit(json_t *json);

#endif
