/* SPDX-License-Identifier: MIT */
/* Between the files of the data set. */
#ifndef RINGX_VIT_DATASET_PARTS_H
#define RINGX_VIT_DATASET_PARTS_H

#include "vit/fields.h"

typedef struct year {
    fields *file;
    int64_t steps, first; /* samples of the years before it */
    int64_t *seconds;     /* [steps]; NULL: the file has no times */
} year;

struct vit_dataset {
    vit_data_options options; /* its texts are the caller's */
    char **names;             /* [years], sorted */
    year *items;
    int64_t years, samples;
    vit_channel *channels;
    double *latitudes, *longitudes, *weights;
};

#endif
