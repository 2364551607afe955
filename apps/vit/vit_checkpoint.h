/* SPDX-License-Identifier: MIT */
/* What a checkpoint of ringx-vit holds besides the moments: weights by name, and what must be the same where it is
 * used. */
#ifndef RINGX_VIT_CHECKPOINT_H
#define RINGX_VIT_CHECKPOINT_H

#include "train/checkpoint.h"
#include "vit/vit_model.h"

#define VIT_CHECKPOINTS "epoch_" /* <save_path>/epoch_<e> */

/* Name and place of this rank's part of a parameter, without values. */
checkpoint_piece vit_checkpoint_piece(const vit_parameter *p);

/* Model and run as numbers, for the state of a checkpoint.  global_batch 0: the model's alone.  NULL: out of memory. */
json_t *vit_fixed(const vit_config *c, int64_t global_batch);
/* Fails with CODE_CONFIGURATION, naming the first number that is another one there. */
int vit_fixed_check(const vit_config *c, int64_t global_batch, const checkpoint *from);

/* This rank's weights from a checkpoint.  Local; agree after it. */
int vit_weights_load(vit_model *m, const checkpoint *from);
/* A checkpoint of weights alone, epoch_0 of a folder that has none yet: to predict with, or to begin a run from.  m: a
 * whole model in floats on the CPU. */
int vit_weights_save(vit_model *m, const vit_config *c, group *alone, const char *folder);
bool vit_weights_alone(const checkpoint *from); /* whether it was made so */

#endif
