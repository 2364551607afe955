/* SPDX-License-Identifier: MIT */
/* Predictions as netCDF-4, which xarray opens: a variable for each channel over (prediction_timedelta, latitude,
 * longitude), in physical units, with CF times; `<channel>_truth` beside it where the truth is known. */
#ifndef RINGX_VIT_PREDICTION_FILE_H
#define RINGX_VIT_PREDICTION_FILE_H

#include "vit/dataset.h"

typedef struct prediction_file prediction_file;

typedef struct prediction_about {
    vit_moment start;   /* of the state that the prediction begins with */
    int64_t leads;      /* how many lead times: dt, 2 dt, … after the start */
    bool truth;         /* whether write gets it; leads without one are missing values */
    const char *source; /* what made it: configuration, checkpoint */
} prediction_about;

/* The file appears under its path when it is whole. */
int prediction_create(prediction_file **f, const char *path, const vit_dataset *d, const prediction_about *about);
/* lead: 0 … leads-1, in their order.  Normalised fields [channel][row][column]; truth NULL: not known.  What the data
 * miss of the truth is missing in the file, too, whatever it was filled with. */
int prediction_write(prediction_file *f, int64_t lead, const float *prediction, const float *truth);
int prediction_commit(prediction_file *f); /* frees f, also when it fails */
void prediction_abandon(prediction_file *f);

#endif
