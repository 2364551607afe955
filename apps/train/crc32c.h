/* SPDX-License-Identifier: MIT */
/* CRC32C (Castagnoli): of checkpoints, and what TensorBoard's records need. */
#ifndef RINGX_TRAIN_CRC32C_H
#define RINGX_TRAIN_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of some bytes that follow others whose checksum is crc; 0 for the first. */
uint32_t crc32c(uint32_t crc, const void *data, size_t bytes);

#endif
