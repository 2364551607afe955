/* SPDX-License-Identifier: MIT */
/* Numbers: half precision, reproducible random values, poison. */
#ifndef RINGX_SHARED_NUMBERS_H
#define RINGX_SHARED_NUMBERS_H

#include <ringx/ringx.h>

size_t dtype_bytes(ringx_dtype dtype);
float half_to_float(ringx_dtype dtype, uint16_t half);
uint16_t float_to_half(ringx_dtype dtype, float value); /* to nearest, ties to even */

/* count values of dtype to doubles, and back (rounded to nearest). */
void to_doubles(ringx_dtype dtype, const void *from, double *to, size_t count);
void from_doubles(ringx_dtype dtype, const double *from, void *to, size_t count);

/* A counter-based generator: word i of a stream is a function of (key, i) alone. */
uint64_t random_word(uint64_t key, uint64_t counter);

typedef struct random_stream { /* words in turn */
    uint64_t key, counter;
} random_stream;
uint64_t random_below(random_stream *stream, uint64_t bound); /* 0 … bound-1; bound >= 1 */
int64_t random_between(random_stream *stream, int64_t low, int64_t high);
bool random_chance(random_stream *stream, double probability);

/* Value i of a stream with mean 0 and standard deviation 1, |value| < 3.5. */
float random_normal(uint64_t key, uint64_t i);
/* count such values times `size`, elements first … of the stream, rounded to dtype. */
void random_fill(ringx_dtype dtype, uint64_t key, uint64_t first, double size, void *to, size_t count);

/* Bytes that are a NaN in every dtype. */
#define POISON 0xff
void poison(void *memory, size_t bytes);

#endif
