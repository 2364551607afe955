/* SPDX-License-Identifier: MIT */
/* Inside of drawing: what the two formats share. */
#ifndef RINGX_SCHEDULE_DRAW_H
#define RINGX_SCHEDULE_DRAW_H

#include <stdio.h>

#include "schedule/readers.h"

/* "attend K,V of rank 3 (slice 1)" */
void ringx__box_label(const ringx_box *box, char *text, size_t bytes);
/* Writes text with the characters that mean something in XML replaced, control characters as spaces. */
void ringx__write_xml(FILE *file, const char *text);

/* Write errors stick to the file and are looked for at the end. */
ringx_status ringx__write_svg(FILE *file, const char *title, const ringx_panel *panels, size_t count);
void ringx__write_trace(FILE *file, const char *title, const ringx_panel *panels, size_t count);

#endif
