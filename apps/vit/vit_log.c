/* SPDX-License-Identifier: MIT */
/* Lines in the form of Python's logging module. */
#include "vit/vit_log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

static double wall_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int vit_log_open(vit_log *l, FILE *to, const char *path, bool first)
{
    *l = (vit_log){.plain = to, .shown = first ? to : NULL, .clock = wall_clock};
    if (!first || !path)
        return CODE_GOOD;
    l->kept = fopen(path, "ae");
    return l->kept ? CODE_GOOD : fail(CODE_CANNOT_WRITE, "%s: cannot be opened: %s", path, strerror(errno));
}

void vit_log_close(vit_log *l)
{
    if (l->kept)
        fclose(l->kept);
    *l = (vit_log){.plain = NULL};
}

__attribute__((format(printf, 3, 0))) static void put(vit_log *l, const char *level, const char *format, va_list list)
{
    FILE *const places[] = {l->shown, l->kept};
    char text[4096], when[32] = "";
    struct tm parts;
    if (!l->shown && !l->kept)
        return;
    vsnprintf(text, sizeof text, format, list);
    double now = l->clock();
    time_t seconds = (time_t)now;
    if (localtime_r(&seconds, &parts))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &parts);
    for (int i = 0; i < 2; i++)
        if (places[i]) {
            fprintf(places[i], "%s,%03d - root - %s - %s\n", when, (int)(1e3 * (now - (double)seconds)), level, text);
            fflush(places[i]);
        }
}

void vit_log_line(vit_log *l, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    put(l, "INFO", format, list);
    va_end(list);
}

void vit_log_warning(vit_log *l, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    put(l, "WARNING", format, list);
    va_end(list);
}

void vit_log_print(vit_log *l, const char *format, ...)
{
    char text[4096];
    va_list list;
    if (!l->plain)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof text - 1, format, list);
    va_end(list);
    strcat(text, "\n");
    fputs(text, l->plain); /* in one piece: ranks share a terminal */
    fflush(l->plain);
}
