/* SPDX-License-Identifier: MIT */
/* A prediction: weights of the newest checkpoint, a state of the data, rolled forward. */
#ifndef RINGX_VIT_PREDICT_H
#define RINGX_VIT_PREDICT_H

#include "vit/cmd_vit_train.h"
#include "vit/prediction_file.h"

typedef enum vit_data_choice { VIT_DATA_TRAIN, VIT_DATA_VALID, VIT_DATA_TEST, VIT_DATA_AUTO } vit_data_choice;
extern const char *const vit_data_names[]; /* by vit_data_choice, ended by NULL */

typedef struct vit_prediction_settings {
    const char *date, *channel, *output; /* NULL: the default */
    int64_t data, sample, steps;
} vit_prediction_settings;

typedef struct vit_prediction {
    vit_training t; /* groups, model and data (as the validation part) of it */
    const vit_prediction_settings *set;
    vit_moment start;
    int64_t channel;
    const char *folder;
    float *first, *fields,
        *truth;            /* whole images [channels][rows][columns]: the start, the last prediction, its truth */
    float *input, *target; /* this rank's bands */
    bool known;            /* whether there is a truth at this lead time */
    prediction_file *file; /* rank 0's */
} vit_prediction;

/* Everything that can be wrong with what is asked for is found here, on all ranks.  to: where lines go; NULL: nowhere.
 */
int vit_prediction_create(vit_prediction *p, group *world, vit_config *c, const vit_prediction_settings *s, FILE *to);
int vit_prediction_run(vit_prediction *p);
void vit_prediction_destroy(vit_prediction *p);

#endif
