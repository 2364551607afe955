/* SPDX-License-Identifier: MIT */
/* Reading the rules of the faulty transport. */
#include "comm/faulty.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char form[] = "rank=R|*,call=N|*,kind=error|delay:SECONDS|drop";

typedef struct text { /* a part of the plan */
    const char *at;
    size_t length;
} text;

static text trim(text t)
{
    while (t.length && strchr(" \t\n", t.at[0]))
        t = (text){t.at + 1, t.length - 1};
    while (t.length && strchr(" \t\n", t.at[t.length - 1]))
        t.length--;
    return t;
}

/* Cuts what is before the separator off *rest; false if there is nothing left. */
static bool cut(text *rest, char separator, text *piece)
{
    if (!rest->at)
        return false;
    const char *end = memchr(rest->at, separator, rest->length);
    *piece = *rest;
    if (end) {
        piece->length = (size_t)(end - rest->at);
        *rest = (text){end + 1, rest->length - piece->length - 1};
    } else {
        rest->at = NULL;
    }
    *piece = trim(*piece);
    return true;
}

static bool equal(text t, const char *word)
{
    return t.length == strlen(word) && memcmp(t.at, word, t.length) == 0;
}

/* A whole number, or * for -1. */
static bool read_count(text t, int64_t most, int64_t *value)
{
    if (equal(t, "*")) {
        *value = -1;
        return true;
    }
    int64_t v = 0;
    for (size_t i = 0; i < t.length; i++) {
        if (t.at[i] < '0' || t.at[i] > '9')
            return false;
        v = v * 10 + (t.at[i] - '0');
        if (v > most)
            return false;
    }
    *value = v;
    return t.length > 0;
}

static bool read_seconds(text t, double *seconds)
{
    char copy[64], *end;
    if (t.length == 0 || t.length >= sizeof copy)
        return false;
    memcpy(copy, t.at, t.length);
    copy[t.length] = 0;
    errno = 0;
    *seconds = strtod(copy, &end);
    return *end == 0 && errno == 0 && isfinite(*seconds) && *seconds >= 0;
}

static bool read_kind(text t, ringx_rule *rule)
{
    text word;
    if (equal(t, "error")) {
        rule->fault = RINGX_FAULT_ERROR;
        return true;
    }
    if (equal(t, "drop")) {
        rule->fault = RINGX_FAULT_DROP;
        return true;
    }
    rule->fault = RINGX_FAULT_DELAY;
    return cut(&t, ':', &word) && equal(word, "delay") && t.at && read_seconds(trim(t), &rule->seconds);
}

static ringx_status read_rule(text piece, size_t number, int ranks, ringx_rule *rule)
{
    enum { RANK = 1, CALL = 2, KIND = 4 };
    int width = piece.length < 200 ? (int)piece.length : 200, seen = 0;
    const char *at = piece.at;
    text rest = piece, field, key;
    while (cut(&rest, ',', &field)) {
        text value = field;
        int64_t n = 0;
        cut(&value, '=', &key);
        value = value.at ? trim(value) : (text){"", 0};
        int which = equal(key, "rank") ? RANK : equal(key, "call") ? CALL : equal(key, "kind") ? KIND : 0;
        if (!which || seen & which)
            RINGX_FAIL(RINGX_INVALID, "fault rule %zu \"%.*s\": \"%.*s\" is %s; a rule is %s", number, width, at,
                       (int)field.length, field.at, which ? "given twice" : "unknown", form);
        seen |= which;
        if (which == RANK && !read_count(value, ranks - 1, &n))
            RINGX_FAIL(RINGX_INVALID, "fault rule %zu \"%.*s\": rank is \"%.*s\"; it must be 0 … %d or *", number,
                       width, at, (int)value.length, value.at, ranks - 1);
        if (which == RANK)
            rule->rank = (int)n;
        if (which == CALL && !read_count(value, INT64_MAX / 20, &rule->call))
            RINGX_FAIL(RINGX_INVALID, "fault rule %zu \"%.*s\": call is \"%.*s\"; it must be 0, 1, 2 … or *", number,
                       width, at, (int)value.length, value.at);
        if (which == KIND && !read_kind(value, rule))
            RINGX_FAIL(RINGX_INVALID,
                       "fault rule %zu \"%.*s\": kind is \"%.*s\"; it must be error, delay:SECONDS or drop", number,
                       width, at, (int)value.length, value.at);
    }
    if (seen != (RANK | CALL | KIND))
        RINGX_FAIL(RINGX_INVALID, "fault rule %zu \"%.*s\" has no %s; a rule is %s", number, width, at,
                   !(seen & RANK)   ? "rank"
                   : !(seen & CALL) ? "call"
                                    : "kind",
                   form);
    return RINGX_OK;
}

ringx_status ringx__rules_parse(const char *plan, int ranks, ringx_rule **rules, size_t *count)
{
    if (!plan)
        RINGX_FAIL(RINGX_INVALID, "the fault plan is NULL; it must be rules %s, separated by ;", form);
    size_t most = 1, number = 0;
    for (const char *c = plan; *c; c++)
        most += *c == ';';
    *count = 0;
    *rules = calloc(most, sizeof **rules);
    if (!*rules)
        RINGX_FAIL(RINGX_NO_MEMORY, "%zu fault rules need %zu bytes", most, most * sizeof **rules);
    text rest = {plan, strlen(plan)}, piece;
    while (cut(&rest, ';', &piece)) {
        if (piece.length == 0)
            continue;
        ringx_status status = read_rule(piece, ++number, ranks, &(*rules)[*count]);
        if (status != RINGX_OK) {
            free(*rules);
            *rules = NULL;
            return status;
        }
        ++*count;
    }
    return RINGX_OK;
}
