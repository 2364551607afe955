/* SPDX-License-Identifier: MIT */
/* Folders and small files of checkpoints. */
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_TEXT ((off_t)1 << 30)

static int cannot(const char *path, const char *what)
{
    return fail(CODE_CANNOT_WRITE, "%s: cannot %s: %s", path, what, strerror(errno));
}

int folder_make(const char *path)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return fail(CODE_CANNOT_WRITE, "%s: too long a path", path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return cannot(part, "be made");
        *slash = '/';
    }
    return mkdir(part, 0777) != 0 && errno != EEXIST ? cannot(part, "be made") : CODE_GOOD;
}

int folder_remove(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        if (errno == ENOENT)
            return CODE_GOOD;
        return errno == ENOTDIR && unlink(path) == 0 ? CODE_GOOD : cannot(path, "be removed");
    }
    int code = CODE_GOOD;
    for (struct dirent *entry; !code && (entry = readdir(folder)) != NULL;) {
        char inner[PATH_MAX];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name) >= (int)sizeof inner)
            code = fail(CODE_CANNOT_WRITE, "%s/%s: too long a path", path, entry->d_name);
        else if (lstat(inner, &status) == 0 && S_ISDIR(status.st_mode))
            code = folder_remove(inner);
        else if (unlink(inner) != 0 && errno != ENOENT)
            code = cannot(inner, "be removed");
    }
    closedir(folder);
    return !code && rmdir(path) != 0 ? cannot(path, "be removed") : code;
}

/* n of "<prefix><n>" in plain digits, followed by the ending; -1 for other names. */
static int64_t step_of(const char *name, const char *prefix, const char *ending)
{
    char again[96];
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0)
        return -1;
    long long n = strtoll(name + length, NULL, 10);
    snprintf(again, sizeof again, "%s%lld%s", prefix, n, ending);
    return n >= 0 && strcmp(again, name) == 0 ? n : -1;
}

int folder_remove_cut(const char *path, const char *prefix)
{
    DIR *folder = opendir(path);
    if (!folder)
        return cannot(path, "be read");
    int code = CODE_GOOD;
    for (struct dirent *entry; !code && (entry = readdir(folder)) != NULL;) {
        char inner[PATH_MAX];
        if (step_of(entry->d_name, prefix, ".tmp") < 0)
            continue;
        code = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name) < (int)sizeof inner
                   ? folder_remove(inner)
                   : fail(CODE_CANNOT_WRITE, "%s/%s: too long a path", path, entry->d_name);
    }
    closedir(folder);
    return code;
}

int folder_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || (fsync(fd) != 0 && errno != EINVAL);
    int code = failed ? cannot(path, "be synced") : CODE_GOOD;
    if (fd >= 0)
        close(fd);
    return code;
}

static int write_all(int fd, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t put = write(fd, data, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        data += put;
        bytes -= (size_t)put;
    }
    return 0;
}

/* Writes `part`, syncs it, and renames it to path. */
static int write_bytes(const char *path, const char *data, size_t bytes)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return fail(CODE_CANNOT_WRITE, "%s: too long a path", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return cannot(part, "be created");
    int code = write_all(fd, data, bytes) != 0 || fsync(fd) != 0 ? cannot(part, "be written") : CODE_GOOD;
    if (close(fd) != 0 && !code)
        code = cannot(part, "be closed");
    if (!code && rename(part, path) != 0)
        code = cannot(path, "be renamed from its temporary file");
    if (code)
        unlink(part);
    return code;
}

int folder_write_text(const char *path, const char *text)
{
    return write_bytes(path, text, strlen(text));
}

int folder_read_text(const char *path, char **text, size_t *bytes)
{
    struct stat status;
    *text = NULL;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fail(errno == ENOENT ? CODE_MISSING : CODE_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > MOST_TEXT) {
        close(fd);
        return fail(CODE_BAD_INPUT, "%s: must be a regular file of at most %lld bytes", path, (long long)MOST_TEXT);
    }
    size_t size = (size_t)status.st_size, done = 0;
    char *read_text = allocate(size + 1);
    int code = read_text ? CODE_GOOD : CODE_NO_MEMORY;
    while (!code && done < size) {
        ssize_t got = read(fd, read_text + done, size - done);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0 || errno != EINTR)
            code = fail(CODE_IO, "%s: cannot be read: %s", path, got == 0 ? "it was cut meanwhile" : strerror(errno));
    }
    close(fd);
    if (code) {
        free(read_text);
        return code;
    }
    *text = read_text;
    *bytes = size;
    return CODE_GOOD;
}

int folder_copy_file(const char *from, const char *to)
{
    char *text;
    size_t bytes;
    int code = folder_read_text(from, &text, &bytes);
    if (!code)
        code = write_bytes(to, text, bytes);
    free(text);
    return code;
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int folder_steps(const char *folder, const char *prefix, int64_t **iterations, size_t *count)
{
    DIR *d = opendir(folder);
    *iterations = NULL;
    *count = 0;
    if (!d)
        return errno == ENOENT ? CODE_GOOD : fail(CODE_IO, "%s: cannot be read: %s", folder, strerror(errno));
    int code = CODE_GOOD;
    for (struct dirent *entry; !code && (entry = readdir(d)) != NULL;) {
        int64_t n = step_of(entry->d_name, prefix, "");
        int64_t *more = n < 0 ? NULL : realloc(*iterations, (*count + 1) * sizeof *more);
        if (n >= 0 && !more)
            code = fail(CODE_NO_MEMORY, "%s: no memory to list it", folder);
        else if (n >= 0)
            (*iterations = more)[(*count)++] = n;
    }
    closedir(d);
    if (*count)
        qsort(*iterations, *count, sizeof **iterations, descending);
    return code;
}
