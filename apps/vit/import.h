/* SPDX-License-Identifier: MIT */
/* netCDF fields into the form that training reads: yearly HDF5 files in train, valid and test, and statistics. */
#ifndef RINGX_VIT_IMPORT_H
#define RINGX_VIT_IMPORT_H

#include "shared/options.h"
#include "vit/dataset.h"

typedef enum import_missing { IMPORT_KEEP, IMPORT_REFUSE, IMPORT_MEAN } import_missing;
typedef enum import_part { PART_TRAIN, PART_VALID, PART_TEST, PARTS } import_part;

typedef struct import_options {
    /* "FILE[:VARIABLE[@LEVEL,…]][=NAME,…]": several files may bring steps of one channel, one after the other */
    char *const *inputs;
    size_t n_inputs;
    const char *output;
    const char *time_units; /* for files without: "hours since 1996-01-05"; NULL */
    const char *units;      /* "m/s,K,…" of the channels, instead of the files'; NULL */
    bool crop_rows, crop_columns;
    int64_t rows[2], columns[2];          /* first and last, counted from the north and the west */
    bool split_years[PARTS];              /* for PART_VALID, PART_TEST: the years below are that part's */
    int64_t years[PARTS][2], last[PARTS]; /* last: so many last steps are that part's (the test's come last) */
    import_missing missing;
} import_options;

typedef struct import_result {
    vit_channel *channels;
    int64_t *missing; /* values of each channel, in all parts */
    int64_t n_channels, latitudes, longitudes, steps[PARTS], files[PARTS];
} import_result;

extern const char *const import_parts[PARTS]; /* names of folders */

int import_fields(const import_options *o, import_result *r);
void import_result_free(import_result *r);

/* ---- import_sources.c: what the inputs bring ---- */

typedef struct import_source { /* steps of one channel in one file */
    struct netcdf_field *field;
    int64_t level, steps;
} import_source;

typedef struct import_channel {
    char name[VIT_NAME], unit[VIT_NAME];
    import_source *sources;
    size_t count;
} import_channel;

typedef struct import_sources {
    struct netcdf_file **files;
    struct netcdf_field **fields;
    size_t n_files, n_fields;
    import_channel *channels;
    size_t n_channels;
    int64_t latitudes, longitudes, steps;
    double *latitude, *longitude; /* of the whole grid */
    int64_t *seconds;             /* [steps], rising */
} import_sources;

int import_sources_open(import_sources *s, const import_options *o);
void import_sources_close(import_sources *s);
/* Step `step` of a channel: to [latitude][longitude], the whole grid, NaN where missing. */
int import_sources_read(const import_sources *s, size_t channel, int64_t step, float *to);

#endif
