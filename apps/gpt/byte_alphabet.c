/* SPDX-License-Identifier: MIT */
/* Bytes to characters and back: printable bytes stand for themselves, the 68 others follow from U+0100 on, in order. */
#include "gpt/byte_alphabet.h"
#include "gpt/utf8.h"
#include "shared/report.h"

static bool printable(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

uint32_t byte_to_point(uint8_t byte)
{
    if (printable(byte))
        return byte;
    uint32_t before = 0; /* bytes below this one that are not printable */
    for (uint32_t b = 0; b < byte; b++)
        before += !printable(b);
    return 0x100 + before;
}

int point_to_byte(uint32_t point)
{
    if (printable(point))
        return (int)point;
    if (point < 0x100 || point > 0x143)
        return -1;
    point -= 0x100;
    if (point <= 0x20)
        return (int)point;
    return point < 0x43 ? (int)(0x7f + point - 0x21) : 0xad;
}

bool alphabet_decode(const char *text, size_t length, byte_list *into, int *code)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t kept = into->count, wrong, step;
    if ((*code = bytes_reserve(into, length)))
        return false;
    for (size_t at = 0; at < length; at += step) {
        step = utf8_sequence(s + at, length - at, &wrong);
        int byte = step ? point_to_byte(utf8_point(s + at)) : -1;
        if (byte < 0) {
            into->count = kept;
            return false;
        }
        into->items[into->count++] = (uint8_t)byte;
    }
    return true;
}

int alphabet_encode(const uint8_t *bytes, size_t count, byte_list *into)
{
    int code = bytes_reserve(into, 2 * count);
    for (size_t i = 0; !code && i < count; i++) {
        uint8_t text[4];
        size_t n = utf8_put(text, byte_to_point(bytes[i]));
        code = bytes_append(into, text, n);
    }
    return code;
}
