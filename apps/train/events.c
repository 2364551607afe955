/* SPDX-License-Identifier: MIT */
/* Writes event files: TFRecord framing, and as much of protobuf as scalars and texts need. */
#include "train/events.h"

#include "train/checkpoint.h"
#include "train/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct message { /* grows as it is written */
    unsigned char *bytes;
    size_t used, room;
    bool failed;
} message;

static void put(message *m, const void *data, size_t bytes)
{
    if (m->used + bytes > m->room) {
        size_t room = 2 * (m->used + bytes) + 64;
        unsigned char *more = realloc(m->bytes, room);
        m->failed = m->failed || !more;
        if (!more)
            return;
        m->bytes = more;
        m->room = room;
    }
    memcpy(m->bytes + m->used, data, bytes);
    m->used += bytes;
}

static void put_varint(message *m, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)((value & 127) | (value > 127 ? 128 : 0));
        put(m, &byte, 1);
        value >>= 7;
    } while (value);
}

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_key(message *m, unsigned field, enum wire wire)
{
    put_varint(m, (uint64_t)field << 3 | (uint64_t)wire);
}

static void put_little(message *m, uint64_t bits, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)(bits >> 8 * i);
        put(m, &byte, 1);
    }
}

static void put_bytes(message *m, unsigned field, const void *data, size_t bytes)
{
    put_key(m, field, BYTES);
    put_varint(m, bytes);
    put(m, data, bytes);
}

static void put_message(message *m, unsigned field, const message *inner)
{
    put_bytes(m, field, inner->bytes, inner->used);
    m->failed = m->failed || inner->failed;
}

static uint32_t masked_crc(const void *data, size_t bytes)
{
    uint32_t crc = crc32c(0, data, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static double wall_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Event {1 wall_time, 2 step, field: inner} as a record. */
static int write_event(events *e, int64_t step, unsigned field, const message *inner)
{
    message event = {0}, record = {0};
    double now = e->clock();
    uint64_t bits;
    memcpy(&bits, &now, sizeof bits);
    put_key(&event, 1, FIXED64);
    put_little(&event, bits, 8);
    if (step) {
        put_key(&event, 2, VARINT);
        put_varint(&event, (uint64_t)step);
    }
    put_message(&event, field, inner);
    put_little(&record, event.used, 8);
    put_little(&record, masked_crc(record.bytes, record.used), 4);
    put(&record, event.bytes, event.used);
    put_little(&record, masked_crc(event.bytes, event.used), 4);
    int code = CODE_GOOD;
    if (event.failed || record.failed)
        code = fail(CODE_NO_MEMORY, "%s: no memory for an event", e->path);
    else if (fwrite(record.bytes, 1, record.used, e->to) != record.used)
        code = fail(CODE_CANNOT_WRITE, "%s: cannot be written: %s", e->path, strerror(errno));
    free(event.bytes);
    free(record.bytes);
    return code;
}

int events_open(events *e, const char *folder)
{
    char host[256] = "host";
    *e = (events){.clock = wall_clock};
    if (!folder)
        return CODE_GOOD;
    int code = folder_make(folder);
    if (code)
        return code;
    gethostname(host, sizeof host - 1);
    if (snprintf(e->path, sizeof e->path, "%s/events.out.tfevents.%lld.%s.%ld.0", folder, (long long)e->clock(), host,
                 (long)getpid()) >= (int)sizeof e->path)
        return fail(CODE_CANNOT_WRITE, "%s: too long a path", folder);
    e->to = fopen(e->path, "wbe");
    if (!e->to)
        return fail(CODE_CANNOT_WRITE, "%s: cannot be created: %s", e->path, strerror(errno));
    static const char version[] = "brain.Event:2";
    message text = {0};
    put(&text, version, sizeof version - 1);
    code = write_event(e, 0, 3, &text);
    free(text.bytes);
    return code;
}

/* Summary {1: Value} with the fields of value. */
static int write_value(events *e, int64_t step, const message *value)
{
    message summary = {0};
    put_message(&summary, 1, value);
    int code = write_event(e, step, 5, &summary);
    free(summary.bytes);
    return code;
}

int events_scalar(events *e, const char *tag, int64_t step, double value)
{
    if (!e->to)
        return CODE_GOOD;
    float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    message m = {0};
    put_bytes(&m, 1, tag, strlen(tag));
    put_key(&m, 2, FIXED32);
    put_little(&m, bits, 4);
    int code = write_value(e, step, &m);
    free(m.bytes);
    return code;
}

/* Value {1 tag, 4 image {1 height, 2 width, 3 colorspace = RGB, 4 PNG}} */
int events_image(events *e, const char *tag, int64_t step, const events_picture *picture)
{
    if (!e->to)
        return CODE_GOOD;
    const uint64_t sizes[] = {(uint64_t)picture->height, (uint64_t)picture->width, 3};
    message m = {0}, image = {0};
    put_bytes(&m, 1, tag, strlen(tag));
    for (unsigned i = 0; i < 3; i++) {
        put_key(&image, i + 1, VARINT);
        put_varint(&image, sizes[i]);
    }
    put_bytes(&image, 4, picture->png, picture->bytes);
    put_message(&m, 4, &image);
    int code = write_value(e, step, &m);
    free(m.bytes);
    free(image.bytes);
    return code;
}

/* Value {1 tag, 8 tensor {1 dtype = string, 2 shape {}, 8 text}, 9 metadata {1 plugin {1 "text"}}} */
int events_text(events *e, const char *tag, int64_t step, const char *text)
{
    if (!e->to)
        return CODE_GOOD;
    message m = {0}, tensor = {0}, metadata = {0}, plugin = {0};
    put_bytes(&m, 1, tag, strlen(tag));
    put_key(&tensor, 1, VARINT);
    put_varint(&tensor, 7);
    put_bytes(&tensor, 2, "", 0);
    put_bytes(&tensor, 8, text, strlen(text));
    put_message(&m, 8, &tensor);
    put_bytes(&plugin, 1, "text", 4);
    put_message(&metadata, 1, &plugin);
    put_message(&m, 9, &metadata);
    int code = write_value(e, step, &m);
    free(m.bytes);
    free(tensor.bytes);
    free(metadata.bytes);
    free(plugin.bytes);
    return code;
}

int events_flush(events *e)
{
    return e->to && fflush(e->to) != 0 ? fail(CODE_CANNOT_WRITE, "%s: cannot be written: %s", e->path, strerror(errno))
                                       : CODE_GOOD;
}

void events_close(events *e)
{
    if (e->to)
        fclose(e->to);
    e->to = NULL;
}
