/* SPDX-License-Identifier: MIT */
/* Models in the checkpoints of training runs, whose state holds the model's configuration, and of convert. */
#ifndef GPT_MODEL_CHECKPOINT_H
#define GPT_MODEL_CHECKPOINT_H

#include "gpt/model.h"
#include "train/checkpoint.h"

typedef struct model_place { /* where a model is to be */
    group *world;
    gpt_groups groups; /* all ranks of world: tensor × context */
    ringx_dtype dtype;
    const nn_context *on;
} model_place;

/* Name and place of this rank's part of a parameter, without values. */
checkpoint_piece gpt_checkpoint_piece(const gpt_parameter *p);

/* Collective: the model of the newest whole checkpoint in the folder, at any layout. */
int model_from_checkpoint(gpt_model **m, const model_place *place, const char *folder);
/* Collective: a checkpoint of weights only, as iteration 0, to begin a training run from (finetune). */
int model_to_checkpoint(gpt_model *m, const model_place *place, const char *folder);

#endif
