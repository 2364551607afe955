/* SPDX-License-Identifier: MIT */
/* A training run on paper: what every rank would hold, by the functions that allocate it, and what a step would cost on
 * a described machine.  Nothing is started, no rank needs to exist. */
#ifndef RINGX_VIT_PLAN_H
#define RINGX_VIT_PLAN_H

#include "train/zero.h"
#include "vit/vit_model.h"

#include <ringx/ringx_study.h>

typedef struct vit_machine {
    const char *name; /* as the library takes it */
    ringx_machine_figures figures;
    size_t memory;       /* bytes of a device; 0: not known */
    double efficiency;   /* share of the machine's rate that linear layers reach */
    ringx_device device; /* whose kernels' workspace counts */
} vit_machine;

typedef enum vit_part {
    VIT_PART_LINEAR,
    VIT_PART_ROWS, /* norms, GELU, sums, casts: once through memory */
    VIT_PART_FORWARD,
    VIT_PART_BACKWARD, /* of attention, exposed transfers included */
    VIT_PART_TENSOR,   /* sums over the tensor group */
    VIT_PART_GRADIENTS,
    VIT_PART_OPTIMIZER,
    VIT_PARTS
} vit_part;
extern const char *const vit_part_names[VIT_PARTS];

typedef struct vit_plan {
    int ranks, stride[AXES];
    vit_layout layout;
    vit_shape shape;
    vit_run run;
    ringx_dtype dtype;
    int64_t tokens;         /* of the rank with most, of a sample */
    int64_t parameters;     /* of the whole model */
    size_t most_parameters; /* of a rank */
    int fullest;            /* rank that holds most, and what: */
    vit_memory model;
    zero_memory optimizer;
    size_t device; /* all of it */
    bool known, fits;
    double seconds[VIT_PARTS], wire[VIT_PARTS]; /* of a step */
    double exposed[2];                          /* of attention, forward and backward */
    double step, samples_per_s, mfu;            /* mfu NaN: no peak is known */
    double peak;                                /* FLOP/s of one rank */
    char attention[160];
} vit_plan;

/* c: read and checked; what training would refuse is refused with the same words. */
int vit_plan_make(vit_plan *p, const vit_config *c, int ranks, const vit_machine *machine);

/* vit_plan_time.c.  f: of one block's attention, forward and backward. */
int vit_plan_time(vit_plan *p, const vit_config *c, const vit_machine *m, const ringx_forecast f[2]);

#endif
