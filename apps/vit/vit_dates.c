/* SPDX-License-Identifier: MIT */
/* Days from civil dates and back, after Howard Hinnant's chrono-compatible algorithms. */
#include "vit/vit_dates.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DAY 86400

int64_t date_seconds(int64_t year, int month, int day)
{
    int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return (era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468) * DAY;
}

static void civil(int64_t seconds, int64_t *year, int *month, int *day)
{
    int64_t days = (seconds >= 0 ? seconds : seconds - (DAY - 1)) / DAY + 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, of_era = days - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * m + 2) / 5) + 1;
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2);
}

int64_t date_year(int64_t seconds)
{
    int64_t year;
    int month, day;
    civil(seconds, &year, &month, &day);
    return year;
}

void date_text(int64_t seconds, char *text, size_t bytes)
{
    int64_t year;
    int month, day;
    civil(seconds, &year, &month, &day);
    int rest = (int)((seconds % DAY + DAY) % DAY);
    int used =
        snprintf(text, bytes, "%04lld-%02d-%02d %02d:%02d", (long long)year, month, day, rest / 3600, rest / 60 % 60);
    if (rest % 60 && used > 0 && (size_t)used < bytes)
        snprintf(text + used, bytes - (size_t)used, ":%02d", rest % 60);
}

/* Digits at *at, at most `most` of them; false: none. */
static bool number(const char **at, int most, int64_t *value)
{
    int n = 0;
    for (*value = 0; n < most && isdigit((unsigned char)**at); n++, ++*at)
        *value = *value * 10 + (**at - '0');
    return n > 0;
}

/* hh[:mm[:ss[.fraction]]][Z | UTC | +0] */
static bool clock_time(const char *at, int64_t *seconds)
{
    int64_t part[3] = {0}, fraction;
    if (*at && !number(&at, 2, &part[0]))
        return false;
    for (int i = 1; i < 3 && *at == ':'; i++) {
        at++;
        if (!number(&at, 2, &part[i]))
            return false;
    }
    if (*at == '.') {
        at++;
        (void)number(&at, 9, &fraction);
    }
    at += strspn(at, " ");
    if (part[0] > 24 || part[1] > 59 || part[2] > 60)
        return false;
    *seconds = part[0] * 3600 + part[1] * 60 + part[2];
    return !*at || strcmp(at, "Z") == 0 || strcmp(at, "UTC") == 0 || strcmp(at, "GMT") == 0 ||
           strspn(at, "+-0:") == strlen(at);
}

bool date_parse(const char *text, int64_t *seconds)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t part[3] = {0, 1, 1}, of_day;
    const char *at = text + strspn(text, " ");
    if (!number(&at, 6, &part[0]))
        return false;
    for (int i = 1; i < 3 && *at == '-'; i++) {
        at++;
        if (!number(&at, 2, &part[i]))
            return false;
    }
    if (*at && *at != ' ' && *at != 'T')
        return false;
    at += *at == 'T';
    at += strspn(at, " ");
    if (part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > days[part[1] - 1] || !clock_time(at, &of_day))
        return false;
    *seconds = date_seconds(part[0], (int)part[1], (int)part[2]) + of_day;
    return true;
}

bool date_units_parse(const char *text, const char *calendar, date_units *units)
{
    static const struct {
        const char *name;
        double seconds;
        int months;
    } rows[] = {
        {"second", 1, 0},   {"seconds", 1, 0}, {"sec", 1, 0},     {"s", 1, 0},        {"minute", 60, 0},
        {"minutes", 60, 0}, {"min", 60, 0},    {"hour", 3600, 0}, {"hours", 3600, 0}, {"hr", 3600, 0},
        {"h", 3600, 0},     {"day", DAY, 0},   {"days", DAY, 0},  {"d", DAY, 0},      {"month", 0, 1},
        {"months", 0, 1},   {"year", 0, 12},   {"years", 0, 12},
    };
    static const char *const calendars[] = {"", "standard", "gregorian", "proleptic_gregorian", "julian"};
    bool known = !calendar;
    for (size_t i = 0; i < sizeof calendars / sizeof *calendars && !known; i++)
        known = strcasecmp(calendar, calendars[i]) == 0;
    text += strspn(text, " ");
    size_t length = strcspn(text, " ");
    const char *since = text + length + strspn(text + length, " ");
    if (!known || strncasecmp(since, "since ", 6) != 0)
        return false;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].name) == length && strncasecmp(text, rows[i].name, length) == 0) {
            units->unit_seconds = rows[i].seconds;
            units->months = rows[i].months;
            return date_parse(since + 6, &units->origin);
        }
    return false;
}

int64_t date_of_value(const date_units *units, double value)
{
    if (units->unit_seconds > 0)
        return units->origin + (int64_t)llround(value * units->unit_seconds);
    int64_t year;
    int month, day;
    civil(units->origin, &year, &month, &day);
    int64_t months = (int64_t)floor(value * units->months) + year * 12 + month - 1;
    double part = value * units->months - floor(value * units->months);
    int64_t start = date_seconds(months / 12, (int)(months % 12) + 1, day);
    return start + (units->origin % DAY + DAY) % DAY + (int64_t)llround(part * 30.4375 * DAY);
}
