/* SPDX-License-Identifier: MIT */
/* Means and standard deviations of channels: .npy files of shape [1, channels, 1, 1]. */
#ifndef RINGX_VIT_STATISTICS_H
#define RINGX_VIT_STATISTICS_H

#include "shared/report.h"

/* values[channels] from a .npy file of floats: the first axis is indexed with 0, what remains must hold one value a
 * channel, or one for all. */
int statistics_read(const char *path, int64_t channels, double *values);
/* Writes values as float32 [1, channels, 1, 1]; the file appears when it is whole. */
int statistics_write(const char *path, int64_t channels, const double *values);

#endif
