/* SPDX-License-Identifier: MIT */
/* Folders of small yearly files whose values say where they are. */
#ifndef RINGX_TEST_VIT_FIELDS_H
#define RINGX_TEST_VIT_FIELDS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vit/fields.h"
#include "vit/statistics.h"
#include "vit/vit_dates.h"

#include <cmocka.h>

#define CHANNELS 3
#define ROWS     6
#define COLUMNS  8

static char folder[64];

static inline int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/ringx_vit_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static inline const char *in_folder(const char *name)
{
    static char paths[4][160];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 160, "%s/%s", folder, name);
    return path;
}

static inline void must(int code)
{
    if (code)
        fail_msg("code %d: %s", code, failure());
}

static inline void refuses(int code, int expected, const char *part)
{
    if (code != expected || !strstr(failure(), part))
        fail_msg("code %d, \"%s\"; expected %d, \"%s\"", code, code ? failure() : "", expected, part);
}

static inline void near(double got, double expected, double most)
{
    if (!(fabs(got - expected) <= most))
        fail_msg("%.12g; expected %.12g", got, expected);
}

/* The value of a place in a file of the year: exact in float32. */
static inline float value_at(int64_t year, int64_t step, int64_t channel, int64_t row, int64_t column)
{
    return (float)((((year % 10 * 100 + step) * 4 + channel) * 16 + row) * 16 + column);
}

/* YEAR.h5 below the sub-folder, with times every six hours and latitudes from `north` southwards in steps of `apart`.
 */
static inline void put_year(const char *sub, int64_t year, int64_t steps, double north, double apart)
{
    double latitudes[ROWS], longitudes[COLUMNS];
    int64_t seconds[128];
    float values[CHANNELS * ROWS * COLUMNS];
    vit_channel channels[CHANNELS] = {{"u", "m/s", 0, 1}, {"v", "m/s", 0, 1}, {"t", "K", 0, 1}};
    char name[64];
    fields_output *o;
    for (int j = 0; j < ROWS; j++)
        latitudes[j] = north - apart * j;
    for (int i = 0; i < COLUMNS; i++)
        longitudes[i] = 45.0 * i;
    for (int64_t t = 0; t < steps; t++)
        seconds[t] = date_seconds(year, 1, 5) + t * 21600;
    mkdir(in_folder(sub), 0777);
    snprintf(name, sizeof name, "%s/%lld.h5", sub, (long long)year);
    fields_size size = {steps, CHANNELS, ROWS, COLUMNS};
    must(fields_create(&o, in_folder(name), &size, &(fields_axes){latitudes, longitudes, seconds, channels}));
    for (int64_t t = 0; t < steps; t++) {
        for (int64_t i = 0; i < CHANNELS * ROWS * COLUMNS; i++)
            values[i] = value_at(year, t, i / (ROWS * COLUMNS), i / COLUMNS % ROWS, i % COLUMNS);
        must(fields_write(o, t, values));
    }
    must(fields_commit(o));
}

#endif
