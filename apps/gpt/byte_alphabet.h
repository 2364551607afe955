/* SPDX-License-Identifier: MIT */
/* The byte-level alphabet of GPT-2: each byte as one printable character, so that tokens can be written as text. */
#ifndef RINGX_GPT_BYTE_ALPHABET_H
#define RINGX_GPT_BYTE_ALPHABET_H

#include "gpt/buffers.h"

uint32_t byte_to_point(uint8_t byte); /* '!' … '~', U+00A1 … U+00AC, U+00AE … U+00FF themselves, the rest from U+0100 */
int point_to_byte(uint32_t point); /* -1: not of the alphabet */

/* Text of the alphabet to the bytes it stands for, appended; false (and nothing appended) if a character is not of it.
 * *code tells of a lack of memory. */
bool alphabet_decode(const char *text, size_t length, byte_list *into, int *code);
int alphabet_encode(const uint8_t *bytes, size_t count, byte_list *into); /* appended */

#endif
