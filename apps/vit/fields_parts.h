/* SPDX-License-Identifier: MIT */
/* Between the files that call libhdf5: one lock, quiet, with its last error as text. */
#ifndef RINGX_VIT_FIELDS_PARTS_H
#define RINGX_VIT_FIELDS_PARTS_H

#include "vit/fields.h"

#include <hdf5.h>

struct fields {
    char *path;
    hid_t file, set; /* set: the dataset `fields` */
    fields_size size;
    bool has_fill;
    float fill;
};

/* One thread at a time is in libhdf5, whichever way it was built.  Between the two, errors are kept, not printed. */
void hdf5_enter(void);
void hdf5_leave(void);
/* Fails with "path: what (the library's innermost reason)". */
int hdf5_fail(int code, const char *path, const char *what);
/* Opens a dataset of the file after the checks of links, layout and filters; to be H5Dclosed.  Inside the lock. */
int fields_dataset(const fields *f, const char *name, hid_t *set);

#endif
