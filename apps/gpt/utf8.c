/* SPDX-License-Identifier: MIT */
/* UTF-8 decoding by the table of well-formed sequences (Unicode 3.9, table 3-7). */
#include "gpt/utf8.h"
#include "shared/report.h"

size_t utf8_sequence(const uint8_t *s, size_t n, size_t *wrong)
{
    uint8_t lead = s[0], low = 0x80, high = 0xbf;
    *wrong = 1;
    if (lead < 0x80)
        return 1;
    size_t length = lead >= 0xc2 && lead <= 0xdf ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
    if (lead == 0xe0)
        low = 0xa0;
    if (lead == 0xed)
        high = 0x9f;
    if (lead == 0xf0)
        low = 0x90;
    if (lead == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < length; i++) {
        *wrong = i;
        if (i >= n || s[i] < low || s[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

size_t utf8_valid(const uint8_t *s, size_t n)
{
    size_t at = 0, wrong;
    while (at < n) {
        size_t length = utf8_sequence(s + at, n - at, &wrong);
        if (length == 0)
            break;
        at += length;
    }
    return at;
}

uint32_t utf8_point(const uint8_t *s)
{
    if (s[0] < 0x80)
        return s[0];
    if (s[0] < 0xe0)
        return (uint32_t)(s[0] & 0x1f) << 6 | (s[1] & 0x3f);
    if (s[0] < 0xf0)
        return (uint32_t)(s[0] & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
    return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3f) << 12 | (uint32_t)(s[2] & 0x3f) << 6 | (s[3] & 0x3f);
}

size_t utf8_put(uint8_t to[static 4], uint32_t point)
{
    if (point < 0x80) {
        to[0] = (uint8_t)point;
        return 1;
    }
    if (point < 0x800) {
        to[0] = (uint8_t)(0xc0 | point >> 6);
        to[1] = (uint8_t)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        to[0] = (uint8_t)(0xe0 | point >> 12);
        to[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (point & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | point >> 18);
    to[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (point & 0x3f));
    return 4;
}

int utf8_replace(const uint8_t *s, size_t n, byte_list *into)
{
    static const uint8_t replacement[] = {0xef, 0xbf, 0xbd};
    while (n) {
        size_t good = utf8_valid(s, n), wrong;
        int code = bytes_append(into, s, good);
        s += good;
        n -= good;
        if (code || n == 0)
            return code;
        utf8_sequence(s, n, &wrong);
        if ((code = bytes_append(into, replacement, sizeof replacement)))
            return code;
        s += wrong;
        n -= wrong;
    }
    return CODE_GOOD;
}
