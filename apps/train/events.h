/* SPDX-License-Identifier: MIT */
/* TensorBoard event files: records of protobuf messages with checksums, appended as they come. */
#ifndef RINGX_TRAIN_EVENTS_H
#define RINGX_TRAIN_EVENTS_H

#include "shared/report.h"

typedef struct events {
    FILE *to; /* NULL: nothing is written */
    char path[4096];
    double (*clock)(void); /* seconds since 1970 */
} events;

/* A new events.out.tfevents.<time>.<host>.<pid>.0 in folder, which is made.  folder NULL: all calls do nothing. */
int events_open(events *e, const char *folder);
int events_scalar(events *e, const char *tag, int64_t step, double value);
int events_text(events *e, const char *tag, int64_t step, const char *text);
/* A PNG of so many rows and columns, in colour (RGB). */
typedef struct events_picture {
    int64_t height, width;
    const void *png;
    size_t bytes;
} events_picture;
int events_image(events *e, const char *tag, int64_t step, const events_picture *picture);
int events_flush(events *e);
void events_close(events *e);

#endif
