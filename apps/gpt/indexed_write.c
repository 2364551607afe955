/* SPDX-License-Identifier: MIT */
/* Writing token files: under temporary names, made durable, then renamed; the .idx last, since it makes them a whole.
 */
#include "gpt/indexed.h"
#include "shared/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NARROW 65500 /* vocabularies below it have ids of two bytes */

static int cannot_write(const char *path)
{
    return fail(CODE_CANNOT_WRITE, "%s: cannot be written: %s", path, strerror(errno));
}

static char *joined(const char *prefix, const char *ending)
{
    size_t room = strlen(prefix) + strlen(ending) + 1;
    char *text = allocate(room);
    if (text)
        snprintf(text, room, "%s%s", prefix, ending);
    return text;
}

/* A new file beside `path`; its name goes to *temporary, which is NULL where there is none. */
static FILE *create(const char *path, char **temporary)
{
    *temporary = joined(path, ".XXXXXX");
    if (!*temporary)
        return NULL;
    int fd = mkstemp(*temporary);
    FILE *to = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (to)
        return to;
    cannot_write(path);
    if (fd >= 0) {
        close(fd);
        unlink(*temporary);
    }
    free(*temporary);
    *temporary = NULL;
    return NULL;
}

int indexed_create(indexed_writer *w, const char *prefix, size_t vocabulary)
{
    *w = (indexed_writer){.width = vocabulary < NARROW ? 2 : 4};
    w->bin = joined(prefix, ".bin");
    w->idx = joined(prefix, ".idx");
    if (!w->bin || !w->idx)
        return indexed_finish(w, CODE_NO_MEMORY);
    w->to = create(w->bin, &w->bin_temporary);
    if (!w->to)
        return indexed_finish(w, w->bin_temporary ? CODE_NO_MEMORY : CODE_CANNOT_WRITE);
    return CODE_GOOD;
}

static void put(FILE *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        putc_unlocked((int)(value >> 8 * i & 255), to);
}

int indexed_append(indexed_writer *w, const int32_t *ids, size_t count)
{
    if (count > INT32_MAX)
        return fail(CODE_BAD_INPUT, "a document has %zu tokens; at most %d fit the .idx file", count, INT32_MAX);
    for (size_t i = 0; i < count; i++)
        put(w->to, (uint32_t)ids[i], w->width);
    w->tokens += count;
    if (ferror(w->to))
        return cannot_write(w->bin);
    return ids_append(&w->lengths, (int32_t)count);
}

static void put_index(const indexed_writer *w, FILE *to)
{
    uint64_t n = w->lengths.count, pointer = 0;
    fwrite("MMIDIDX\0\0", 1, 9, to);
    put(to, 1, 8);
    put(to, w->width == 2 ? 8 : 4, 1);
    put(to, n, 8);
    put(to, n + 1, 8);
    for (uint64_t i = 0; i < n; i++)
        put(to, (uint32_t)w->lengths.items[i], 4);
    for (uint64_t i = 0; i < n; i++) {
        put(to, pointer, 8);
        pointer += (uint64_t)(uint32_t)w->lengths.items[i] * w->width;
    }
    for (uint64_t i = 0; i <= n; i++)
        put(to, i, 8);
}

/* Everything on the disk, readable as files usually are. */
static int settle(FILE *to, const char *path)
{
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fileno(to), 0666 & ~mask);
    bool good = !ferror(to) && fflush(to) == 0 && fsync(fileno(to)) == 0;
    int code = good ? CODE_GOOD : cannot_write(path);
    if (fclose(to) != 0 && !code)
        code = cannot_write(path);
    return code;
}

static void sync_folder(const char *path)
{
    char *folder = strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash)
        slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

/* An .idx of an earlier run goes first, so that at no moment it stands beside another .bin. */
static int put_in_place(indexed_writer *w)
{
    if (unlink(w->idx) != 0 && errno != ENOENT)
        return cannot_write(w->idx);
    if (rename(w->bin_temporary, w->bin) != 0)
        return cannot_write(w->bin);
    free(w->bin_temporary);
    w->bin_temporary = NULL;
    if (rename(w->idx_temporary, w->idx) != 0)
        return cannot_write(w->idx);
    free(w->idx_temporary);
    w->idx_temporary = NULL;
    sync_folder(w->bin);
    return CODE_GOOD;
}

int indexed_finish(indexed_writer *w, int code)
{
    FILE *index = NULL;
    if (w->to) {
        int written = settle(w->to, w->bin);
        code = code ? code : written;
    }
    if (!code) {
        index = create(w->idx, &w->idx_temporary);
        code = index ? CODE_GOOD : CODE_CANNOT_WRITE;
    }
    if (index) {
        put_index(w, index);
        code = settle(index, w->idx);
    }
    code = code ? code : put_in_place(w);
    if (w->bin_temporary)
        unlink(w->bin_temporary);
    if (w->idx_temporary)
        unlink(w->idx_temporary);
    free(w->bin_temporary);
    free(w->idx_temporary);
    free(w->bin);
    free(w->idx);
    ids_free(&w->lengths);
    *w = (indexed_writer){0};
    return code;
}
