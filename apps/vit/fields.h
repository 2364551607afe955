/* SPDX-License-Identifier: MIT */
/* One HDF5 file of fields [time, channel, latitude, longitude], read through libhdf5 with its doors closed: no external
 * links, no virtual datasets, no external raw data, no filters from shared objects.  Any thread may call. */
#ifndef RINGX_VIT_FIELDS_H
#define RINGX_VIT_FIELDS_H

#include "vit/dataset.h"

typedef struct fields_size {
    int64_t steps, channels, latitudes, longitudes;
} fields_size;

typedef struct fields fields;

/* Switches off what libhdf5 would load or follow on its own, for the whole process; fields_open does it, too. */
void fields_close_doors(void);
/* Opens and checks a file: a regular one, and the dataset's links, layout, filters, rank and type. */
int fields_open(fields **f, const char *path);
void fields_close(fields *f); /* NULL is fine */
const char *fields_path(const fields *f);
const fields_size *fields_sizes(const fields *f);
/* The attribute _FillValue or missing_value of the dataset; false: it has none. */
bool fields_fill(const fields *f, float *fill);

/* The first `longitudes` columns of a band of rows of one step: to [channel][band.count][longitudes]. */
int fields_read(fields *f, int64_t step, vit_band band, int64_t longitudes, float *to);

/* Optional datasets of one dimension of `count` values.  *there is false if the file has none of the name; another
 * length or type is a failure. */
int fields_numbers(fields *f, const char *name, int64_t count, double *values, bool *there);
int fields_times(fields *f, int64_t *seconds, bool *there); /* `time`, whole numbers: seconds since 1970 */
int fields_texts(fields *f, const char *name, int64_t count, char (*texts)[VIT_NAME], bool *there);

/* ---- fields_write.c: a file appears under its path when it is whole ---- */

typedef struct fields_output fields_output;

typedef struct fields_axes { /* what is written beside the fields */
    const double *latitudes, *longitudes;
    const int64_t *seconds; /* [steps], or NULL */
    const vit_channel *channels;
} fields_axes;

int fields_create(fields_output **o, const char *path, const fields_size *size, const fields_axes *axes);
int fields_write(fields_output *o, int64_t step, const float *from); /* [channel][latitude][longitude] */
int fields_commit(fields_output *o);                                 /* frees o, also when it fails */
void fields_abandon(fields_output *o);

#endif
