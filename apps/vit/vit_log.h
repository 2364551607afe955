/* SPDX-License-Identifier: MIT */
/* Lines of a run: the logger's, "2025-01-31 12:34:56,789 - root - INFO - text", of rank 0, on standard output and in
 * out.log; and plain ones, of every rank, on standard output. */
#ifndef RINGX_VIT_LOG_H
#define RINGX_VIT_LOG_H

#include "shared/report.h"

typedef struct vit_log {
    FILE *plain;           /* NULL: nothing is printed */
    FILE *shown, *kept;    /* the logger's two places; NULL on other ranks */
    double (*clock)(void); /* seconds since 1970 */
} vit_log;

/* path NULL: no file.  first: this is rank 0. */
int vit_log_open(vit_log *l, FILE *to, const char *path, bool first);
void vit_log_close(vit_log *l);
void vit_log_line(vit_log *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
void vit_log_warning(vit_log *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
void vit_log_print(vit_log *l, const char *format, ...) __attribute__((format(printf, 2, 3))); /* a plain line */

#endif
