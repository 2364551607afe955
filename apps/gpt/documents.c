/* SPDX-License-Identifier: MIT */
/* Reading files of documents as streams. */
#include "gpt/documents.h"
#include "shared/report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#define AT_ONCE ((size_t)1 << 18)

static bool ends_in(const char *path, size_t length, const char *ending)
{
    size_t n = strlen(ending);
    return length >= n && memcmp(path + length - n, ending, n) == 0;
}

static int kind_of(const char *path, bool *compressed, bool *json)
{
    size_t length = strlen(path);
    *compressed = ends_in(path, length, ".zst");
    length -= *compressed ? 4 : 0;
    *json = ends_in(path, length, ".jsonl");
    if (!*json && !ends_in(path, length, ".txt"))
        return fail(CODE_USAGE, "%s: its name must end in .jsonl, .txt, .jsonl.zst or .txt.zst", path);
    return CODE_GOOD;
}

int documents_open(documents *d, char **paths, size_t count, bool txt_lines)
{
    *d = (documents){.paths = paths, .count = count, .txt_lines = txt_lines, .fd = -1};
    for (size_t i = 0; i < count; i++) {
        bool compressed, json;
        int code = kind_of(paths[i], &compressed, &json);
        if (!code && access(paths[i], R_OK) != 0)
            code = fail(CODE_MISSING, "%s: cannot be read: %s", paths[i], strerror(errno));
        if (code)
            return code;
    }
    return CODE_GOOD;
}

static void close_file(documents *d)
{
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
    ZSTD_freeDCtx(d->zstd);
    d->zstd = NULL;
}

void documents_close(documents *d)
{
    close_file(d);
    bytes_free(&d->raw);
    bytes_free(&d->text);
}

static int open_file(documents *d)
{
    const char *path = d->paths[d->file];
    bool compressed;
    int code = kind_of(path, &compressed, &d->json);
    if (code)
        return code;
    d->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (d->fd < 0)
        return fail(CODE_MISSING, "%s: cannot be opened: %s", path, strerror(errno));
    if (compressed && !(d->zstd = ZSTD_createDCtx()))
        return fail(CODE_NO_MEMORY, "out of memory: room for decompression was needed");
    d->whole = !d->json && !d->txt_lines;
    d->ended = d->in_frame = false;
    d->raw.count = d->raw_at = d->text.count = d->text_at = 0;
    d->raw_offset = d->line = d->offset = 0;
    return CODE_GOOD;
}

/* Up to AT_ONCE bytes of the file behind what `into` holds; *got 0 at the end. */
static int read_some(documents *d, byte_list *into, size_t *got)
{
    int code = bytes_reserve(into, AT_ONCE);
    if (code)
        return code;
    ssize_t n;
    do
        n = read(d->fd, into->items + into->count, AT_ONCE);
    while (n < 0 && errno == EINTR && !(d->stop && *d->stop));
    if (n < 0)
        return fail(CODE_IO, "%s: cannot be read: %s", d->paths[d->file], strerror(errno));
    into->count += (size_t)n;
    *got = (size_t)n;
    return CODE_GOOD;
}

static int decompress_some(documents *d)
{
    const char *path = d->paths[d->file];
    size_t got = 0;
    int code = bytes_reserve(&d->text, AT_ONCE);
    if (!code && d->raw_at == d->raw.count) {
        d->raw.count = d->raw_at = 0;
        code = read_some(d, &d->raw, &got);
        d->raw_offset += got;
        if (!code && got == 0) {
            d->ended = true;
            if (d->in_frame)
                code = fail(CODE_BAD_INPUT, "%s: byte %llu: the file ends inside compressed data", path,
                            (unsigned long long)d->raw_offset);
            return code;
        }
    }
    if (code)
        return code;
    ZSTD_inBuffer in = {.src = d->raw.items, .size = d->raw.count, .pos = d->raw_at};
    ZSTD_outBuffer out = {.dst = d->text.items + d->text.count, .size = AT_ONCE};
    size_t left = ZSTD_decompressStream(d->zstd, &out, &in);
    if (ZSTD_isError(left))
        return fail(CODE_BAD_INPUT, "%s: near byte %llu: cannot be decompressed: %s", path,
                    (unsigned long long)(d->raw_offset - d->raw.count + in.pos), ZSTD_getErrorName(left));
    d->in_frame = left != 0;
    d->raw_at = in.pos;
    d->text.count += out.pos;
    return CODE_GOOD;
}

/* More text behind what there is, or ended. */
static int more_text(documents *d)
{
    size_t got = 0;
    if (d->text_at > 0) { /* what was given away makes room */
        memmove(d->text.items, d->text.items + d->text_at, d->text.count - d->text_at);
        d->text.count -= d->text_at;
        d->text_at = 0;
    }
    if (d->text.count > MAX_DOCUMENT)
        return fail(CODE_BAD_INPUT, "%s: line %llu (byte %llu): the document has more than %d bytes", d->paths[d->file],
                    (unsigned long long)d->line + 1, (unsigned long long)d->offset, MAX_DOCUMENT);
    if (d->zstd)
        return decompress_some(d);
    int code = read_some(d, &d->text, &got);
    d->ended = got == 0;
    return code;
}

/* The text up to a newline, or up to the end. */
static int take(documents *d, text_record *record)
{
    size_t looked = 0, length = 0;
    const uint8_t *newline = NULL;
    for (;;) {
        const uint8_t *from = d->text.items ? d->text.items + d->text_at : NULL;
        length = d->text.count - d->text_at;
        if (!d->whole && length > looked && (newline = memchr(from + looked, '\n', length - looked)))
            break;
        looked = length;
        if (d->ended)
            break;
        int code = more_text(d);
        if (code)
            return code;
    }
    if (length > MAX_DOCUMENT) /* the last piece of a file */
        return more_text(d);
    const uint8_t *begin = d->text.items ? d->text.items + d->text_at : (const uint8_t *)"";
    size_t whole = newline ? (size_t)(newline - begin) + 1 : length;
    d->line++;
    *record = (text_record){.file = (uint32_t)d->file,
                            .json = d->json,
                            .line = d->line,
                            .offset = d->offset,
                            .bytes = begin,
                            .count = whole - (newline != NULL)};
    d->text_at += whole;
    d->offset += whole;
    return CODE_GOOD;
}

static bool is_blank(const text_record *record)
{
    for (size_t i = 0; i < record->count; i++)
        if (record->bytes[i] == 0 || !strchr(" \t\r", record->bytes[i]))
            return false;
    return true;
}

int documents_next(documents *d, text_record *record)
{
    while (d->file < d->count) {
        int code = d->fd < 0 ? open_file(d) : CODE_GOOD;
        while (!code && !(d->ended && d->text_at == d->text.count)) {
            code = take(d, record);
            if (!code && (record->json ? !is_blank(record) : record->count > 0))
                return CODE_GOOD;
        }
        if (code)
            return code;
        close_file(d);
        d->file++;
    }
    *record = (text_record){0};
    return CODE_GOOD;
}
