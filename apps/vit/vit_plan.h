/* SPDX-License-Identifier: MIT */
/* A training run on paper: what every rank would hold, by the functions that allocate it, and what a step would cost on
 * a described machine.  Nothing is started, no rank needs to exist. */
#ifndef RINGX_VIT_PLAN_H
#define RINGX_VIT_PLAN_H

#include "train/paper.h"
#include "vit/vit_model.h"

typedef struct vit_plan {
    paper_plan plan;
    vit_layout layout;
    vit_shape shape;
    vit_run run;
    ringx_dtype dtype;
    int64_t tokens;     /* of the rank with most, of a sample */
    int64_t parameters; /* of the whole model */
    vit_memory model;   /* of the rank that holds most */
    double samples_per_s;
} vit_plan;

/* c: read and checked; what training would refuse is refused with the same words. */
int vit_plan_make(vit_plan *p, const vit_config *c, int ranks, const paper_machine *machine);

/* vit_plan_time.c.  f: of one block's attention, forward and backward. */
int vit_plan_time(vit_plan *p, const vit_config *c, const paper_machine *m, const ringx_forecast f[2]);

#endif
