/* SPDX-License-Identifier: MIT */
/* A training run: what its parts share.  Everything is the same for one rank and for many. */
#ifndef RINGX_GPT_CMD_TRAIN_H
#define RINGX_GPT_CMD_TRAIN_H

#include "gpt/corpus.h"
#include "gpt/model.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/curve.h"
#include "train/events.h"
#include "train/rates.h"
#include "train/train_log.h"
#include "train/zero.h"

typedef enum train_timer { TIMER_BATCH, TIMER_MODEL, TIMER_REDUCE, TIMER_OPTIMIZER, TRAIN_TIMERS } train_timer;

typedef struct step_tokens { /* [accumulation steps][micro-batch][local tokens] */
    size_t count;
    int32_t *ids, *targets;
    float *mask;
} step_tokens;

typedef struct training {
    config *c;
    group *world;
    parallel p;
    int64_t dp, vocabulary;
    int32_t eod;
    nn_context on;
    gpt_model *m;
    zero z;
    zero_tensor *tensors;
    zero_unit *units;
    size_t n_tensors, n_units;
    corpus *train, *valid, *test;
    int32_t *sample;             /* [S + 1] */
    step_tokens host, on_device; /* of a step */
    /* with document_mask: where a sample's documents begin; of each sample of a step the bounds of its documents */
    int64_t *starts, **bounds;
    size_t *documents;
    lr_schedule rates;
    loss_scaler scaler;
    int64_t iteration; /* steps done */
    events board;      /* rank 0's */
    FILE *log;         /* rank 0's; NULL on others */
    /* since the last log line */
    double seconds, loss_sum, timers[TRAIN_TIMERS];
    int64_t steps, losses, not_finite, skipped_before;
    bool told_memory;
    double last_loss;  /* of the last step, over all ranks */
    double last_norm;  /* of its gradient, before clipping */
    curve curve;       /* rank 0's */
    double valid_loss; /* of the last evaluation; NaN before */
} training;

/* cmd_train_setup.c.  Everything that can be wrong is found here, on all ranks, before the first step.  c: read and
 * checked; log: where rank 0 writes, NULL: nowhere. */
int training_create(training *t, group *world, config *c, FILE *log);
void training_destroy(training *t);
/* That this rank holds on its device: model, optimizer, a step's tokens. */
size_t training_bytes(const training *t);

/* The whole training text once, as samples. */
int training_text(const training *t, corpus **text);

/* cmd_train_state.c.  files: rank 0's configuration files, to be copied. */
int training_save(training *t, const char *const *files);
/* From the folder `load` of the configuration; iteration stays 0 if it holds no checkpoint. */
int training_resume(training *t);

/* cmd_train_batch.c */
int training_make_tokens(training *t);
void training_free_tokens(training *t);
/* This rank's tokens of samples first … first+count-1 of a corpus, into slot `at` of the host's tokens; *tokens += Σ
 * mask of whole samples. */
int training_read(training *t, const corpus *from, int64_t first, int64_t count, int64_t at, double *tokens);
/* Before micro-step a: documents of its samples do not see each other, if the configuration says so. */
int training_documents(const training *t, int64_t a);
int training_upload(const training *t); /* the host's tokens to the device */

/* cmd_train_step.c */
int training_step(training *t);
int training_evaluate(training *t, const corpus *from, int64_t first, double *loss); /* eval_iters batches */

/* cmd_train_bigram.c.  Validation loss, from sample `first` on, of a bigram model of the training text. */
int training_bigram(training *t, int64_t first, double *loss);

/* cmd_train_loop.c.  CODE_STOPPED after a signal, with everything saved. */
int training_run(training *t, const char *const *files);
/* First sample of the evaluation after the last step. */
int64_t training_last_evaluation(const training *t);

#endif
