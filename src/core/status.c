/* SPDX-License-Identifier: MIT */
/* Status names and the per-thread last error. */
#include "core/status.h"

#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[RINGX_MESSAGE_BYTES];

static const char *const names[] = {
    [RINGX_OK] = "ok",
    [RINGX_INVALID] = "invalid argument",
    [RINGX_UNSUPPORTED] = "unsupported",
    [RINGX_NO_MEMORY] = "out of memory",
    [RINGX_MISMATCH] = "ranks disagree",
    [RINGX_PEER_DIED] = "peer failed",
    [RINGX_STALLED] = "stalled",
    [RINGX_COMM] = "transport error",
    [RINGX_DEVICE] = "device error",
    [RINGX_IO] = "input/output error",
    [RINGX_BAD_FILE] = "bad file",
    [RINGX_INTERNAL] = "internal error",
};

const char *ringx_status_name(ringx_status status)
{
    size_t i = (size_t)status;
    return i < sizeof names / sizeof *names ? names[i] : "unknown status";
}

const char *ringx_last_error(void)
{
    return last_error;
}

#define TEXT(x)  #x
#define VALUE(x) TEXT(x)

const char *ringx_version(void)
{
    return VALUE(RINGX_VERSION_MAJOR) "." VALUE(RINGX_VERSION_MINOR) "." VALUE(RINGX_VERSION_PATCH);
}

ringx_status ringx__fail(ringx_status code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(last_error, sizeof last_error, format, list);
    va_end(list);
    return code;
}

ringx_status ringx__context(ringx_status code, const char *format, ...)
{
    if (code == RINGX_OK)
        return code;
    char inner[RINGX_MESSAGE_BYTES];
    memcpy(inner, last_error, sizeof inner);
    va_list list;
    va_start(list, format);
    int n = vsnprintf(last_error, sizeof last_error, format, list);
    va_end(list);
    if (n >= 0 && (size_t)n < sizeof last_error)
        snprintf(last_error + n, sizeof last_error - (size_t)n, ": %.*s", (int)(sizeof inner - (size_t)n), inner);
    return code;
}

void ringx__error_take(char *into, size_t bytes)
{
    snprintf(into, bytes, "%s", last_error);
}

void ringx__error_put(const char *message)
{
    snprintf(last_error, sizeof last_error, "%s", message);
}
