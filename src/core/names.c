/* SPDX-License-Identifier: MIT */
/* Name look-up with the nearest name by edit distance. */
#include "core/names.h"

#include <ctype.h>
#include <string.h>

#define LONGEST 64

static int smallest(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance, letters compared without case; strings are cut at LONGEST. */
static int distance(const char *a, const char *b)
{
    size_t na = strnlen(a, LONGEST), nb = strnlen(b, LONGEST);
    int row[LONGEST + 1];
    for (size_t j = 0; j <= nb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int differ = tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]);
            int next = smallest(row[j] + 1, row[j - 1] + 1, diagonal + differ);
            diagonal = row[j];
            row[j] = next;
        }
    }
    return row[nb];
}

ringx_status ringx__name_find(const char *what, const char *name, const char *(*name_at)(size_t), size_t *index)
{
    const char *nearest = NULL;
    int best = LONGEST + 1;
    if (!name)
        RINGX_FAIL(RINGX_INVALID, "%s is NULL; it must be a name", what);
    for (size_t i = 0; name_at(i); i++) {
        if (strcmp(name_at(i), name) == 0) {
            *index = i;
            return RINGX_OK;
        }
        int d = distance(name, name_at(i));
        if (d < best) {
            best = d;
            nearest = name_at(i);
        }
    }
    RINGX_FAIL(RINGX_INVALID, "%s '%s' is unknown; the nearest is '%s'", what, name, nearest ? nearest : "(none)");
}
