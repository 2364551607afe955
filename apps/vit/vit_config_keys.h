/* SPDX-License-Identifier: MIT */
/* Between the files of vit_config: the table of keys, and how one value is stored. */
#ifndef RINGX_VIT_CONFIG_KEYS_H
#define RINGX_VIT_CONFIG_KEYS_H

#include "vit/vit_config.h"

typedef enum vit_key_kind {
    VIT_KEY_INT,    /* int64_t; also written as a whole 3e4 */
    VIT_KEY_REAL,   /* double */
    VIT_KEY_BOOL,   /* bool */
    VIT_KEY_TEXT,   /* char * */
    VIT_KEY_CHOICE, /* int64_t: index into choices */
    VIT_KEY_PAIR,   /* int64_t[2]: [a, b] */
    VIT_KEY_IGNORED /* accepted, without effect */
} vit_key_kind;

typedef struct vit_key {
    const char *name;
    vit_key_kind kind;
    size_t field;
    double low, high;
    const char *const *choices; /* ended by NULL */
    const char *value;          /* default as text; NULL: none */
} vit_key;

extern const vit_key vit_keys[];                          /* ended by a NULL name */
size_t vit_key_find(const char *name, size_t length);     /* its row, or that of the NULL name */
int vit_key_unknown(const char *name, const char *where); /* fails with the nearest key */

/* Converts text as the row says and stores it; from: "file:line", or what else said it.  "None" and "null" stand for
 * the default.  Fails with from, key, value, what would be right. */
int vit_key_store(vit_config *c, size_t row, const char *text, const char *from);

/* vit_config_check.c: what must hold whatever the number of ranks. */
int vit_config_check(const vit_config *c);

#endif
