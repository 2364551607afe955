/* SPDX-License-Identifier: MIT */
/* Making and passing on failures.  A message says what, the value, and what would be right. */
#ifndef RINGX_CORE_STATUS_H
#define RINGX_CORE_STATUS_H

#include <stdarg.h>
#include <ringx/ringx.h>

/* Sets this thread's last error and returns code. */
ringx_status ringx__fail(ringx_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "format: " in front of this thread's last error and returns code (nothing happens if code is RINGX_OK). */
ringx_status ringx__context(ringx_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Carries a message from one thread to another (a lane's failure to the caller). */
void ringx__error_take(char *into, size_t bytes);
void ringx__error_put(const char *message);

#define RINGX_FAIL(code, ...) return ringx__fail((code), __VA_ARGS__)
#define RINGX_TRY(call)                                                                                                \
    do {                                                                                                               \
        ringx_status ringx__try_status = (call);                                                                       \
        if (ringx__try_status != RINGX_OK)                                                                             \
            return ringx__try_status;                                                                                  \
    } while (0)

#define RINGX_MESSAGE_BYTES 1024

#endif
