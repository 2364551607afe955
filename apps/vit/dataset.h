/* SPDX-License-Identifier: MIT */
/* What a rank asks of the fields: sizes, names, statistics, pairs (state, state dt steps later) of sample i, and
 * batches in their order, read ahead.
 *
 * A data set is a folder of yearly HDF5 files: *.h5, sorted by name, each with the dataset `fields` [time, channel,
 * latitude, longitude]; row 0 is the north.  The crop [0:latitudes, 0:longitudes] is read.  Optional datasets (written
 * by `ringx-vit import`): latitude, longitude, time (seconds since 1970), channel_names, channel_units.  Values are
 * given out normalised, (field − mean) / std, as float32 [channel][row][longitude].
 *
 * All functions are local to the rank and may fail on one alone: group_agree afterwards.  Any thread may read. */
#ifndef RINGX_VIT_DATASET_H
#define RINGX_VIT_DATASET_H

#include "vit/vit_config.h"

#define VIT_NAME 32

typedef struct vit_channel {
    char name[VIT_NAME], unit[VIT_NAME]; /* unit "": not known */
    double mean, std;                    /* physical = normalised · std + mean */
} vit_channel;

typedef struct vit_data_options {
    const char *folder, *means, *stds;       /* stds NULL: mean 0, std 1 */
    int64_t channels, latitudes, longitudes; /* 0: as many as the first file has */
    int64_t dt, limit;                       /* limit 0: all samples */
    vit_missing missing;
} vit_data_options;

typedef struct vit_dataset vit_dataset;

/* Checks every file (name, rank, type, shape, statistics) before it returns. */
int vit_dataset_open(vit_dataset **d, const vit_data_options *o);
void vit_dataset_close(vit_dataset *d); /* NULL is fine */

int64_t vit_dataset_samples(const vit_dataset *d);
int64_t vit_dataset_dt(const vit_dataset *d); /* the lead time, in steps */
int64_t vit_dataset_years(const vit_dataset *d);
void vit_dataset_shape(const vit_dataset *d, int64_t *channels, int64_t *rows, int64_t *columns); /* of the crop */
const char *vit_dataset_file(const vit_dataset *d, int64_t year);
int64_t vit_dataset_steps(const vit_dataset *d, int64_t year); /* time steps of a file */
const vit_channel *vit_dataset_channels(const vit_dataset *d);
int vit_dataset_channel(const vit_dataset *d, const char *name_or_number, int64_t *channel);
const double *vit_dataset_latitudes(const vit_dataset *d);  /* degrees, of the crop's rows */
const double *vit_dataset_longitudes(const vit_dataset *d); /* degrees */
/* Sum: the number of rows.  The original's formula, with its 3.1416, where the rows are a globe's; else cos(latitude).
 */
const double *vit_dataset_weights(const vit_dataset *d);

/* ---- moments ---- */

typedef struct vit_moment {
    int64_t year, step; /* file and time step in it */
} vit_moment;

/* The input of sample i; the target is dt steps later in the same file. */
vit_moment vit_dataset_sample(const vit_dataset *d, int64_t sample);
/* "1996-01-05 06:00", or "1996, step 5" where the file has no times. */
const char *vit_dataset_date(const vit_dataset *d, vit_moment m, char text[VIT_NAME]);
/* Seconds since 1970; false where the file has no times. */
bool vit_dataset_seconds(const vit_dataset *d, vit_moment m, int64_t *seconds);
/* The moment of a text as vit_dataset_date writes it; of a shorter one ("1996-01-05") the first that begins with it. */
int vit_dataset_find(const vit_dataset *d, const char *date, vit_moment *m);

/* ---- fields ---- */

typedef struct vit_band { /* rows of the image */
    int64_t first, count;
} vit_band;

/* The rows that tokens [first, first + count) of an image touch. */
vit_band vit_band_of_tokens(const vit_config *c, int64_t first, int64_t count);
/* to: [channel][band.count][longitudes]. */
int vit_dataset_read(vit_dataset *d, vit_moment m, vit_band band, float *to);

/* Which values of the same band are missing: to [channel][band.count][longitudes], 1 for missing. */
int vit_dataset_gaps(const vit_dataset *d, vit_moment m, vit_band band, uint8_t *to);
/* NaN into whole fields [channel][row][longitude] where those of the moment are missing. */
int vit_dataset_mask(const vit_dataset *d, vit_moment m, float *values);

typedef struct vit_scan {
    int64_t steps, values, missing; /* looked at; missing among them */
} vit_scan;

/* Looks for missing values before a run: part `part` of `parts` of all steps, or evenly chosen ones where these would
 * be more than most_bytes.  Fails at the first missing value if they are refused. */
int vit_dataset_scan(vit_dataset *d, int part, int parts, size_t most_bytes, vit_scan *scan);

/* ---- order ---- */

typedef struct vit_sampler {
    int64_t samples;
    int64_t ranks, rank; /* dp */
    int64_t batch;       /* of one dp rank */
    bool shuffled;       /* by the permutation that the epoch's number seeds */
} vit_sampler;

int64_t vit_sampler_batches(const vit_sampler *s); /* whole ones, of each rank, in an epoch */
/* samples: batches · batch numbers, this rank's in their order. */
int vit_sampler_order(const vit_sampler *s, int64_t epoch, int64_t *samples);

/* ---- batches ---- */

typedef struct vit_batch {
    int64_t epoch, number;       /* of the batch in the epoch */
    const int64_t *samples;      /* [batch] */
    const float *input, *target; /* [batch][channel][band.count][longitude], normalised */
} vit_batch;

typedef struct vit_loader vit_loader;

/* threads: as many batches are read ahead; 0: read when asked for.  Begins at epoch 0, batch 0. */
int vit_loader_open(vit_loader **l, vit_dataset *d, const vit_sampler *s, vit_band band, int64_t threads);
void vit_loader_close(vit_loader *l); /* NULL is fine */
int vit_loader_seek(vit_loader *l, int64_t epoch, int64_t number);
/* The next batch; after an epoch's last comes the next epoch's first.  Valid until the next call. */
int vit_loader_next(vit_loader *l, vit_batch *batch);

#endif
