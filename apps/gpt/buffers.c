/* SPDX-License-Identifier: MIT */
/* Lists that grow by half, and files read whole. */
#include "gpt/buffers.h"
#include "shared/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int grow(void **items, size_t *room, size_t count, size_t more, size_t size)
{
    size_t needed, bytes;
    if (__builtin_add_overflow(count, more, &needed))
        return fail(CODE_NO_MEMORY, "out of memory: a list of more than 2^64 items was asked for");
    if (needed <= *room)
        return CODE_GOOD;
    size_t next = needed < SIZE_MAX / 4 ? needed + *room / 2 : needed;
    if (next < 64)
        next = 64;
    void *memory = multiply(next, size, &bytes) ? realloc(*items, bytes) : NULL;
    if (!memory)
        return fail(CODE_NO_MEMORY, "out of memory: a list of %zu items of %zu bytes was needed", next, size);
    *items = memory;
    *room = next;
    return CODE_GOOD;
}

int bytes_reserve(byte_list *list, size_t more)
{
    void *items = list->items;
    int code = grow(&items, &list->room, list->count, more, 1);
    list->items = items;
    return code;
}

int ids_reserve(id_list *list, size_t more)
{
    void *items = list->items;
    int code = grow(&items, &list->room, list->count, more, sizeof *list->items);
    list->items = items;
    return code;
}

int bytes_append(byte_list *list, const void *bytes, size_t count)
{
    int code = bytes_reserve(list, count);
    if (code || count == 0)
        return code;
    memcpy(list->items + list->count, bytes, count);
    list->count += count;
    return CODE_GOOD;
}

int ids_append(id_list *list, int32_t id)
{
    int code = ids_reserve(list, 1);
    if (!code)
        list->items[list->count++] = id;
    return code;
}

void bytes_free(byte_list *list)
{
    free(list->items);
    *list = (byte_list){0};
}

void ids_free(id_list *list)
{
    free(list->items);
    *list = (id_list){0};
}

static int read_all(int fd, const char *path, size_t limit, byte_list *into)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return fail(CODE_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return fail(CODE_BAD_INPUT, "%s is not a regular file", path);
    if ((uint64_t)status.st_size > limit)
        return fail(CODE_BAD_INPUT, "%s has %lld bytes; at most %zu are read", path, (long long)status.st_size, limit);
    size_t size = (size_t)status.st_size;
    int code = bytes_reserve(into, size + 1);
    while (!code && into->count < size) {
        ssize_t n = read(fd, into->items + into->count, size - into->count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(CODE_IO, "%s: cannot be read: %s", path, strerror(errno));
        if (n == 0)
            return fail(CODE_BAD_INPUT, "%s became shorter while it was read", path);
        into->count += (size_t)n;
    }
    if (!code)
        into->items[into->count] = 0;
    return code;
}

int file_read(const char *path, size_t limit, byte_list *into)
{
    *into = (byte_list){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail(CODE_MISSING, "%s: cannot be opened: %s", path, strerror(errno));
    int code = read_all(fd, path, limit, into);
    close(fd);
    if (code)
        bytes_free(into);
    return code;
}
