/* SPDX-License-Identifier: MIT */
/* Reading token files. */
#include "gpt/indexed.h"
#include "shared/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD 34

static uint64_t little(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static const uint8_t *length_at(const indexed *d, uint64_t i)
{
    return d->map + HEAD + 4 * i;
}

static const uint8_t *pointer_at(const indexed *d, uint64_t i)
{
    return d->map + HEAD + 4 * d->sequences + 8 * i;
}

static const uint8_t *document_at(const indexed *d, uint64_t i)
{
    return d->map + HEAD + 12 * d->sequences + 8 * i;
}

uint32_t indexed_length(const indexed *d, uint64_t sequence)
{
    return (uint32_t)little(length_at(d, sequence), 4);
}

/* ---- opening ---- */

static int open_regular(const char *path, size_t *bytes)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        fail(CODE_MISSING, "%s: cannot be opened: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        *bytes = (size_t)status.st_size;
        return fd;
    }
    fail(CODE_BAD_INPUT, "%s is not a regular file", path);
    close(fd);
    return -1;
}

static int map_index(indexed *d)
{
    int fd = open_regular(d->idx, &d->map_bytes);
    if (fd < 0)
        return errno == ENOENT ? CODE_MISSING : CODE_BAD_INPUT;
    int code = CODE_GOOD;
    if (d->map_bytes < HEAD) {
        code = fail(CODE_BAD_INPUT, "%s has %zu bytes; its head alone has %d", d->idx, d->map_bytes, HEAD);
    } else {
        void *map = mmap(NULL, d->map_bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
            code = fail(CODE_IO, "%s: cannot be mapped: %s", d->idx, strerror(errno));
        else
            d->map = map;
    }
    close(fd);
    return code;
}

static size_t dtype_width(uint8_t code)
{
    static const uint8_t widths[] = {0, 1, 1, 2, 4, 8, 0, 0, 2}; /* floating point is no id */
    return code < sizeof widths ? widths[code] : 0;
}

static int check_head(indexed *d)
{
    if (memcmp(d->map, "TNTIDX\0\0", 8) == 0)
        return fail(CODE_BAD_INPUT, "%s is of the older lazy or cached form; only the mmap form is read", d->idx);
    if (memcmp(d->map, "MMIDIDX\0\0", 9) != 0)
        return fail(CODE_BAD_INPUT, "%s: offset 0: it does not begin with MMIDIDX and two zero bytes", d->idx);
    uint64_t version = little(d->map + 9, 8), n = little(d->map + 18, 8), m = little(d->map + 26, 8);
    if (version != 1)
        return fail(CODE_BAD_INPUT, "%s: offset 9: the version is %llu; it must be 1", d->idx,
                    (unsigned long long)version);
    d->dtype = d->map[17];
    d->width = dtype_width(d->dtype);
    if (d->width == 0)
        return fail(CODE_BAD_INPUT, "%s: offset 17: dtype %d is none of ids; it must be 1 … 5 or 8", d->idx, d->dtype);
    size_t rest = d->map_bytes - HEAD;
    bool fits = n <= rest / 12 && m <= (rest - 12 * n) / 8;
    if (!fits || 12 * n + 8 * m != rest)
        return fail(CODE_BAD_INPUT,
                    "%s: offset 18: %llu sequences and %llu entries of documents need 34 + 12n + 8m bytes; the file "
                    "has %zu",
                    d->idx, (unsigned long long)n, (unsigned long long)m, d->map_bytes);
    if (m == 0)
        return fail(CODE_BAD_INPUT, "%s: offset 26: the document index is empty; it must begin with 0", d->idx);
    d->sequences = n;
    d->documents = m - 1;
    return CODE_GOOD;
}

static int check_sequences(indexed *d)
{
    uint64_t begin = 0;
    for (uint64_t i = 0; i < d->sequences; i++) {
        uint32_t length = indexed_length(d, i);
        uint64_t pointer = little(pointer_at(d, i), 8);
        if (length > INT32_MAX)
            return fail(CODE_BAD_INPUT, "%s: offset %llu: sequence %llu has %d tokens; it must not be negative", d->idx,
                        (unsigned long long)(length_at(d, i) - d->map), (unsigned long long)i, (int)(int32_t)length);
        if (pointer != begin)
            return fail(CODE_BAD_INPUT,
                        "%s: offset %llu: sequence %llu begins at byte %lld of .bin; by the lengths before it must be "
                        "%llu",
                        d->idx, (unsigned long long)(pointer_at(d, i) - d->map), (unsigned long long)i,
                        (long long)pointer, (unsigned long long)begin);
        begin += (uint64_t)length * d->width; /* at most 2^31·8 for each of at most 2^60 sequences that fit a file */
        d->tokens += length;
    }
    return CODE_GOOD;
}

static int check_documents(const indexed *d)
{
    uint64_t before = 0;
    for (uint64_t i = 0; i <= d->documents; i++) {
        uint64_t entry = little(document_at(d, i), 8);
        if (entry > d->sequences || entry < before || (i == 0 && entry != 0))
            return fail(CODE_BAD_INPUT,
                        "%s: offset %llu: entry %llu of the document index is %lld; entries begin with 0, never "
                        "decrease and end at %llu",
                        d->idx, (unsigned long long)(document_at(d, i) - d->map), (unsigned long long)i,
                        (long long)entry, (unsigned long long)d->sequences);
        before = entry;
    }
    if (before != d->sequences)
        return fail(CODE_BAD_INPUT, "%s: the document index ends at %llu; there are %llu sequences", d->idx,
                    (unsigned long long)before, (unsigned long long)d->sequences);
    return CODE_GOOD;
}

static int open_data(indexed *d)
{
    size_t bytes = 0;
    d->fd = open_regular(d->bin, &bytes);
    if (d->fd < 0)
        return errno == ENOENT ? CODE_MISSING : CODE_BAD_INPUT;
    if (bytes != d->tokens * d->width)
        return fail(CODE_BAD_INPUT, "%s has %zu bytes; by %s it must have %llu: %llu tokens of %zu bytes", d->bin,
                    bytes, d->idx, (unsigned long long)(d->tokens * d->width), (unsigned long long)d->tokens, d->width);
    return CODE_GOOD;
}

int indexed_open(indexed *d, const char *prefix)
{
    *d = (indexed){.fd = -1};
    size_t room = strlen(prefix) + 5;
    d->bin = allocate(room);
    d->idx = allocate(room);
    int code = d->bin && d->idx ? CODE_GOOD : CODE_NO_MEMORY;
    if (!code) {
        snprintf(d->bin, room, "%s.bin", prefix);
        snprintf(d->idx, room, "%s.idx", prefix);
        code = map_index(d);
    }
    code = code ? code : check_head(d);
    code = code ? code : check_sequences(d);
    code = code ? code : check_documents(d);
    code = code ? code : open_data(d);
    if (code)
        indexed_close(d);
    return code;
}

void indexed_close(indexed *d)
{
    if (d->map)
        munmap((void *)d->map, d->map_bytes);
    if (d->fd >= 0)
        close(d->fd);
    free(d->bin);
    free(d->idx);
    *d = (indexed){.fd = -1};
}

/* ---- reading ---- */

static int64_t id_at(const indexed *d, const uint8_t *at)
{
    uint64_t raw = little(at, d->width);
    bool is_signed = d->dtype == 2 || d->dtype == 3 || d->dtype == 4;
    return is_signed ? (int64_t)(raw << (64 - 8 * d->width)) >> (64 - 8 * d->width) : (int64_t)raw;
}

static int read_bytes(const indexed *d, uint8_t *into, size_t count, uint64_t from)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = pread(d->fd, into + done, count - done, (off_t)(from + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(CODE_IO, "%s: byte %llu cannot be read: %s", d->bin, (unsigned long long)(from + done),
                        strerror(errno));
        if (n == 0)
            return fail(CODE_BAD_INPUT, "%s has become shorter than %llu bytes since it was opened", d->bin,
                        (unsigned long long)(from + count));
        done += (size_t)n;
    }
    return CODE_GOOD;
}

static uint64_t document_of(const indexed *d, uint64_t sequence)
{
    uint64_t low = 0, high = d->documents; /* the last document that begins at or before the sequence */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (little(document_at(d, middle), 8) <= sequence)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int indexed_read(const indexed *d, uint64_t sequence, uint64_t first, size_t count, size_t vocabulary, int32_t *into)
{
    uint8_t buffer[16384];
    if (sequence >= d->sequences || first > indexed_length(d, sequence) || count > indexed_length(d, sequence) - first)
        return fail(CODE_INTERNAL, "%s: tokens %llu … of sequence %llu were asked for; it has fewer", d->bin,
                    (unsigned long long)(first + count), (unsigned long long)sequence);
    uint64_t from = little(pointer_at(d, sequence), 8) + first * d->width;
    size_t at_once = sizeof buffer / d->width;
    for (size_t done = 0; done < count;) {
        size_t now = count - done < at_once ? count - done : at_once;
        int code = read_bytes(d, buffer, now * d->width, from + done * d->width);
        if (code)
            return code;
        for (size_t i = 0; i < now; i++) {
            int64_t id = id_at(d, buffer + i * d->width);
            if (id < 0 || (uint64_t)id >= vocabulary || id > INT32_MAX)
                return fail(CODE_BAD_INPUT, "%s: document %llu, token %llu (byte %llu): id %lld; it must be 0 … %zu",
                            d->bin, (unsigned long long)document_of(d, sequence),
                            (unsigned long long)(first + done + i), (unsigned long long)(from + (done + i) * d->width),
                            (long long)id, vocabulary - 1);
            into[done + i] = (int32_t)id;
        }
        done += now;
    }
    return CODE_GOOD;
}
