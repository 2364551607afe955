/* SPDX-License-Identifier: MIT */
/* Dates of the proleptic Gregorian calendar as seconds since 1970, and the times of netCDF's "UNIT since DATE". */
#ifndef RINGX_VIT_DATES_H
#define RINGX_VIT_DATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t date_seconds(int64_t year, int month, int day);
int64_t date_year(int64_t seconds);
/* "1996-01-05 06:00"; seconds are shown where they are not 0. */
void date_text(int64_t seconds, char *text, size_t bytes);
/* "1996", "1996-01", "1996-01-05", "1996-01-05 06:00", "1996-01-05T06:00:00Z": the beginning of what is named. */
bool date_parse(const char *text, int64_t *seconds);

/* "hours since 1900-01-01 00:00:00": what a value of 0 means and how long a unit is; months and years are of the
 * calendar.  calendar: NULL, "", or the attribute's text; those that have other days are not taken. */
typedef struct date_units {
    int64_t origin;
    double unit_seconds; /* 0: months */
    int months;          /* of a unit, where unit_seconds is 0 */
} date_units;
bool date_units_parse(const char *text, const char *calendar, date_units *units);
int64_t date_of_value(const date_units *units, double value); /* to the nearest second */

#endif
