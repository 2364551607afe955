/* SPDX-License-Identifier: MIT */
/* Fields in netCDF files (classic and netCDF-4): variables over (time, latitude, longitude), or with levels behind
 * time. Values come out unpacked (scale_factor, add_offset), rows from north to south, NaN where they are missing. */
#ifndef RINGX_VIT_NETCDF_FIELDS_H
#define RINGX_VIT_NETCDF_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct netcdf_file netcdf_file;

int netcdf_open(netcdf_file **f, const char *path); /* a regular file */
void netcdf_close(netcdf_file *f);                  /* NULL is fine */
const char *netcdf_path(const netcdf_file *f);

#define NETCDF_NAME 257

typedef struct netcdf_field {
    netcdf_file *file;
    int id;
    char name[NETCDF_NAME], unit[64];
    int64_t steps, levels, latitudes, longitudes; /* levels 0: the variable has none */
    int time, level, latitude, longitude;         /* dimensions' numbers in the file; level -1: none */
    double scale, offset, fills[2];               /* values as stored */
    int n_fills;
    bool southward; /* stored from north to south */
} netcdf_field;

/* The variables that are fields, in the file's order: *names[*count], one block to free. */
int netcdf_fields(netcdf_file *f, char (**names)[NETCDF_NAME], size_t *count);
int netcdf_field_open(netcdf_file *f, const char *name, netcdf_field *field);

/* Values of the dimension's variable; 0, 1, … where it has none.  latitude: from north to south. */
int netcdf_latitudes(const netcdf_field *field, double *values);
int netcdf_longitudes(const netcdf_field *field, double *values);
int netcdf_levels(const netcdf_field *field, double *values, char unit[64]);
int netcdf_times(const netcdf_field *field, double *values, char unit[128], char calendar[64]); /* "": none */

/* One step (and level): to [latitude][longitude]. */
int netcdf_read(const netcdf_field *field, int64_t step, int64_t level, float *to);

#endif
