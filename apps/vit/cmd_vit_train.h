/* SPDX-License-Identifier: MIT */
/* A training run: what its parts share.  Everything is the same for one rank and for many. */
#ifndef RINGX_VIT_TRAIN_H
#define RINGX_VIT_TRAIN_H

#include "train/checkpoint.h"
#include "train/curve.h"
#include "train/events.h"
#include "train/rates.h"
#include "train/zero.h"
#include "vit/vit_log.h"
#include "vit/vit_metrics.h"
#include "vit/vit_model.h"

typedef struct vit_scores { /* of an evaluation */
    double loss;            /* mean over samples of the relative L2 error */
    double *rmse, *acc;     /* [channels]: normalised, means over samples */
    int64_t samples;
} vit_scores;

typedef struct vit_training {
    vit_config *c;
    vit_layout layout;
    group *world;
    parallel p;
    nn_context on;
    vit_model *m;
    bool forward_only; /* to predict */
    bool pictures;     /* there is a folder for them */
    ringx_options attention;
    zero z;
    zero_tensor *tensors;
    size_t n_tensors;
    vit_dataset *train, *valid;
    vit_loader *train_batches, *valid_batches;
    int64_t steps_per_epoch, valid_batches_count;
    loss_scaler scaler;
    int64_t epochs;                 /* that are trained in whole; 0: fewer steps than one has */
    int64_t epoch, step, iteration; /* where it is: steps done in the epoch, and in all */
    double *losses;                 /* [local batch] */
    vit_sums *sums;                 /* [local batch][channels] */
    float *images[2];               /* [height][width]: truth and prediction of a channel of a sample */
    char date[VIT_NAME];            /* of that prediction */
    char folder[3800];              /* of the run */
    vit_log log;
    events board; /* rank 0's */
    /* since the last log line, and since the epoch began */
    double seconds, epoch_loss;
    int64_t steps, epoch_steps;
    double last_loss;  /* of the last step, over all ranks */
    vit_scores scores; /* of the last evaluation; loss NaN before */
    curve curve;       /* rank 0's */
} vit_training;

/* cmd_vit_train_setup.c.  Everything that can be wrong is found here, on all ranks, before the first step.  c: read and
 * checked; to: where lines go, NULL: nowhere, and no files but checkpoints are written. */
int vit_training_create(vit_training *t, group *world, vit_config *c, FILE *to);
void vit_training_destroy(vit_training *t);
size_t vit_training_bytes(const vit_training *t); /* on the device */

/* cmd_vit_train_setup.c: groups and model alone, which prediction has, too. */
int vit_set_up_model(vit_training *t);
int vit_run_folder(vit_training *t); /* <expdir>/<config>/<tp·cp>MP/<run_num> */
vit_data_options vit_data_of(const vit_config *c, const char *folder, int64_t limit);

/* cmd_vit_train_state.c.  Whether there are checkpoints: not if save_path is /dev/null. */
bool vit_training_saves(const vit_training *t);
/* files: rank 0's configuration files, to be copied. */
int vit_training_save(vit_training *t, const char *const *files);
/* The newest checkpoint of save_path; iteration stays 0 if there is none.  weights_only: to predict with. */
int vit_training_resume(vit_training *t, bool weights_only);

/* cmd_vit_train_step.c */
int vit_training_step(vit_training *t);
int vit_training_evaluate(vit_training *t, int64_t batches, vit_scores *scores); /* the first of the validation data */
int vit_scores_create(vit_scores *s, int64_t channels);
void vit_scores_free(vit_scores *s);

/* cmd_vit_train_log.c */
int vit_log_steps(vit_training *t);
int vit_log_evaluation(vit_training *t, double seconds);
int vit_log_first(vit_training *t, double train_loss);

/* cmd_vit_train_judge.c.  Mean errors over all pairs of the validation data. */
int vit_training_judge(vit_training *t, double *model, double *persistence);

/* cmd_vit_train_loop.c.  CODE_STOPPED after a signal, with everything saved. */
int vit_training_run(vit_training *t, const char *const *files);

#endif
