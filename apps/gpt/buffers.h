/* SPDX-License-Identifier: MIT */
/* Lists of bytes and of token ids that grow, and files read whole. */
#ifndef RINGX_GPT_BUFFERS_H
#define RINGX_GPT_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct byte_list {
    uint8_t *items;
    size_t count, room;
} byte_list;

typedef struct id_list {
    int32_t *items;
    size_t count, room;
} id_list;

/* Makes room for `more` further items; existing ones stay.  CODE_GOOD or CODE_NO_MEMORY. */
int bytes_reserve(byte_list *list, size_t more);
int ids_reserve(id_list *list, size_t more);
int bytes_append(byte_list *list, const void *bytes, size_t count);
int ids_append(id_list *list, int32_t id);
void bytes_free(byte_list *list);
void ids_free(id_list *list);

/* The whole of a regular file of at most `limit` bytes, with a 0 after it that is not counted. */
int file_read(const char *path, size_t limit, byte_list *into);

#endif
