/* SPDX-License-Identifier: MIT */
/* UTF-8: well-formed sequences as Unicode defines them, and what stands where there are none. */
#ifndef RINGX_GPT_UTF8_H
#define RINGX_GPT_UTF8_H

#include "gpt/buffers.h"

/* Bytes of the well-formed sequence at s (n >= 1 bytes are left); 0 if there is none: then *wrong is the length of the
 * longest part that no well-formed text could contain there, which a decoder replaces by one U+FFFD. */
size_t utf8_sequence(const uint8_t *s, size_t n, size_t *wrong);
/* How many bytes at the front of s are well-formed. */
size_t utf8_valid(const uint8_t *s, size_t n);
uint32_t utf8_point(const uint8_t *s);                 /* of a well-formed sequence */
size_t utf8_put(uint8_t to[static 4], uint32_t point); /* bytes written */
/* s with U+FFFD for what is not well-formed, as decoders do ("replace"); appended. */
int utf8_replace(const uint8_t *s, size_t n, byte_list *into);

#endif
